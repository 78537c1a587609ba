//! `tests/js/upstream.mjs`: an upstream of event streams over HTTP/2 that trusts the SDK's own signer and codec alone.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::site::{REAL_KEY, REAL_SECRET};
use super::{root, wait_for};

/// The running upstream.
pub(crate) struct Talker {
    child: Child,
    port: u64,
    is_tls: bool,
    /// What became of each stream.
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Talker {
    pub(crate) fn start() -> Self {
        Self::run(None)
    }

    /// Over TLS, with a certificate and its key.
    pub(crate) fn with_tls(certificate: &Path, key: &Path) -> Self {
        Self::run(Some((certificate, key)))
    }

    fn run(tls: Option<(&Path, &Path)>) -> Self {
        let folder = root().join("tests/js");
        assert!(
            folder.join("node_modules/@smithy/eventstream-codec").exists(),
            "packages are missing: run `make test`"
        );
        let mut command = Command::new("node");
        command.arg(folder.join("upstream.mjs")).env("REAL_KEY", REAL_KEY).env("REAL_SECRET", REAL_SECRET);
        if let Some((certificate, key)) = tls {
            command.env("CERTIFICATE", certificate).env("KEY", key);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let lines: Arc<Mutex<Vec<Value>>> = Arc::default();
        let written = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in output.lines() {
                written.lock().unwrap().push(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        let port = wait_for("the upstream to listen", || lines.lock().unwrap().first()?["port"].as_u64());
        Self { child, port, is_tls: tls.is_some(), lines }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://localhost:{}", if self.is_tls { "https" } else { "http" }, self.port)
    }

    /// The streams that have ended.
    pub(crate) fn ended(&self) -> Vec<Value> {
        self.lines.lock().unwrap().iter().skip(1).cloned().collect()
    }

    /// What became of the only stream since `before` others.
    #[track_caller]
    pub(crate) fn next(&self, before: usize) -> Value {
        let ended = wait_for("a stream to end", || self.ended().get(before).cloned());
        assert_eq!(self.ended().len(), before + 1);
        ended
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
