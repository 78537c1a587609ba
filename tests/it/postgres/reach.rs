//! What people are told about a statement before they decide: how far it is estimated to reach. Nothing of
//! it has run by then.

use serde_json::Value;

use super::site;
use crate::support::driver::Door;
use crate::support::frontend::{Batch, Frontend};
use crate::support::postgres::{APP, Database, cluster};
use crate::support::site::Site;
use crate::support::wait_for;

const RULES: &str = "\
rules:
  - id: all-changes
    match: { action: [postgres:delete, postgres:update, postgres:truncate, postgres:drop_table, postgres:select] }
    decision: hold
    approvers: [security]
";

struct Case {
    database: Database,
    site: Site,
    session: Frontend,
    door: Door,
}

impl Case {
    #[track_caller]
    fn open(name: &str) -> Self {
        let database = cluster().database(name);
        database.sql(
            "ALTER SCHEMA public OWNER TO app; SET ROLE app;
             CREATE TABLE accounts (id int PRIMARY KEY, name text);
             INSERT INTO accounts SELECT g, 'customer ' || g FROM generate_series(1, 2000) g;
             CREATE TABLE orders (id int PRIMARY KEY, account int REFERENCES accounts ON DELETE CASCADE);
             CREATE TABLE lines (id int, o int REFERENCES orders);
             CREATE VIEW names AS SELECT name FROM accounts;
             CREATE MATERIALIZED VIEW over_names AS SELECT count(*) FROM names;
             CREATE FUNCTION calls() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
             ANALYZE accounts",
        );
        let site = site(&database, APP, RULES);
        let door = Door::through(&site, "bot", &database);
        let session = Frontend::connect(&door);
        Self { database, site, session, door }
    }

    /// Sends it, and gives the hold once it is there.
    #[track_caller]
    fn held(&mut self, batch: Batch) -> (String, Value) {
        self.session.send(&batch.0);
        let id = self.site.pending(1).remove(0);
        let hold = self.site.hold(&id);
        (id, hold)
    }

    /// What the hold says about that.
    #[track_caller]
    fn says(&mut self, sql: &str, about: &str) -> String {
        let (id, hold) = self.held(Batch::new().query(sql));
        let said = says(&hold, about);
        self.site.decide("alice", &id, "deny");
        self.session.read_to(b'Z');
        said
    }
}

#[track_caller]
fn says(hold: &Value, about: &str) -> String {
    let reach = hold["reach"].as_array().unwrap();
    let line = reach.iter().find(|it| it["about"] == about);
    line.unwrap_or_else(|| panic!("nothing about {about}: {hold}"))["says"].as_str().unwrap().to_owned()
}

#[test]
fn the_planner_and_the_statistics_speak() {
    let mut case = Case::open("estimates");
    let said = case.says("DELETE FROM accounts WHERE id <= 500", "estimate");
    let count: f64 = said.split(' ').nth(1).unwrap().parse().unwrap();
    assert!((400.0..600.0).contains(&count) && said.contains("deleted"), "{said}");
    let said = case.says("DELETE FROM accounts", "public.accounts");
    assert!(said.starts_with("about 2000 rows, ") && said.contains("kB"), "{said}");
    assert!(case.says("DELETE FROM public.accounts", "public.orders").contains("never analysed"));
    assert!(case.says("SELECT * FROM accounts WHERE calls() = 1", "estimate").contains("runs functions"));
    assert!(case.says("SELECT missing()", "estimate").contains("in doubt"));
    // With bound values, text and all.
    let batch = Batch::new()
        .parse("", "UPDATE accounts SET name = $2 WHERE id = $1")
        .bind("", "", &["7", "x'); DROP TABLE accounts; --"])
        .execute("", 0)
        .sync();
    let (id, hold) = case.held(batch);
    assert_eq!(says(&hold, "estimate"), "about 1 row(s) updated, by the planner");
    let card = case.site.cli_as("alice", &["holds", "show", &id]);
    assert!(String::from_utf8_lossy(&card.stdout).contains("about 1 row(s) updated"), "{card:?}");
    case.site.decide("alice", &id, "deny");
    case.session.read_to(b'Z');
    assert_eq!(case.database.sql("SELECT count(*) FROM accounts WHERE name LIKE 'customer%'"), "2000");
    let record = case.site.wait_for_record(&id, "action.held");
    assert!(record["reach"].to_string().contains("by the planner"), "{record}");
    case.site.verify();
}

#[test]
fn what_cascade_takes_is_listed() {
    let mut case = Case::open("cascades");
    let said = case.says("DROP TABLE accounts CASCADE", "cascade");
    for part in ["view public.names", "materialized view public.over_names", "constraint orders_account_fkey"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = case.says("TRUNCATE accounts CASCADE", "cascade");
    assert!(said.contains("public.orders") && said.contains("public.lines"), "{said}");
    assert_eq!(case.says("DROP TABLE lines CASCADE", "cascade"), "takes nothing else");
    for index in 0..30 {
        case.database.sql(&format!("CREATE VIEW many_{index} AS SELECT * FROM lines"));
    }
    let said = case.says("DROP TABLE public.lines CASCADE", "cascade");
    assert!(said.ends_with("; and 20 more"), "{said}");
}

#[test]
fn locks_and_who_waits_for_them_are_told() {
    let mut case = Case::open("locks");
    case.session.ask(Batch::new().query("BEGIN"));
    case.session.ask(Batch::new().query("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE"));
    let mut other = case.database.cluster().tool("psql", &case.database.name);
    let mut other = other.args(["-c", "SELECT count(*) FROM accounts"]).spawn().unwrap();
    wait_for("the other to wait", || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND wait_event_type = 'Lock'";
        (case.database.sql(waiting) == "1").then_some(())
    });
    let (id, hold) = case.held(Batch::new().query("DELETE FROM orders"));
    assert!(says(&hold, "locks held").contains("public.accounts (AccessExclusiveLock)"), "{hold}");
    assert!(says(&hold, "waiting for them").contains("of postgres for"), "{hold}");
    case.site.decide("alice", &id, "deny");
    case.session.read_to(b'Z');
    case.session.ask(Batch::new().query("ROLLBACK"));
    assert!(other.wait().unwrap().success());
    // Without a transaction there is nothing to tell.
    let mut session = Frontend::connect(&case.door);
    session.send(&Batch::new().query("DELETE FROM public.orders").0);
    let id = case.site.pending(1).remove(0);
    assert!(!case.site.hold(&id)["reach"].to_string().contains("locks"));
}
