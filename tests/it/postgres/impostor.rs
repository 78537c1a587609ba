//! A server that breaks the protocol, lies, floods, stalls or dies: only the session that it has to do with
//! ends or waits, its client is told in its own dialect, and nothing is sent without a permit.

use std::time::Duration;

use super::PASS;
use crate::support::driver::Door;
use crate::support::frontend::{Batch, Frontend, Message};
use crate::support::impostor::{Impostor, Stage, columns, done, error, greeting, message, parameter, ready, row};
use crate::support::site::{Setup, Site};
use crate::support::{peak_bytes, wait_for};

const RULES: &str = "\
rules:
  - id: deletions
    match: { action: [postgres:delete] }
    decision: hold
    approvers: [security]
  - id: never
    match: { action: [postgres:drop_table] }
    decision: deny
";

const DELETE: &str = "DELETE FROM accounts";

/// countersign before an impostor.
pub(super) struct Theatre {
    pub(super) impostor: Impostor,
    pub(super) site: Site,
    pub(super) door: Door,
    /// The password for the impostor, which is read with each login.
    _folder: tempfile::TempDir,
}

impl Theatre {
    #[track_caller]
    fn open(script: impl Fn(&mut Stage) + Send + Sync + 'static) -> Self {
        Self::before(Impostor::start(script), "")
    }

    #[track_caller]
    fn before(impostor: Impostor, more: &str) -> Self {
        Self::under(impostor, more, PASS)
    }

    /// With these lines more about the upstream, and these of the configuration.
    #[track_caller]
    pub(super) fn under(impostor: Impostor, more: &str, config_lines: &str) -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let password = folder.path().join("real");
        std::fs::write(&password, "unused").unwrap();
        let config = impostor.config().replace("real", password.to_str().unwrap()) + more;
        let setup = Setup { postgres: config, ..Setup::new("http://127.0.0.1:9") };
        let site = setup.rules(RULES).config(config_lines).start();
        let keys = site.agent("bot", "olga").keys;
        let (port, database) = (site.postgres.port(), "stage".to_owned());
        let door = Door { port, user: keys.id, password: keys.secret, database, extra: Vec::new() };
        Self { impostor, site, door, _folder: folder }
    }

    #[track_caller]
    fn connect(&self) -> Frontend {
        Frontend::connect(&self.door)
    }

    /// It runs, nothing in it panicked, and its log of records is whole.
    #[track_caller]
    pub(super) fn stands(&mut self) {
        assert!(self.site.is_running());
        assert!(!self.site.log().contains("panicked"), "{}", self.site.log());
        self.site.verify();
    }

    /// How many sessions were ended for a broken protocol, by the records.
    fn refused(&self) -> usize {
        self.site.records().iter().filter(|it| it["type"] == "action.refused" && it["code"] == "08P01").count()
    }
}

/// Reads to the end of the connection.
#[track_caller]
fn rest(session: &mut Frontend) -> Vec<Message> {
    std::iter::from_fn(|| session.try_read()).collect()
}

/// The same; and the SQLSTATE of the fatal error before it.
#[track_caller]
fn end(session: &mut Frontend) -> (Vec<Message>, String) {
    let seen = rest(session);
    let last = seen.last().unwrap_or_else(|| panic!("it ended without a word"));
    assert_eq!((last.tag, last.field(b'S').as_deref()), (b'E', Some("FATAL")), "{seen:?}");
    let code = last.field(b'C').unwrap();
    (seen, code)
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|it| char::from(it.tag)).collect()
}

fn whole_answer() -> Vec<u8> {
    [columns(1), row(&["1"]), done("SELECT 1"), ready(b'I')].concat()
}

