//! A statement that waits for a person: what each driver sees, what the server did, and what stands in
//! the log.

use serde_json::{Value, json};

use super::site;
use crate::support::agent::Call;
use crate::support::driver::{DRIVERS, Door, Driver};
use crate::support::frontend::{Batch, Frontend};
use crate::support::postgres::{APP, Database, cluster};
use crate::support::site::{Site, shown};
use crate::support::wait_for;

const RULES: &str = "\
rules:
  - id: deletions
    match: { action: [postgres:delete] }
    decision: hold
    approvers: [security]
    message: Rows do not come back.
  - id: short
    match: { action: [postgres:truncate] }
    decision: hold
    approvers: [security]
    expires: 1s
  - id: reading
    match: { action: [postgres:select, postgres:copy_out, postgres:declare_cursor], resource: ['*.accounts'] }
    decision: hold
    approvers: [security]
  - id: never
    match: { action: [postgres:drop_table] }
    decision: deny
    message: Tables are not dropped by agents.
";

const DELETE: &str = "DELETE FROM accounts WHERE id < 4 RETURNING id";
const READ: &str = "SELECT id, name FROM accounts ORDER BY id";

/// A table of ten accounts behind countersign.
pub(super) struct Bank {
    pub(super) database: Database,
    pub(super) site: Site,
    pub(super) door: Door,
}

impl Bank {
    #[track_caller]
    pub(super) fn open(name: &str) -> Self {
        Self::under(name, RULES)
    }

    #[track_caller]
    pub(super) fn under(name: &str, rules: &str) -> Self {
        let database = cluster().database(name);
        database.sql(
            "CREATE TABLE accounts (id int PRIMARY KEY, name text);
             INSERT INTO accounts SELECT g, 'customer ' || g FROM generate_series(1, 10) g;
             ALTER TABLE accounts OWNER TO app;
             ALTER SCHEMA public OWNER TO app",
        );
        let site = site(&database, APP, rules);
        let door = Door::through(&site, "bot", &database);
        Self { database, site, door }
    }

    /// How many accounts are left, asked beside countersign.
    #[track_caller]
    pub(super) fn accounts(&self) -> u32 {
        self.database.sql("SELECT count(*) FROM accounts").parse().unwrap()
    }

    /// Starts a scenario whose statement is held.
    #[track_caller]
    fn held(&self, driver: Driver, scenario: &str, text: &str) -> (Call, String) {
        let mut call = self.door.start(driver, scenario, text);
        let id = self.site.pending(1).remove(0);
        assert!(call.is_running(), "{driver:?} did not wait");
        (call, id)
    }
}

/// The error that the driver reports.
#[track_caller]
fn error(seen: &Value) -> (String, String) {
    let result = &seen["result"];
    let code = result["sqlstate"].as_str().unwrap_or_else(|| panic!("no error: {seen}"));
    let text = ["message", "detail", "hint"].map(|part| result[part].as_str().unwrap_or_default()).join("\n");
    (code.to_owned(), text)
}

#[track_caller]
fn is_in_step(seen: &Value) {
    assert!(seen["next"].to_string().contains("next"), "{seen}");
}

fn rows(seen: &Value) -> Option<usize> {
    seen["result"].as_array().map(Vec::len)
}

#[track_caller]
fn approved(driver: Driver) {
    let bank = Bank::open("approved");
    let (call, id) = bank.held(driver, "held", DELETE);
    assert_eq!(bank.accounts(), 10);
    bank.site.decide("alice", &id, "allow");
    let seen = call.wait();
    assert_eq!(rows(&seen), Some(3), "{seen}");
    assert!(seen["notices"].to_string().contains(&id), "nobody told the client: {seen}");
    is_in_step(&seen);
    assert_eq!(bank.accounts(), 7);
    let history = bank.site.history(&id);
    assert_eq!(history, ["action.held", "approval.vote", "action.approved", "action.forward", "action.outcome"]);
    let forward = bank.site.wait_for_record(&id, "action.forward");
    assert_eq!(forward["actions"][0]["action"], "postgres:delete", "{forward}");
    bank.site.verify();
}

