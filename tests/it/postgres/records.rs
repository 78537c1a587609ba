//! What the log says of statements, what it does not, and how the rest is proven.

use std::process::Command;

use serde_json::{Value, json};

use super::{NO_RULE, PASS};
use crate::support::driver::Door;
use crate::support::frontend::{Batch, Frontend};
use crate::support::postgres::{APP, cluster};
use crate::support::site::{Setup, Site, shown};
use crate::support::wait_for;

const SECRET: &str = "sw0rdfish-4711";
const HELD: &str = "\
rules:
  - id: reading
    match: { action: [postgres:select] }
    decision: hold
    approvers: [security]
";

/// The record of the statement that is redacted to this text.
#[track_caller]
fn record_of(site: &Site, statement: &str) -> Value {
    wait_for("the statement's record", || site.records().into_iter().find(|record| record["statement"] == statement))
}

fn audit_text(site: &Site) -> String {
    site.records().iter().map(|record| format!("{record}\n")).collect()
}

#[test]
fn a_statement_that_no_rule_matches_is_recorded_without_its_constants() {
    let database = cluster().database("recorded");
    let site = super::site(&database, APP, NO_RULE);
    let mut session = Frontend::connect(&Door::through(&site, "bot", &database));
    let text = format!("SELECT '{SECRET}' /* {SECRET} */, 42");
    session.ask(Batch::new().query(&text));
    session.ask(Batch::new().parse("", "SELECT $1::text || 'x'").bind("", "", &[SECRET]).execute("", 0).sync());
    session.ask(Batch::new().query(&format!("SELECT '{SECRET}' FROM FROM")));

    let record = record_of(&site, "SELECT $1 , $2");
    assert_eq!((&record["type"], &record["outcome"]), (&json!("action.passed"), &json!("answered")), "{record}");
    assert_eq!((&record["rows"], &record["tag"]), (&json!(1), &json!("SELECT 1")), "{record}");
    assert_eq!(record["statement_bytes"], text.len(), "{record}");
    let record = record_of(&site, "SELECT $1::text || $2");
    assert_eq!(record["values"], json!([{"bytes": SECRET.len(), "type": 0}]), "{record}");
    assert_eq!(record["values_count"], 1, "{record}");
    let unread = wait_for("the record of what could not be read", || {
        site.records().into_iter().find(|record| record["action"] == "postgres:unknown")
    });
    assert_eq!((&unread["statement"], &unread["sqlstate"]), (&Value::Null, &json!("42601")), "{unread}");
    assert!(!audit_text(&site).contains(SECRET));
    assert!(!site.log().contains(SECRET));
    // What was not kept is proven by who still has it.
    let file = site.data().join("text");
    std::fs::write(&file, &text).unwrap();
    let id = record_of(&site, "SELECT $1 , $2")["action_id"].as_str().unwrap().to_owned();
    assert!(!site.cli(&["audit", "open", &id]).status.success());
    assert!(site.done(&["audit", "open", &id, "--text", file.to_str().unwrap()]).contains(SECRET));
    std::fs::write(&file, "SELECT 'another', 42").unwrap();
    assert_eq!(site.cli(&["audit", "open", &id, "--text", file.to_str().unwrap()]).status.code(), Some(1));
    site.verify();
}

