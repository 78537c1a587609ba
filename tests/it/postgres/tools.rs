//! The programs that come with PostgreSQL: psql, pg_dump, pg_restore, pgbench.

use std::path::Path;
use std::process::Output;

use super::{ALLOWED, NO_RULE, site};
use crate::support::driver::Door;
use crate::support::postgres::{APP, Database, cluster, program};
use crate::support::root;
use crate::support::site::shown;

/// A door to a database of its own, directly, and one through countersign to another.
fn doors(rules: &str) -> ([(Door, Database); 2], crate::support::site::Site) {
    let (alone, behind) = (cluster().database("alone"), cluster().database("behind"));
    let site = site(&behind, APP, rules);
    let through = Door::through(&site, "bot", &behind);
    ([(Door::direct(&alone, APP), alone), (through, behind)], site)
}

/// What it printed, with the database's own name and number taken out.
#[track_caller]
fn text(output: &Output, database: &Database) -> String {
    shown(output).replace(&database.name, "DATABASE")
}

#[track_caller]
fn run(door: &Door, name: &str, arguments: &[&str]) -> Output {
    let mut command = door.command(&program(name));
    command.args(arguments).stderr(std::process::Stdio::piped()).output().unwrap()
}

#[track_caller]
fn script_prints_the_same(rules: &str) {
    let (doors, site) = doors(rules);
    let script = root().join("tests/it/postgres/drivers/tour.sql");
    let [direct, through] = doors.map(|(door, database)| {
        let output = door.psql(&["-a", "-f", script.to_str().unwrap()]).output().unwrap();
        text(&output, &database)
    });
    assert_eq!(direct, through);
    assert!(direct.contains("the end of the tour"), "{direct}");
    site.verify();
}

#[test]
fn psql_prints_the_same() {
    script_prints_the_same(NO_RULE);
}

#[test]
fn psql_prints_the_same_with_every_statement_on_disk_first() {
    script_prints_the_same(ALLOWED);
}

#[test]
fn the_tour_of_psql_has_no_surprises() {
    let database = cluster().database("tour");
    let script = root().join("tests/it/postgres/drivers/tour.sql");
    let [first, second] = [cluster().database("tour"), database].map(|database| {
        let output = Door::direct(&database, APP).psql(&["-a", "-f", script.to_str().unwrap()]).output().unwrap();
        text(&output, &database)
    });
    assert_eq!(first, second);
    assert!(first.contains("the end of the tour"), "{first}");
}

/// pg_dump of what pgbench made, and pg_restore of it, with several sessions.
#[test]
fn a_dump_is_the_same_and_can_be_restored() {
    let (doors, site) = doors(NO_RULE);
    let folder = tempfile::TempDir::new().unwrap();
    let mut dumps = Vec::new();
    for (door, database) in &doors {
        let output = run(door, "pgbench", &["-i", "-s", "1", "--quiet"]);
        assert!(output.status.success(), "{}", shown(&output));
        let output = run(door, "pg_dump", &["--inserts", "--rows-per-insert=1000"]);
        assert!(output.status.success(), "{}", shown(&output));
        dumps.push(without_keys(&text(&output, database)));
        let file = folder.path().join(&database.name);
        let output = run(door, "pg_dump", &["-Fd", "-j2", "-f", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", shown(&output));
    }
    assert_eq!(dumps[0], dumps[1]);
    let (through, behind) = &doors[1];
    let file = folder.path().join(&doors[0].1.name);
    let output = run(through, "pg_restore", &["--clean", "-j2", "-d", &behind.name, file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(behind.sql("SELECT count(*) FROM pgbench_accounts"), "100000");
    site.verify();
}

/// A dump has a random key against psql commands in it.
fn without_keys(dump: &str) -> String {
    dump.lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn pgbench_runs_every_protocol() {
    let (doors, site) = doors(NO_RULE);
    let (through, _) = &doors[1];
    let output = run(through, "pgbench", &["-i", "-s", "1", "--quiet"]);
    assert!(output.status.success(), "{}", shown(&output));
    for protocol in ["simple", "extended", "prepared"] {
        let output = run(through, "pgbench", &["-n", "-c4", "-t50", "-M", protocol]);
        let said = shown(&output);
        assert!(output.status.success() && said.contains("number of failed transactions: 0"), "{protocol}: {said}");
    }
    let script = root().join("tests/it/postgres/drivers/pipelines.pgbench");
    assert!(Path::new(&script).exists());
    let output = run(through, "pgbench", &["-n", "-c4", "-t25", "-M", "extended", "-f", script.to_str().unwrap()]);
    assert!(output.status.success(), "{}", shown(&output));
    site.verify();
}