#[track_caller]
fn denied(driver: Driver) {
    let bank = Bank::open("denied");
    let (call, id) = bank.held(driver, "held", DELETE);
    assert_eq!(bank.site.verdict("alice", &id, "deny", "archive them instead").status, 200);
    let seen = call.wait();
    let (code, text) = error(&seen);
    assert_eq!(code, "42501", "{seen}");
    assert!(text.contains("archive them instead") && text.contains(&id), "{seen}");
    is_in_step(&seen);
    assert_eq!(bank.accounts(), 10);
    assert_eq!(bank.site.history(&id), ["action.held", "approval.vote", "action.denied"]);

    // By a rule: at once, and it is another end than a person's no.
    let seen = bank.door.start(driver, "held", "DROP TABLE accounts").wait();
    let (code, text) = error(&seen);
    assert_eq!(code, "42501", "{seen}");
    assert!(text.contains("Tables are not dropped by agents.") && text.contains("never"), "{seen}");
    is_in_step(&seen);
    assert_eq!(bank.accounts(), 10);

    // Nobody says anything: that is no no.
    let seen = bank.door.start(driver, "held", "TRUNCATE accounts").wait();
    let (_, text) = error(&seen);
    let said = text.to_lowercase();
    assert!((said.contains("expired") || said.contains("in time")) && !said.contains("denied by"), "{seen}");
    is_in_step(&seen);
    assert_eq!(bank.site.holds().last().unwrap()["state"], "expired");
    assert_eq!(bank.accounts(), 10);
    bank.site.verify();
}

#[track_caller]
fn in_a_transaction(driver: Driver) {
    let bank = Bank::open("transaction");
    let (call, id) = bank.held(driver, "held_in_transaction", DELETE);
    let card = bank.site.hold(&id).to_string().to_lowercase();
    assert!(card.contains("transaction"), "the approver must know that locks are held: {card}");
    bank.site.decide("alice", &id, "allow");
    let seen = call.wait();
    assert_eq!((rows(&seen), &seen["kept"]), (Some(3), &json!(true)), "{seen}");
    is_in_step(&seen);
    assert_eq!(bank.accounts(), 7);
    bank.database.sql("DROP TABLE before_it");

    let (call, id) = bank.held(driver, "held_in_transaction", "DELETE FROM accounts RETURNING id");
    bank.site.decide("alice", &id, "deny");
    let seen = call.wait();
    assert_eq!(error(&seen).0, "42501", "{seen}");
    // As after any error: nothing runs until the transaction ends, and nothing of it is kept.
    assert_eq!((&seen["next"]["sqlstate"], &seen["kept"]), (&json!("25P02"), &json!(false)), "{seen}");
    assert_eq!(bank.accounts(), 7);
    bank.site.verify();
}

#[track_caller]
fn modified(driver: Driver) {
    let bank = Bank::open("modified");
    let (call, id) = bank.held(driver, "held", READ);
    let sql = "SELECT id, name FROM accounts ORDER BY id LIMIT 2";
    let output = bank.site.cli_as("alice", &["modify", &id, "--set", &format!("sql={sql}"), "--reason", "two will do"]);
    assert!(output.status.success(), "{}", shown(&output));
    let seen = call.wait();
    assert_eq!(rows(&seen), Some(2), "{seen}");
    assert!(seen["notices"].to_string().contains("LIMIT 2"), "the agent must be told what ran: {seen}");
    is_in_step(&seen);
    let hold = bank.site.hold(&id);
    assert_eq!(hold["modified"], json!([{"pointer": "/sql", "before": READ, "after": sql}]));
    bank.site.verify();
}

#[test]
fn approved_runs_once_with_every_driver() {
    DRIVERS.into_iter().for_each(approved);
}

#[test]
fn denied_and_expired_are_errors_of_their_own_with_every_driver() {
    DRIVERS.into_iter().for_each(denied);
}

#[test]
fn a_transaction_goes_on_or_is_aborted_with_every_driver() {
    DRIVERS.into_iter().for_each(in_a_transaction);
}

#[test]
fn modified_runs_as_the_approver_wrote_it_with_every_driver() {
    DRIVERS.into_iter().for_each(modified);
}

