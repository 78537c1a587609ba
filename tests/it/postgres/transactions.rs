//! Holds inside of a transaction, whose locks others wait for, and of sessions that the server would end.

use super::holding::Bank;
use crate::support::frontend::{Batch, Frontend, Message};

const RULES: &str = "\
rules:
  - id: deletions
    match: { action: [postgres:delete] }
    decision: hold
    approvers: [security]
    in_transaction: 1s
  - id: truncations
    match: { action: [postgres:truncate] }
    decision: hold
    approvers: [security]
    in_transaction: refuse
  - id: updates
    match: { action: [postgres:update] }
    decision: hold
    approvers: [security]
";

const DELETE: &str = "DELETE FROM accounts WHERE id = 1";
const UPDATE: &str = "UPDATE accounts SET name = 'x' WHERE id = 1";

/// The error of an answer: SQLSTATE, and all that it says.
#[track_caller]
fn error(answers: &[Message]) -> (String, String) {
    let error = answers.iter().find(|it| it.tag == b'E').unwrap_or_else(|| panic!("no error: {answers:?}"));
    let text = b"MDH".map(|code| error.field(code).unwrap_or_default()).join("\n");
    (error.field(b'C').unwrap(), text)
}

#[test]
fn a_rule_says_how_long_a_hold_waits_inside_of_a_transaction() {
    let bank = Bank::under("limited", RULES);
    let mut session = Frontend::connect(&bank.door);
    session.ask(Batch::new().query("BEGIN"));
    let answers = session.ask(Batch::new().query(DELETE));
    let (code, text) = error(&answers);
    assert_eq!(code, "57014", "{answers:?}");
    assert!(text.contains("transaction-limit") && text.contains("not a person's no"), "{text}");
    assert_eq!(answers.last().unwrap().body, b"E", "the transaction failed");
    session.ask(Batch::new().query("ROLLBACK"));
    assert_eq!(bank.site.holds().last().unwrap()["state"], "transaction-limit");

    // A pipeline that has done something is in a transaction, too.
    let batch = Batch::new().parse("", "SELECT 1").bind("", "", &[]).execute("", 0).parse("", DELETE).bind("", "", &[]);
    let answers = session.ask(batch.execute("", 0).sync());
    assert!(error(&answers).1.contains("transaction-limit"), "{answers:?}");

    // Elsewhere people have their time.
    session.send(&Batch::new().parse("", DELETE).bind("", "", &[]).execute("", 0).sync().0);
    let id = bank.site.pending(1).remove(0);
    // Longer than the rule lets it wait inside of a transaction.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    bank.site.decide("alice", &id, "allow");
    assert!(session.read_to(b'Z').iter().any(|it| it.tag == b'C'));
    assert_eq!(bank.accounts(), 9);
    bank.site.verify();
}

#[test]
fn what_may_not_wait_in_a_transaction_is_told_to_come_alone() {
    let bank = Bank::under("alone", RULES);
    let mut session = Frontend::connect(&bank.door);
    session.ask(Batch::new().query("BEGIN"));
    let (code, text) = error(&session.ask(Batch::new().query("TRUNCATE accounts")));
    assert_eq!(code, "42501");
    assert!(text.contains("truncations") && text.contains("transaction of its own"), "{text}");
    assert!(bank.site.holds().is_empty());
    session.ask(Batch::new().query("ROLLBACK"));
    session.send(&Batch::new().query("TRUNCATE accounts").0);
    let id = bank.site.pending(1).remove(0);
    bank.site.decide("alice", &id, "allow");
    assert!(session.read_to(b'Z').iter().any(|it| it.tag == b'C'));
    assert_eq!(bank.accounts(), 0);
    bank.site.verify();
}

