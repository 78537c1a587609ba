//! The proxies under comparison, each in a process of its own on a core of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::load::Door;
use super::process::{Process, on_core, pinned};
use super::support::sign::Keys;
use super::support::site::{Setup, Site};
use super::{stub, tls};

/// One proxy and what it takes to be measured.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) door: Door,
    /// `None` for a proxy that does not look at signatures.
    pub(crate) keys: Option<Keys>,
    owner: Owner,
}

/// What keeps the process alive.
enum Owner {
    Process(Process),
    Site(Box<Site>),
    Nginx(Process, #[expect(dead_code, reason = "deleted when dropped")] TempDir),
}

/// What the proxies of one comparison share: their upstream, which is not measured, and TLS.
pub(crate) struct Stage {
    stub: SocketAddr,
    #[expect(dead_code, reason = "ended when dropped")]
    stub_process: Option<Process>,
    /// Without it nobody speaks TLS.
    tls: Option<Tls>,
}

struct Tls {
    /// Of the certificate.
    folder: TempDir,
    /// The STS that tells countersign its account: the AWS SDK's own client, which does this, trusts
    /// public roots only.
    sts: SocketAddr,
}

impl Stage {
    pub(crate) fn plain() -> Self {
        let (process, stub) = role(0, &["stub"]);
        Self { stub, stub_process: Some(process), tls: None }
    }

    /// With the upstream in this process, so that load and upstream never wake each other.
    pub(crate) async fn at_hand() -> Self {
        Self { stub: stub::start(None).await, stub_process: None, tls: None }
    }

    /// As [`Stage::at_hand`], with TLS on both sides.
    pub(crate) async fn at_hand_with_tls() -> Self {
        let folder = TempDir::new().unwrap();
        tls::make(folder.path());
        let stub = stub::start(Some(folder.path().to_owned())).await;
        Self { stub, stub_process: None, tls: Some(Tls { folder, sts: stub::start(None).await }) }
    }

    /// The bare proxy first, then countersign by name and rules and nginx, as far as their names
    /// contain `only`. Nobody when the bare proxy would be alone without being asked for.
    pub(crate) fn subjects(&self, only: &str, countersign: &[(&'static str, &str)], nginx: bool) -> Vec<Subject> {
        let wanted = countersign.iter().filter(|(name, _)| name.contains(only));
        let mut others: Vec<Subject> = wanted.map(|(name, rules)| self.countersign(name, rules)).collect();
        if nginx && "nginx".contains(only) {
            others.extend(self.nginx());
        }
        if others.is_empty() && !BARE.contains(only) {
            return Vec::new();
        }
        others.insert(0, self.floor());
        others
    }

    /// The upstream itself, for what it takes without a proxy.
    pub(crate) fn upstream(&self) -> SocketAddr {
        self.stub
    }

    fn folder(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.folder.path())
    }

    fn door(&self, address: SocketAddr) -> Door {
        Door { address, tls: self.folder().map(tls::client) }
    }

    fn floor(&self) -> Subject {
        let stub = self.upstream().to_string();
        let folder = self.folder().map(|folder| folder.to_str().unwrap());
        let words: Vec<&str> = ["floor", &stub].into_iter().chain(folder).collect();
        let (process, address) = role(1, &words);
        Subject { name: BARE, door: self.door(address), keys: None, owner: Owner::Process(process) }
    }

    fn countersign(&self, name: &'static str, rules: &str) -> Subject {
        let launcher = pinned(1);
        let launcher: Vec<&str> = launcher.iter().map(String::as_str).collect();
        // The others keep idle upstream connections from one round to the next as well.
        let mut upstream = "idle_timeout: 5m".to_owned();
        let (mut scheme, mut listeners) = ("http", String::new());
        if let Some(Tls { folder, sts }) = &self.tls {
            let (certificate, key) = (tls::certificate(folder.path()), tls::key(folder.path()));
            let (certificate, key) = (certificate.display(), key.display());
            scheme = "https";
            upstream += &format!("\n    extra_ca: {certificate}\n    sts_endpoint: http://{sts}");
            listeners = format!("agents_tls: 127.0.0.1:0\n  certificate: {certificate}\n  key: {key}");
        }
        let site = Setup::new(format!("{scheme}://{}", self.upstream()))
            .rules(rules)
            .upstream_config(&upstream)
            .listen_config(&listeners)
            .config("holds: { limit: 20000, limit_per_agent: 20000 }\nlog: { level: error }\n")
            .launcher(&launcher)
            .start();
        let keys = Some(site.agent("bench", "olga").keys);
        let tls = site.tls.as_ref().map(|url| url.trim_start_matches("https://").parse().unwrap());
        let address = tls.unwrap_or(site.proxy);
        Subject { name, door: self.door(address), keys, owner: Owner::Site(Box::new(site)) }
    }

    fn nginx(&self) -> Option<Subject> {
        Command::new("nginx").arg("-v").output().ok()?;
        let folder = TempDir::new().unwrap();
        // Closed again before nginx opens it; nobody else takes a port of the ephemeral range that soon.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (listen, scheme) = match self.folder() {
            None => (String::new(), "http"),
            Some(folder) => {
                let (certificate, key) = (tls::certificate(folder), tls::key(folder));
                let keys = format!("ssl_certificate {}; ssl_certificate_key {}", certificate.display(), key.display());
                (format!(" ssl; {keys}"), "https")
            }
        };
        let config = NGINX
            .replace("STUB", &self.upstream().to_string())
            .replace("LISTEN", &format!("{address}{listen}"))
            .replace("SCHEME", scheme);
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let child = on_core(1, "nginx")
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        super::support::wait_for("nginx", || std::net::TcpStream::connect(address).ok());
        let owner = Owner::Nginx(Process::new(child), folder);
        Some(Subject { name: "nginx", door: self.door(address), keys: None, owner })
    }
}

impl Subject {
    pub(crate) fn id(&self) -> u32 {
        match &self.owner {
            Owner::Process(process) | Owner::Nginx(process, _) => process.id(),
            Owner::Site(site) => site.server_id(),
        }
    }

