use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Result<Node, String> {
    parse(&Source::new("t.yaml", text)).map_err(|diagnostic| diagnostic.to_string())
}

/// `bad.txt` holds files with mistakes, each followed by what is said about it, exactly.
/// `UPDATE_GOLDEN=1 cargo test` writes the answers anew; read the difference.
#[test]
fn mistakes_are_explained() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/yaml/bad.txt");
    let golden = std::fs::read_to_string(path).unwrap();
    let mut actual = String::new();
    for case in golden.split("==== file\n").skip(1) {
        let (text, _) = case.split_once("---- says\n").unwrap();
        actual.push_str(&format!("==== file\n{text}---- says\n{}", read_all(text)));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &actual).unwrap();
        return;
    }
    assert_eq!(actual, golden, "UPDATE_GOLDEN=1 writes the answers anew");
}

/// Reads a small schema that uses every typed accessor.
fn read_all(text: &str) -> String {
    let source = Source::new("t.yaml", text.replace("\\u202e", "\u{202e}").replace("\\t", "\t"));
    let root = match parse(&source) {
        Ok(root) => root,
        Err(diagnostic) => return render(&[diagnostic]),
    };
    let problems = Problems::new(source);
    if let Some(mut fields) = Fields::read(&root, "the example", &problems) {
        fields.required("name").and_then(|node| node.text(&problems));
        fields.text("description");
        fields.typed("enabled", Node::boolean);
        fields.integer("count", 1, 10);
        fields.typed("expires", Node::duration);
        fields.typed("limit", Node::size);
        fields.texts("groups");
        fields.typed("decision", |node, problems| node.one_of(problems, "decision", &[("allow", 1), ("deny", 2)]));
        if let Some(mut inner) = fields.typed("inner", |node, problems| Fields::read(node, "`inner`", problems)) {
            inner.text("action");
            inner.finish();
        }
        fields.finish();
    }
    render(&problems.into_vec())
}

#[test]
fn values_are_read_as_written() {
    let problems = Problems::new(Source::new("t", ""));
    let node = |text: &str| parsed(text).unwrap();
    for (text, millis) in [("90s", 90_000), ("15m", 900_000), ("2h", 7_200_000), ("500ms", 500), ("1d", 86_400_000)] {
        assert_eq!(node(text).duration(&problems), Some(Duration::from_millis(millis)), "{text}");
    }
    for (text, bytes) in [("1B", 1), ("64KiB", 65_536), ("0B", 0), ("2MiB", 2 << 20), ("5GiB", 5 << 30)] {
        assert_eq!(node(text).size(&problems), Some(bytes), "{text}");
    }
    for text in ["yes", "012345678901", "1e3", "on", "\"x y\"", "'null'"] {
        assert_eq!(node(text).text(&problems), Some(text.trim_matches(['"', '\''])), "{text}");
    }
    assert_eq!(problems.into_vec(), []);
    let problems = Problems::new(Source::new("t", ""));
    for text in ["90", "s", "0s", "-1s", "\"90s\"", "1h30m", "18446744073709551615h", "1.5h", "[1s]"] {
        assert_eq!(node(text).duration(&problems), None, "{text}");
    }
    for text in ["64", "64kb", "64KB", "1 KiB", "99999999999999999999B"] {
        assert_eq!(node(text).size(&problems), None, "{text}");
    }
    for text in ["yes", "True", "\"true\"", "1", ""] {
        assert_eq!(node(text).boolean(&problems), None, "{text}");
    }
    for text in ["", "~", "null", "\"\"", "[a]", "{}"] {
        assert_eq!(node(text).text(&problems), None, "{text}");
    }
}

#[test]
fn json_keeps_identifiers_as_text() {
    let json = parsed("{a: 1, b: 012, c: true, d: \"true\", e: [~, x, -3], f: 1.5, g: +1}").unwrap().to_json();
    assert_eq!(
        json,
        serde_json::json!({"a": 1, "b": "012", "c": true, "d": "true", "e": [null, "x", -3], "f": "1.5", "g": "+1"})
    );
}

#[test]
fn a_place_inside_a_scalar_is_told() {
    for (text, wanted) in [
        ("when: a.b == c # why", "b == c"),
        ("when: 'a.b == c'", "b == c"),
        ("when: |\n  x &&\n    a.b == c\n", "b == c"),
        ("when: |-\n    x &&\n    a.b == c", "b == c"),
        ("é: 'a.b == c'", "b == c"),
        ("when: \"a\\t.b == c\"", "\"a\\t.b == c\""),
        ("when:\n  a.x &&\n  a.b == c", "a.x &&\n  a.b == c"),
    ] {
        let source = Source::new("t", text);
        let node = parse(&source).unwrap();
        let Kind::Map(entries) = &node.kind else { panic!() };
        let value = &entries[0].value;
        let Kind::Scalar { text: scalar, .. } = &value.kind else { panic!() };
        let at = scalar.find("b ==").unwrap();
        let span = value.span_within(&source, at, at + 6);
        assert_eq!(source.slice(span).trim_end(), wanted, "{text}");
    }
}

#[test]
fn near_misses_are_near() {
    let words = ["action", "access", "account", "agent"];
    assert_eq!(nearest("acton", words), Some("action"));
    assert_eq!(nearest("ACTION", words), Some("action"));
    assert_eq!(nearest("acess", words), Some("access"));
    assert_eq!(nearest("resource", words), None);
    assert_eq!(nearest("x", words), None);
    assert_eq!(near_misses("acounts", words, 3), ["account"]);
}

#[test]
fn long_lines_are_cut_around_the_caret() {
    let text = format!(
        "a: [{}, {{}}, {}]",
        "x, ".repeat(100).trim_end_matches(", "),
        "y, ".repeat(100).trim_end_matches(", ")
    );
    let problems = Problems::new(Source::new("t", &text));
    let node = parse(problems.source()).unwrap();
    Fields::read(&node, "it", &problems).unwrap().texts("a");
    let said = render(&problems.into_vec());
    assert!(said.lines().all(|line| line.chars().count() < 180), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let caret = lines[3].chars().position(|c| c == '^').unwrap();
    assert_eq!(lines[2].chars().nth(caret), Some('{'), "{said}");
}

#[test]
fn a_file_of_mistakes_is_cut_short() {
    let problems = Problems::new(Source::new("t", "x"));
    for _ in 0..1000 {
        problems.error(Span::default(), "wrong");
    }
    assert!(problems.is_full());
    let found = problems.into_vec();
    assert_eq!(found.len(), 201);
    assert!(found.iter().any(|it| it.headline() == "t: error: more is wrong than is shown"));
}

#[test]
fn limits_hold() {
    assert!(parsed(&"[".repeat(30)).unwrap_err().contains("nested deeper than 24 levels"));
    assert!(parsed(&"- ".repeat(5000)).unwrap_err().contains("nested deeper than 24 levels"));
    assert!(parsed(&" ".repeat(17 << 20)).unwrap_err().contains("larger than"));
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}") {
        drop(parsed(&text));
    }

    #[test]
    fn yaml_like_text_never_panics(text in "([-:?,\\[\\]{}&*!|>'\"%@` #\n\ta-c~é]|- |: |\n  |<<: ){0,60}") {
        drop(parsed(&text));
    }
}
