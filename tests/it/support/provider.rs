//! An OpenID provider: npm's oidc-provider in a process of its own, which also signs whatever it is told to.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::peer::Peer;
use super::root;
use super::sign::Draft;

/// Ends with the value.
pub(crate) struct Provider {
    child: Child,
    /// Its name, and where it is.
    pub(crate) issuer: String,
}

impl Provider {
    #[track_caller]
    pub(crate) fn start(settings: &Value) -> Self {
        let folder = root().join("tests/page");
        assert!(folder.join("node_modules").exists(), "oidc-provider is missing: run `make test`, which gets it");
        let mut child = Command::new("node")
            .arg(folder.join("provider.mjs"))
            .arg(settings.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let issuer = lines.find(|line| line.starts_with("http://")).unwrap_or_else(|| panic!("no provider"));
        Self { child, issuer }
    }

    /// The lines under `oidc` for this provider.
    pub(crate) fn config(&self, more: &str) -> String {
        format!("oidc:\n  issuer: {}\n  client_id: countersign\n  client_secret_env: OIDC_SECRET\n{more}", self.issuer)
    }

    /// A token with these claims, signed as `how` says: with the key `kid`, with none, or wrongly.
    #[track_caller]
    pub(crate) fn sign(&self, claims: &Value, how: Value) -> String {
        let mut order = how;
        order["claims"] = claims.clone();
        let address: SocketAddr = self.issuer.trim_start_matches("http://").parse().unwrap();
        let mut draft =
            Draft::new("oidc", &address.to_string(), "POST", "/test/sign").header("content-type", "application/json");
        draft.body = order.to_string().into_bytes();
        let answer = Peer::connect(address).ask(&draft.unsigned());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text()
    }

    /// What a good token says.
    pub(crate) fn claims(&self, subject: &str) -> Value {
        let now = now();
        json!({
            "iss": self.issuer, "sub": subject, "aud": "countersign", "azp": "countersign", "iat": now, "nbf": now,
            "exp": now + 300, "auth_time": now - 10, "email": format!("{subject}@example.com"), "email_verified": true,
        })
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    super::sign::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
