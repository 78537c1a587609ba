use super::*;
use crate::classify::postgres::tags::Tags;

/// The tags that the statement itself and its hidden parts carry.
fn tagged(sql: &str, catalogue: Catalogue) -> Vec<String> {
    let mut tags = Tags::default();
    for (tag, place) in [("pii", "public.t.email"), ("pii", "public.users.email"), ("money", "public.pay*")] {
        tags.add(tag, place).unwrap();
    }
    tags.add("elsewhere", "other/public.t").unwrap();
    let parsed = super::parse(sql.as_bytes(), &Settings::default(), &catalogue.with_tags(Arc::new(tags)));
    let mut found: Vec<String> =
        parsed.statements.iter().flat_map(|it| it.actions.iter()).flat_map(|it| it.tags.clone()).collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn what_touches_a_tagged_column_carries_its_tag() {
    let offline = |sql: &str| tagged(sql, Catalogue::builtin());
    for sql in [
        "SELECT email FROM users",
        "SELECT * FROM users",
        "TABLE users",
        "SELECT u FROM users u",
        "SELECT users FROM users",
        "SELECT row_to_json(u) FROM users AS u",
        "SELECT c FROM users AS u (a, b, c)",
        "SELECT (u).email FROM users u",
        "SELECT 1 FROM users JOIN x USING (email)",
        "SELECT 1 FROM users NATURAL JOIN x",
        "SELECT a FROM (SELECT users.email AS a FROM users) s",
        "WITH q AS (SELECT * FROM users) SELECT 1 FROM q",
        "DELETE FROM users RETURNING *",
        "UPDATE users SET email = 'x' WHERE id = 1",
        "INSERT INTO users VALUES (1, 'x')",
        "INSERT INTO users (id, email) VALUES (1, 'x')",
        "COPY users TO STDOUT",
        "COPY users (id, email) TO STDOUT",
        "COPY (SELECT email FROM users) TO STDOUT",
        "ALTER TABLE users ADD COLUMN x int",
        "SELECT table_to_xml('users', true, true, '')",
        "EXPLAIN SELECT email FROM users",
        "SELECT email(users) FROM users",
    ] {
        assert_eq!(offline(sql), ["pii"], "{sql}");
    }
    for sql in [
        "SELECT id FROM users",
        "SELECT u.id FROM users u",
        "SELECT count(*) FROM users WHERE id = 1",
        "SELECT id FROM users WHERE name = 'email'",
        "COPY users (id) TO STDOUT",
        "INSERT INTO users (id) VALUES (1)",
        "SELECT email FROM others",
        "SELECT * FROM t2",
    ] {
        assert!(offline(sql).is_empty(), "{sql}");
    }
    assert_eq!(offline("SELECT id FROM payments"), ["money"]);
    // Through the catalogue: a view over the table gives its columns by any name.
    assert_eq!(tagged("SELECT id FROM w", upstream()), ["pii"]);
    assert_eq!(tagged("SELECT id FROM f", upstream()), Vec::<String>::new());
    // A catalogue that ought to be there.
    let unread = |sql: &str| {
        let mut tags = Tags::default();
        tags.add("pii", "public.t").unwrap();
        let parsed = super::parse(sql.as_bytes(), &Settings::default(), &Catalogue::unread(Arc::new(tags)));
        parsed.statements[0].actions[0].unknown.is_some()
    };
    assert!(unread("SELECT * FROM anything") && !unread("SELECT 1"));
}
