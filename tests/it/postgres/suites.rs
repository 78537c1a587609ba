//! The suites of others, a slice of each: what passes directly passes through countersign.

use std::process::Command;

use crate::support::site::shown;
use crate::support::{python, root};

#[track_caller]
fn slice_passes(suite: &str) {
    let suites = root().join("target/suites");
    assert!(suites.join("asyncpg").exists(), "the suites are missing: run `make test`, which gets them");
    if suite == "regress" && !suites.join(suite).exists() {
        // Not everywhere are there Debian's source packages; `make test` said that it is left out.
        return;
    }
    let output = Command::new(python())
        .arg(root().join("tests/suites/postgres.py"))
        .arg(suites)
        .args(["--slice", "--only", suite])
        .env("COUNTERSIGN", env!("CARGO_BIN_EXE_countersign"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", shown(&output));
}

#[test]
fn of_postgresql_itself() {
    slice_passes("regress");
}

#[test]
fn of_asyncpg() {
    slice_passes("asyncpg");
}

#[test]
fn of_psycopg2() {
    slice_passes("psycopg2");
}
