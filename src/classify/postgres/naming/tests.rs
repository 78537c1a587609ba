use super::*;

fn names(sql: &str) -> Vec<String> {
    let parsed = super::parse(sql.as_bytes(), &Settings::default(), &Catalogue::builtin());
    parsed.statements.iter().map(|it| it.actions[0].name.to_string()).collect()
}

#[test]
fn every_statement_of_a_string_is_named() {
    assert_eq!(names("SELECT 1; DELETE FROM t;; -- end"), ["postgres:select", "postgres:delete"]);
    assert_eq!(names(""), [""; 0]);
    assert_eq!(names("SELECT FROM FROM"), ["postgres:unknown"]);
}
