use std::sync::Arc;

use proptest::prelude::*;

use super::super::cache::Cache;
use super::super::catalogue::{Function, Operator, Relation, Snapshot, Type, Volatility};
use super::super::{Catalogue, Settings, parse};
use super::*;

/// A catalogue in which `=` may be anybody's, and a function and a type run code.
fn catalogue() -> Catalogue {
    let function = Function {
        oid: 20_000,
        schema: "public".to_owned(),
        name: "f".to_owned(),
        language: "sql".to_owned(),
        volatility: Volatility::Volatile,
        is_security_definer: false,
        owner: "owner".to_owned(),
        source: Some("SELECT 1 FROM t WHERE a = 1".to_owned()),
        extension: None,
        settings: Vec::new(),
        calls: Vec::new(),
        argument_calls: Vec::new(),
    };
    let relation =
        |oid, name: &str| Relation { oid, schema: "public".to_owned(), name: name.to_owned(), ..Relation::default() };
    let operator = Operator { schema: "public".to_owned(), name: "=".to_owned(), function: 20_000 };
    let kind = Type { schema: "public".to_owned(), name: "kind".to_owned(), calls: vec![20_000] };
    Catalogue::new(
        7,
        Snapshot {
            schemas: vec!["public".to_owned()],
            relations: vec![relation(16_400, "t"), relation(16_401, "u")],
            functions: vec![function],
            operators: vec![operator],
            types: vec![kind],
            ..Snapshot::default()
        },
    )
}

fn settings() -> [Arc<Settings>; 2] {
    let off = Settings { standard_conforming_strings: false, ..Settings::default() };
    [Arc::default(), Arc::new(off)]
}

/// Each of the texts is named through one cache as it is named afresh. How many were named by another's shape.
fn compare(texts: &[String]) -> usize {
    let mut by_shape = 0;
    for (catalogue, settings) in [Catalogue::builtin(), catalogue()].into_iter().zip(settings()) {
        let cache = Cache::new(1 << 22);
        for sql in texts {
            let (found, afresh) =
                (cache.parse(sql.as_bytes(), &settings, &catalogue), parse(sql.as_bytes(), &settings, &catalogue));
            let shown = |it: &Parsed| format!("{it:#?}");
            assert_eq!(shown(&found), shown(&afresh), "{sql}");
            by_shape += usize::from(!Arc::ptr_eq(&found, &cache.parse(sql.as_bytes(), &settings, &catalogue)));
        }
    }
    by_shape
}

/// The text with its runs of digits, or what stands between two quotes, replaced; `place` counts them.
fn varied(sql: &str, mut value: impl FnMut(usize, &str) -> String) -> String {
    let (mut text, mut rest, mut place) = (String::new(), sql, 0);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '0'..='9' => rest.find(|it: char| !it.is_ascii_digit()).unwrap_or(rest.len()),
            '\'' => rest.match_indices('\'').nth(1).map_or(rest.len(), |(end, _)| end + 1),
            first => first.len_utf8(),
        };
        let (part, behind) = rest.split_at(length);
        rest = behind;
        if first.is_ascii_digit() || first == '\'' {
            text.push_str(&value(place, part));
            place += 1;
        } else {
            text.push_str(part);
        }
    }
    text
}

const NUMBERS: [&str; 8] = ["0", "1", "7", "007", "999999999", "2147483648", "99999999999999999999", "1000"];
const TEXTS: [&str; 8] = ["''", "'a'", "'%'", "'password=x'", "'--'", "'/*'", "'$$'", "'postgres://u:p@h/d'"];

fn value(before: &str, choice: usize) -> String {
    let choices = if before.starts_with('\'') { TEXTS } else { NUMBERS };
    choices[choice % choices.len()].to_owned()
}

fn shape_of(sql: &str) -> Option<Vec<u8>> {
    Shape::of(sql.as_bytes()).map(|it| it.key().to_vec())
}