/// What breaks the protocol: said in answer to a query, or to none, and how the session's client is told.
fn breaks() -> Vec<(&'static str, bool, Vec<u8>, &'static str)> {
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() - 2].to_vec();
    let raw = |tag: u8, length: u32| [&[tag][..], &length.to_be_bytes(), b"abc"].concat();
    vec![
        ("ready twice", true, [whole_answer(), ready(b'I')].concat(), "08P01"),
        ("ready out of the blue", false, ready(b'I'), "08P01"),
        ("a row out of the blue", false, row(&["1"]), "08P01"),
        ("a whole answer out of the blue", false, whole_answer(), "08P01"),
        ("a row after the answer", true, [whole_answer(), row(&["2"])].concat(), "08P01"),
        ("a command done out of the blue", false, done("DELETE 7"), "08P01"),
        ("copied data out of the blue", false, message(b'd', b"1\n"), "08P01"),
        ("copy in out of the blue", false, message(b'G', &[0; 3]), "08P01"),
        ("copy out out of the blue", false, message(b'H', &[0; 3]), "08P01"),
        ("copy both out of the blue", false, message(b'W', &[0; 3]), "08P01"),
        ("a function's answer to a query", true, message(b'V', &[0xff; 4]), "08P01"),
        ("parameters nobody asked for", true, message(b't', &[0; 2]), "08P01"),
        ("a portal suspended in a query", true, message(b's', b""), "08P01"),
        ("parsed, which was not asked", true, message(b'1', b""), "08P01"),
        ("bound, which was not asked", true, message(b'2', b""), "08P01"),
        ("closed, which was not asked", true, message(b'3', b""), "08P01"),
        ("a password is asked for once more", false, message(b'R', &[0, 0, 0, 3]), "08P01"),
        ("a password is asked for in an answer", true, message(b'R', &[0, 0, 0, 3]), "08P01"),
        ("another key", false, message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]), "08P01"),
        ("another version", false, message(b'v', &[0; 8]), "08P01"),
        ("ready for nobody knows what", true, [done("SELECT 0"), ready(b'X')].concat(), "08P01"),
        ("ready without a state", true, [done("SELECT 0"), message(b'Z', b"")].concat(), "08P01"),
        ("a parameter that is too long to be read", false, parameter("client_encoding", &"x".repeat(2 << 20)), "08P01"),
        ("no such type", false, message(b'?', b""), "08006"),
        ("a client's message", true, message(b'Q', b"SELECT 1\0"), "08006"),
        ("a length of nothing", true, raw(b'D', 0), "08006"),
        ("a length shorter than itself", true, raw(b'D', 3), "08006"),
        ("a negative length", true, raw(b'D', u32::MAX), "08006"),
        ("a length that no server has", true, raw(b'D', 0x7fff_ffff), "08006"),
        // An error would be read as the rest of the row.
        ("closed in a frame", true, cut(row(&["1"])), ""),
        ("closed in a huge frame", true, raw(b'D', 0x3fff_fff0), ""),
        ("closed in a header", true, b"D\0\0".to_vec(), "08006"),
        ("closed before the end", true, [columns(1), row(&["1"])].concat(), "08006"),
    ]
}

#[test]
fn who_breaks_the_protocol_ends_that_session_alone() {
    let table = breaks();
    let mut theatre = Theatre::open(|stage| {
        let table = breaks();
        let Some(first) = stage.read_to(b'Q') else { return };
        let text = String::from_utf8_lossy(&first.body).into_owned();
        let which = text.trim_end_matches('\0').rsplit(' ').next().and_then(|it| it.parse::<usize>().ok());
        let Some((_, in_answer, bytes, _)) = which.and_then(|it| table.get(it)) else {
            stage.send(&whole_answer());
            return stage.close();
        };
        if !in_answer {
            stage.send(&whole_answer());
        }
        stage.send(bytes);
        stage.close();
    });
    let mut other = theatre.connect();
    for (index, (name, in_answer, _, code)) in table.iter().enumerate() {
        let mut session = theatre.connect();
        session.send(&Batch::new().query(&format!("SELECT {index}")).0);
        if code.is_empty() {
            assert_eq!(tags(&rest(&mut session)), "", "{name}");
            continue;
        }
        let (seen, ended) = end(&mut session);
        assert_eq!(ended, *code, "{name}: {seen:?}");
        let is_told_done = seen.iter().any(|it| it.tag == b'C' && it.body.starts_with(b"DELETE"));
        assert!(!is_told_done, "{name}: {seen:?}");
        if !in_answer {
            assert_eq!(tags(&seen), "TDCZE", "{name}: {seen:?}");
        }
    }
    let count = table.iter().filter(|it| it.3 == "08P01").count();
    // What was cut off is nobody's fault; what is no message is on record as well.
    wait_for("the records", || (theatre.refused() >= count + 6).then_some(()));
    // Who came before all of that is where it was.
    let seen = other.ask(Batch::new().query("SELECT 'here'"));
    assert_eq!(tags(&seen), "TDCZ");
    theatre.stands();
}