#[test]
fn a_copy_out_waits_and_can_be_narrowed() {
    let text = |driver| match driver {
        // It says COPY by itself.
        Driver::Asyncpg => "SELECT * FROM accounts",
        _ => "COPY (SELECT * FROM accounts) TO STDOUT",
    };
    for driver in [Driver::Asyncpg, Driver::NodePostgres, Driver::Psycopg] {
        let bank = Bank::open("copied");
        for (verdict, rows) in [("allow", 10), ("modify", 3)] {
            let (call, id) = bank.held(driver, "held_copy_out", text(driver));
            let sql = bank.site.hold(&id)["actions"][0]["parameters"]["sql"].as_str().unwrap().to_owned();
            let narrowed = format!("sql={}", sql.replace("accounts", "accounts LIMIT 3"));
            let output = match verdict {
                "allow" => bank.site.cli_as("alice", &["approve", &id, "--reason", "fine"]),
                _ => bank.site.cli_as("alice", &["modify", &id, "--set", &narrowed, "--reason", "fine"]),
            };
            assert!(output.status.success(), "{}", shown(&output));
            let seen = call.wait();
            assert_eq!(seen["result"], json!(rows), "{driver:?}: {seen}");
            is_in_step(&seen);
            let outcome = bank.site.wait_for_record(&id, "action.outcome");
            assert_eq!(outcome["rows"], json!(rows), "{driver:?}: {outcome}");
        }
        let (call, id) = bank.held(driver, "held_copy_out", text(driver));
        bank.site.decide("alice", &id, "deny");
        let seen = call.wait();
        assert_eq!(error(&seen).0, "42501", "{driver:?}: {seen}");
        is_in_step(&seen);
        bank.site.verify();
    }
}

/// The rows come only after the server asked for them, which is after the approval.
#[test]
fn a_copy_in_waits() {
    let bank = Bank::open("copied_in");
    let rules = format!(
        "{RULES}  - id: loading\n    match: {{ action: [postgres:copy_in] }}\n    decision: hold\n    approvers: [security]\n"
    );
    let site = site(&bank.database, APP, &rules);
    let door = Door::through(&site, "bot", &bank.database);
    for (verdict, accounts) in [("allow", 20), ("deny", 20)] {
        let call = door.start(Driver::Psycopg, "held_copy_in", "COPY accounts FROM STDIN");
        let id = site.pending(1).remove(0);
        site.decide("alice", &id, verdict);
        let seen = call.wait();
        match verdict {
            "deny" => assert_eq!(error(&seen).0, "42501", "{seen}"),
            _ => assert_eq!(seen["result"], "copied", "{seen}"),
        }
        is_in_step(&seen);
        assert_eq!(bank.accounts(), accounts);
    }
    site.verify();
}

/// Data that a client sends before it is asked for, in one message longer than any that is named.
#[test]
fn a_huge_copy_waits_or_goes_by() {
    let rules = "rules:\n  - id: loading\n    match: { action: [postgres:copy_in] }\n    decision: hold\n    approvers: [security]\n";
    let bank = Bank::under("huge", rules);
    let rows: String = (1_000_000..1_900_000).map(|id| format!("{id}\tcustomer {id}\n")).collect();
    assert!(rows.len() > 17 << 20);
    for (verdict, tags, accounts) in [("allow", "GCZ", 900_010), ("deny", "EZ", 900_010)] {
        let sql = format!("COPY accounts FROM STDIN /* {verdict} */");
        let batch = Batch::new().query(&sql).raw(b'd', rows.as_bytes()).raw(b'c', b"").query("SELECT 'next'");
        let mut session = Frontend::connect(&bank.door);
        let mut writer = session.writer();
        let writing = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &batch.0).unwrap());
        let id = bank.site.pending(1).remove(0);
        bank.site.decide("alice", &id, verdict);
        let answers = session.read_to(b'Z');
        let seen: String = answers.iter().filter(|it| it.tag != b'N').map(|it| char::from(it.tag)).collect();
        assert_eq!(seen, tags, "{verdict}");
        let next = session.read_to(b'Z');
        assert!(next.iter().any(|it| it.body.ends_with(b"next")), "{verdict}: {next:?}");
        writing.join().unwrap();
        assert_eq!(bank.accounts(), accounts, "{verdict}");
    }
    bank.site.verify();
}

/// A client takes the end of its cancel connection for the word that what it sends next is not meant.
#[test]
fn a_cancel_request_is_over_when_its_connection_is() {
    let bank = Bank::open("cancels");
    let mut session = Frontend::connect(&bank.door);
    for _ in 0..20 {
        session.send(&Batch::new().query("SELECT pg_sleep(30)").0);
        let asleep = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'",
            bank.database.name
        );
        wait_for("it to sleep", || (bank.database.sql(&asleep) == "1").then_some(()));
        session.cancel(&bank.door);
        let answers = session.read_to(b'Z');
        assert!(answers.iter().any(|it| it.field(b'C').as_deref() == Some("57014")), "{answers:?}");
        let next = session.ask(Batch::new().query("SELECT 'next'"));
        assert!(next.iter().any(|it| it.body.ends_with(b"next")), "{next:?}");
        // With nothing to end it ends nothing, now or later.
        session.cancel(&bank.door);
        let next = session.ask(Batch::new().query("SELECT 'next'"));
        assert!(next.iter().any(|it| it.body.ends_with(b"next")), "{next:?}");
    }
}

