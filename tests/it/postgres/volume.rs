//! Answers that come to more than rules let pass: what reaches the client, what the server did, and what
//! stands in the log.

use super::site;
use crate::support::driver::Door;
use crate::support::frontend::{Batch, Frontend, Message};
use crate::support::postgres::{APP, Database, cluster};
use crate::support::site::Site;
use crate::support::wait_for;

const RULES: &str = "\
rules:
  - id: many
    match: { action: ['postgres:*'], agent: bot }
    volume: { rows: 100, bytes: 64KiB }
    decision: hold
    approvers: [security]
    message: More than a page.
  - id: hourly
    match: { action: ['postgres:*'], agent: sip }
    volume: { rows: 100, bytes: 64KiB, window: 1h }
    decision: hold
    approvers: [security]
  - id: never-more
    match: { action: ['postgres:*'], agent: strict }
    volume: { rows: 100 }
    decision: deny
    message: A hundred and no more.
  - id: copies
    match: { action: ['postgres:copy_out'], agent: strict }
    decision: hold
    approvers: [security]
";

const ALL: &str = "SELECT id FROM big ORDER BY id";

/// A table of many rows behind countersign.
struct Store {
    database: Database,
    site: Site,
    door: Door,
}

impl Store {
    #[track_caller]
    fn open(agent: &str, rows: u32) -> Self {
        let database = cluster().database("volume");
        database.sql(&format!(
            "CREATE TABLE big (id int PRIMARY KEY, name text);
             INSERT INTO big SELECT g, 'customer ' || g FROM generate_series(1, {rows}) g;
             ALTER TABLE big OWNER TO app;
             ALTER SCHEMA public OWNER TO app"
        ));
        let site = site(&database, APP, RULES);
        let door = Door::through(&site, agent, &database);
        Self { database, site, door }
    }

    #[track_caller]
    fn connect(&self) -> Frontend {
        Frontend::connect(&self.door)
    }

    #[track_caller]
    fn rows(&self) -> u32 {
        self.database.sql("SELECT count(*) FROM big").parse().unwrap()
    }

    /// The hold of an answer that was paused.
    #[track_caller]
    fn paused(&self) -> String {
        self.site.pending(1).remove(0)
    }

    /// What the server is still doing for an agent.
    #[track_caller]
    fn comes_to_rest(&self) {
        let text = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'";
        wait_for("the server to stop", || (self.database.sql(text) == "0").then_some(()));
    }
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).filter(|tag| *tag != 'N').collect()
}

fn rows(messages: &[Message]) -> usize {
    messages.iter().filter(|message| matches!(message.tag, b'D' | b'd')).count()
}

#[track_caller]
fn error(messages: &[Message]) -> &Message {
    messages.iter().find(|message| message.tag == b'E').unwrap_or_else(|| panic!("no error: {}", tags(messages)))
}

/// The last message is ReadyForQuery with this state, and the session answers on.
#[track_caller]
fn is_in_step(session: &mut Frontend, messages: &[Message], state: u8) {
    let last = messages.last().unwrap();
    assert_eq!((last.tag, last.body.as_slice()), (b'Z', [state].as_slice()), "{}", tags(messages));
    if state != b'I' {
        let seen = session.ask(Batch::new().query("ROLLBACK"));
        assert_eq!(tags(&seen), "CZ");
    }
    let seen = session.ask(Batch::new().query("SELECT 'next'"));
    assert_eq!(tags(&seen), "TDCZ", "{seen:?}");
}

/// Reads up to the notice of the hold; what came before it.
#[track_caller]
fn up_to_notice(session: &mut Frontend) -> Vec<Message> {
    let seen = session.read_to(b'N');
    let notice = seen.last().unwrap().field(b'M').unwrap();
    assert!(notice.contains("countersign") && notice.contains("rest of the answer"), "{notice}");
    seen
}