/// The hold ends before the server would end the session, which goes on.
#[test]
fn a_hold_ends_before_the_server_ends_its_session() {
    let bank = Bank::under("idle", RULES);
    for (set, begin, is_in_pipeline) in [
        ("SET idle_in_transaction_session_timeout = '4s'", "BEGIN", false),
        ("SET idle_session_timeout = 4000", "SELECT 1", false),
        // A statement in a pipeline is at work, to the server.
        ("SET statement_timeout = '4s'", "SELECT 1", true),
        // Seen in no statement: the server is asked.
        ("DO $$BEGIN PERFORM set_config('idle_in_transaction_session_timeout', '4s', false); END$$", "BEGIN", false),
    ] {
        let mut session = Frontend::connect(&bank.door);
        session.ask(Batch::new().query(set));
        session.ask(Batch::new().query(begin));
        let batch = match is_in_pipeline {
            false => Batch::new().query(UPDATE),
            true => {
                let first = Batch::new().parse("", "SELECT 1").bind("", "", &[]).execute("", 0);
                first.parse("", UPDATE).bind("", "", &[]).execute("", 0).sync()
            }
        };
        session.send(&batch.0);
        let id = bank.site.pending(1).remove(0);
        let card = bank.site.hold(&id).to_string();
        assert!(card.contains("_timeout of the server"), "{set}: {card}");
        let answers = session.read_to(b'Z');
        let (code, text) = error(&answers);
        assert_eq!(code, "57014", "{set}: {answers:?}");
        assert!(text.contains("upstream-limit"), "{set}: {text}");
        bank.site.wait_for_state(&id, "upstream-limit");
        session.ask(Batch::new().query("ROLLBACK"));
        let next = session.ask(Batch::new().query("SELECT 'next'"));
        assert!(next.iter().any(|it| it.body.ends_with(b"next")), "{set}: {next:?}");
    }
    bank.site.verify();
}

/// A statement that only was prepared is not at work: the time-out for statements does not end its hold.
#[test]
fn a_statement_timeout_does_not_end_a_hold() {
    let bank = Bank::under("statement", RULES);
    for begin in ["SELECT 1", "BEGIN"] {
        let mut session = Frontend::connect(&bank.door);
        session.ask(Batch::new().query("SET statement_timeout = '1s'"));
        session.ask(Batch::new().query(begin));
        let batch = Batch::new().parse("", UPDATE).bind("", "", &[]).describe(b'P', "").execute("", 0).sync();
        session.send(&batch.0);
        let id = bank.site.pending(1).remove(0);
        // Longer than the server would wait.
        std::thread::sleep(std::time::Duration::from_millis(2_000));
        bank.site.decide("alice", &id, "allow");
        let answers = session.read_to(b'Z');
        let tags: String = answers.iter().filter(|it| it.tag != b'N').map(|it| char::from(it.tag)).collect();
        assert_eq!(tags, "12nCZ", "{begin}: {answers:?}");
        let next = session.ask(Batch::new().query("COMMIT").query("SELECT 'next'"));
        assert!(next.iter().all(|it| it.tag != b'E'), "{begin}: {next:?}");
        session.read_to(b'Z');
    }
    bank.site.verify();
}

/// The server ends the session all the same: its words reach the client, and the hold has an end of its own.
#[test]
fn a_session_that_the_server_ends_ends_its_hold_by_name() {
    let bank = Bank::under("ended", RULES);
    let mut session = Frontend::connect(&bank.door);
    let backend = session.ask(Batch::new().query("SELECT pg_backend_pid()"));
    let row = backend.iter().find(|it| it.tag == b'D').unwrap();
    let pid: u32 = String::from_utf8_lossy(&row.body[6..]).parse().unwrap();
    session.send(&Batch::new().query(UPDATE).0);
    let id = bank.site.pending(1).remove(0);
    bank.database.sql(&format!("SELECT pg_terminate_backend({pid})"));
    let (code, text) = error(&session.read_to(b'E'));
    assert_eq!(code, "57P01", "{text}");
    assert!(session.try_read().is_none());
    bank.site.wait_for_state(&id, "upstream-left");
    assert_eq!(bank.site.verdict("alice", &id, "allow", "late").status, 410);
    assert_eq!(bank.database.sql("SELECT name FROM accounts WHERE id = 1"), "customer 1");
    bank.site.verify();
}