/// What was approved is read to its end in as many pieces as the driver likes, and is one hold.
#[test]
fn a_cursor_is_held_once() {
    for (driver, scenario) in [
        (Driver::Asyncpg, "held_cursor"),
        (Driver::NodePostgres, "held_cursor"),
        (Driver::NodePostgres, "held_stream"),
        (Driver::Psycopg, "held_cursor"),
    ] {
        let bank = Bank::open("cursor");
        let (call, id) = bank.held(driver, scenario, "SELECT id FROM accounts ORDER BY id");
        bank.site.decide("alice", &id, "allow");
        let seen = call.wait();
        assert_eq!(seen["result"], json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), "{driver:?}: {seen}");
        is_in_step(&seen);
        assert_eq!(bank.site.holds().len(), 1, "{driver:?}");
    }
}

#[test]
fn bound_values_are_shown_and_kept() {
    // asyncpg asks the server for the types and binds in binary: its values are shown in base64 yet.
    for driver in [Driver::NodePostgres, Driver::Psycopg] {
        let bank = Bank::open("bound");
        let text = match driver {
            Driver::Psycopg => "DELETE FROM accounts WHERE id = %s RETURNING id",
            _ => "DELETE FROM accounts WHERE id = $1 RETURNING id",
        };
        let (call, id) = bank.held(driver, "held_with_values", text);
        let parameters = bank.site.hold(&id)["actions"][0]["parameters"].clone();
        assert!(parameters["params"].to_string().contains('7'), "{driver:?}: {parameters}");
        bank.site.decide("alice", &id, "allow");
        let seen = call.wait();
        assert_eq!(rows(&seen), Some(1), "{driver:?}: {seen}");
        is_in_step(&seen);
        assert_eq!(bank.database.sql("SELECT count(*) FROM accounts WHERE id = 7"), "0");
    }
}

/// What was sent before anybody decided runs in its order, or is skipped up to its Sync.
#[test]
fn what_is_pipelined_behind_a_hold_waits_in_order() {
    let bank = Bank::open("pipelined");
    let (call, id) =
        bank.held(Driver::Psycopg, "held_in_pipeline", "DELETE FROM accounts WHERE id = 1 RETURNING 'held'");
    bank.site.decide("alice", &id, "allow");
    let seen = call.wait();
    let expected = json!([
        ["TUPLES_OK", "before"],
        ["TUPLES_OK", "held"],
        ["TUPLES_OK", "behind"],
        ["PIPELINE_SYNC", ""],
        ["TUPLES_OK", "after"],
        ["PIPELINE_SYNC", ""]
    ]);
    assert_eq!(seen["result"], expected, "{seen}");
    is_in_step(&seen);
    assert_eq!(bank.accounts(), 9);

    let (call, id) =
        bank.held(Driver::Psycopg, "held_in_pipeline", "DELETE FROM accounts WHERE id = 2 RETURNING 'held'");
    bank.site.decide("alice", &id, "deny");
    let seen = call.wait();
    let expected = json!([
        ["TUPLES_OK", "before"],
        ["FATAL_ERROR", "42501"],
        ["PIPELINE_ABORTED", ""],
        ["PIPELINE_SYNC", ""],
        ["TUPLES_OK", "after"],
        ["PIPELINE_SYNC", ""]
    ]);
    assert_eq!(seen["result"], expected, "{seen}");
    is_in_step(&seen);
    assert_eq!(bank.accounts(), 9);
    bank.site.verify();
}

/// Nothing of a string runs before all of it may.
#[test]
fn several_statements_wait_as_one() {
    let bank = Bank::open("several");
    let text = "INSERT INTO accounts VALUES (11, 'new'); DELETE FROM accounts WHERE id = 1; SELECT 'last'";
    let (call, id) = bank.held(Driver::Psycopg2, "held", text);
    assert_eq!(bank.accounts(), 10);
    bank.site.decide("alice", &id, "deny");
    assert_eq!(error(&call.wait()).0, "42501");
    assert_eq!(bank.accounts(), 10);
    // Unchanged, it would get the same answer without anybody being asked.
    let (call, id) = bank.held(Driver::Psycopg2, "held", &text.replace("'last'", "'last' AS said"));
    bank.site.decide("alice", &id, "allow");
    assert_eq!(call.wait()["result"], json!([["last"]]));
    assert_eq!(bank.database.sql("SELECT min(id), max(id) FROM accounts"), "2|11");
    bank.site.verify();
}