#[test]
fn an_answer_pauses_between_two_rows_and_goes_on_when_allowed() {
    for (rows_of_table, batch) in [
        (100_000, Batch::new().query(ALL)),
        (300, Batch::new().query(ALL)),
        (300, Batch::new().parse("", ALL).bind("", "", &[]).execute("", 0).sync()),
    ] {
        let store = Store::open("bot", rows_of_table);
        let mut session = store.connect();
        session.send(&batch.0);
        let before = up_to_notice(&mut session);
        assert_eq!(rows(&before), 100);
        let id = store.paused();
        let card = store.site.hold(&id).to_string();
        assert!(card.contains("100 rows and ") && card.contains("many: 100 rows or 65536 bytes"), "{card}");
        store.site.decide("alice", &id, "allow");
        let rest = session.read_to(b'Z');
        assert_eq!(100 + rows(&rest), rows_of_table as usize);
        is_in_step(&mut session, &rest, b'I');
        let history = store.site.history(&id);
        assert_eq!(history, ["action.held", "approval.vote", "action.approved", "action.forward", "action.outcome"]);
        let held = store.site.wait_for_record(&id, "action.held");
        assert_eq!(held["passed"]["rows"], 100, "{held}");
        assert_eq!(store.site.wait_for_record(&id, "approval.vote")["passed"]["rows"], 100);
        assert_eq!(store.site.wait_for_record(&id, "action.outcome")["rows"], rows_of_table);
        store.site.verify();
    }
}

#[test]
fn a_denied_answer_ends_with_an_error_in_step() {
    for rows_of_table in [300, 200_000] {
        let store = Store::open("bot", rows_of_table);
        let extended = |text: &str| Batch::new().parse("", text).bind("", "", &[]).execute("", 0).sync();
        let behind = Batch::new()
            .parse("", "SELECT id FROM big ORDER BY id, 2 - 1")
            .bind("", "", &[])
            .execute("", 0)
            .parse("", "INSERT INTO big VALUES (-1, 'behind')")
            .bind("", "", &[])
            .execute("", 0)
            .sync();
        for (begin, batch, state) in [
            (None, Batch::new().query(ALL), b'I'),
            (None, Batch::new().query("SELECT id, name FROM big; SELECT 2"), b'I'),
            (None, extended("SELECT id FROM big"), b'I'),
            (None, Batch::new().query("COPY big TO STDOUT"), b'I'),
            (None, extended("COPY (SELECT id FROM big) TO STDOUT"), b'I'),
            (Some("BEGIN"), Batch::new().query("COPY big (id) TO STDOUT"), b'E'),
            (Some("BEGIN"), Batch::new().query("SELECT name FROM big"), b'E'),
            (Some("BEGIN"), extended("SELECT name, id FROM big"), b'E'),
            (Some("BEGIN"), Batch::new().query("UPDATE big SET name = 'gone' RETURNING id"), b'E'),
            (Some("BEGIN"), extended("DELETE FROM big RETURNING id"), b'E'),
            (Some("BEGIN"), behind, b'E'),
        ] {
            let mut session = store.connect();
            if let Some(begin) = begin {
                session.ask(Batch::new().query(begin));
            }
            session.send(&batch.0);
            let mut seen = up_to_notice(&mut session);
            let id = store.paused();
            store.site.decide("alice", &id, "deny");
            seen.extend(session.read_to(b'Z'));
            assert_eq!(rows(&seen), 100, "{}", tags(&seen));
            let error = error(&seen);
            assert_eq!(error.field(b'C').as_deref(), Some("42501"), "{error:?}");
            let detail = error.field(b'D').unwrap();
            assert!(detail.contains(&id) && detail.contains("many") && detail.contains("100 rows"), "{detail}");
            assert!(tags(&seen).ends_with("EZ"), "{}", tags(&seen));
            is_in_step(&mut session, &seen, state);
            store.comes_to_rest();
            assert_eq!(store.rows(), rows_of_table);
            assert_eq!(store.database.sql("SELECT count(*) FROM big WHERE name = 'gone'"), "0");
            assert_eq!(store.site.wait_for_record(&id, "action.denied")["passed"]["rows"], 100);
        }
        store.site.verify();
    }
}

/// A small write had committed before anybody could say no: that is not passed off as undone.
#[test]
fn a_write_that_committed_ends_the_session() {
    let store = Store::open("bot", 300);
    let mut session = store.connect();
    session.send(&Batch::new().query("DELETE FROM big WHERE id <= 200 RETURNING id").0);
    up_to_notice(&mut session);
    let id = store.paused();
    wait_for("the commit", || (store.rows() == 100).then_some(()));
    store.site.decide("alice", &id, "deny");
    let error = session.read_to(b'E').pop().unwrap();
    assert_eq!((error.field(b'S').as_deref(), error.field(b'C').as_deref()), (Some("FATAL"), Some("42501")));
    assert_eq!(session.try_read(), None);
}

