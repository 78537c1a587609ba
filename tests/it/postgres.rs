//! Drivers of PostgreSQL before a real server: what they see with countersign between is what they
//! see without it, but for what waits for a person.

mod catalogue;
mod changing;
mod evasion;
mod holding;
mod impostor;
mod jdbc;
mod lying;
mod messages;
mod reach;
mod records;
mod replication;
mod steps;
mod suites;
mod tools;
mod transactions;
mod transparent;
mod typed;
mod volume;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::driver::{DRIVERS, Door, Driver};
use crate::support::postgres::{APP, Database, Role, cluster};
use crate::support::site::{Setup, Site};

/// What no rule matches passes, and no rule matches.
const NO_RULE: &str = "\
rules:
  - id: elsewhere
    match: { action: [aws:iam:DeleteUser] }
    decision: deny
";

/// Everything passes, by a rule: on disk first.
const ALLOWED: &str = "\
rules:
  - id: all
    match: { action: ['postgres:*'] }
    decision: allow
  - id: unknown-too
    match: { action: ['postgres:*'], traits: [unknown] }
    decision: allow
";

/// What no rule matches passes, whatever it is.
const PASS: &str = "rules: { ordinary: allow, privileged: allow, unknown: allow }\n";

/// A site before this database where only these rules stop anything.
#[track_caller]
fn site(database: &Database, role: Role, rules: &str) -> Site {
    Setup::postgres(database, role).rules(rules).config(PASS).start()
}

/// What two runs of the same saw differently, by name, one line each.
fn differences(direct: &Value, through: &Value) -> Vec<String> {
    let (direct, through) = (direct.as_object().unwrap(), through.as_object().unwrap());
    let names: BTreeMap<&String, ()> = direct.keys().chain(through.keys()).map(|name| (name, ())).collect();
    let mut lines = Vec::new();
    for name in names.into_keys() {
        let (direct, through) = (direct.get(name), through.get(name));
        if direct != through {
            lines.push(format!("{name}:\n  directly {}\n  through  {}", short(direct), short(through)));
        } else if let Some(Value::String(why)) = direct.and_then(|result| result.get("raised")) {
            lines.push(format!("{name} does not run at all: {why}"));
        }
    }
    lines
}

fn short(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| value.to_string().chars().take(2_000).collect())
}

#[test]
fn every_driver_runs_its_scenarios() {
    for driver in DRIVERS {
        let database = cluster().database("alone");
        let seen = Door::direct(&database, APP).start(driver, "all", "").wait();
        assert_eq!(differences(&seen, &seen), Vec::<String>::new(), "{driver:?}");
    }
}

#[test]
fn a_difference_is_seen() {
    let database = cluster().database("other");
    let seen = Door::direct(&database, APP).start(Driver::Asyncpg, "all", "").wait();
    let mut other = seen.clone();
    other["errors"] = Value::Null;
    assert_eq!(differences(&seen, &other).len(), 1);
}