#[test]
fn statements_that_differ_by_a_compared_constant_share_what_names_them() {
    for (before, after) in [
        ("SELECT abalance FROM t WHERE aid = 1;", "SELECT abalance FROM t WHERE aid = 4711;"),
        ("SELECT a FROM t WHERE b='x' AND c = 5 ORDER BY 1", "SELECT a FROM t WHERE b='' AND c = 6 ORDER BY 1"),
        (
            "UPDATE t SET a = 1, b = 'x' WHERE c = 2 RETURNING a",
            "UPDATE t SET a = 30, b = 'longer' WHERE c = 0 RETURNING a",
        ),
        ("DELETE FROM t WHERE a = 1 -- done", "DELETE FROM t WHERE a = 100 -- done"),
        (
            "SELECT 1 FROM t JOIN u ON u.a = 1 WHERE t.b IN (SELECT c FROM u WHERE d = 2)",
            "SELECT 1 FROM t JOIN u ON u.a = 3 WHERE t.b IN (SELECT c FROM u WHERE d = 4)",
        ),
        (
            "WITH w AS (DELETE FROM t WHERE a = 1 RETURNING a) SELECT a FROM w",
            "WITH w AS (DELETE FROM t WHERE a = 2 RETURNING a) SELECT a FROM w",
        ),
    ] {
        assert_eq!(shape_of(before), shape_of(after), "{before}");
        assert!(compare(&[before.to_owned(), after.to_owned()]) > 0, "{before}");
    }
}

/// Where the value, or what it is, matters: never one name for both.
#[test]
fn what_may_mean_something_else_is_named_by_itself() {
    for (before, after) in [
        // Written alike, so that every row meets it.
        ("DELETE FROM t WHERE (a = 1) = (a = 2)", "DELETE FROM t WHERE (a = 1) = (a = 1)"),
        ("DELETE FROM t WHERE (a = 'x') = (a = 'y')", "DELETE FROM t WHERE (a = 'x') = (a = 'x')"),
        ("DELETE FROM t WHERE (SELECT a = 1) = (SELECT a = 2)", "DELETE FROM t WHERE (SELECT a = 1) = (SELECT a = 1)"),
        ("DELETE FROM t WHERE a + 1 = a + 2", "DELETE FROM t WHERE a + 1 = a + 1"),
        ("DELETE FROM t WHERE 1 = 2", "DELETE FROM t WHERE 1 = 1"),
        ("SELECT array_agg(a) FROM t LIMIT 5", "SELECT array_agg(a) FROM t LIMIT 5000"),
        // A text within a text.
        ("SELECT dblink('x', 'DELETE FROM t WHERE a = 1 ')", "SELECT dblink('x', 'DELETE FROM t WHERE a = 2 ')"),
        (
            "SELECT query_to_xml($$SELECT a FROM t WHERE b = 'x' $$, true, true, '')",
            "SELECT query_to_xml($$SELECT a FROM t WHERE b = 'y' $$, true, true, '')",
        ),
        ("SELECT /* traceparent='a' ,task='1' */ 1", "SELECT /* traceparent='b' ,task='2' */ 1"),
        ("SELECT 1 FROM t WHERE a = 1 /*task='a' */", "SELECT 1 FROM t WHERE a = 1 /*task='b' */"),
        // What a cast makes of it.
        ("SELECT a FROM t WHERE b = 't' ::regclass", "SELECT a FROM t WHERE b = 'u' ::regclass"),
        // Shown otherwise than it is.
        ("SELECT a FROM t WHERE b = 'x'", "SELECT a FROM t WHERE b = 'password=hunter2'"),
        ("SELECT 1 FROM t WHERE \"password\" = 'x'", "SELECT 1 FROM t WHERE \"password\" = 'y'"),
        // Settings.
        ("SET work_mem = 1", "SET work_mem = 2"),
        ("SET search_path = 'a'", "SET search_path = 'b'"),
        (
            "SELECT set_config('search_path', 'a', false) FROM t WHERE a = 1",
            "SELECT set_config('search_path', 'b', false) FROM t WHERE a = 1",
        ),
        // More than one, or kept for later.
        ("SELECT 1 FROM t WHERE a = 1; SET search_path = 'a'", "SELECT 1 FROM t WHERE a = 1; SET search_path = 'b'"),
        ("PREPARE p AS SELECT 1 FROM t WHERE a = 1", "PREPARE p AS SELECT 1 FROM t WHERE a = 2"),
        ("SELECT 1 INTO v FROM t WHERE a = 1", "SELECT 1 INTO v FROM t WHERE a = 2"),
        ("CREATE TABLE v WITH (fillfactor = 10 ) AS SELECT 1", "CREATE TABLE v WITH (fillfactor = 20 ) AS SELECT 1"),
    ] {
        let texts = [before.to_owned(), after.to_owned(), before.to_owned()];
        compare(&texts);
        let (catalogue, settings) = (Catalogue::builtin(), Arc::<Settings>::default());
        let cache = Cache::new(1 << 20);
        let first = cache.parse(before.as_bytes(), &settings, &catalogue);
        let second = cache.parse(after.as_bytes(), &settings, &catalogue);
        assert!(!Arc::ptr_eq(&first, &second), "{after}");
        assert!(
            Arc::ptr_eq(&second, &cache.parse(after.as_bytes(), &settings, &catalogue)),
            "{after}: found by its shape"
        );
    }
}