#[test]
fn a_deny_rule_ends_it_at_once() {
    let store = Store::open("strict", 5_000);
    let mut session = store.connect();
    for _ in 0..2 {
        let seen = session.ask(Batch::new().query(ALL));
        assert_eq!(rows(&seen), 100);
        assert!(error(&seen).field(b'M').unwrap().contains("A hundred and no more."), "{seen:?}");
        is_in_step(&mut session, &seen, b'I');
    }
    assert_eq!(rows(&session.ask(Batch::new().query("SELECT id FROM big LIMIT 100"))), 100);
    assert!(store.site.holds().is_empty());
    store.site.verify();
}

#[test]
fn copied_data_counts() {
    let store = Store::open("strict", 5_000);
    let mut session = store.connect();
    session.send(&Batch::new().query("COPY big TO STDOUT").0);
    let id = store.paused();
    store.site.decide("alice", &id, "allow");
    // What people approved before it ran is not asked about again.
    let seen = session.read_to(b'Z');
    assert_eq!(rows(&seen), 5_000);
    is_in_step(&mut session, &seen, b'I');
}

#[test]
fn who_cancels_or_leaves_is_not_asked_about() {
    let store = Store::open("bot", 50_000);
    let mut session = store.connect();
    session.send(&Batch::new().query("SELECT id FROM big; SELECT 'x'").0);
    let mut seen = up_to_notice(&mut session);
    let id = store.paused();
    // Nobody waits any more: the hold goes, and the session can go on.
    let key = session.key;
    cancel(&store.door, key);
    seen.extend(session.read_to(b'Z'));
    assert_eq!(error(&seen).field(b'C').as_deref(), Some("57014"));
    assert_eq!(store.site.wait_for_state(&id, "withdrawn")["state"], "withdrawn");
    is_in_step(&mut session, &seen, b'I');

    // So with a client that vanishes.
    session.send(&Batch::new().query("SELECT name FROM big").0);
    up_to_notice(&mut session);
    let id = store.paused();
    drop(session);
    store.site.wait_for_state(&id, "withdrawn");
    store.comes_to_rest();
    store.site.verify();
}

fn cancel(door: &Door, (process, secret): (i32, i32)) {
    use std::io::{Read as _, Write as _};
    let mut message = vec![0, 0, 0, 16, 4, 210, 22, 46];
    message.extend_from_slice(&process.to_be_bytes());
    message.extend_from_slice(&secret.to_be_bytes());
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", door.port)).unwrap();
    stream.write_all(&message).unwrap();
    drop(stream.read_to_end(&mut Vec::new()));
}

/// However a limit of one statement is gone around in pieces, the next piece asks.
#[test]
fn rounds_of_one_portal_or_cursor_count_together() {
    let store = Store::open("bot", 1_000);
    let mut session = store.connect();
    session.ask(Batch::new().query("BEGIN"));
    session.ask(Batch::new().query(&format!("DECLARE c CURSOR FOR {ALL}")));
    let mut got = 0;
    for _ in 0..10 {
        got += rows(&session.ask(Batch::new().query("FETCH 10 c")));
    }
    session.send(&Batch::new().query("FETCH 10 c").0);
    got += rows(&up_to_notice(&mut session));
    assert_eq!(got, 100);
    let id = store.paused();
    store.site.decide("alice", &id, "deny");
    let seen = session.read_to(b'Z');
    is_in_step(&mut session, &seen, b'E');

    session.ask(Batch::new().query("BEGIN"));
    let mut got = rows(&session.ask(Batch::new().parse("", ALL).bind("p", "", &[]).execute("p", 40).sync()));
    got += rows(&session.ask(Batch::new().execute("p", 40).sync()));
    assert_eq!(got, 80);
    session.send(&Batch::new().execute("p", 40).sync().0);
    got += rows(&up_to_notice(&mut session));
    assert_eq!(got, 100);
    let id = store.paused();
    store.site.decide("alice", &id, "allow");
    let seen = session.read_to(b'Z');
    assert_eq!(rows(&seen), 20);
    // It was let go on to its end.
    assert_eq!(rows(&session.ask(Batch::new().execute("p", 400).sync())), 400);
    store.site.verify();
}

