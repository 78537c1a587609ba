//! The proxies under comparison, each in a process of its own on a core of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::Scale;
use super::process::{Process, on_core};
use super::support::sign::{Draft, Keys};
use super::support::site::{Setup, Site};

/// One proxy and what it takes to be measured.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) keys: Keys,
    owner: Owner,
}

/// What keeps the process alive.
enum Owner {
    Process(Process),
    Site(Box<Site>),
    Nginx(Process, #[expect(dead_code, reason = "deleted when dropped")] TempDir),
}

/// Everything that is compared and whose name contains `only`; the bare proxy is always first.
pub(crate) fn all(stub: SocketAddr, scale: &Scale, only: &str) -> Vec<Subject> {
    let countersign = [
        ("countersign, no rule matches", NOTHING.to_owned()),
        ("countersign, 10,000 rules, none matches", many_rules(scale.rules)),
        ("countersign, allowed by rule, on disk first", ALLOW.to_owned()),
    ];
    let wanted = countersign.iter().filter(|(name, _)| name.contains(only));
    let mut subjects = vec![Subject::floor(stub)];
    subjects.extend(wanted.map(|(name, rules)| Subject::countersign(name, stub, rules)));
    if "nginx".contains(only) {
        subjects.extend(Subject::nginx(stub));
    }
    subjects
}

/// What is compared with thousands of waiting requests.
pub(crate) fn for_memory(stub: SocketAddr, only: &str) -> Vec<Subject> {
    const NAME: &str = "countersign, held";
    let mut subjects = Vec::new();
    if NAME.contains(only) {
        subjects.extend([Subject::floor(stub), Subject::countersign(NAME, stub, HOLD)]);
    }
    subjects
}

impl Subject {
    /// The upstream, which is not measured.
    pub(crate) fn stub() -> Self {
        let (process, address) = role(0, &["stub"]);
        Self { name: "upstream", address, keys: no_keys(), owner: Owner::Process(process) }
    }

    fn floor(stub: SocketAddr) -> Self {
        let (process, address) = role(1, &["floor", &stub.to_string()]);
        Self { name: "bare hyper proxy", address, keys: no_keys(), owner: Owner::Process(process) }
    }

    fn countersign(name: &'static str, stub: SocketAddr, rules: &str) -> Self {
        let pinned = on_core(1, "");
        let words: Vec<&str> =
            pinned.get_args().filter_map(|word| word.to_str()).filter(|word| !word.is_empty()).collect();
        let launcher = if words.is_empty() { Vec::new() } else { [vec!["taskset"], words].concat() };
        let site = Setup::new(format!("http://{stub}"))
            .rules(rules)
            .config("holds: { limit: 20000, limit_per_agent: 20000 }\nlog: { level: error }\n")
            .launcher(&launcher)
            .start();
        let keys = site.agent("bench", "olga").keys;
        Self { name, address: site.proxy, keys, owner: Owner::Site(Box::new(site)) }
    }

    fn nginx(stub: SocketAddr) -> Option<Self> {
        Command::new("nginx").arg("-v").output().ok()?;
        let folder = TempDir::new().unwrap();
        // Closed again before nginx opens it; nobody else takes a port of the ephemeral range that soon.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = NGINX.replace("STUB", &stub.to_string()).replace("ADDRESS", &address.to_string());
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
        Some(Self { name: "nginx", address, keys: no_keys(), owner: Owner::Nginx(Process::new(child), folder) })
    }

    pub(crate) fn id(&self) -> u32 {
        match &self.owner {
            Owner::Process(process) | Owner::Nginx(process, _) => process.id(),
            Owner::Site(site) => site.server_id(),
        }
    }

    /// A request that waits: for a person behind countersign, for the upstream behind the others.
    pub(crate) fn hanging(&self, index: usize) -> Vec<u8> {
        let target = format!("/hang/object-{index}");
        Draft::new("s3", "s3.us-east-1.amazonaws.com", "DELETE", &target)
            .retry_id(&format!("{index:08}-0000-4000-8000-000000000000"))
            .signed(&self.keys)
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
fn role(core: usize, words: &[&str]) -> (Process, SocketAddr) {
    let program = std::env::current_exe().unwrap();
    let mut child = on_core(core, program.to_str().unwrap()).args(words).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Process::new(child), line.trim().parse().unwrap())
}

/// Proxies that do not look at signatures get some signature.
fn no_keys() -> Keys {
    Keys { id: "AKIABENCHBENCHBENCH0".to_owned(), secret: "bench".to_owned() }
}

/// Rules as a large organisation has them: by service, operation, resource and agent, and none that
/// the load meets.
fn many_rules(count: usize) -> String {
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

const NOTHING: &str = "rules:\n  - id: elsewhere\n    match: { action: [aws:iam:DeleteUser] }\n    decision: deny\n";
const ALLOW: &str = "rules:\n  - id: all\n    match: { action: ['aws:s3:*', 'aws:dynamodb:*'] }\n    decision: allow\n";
const HOLD: &str = "rules:\n  - id: deletes\n    match: { action: ['aws:s3:DeleteObject'] }\n    decision: hold\n    approvers: [security]\n";

/// One process, no log, upstream connections kept: what it takes to be comparable.
const NGINX: &str = "\
daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  keepalive_requests 10000000;
  upstream stub { server STUB; keepalive 256; keepalive_requests 10000000; }
  server {
    listen ADDRESS;
    location / { proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host; }
  }
}
";