    pub(crate) fn is_countersign(&self) -> bool {
        matches!(self.owner, Owner::Site(_))
    }

    pub(crate) async fn wait_until_held(&self, count: usize) {
        match &self.owner {
            Owner::Site(site) => super::support::wait_for("all holds", || {
                (site.metric("countersign_holds_attached") == i64::try_from(count).unwrap()).then_some(())
            }),
            // The bare proxy cannot be asked. Its memory has settled when it no longer grows.
            Owner::Process(process) | Owner::Nginx(process, _) => {
                let mut last = 0;
                loop {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    let now = super::process::resident_bytes(process.id());
                    if now == last {
                        return;
                    }
                    last = now;
                }
            }
        }
    }
}

/// Starts this program in another role and reads where it listens.
pub(crate) fn role(core: usize, words: &[&str]) -> (Process, SocketAddr) {
    let program = std::env::current_exe().unwrap();
    let mut child = on_core(core, program.to_str().unwrap()).args(words).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Process::new(child), line.trim().parse().unwrap())
}

/// Rules as a large organisation has them: by service, operation, resource and agent, and none that
/// the load meets.
pub(crate) fn many_rules(count: usize) -> String {
    const ACTIONS: [&str; 8] = [
        "aws:iam:Create*",
        "aws:s3:DeleteObject",
        "aws:dynamodb:DeleteTable",
        "aws:s3:GetObject",
        "aws:dynamodb:PutItem",
        "aws:ec2:Terminate*",
        "aws:kms:*",
        "aws:lambda:Update*",
    ];
    let mut text = Vec::new();
    writeln!(text, "rules:").unwrap();
    for index in 0..count {
        let action = ACTIONS[index % ACTIONS.len()];
        writeln!(text, "  - id: rule-{index}\n    match: {{ action: ['{action}'], resource: ['*team-{index}*'] }}\n    decision: hold\n    approvers: [security]").unwrap();
    }
    String::from_utf8(text).unwrap()
}

/// countersign as most requests meet it.
pub(crate) const UNMATCHED: (&str, &str) = (
    "countersign, no rule matches",
    "rules:\n  - id: elsewhere\n    match: { action: [aws:iam:DeleteUser] }\n    decision: deny\n",
);
/// countersign with every request on disk before it is forwarded.
pub(crate) const MATCHED: (&str, &str) = (
    "countersign, allowed by rule, on disk first",
    "rules:\n  - id: all\n    match: { action: ['aws:s3:*', 'aws:dynamodb:*'] }\n    decision: allow\n",
);
/// countersign with requests that wait for a person.
pub(crate) const HELD: (&str, &str) = (
    "countersign, held",
    "rules:\n  - id: some\n    match: { action: ['aws:s3:DeleteObject', 'aws:iam:CreateAccessKey'] }\n    decision: hold\n    approvers: [security]\n",
);

const BARE: &str = "bare hyper proxy";

/// One process, no log, upstream connections kept, bodies streamed and not put on disk: what it takes
/// to be comparable.
const NGINX: &str = "\
daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events { worker_connections 20000; }
http {
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;
  keepalive_requests 10000000; keepalive_timeout 10m;
  upstream stub { server STUB; keepalive 256; keepalive_requests 10000000; keepalive_timeout 10m; }
  server {
    listen LISTEN;
    location / { proxy_pass SCHEME://stub; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host; }
  }
}
";