#[test]
fn a_cancel_request_ends_the_hold_and_nothing_else() {
    let bank = Bank::open("cancelled");
    let seen = bank.door.start(Driver::Psycopg, "held_then_cancelled", DELETE).wait();
    assert_eq!(error(&seen).0, "57014", "{seen}");
    is_in_step(&seen);
    let seen = bank.door.start(Driver::Asyncpg, "held_then_timed_out", DELETE).wait();
    assert_eq!(seen["result"], "cancelled", "{seen}");
    is_in_step(&seen);
    assert_eq!(bank.accounts(), 10);
    for hold in bank.site.holds() {
        assert_eq!(hold["state"], "withdrawn", "{hold}");
        assert_eq!(bank.site.verdict("alice", hold["id"].as_str().unwrap(), "allow", "late").status, 410);
    }
    assert_eq!(bank.accounts(), 10);
    bank.site.verify();
}

#[test]
fn psql_interrupted_cancels_its_hold() {
    let bank = Bank::open("interrupted");
    let child = bank.door.psql(&["-c", DELETE, "-c", "SELECT 'next'"]).spawn().unwrap();
    let id = bank.site.pending(1).remove(0);
    let call = Call::new(child);
    assert!(std::process::Command::new("kill").args(["-INT", &call.id().to_string()]).status().unwrap().success());
    let output = call.output();
    let said = shown(&output);
    assert!(said.contains("57014") || said.contains("cancel"), "{said}");
    assert!(said.contains(&id), "the notice was not shown: {said}");
    bank.site.wait_for_state(&id, "withdrawn");
    assert_eq!(bank.accounts(), 10);
}

#[test]
fn a_client_that_is_gone_withdraws_its_hold() {
    for driver in DRIVERS {
        let bank = Bank::open("withdrawn");
        let (call, id) = bank.held(driver, "held", DELETE);
        call.kill();
        bank.site.wait_for_state(&id, "withdrawn");
        assert_eq!(bank.site.verdict("alice", &id, "allow", "late").status, 410, "{driver:?}");
        bank.site.wait_for_record(&id, "action.withdrawn");
        // Its session upstream is gone, too.
        let sessions = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'app' AND query LIKE '%accounts%'",
            bank.database.name
        );
        wait_for("the session upstream to end", || (bank.database.sql(&sessions) == "0").then_some(()));
        assert_eq!(bank.accounts(), 10);
    }
}

/// node-postgres gives up by itself and says good-bye behind its own query.
#[test]
fn a_good_bye_behind_a_hold_withdraws_it() {
    let bank = Bank::open("good_bye");
    let call = bank.door.start(Driver::NodePostgres, "held_then_left", DELETE);
    let id = bank.site.pending(1).remove(0);
    let seen = call.wait();
    assert!(seen["result"]["message"].as_str().unwrap().contains("timeout"), "{seen}");
    bank.site.wait_for_state(&id, "withdrawn");
    assert_eq!(bank.accounts(), 10);
}

/// Other sessions of the same agent do not notice.
#[test]
fn a_hold_stops_no_other_session() {
    let bank = Bank::open("others");
    let (call, id) = bank.held(Driver::Psycopg, "held", DELETE);
    for driver in DRIVERS {
        let seen = bank.door.start(driver, "held", "SELECT 42").wait();
        assert!(seen["result"].to_string().contains("42"), "{driver:?}: {seen}");
    }
    bank.site.decide("alice", &id, "allow");
    assert_eq!(rows(&call.wait()), Some(3));
}

/// Nothing runs because of a crash, and what was asked can be asked again.
#[test]
fn a_crash_during_a_hold_runs_nothing() {
    let mut bank = Bank::open("crashed");
    let (call, _) = bank.held(Driver::Psycopg, "held", DELETE);
    bank.site.kill();
    let seen = call.wait();
    assert!(rows(&seen).is_none(), "{seen}");
    assert_eq!(bank.accounts(), 10);
    bank.site.serve();
    let door = Door { port: bank.site.postgres.port(), ..bank.door.clone() };
    let call = door.start(Driver::Psycopg, "held", DELETE);
    let id = bank.site.pending(1).remove(0);
    assert_eq!(bank.accounts(), 10);
    bank.site.decide("alice", &id, "allow");
    assert_eq!(rows(&call.wait()), Some(3));
    assert_eq!(bank.accounts(), 7);
    bank.site.verify();
}

