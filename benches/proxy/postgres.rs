//! Ways to one PostgreSQL server: straight, through a relay of bytes, pgbouncer, countersign.

use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::process::{Process, cpu_time, on_core, peak_bytes, pinned};
use super::subject::role;
use super::support::driver::Door;
use super::support::postgres::{APP, Database, as_owner, program};
use super::support::site::{Setup, Site};

/// One way.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) door: Door,
    owner: Owner,
}

/// What keeps the process alive.
enum Owner {
    /// Straight to the server.
    Nobody,
    Process(Process),
    Bouncer(Process, #[expect(dead_code, reason = "deleted when dropped")] TempDir),
    Site(Box<Site>),
}

const STRAIGHT: &str = "no proxy";
pub(crate) const RELAY: &str = "bare TCP relay";
pub(crate) const BOUNCER: &str = "pgbouncer, sessions";

/// Those whose names contain `only`, and the two that the others are compared with.
pub(crate) fn ways(database: &Database, only: &str) -> Vec<Way> {
    let mut ways = vec![straight(database), relay(database)];
    if BOUNCER.contains(only) {
        ways.extend(bouncer(database));
    }
    for (name, rules) in [UNMATCHED, METERED, MATCHED] {
        if name.contains(only) {
            ways.push(countersign(database, name, rules));
        }
    }
    ways
}

impl Way {
    /// CPU time of whatever stands between so far; zero where nothing does.
    pub(crate) fn cpu_time(&self) -> Duration {
        self.id().map_or(Duration::ZERO, cpu_time)
    }

    /// The most memory it ever had, in bytes; NaN where there is none.
    pub(crate) fn peak_bytes(&self) -> f64 {
        self.id().map_or(f64::NAN, |id| peak_bytes(id) as f64)
    }

    pub(crate) fn id(&self) -> Option<u32> {
        match &self.owner {
            Owner::Nobody => None,
            Owner::Process(process) | Owner::Bouncer(process, _) => Some(process.id()),
            Owner::Site(site) => Some(site.server_id()),
        }
    }

    /// One of PostgreSQL's programs, which goes this way.
    pub(crate) fn command(&self, name: &str) -> Command {
        self.door.command(&program(name))
    }
}

/// Nobody encrypts: that would be measured, too, and only some of them would share it.
fn plain(door: Door) -> Door {
    door.with("PGSSLMODE", "disable")
}

fn straight(database: &Database) -> Way {
    Way { name: STRAIGHT, door: plain(Door::direct(database, APP)), owner: Owner::Nobody }
}

fn relay(database: &Database) -> Way {
    let (process, address) = role(1, &["relay", &format!("127.0.0.1:{}", database.cluster().port)]);
    let door = Door { port: address.port(), ..Door::direct(database, APP) };
    Way { name: RELAY, door: plain(door), owner: Owner::Process(process) }
}

/// The relay itself: bytes from one socket to the other, and nothing else.
pub(crate) async fn run_relay(upstream: SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    super::announce(listener.local_addr().unwrap());
    loop {
        let (mut downstream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut upstream = TcpStream::connect(upstream).await.unwrap();
            downstream.set_nodelay(true).unwrap();
            upstream.set_nodelay(true).unwrap();
            drop(tokio::io::copy_bidirectional_with_sizes(&mut downstream, &mut upstream, 64 << 10, 64 << 10).await);
        });
    }
}

fn countersign(database: &Database, name: &'static str, rules: &str) -> Way {
    let launcher = pinned(1);
    let mut setup = Setup::postgres(database, APP)
        .rules(rules)
        .config("rules: { ordinary: allow, privileged: allow, unknown: allow }\nlog: { level: error }\n")
        .launcher(&launcher.iter().map(String::as_str).collect::<Vec<_>>());
    setup.postgres = database.plain_upstream_config(APP);
    let site = setup.start();
    let door = plain(Door::through(&site, "bench", database));
    Way { name, door, owner: Owner::Site(Box::new(site)) }
}

/// `None` where it is not installed.
fn bouncer(database: &Database) -> Option<Way> {
    Command::new("pgbouncer").arg("--version").output().ok()?;
    let folder = TempDir::new().unwrap();
    // Closed again before pgbouncer opens it; nobody else takes a port of the ephemeral range that soon.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let straight = Door::direct(database, APP);
    let file = folder.path().join("pgbouncer.ini");
    let config = BOUNCER_CONFIG
        .replace(
            "UPSTREAM",
            &format!("host=127.0.0.1 port={} user={} password={}", straight.port, straight.user, straight.password),
        )
        .replace("PORT", &port.to_string());
    std::fs::write(&file, config).unwrap();
    // It refuses to run as root, and the user it runs as must be able to read that.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let pgbouncer = as_owner(Path::new("pgbouncer"));
    let child = on_core(1, pgbouncer.get_program().to_str().unwrap())
        .args(pgbouncer.get_args())
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    super::support::wait_for("pgbouncer", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let owner = Owner::Bouncer(Process::new(child), folder);
    Some(Way { name: BOUNCER, door: plain(Door { port, ..straight }), owner })
}

const UNMATCHED: (&str, &str) = (
    "countersign, no rule matches",
    "rules:\n  - id: elsewhere\n    match: { action: [postgres:drop_table] }\n    decision: deny\n",
);
/// Its limits are never met.
const METERED: (&str, &str) = (
    "countersign, answers counted by a rule",
    "rules:\n  - id: much\n    match: { action: ['postgres:*'] }\n    \
     volume: { rows: 1000000000000, bytes: 1000000GiB, window: 1h }\n    decision: deny\n",
);
const MATCHED: (&str, &str) = (
    "countersign, allowed by rule, on disk first",
    "rules:\n  - id: all\n    match: { action: ['postgres:*'] }\n    decision: allow\n",
);

/// A server connection for each client as long as it stays, and no more work than that.
const BOUNCER_CONFIG: &str = "\
[databases]
* = UPSTREAM
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = PORT
unix_socket_dir =
auth_type = any
pool_mode = session
default_pool_size = 150
max_client_conn = 200
ignore_startup_parameters = extra_float_digits
server_tls_sslmode = disable
server_reset_query =
log_connections = 0
log_disconnections = 0
";