#[test]
fn many_small_answers_of_one_agent_fill_its_window() {
    let store = Store::open("sip", 1_000);
    let mut sessions = [store.connect(), store.connect(), store.connect()];
    let mut got = 0;
    let pieces = [
        Batch::new().query("SELECT id FROM big LIMIT 7"),
        Batch::new().query("SELECT id FROM big LIMIT 7; SELECT id FROM big LIMIT 3"),
        Batch::new()
            .parse("s", "SELECT id FROM big WHERE id <= $1::text::int")
            .bind("", "s", &["9"])
            .execute("", 0)
            .sync(),
        Batch::new().bind("", "s", &["9"]).execute("", 0).bind("", "s", &["8"]).execute("", 0).sync(),
        Batch::new().query("PREPARE q AS SELECT id FROM big LIMIT 5"),
        Batch::new().query("EXECUTE q"),
        Batch::new().query("UPDATE big SET name = name WHERE id <= 4 RETURNING id"),
    ];
    'fill: loop {
        for piece in &pieces {
            for session in &mut sessions {
                session.send(&piece.0);
                loop {
                    let message = session.read();
                    match message.tag {
                        b'D' => got += 1,
                        b'N' => break 'fill,
                        b'Z' => break,
                        _ => {}
                    }
                }
            }
        }
    }
    assert_eq!(got, 100);
    let id = store.paused();
    assert!(store.site.hold(&id).to_string().contains("hourly: 100 rows or 65536 bytes of the agent in 3600 s"));
    // Another session, also a new one, fares alike.
    let mut other = store.connect();
    other.send(&Batch::new().query("SELECT 12345").0);
    assert_eq!(rows(&up_to_notice(&mut other)), 0);
    let ids = store.site.pending(2);
    let second = ids.iter().find(|it| **it != id).unwrap();
    store.site.decide("alice", second, "allow");
    let seen = other.read_to(b'Z');
    is_in_step(&mut other, &seen, b'I');
    store.site.verify();
}

/// What carries data without being a row, and a row that is larger than all that may pass.
#[test]
fn nothing_large_goes_by_unseen() {
    let store = Store::open("bot", 10);
    for text in [
        "SELECT repeat('x', 50000000)",
        "SELECT json_agg(repeat('x', 100000)) FROM big",
        "DO $$ BEGIN RAISE NOTICE '%', repeat('x', 2000000); END $$",
        "DO $$ BEGIN FOR i IN 1..200 LOOP RAISE NOTICE '%', repeat('x', 1000); END LOOP; END $$",
        "DO $$ BEGIN RAISE EXCEPTION '%', repeat('x', 2000000); END $$",
        "DO $$ BEGIN RAISE EXCEPTION '%', repeat('x', 100000); END $$",
        "LISTEN c; DO $$ BEGIN FOR i IN 1..20 LOOP PERFORM pg_notify('c', i || repeat('x', 7000)); END LOOP; END $$; SELECT 1",
    ] {
        let mut session = store.connect();
        session.send(&Batch::new().query(text).0);
        let mut seen = Vec::new();
        let mut passed = 0;
        loop {
            let message = session.read();
            let is_ours = message.tag == b'N' && message.body.windows(11).any(|it| it == b"countersign");
            if is_ours || message.tag == b'Z' {
                seen.push(message);
                break;
            }
            passed += message.body.len();
            seen.push(message);
        }
        assert!(passed <= (64 << 10) + 200, "{text}: {passed}");
        assert_eq!(seen.last().unwrap().tag, b'N', "{text}: {}", tags(&seen));
        let id = store.paused();
        store.site.decide("alice", &id, "deny");
        let mut rest = Vec::new();
        while let Some(message) = session.try_read() {
            let is_last = message.tag == b'Z';
            rest.push(message);
            if is_last {
                break;
            }
        }
        assert_eq!(error(&rest).field(b'C').as_deref(), Some("42501"), "{text}");
        assert!(rest.iter().all(|message| message.body.len() < 2_000), "{text}");
        // A block may have written, and was done: then the session has ended.
        if error(&rest).field(b'S').as_deref() != Some("FATAL") {
            is_in_step(&mut session, &rest, b'I');
        } else {
            assert!(text.contains("DO $$"), "{text}");
        }
    }
    store.site.verify();
}

/// Who may not have the rest does not get it from a server that is far ahead either.
#[test]
fn the_server_is_held_back_while_people_decide() {
    let store = Store::open("bot", 10);
    let mut session = store.connect();
    session.send(&Batch::new().query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)").0);
    assert!(rows(&up_to_notice(&mut session)) <= 100);
    let id = store.paused();
    let text = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND wait_event = 'ClientWrite'";
    wait_for("the server to wait", || (store.database.sql(text) == "1").then_some(()));
    store.site.decide("alice", &id, "deny");
    let seen = session.read_to(b'Z');
    assert_eq!(error(&seen).field(b'C').as_deref(), Some("42501"));
    store.comes_to_rest();
    is_in_step(&mut session, &seen, b'I');
}