/// What is odd but keeps the step goes to the client, whose driver may judge it.
#[test]
fn what_keeps_the_step_passes() {
    let answers = [
        ("no columns before rows", [row(&["1"]), done("SELECT 1"), ready(b'I')].concat(), "DCZ"),
        ("another number of columns", [columns(1), row(&["1", "2"]), done("SELECT 1"), ready(b'I')].concat(), "TDCZ"),
        (
            "more than one answer",
            [whole_answer()[..whole_answer().len() - 6].to_vec(), whole_answer()].concat(),
            "TDCTDCZ",
        ),
        ("an error that says nothing", [message(b'E', b"\0"), ready(b'I')].concat(), "EZ"),
        ("an error that is none", [message(b'E', b"garbage"), ready(b'I')].concat(), "EZ"),
        ("notices that are none", [message(b'N', b""), message(b'A', b""), done("X"), ready(b'I')].concat(), "NACZ"),
        ("parameters that are none", [message(b'S', b"x"), parameter("a", "b"), ready(b'I')].concat(), "SSZ"),
        ("nothing", ready(b'E'), "Z"),
    ];
    let table: Vec<_> = answers.iter().map(|it| it.1.clone()).collect();
    let mut theatre = Theatre::open(move |stage| {
        for answer in &table {
            if stage.read_to(b'Q').is_none() {
                return;
            }
            stage.send(answer);
        }
        stage.close();
    });
    let mut session = theatre.connect();
    for (name, _, expected) in &answers {
        let seen = session.ask(Batch::new().query("SELECT 1"));
        assert_eq!(tags(&seen), *expected, "{name}: {seen:?}");
    }
    drop(session);
    theatre.stands();
}

/// A server that says too little is waited for; its client may go, or cancel.
#[test]
fn who_never_answers_is_waited_for() {
    let mut theatre = Theatre::open(|stage| {
        stage.read_to(b'Q');
        // An error, and not that it is ready.
        stage.send(&error("22012"));
        stage.read_to(b'X');
    });
    let mut session = theatre.connect();
    session.send(&Batch::new().query("SELECT 1").query("SELECT 2").0);
    assert_eq!(session.read().field(b'C').as_deref(), Some("22012"));
    session.cancel(&theatre.door);
    wait_for("the cancel request", || (theatre.impostor.cancels() > 0).then_some(()));
    drop(session);
    theatre.stands();
}

