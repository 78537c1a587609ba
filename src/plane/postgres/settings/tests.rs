use super::*;

fn fresh() -> Settings {
    Settings::new(classify::Settings::default(), Timeouts::default(), String::new())
}

fn path_and_user(settings: &Settings) -> (String, &str) {
    (settings.path(), &settings.for_naming().user)
}

/// What is in doubt stands as `None`; the server of the test answers `x`.
#[test]
fn a_transaction_ends_with_the_settings_the_server_has() {
    type Play = fn(&mut Settings);
    let cases: [(&str, Play, Option<&str>); 12] = [
        ("set", |it| it.set("search_path", Some("a"), false), Some("a")),
        (
            "set, rolled back by an error later in the string",
            |it| {
                it.set("search_path", Some("a"), false);
                it.fail();
                it.ready(false);
            },
            Some("$user, public"),
        ),
        (
            "set, committed, then an error",
            |it| {
                it.set("search_path", Some("a"), false);
                it.commit();
                it.fail();
                it.ready(false);
            },
            Some("a"),
        ),
        (
            "set, failed, rolled back",
            |it| {
                it.set("search_path", Some("a"), false);
                it.ready(true);
                it.fail();
                it.ready(true);
                it.roll_back(false);
                it.ready(false);
            },
            Some("$user, public"),
        ),
        (
            "set, failed, back to a savepoint",
            |it| {
                it.set("search_path", Some("a"), false);
                it.fail();
                it.ready(true);
                it.roll_back(true);
            },
            None,
        ),
        (
            "local",
            |it| {
                it.set("search_path", Some("a"), true);
                it.ready(true);
                it.commit();
                it.ready(false);
            },
            Some("$user, public"),
        ),
        (
            "set, then local",
            |it| {
                it.set("search_path", Some("a"), false);
                it.set("search_path", Some("b"), true);
                it.commit();
            },
            Some("a"),
        ),
        (
            "local, then set",
            |it| {
                it.set("search_path", Some("a"), true);
                it.set("search_path", Some("b"), false);
                it.commit();
            },
            None,
        ),
        (
            "local, then set, rolled back",
            |it| {
                it.set("search_path", Some("a"), true);
                it.set("search_path", Some("b"), false);
                it.roll_back(false);
            },
            Some("$user, public"),
        ),
        ("a value that nobody can read", |it| it.set("search_path", Some("a b"), false), None),
        (
            "reset",
            |it| {
                it.set("search_path", Some("a"), false);
                it.ready(false);
                it.set("all", None, false);
            },
            Some("$user, public"),
        ),
        (
            "asked",
            |it| {
                it.doubt();
                it.refreshed(0, "\"A\", b");
                it.refreshed(1, "none");
            },
            Some("A, b"),
        ),
    ];
    for (name, play, expected) in cases {
        let mut settings = fresh();
        play(&mut settings);
        let found = (!settings.is_in_doubt()).then(|| settings.path());
        assert_eq!(found.as_deref(), expected, "{name}");
    }
}

#[test]
fn a_role_is_followed_as_the_path_is() {
    let mut settings = fresh();
    settings.set("role", Some("writer"), false);
    assert_eq!(path_and_user(&settings).1, "writer");
    settings.set("role", Some("none"), false);
    assert_eq!(path_and_user(&settings).1, "postgres");
    settings.doubt();
    settings.refreshed(0, "a b");
    assert!(settings.is_in_doubt(), "no path");
    settings.refreshed(0, "public");
    settings.refreshed(1, "reader");
    assert_eq!(path_and_user(&settings), ("public".to_owned(), "reader"));
    assert!(!settings.is_in_doubt());
    settings.set("role", None, false);
    assert_eq!(path_and_user(&settings).1, "postgres");
}

#[test]
fn what_is_reported_late_is_believed_at_once() {
    let mut settings = fresh();
    settings.set("standard_conforming_strings", Some("off"), false);
    assert!(!settings.for_naming().standard_conforming_strings);
    settings.set("client_encoding", Some("latin1"), false);
    assert_eq!(settings.for_naming().client_encoding, "LATIN1");
    settings.fail();
    settings.ready(false);
    assert_eq!(settings.for_naming(), fresh().for_naming());
    settings.set("standard_conforming_strings", Some("of"), false);
    assert!(settings.is_in_doubt());
}
