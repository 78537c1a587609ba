//! Each rule is shown a violation and has to find it, and something innocent and has to let it be.

use super::*;

const TABLE: &str = "\
# Map
| rank | module | one line |
|---|---|---|
| 0 | `id` `time` | primitives |
| 1 | `action` | the action |
| 5 | `net` `store` | shells |
| 6 | `gate` | the mint |
| 7 | `plane` | `aws`: not a rank |
| 7 | `channel` | |
| 9 · 10 | `serve` | not a row of one rank |
";

fn rank_complaints(path: &str, text: &str) -> Vec<String> {
    let mut sources: Vec<Source> =
        ["id.rs", "time.rs", "action.rs", "net.rs", "store.rs", "gate.rs", "plane.rs", "plane/aws.rs", "plane/gcp.rs"]
            .iter()
            .filter(|other| **other != path)
            .map(|path| Source::new(path, ""))
            .collect();
    sources.push(Source::new(path, text));
    check_ranks(&sources, &read_ranks(TABLE))
}

#[track_caller]
fn caught(path: &str, text: &str) {
    assert_eq!(rank_complaints(path, text).len(), 1, "{path}: {text}\n{:?}", rank_complaints(path, text));
}

#[track_caller]
fn passed(path: &str, text: &str) {
    none(&rank_complaints(path, text));
}

#[test]
fn table_is_read_by_its_first_two_cells() {
    let ranks = read_ranks(TABLE);
    assert_eq!(ranks.get("store"), Some(&5));
    assert_eq!(ranks.get("aws"), None);
    assert_eq!(ranks.len(), 8);
}

#[test]
fn table_of_the_repository_ranks_every_module() {
    assert!(ranks().len() > 20, "{:?}", ranks());
}

#[test]
fn missing_and_surplus_modules_are_found() {
    let sources = [Source::new("lib.rs", ""), Source::new("id.rs", ""), Source::new("extra/part.rs", "")];
    let complaints = check_map(&sources, &Ranks::from([("id".to_owned(), 0), ("gone".to_owned(), 1)]));
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints[0].contains("`extra`") && complaints[1].contains("`gone`"));
}

#[test]
fn downward_imports_pass() {
    passed("gate.rs", "use crate::store::Store;\nuse crate::{id::{self, HoldId}, time::Clock};");
    passed("plane/aws.rs", "use super::Shared;\nuse crate::plane::Shared;\nuse self::part::Part;");
    passed("plane/aws/forward.rs", "use super::Front; use super::super::Shared; use crate::plane::aws::Front;");
    passed("gate.rs", "pub(crate) fn run() { crate::store::open::<u8>() }");
    passed("lib.rs", "mod gate;\nmod id;");
}

#[test]
fn upward_import_is_caught() {
    caught("action.rs", "use crate::gate::Gate;");
    caught("id.rs", "use crate::time::Clock;");
    caught("net.rs", "use crate::store::Store;");
}

#[test]
fn upward_import_is_caught_in_a_group() {
    caught("store.rs", "use crate::{id::HoldId, gate::{Gate, Permit}};");
    caught("store.rs", "use crate::{\n    id,\n    gate as door,\n};");
    caught("store.rs", "pub(crate) use crate::{id::{HoldId as Id, self}, time, gate};");
}

#[test]
fn upward_import_is_caught_without_use() {
    caught("store.rs", "fn open() { crate::gate::Gate::open() }");
    caught("store.rs", "fn open(_: &crate :: gate :: Gate) {}");
    caught("store.rs", "macro_rules! m { () => { $crate::gate::open() } }");
    caught("store.rs", "fn open() -> Vec<crate::gate::Gate> { Vec::new() }");
}

#[test]
fn upward_import_is_caught_through_super() {
    caught("store.rs", "use super::gate::Gate;");
    caught("store/redb.rs", "use super::super::gate::Gate;");
    caught("store/redb.rs", "use self::super::super::gate;");
    caught("store.rs", "mod inner { use super::super::gate::Gate; }");
    passed("store.rs", "mod inner { use super::Store; }\nfn f() {}");
    caught("store.rs", "mod inner { fn f() {} }\nuse super::gate;");
}

#[test]
fn siblings_in_a_family_are_caught() {
    caught("plane/aws.rs", "use crate::plane::gcp::Front;");
    caught("plane/aws.rs", "use super::gcp::Front;");
    caught("plane/aws/forward.rs", "use super::super::gcp;");
    caught("plane/aws.rs", "use crate::channel;");
    passed("plane.rs", "use crate::plane::aws::Front;");
}

#[test]
fn hidden_imports_are_caught() {
    caught("store.rs", "use crate as all;");
    caught("store.rs", "use crate::*;");
    caught("store.rs", "#[path = \"gate.rs\"]\nmod other;");
    caught("store.rs", "include!(\"gate.rs\");");
    caught("store.rs", "use countersign::cli;");
    passed("main.rs", "fn main() { countersign::cli::run(); }");
}

