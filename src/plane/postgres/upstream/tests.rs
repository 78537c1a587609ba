use std::time::Instant;

use tokio::net::TcpListener;

use super::*;
use crate::wire::postgres::backend::kind;
use crate::wire::postgres::frontend;
use real::{APP, BY_CERTIFICATE, BY_MD5, BY_PASSWORD, Cluster, OVER_TLS, Role, cluster};

#[path = "../../../../tests/it/support/postgres.rs"]
#[expect(dead_code, reason = "the integration tests use more of it")]
mod real;

mod impostor;

/// What the shared file expects beside it.
#[track_caller]
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(25);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::sleep(Duration::from_millis(15));
    }
}

fn host(cluster: &Cluster) -> Host {
    Host { name: "127.0.0.1".to_owned(), port: cluster.port }
}

/// The way to the cluster as this role, with as much TLS as there is.
fn options(role: Role) -> Options {
    let cluster = cluster();
    let password = role.password.map(|password| vec!["printf".to_owned(), "%s".to_owned(), password.to_owned()]);
    Options {
        hosts: vec![host(cluster)],
        target: Target::Any,
        database: Some("postgres".to_owned()),
        user: role.name.to_owned(),
        password: password.map_or(SecretSource::None, SecretSource::Command),
        tls: TlsMode::VerifyFull,
        ca: Some(cluster.authority()),
        identity: None,
        is_cleartext_allowed: false,
        connect_timeout: Duration::from_secs(20),
    }
}

fn without_tls(role: Role) -> Options {
    Options { tls: TlsMode::Disable, ..options(role) }
}

async fn connect(options: Options) -> Result<Connected, ConnectError> {
    Upstream::new(options).unwrap().connect("postgres", &asked(&[])).await
}

fn asked(pairs: &[(&str, &str)]) -> Parameters {
    Parameters::new(pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

/// The rows of a query, its one column as text; or the SQLSTATE of its error.
async fn query(connected: &mut Connected, sql: &str) -> Result<Vec<String>, String> {
    let mut out = BytesMut::new();
    frontend::query(&mut out, sql.as_bytes());
    connected.stream.write_all(&out).await.unwrap();
    connected.stream.flush().await.unwrap();
    let mut result = Ok(Vec::new());
    loop {
        let frame = Frame::split(&connected.unread).unwrap();
        let Some(frame) = frame else {
            assert_ne!(connected.stream.read_buf(&mut connected.unread).await.unwrap(), 0, "{sql}: it hung up");
            continue;
        };
        let len = frame.raw.len();
        match frame.kind {
            kind::DATA_ROW => {
                let value = String::from_utf8_lossy(&frame.body()[6..]).into_owned();
                result = result.map(|rows| [rows, vec![value]].concat());
            }
            kind::ERROR_RESPONSE => result = Err(frame.said().unwrap().sqlstate().unwrap()),
            _ => {}
        }
        let is_last = frame.kind == kind::READY_FOR_QUERY;
        drop(connected.unread.split_to(len));
        if is_last {
            return result;
        }
    }
}

#[tokio::test]
async fn each_way_to_authenticate_is_spoken() {
    let (certificate, key) = cluster().certificate();
    let by_certificate = Options { identity: Some((certificate, key)), ..options(BY_CERTIFICATE) };
    let cleartext = Options { is_cleartext_allowed: true, ..without_tls(BY_PASSWORD) };
    let ways = [
        options(APP),
        without_tls(APP),
        options(BY_MD5),
        without_tls(BY_MD5),
        options(BY_PASSWORD),
        cleartext,
        options(OVER_TLS),
        by_certificate,
    ];
    for options in ways {
        let (user, is_tls) = (options.user.clone(), options.tls != TlsMode::Disable);
        let mut connected = connect(options).await.unwrap();
        assert_eq!(connected.stream.tls().is_some(), is_tls);
        assert_eq!(query(&mut connected, "SELECT current_user").await.unwrap(), [user.as_str()]);
        let reported = connected.parameters.iter().find(|(name, _)| name == b"session_authorization");
        assert_eq!(reported.unwrap().1, user.as_bytes());
    }
}

#[tokio::test]
async fn the_password_goes_where_it_may_go_only() {
    let refused = connect(without_tls(BY_PASSWORD)).await.unwrap_err();
    assert!(refused.to_string().contains("the password in the clear, without TLS"), "{refused}");
    let refused = connect(Options { password: SecretSource::None, ..options(APP) }).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Password(SourceError::Missing)), "{refused}");
    let wrong = SecretSource::Command(vec!["echo".to_owned(), "wrong".to_owned()]);
    let refused = connect(Options { password: wrong, ..options(APP) }).await.unwrap_err();
    assert!(matches!(&refused, ConnectError::Refused { code, .. } if code == "28P01"), "{refused}");
    assert_eq!(refused.answer(), None, "it is not the agent's affair");
}

