//! Answers that come where nobody expects them: what countersign believes of a session stays what the
//! server has.

use super::site;
use crate::support::driver::Door;
use crate::support::frontend::{Batch, Frontend, Message};
use crate::support::postgres::{APP, Database, cluster};
use crate::support::site::Site;

const RULES: &str = "\
rules:
  - id: secret
    match: { action: ['postgres:*'], resource: ['**vault*'] }
    decision: deny
  - id: removal
    match: { action: ['postgres:delete'] }
    decision: deny
";

fn open(name: &str) -> (&'static Database, Site, Frontend) {
    let database: &'static Database = Box::leak(Box::new(cluster().database(name)));
    database.sql(
        "CREATE SCHEMA vault AUTHORIZATION app; CREATE TABLE vault.t (i int); INSERT INTO vault.t VALUES (7);
         CREATE TABLE public.t (i int); INSERT INTO public.t VALUES (1); CREATE TABLE kept (i int);
         ALTER TABLE vault.t OWNER TO app; ALTER TABLE public.t OWNER TO app; ALTER TABLE kept OWNER TO app",
    );
    let site = site(database, APP, RULES);
    let session = Frontend::connect(&Door::through(&site, "bot", database));
    (database, site, session)
}

/// The rule that denied it, in the error's own words.
fn denied(answers: &[Message]) -> Option<String> {
    let error = answers.iter().find(|it| it.tag == b'E')?;
    Some([b'M', b'D', b'H'].map(|code| error.field(code).unwrap_or_default()).join(" "))
}

#[track_caller]
fn is_denied_by(rule: &str, answers: &[Message]) {
    let text = denied(answers).unwrap_or_default();
    assert!(text.contains(&format!("denied by rule {rule}")), "{text:?} {answers:?}");
}

/// An error may be longer than what is looked into; it failed all the same.
#[test]
fn a_statement_with_a_long_error_did_nothing() {
    let (database, site, mut session) = open("long_error");
    session.ask(Batch::new().parse("s", "DELETE FROM t").sync());
    let long = "x".repeat(2 << 20);
    let answers = session.ask(Batch::new().query(&format!("PREPARE s AS SELECT '{long}'::int")));
    assert!(answers.iter().any(|it| it.tag == b'E'));
    is_denied_by("removal", &session.ask(Batch::new().bind("", "s", &[]).execute("", 0).sync()));
    assert_eq!(database.sql("SELECT count(*) FROM t"), "1");
    site.verify();
}

/// The server's answer to a question of countersign's own may be as long: it is not for the client.
#[test]
fn a_long_answer_to_countersign_reaches_nobody() {
    let (_, site, mut session) = open("long_answer");
    session.ask(
        Batch::new().query(
            "DO $$BEGIN PERFORM set_config('search_path', 'vault' || repeat(', nowhere', 200000), false); END$$",
        ),
    );
    session.send(&Batch::new().query("SELECT i FROM t").0);
    while let Some(message) = session.try_read() {
        assert_ne!(message.tag, b'D');
        if message.tag == b'Z' {
            break;
        }
    }
    site.verify();
}

/// A portal of the same name is bound before the server says that the one before it is suspended.
#[test]
fn a_portal_that_is_bound_anew_runs_as_itself() {
    let (_, site, mut session) = open("rebound");
    let texts = Batch::new().parse("many", "SELECT generate_series(1, 3)").parse("set", "SET search_path = vault");
    session.ask(texts.sync());
    let held_up = Batch::new().query("BEGIN");
    session.ask(held_up);
    session.send(&Batch::new().bind("", "many", &[]).execute("", 1).bind("", "set", &[]).raw(b'H', b"").0);
    while session.read().tag != b's' {}
    while session.read().tag != b'2' {}
    session.ask(Batch::new().execute("", 0).sync());
    session.ask(Batch::new().query("COMMIT"));
    is_denied_by("secret", &session.ask(Batch::new().query("SELECT i FROM t")));
    site.verify();
}

