//! A bound statement that its approver writes anew: what runs, what the client sees of it, and that the
//! session is as it was.

use serde_json::json;

use super::holding::Bank;
use crate::support::driver::Driver;
use crate::support::frontend::{Batch, Frontend, Message};
use crate::support::site::shown;

const READ: &str = "SELECT id, name FROM accounts WHERE id > $1 ORDER BY id";

fn modify(bank: &Bank, id: &str, sql: &str) {
    let output = bank.site.cli_as("alice", &["modify", id, "--set", &format!("sql={sql}"), "--reason", "less"]);
    assert!(output.status.success(), "{}", shown(&output));
}

/// The held statement's id.
#[track_caller]
fn sent(bank: &Bank, session: &mut Frontend, batch: &Batch) -> String {
    session.send(&batch.0);
    bank.site.pending(1).remove(0)
}

fn tags(messages: &[Message]) -> String {
    messages.iter().filter(|it| it.tag != b'N').map(|it| char::from(it.tag)).collect()
}

#[track_caller]
fn is_in_step(bank: &Bank, session: &mut Frontend) {
    let answers = session.ask(Batch::new().query("SELECT 'next'"));
    assert_eq!(tags(&answers), "TDCZ", "{answers:?}");
    // Nothing of countersign's own stays behind.
    let left =
        session.ask(Batch::new().query("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'counter%'"));
    assert!(left.iter().any(|it| it.tag == b'D' && it.body.ends_with(b"0")), "{left:?}");
    bank.site.verify();
}

#[test]
fn a_bound_statement_runs_as_the_approver_wrote_it_with_the_same_values() {
    let bank = Bank::open("changed");
    let mut session = Frontend::connect(&bank.door);
    let run = || Batch::new().bind("", "s", &["3"]).execute("", 0).sync();
    session.ask(Batch::new().parse("s", READ).describe(b'S', "s").sync());
    let id = sent(&bank, &mut session, &run());
    let sql = format!("{READ} LIMIT 2");
    modify(&bank, &id, &sql);
    let answers = session.read_to(b'Z');
    assert_eq!(tags(&answers), "2DDCZ", "{answers:?}");
    assert!(answers.iter().any(|it| it.tag == b'D' && it.body.ends_with(b"customer 4")), "{answers:?}");
    let notice = answers.iter().rfind(|it| it.tag == b'N').unwrap();
    assert!(notice.field(b'D').unwrap().contains("LIMIT 2"), "{notice:?}");
    assert_eq!(bank.site.hold(&id)["modified"], json!([{"pointer": "/sql", "before": READ, "after": sql}]));
    let outcome = bank.site.wait_for_record(&id, "action.outcome");
    assert_eq!((&outcome["rows"], &outcome["outcome"]), (&json!(2), &json!("answered")), "{outcome}");

    // The client's own statement is what it was.
    let id = sent(&bank, &mut session, &run());
    bank.site.decide("alice", &id, "allow");
    assert_eq!(tags(&session.read_to(b'Z')), "2DDDDDDDCZ");
    is_in_step(&bank, &mut session);
}

/// Suspended and gone on with, described as a portal, and under names of the client's own.
#[test]
fn a_changed_portal_is_the_clients_to_use() {
    let bank = Bank::open("changed_portal");
    let mut session = Frontend::connect(&bank.door);
    session.ask(Batch::new().query("BEGIN"));
    let run = Batch::new().parse("", READ).bind("p", "", &["0"]).describe(b'P', "p").execute("p", 1).sync();
    let id = sent(&bank, &mut session, &run);
    // It was told nothing of the columns yet, and is told those of what runs.
    modify(&bank, &id, "SELECT id FROM accounts WHERE id > $1 ORDER BY id LIMIT 2");
    assert_eq!(tags(&session.read_to(b'Z')), "12TDsZ");
    let rest = session.ask(Batch::new().execute("p", 0).close(b'P', "p").sync());
    assert_eq!(tags(&rest), "DC3Z", "{rest:?}");
    session.ask(Batch::new().query("COMMIT"));
    is_in_step(&bank, &mut session);
}