#[test]
fn comments_strings_and_tests_are_not_imports() {
    passed("store.rs", "//! [`crate::gate`]\n/* use crate::gate; /* crate::gate */ crate::gate */ fn f() {}");
    passed("store.rs", "const A: &str = \"use crate::gate;\"; const B: &str = r#\"crate::gate \" crate::gate\"#;");
    passed("store.rs", "fn f<'a>(x: &'a str) -> char { '\"' } // crate::gate\nconst C: char = '\\'';");
    passed("store.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::gate::Gate;\n}");
    passed("store/tests.rs", "use crate::gate::Gate;");
}

#[test]
fn code_after_a_literal_or_a_test_is_still_seen() {
    caught("store.rs", "const A: char = '\"'; use crate::gate; const B: char = '\"';");
    caught("store.rs", "const A: &str = \"\\\"\"; use crate::gate;");
    caught("store.rs", "fn f<'a>() {} use crate::gate; fn g<'b>() {}");
    caught("store.rs", "#[cfg(test)]\nmod tests;\nuse crate::gate;");
    caught("store.rs", "#[cfg(test)]\nfn f() { g(\"}\") }\nuse crate::gate;");
    caught("store.rs", "#[cfg(not(test))]\nuse crate::gate;");
}

#[test]
fn impure_core_is_caught() {
    let ranks = read_ranks(TABLE);
    let complaints = |path: &str, text: &str| check_purity(&[Source::new(path, text)], &ranks).len();
    assert_eq!(complaints("action.rs", "use std::fs;"), 1);
    assert_eq!(complaints("action/part.rs", "async fn f() { tokio::spawn(g()); }"), 1);
    assert_eq!(complaints("action.rs", "fn f() { HoldId::fresh(now) }"), 1);
    assert_eq!(complaints("gate.rs", "fn f() { tokio::spawn(g()); std::time::SystemTime::now(); }"), 1);
    assert_eq!(complaints("gate.rs", "fn f() { SystemRandom::new() }"), 1);
    assert_eq!(complaints("time.rs", "fn f() { std::time::SystemTime::now(); }"), 0);
    assert_eq!(complaints("action.rs", "// tokio::spawn\nfn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }"), 0);
}

#[test]
fn long_files_and_functions_are_caught() {
    let body = "    f();\n".repeat(99);
    let long = Source::new("gate.rs", &format!("fn long(a: [u8; 2]) {{\n{body}}}\n"));
    let short = Source::new("gate.rs", &format!("fn short() {{\n{}}}\nfn next();\n", "    f();\n".repeat(98)));
    assert_eq!(check_sizes(&[long]).len(), 1);
    assert_eq!(check_sizes(&[short]).len(), 0);
    let file = "const A: u8 = 1;\n".repeat(801);
    assert_eq!(check_sizes(&[Source::new("gate.rs", &file)]).len(), 1);
    assert_eq!(check_sizes(&[Source::new("gate/tests.rs", &file)]).len(), 0);
    let inline = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{file}}}\n");
    assert_eq!(check_sizes(&[Source::new("gate.rs", &inline)]).len(), 0);
}

#[test]
fn empty_names_are_caught() {
    let complaints = |path: &str, text: &str| check_names(&[Source::new(path, text)]).len();
    assert_eq!(complaints("utils.rs", ""), 1);
    assert_eq!(complaints("gate/mod.rs", ""), 1);
    assert_eq!(complaints("gate/hold_helpers.rs", ""), 1);
    assert_eq!(complaints("gate.rs", "struct HoldManager {}"), 1);
    assert_eq!(complaints("gate.rs", "enum RequestData { A }"), 1);
    assert_eq!(complaints("gate.rs", "fn get_hold() {}"), 1);
    assert_eq!(complaints("gate.rs", "fn hold_helper() {}"), 1);
    assert_eq!(complaints("gate.rs", "struct Service; struct Gate; fn forget() {} enum E { Data }"), 0);
}

#[test]
fn leftovers_and_glob_reexports_are_caught() {
    let complaints = |text: &str| check_prose(&[Source::new("gate.rs", text)]).len();
    let word = ["TO", "DO"].concat();
    assert_eq!(complaints(&format!("//! Gate.\n// {word}: later")), 1);
    assert_eq!(complaints(&format!("//! Gate.\nconst A: &str = \"{word}\";")), 0);
    assert_eq!(complaints("//! Gate.\npub use self::inner::*;"), 1);
    assert_eq!(complaints("//! Gate.\npub(crate) use inner::{a, b::*};"), 1);
    assert_eq!(complaints("//! Gate.\nuse inner::*;\npub(crate) use inner::A;"), 0);
    assert_eq!(complaints("fn f() {}"), 1);
}

#[test]
fn machine_paths_are_caught() {
    let file = |text: String| check_machine_paths(&[("README.md".to_owned(), text)]).len();
    assert_eq!(file(["cd /ho", "me/me/countersign"].concat()), 1);
    assert_eq!(file("cd /tmp/countersign-demo".to_owned()), 0);
}