/// An earlier error takes the place of a denial, and the next denial says its own.
#[test]
fn a_denial_that_is_not_said_is_not_said_later() {
    let (_, site, mut session) = open("unsaid");
    session.ask(Batch::new().parse("s", "DELETE FROM t").parse("v", "SELECT i FROM vault.t").sync());
    for _ in 0..3 {
        session.ask(
            Batch::new()
                .parse("", "SELECT 1 / length(pg_sleep(0.3)::text)")
                .bind("", "", &[])
                .execute("", 0)
                .bind("", "s", &[])
                .execute("", 0)
                .sync(),
        );
    }
    is_denied_by("secret", &session.ask(Batch::new().bind("", "v", &[]).execute("", 0).sync()));
    site.verify();
}

/// What a pipeline did before a query ends with that query's error.
#[test]
fn a_denied_query_undoes_the_pipeline_before_it() {
    let (database, site, mut session) = open("undone");
    let work = Batch::new().parse("", "INSERT INTO kept VALUES (1)").bind("", "", &[]).execute("", 0).raw(b'H', b"");
    session.send(&work.0);
    while session.read().tag != b'C' {}
    is_denied_by("removal", &session.ask(Batch::new().query("DELETE FROM t")));
    session.ask(Batch::new().query("SELECT 1"));
    assert_eq!(database.sql("SELECT count(*) FROM kept"), "0");
    site.verify();
}

/// The server takes no more of a name than 63 bytes, and reads it in the client's encoding.
#[test]
fn two_names_that_are_one_to_the_server_are_one() {
    let (database, site, mut session) = open("names");
    let name = |last: &str| "A".repeat(63) + last;
    let (one, other) = (name("x"), name("y"));
    session.ask(Batch::new().parse(&one, "SELECT 1").sync());
    session.ask(Batch::new().close(b'S', &other).parse(&other, "DELETE FROM t").sync());
    is_denied_by("removal", &session.ask(Batch::new().bind("", &one, &[]).execute("", 0).sync()));
    session.ask(Batch::new().query("BEGIN"));
    session.ask(Batch::new().parse("many", "SELECT 1").parse("set", "SET search_path = vault").sync());
    session.ask(Batch::new().bind(&one, "many", &[]).close(b'P', &other).bind(&other, "set", &[]).sync());
    session.ask(Batch::new().execute(&one, 0).sync());
    session.ask(Batch::new().query("COMMIT"));
    is_denied_by("secret", &session.ask(Batch::new().query("SELECT i FROM t")));
    session.ask(Batch::new().query("SET client_encoding = 'LATIN1'"));
    let long = "\u{e9}".repeat(20);
    session.ask(Batch::new().parse(&(long.clone() + "x"), "SELECT 1").sync());
    session.ask(Batch::new().close(b'S', &(long.clone() + "y")).parse(&(long.clone() + "y"), "DELETE FROM t").sync());
    session.ask(Batch::new().bind("", &(long + "x"), &[]).execute("", 0).sync());
    site.verify();
    assert_eq!(database.sql("SELECT count(*) FROM public.t"), "1");
}

/// A cursor may take the name of a portal that SQL closed.
#[test]
fn a_cursor_in_the_place_of_a_portal_runs_as_itself() {
    let (_, site, mut session) = open("replaced");
    session.ask(Batch::new().query("BEGIN"));
    session.ask(Batch::new().parse("", "SELECT 1").bind("p", "", &[]).sync());
    session.ask(Batch::new().query("CLOSE p"));
    session.ask(Batch::new().query("DECLARE p CURSOR FOR SELECT set_config('search_path', 'vault', false)"));
    session.ask(Batch::new().execute("p", 0).sync());
    is_denied_by("secret", &session.ask(Batch::new().query("SELECT i FROM t")));
    site.verify();
}