#[tokio::test]
async fn a_password_may_be_rotated_between_two_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let upstream = Options { password: SecretSource::File(file.clone()), user: "rotating".to_owned(), ..options(APP) };
    let upstream = Upstream::new(upstream).unwrap();
    cluster().psql("postgres", "CREATE ROLE rotating LOGIN PASSWORD 'one'");
    for (next, now) in [("two", "one"), ("three", "two")] {
        std::fs::write(&file, format!("{now}\n")).unwrap();
        upstream.connect("postgres", &asked(&[])).await.unwrap();
        cluster().psql("postgres", &format!("ALTER ROLE rotating PASSWORD '{next}'"));
        assert!(upstream.connect("postgres", &asked(&[])).await.is_err());
    }
}

#[tokio::test]
async fn each_mode_of_tls_is_kept() {
    use TlsMode::{Allow, Disable, Prefer, Require, VerifyCa, VerifyFull};
    // Encrypted or not, by role: `over_tls` is rejected without.
    for (mode, app, over_tls) in [
        (Disable, Some(false), None),
        (Allow, Some(false), Some(true)),
        (Prefer, Some(true), Some(true)),
        (Require, Some(true), Some(true)),
        (VerifyCa, Some(true), Some(true)),
        (VerifyFull, Some(true), Some(true)),
    ] {
        for (role, expected) in [(APP, app), (OVER_TLS, over_tls)] {
            let connected = connect(Options { tls: mode, ..options(role) }).await;
            let is_tls = connected.as_ref().ok().map(|connected| connected.stream.tls().is_some());
            assert_eq!(is_tls, expected, "{mode:?} {}: {:?}", role.name, connected.err());
        }
    }
}

#[tokio::test]
async fn a_certificate_is_checked_as_far_as_the_mode_says() {
    let folder = tempfile::tempdir().unwrap();
    let of_another = folder.path().join("ca.pem");
    let other = rcgen::generate_simple_self_signed(vec!["other".to_owned()]).unwrap();
    std::fs::write(&of_another, other.cert.pem()).unwrap();
    let by_name = |name: &str| vec![Host { name: name.to_owned(), port: cluster().port }];
    let attempt = async |tls: TlsMode, ca: Option<PathBuf>, name: &str| {
        connect(Options { tls, ca, hosts: by_name(name), ..options(APP) }).await.is_ok()
    };
    // The same machine by a name that is not in its certificate.
    let (right, wrong) = (Some(cluster().authority()), Some(of_another));
    for (tls, ca, name, expected) in [
        (TlsMode::Require, None, "127.0.0.1", true),
        (TlsMode::Require, right.clone(), "127.0.0.1", true),
        (TlsMode::Require, wrong.clone(), "127.0.0.1", false),
        (TlsMode::VerifyCa, right.clone(), "127.0.0.1", true),
        (TlsMode::VerifyCa, right.clone(), "::ffff:127.0.0.1", true),
        (TlsMode::VerifyCa, wrong.clone(), "127.0.0.1", false),
        (TlsMode::VerifyFull, right.clone(), "localhost", true),
        (TlsMode::VerifyFull, right.clone(), "::ffff:127.0.0.1", false),
        (TlsMode::VerifyFull, wrong.clone(), "127.0.0.1", false),
        (TlsMode::VerifyFull, None, "127.0.0.1", false),
    ] {
        assert_eq!(attempt(tls, ca.clone(), name).await, expected, "{tls:?} {ca:?} {name}");
    }
    // A server's own certificate in place of an authority.
    let itself = Some(cluster().folder().join("server.pem"));
    assert!(attempt(TlsMode::VerifyFull, itself, "127.0.0.1").await);
}