/// What a client counts on must stay, or nothing runs.
#[test]
fn other_columns_than_the_client_was_told_end_it() {
    let bank = Bank::open("unfit");
    let mut session = Frontend::connect(&bank.door);
    session.ask(Batch::new().parse("s", READ).sync());
    for sql in [
        "SELECT id FROM accounts WHERE id > $1",
        "SELECT id AS other, name FROM accounts WHERE id > $1",
        "SELECT id::bigint AS id, name FROM accounts WHERE id > $1",
        "SELECT id, name FROM accounts WHERE id > $1 AND id < $2",
    ] {
        let id = sent(&bank, &mut session, &Batch::new().bind("", "s", &["0"]).execute("", 0).sync());
        modify(&bank, &id, sql);
        let answers = session.read_to(b'Z');
        assert_eq!(tags(&answers), "EZ", "{sql}: {answers:?}");
        let error = answers.iter().find(|it| it.tag == b'E').unwrap();
        assert_eq!(error.field(b'C').unwrap(), "0A000", "{error:?}");
        assert!(error.field(b'D').unwrap().contains("unfit"), "{error:?}");
        bank.site.wait_for_state(&id, "unfit");
        assert_eq!(bank.site.wait_for_record(&id, "action.outcome")["outcome"], "unfit");
        is_in_step(&bank, &mut session);
        // So that the next is asked about anew.
        session.ask(Batch::new().close(b'S', "s").parse("s", &format!("{READ} /* not {} */", sql.len())).sync());
    }
}

/// The approver is told at once what can never take the statement's place.
#[test]
fn another_kind_of_answer_is_refused_to_the_approver() {
    let bank = Bank::open("kinds");
    for (sent_sql, changes) in [
        (
            "SELECT id FROM accounts",
            &[
                "DELETE FROM accounts",
                "COPY accounts TO STDOUT",
                "SELECT 1; SELECT 2",
                "SELEC",
                "",
                "SELECT id INTO x FROM accounts",
            ][..],
        ),
        (
            "DELETE FROM accounts WHERE id = 1 RETURNING id",
            &["DELETE FROM accounts WHERE id = 1", "DROP TABLE accounts"][..],
        ),
        (
            "COPY accounts TO STDOUT",
            &["COPY accounts FROM STDIN", "SELECT id FROM accounts", "COPY accounts TO '/tmp/x'"][..],
        ),
    ] {
        let mut session = Frontend::connect(&bank.door);
        let id = sent(&bank, &mut session, &Batch::new().query(sent_sql));
        for sql in changes {
            let output = bank.site.cli_as("alice", &["modify", &id, "--set", &format!("sql={sql}"), "--reason", "x"]);
            assert!(!output.status.success(), "{sent_sql}: {sql}: {}", shown(&output));
        }
        bank.site.decide("alice", &id, "deny");
        assert_eq!(tags(&session.read_to(b'Z')), "EZ");
    }
    assert_eq!(bank.accounts(), 10);
    bank.site.verify();
}

/// The server refuses what the approver wrote: the client gets the server's words, in its place in the
/// pipeline.
#[test]
fn a_change_that_the_server_refuses_fails_as_the_statement_would() {
    let bank = Bank::open("refused");
    let mut session = Frontend::connect(&bank.door);
    let run = Batch::new().parse("", READ).bind("", "", &["0"]).execute("", 0).sync().query("SELECT 'behind'");
    let id = sent(&bank, &mut session, &run);
    modify(&bank, &id, "SELECT id, nam FROM accounts WHERE id > $1");
    let answers = session.read_to(b'Z');
    assert_eq!(tags(&answers), "1EZ", "{answers:?}");
    assert_eq!(answers.iter().find(|it| it.tag == b'E').unwrap().field(b'C').unwrap(), "42703");
    assert_eq!(tags(&session.read_to(b'Z')), "TDCZ");
    assert_eq!(bank.site.wait_for_record(&id, "action.outcome")["sqlstate"], "42703");
    is_in_step(&bank, &mut session);

    // The same of a statement that was prepared before, where nothing is between it and the last Sync.
    session.ask(Batch::new().parse("s", &READ.replace("id,", "id, id AS twice,")).sync());
    let id = sent(&bank, &mut session, &Batch::new().bind("", "s", &["0"]).execute("", 0).sync());
    modify(&bank, &id, "SELECT id, id AS twice, nam FROM accounts WHERE id > $1");
    assert_eq!(tags(&session.read_to(b'Z')), "EZ");
    is_in_step(&bank, &mut session);
}

