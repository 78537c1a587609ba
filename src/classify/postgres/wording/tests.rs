use serde_json::json;

use super::super::{Catalogue, Settings, parse};
use super::*;

fn wording(sql: &str) -> Wording {
    parse(sql.as_bytes(), &Settings::default(), &Catalogue::builtin()).wording
}

fn redacted(sql: &str) -> String {
    wording(sql).redacted.unwrap().to_string()
}

#[test]
fn constants_and_comments_are_not_in_a_record() {
    for (sql, expected) in [
        ("SELECT * FROM t WHERE a = 'Ann' AND b=42", "SELECT * FROM t WHERE a = $1 AND b=$2"),
        ("select 1.5, -3, E'a\\'b', U&'\\0061', B'101', X'ff', $$x$$", "select $1, -$2, $3, $4, $5, $6, $7"),
        ("SELECT $2::int, 'x'", "SELECT $2::int, $3"),
        ("SELECT 'a'\n  'b' /* secret */ -- secret\n FROM t", "SELECT $1 FROM t"),
        ("/* secret */ SELECT 1 -- secret", "SELECT $1"),
        ("SELECT 1; SELECT 2;", "SELECT $1; SELECT $2;"),
        ("DO $body$ BEGIN PERFORM 'secret'; END $body$", "DO $1"),
        ("ALTER ROLE a PASSWORD 'secret'", "ALTER ROLE a PASSWORD $1"),
        ("COPY t TO PROGRAM 'curl secret'", "COPY t TO PROGRAM $1"),
        ("SET statement_timeout = '5s'", "SET statement_timeout = $1"),
        ("SELECT true, NULL, \"Secret name\"", "SELECT true, NULL, \"Secret name\""),
        ("  ", ""),
        ("-- secret", ""),
    ] {
        assert_eq!(redacted(sql), expected, "{sql}");
    }
}

#[test]
fn of_a_text_that_cannot_be_read_nothing_is_told() {
    let doubtful = Settings { standard_conforming_strings: false, ..Settings::default() };
    let sql = r"SELECT 'it\'s', secret";
    assert!(parse(sql.as_bytes(), &doubtful, &Catalogue::builtin()).wording.redacted.is_none());
    let parsed = parse(b"SELECT 'a' FROM FROM 'secret'", &Settings::default(), &Catalogue::builtin());
    assert!(parsed.wording.redacted.is_none());
    let action = recorded(&parsed.statements[0].actions[0], false);
    assert_eq!(action.parameters["sql"], json!({ "bytes": 29 }));
    assert!(!format!("{action:?}").contains("secret"), "{action:?}");
    let quoting = parse(b"SELECT 'secret", &Settings::default(), &Catalogue::builtin());
    assert!(format!("{:?}", quoting.statements[0].actions[0]).contains("secret"));
    assert!(!format!("{:?}", recorded(&quoting.statements[0].actions[0], false)).contains("secret"));
}

#[test]
fn parameters_are_recorded_by_size() {
    assert_eq!(recorded_value("sql", &json!("SELECT 'x'")), json!("SELECT $1"));
    assert_eq!(recorded_value("params", &json!(["abc", null, 17])), json!([{"bytes": 3}, null, {"bytes": 2}]));
    assert_eq!(recorded_value("value", &json!("secret")), json!({ "bytes": 6 }));
    assert_eq!(recorded_value("setting", &json!("search_path")), json!("search_path"));
    assert_eq!(recorded_value("cascade", &json!(true)), json!(true));
}

#[test]
fn a_record_of_a_long_text_says_how_much_is_missing() {
    let sql = format!("SELECT {}", vec!["a"; 20_000].join(", "));
    let redacted = redacted(&sql);
    assert!(redacted.len() < RECORDED_BYTES + 40, "{}", redacted.len());
    assert!(redacted.ends_with("bytes more]"), "{redacted}");
    let name = format!("SELECT \"{}\"", "é".repeat(20_000));
    assert!(super::without_constants(&name, &grammar::scan(&name).unwrap()).len() <= RECORDED_BYTES);
}

#[test]
fn passwords_are_not_shown() {
    assert_eq!(wording("SELECT 1").shown, None);
    assert_eq!(
        wording("ALTER ROLE a PASSWORD 'hunter2'").shown.unwrap().as_ref(),
        "ALTER ROLE a PASSWORD '[redacted]'"
    );
    let unread = parse(b"ALTER ROLE a PASSWORD 'hunter2' FROM", &Settings::default(), &Catalogue::builtin());
    assert!(!unread.wording.shown.unwrap().contains("hunter2"));
}

#[test]
fn claims_are_read_from_comments() {
    let of = |sql: &str| wording(sql).claims.map(|it| (*it).clone());
    let said = of(
        "SELECT 1 /*model='m-1',task='nightly%20run',session='s\\'1',reason='why%2C%0Anot',initiator='ann%40example.com',traceparent='00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'*/",
    );
    let expected = Context {
        model: Some("m-1".into()),
        task: Some("nightly run".into()),
        session: Some("s'1".into()),
        reason: Some("why,\\u{a}not".into()),
        initiator: Some("ann@example.com".into()),
        trace: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
    };
    assert_eq!(said, Some(expected));
    assert_eq!(of("/*task='a'*/ SELECT 1 /*task='b',model='m'*/").unwrap().task.as_deref(), Some("a"));
    for nothing in [
        "SELECT 1",
        "SELECT '/*task=''a''*/'",
        "SELECT 1 -- task='a'",
        "SELECT 1 /* task */",
        "SELECT 1 /*task='a*/",
        "SELECT 1 /*task='a' model='b'*/",
        "SELECT 1 /*owner='a'*/",
        "SELECT 1 /*traceparent='00-1-2'*/",
    ] {
        assert_eq!(of(nothing), None, "{nothing}");
    }
    let long = of(&format!("SELECT 1 /*task='{}'*/", "x".repeat(1000))).unwrap();
    assert_eq!(long.task.unwrap().len(), crate::action::CLAIM_LIMIT_CHARS);
}