#[test]
fn a_held_statement_is_shown_whole_recorded_redacted_and_proven() {
    let database = cluster().database("proven");
    let site = super::site(&database, APP, HELD);
    let door = Door::through(&site, "bot", &database);
    let text = format!("SELECT '{SECRET}'");
    let mut session = Frontend::connect(&door);
    session.send(&Batch::new().query(&text).0);
    let id = site.pending(1).remove(0);
    assert_eq!(site.hold(&id)["actions"][0]["parameters"]["sql"], text);
    site.decide("alice", &id, "allow");
    session.read_to(b'Z');
    let outcome = site.wait_for_record(&id, "action.outcome");
    assert!(outcome["held_us"].as_u64().is_some_and(|time| time > 0), "{outcome}");
    let forward = site.wait_for_record(&id, "action.forward");
    assert_eq!(forward["statement"], "SELECT $1");
    assert_eq!(forward["actions"][0]["parameters"], json!({"sql": "SELECT $1"}));
    assert_eq!(forward["body_sha256"], Value::Null);

    // An approver's text is recorded and proven in the same way.
    let batch = Batch::new().query(&format!("SELECT '{SECRET}' || g FROM generate_series(1, 9) g"));
    session.send(&batch.0);
    let other = site.pending(1).remove(0);
    let narrowed = format!("sql=SELECT '{SECRET}' || g FROM generate_series(1, 2) g LIMIT 2");
    let output = site.cli_as("alice", &["modify", &other, "--set", &narrowed, "--reason", "two"]);
    assert!(output.status.success(), "{}", shown(&output));
    let rows = session.read_to(b'Z').into_iter().filter(|message| message.tag == b'D').count();
    assert_eq!(rows, 2);
    site.wait_for_record(&other, "action.outcome");

    assert!(!audit_text(&site).contains(SECRET));
    let proven = site.done(&["audit", "open", &id]);
    assert!(proven.contains(&text), "{proven}");
    let opened = site.done(&["audit", "open", &other]);
    assert!(opened.contains("the statement in record") && opened.contains("the modified in record"), "{opened}");

    // Handed out, it needs nothing but the log; another text under the same id proves nothing.
    let opening = site.data().join("handed-out");
    let line = site.done(&["audit", "open", &id, "--json"]);
    let log = site.data().join("audit");
    let check = |line: &str| {
        std::fs::write(&opening, line).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.args(["audit", "open", &id, "--dir"]).arg(&log).arg("--opening").arg(&opening);
        command.output().unwrap().status.code()
    };
    assert_eq!(check(&line), Some(0));
    assert_eq!(check(&line.replace(SECRET, "another")), Some(1));
    assert_eq!(check("{}"), Some(2));
    // As the format's page says it, without our code.
    let opening: Value = serde_json::from_str(&line).unwrap();
    let digits: Vec<char> = opening["salt"].as_str().unwrap().chars().collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    let salt: Vec<u8> = digits.chunks(2).map(byte).collect();
    let said = [b"countersign-commitment/v1\nstatement\n", salt.as_slice(), text.as_bytes()].concat();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &said);
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(forward["statement_commitment"], hash);
    site.verify();
}

#[test]
fn a_password_is_in_no_record_and_no_opening() {
    let database = cluster().database("passwords");
    let rules = HELD.replace("[postgres:select]", "['postgres:*']").replace("decision: hold", "decision: deny");
    let rules = rules.replace("    approvers: [security]\n", "");
    let site = super::site(&database, APP, &rules);
    let mut session = Frontend::connect(&Door::through(&site, "bot", &database));
    session.ask(Batch::new().query(&format!("ALTER ROLE app PASSWORD '{SECRET}'")));
    record_of(&site, "ALTER ROLE app PASSWORD $1");
    let openings = std::fs::read_to_string(site.data().join("openings.jsonl")).unwrap();
    assert!(openings.contains("ALTER ROLE app PASSWORD '[redacted]'"), "{openings}");
    for (path, bytes) in site.files() {
        assert!(memchr::memmem::find(&bytes, SECRET.as_bytes()).is_none(), "{}", path.display());
    }
}

#[test]
fn an_operator_may_have_full_texts_and_all_openings() {
    let database = cluster().database("full");
    let config = format!("{PASS}audit: {{ statements: full, openings: all }}\n");
    let site = Setup::postgres(&database, APP).rules(NO_RULE).config(&config).start();
    let mut session = Frontend::connect(&Door::through(&site, "bot", &database));
    let text = "SELECT 'whole' -- and its comment";
    session.ask(Batch::new().query(text));
    let record = record_of(&site, text);
    let id = record["action_id"].as_str().unwrap();
    assert!(site.done(&["audit", "open", id]).contains(text));
    site.verify();
}