#[test]
fn bound_values_cannot_be_changed() {
    let bank = Bank::open("kept_values");
    let mut session = Frontend::connect(&bank.door);
    let id = sent(&bank, &mut session, &Batch::new().parse("", READ).bind("", "", &["9"]).execute("", 0).sync());
    let output = bank.site.cli_as("alice", &["modify", &id, "--set", "params=[\"0\"]", "--reason", "x"]);
    assert!(!output.status.success(), "{}", shown(&output));
    bank.site.decide("alice", &id, "allow");
    assert_eq!(tags(&session.read_to(b'Z')), "12DCZ");
}

#[test]
fn a_client_cannot_name_the_statement_of_a_change() {
    let bank = Bank::open("private");
    let name = "countersign: changed";
    for batch in [
        Batch::new().parse(name, "SELECT 1"),
        Batch::new().bind("", name, &[]),
        Batch::new().describe(b'S', name),
        Batch::new().close(b'S', name),
    ] {
        let mut session = Frontend::connect(&bank.door);
        session.send(&batch.sync().0);
        let error = session.read_to(b'E').pop().unwrap();
        assert_eq!(error.field(b'C').unwrap(), "08P01", "{error:?}");
        assert!(session.try_read().is_none());
    }
}

/// The values of real drivers, in text and in binary, and statements that were described before.
#[test]
fn drivers_bind_and_their_approver_narrows() {
    for driver in [Driver::Asyncpg, Driver::NodePostgres, Driver::Psycopg] {
        let bank = Bank::open("narrowed");
        let text = match driver {
            Driver::Psycopg => "DELETE FROM accounts WHERE id >= %s RETURNING id",
            _ => "DELETE FROM accounts WHERE id >= $1 RETURNING id",
        };
        let call = bank.door.start(driver, "held_with_values", text);
        let id = bank.site.pending(1).remove(0);
        modify(&bank, &id, "DELETE FROM accounts WHERE id >= $1 AND id < 9 RETURNING id");
        let seen = call.wait();
        assert_eq!(seen["result"].as_array().map(Vec::len), Some(2), "{driver:?}: {seen}");
        assert!(seen["next"].to_string().contains("next"), "{driver:?}: {seen}");
        assert_eq!(bank.accounts(), 8, "{driver:?}");
        bank.site.verify();
    }
}