/// What is no number or no text for the scanner is none here.
#[test]
fn a_hole_is_a_whole_number_or_a_whole_text() {
    for sql in [
        "a =-1",
        "a =1e5",
        "a =1.5",
        "a =1.",
        "a =.5",
        "a =1::int",
        "a = 0x10",
        "a = 1_000",
        "a = 1000000000",
        "a = $1",
        "a = 1a",
        "a = 1+1",
        "a = 1/*c*/",
        "a = E'x'",
        "a = U&'x'",
        "a = B'1'",
        "a = X'1'",
        "a = N'x'",
        "a = 'x''y'",
        "a = 'x",
        "a = 'x'::text",
        "a = 'x'||'y'",
        "a = 'x\\'",
        "a = 'é'",
        "a = 1\u{a0}",
        "a\u{a0}= 1",
        "a = \u{a0}1",
        "a = 1\0",
        "a = 1\u{1}",
        "a = 1\u{b}",
        "a = 1\u{c}",
        "a = $$x$$",
        "a\t1",
        "a1",
        "a =\t1",
        "a => 'x",
        "",
        "=",
        "= ",
        "='",
        "=''''",
    ] {
        assert_eq!(shape_of(sql), None, "{sql:?}");
    }
    assert_eq!(shape_of("a = 1 AND b=''"), Some(b"a = \0 AND b=\x01".to_vec()));
    assert_eq!(shape_of("a='=1';b=22"), Some(b"a=\x01;b=\0".to_vec()));
    assert_eq!(shape_of("a = 1,b = c"), Some(b"a = \0,b = c".to_vec()));
    let long = format!("SELECT 1 FROM t WHERE a = 1 AND b = '{}'", "x".repeat(LONGEST_BYTES));
    assert_eq!(shape_of(&long), None);
}

/// The bytes of a shape, sent as a text, are no shape.
#[test]
fn the_key_of_a_shape_is_no_text() {
    let texts = [
        "SELECT a FROM t WHERE b = \0;",
        "SELECT a FROM t WHERE b = 1;",
        "SELECT a FROM t WHERE b = \0;",
        "SELECT a FROM t WHERE b = 2;",
    ];
    compare(&texts.map(str::to_owned));
}

#[test]
fn the_table_of_evasions_is_named_alike_with_other_constants() {
    let table = include_str!("../../../../tests/data/postgres-evasion.jsonl");
    let (mut rows, mut by_shape) = (0, 0);
    for line in table.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let Some(sql) = row.get("sql").and_then(Value::as_str) else { continue };
        rows += 1;
        let mut texts = vec![sql.to_owned()];
        for round in 0..NUMBERS.len() {
            texts.push(varied(sql, |place, before| value(before, place + round)));
            texts.push(varied(sql, |_, before| value(before, round)));
            // Numbers alone: another text may be no statement any more.
            texts.push(varied(sql, |place, before| match before.starts_with('\'') {
                true => before.to_owned(),
                false => value(before, place * 3 + round),
            }));
        }
        by_shape += compare(&texts);
    }
    assert!(rows > 150, "{rows}");
    assert!(by_shape > 100, "{by_shape}");
}