#[test]
fn the_servers_log_can_name_the_agent() {
    let database = cluster().database("attributed");
    let mut setup = Setup::postgres(&database, APP).rules(HELD).config(PASS);
    setup.postgres.push_str("attribution: { application_name: true, comment: true }\n");
    let site = setup.start();
    let door = Door::through(&site, "bot", &database);
    let options = [("application_name", "nightly"), ("countersign.task", "reports")];
    let mut session = Frontend::connect_with(&door, &options);
    let seen = "SELECT application_name, query FROM pg_stat_activity WHERE pid = pg_backend_pid() -- /*model='m-1'*/";
    session.send(&Batch::new().query(&format!("{seen}\n/*reason='to%20see'*/")).0);
    let id = site.pending(1).remove(0);
    let hold = site.hold(&id);
    assert_eq!(hold["claimed"]["task"], "reports", "{hold}");
    assert_eq!(hold["claimed"]["session"], "nightly", "{hold}");
    assert_eq!(hold["claimed"]["reason"], "to see", "{hold}");
    site.decide("alice", &id, "allow");
    let answers = session.read_to(b'Z');
    let row = answers.iter().find(|message| message.tag == b'D').unwrap_or_else(|| panic!("{answers:?}"));
    let row = String::from_utf8_lossy(&row.body);
    assert!(row.contains("bot: nightly") && row.contains(&format!("hold='{}'", id.replace('_', "%5F"))), "{row}");
    // A prepared statement says whose it is, and a run of it that was held of which hold it was.
    session.ask(Batch::new().parse("p", "SHOW work_mem -- the agent's").sync());
    let held = "SELECT statement, query FROM pg_prepared_statements, pg_stat_activity WHERE pid = $1";
    let pid = session.key.0.to_string();
    session.send(&Batch::new().parse("q", held).describe(b'S', "q").bind("", "q", &[&pid]).execute("", 0).sync().0);
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "allow");
    let answers = session.read_to(b'Z');
    assert!(answers.iter().all(|it| it.tag != b'E'), "{answers:?}");
    let notices: Vec<_> = answers.iter().filter(|it| it.tag == b'N').filter_map(|it| it.field(b'M')).collect();
    assert!(notices.iter().all(|it| !it.contains("changed")), "nobody changed it: {notices:?}");
    let rows = answers.iter().filter(|it| it.tag == b'D').map(|it| String::from_utf8_lossy(&it.body).into_owned());
    let rows = rows.collect::<Vec<_>>().join("\n");
    assert!(rows.contains("SHOW work_mem -- the agent's\n/*agent='bot'*/"), "{rows}");
    assert!(rows.contains("WHERE pid = $1\n/*action='a"), "{rows}");
    assert!(rows.contains(&format!("hold='{}'*/", id.replace('_', "%5F"))), "{rows}");
    // One that fails on the server leaves nothing behind that the next would stumble over.
    let one = |batch: Batch, name: &str, sql: &str, values: &[&str]| {
        batch.parse(name, sql).bind("", name, values).execute("", 0).sync()
    };
    let both = one(one(Batch::new(), "r", "SELECT $1::int", &["none"]), "t", "SELECT 'second'", &[]);
    session.send(&both.0);
    for _ in 0..2 {
        let id = site.pending(1).remove(0);
        site.decide("alice", &id, "allow");
    }
    assert!(session.read_to(b'Z').iter().any(|it| it.tag == b'E'));
    let answers = session.read_to(b'Z');
    assert!(answers.iter().any(|it| it.tag == b'D' && it.body.ends_with(b"second")), "{answers:?}");
    // It is the agent's to change.
    session.ask(Batch::new().query("SET application_name = 'own'"));
    let name = session.ask(Batch::new().query("SHOW application_name"));
    assert!(name.iter().any(|message| message.body.ends_with(b"own")), "{name:?}");
    // The places that errors name are those of the agent's text.
    let error = session.ask(Batch::new().query("SET nothing.a = 1; SHOW nothing_at_all"));
    assert!(error.iter().any(|message| message.field(b'C').as_deref() == Some("42704")), "{error:?}");
    site.verify();
}

/// A held Bind that waits for what was sent before it is not what a client wants to cancel first.
#[test]
fn a_cancel_ends_what_runs_before_a_statement_that_names_its_hold() {
    let database = cluster().database("cancelled");
    let rules = HELD.replace("match: { action: [postgres:select] }", "match: { action: [postgres:delete] }");
    let mut setup = Setup::postgres(&database, APP).rules(&rules).config(PASS);
    setup.postgres.push_str("attribution: { comment: true }\n");
    let site = setup.start();
    let door = Door::through(&site, "bot", &database);
    let mut session = Frontend::connect(&door);
    session.ask(Batch::new().query("CREATE TEMP TABLE t (a int)"));
    let slow = Batch::new().parse("", "SELECT pg_sleep(600)").bind("", "", &[]).execute("", 0);
    session.send(&slow.parse("", "DELETE FROM t").bind("", "", &[]).execute("", 0).sync().0);
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "allow");
    // It is not left waiting for ten minutes.
    session.cancel(&door);
    let answers = session.read_to(b'Z');
    let error = answers.iter().find(|it| it.tag == b'E').and_then(|it| it.field(b'C'));
    assert_eq!(error.as_deref(), Some("57014"), "{answers:?}");
    assert!(answers.iter().all(|it| it.tag != b'C'), "nothing of it ran: {answers:?}");
    site.verify();
}
