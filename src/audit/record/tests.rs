use proptest::prelude::*;
use serde_json::json;

use super::*;

fn line(record: Record) -> String {
    let prev = sha256(b"");
    let place = Place { log_literal: "\"example.com/log\"", seq: 7, prev: &prev, ts: "2026-11-20T11:25:55.123456Z" };
    let mut line = String::new();
    record.write_line(&place, &mut line);
    line
}

#[test]
fn members_are_sorted_among_the_fixed_ones() {
    let record = Record::new(Kind::ActionPassed)
        .text("zone", "z")
        .integer("status", -3)
        .texts("traits", ["a", "b"])
        .text_if("absent", None::<&str>)
        .json("parameters", &json!({"b": 1, "a": [true]}))
        .text("agent", "quote \" and \u{1f600}");
    assert_eq!(
        line(record),
        "{\"agent\":\"quote \\\" and \u{1f600}\",\"log\":\"example.com/log\",\"parameters\":{\"a\":[true],\"b\":1},\
         \"prev\":\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"seq\":7,\"status\":-3,\
         \"traits\":[\"a\",\"b\"],\"ts\":\"2026-11-20T11:25:55.123456Z\",\"type\":\"action.passed\",\"v\":1,\"zone\":\"z\"}"
    );
}

#[test]
fn numbers_that_a_reader_might_round_are_text() {
    let record = Record::new(Kind::ActionHeld)
        .integer("big", i64::MIN)
        .json("parameters", &json!({"float": 1.5, "safe": 9_007_199_254_740_991_u64, "unsafe": u64::MAX}));
    let value: Value = serde_json::from_str(&line(record)).unwrap();
    assert_eq!(value["big"], "-9223372036854775808");
    assert_eq!(
        value["parameters"],
        json!({"float": "1.5", "safe": 9_007_199_254_740_991_u64, "unsafe": "18446744073709551615"})
    );
}

#[test]
fn what_does_not_fit_is_cut_by_hash_largest_first() {
    let long = "é".repeat(40_000);
    let record =
        Record::new(Kind::ActionHeld).text("agent", "a").text("reason", &long).json("parameters", &json!([long]));
    let line = line(record);
    assert!(line.len() <= MAX_LINE);
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["cut"], json!(["parameters", "reason"]));
    assert_eq!(value["reason"], json!({"bytes": 80_000, "sha256": sha256(long.as_bytes()).hex()}));
    let canonical = format!("[\"{long}\"]");
    assert_eq!(value["parameters"], json!({"bytes": 80_004, "sha256": sha256(canonical.as_bytes()).hex()}));
    assert_eq!(value["agent"], "a");
}

#[test]
fn every_kind_has_its_own_name_and_is_documented() {
    let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(names.len(), Kind::ALL.len());
    let page = include_str!("../../../docs/audit-format.md");
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/audit-format.md");
    }
}

#[test]
fn text_of_a_member_can_be_read_back() {
    let record = Record::new(Kind::ActionForward).text("action_id", "a_\"1").integer("n", 1);
    assert_eq!(record.find_text("action_id").as_deref(), Some("a_\"1"));
    assert_eq!(record.find_text("n"), None);
    assert_eq!(record.find_text("hold"), None);
}

/// The order in which members are given changes nothing.
#[test]
fn members_find_their_place_in_any_order() {
    let names = ["action", "cutting", "log_a", "peer", "region", "ts_b", "zone"];
    let given = |order: &[usize]| {
        order.iter().fold(Record::new(Kind::ActionPassed), |record, at| record.text(names[*at], "x".repeat(*at)))
    };
    let sorted = line(given(&[0, 1, 2, 3, 4, 5, 6]));
    let value: Value = serde_json::from_str(&sorted).unwrap();
    assert_eq!(serde_json_canonicalizer::to_string(&value).unwrap(), sorted);
    for order in [[6, 5, 4, 3, 2, 1, 0], [3, 0, 6, 1, 5, 2, 4], [1, 0, 2, 3, 4, 6, 5]] {
        let record = given(&order);
        assert!(names.iter().enumerate().all(|(at, name)| record.find_text(name).unwrap() == "x".repeat(at)));
        assert_eq!(line(record), sorted);
    }
}

/// A build without debug assertions keeps the last value of a name that is given twice.
#[test]
fn records_are_joined_in_the_order_of_names() {
    let first = Record::new(Kind::ActionPassed).text("agent", "a").text("outcome", "old").text("zone", "z");
    let second = Record::new(Kind::ActionOutcome).text("action_id", "1").text("outcome", "new").text("peer", "p");
    let apart = Record::new(Kind::ActionPassed).text("action_id", "1").text("agent", "a").text("outcome", "new");
    let joined = first.clone().with(&second);
    assert_eq!(joined.find_text("outcome").as_deref(), Some("new"));
    assert_eq!(line(joined), line(apart.text("peer", "p").text("zone", "z")));
    let empty = Record::new(Kind::ActionPassed);
    assert_eq!(line(first.clone().with(&empty)), line(first.clone()));
    assert_eq!(line(empty.with(&first)), line(first));
}

#[test]
fn a_name_stands_once_in_a_line() {
    let mut record = Record::new(Kind::ActionPassed).text("agent", "first").text("peer", "p");
    record.put_in_order("agent", "\"agent\":\"the second\",");
    assert_eq!(record.find_text("agent").as_deref(), Some("the second"));
    assert_eq!(record.find_text("peer").as_deref(), Some("p"));
    assert!(line(record).starts_with("{\"agent\":\"the second\",\"log\":"));
}

proptest! {
    #[test]
    fn a_line_is_rfc_8785_and_never_too_long(text in ".*", name in ".*", number: i64, repeat in 0_usize..4_000) {
        let record = Record::new(Kind::ActionRefused)
            .text("text", text.repeat(repeat))
            .json("parameters", &json!({name: number, "z": text}))
            .integer("number", number);
        let line = line(record);
        prop_assert!(line.len() <= MAX_LINE);
        let value: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(serde_json_canonicalizer::to_string(&value).unwrap(), line);
    }
}