/// Decided when it is executed, by the rules of that moment; also what was begun before.
#[test]
fn what_was_allowed_before_a_rule_is_asked_about_again() {
    let bank = Bank::under("again", super::NO_RULE);
    bank.database.sql("INSERT INTO accounts SELECT g, 'more' FROM generate_series(11, 20) g");
    let mut session = Frontend::connect(&bank.door);
    session.ask(Batch::new().query("BEGIN"));
    session.ask(Batch::new().query("DECLARE c CURSOR FOR SELECT id FROM accounts ORDER BY id"));
    // One that is bound and was not executed, and one that is suspended.
    let prepared = Batch::new().parse("s", READ).bind("bound", "s", &["0"]).bind("begun", "s", &["0"]);
    let answers = session.ask(prepared.execute("begun", 1).sync());
    assert_eq!(tags(&answers), "122DsZ", "{answers:?}");
    // With the same rules they go on, and a cursor too.
    assert_eq!(tags(&session.ask(Batch::new().execute("begun", 1).sync())), "DsZ");
    assert_eq!(tags(&session.ask(Batch::new().query("FETCH 1 FROM c"))), "TDCZ");

    let rule = "rules:\n  - id: late\n    match: { action: ['postgres:select', 'postgres:declare_cursor'], resource: '*.accounts' }\n    decision: hold\n    approvers: [security]\n";
    std::fs::write(bank.site.data().join("rules/more.yaml"), rule).unwrap();
    bank.site.signal("HUP");
    crate::support::wait_for("the new rule", || {
        let mut other = Frontend::connect(&bank.door);
        other.send(&Batch::new().query("SELECT name FROM accounts").0);
        let first = other.read();
        (first.tag == b'N').then_some(())
    });
    crate::support::wait_for("it to be withdrawn", || {
        bank.site.holds().iter().all(|hold| hold["open"] == false).then_some(())
    });
    for (batch, tags_allowed) in [
        (Batch::new().execute("bound", 1).sync(), "DsZ"),
        (Batch::new().execute("begun", 1).sync(), "DsZ"),
        (Batch::new().query("FETCH 1 FROM c"), "TDCZ"),
    ] {
        let id = sent(&bank, &mut session, &batch);
        bank.site.decide("alice", &id, "allow");
        let answers = session.read_to(b'Z');
        assert_eq!(tags(&answers), tags_allowed, "{answers:?}");
    }
    // Allowed under these rules, they go on.
    assert_eq!(tags(&session.ask(Batch::new().execute("bound", 1).sync())), "DsZ");
    assert_eq!(tags(&session.ask(Batch::new().query("FETCH 1 FROM c"))), "TDCZ");

    // Denied, nothing of it comes, and the transaction is as after any error.
    std::fs::write(bank.site.data().join("rules/more.yaml"), rule.replace("late", "later")).unwrap();
    bank.site.signal("HUP");
    let id = crate::support::wait_for("the rule of another name", || {
        session.send(&Batch::new().execute("begun", 1).sync().0);
        let first = session.read();
        if first.tag == b'N' {
            return Some(bank.site.pending(1).remove(0));
        }
        session.read_to(b'Z');
        None
    });
    bank.site.decide("alice", &id, "deny");
    let answers = session.read_to(b'Z');
    assert!(tags(&answers) == "EZ" && answers.last().unwrap().body == b"E", "{answers:?}");
    session.ask(Batch::new().query("ROLLBACK"));
    bank.site.verify();
}

/// What hides in a statement can be narrowed with it, and nothing new can hide in it.
#[test]
fn a_statement_with_hidden_parts_is_changed_like_another() {
    let bank = Bank::open("hidden");
    bank.database
        .sql("CREATE FUNCTION public.first_name() RETURNS text LANGUAGE sql AS 'SELECT name FROM accounts LIMIT 1'");
    let mut session = Frontend::connect(&bank.door);
    let moved = "WITH gone AS (DELETE FROM accounts WHERE id > 1 RETURNING id) SELECT count(*) FROM gone";
    let id = sent(&bank, &mut session, &Batch::new().query(moved));
    assert!(bank.site.hold(&id)["actions"].as_array().unwrap().len() > 1);
    for more in [
        "WITH gone AS (DELETE FROM accounts WHERE id > 1 RETURNING id), new AS (INSERT INTO accounts VALUES (99, 'x')) SELECT count(*) FROM gone",
        "WITH gone AS (DELETE FROM accounts RETURNING id) SELECT pg_read_file('/etc/passwd')",
    ] {
        let output = bank.site.cli_as("alice", &["modify", &id, "--set", &format!("sql={more}"), "--reason", "x"]);
        assert!(!output.status.success(), "{more}: {}", shown(&output));
    }
    modify(&bank, &id, "WITH gone AS (DELETE FROM accounts WHERE id > 8 RETURNING id) SELECT count(*) FROM gone");
    let answers = session.read_to(b'Z');
    assert_eq!(tags(&answers), "TDCZ", "{answers:?}");
    assert_eq!(bank.accounts(), 8);

    let reading = "SELECT name, first_name() FROM accounts WHERE id > $1";
    let id = sent(&bank, &mut session, &Batch::new().parse("", reading).bind("", "", &["2"]).execute("", 0).sync());
    modify(&bank, &id, &format!("{reading} ORDER BY id LIMIT 1"));
    assert_eq!(tags(&session.read_to(b'Z')), "12DCZ");
    is_in_step(&bank, &mut session);
}
