//! `countersign rules`, as a rule author meets it: argv in, text and exit code out.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use std::io::Write as _;

fn rules(arguments: &[&str], directory: &Path, input: &str) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .arg("rules")
        .args(arguments)
        .current_dir(directory)
        .env_remove("COUNTERSIGN_CONFIG")
        .env_remove("COUNTERSIGN_DATA")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

#[test]
fn the_pack_is_good_and_each_of_its_rules_has_a_case() {
    let (code, text) = rules(&["check"], root(), "");
    assert_eq!(code, 0, "{text}");
    let (code, text) = rules(&["test"], root(), "");
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("no case is decided by"), "{text}");
}

#[test]
fn a_mistake_is_a_finding_with_its_place() {
    let bad = directory(&[(
        "a.yaml",
        "rules:\n  - id: a\n    match: {action: \"aws:iam:CreateAcessKey\"}\n    decision: hold\n",
    )]);
    let (code, text) = rules(&["check", "."], bad.path(), "");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("./a.yaml:3:21: error: no known action is named `aws:iam:CreateAcessKey`"), "{text}");
    assert!(text.contains("did you mean `aws:iam:CreateAccessKey`?"), "{text}");
    assert!(text.ends_with("\n1 finding\n"), "{text}");
    let (code, _) = rules(&["test", "."], bad.path(), "");
    assert_eq!(code, 1);
}

#[test]
fn a_case_that_fails_says_what_came_out() {
    let files = [
        ("a.yaml", "rules: [{id: a, match: {action: \"aws:iam:*\"}, decision: hold}]"),
        ("a.cases.yaml", "cases:\n  - {name: users are made freely, action: \"aws:iam:CreateUser\", expect: allow}\n"),
    ];
    let failing = directory(&files);
    let (code, text) = rules(&["test", "."], failing.path(), "");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("wanted allow; got hold by a"), "{text}");
}

#[test]
fn a_directory_that_cannot_be_read_is_no_finding() {
    let empty = directory(&[]);
    let (code, text) = rules(&["check", "missing"], empty.path(), "");
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("cannot read `missing`"), "{text}");
    let (code, text) = rules(&["explain"], root(), "no JSON");
    assert_eq!(code, 2, "{text}");
}