#[test]
fn floods_take_no_memory() {
    let flood: [fn() -> Vec<u8>; 4] = [
        || parameter("client_encoding", "UTF8"),
        || message(b'A', b"\0\0\0\x01channel\0payload\0"),
        || message(b'N', b"SNOTICE\0C00000\0Magain\0\0"),
        || row(&["a row of a hundred bytes or so, that comes again and again, and again, until nobody wants it"]),
    ];
    for (index, piece) in flood.into_iter().enumerate() {
        let mut theatre = Theatre::open(move |stage| {
            stage.read_to(b'Q');
            stage.patience(Duration::from_secs(2));
            let pieces = piece().repeat(1_000);
            // It stops when nobody takes it any more.
            for _ in 0..400 {
                if !stage.try_send(&pieces) {
                    return;
                }
            }
            stage.send(&[done("SELECT 1"), ready(b'I')].concat());
        });
        // Nobody reads what comes of it.
        let mut idle = theatre.connect();
        let before = peak_bytes(theatre.site.server_id());
        idle.send(&Batch::new().query("SELECT 1").0);
        // And here everything is read.
        let mut session = theatre.connect();
        session.send(&Batch::new().query("SELECT 1").0);
        let mut count = 0_u32;
        while session.read().tag != b'Z' {
            count += 1;
        }
        assert_eq!(count, 400_001, "{index}");
        let grown = peak_bytes(theatre.site.server_id()).saturating_sub(before);
        assert!(grown < 8 << 20, "{index}: {} KiB more", grown >> 10);
        drop(idle);
        theatre.stands();
    }
}

/// A client that sends on while the server takes nothing is not read any more.
#[test]
fn who_never_reads_is_not_written_to_without_end() {
    let mut theatre = Theatre::open(|stage| {
        stage.patience(Duration::from_millis(1));
        std::thread::park_timeout(Duration::from_secs(60));
    });
    let session = theatre.connect();
    let before = peak_bytes(theatre.site.server_id());
    let mut writer = session.writer();
    writer.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let text = format!("SELECT '{}'", "x".repeat(64 << 10));
    let batch = Batch::new().parse("", &text).bind("", "", &[]).execute("", 0).sync();
    let mut sent = 0;
    while std::io::Write::write_all(&mut writer, &batch.0).is_ok() {
        sent += batch.0.len();
        assert!(sent < 256 << 20, "nothing stops it");
    }
    let grown = peak_bytes(theatre.site.server_id()).saturating_sub(before);
    assert!(grown < 32 << 20, "{sent} bytes sent, {} KiB more", grown >> 10);
    drop((session, writer));
    theatre.stands();
}

