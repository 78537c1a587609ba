//! PostgreSQL as the upstream: one cluster for the whole test binary, a database for each test.
//!
//! Durability is off, TLS is on, and there is a role for each way to authenticate. A shell watches
//! over the server: when its standard input closes, however this process ended, it stops the server
//! and removes the files.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

use super::wait_for;

/// A running server.
pub(crate) struct Cluster {
    folder: PathBuf,
    /// On 127.0.0.1, with and without TLS.
    pub(crate) port: u16,
    _watch: Child,
    _stdin: ChildStdin,
}

/// A role of the cluster. Its name says how it authenticates over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) name: &'static str,
    /// `None`: with the certificate of [`Cluster::certificate`].
    pub(crate) password: Option<&'static str>,
}

/// An ordinary role, by SCRAM. It owns every [`Database`].
pub(crate) const APP: Role = Role { name: "app", password: Some("app-real-secret") };
/// A superuser, by SCRAM.
pub(crate) const ADMIN: Role = Role { name: "admin", password: Some("admin-real-secret") };
/// By the old challenge.
pub(crate) const BY_MD5: Role = Role { name: "by_md5", password: Some("md5-real-secret") };
/// By sending the password.
pub(crate) const BY_PASSWORD: Role = Role { name: "by_password", password: Some("clear-real-secret") };
/// By certificate alone, which needs TLS.
pub(crate) const BY_CERTIFICATE: Role = Role { name: "by_certificate", password: None };
/// By SCRAM, and only over TLS.
pub(crate) const OVER_TLS: Role = Role { name: "over_tls", password: Some("tls-real-secret") };

const ROLES: [Role; 6] = [APP, ADMIN, BY_MD5, BY_PASSWORD, BY_CERTIFICATE, OVER_TLS];

/// The server that all tests share.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start(""))
}

/// A PostgreSQL program: of the newest version that is installed, or from the PATH.
pub(crate) fn program(name: &str) -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(|entry| {
        let folder = entry.ok()?.path();
        let version: u32 = folder.file_name()?.to_str()?.parse().ok()?;
        let program = folder.join("bin").join(name);
        program.exists().then_some((version, program))
    });
    installed.max().map_or_else(|| PathBuf::from(name), |(_, program)| program)
}

impl Cluster {
    /// Starts a server of its own, with these lines more in its configuration.
    #[track_caller]
    pub(crate) fn start(settings: &str) -> Self {
        let folder = TempDir::with_prefix("countersign-postgres-").unwrap().keep();
        let data = folder.join("data");
        make_certificates(&folder);
        for role in ROLES {
            fs::write(password_file(&folder, role), role.password.unwrap_or_default()).unwrap();
        }
        give_away(&folder);
        done(
            as_owner(&program("initdb"))
                .args(["--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "-D"])
                .arg(&data),
        );
        let configuration = format!("{SETTINGS}unix_socket_directories = '{}'\n", folder.display());
        let mut text = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        text += &(configuration.replace("FOLDER", folder.to_str().unwrap()) + settings);
        fs::write(data.join("postgresql.conf"), text).unwrap();
        fs::write(data.join("pg_hba.conf"), ACCESS).unwrap();
        // A port that was free a moment ago may be somebody's by now.
        let cluster = (0..10).find_map(|_| Self::listen(&folder, &data)).unwrap();
        cluster.psql("postgres", CREATE_ROLES);
        cluster
    }

    /// The server on some port; `None` when that is taken.
    fn listen(folder: &Path, data: &Path) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = fs::File::create(folder.join("server.log")).unwrap();
        let mut watch = Command::new("sh")
            .args(["-c", WATCH, "sh"])
            .arg(folder)
            .args(words(&as_owner(&program("postgres"))))
            .arg("-D")
            .arg(data)
            .args(["-p", &port.to_string()])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdin = watch.stdin.take().unwrap();
        let cluster = Self { folder: folder.to_owned(), port, _watch: watch, _stdin: stdin };
        cluster.is_ready().then_some(cluster)
    }

    /// Waits for the server; false when its port is taken.
    fn is_ready(&self) -> bool {
        wait_for("PostgreSQL", || {
            let log = self.log();
            if log.contains("Address already in use") {
                return Some(false);
            }
            assert!(!log.contains("FATAL:  could not"), "PostgreSQL did not start: {log}");
            let socket = self.folder.join(format!(".s.PGSQL.{}", self.port));
            let ready = socket.exists()
                && self.tool("pg_isready", "postgres").arg("--quiet").status().is_ok_and(|it| it.success());
            ready.then_some(true)
        })
    }

    /// Runs SQL in a database as superuser, directly; one line for each row, columns split by `|`.
    #[track_caller]
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        let output =
            done(self.tool("psql", database).args(["-XAtq", "--set=ON_ERROR_STOP=1", "-c", sql]).stdin(Stdio::null()));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A client program, pointed at this server as superuser over its Unix socket.
    pub(crate) fn tool(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(program(name));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("PGHOST", &self.folder)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", database);
        command
    }

    /// A new, empty database, which [`APP`] owns.
    #[track_caller]
    pub(crate) fn database(&'static self, name: &str) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Different for each, since two tests may like the same name.
        let name = format!("{name}_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE \"{name}\" OWNER app"));
        Database { cluster: self, name }
    }