#[tokio::test]
async fn parameters_of_the_agent_are_passed_on_and_its_user_is_not() {
    let upstream = Upstream::new(options(APP)).unwrap();
    let parameters = asked(&[
        ("user", "admin"),
        ("database", "template1"),
        ("application_name", "night run"),
        ("options", "-c work_mem=5MB"),
    ]);
    let mut connected = upstream.connect("postgres", &parameters).await.unwrap();
    let sql = "SELECT concat_ws('|', current_user, current_database(), current_setting('application_name'), \
               current_setting('work_mem'))";
    assert_eq!(query(&mut connected, sql).await.unwrap(), ["app|postgres|night run|5MB"]);
}

#[tokio::test]
async fn a_database_is_the_one_asked_for_or_the_one_configured() {
    let upstream = Upstream::new(options(APP)).unwrap();
    assert_eq!(upstream.database(&asked(&[("database", "orders")]), "AKCS1"), "orders");
    assert_eq!(upstream.database(&asked(&[("database", "AKCS1")]), "AKCS1"), "postgres");
    assert_eq!(upstream.database(&asked(&[]), "AKCS1"), "postgres");
    let upstream = Upstream::new(Options { database: None, ..options(APP) }).unwrap();
    assert_eq!(upstream.database(&asked(&[]), "AKCS1"), "app");
    let refused = upstream.connect("no_such_database", &asked(&[])).await.unwrap_err();
    assert!(matches!(&refused, ConnectError::Refused { code, .. } if code == "3D000"), "{refused}");
    let answer = Frame::split(refused.answer().unwrap()).unwrap().unwrap().said().unwrap().message().unwrap();
    assert_eq!(answer, "database \"no_such_database\" does not exist");
}

#[tokio::test]
async fn the_next_host_is_tried_where_one_is_no_use() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dead = Host { name: "127.0.0.1".to_owned(), port: nobody.port() };
    let hosts = vec![dead.clone(), host(cluster())];
    let connected = connect(Options { hosts: hosts.clone(), ..options(APP) }).await.unwrap();
    assert_eq!(connected.host, hosts[1]);
    let refused = connect(Options { hosts: vec![dead.clone()], ..options(APP) }).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Connect { host, .. } if host == dead));
    assert!(matches!(connect(Options { hosts: Vec::new(), ..options(APP) }).await, Err(ConnectError::NoHost)));
}

#[tokio::test]
async fn a_server_must_be_what_is_wanted() {
    for target in [Target::Any, Target::Primary, Target::ReadWrite] {
        connect(Options { target, ..options(APP) }).await.unwrap();
    }
    cluster().psql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'reader'");
    cluster().psql("postgres", "ALTER ROLE reader SET default_transaction_read_only = on");
    let password = SecretSource::Command(vec!["echo".to_owned(), "reader".to_owned()]);
    let reader = Options { user: "reader".to_owned(), password, ..options(APP) };
    connect(Options { target: Target::Primary, ..reader.clone() }).await.unwrap();
    let refused = connect(Options { target: Target::ReadWrite, ..reader }).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Wrong { why: "it is read only", .. }), "{refused}");
}

#[tokio::test]
async fn what_runs_can_be_cancelled() {
    for options in [options(APP), without_tls(APP)] {
        let mut connected = connect(options).await.unwrap();
        let canceller = connected.canceller.clone();
        let running = tokio::spawn(async move { query(&mut connected, "SELECT pg_sleep(60)").await });
        // A cancel that comes before the statement has begun cancels nothing, so it is repeated.
        while !running.is_finished() {
            canceller.cancel().await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(running.await.unwrap(), Err("57014".to_owned()));
    }
}