/// The login of a server that is none: an error at once or after the time that a connection may take.
#[test]
fn a_login_that_goes_wrong_is_an_error() {
    type Said = (&'static str, fn(&mut Stage));
    let scripts: [Said; 10] = [
        ("silence", |stage| drop(stage.read())),
        ("closed", |_| {}),
        ("no type", |stage| stage.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        ("huge", |stage| stage.send(b"R\x3f\xff\xff\xff")),
        ("authenticated twice", |stage| stage.send(&message(b'R', &[0; 4]).repeat(2))),
        ("ready before it is authenticated", |stage| stage.send(&ready(b'I'))),
        ("notices", |stage| while stage.try_send(&message(b'N', b"SNOTICE\0\0").repeat(100)) {}),
        ("parameters", |stage| {
            stage.send(&message(b'R', &[0; 4]));
            while stage.try_send(&parameter("a", "b").repeat(100)) {}
        }),
        ("answers without end", |stage| {
            stage.send(&greeting());
            while stage.try_send(&row(&["public"]).repeat(1_000)) {}
        }),
        ("one answer without end", |stage| {
            stage.send(&greeting());
            stage.send(b"D\x3f\xff\xff\xff");
            while stage.try_send(&[b'x'; 4096]) {}
        }),
    ];
    for (name, script) in scripts {
        let impostor = Impostor::from_the_login(move |stage| {
            script(stage);
            stage.close();
        });
        let mut theatre = Theatre::before(impostor, "connect_timeout: 1s\n");
        let before = peak_bytes(theatre.site.server_id());
        let output = theatre.door.psql(&["-c", "SELECT 1"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(said.contains("countersign: the database cannot be reached"), "{name}: {said}");
        let grown = peak_bytes(theatre.site.server_id()).saturating_sub(before);
        assert!(grown < 8 << 20, "{name}: {} KiB more", grown >> 10);
        theatre.stands();
    }
}

/// What the server says while a statement waits for people is no answer to it.
#[test]
fn a_held_statement_is_not_answered_before_it_is_sent() {
    for (name, bytes, code) in [
        ("done", [done("DELETE 7"), ready(b'I')].concat(), Some("08P01")),
        ("rows", whole_answer(), Some("08P01")),
        ("ready", ready(b'I'), Some("08P01")),
        ("closed", Vec::new(), Some("08006")),
        ("the end", message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mmade up\0\0"), Some("57P01")),
        ("read in another way", parameter("standard_conforming_strings", "off"), None),
        ("read in other characters", parameter("client_encoding", "SJIS"), None),
        ("by another user", parameter("session_authorization", "postgres"), None),
        ("found elsewhere", parameter("search_path", "evil"), None),
    ] {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let (said, is_passing) = (bytes.clone(), code.is_none());
        let mut theatre = Theatre::open(move |stage| {
            if wait.lock().unwrap().recv().is_err() {
                return;
            }
            stage.send(&said);
            if is_passing {
                stage.read();
            }
            stage.close();
        });
        let mut session = theatre.connect();
        session.send(&Batch::new().query(DELETE).0);
        let hold = theatre.site.pending(1).remove(0);
        session.read_to(b'N');
        go.send(()).unwrap();
        match code {
            Some(code) => {
                let (seen, ended) = end(&mut session);
                assert_eq!(ended, code, "{name}: {seen:?}");
                assert!(!seen.iter().any(|it| it.tag == b'C' || it.tag == b'D'), "{name}: {seen:?}");
                let verdict = theatre.site.verdict("alice", &hold, "allow", "as usual");
                assert_eq!(verdict.status, 410, "{name}: {}", verdict.text());
            }
            None => {
                assert_eq!(session.read().tag, b'S');
                theatre.site.decide("alice", &hold, "allow");
                let seen = session.read_to(b'Z');
                let error = seen.iter().find(|it| it.tag == b'E').unwrap_or_else(|| panic!("{name}: {seen:?}"));
                assert!(error.field(b'M').unwrap().contains("changed between"), "{name}: {error:?}");
            }
        }
        assert!(!theatre.impostor.has_heard("DELETE"), "{name}");
        theatre.stands();
    }
}

/// Nobody is told that it ran, or that it did not.
#[test]
fn a_server_that_dies_with_an_approved_statement_leaves_it_unknown() {
    for said in [Vec::new(), columns(1), [columns(1), row(&["1"])].concat(), done("DELETE 7")[..7].to_vec()] {
        let bytes = said.clone();
        let mut theatre = Theatre::open(move |stage| {
            stage.read_to(b'Q');
            stage.send(&bytes);
        });
        let mut session = theatre.connect();
        session.send(&Batch::new().query(DELETE).0);
        let hold = theatre.site.pending(1).remove(0);
        theatre.site.decide("alice", &hold, "allow");
        let (seen, code) = end(&mut session);
        assert_eq!(code, "08006", "{seen:?}");
        assert!(!seen.iter().any(|it| it.tag == b'C'), "{seen:?}");
        let outcome = theatre.site.wait_for_record(&hold, "action.outcome");
        assert_ne!(outcome["outcome"], "finished", "{outcome}");
        theatre.stands();
    }
}

/// The error in a denied message's place is the server's to give; one that gives rows instead has lost the step.
#[test]
fn a_denied_message_is_not_answered_with_rows() {
    let mut theatre = Theatre::open(|stage| {
        stage.read_to(b'E');
        stage.send(&[message(b'1', b""), columns(1), row(&["1"]), done("DROP TABLE"), ready(b'I')].concat());
        stage.close();
    });
    let mut session = theatre.connect();
    session.send(&Batch::new().parse("", "DROP TABLE accounts").bind("", "", &[]).execute("", 0).sync().0);
    let (seen, code) = end(&mut session);
    assert_eq!((tags(&seen).as_str(), code.as_str()), ("1E", "08P01"), "{seen:?}");
    theatre.stands();
}