    /// The PEM file of the authority that signed the server's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Certificate and key of [`BY_CERTIFICATE`].
    pub(crate) fn certificate(&self) -> (PathBuf, PathBuf) {
        (self.folder.join("client.pem"), self.folder.join("client.key"))
    }

    /// What the server wrote to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("server.log")).unwrap()
    }

    /// Where a client may leave files that the server can read, and the other way round.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// One database of the shared cluster.
#[derive(Clone)]
pub(crate) struct Database {
    cluster: &'static Cluster,
    pub(crate) name: String,
}

impl Database {
    pub(crate) fn cluster(&self) -> &'static Cluster {
        self.cluster
    }

    /// Runs SQL in it as superuser, directly.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.cluster.psql(&self.name, sql)
    }

    /// The lines below `upstream.postgres` that let countersign be this role here.
    pub(crate) fn upstream_config(&self, role: Role) -> String {
        let mut lines = self.who(role);
        if role.password.is_none() {
            let (certificate, key) = self.cluster.certificate();
            lines += &format!("certificate: {}\nkey: {}\n", certificate.display(), key.display());
        }
        lines + &format!("tls: verify-full\nca: {}\n", self.cluster.authority().display())
    }

    /// The same without TLS.
    pub(crate) fn plain_upstream_config(&self, role: Role) -> String {
        self.who(role) + "tls: disable\n"
    }

    fn who(&self, role: Role) -> String {
        let password = password_file(&self.cluster.folder, role);
        let mut secret = role.password.map(|_| format!("password_file: {}\n", password.display())).unwrap_or_default();
        if role == BY_PASSWORD {
            secret += "cleartext_password: true\n";
        }
        format!("hosts: ['127.0.0.1:{}']\ndatabase: {}\nuser: {}\n{secret}", self.cluster.port, self.name, role.name)
    }
}

fn password_file(folder: &Path, role: Role) -> PathBuf {
    folder.join(role.name).with_extension("password")
}

/// A command as whom the server runs: it refuses to run as root.
pub(crate) fn as_owner(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]).arg(program);
    // The folder that we are in may be closed to it.
    command.current_dir("/");
    command
}

/// Lets the server's user have these files, and nobody else.
fn give_away(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o600)).unwrap();
    }
    if is_root() {
        done(Command::new("chown").args(["-R", "postgres:postgres"]).arg(folder));
    }
}

fn is_root() -> bool {
    let output = done(Command::new("id").arg("-u"));
    output.stdout.trim_ascii() == b"0"
}

fn words(command: &Command) -> Vec<std::ffi::OsString> {
    [command.get_program()].into_iter().chain(command.get_args()).map(ToOwned::to_owned).collect()
}

#[track_caller]
fn done(command: &mut Command) -> Output {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{command:?}: {error}: run `make setup`"),
    };
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    output
}

/// `ca.pem`, `server.pem` and `.key` for the loopback address, `client.pem` and `.key` for [`BY_CERTIFICATE`].
fn make_certificates(folder: &Path) {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "CA of the tests' PostgreSQL");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let server = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    for (file, name, hosts, purpose) in [
        ("server", "localhost", server, ExtendedKeyUsagePurpose::ServerAuth),
        ("client", BY_CERTIFICATE.name, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join(file).with_extension("pem"), params.signed_by(&key, &authority).unwrap().pem()).unwrap();
        fs::write(folder.join(file).with_extension("key"), key.serialize_pem()).unwrap();
    }
}

/// Ends the server at once, and its files, when nobody holds the other end of standard input.
const WATCH: &str = "\
folder=$1; shift
\"$@\" </dev/null & server=$!
trap '' INT
read -r _
kill -QUIT $server; wait $server
rm -rf \"$folder\"
";

const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
max_connections = 200
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
max_prepared_transactions = 10
wal_level = logical
ssl = on
ssl_ca_file = 'FOLDER/ca.pem'
ssl_cert_file = 'FOLDER/server.pem'
ssl_key_file = 'FOLDER/server.key'
log_line_prefix = '%m [%p] %u@%d %a '
";

const ACCESS: &str = "\
local   all                         postgres                      trust
host    all                         by_md5          127.0.0.1/32  md5
host    all                         by_password     127.0.0.1/32  password
hostssl all                         by_certificate  127.0.0.1/32  cert
hostssl all                         over_tls        127.0.0.1/32  scram-sha-256
hostnossl all                       over_tls        127.0.0.1/32  reject
host    all,replication             all             127.0.0.1/32  scram-sha-256
";

const CREATE_ROLES: &str = "
CREATE ROLE app LOGIN PASSWORD 'app-real-secret';
CREATE ROLE admin LOGIN SUPERUSER PASSWORD 'admin-real-secret';
CREATE ROLE by_password LOGIN PASSWORD 'clear-real-secret';
CREATE ROLE by_certificate LOGIN;
CREATE ROLE over_tls LOGIN PASSWORD 'tls-real-secret';
SET password_encryption = 'md5';
CREATE ROLE by_md5 LOGIN PASSWORD 'md5-real-secret';
";