/// An operand, a condition, a statement: with what could be taken for something else among it.
fn operand() -> impl Strategy<Value = String> {
    let odd = [
        "-1",
        "1.5",
        "1e5",
        "$1",
        "0x10",
        "1_000",
        "NULL",
        "'a'::regclass",
        "1::regclass",
        "'x' COLLATE \"C\"",
        "E'a'",
        "U&'a'",
        "$$ a = 1 $$",
        "$x$ a = 'b' $x$",
        "'it''s'",
        "'a = 1 '",
        "B'1'",
        "(a = 1)",
        "(SELECT a FROM u WHERE a = 1)",
        "f(a = 1)",
        "f(1)",
        "CASE WHEN a = 1 THEN 1 END",
        "a",
        "t.a",
        "b1",
        "\"a = 1 \"",
        "ROW(1, 2)",
        "1 + 1",
        "ANY (ARRAY[1, 2])",
        "'a'\n'b'",
        "'1'::kind",
        "/* a = 1 */ 1",
        "1 /* = 'x' */",
        "1 -- = 1 \n",
        "TRUE",
    ];
    prop_oneof![
        4 => prop::sample::select(NUMBERS.to_vec()).prop_map(str::to_owned),
        3 => prop::sample::select(TEXTS.to_vec()).prop_map(str::to_owned),
        3 => prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let sides = ["a", "t.a", "a1", "\"a\"", "f(a)", "1", "'x'", "$1", "(a = 1)", "a + 1"];
    let operators = [" = ", "=", " =", " = ", " <> ", " >= ", " LIKE ", " == ", " OPERATOR(pg_catalog.=) "];
    let side = prop::sample::select(sides.to_vec());
    let plain = (side, prop::sample::select(operators.to_vec()), operand()).prop_map(|(a, b, c)| format!("{a}{b}{c}"));
    let number = prop::sample::select(NUMBERS.to_vec()).prop_map(|it| format!("a = {it}"));
    let text = prop::sample::select(TEXTS.to_vec()).prop_map(|it| format!("t.b={it}"));
    prop_oneof![2 => number, 1 => text, 2 => plain].prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            4 => inner.clone().prop_map(|a| format!("({a}) = ({a})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} AND {b}")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) = ({b})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            1 => inner.clone().prop_map(|a| format!("NOT ({a})")),
            1 => inner.clone().prop_map(|a| format!("({a}) IS TRUE")),
            1 => inner.clone().prop_map(|a| format!("EXISTS (SELECT 1 FROM u WHERE {a})")),
            1 => inner.clone().prop_map(|a| format!("a IN (SELECT a FROM t WHERE {a})")),
            1 => inner.prop_map(|a| format!("(SELECT {a}) = (SELECT {a})")),
        ]
    })
}

fn statement() -> impl Strategy<Value = String> {
    let begin = [
        "SELECT a FROM t WHERE ",
        "DELETE FROM t WHERE ",
        "UPDATE t SET a = 1 WHERE ",
        "UPDATE t SET b = 'x', a = (a = 2) WHERE ",
        "SELECT array_agg(a) FROM t JOIN u ON u.a = 1 WHERE ",
        "WITH w AS (DELETE FROM u WHERE a = 1 RETURNING a) SELECT a FROM w WHERE ",
        "INSERT INTO t SELECT a FROM u WHERE ",
        "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1 WHERE ",
        "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED AND t.b = 1 THEN DELETE; DELETE FROM t WHERE ",
        "SELECT f(a = 1), 'a = 1 ' FROM t WHERE ",
        "EXPLAIN ANALYZE DELETE FROM t WHERE ",
        "PREPARE p AS SELECT 1 FROM t WHERE ",
        "UPDATE pg_settings SET setting = 'x' WHERE ",
        "SELECT set_config('a.b', 'x', false) FROM t WHERE ",
    ];
    let end = [
        "",
        ";",
        " ; ",
        " LIMIT 5",
        " LIMIT 5000",
        " -- = 1",
        " /* = 1 */",
        "; SET search_path = 'a'",
        " GROUP BY a HAVING a = 1",
        " RETURNING a = 1",
        " )",
    ];
    // What is compared with itself shows best in what then takes all.
    let begin = prop_oneof![Just("DELETE FROM t WHERE "), prop::sample::select(begin.to_vec())];
    let end = prop_oneof![Just(""), prop::sample::select(end.to_vec())];
    (begin, condition(), end).prop_map(|(begin, condition, end)| format!("{begin}{condition}{end}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_text_is_named_by_its_shape_as_by_itself(sql in statement(), choices in prop::collection::vec(0_usize..16, 32)) {
        let mut texts = vec![sql.clone()];
        for round in 0..4 {
            texts.push(varied(&sql, |place, before| value(before, choices[(place + round * 5) % choices.len()])));
            texts.push(varied(&sql, |_, before| value(before, choices[round])));
        }
        texts.push(sql);
        compare(&texts);
    }

    /// What two texts of one shape have in common.
    #[test]
    fn texts_of_one_shape_differ_in_holes_alone(sql in "[a= '0-9,;()x\\\\$]{0,40}") {
        let Some(shape) = Shape::of(sql.as_bytes()) else { return Ok(()) };
        let mut rebuilt = Vec::new();
        let mut holes = shape.holes.iter();
        for byte in shape.key() {
            match byte {
                0 | 1 => rebuilt.extend_from_slice(&sql.as_bytes()[holes.next().unwrap().clone()]),
                byte => rebuilt.push(*byte),
            }
        }
        prop_assert_eq!(rebuilt, sql.as_bytes());
        prop_assert!(holes.next().is_none());
    }
}
