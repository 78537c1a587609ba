//! Every scenario of every driver, directly and through countersign: the same results, errors,
//! notices and counts.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use super::{ALLOWED, NO_RULE, differences, site};
use crate::support::driver::{Door, Driver};
use crate::support::postgres::{ADMIN, APP, BY_CERTIFICATE, BY_MD5, BY_PASSWORD, OVER_TLS, Role, cluster};
use crate::support::site::Site;

/// Runs the driver's scenarios both ways and compares them.
#[track_caller]
fn is_transparent(driver: Driver, rules: &str) {
    compare(driver, rules, |door, _| door);
}

/// The same with TLS to countersign, whose certificate the driver verifies and binds its password to.
#[track_caller]
fn is_transparent_over_tls(driver: Driver) {
    compare(driver, NO_RULE, |door, site| {
        let ca = site.data().join("ca.pem");
        let ca = ca.to_str().unwrap();
        let door = door.with("PGSSLMODE", "verify-full").with("PGSSLROOTCERT", ca).with("NODE_EXTRA_CA_CERTS", ca);
        if driver == Driver::Psycopg { door.with("PGCHANNELBINDING", "require") } else { door }
    });
}

#[track_caller]
fn compare(driver: Driver, rules: &str, adapt: impl Fn(Door, &Site) -> Door) {
    let (alone, behind) = (cluster().database("alone"), cluster().database("behind"));
    let site = site(&behind, APP, rules);
    let direct = Door::direct(&alone, APP).start(driver, "all", "").wait();
    let through = adapt(Door::through(&site, "bot", &behind), &site).start(driver, "all", "").wait();
    let differences = differences(&direct, &through);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    site.verify();
}

#[test]
fn psycopg() {
    is_transparent(Driver::Psycopg, NO_RULE);
}

#[test]
fn psycopg_with_every_statement_on_disk_first() {
    is_transparent(Driver::Psycopg, ALLOWED);
}

#[test]
fn psycopg2() {
    is_transparent(Driver::Psycopg2, NO_RULE);
}

#[test]
fn asyncpg() {
    is_transparent(Driver::Asyncpg, NO_RULE);
}

#[test]
fn asyncpg_with_every_statement_on_disk_first() {
    is_transparent(Driver::Asyncpg, ALLOWED);
}

#[test]
fn node_postgres() {
    is_transparent(Driver::NodePostgres, NO_RULE);
}

#[test]
fn node_postgres_with_every_statement_on_disk_first() {
    is_transparent(Driver::NodePostgres, ALLOWED);
}

#[test]
fn psycopg_over_tls() {
    is_transparent_over_tls(Driver::Psycopg);
}

#[test]
fn asyncpg_over_tls() {
    is_transparent_over_tls(Driver::Asyncpg);
}

#[test]
fn node_postgres_over_tls() {
    is_transparent_over_tls(Driver::NodePostgres);
}

/// libpq keeps what is left of a longer TLS record than a server of PostgreSQL sends where nobody looks for it,
/// and waits for what it has.
#[test]
fn records_of_tls_are_no_longer_than_a_servers() {
    let database = cluster().database("records");
    let site = site(&database, APP, NO_RULE);
    let text = "SELECT repeat('x', 100000) FROM generate_series(1, 50)";
    let [direct, through] = [Door::direct(&database, APP), Door::through(&site, "bot", &database)].map(|door| {
        let relay = Relay::to(door.port);
        let door = Door { port: relay.port, ..door }.with("PGSSLMODE", "require");
        let output = door.psql(&["-Atc", text]).output().unwrap();
        assert_eq!(output.stdout.len(), 50 * 100_001);
        relay.longest()
    });
    // What encryption adds to 8 KiB is the same for both.
    assert!(direct > 8 << 10 && through > 4 << 10, "directly {direct}, through {through}");
    assert!(through <= direct, "directly {direct}, through {through}");
}

/// Passes one connection on, and looks at the TLS records that the server sends.
struct Relay {
    port: u16,
    longest: std::thread::JoinHandle<usize>,
}

impl Relay {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let longest = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || drop(std::io::copy(&mut from, &mut to)));
            // The answer to the wish for TLS; then nothing but records.
            let mut answer = [0];
            server.read_exact(&mut answer).unwrap();
            client.write_all(&answer).unwrap();
            let (mut longest, mut header) = (0, [0; 5]);
            while server.read_exact(&mut header).is_ok() {
                let mut record = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
                server.read_exact(&mut record).unwrap();
                longest = longest.max(record.len());
                if client.write_all(&[&header[..], &record].concat()).is_err() {
                    break;
                }
            }
            drop(client.shutdown(std::net::Shutdown::Both));
            longest
        });
        Self { port: own, longest }
    }

    fn longest(self) -> usize {
        self.longest.join().unwrap()
    }
}

/// However the real role authenticates, the agent never sees anything of it.
#[test]
fn every_way_to_authenticate_upstream() {
    for role in [ADMIN, BY_MD5, BY_PASSWORD, BY_CERTIFICATE, OVER_TLS] {
        let database = cluster().database("roles");
        let site = site(&database, role, NO_RULE);
        let door = Door::through(&site, "bot", &database);
        let seen = door.start(
            Driver::Psycopg,
            "in_turn",
            "SELECT current_user, session_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        );
        let seen = seen.wait();
        assert_eq!(seen["results"][0], serde_json::json!([[role.name, role.name, true]]), "{role:?}: {seen}");
    }
}

/// Who has no virtual credential, or another secret, or a real one, does not get in.
#[test]
fn strangers_stay_out() {
    let database = cluster().database("strangers");
    let site = site(&database, APP, NO_RULE);
    let door = Door::through(&site, "bot", &database);
    let stranger =
        |user: &str, password: &str| Door { user: user.to_owned(), password: password.to_owned(), ..door.clone() };
    let real = |role: Role| stranger(role.name, role.password.unwrap());
    for stranger in [
        stranger(&door.user, "wrong"),
        stranger("bot", &door.password),
        stranger("AKCSNOBODYNOBODYNOBO", &door.password),
        real(APP),
        real(ADMIN),
    ] {
        let output = stranger.psql(&["-Atc", "SELECT 1"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{}: {said}", stranger.user);
        assert!(said.contains("authentication failed"), "{}: {said}", stranger.user);
    }
    site.done(&["agent", "revoke", "bot"]);
    crate::support::wait_for("the revocation", || {
        let output = door.psql(&["-Atc", "SELECT 1"]).output().unwrap();
        (output.status.code() == Some(2)).then_some(())
    });
    site.verify();
}

/// A million rows pass in both formats, and memory stays where it was.
#[test]
fn a_million_rows_take_no_memory() {
    let database = cluster().database("large");
    let site = site(&database, APP, NO_RULE);
    let door = Door::through(&site, "bot", &database);
    let run = |count: u32| {
        let text = format!("SELECT g, repeat('x', 200) FROM generate_series(1, {count}) g");
        let seen = door.start(Driver::Psycopg, "rows", &text).wait();
        assert_eq!(seen["rows"], Value::from(count), "{seen}");
        crate::support::peak_bytes(site.server_id())
    };
    let before = run(1_000);
    let after = run(1_000_000);
    let grown = after.saturating_sub(before);
    assert!(grown < 16 << 20, "200 MB passed, {} KiB more were resident at the peak", grown >> 10);
}