/// An approval is for what a name stood for when it was asked about: another session's statement of that name
/// is another question.
#[test]
fn an_approval_is_not_for_another_statement_of_the_same_name() {
    let mut bank = Bank::open("renamed");
    bank.database.sql("CREATE TABLE leftovers (id int); ALTER TABLE leftovers OWNER TO app");
    let prepare = |body: &str| Batch::new().query(&format!("PREPARE x AS DELETE FROM {body}"));
    let run = Batch::new().query("EXECUTE x");
    let prepared = |bank: &Bank, door: &Door, body: &str| {
        let mut session = Frontend::connect(door);
        session.send(&prepare(body).0);
        let waiting = bank.site.pending(1).remove(0);
        bank.site.decide("alice", &waiting, "allow");
        session.read_to(b'Z');
        session
    };
    let mut session = prepared(&bank, &bank.door, "leftovers");
    session.send(&run.0);
    let harmless = bank.site.pending(1).remove(0);
    bank.site.kill();
    bank.site.serve();
    let door = Door { port: bank.site.postgres.port(), ..bank.door.clone() };
    let mut session = prepared(&bank, &door, "accounts");
    bank.site.decide("alice", &harmless, "allow");
    session.send(&run.0);
    // Asked about anew, and nobody says yes.
    let asked = bank.site.pending(1).remove(0);
    assert_ne!(asked, harmless);
    assert_eq!(bank.accounts(), 10);
    bank.site.decide("alice", &asked, "deny");
    let answers = session.read_to(b'Z');
    assert!(answers.iter().any(|it| it.tag == b'E'), "{answers:?}");
    assert_eq!(bank.accounts(), 10);
    bank.site.verify();
}

/// Many sessions wait at once, each for its own decision.
#[test]
fn forty_sessions_wait_at_once() {
    let bank = Bank::open("crowd");
    bank.database.sql("INSERT INTO accounts SELECT g, 'more' FROM generate_series(11, 40) g");
    let mut sessions = Vec::new();
    for account in 1..=40 {
        let mut session = Frontend::connect(&bank.door);
        session.send(&Batch::new().query(&format!("DELETE FROM accounts WHERE id = {account} RETURNING id")).0);
        sessions.push(session);
    }
    let ids = bank.site.pending(40);
    assert_eq!(bank.accounts(), 40);
    for (index, id) in ids.iter().enumerate() {
        bank.site.decide("alice", id, if index % 2 == 0 { "allow" } else { "deny" });
    }
    let mut deleted = 0;
    for (account, mut session) in (1..=40).zip(sessions) {
        let answers = session.read_to(b'Z');
        match answers.iter().find(|message| matches!(message.tag, b'D' | b'E')) {
            // Nobody gets another's row.
            Some(row) if row.tag == b'D' => {
                assert!(row.body.ends_with(format!("{account}").as_bytes()), "{account}: {row:?}");
                deleted += 1;
            }
            Some(error) => assert_eq!(error.field(b'C').as_deref(), Some("42501")),
            None => panic!("{answers:?}"),
        }
        let next = session.ask(Batch::new().query("SELECT 'next'"));
        assert!(next.iter().any(|message| message.body.ends_with(b"next")), "{next:?}");
    }
    assert_eq!((deleted, bank.accounts()), (20, 20));
    bank.site.verify();
}

/// Also of a client that does not wait for it.
#[test]
fn what_ran_is_recorded_when_its_client_has_left() {
    let bank = Bank::open("left");
    let mut session = Frontend::connect(&bank.door);
    let slow = "DELETE FROM accounts WHERE id = 1 AND pg_sleep(1) IS NOT NULL";
    session.send(&Batch::new().parse("", slow).bind("", "", &[]).execute("", 0).raw(b'H', b"").0);
    let id = bank.site.pending(1).remove(0);
    bank.site.decide("alice", &id, "allow");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DELETE%pg_sleep%' AND state = 'active'";
    wait_for("the statement", || (bank.database.sql(running) == "1").then_some(()));
    session.send(&Batch::new().raw(b'X', b"").0);
    let outcome = bank.site.wait_for_record(&id, "action.outcome");
    assert_eq!(outcome["outcome"], "answered", "{outcome}");
    bank.site.wait_for_state(&id, "executed");
    bank.site.verify();
}
