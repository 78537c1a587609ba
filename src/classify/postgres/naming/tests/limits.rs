//! Input that means to exhaust: none may crash, and none may take much longer than its length asks.

use std::time::Instant;

use super::*;

#[test]
fn deep_nesting_is_named_or_unknown_and_never_a_crash() {
    let deep = |open: &str, close: &str, count: usize| format!("SELECT {}1{}", open.repeat(count), close.repeat(count));
    for sql in [
        deep("(", ")", 100_000),
        deep("(", "", 100_000),
        deep("abs(", ")", 100_000),
        deep("(SELECT ", ")", 100_000),
        deep("ARRAY[", "]", 100_000),
        deep("- ", "", 100_000),
        deep("NOT ", "", 100_000),
        deep("1 + ", "", 100_000),
        deep("CASE WHEN true THEN ", " END", 100_000),
        format!("SELECT 1{}", " UNION SELECT 1, 2".repeat(50_000)),
        format!("SELECT * FROM a{}", " JOIN a USING (i)".repeat(50_000)),
        format!("{}1", "EXPLAIN ".repeat(100_000)),
        format!("DO $x$ BEGIN PERFORM {}1{}; END $x$", "(SELECT ".repeat(50_000), ")".repeat(50_000)),
        format!("DO $x$ {} $x$", "BEGIN ".repeat(100_000)),
        "/*".repeat(100_000),
        format!("SELECT 1 {} 1", "+".repeat(1_000_000)),
        "SELECT 1;".repeat(100_000),
        format!("SELECT ${}", "a$".repeat(100_000)),
    ] {
        let parsed = parsed(&sql);
        assert!(parsed.statements.iter().all(|it| !it.actions.is_empty()));
    }
}

#[test]
fn long_chains_as_people_write_them_are_named() {
    for sql in [
        format!("SELECT 'a'{}", " || 'a'".repeat(500)),
        format!("SELECT * FROM t WHERE id = 1{}", " OR id = 1".repeat(2000)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(500)),
        format!("INSERT INTO t VALUES (1, 'a'){}", ", (1, 'a')".repeat(5000)),
        format!("SELECT {}1{}", "coalesce(".repeat(200), ")".repeat(200)),
    ] {
        let statement = one(&sql);
        assert_eq!(statement.actions[0].unknown, None);
    }
}

#[test]
fn long_texts_take_time_by_their_length() {
    let literal = |bytes: usize| format!("SELECT '{}'", "x".repeat(bytes));
    let took = |sql: &str| {
        let started = Instant::now();
        drop(parsed(sql));
        started.elapsed()
    };
    assert_eq!(names(&literal(20_000_000)), ["postgres:select"]);
    let (short, long) = (took(&literal(2_000_000)), took(&literal(20_000_000)));
    assert!(long < short * 60 + std::time::Duration::from_millis(500), "{short:?} {long:?}");
    let rows = |count: usize| format!("INSERT INTO t VALUES (1){}", ", (1)".repeat(count));
    let (short, long) = (took(&rows(5_000)), took(&rows(50_000)));
    assert!(long < short * 60 + std::time::Duration::from_millis(500), "{short:?} {long:?}");
    assert_eq!(names(&"x".repeat(40_000_000)), ["postgres:unknown"]);
    let many = format!("SELECT 1{}", ", 1".repeat(300_000));
    assert_eq!(names(&many), ["postgres:unknown"]);
}

#[test]
fn many_parts_are_a_doubt() {
    let sql = format!("SELECT {}1", "pg_stat_reset(), ".repeat(2000));
    let statement = one(&sql);
    assert!(statement.actions.len() <= MOST_PARTS);
    assert!(statement.actions[0].unknown.is_some());
}
