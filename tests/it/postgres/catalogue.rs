//! Names are resolved against the upstream's own catalogue: what a view, a function, a trigger, an operator
//! or a cast hides is judged as if it stood in the statement.

use crate::support::driver::Door;
use crate::support::frontend::{Batch, Frontend};
use crate::support::postgres::{ADMIN, APP, Database, Role, cluster};
use crate::support::site::{Setup, Site};
use crate::support::wait_for;

const RULES: &str = "\
rules:
  - id: secret
    match: { action: ['postgres:*'], resource: ['*/vault.secret', '*/public.secret'] }
    decision: deny
  - id: tagged
    match: { tags: [pii] }
    decision: deny
  - id: deleting
    match: { action: [postgres:delete] }
    decision: deny
  - id: commands
    match: { action: ['postgres:*'], traits: [exec] }
    decision: deny
  - id: doubt
    match: { action: ['postgres:*'], traits: [unknown] }
    decision: deny
";

struct Case {
    database: Database,
    site: Site,
    door: Door,
    session: Frontend,
}

impl Case {
    /// A database made by this SQL, and a session on it.
    #[track_caller]
    fn open(name: &str, role: Role, sql: &str) -> Self {
        Self::configured(name, role, sql, "")
    }

    #[track_caller]
    fn configured(name: &str, role: Role, sql: &str, lines: &str) -> Self {
        let database = cluster().database(name);
        database.sql(
            "CREATE SCHEMA vault AUTHORIZATION app; ALTER SCHEMA public OWNER TO app;
             CREATE TABLE public.plain (id int, note text); ALTER TABLE plain OWNER TO app;
             CREATE TABLE vault.secret (id int, card text); ALTER TABLE vault.secret OWNER TO app;
             INSERT INTO plain VALUES (1, 'x'); INSERT INTO vault.secret VALUES (1, '4111')",
        );
        database.sql(sql);
        let mut setup = Setup::postgres(&database, role);
        setup.postgres += &format!("catalogue_every: 100ms\n{lines}");
        let site = setup.rules(RULES).config("rules: { ordinary: allow, privileged: allow, unknown: allow }\n").start();
        let door = Door::through(&site, "bot", &database);
        let session = Frontend::connect(&door);
        Self { database, site, door, session }
    }

    /// The id of the rule that stopped a statement; `None` when it ran.
    #[track_caller]
    fn stopped(&mut self, sql: &str) -> Option<&'static str> {
        stopped(&mut self.session, sql)
    }

    /// Nothing is open or prepared, and names are looked for where they were at first.
    fn restore_path(&mut self) {
        self.session.ask(Batch::new().query("ROLLBACK"));
        self.session.ask(Batch::new().query("DISCARD ALL"));
    }

    #[track_caller]
    fn runs(&mut self, sql: &str) {
        assert_eq!(self.stopped(sql), None, "{sql}");
    }
}

#[track_caller]
fn stopped(session: &mut Frontend, sql: &str) -> Option<&'static str> {
    let messages = session.ask(Batch::new().query(sql));
    let error = messages.iter().find(|it| it.tag == b'E')?;
    let text = [b'M', b'D', b'H'].map(|code| error.field(code).unwrap_or_default()).join(" ");
    let rule = ["secret", "tagged", "deleting", "commands", "doubt"]
        .into_iter()
        .find(|id| text.contains(&format!("denied by rule {id}")));
    Some(rule.unwrap_or_else(|| panic!("{sql}: {text}")))
}

/// The SQLSTATE of a statement's error; empty when it ran.
fn code(session: &mut Frontend, sql: &str) -> String {
    let messages = session.ask(Batch::new().query(sql));
    messages.iter().find(|it| it.tag == b'E').and_then(|it| it.field(b'C')).unwrap_or_default()
}

#[test]
fn a_function_is_named_by_its_body() {
    let mut case = Case::open(
        "bodies",
        APP,
        "CREATE FUNCTION harmless(a int) RETURNS int LANGUAGE sql AS 'SELECT a + 1';
         CREATE FUNCTION reads() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM vault.secret';
         CREATE FUNCTION removes() RETURNS int LANGUAGE plpgsql AS $$BEGIN DELETE FROM public.plain; RETURN 1; END$$;
         CREATE FUNCTION outer_one() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM public.removes(); RETURN 1; END$$;
         CREATE FUNCTION as_owner() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = vault
            AS 'SELECT count(*) FROM secret';
         CREATE FUNCTION tree() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM vault.secret; END;
         CREATE FUNCTION dynamic(a text) RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE a; RETURN 1; END$$;
         CREATE AGGREGATE gather(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
         CREATE FUNCTION step(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT public.removes()';
         CREATE AGGREGATE sweep(int) (SFUNC = step, STYPE = int, INITCOND = '0')",
    );
    case.runs("SELECT harmless(1)");
    case.runs("SELECT gather(id) FROM plain");
    assert_eq!(case.stopped("SELECT reads()"), Some("secret"));
    assert_eq!(case.stopped("SELECT * FROM plain WHERE removes() = 1"), Some("deleting"));
    assert_eq!(case.stopped("SELECT outer_one()"), Some("deleting"));
    assert_eq!(case.stopped("SELECT as_owner()"), Some("secret"));
    assert_eq!(case.stopped("SELECT tree()"), Some("secret"));
    assert_eq!(case.stopped("SELECT dynamic('DELETE FROM plain')"), Some("doubt"));
    assert_eq!(case.stopped("SELECT sweep(id) FROM plain"), Some("deleting"));
    assert_eq!(case.database.sql("SELECT count(*) FROM plain"), "1");
}

#[test]
fn what_reading_and_writing_a_relation_runs_is_named() {
    let out = cluster().folder().join("by_trigger");
    let mut case = Case::open(
        "relations",
        ADMIN,
        &format!(
            "CREATE VIEW seen AS SELECT id FROM vault.secret;
             CREATE VIEW over_it AS SELECT id + 1 AS more FROM seen;
             CREATE VIEW files AS SELECT pg_read_file('postgresql.conf') AS text;
             CREATE VIEW roles AS SELECT rolname, rolpassword FROM pg_authid;
             CREATE TABLE logged (id int);
             CREATE FUNCTION leak() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
                COPY public.plain TO PROGRAM 'touch {}'; RETURN NEW; END$$;
             CREATE TRIGGER leaks BEFORE INSERT ON logged FOR EACH ROW EXECUTE FUNCTION leak();
             CREATE FUNCTION removes() RETURNS int LANGUAGE plpgsql AS $$BEGIN DELETE FROM public.plain; RETURN 1; END$$;
             CREATE TABLE defaulted (id int DEFAULT removes(), a int);
             CREATE TABLE ruled (id int);
             CREATE RULE r AS ON INSERT TO ruled DO ALSO INSERT INTO vault.secret VALUES (NEW.id, 'x');
             CREATE TABLE guarded (id int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
             CREATE POLICY p ON guarded USING (EXISTS (SELECT 1 FROM vault.secret));
             CREATE TABLE whole (id int) PARTITION BY LIST (id);
             CREATE TABLE part PARTITION OF whole FOR VALUES IN (1);
             CREATE TRIGGER leaks BEFORE INSERT ON part FOR EACH ROW EXECUTE FUNCTION leak();
             CREATE TABLE parent (id int PRIMARY KEY);
             CREATE TABLE public.secret (id int REFERENCES parent ON UPDATE CASCADE)",
            out.display()
        ),
    );
    assert_eq!(case.stopped("SELECT * FROM over_it"), Some("secret"));
    assert_eq!(case.stopped("SELECT * FROM files"), Some("commands"));
    assert_eq!(case.stopped("INSERT INTO logged VALUES (1)"), Some("commands"));
    assert_eq!(case.stopped("INSERT INTO whole VALUES (1)"), Some("commands"));
    assert!(!out.exists(), "the trigger ran");
    assert_eq!(case.stopped("INSERT INTO defaulted (a) VALUES (1)"), Some("deleting"));
    assert_eq!(case.stopped("INSERT INTO ruled VALUES (7)"), Some("doubt"));
    assert_eq!(case.stopped("SELECT * FROM guarded"), Some("secret"));
    assert_eq!(case.stopped("UPDATE parent SET id = 2"), Some("secret"));
    assert_eq!(case.database.sql("SELECT count(*) FROM vault.secret"), "1");
    case.runs("SELECT * FROM plain");
    case.runs("SELECT * FROM parent");
    case.runs("INSERT INTO parent VALUES (1)");
    assert_eq!(case.database.sql("SELECT count(*) FROM plain"), "1");
}

#[test]
fn operators_casts_and_domains_of_users_are_named() {
    let mut case = Case::open(
        "operators",
        ADMIN,
        "CREATE FUNCTION removes(a int, b int) RETURNS int LANGUAGE plpgsql AS
            $$BEGIN DELETE FROM public.plain; RETURN 1; END$$;
         CREATE OPERATOR public.@@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = removes);
         CREATE TYPE pair AS (a int, b int);
         CREATE FUNCTION to_pair(a int) RETURNS pair LANGUAGE plpgsql AS
            $$BEGIN DELETE FROM public.plain; RETURN ROW(1, 2)::public.pair; END$$;
         CREATE CAST (int AS pair) WITH FUNCTION to_pair(int) AS ASSIGNMENT;
         CREATE TABLE pairs (p pair);
         CREATE FUNCTION is_fine(a int) RETURNS bool LANGUAGE plpgsql AS
            $$BEGIN DELETE FROM public.plain; RETURN true; END$$;
         CREATE DOMAIN fine AS int CHECK (is_fine(VALUE));
         CREATE DOMAIN small AS int CHECK (VALUE < 10);
         CREATE TABLE fines (f fine); CREATE TABLE smalls (s small)",
    );
    for sql in [
        "SELECT 1 @@@ 2",
        "SELECT 1 OPERATOR(public.@@@) 2",
        "SELECT 1::pair",
        "INSERT INTO pairs VALUES (1)",
        "SELECT '1'::fine",
        "INSERT INTO fines VALUES (1)",
    ] {
        assert_eq!(case.stopped(sql), Some("deleting"), "{sql}");
    }
    case.runs("SELECT 1::small");
    case.runs("INSERT INTO smalls VALUES (1)");
    assert_eq!(case.database.sql("SELECT count(*) FROM plain"), "1");
}

#[test]
fn a_name_means_what_the_path_and_the_temporary_tables_make_of_it() {
    let mut case = Case::open("paths", APP, "CREATE TABLE shared (id int); ALTER TABLE shared OWNER TO app");
    // Found nowhere, and then not only in the other schema.
    case.runs("SET search_path = public, vault");
    assert_eq!(case.stopped("SELECT * FROM secret"), Some("secret"));
    case.runs("SET search_path = public");
    assert_eq!(code(&mut case.session, "SELECT * FROM hidden"), "42P01");
    // A temporary table hides the real one, and then does not any more.
    case.runs("SET search_path = vault, public");
    case.runs("CREATE TEMP TABLE hidden (id int)");
    case.runs("SELECT * FROM hidden");
    case.runs("CREATE TEMP TABLE secret (id int)");
    assert_eq!(case.stopped("SELECT * FROM secret"), Some("secret"));
    case.runs("DISCARD TEMP");
    assert_eq!(case.stopped("SELECT * FROM secret"), Some("secret"));
    assert_eq!(code(&mut case.session, "SELECT * FROM hidden"), "42P01");
}

#[test]
fn changes_are_known_before_the_next_statement_or_soon() {
    let mut case = Case::open(
        "changes",
        APP,
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION f() OWNER TO app",
    );
    let mut other = Frontend::connect(&case.door);
    case.runs("SELECT f()");
    assert_eq!(stopped(&mut other, "SELECT f()"), None);
    // By the agent itself: no session has the old body any more.
    case.runs("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'");
    case.runs("SELECT f()");
    assert_eq!(stopped(&mut other, "SELECT f()"), None);
    // In a transaction what was replaced cannot be read yet.
    case.runs("BEGIN");
    case.runs("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 3'");
    assert_eq!(case.stopped("SELECT f()"), Some("doubt"));
    assert_eq!(stopped(&mut other, "SELECT f()"), None);
    case.runs("ROLLBACK");
    case.runs("SELECT f()");
    // A new relation of somebody else is found at once, and a new body soon.
    case.database.sql("CREATE TABLE fresh (id int); ALTER TABLE fresh OWNER TO app");
    case.runs("SELECT * FROM fresh");
    case.database
        .sql("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'DELETE FROM public.plain; SELECT 1'");
    wait_for("the new body", || stopped(&mut other, "SELECT 1 WHERE false AND f() = 1"));
    assert_eq!(stopped(&mut other, "SELECT f()"), Some("deleting"));
    // A name that is given to something else within the transaction.
    case.runs("BEGIN");
    case.runs("ALTER TABLE plain RENAME TO other");
    case.runs("ALTER TABLE fresh RENAME TO plain");
    assert_eq!(case.stopped("SELECT * FROM plain"), Some("doubt"));
    case.runs("ROLLBACK");
    case.runs("SELECT * FROM plain");
}

#[test]
fn what_touches_a_tagged_column_carries_its_tag() {
    let mut case = Case::configured(
        "tags",
        APP,
        "CREATE TABLE customers (id int, email text); ALTER TABLE customers OWNER TO app;
         CREATE VIEW contacts AS SELECT id AS a, email AS b FROM customers; ALTER VIEW contacts OWNER TO app;
         CREATE FUNCTION contact() RETURNS text LANGUAGE sql AS 'SELECT email FROM public.customers LIMIT 1';
         CREATE TABLE parts (id int, email text) PARTITION BY LIST (id); ALTER TABLE parts OWNER TO app;
         CREATE TABLE part PARTITION OF parts DEFAULT; ALTER TABLE part OWNER TO app;
         REVOKE SELECT ON pg_catalog.pg_trigger FROM PUBLIC",
        "tags: { pii: [public.customers.email, public.parts] }\n",
    );
    // What relations stand on is not known yet.
    assert_eq!(case.stopped("SELECT a FROM contacts"), Some("doubt"));
    case.database.sql("GRANT SELECT ON pg_catalog.pg_trigger TO PUBLIC");
    wait_for("the catalogue", || case.stopped("SELECT id FROM customers").is_none().then_some(()));
    for sql in [
        "SELECT * FROM customers",
        "SELECT a FROM contacts",
        "SELECT contact()",
        "COPY customers TO STDOUT",
        "SELECT id FROM part",
        "SELECT c FROM customers c",
    ] {
        assert_eq!(case.stopped(sql), Some("tagged"), "{sql}");
    }
    case.runs("SELECT count(*) FROM customers WHERE id = 1");
    let records = case.site.records();
    assert!(records.iter().any(|it| it["actions"][0]["tags"] == serde_json::json!(["pii"])), "{records:?}");
}

#[test]
fn without_a_catalogue_functions_of_users_are_unknown() {
    let mut case = Case::open(
        "unread",
        APP,
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
         REVOKE SELECT ON pg_catalog.pg_trigger FROM PUBLIC",
    );
    case.runs("SELECT * FROM plain");
    assert_eq!(case.stopped("SELECT f()"), Some("doubt"));
    case.database.sql("GRANT SELECT ON pg_catalog.pg_trigger TO PUBLIC");
    wait_for("the catalogue", || case.stopped("SELECT f()").is_none().then_some(()));
}

/// `f` of the schema `evil` reads what `f` of `public` does not.
#[test]
fn names_are_found_by_the_path_that_the_server_has() {
    let mut case = Case::open(
        "paths",
        APP,
        "CREATE SCHEMA evil AUTHORIZATION app;
         CREATE FUNCTION public.f() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
         CREATE FUNCTION evil.f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM vault.secret';
         CREATE FUNCTION public.moves() RETURNS text LANGUAGE sql AS
            'SELECT set_config(''search_path'', ''evil'', false)'",
    );
    case.runs("SELECT f()");
    assert_eq!(case.stopped("SET search_path = evil; SELECT f()"), Some("secret"));
    case.runs("SELECT f()");

    // Taken back by an error of the string it came in.
    case.session.ask(Batch::new().query("SET search_path = evil; SELECT 1/0"));
    case.runs("SELECT f()");
    case.runs("SET search_path = evil");
    assert_eq!(case.stopped("SELECT f()"), Some("secret"));
    case.session.ask(Batch::new().query("SET search_path = public; SELECT 1/0"));
    assert_eq!(case.stopped("SELECT f()"), Some("secret"));

    for (taken_back, name) in [
        ("BEGIN; SET search_path = public; ROLLBACK", "rolled back"),
        ("BEGIN; SET LOCAL search_path = public; COMMIT", "local"),
        ("BEGIN; SAVEPOINT a; SET search_path = public; ROLLBACK TO a; COMMIT", "to a savepoint"),
        ("BEGIN; SET LOCAL search_path = public; SET search_path = evil; COMMIT", "local, then for good"),
    ] {
        for part in taken_back.split("; ") {
            case.runs(part);
        }
        assert_eq!(case.stopped("SELECT f()"), Some("secret"), "{name}");
    }
    case.runs("SET search_path = public");
    case.runs("BEGIN");
    case.runs("SET LOCAL search_path = public, pg_catalog");
    assert_eq!(case.stopped("COMMIT; SELECT f()"), Some("doubt"), "the path is another after COMMIT");
    case.runs("COMMIT");

    // Moved by what a name runs, which the server is asked about then.
    for moving in ["EXECUTE p", "FETCH ALL FROM c"] {
        case.runs("RESET search_path");
        case.session.ask(Batch::new().query("DEALLOCATE ALL"));
        case.runs("PREPARE p AS SELECT set_config('search_path', 'evil', false)");
        case.runs("BEGIN");
        case.runs("DECLARE c CURSOR FOR SELECT set_config('search_path', 'evil', false)");
        case.runs(moving);
        case.runs("COMMIT");
        assert_eq!(case.stopped("SELECT f()"), Some("secret"), "{moving}");
    }
    case.runs("RESET search_path");
    assert_eq!(case.stopped("SELECT moves()"), Some("doubt"), "its own names may be others by then");
    case.runs("BEGIN");
    case.runs("DECLARE h CURSOR WITH HOLD FOR SELECT set_config('search_path', 'evil', false)");
    case.runs("SELECT f()");
    case.runs("COMMIT");
    assert_eq!(case.stopped("SELECT f()"), Some("secret"), "a cursor that is held runs at COMMIT");

    // The same in one string, or without a transaction of its own, or in one go.
    const MOVING: &str = "SELECT set_config('search_path', 'evil', false)";
    for string in [
        format!("PREPARE s AS {MOVING}; EXECUTE s; SELECT f()"),
        format!("DECLARE s CURSOR FOR {MOVING}; FETCH ALL FROM s; SELECT f()"),
        format!("BEGIN; DECLARE s CURSOR WITH HOLD FOR {MOVING}; COMMIT; SELECT f()"),
    ] {
        case.restore_path();
        assert_eq!(case.stopped(&string), Some("doubt"), "{string}");
    }
    for (first, then) in [
        (vec![format!("DECLARE s CURSOR WITH HOLD FOR {MOVING}")], vec!["SELECT f()"]),
        (vec!["BEGIN".to_owned(), format!("DECLARE s CURSOR WITH HOLD FOR {MOVING}")], vec!["COMMIT; SELECT f()"]),
        (vec!["BEGIN".to_owned(), format!("DECLARE s CURSOR WITH HOLD FOR {MOVING}")], vec!["COMMIT", "SELECT f()"]),
        (
            vec!["SET search_path = evil".to_owned(), "BEGIN".to_owned(), "SET LOCAL search_path = public".to_owned()],
            vec!["COMMIT", "SELECT f()"],
        ),
        (
            vec!["SET search_path = evil".to_owned(), "BEGIN".to_owned(), "SET search_path = public".to_owned()],
            vec!["ROLLBACK", "SELECT f()"],
        ),
    ] {
        for is_extended in [false, true] {
            if is_extended && then.len() == 1 && then[0].contains(';') {
                continue;
            }
            case.restore_path();
            first.iter().for_each(|sql| case.runs(sql));
            let batch = then.iter().fold(Batch::new(), |batch, sql| match is_extended {
                true => batch.parse("", sql).bind("", "", &[]).execute("", 0),
                false => batch.query(sql),
            });
            let rounds = if is_extended { 1 } else { then.len() };
            case.session.send(&if is_extended { batch.sync() } else { batch }.0);
            let answers: Vec<_> = (0..rounds).flat_map(|_| case.session.read_to(b'Z')).collect();
            let error = answers.iter().find(|it| it.tag == b'E').and_then(|it| it.field(b'M'));
            assert!(
                error.is_some_and(|it| it.contains("denied by rule")),
                "{first:?} {then:?} {is_extended}: {answers:?}"
            );
        }
    }
    // A pipeline's own transaction ends with its Sync.
    case.restore_path();
    case.runs("SET search_path = evil");
    let one = |batch: Batch, sql: &str| batch.parse("", sql).bind("", "", &[]).execute("", 0).sync();
    case.session.send(&one(one(Batch::new(), "SET LOCAL search_path = public"), "SELECT f()").0);
    case.session.read_to(b'Z');
    let answers = case.session.read_to(b'Z');
    assert!(answers.iter().any(|it| it.tag == b'E'), "{answers:?}");
}

/// What countersign asks the server is no message of the client's, and ends nothing of it.
#[test]
fn a_question_about_the_session_leaves_the_unnamed_statement() {
    let mut case = Case::open("question", APP, "");
    let ask = |session: &mut Frontend, batch: Batch| -> Vec<u8> {
        session.ask(batch.execute("", 0).sync()).iter().map(|it| it.tag).collect()
    };
    let moving = |path: &str| format!("SELECT set_config('search_path', '{path}', false)");
    let first = Batch::new().parse("", "SELECT 'kept'").parse("s", &moving("vault")).bind("", "s", &[]);
    assert_eq!(ask(&mut case.session, first), b"112DCZ");
    assert_eq!(ask(&mut case.session, Batch::new().bind("", "", &[])), b"2DCZ");
    // A pipeline that begins with Parse is asked about before that.
    let third = Batch::new().parse("", &format!("{}, 1", moving("public"))).bind("", "", &[]);
    assert_eq!(ask(&mut case.session, third), b"12DCZ");
    let fourth = Batch::new().parse("", "SELECT id FROM plain").bind("", "", &[]);
    assert_eq!(ask(&mut case.session, fourth), b"12DCZ");
}

/// A slip of the pen is the server's to tell; nobody is asked about it.
#[test]
fn a_relation_that_does_not_exist_is_the_servers_to_tell() {
    let mut case = Case::open(
        "missing",
        APP,
        "CREATE FUNCTION makes(a text) RETURNS void LANGUAGE plpgsql AS $$BEGIN EXECUTE a; END$$",
    );
    assert_eq!(code(&mut case.session, "SELECT * FROM plane"), "42P01");
    assert_eq!(code(&mut case.session, "SELECT * FROM nowhere.plain"), "42P01");
    assert_eq!(code(&mut case.session, "INSERT INTO plane VALUES (1)"), "42P01");
    assert_eq!(code(&mut case.session, "SELECT * FROM plane, vault.secret"), "42501", "one of them does");
    // A system relation of a newer server, and a function, may be there all the same.
    assert_eq!(case.stopped("SELECT * FROM pg_plane"), Some("doubt"));
    assert_eq!(case.stopped("SELECT plane()"), Some("doubt"));
    // Made by somebody else a moment ago.
    case.database.sql("CREATE VIEW plane AS SELECT * FROM vault.secret; ALTER VIEW plane OWNER TO app");
    assert_eq!(case.stopped("SELECT * FROM plane"), Some("secret"));

    // What dynamic SQL has made, only this session sees: there, a lack proves nothing.
    let lax = "rules:\n  - id: doubt\n    match: { resource: ['*.hidden'], traits: [unknown] }\n    decision: deny\n";
    let site = Setup::postgres(&case.database, APP)
        .rules(lax)
        .config("rules: { ordinary: allow, privileged: allow, unknown: allow }\n")
        .start();
    let mut session = Frontend::connect(&Door::through(&site, "bot", &case.database));
    assert_eq!(code(&mut session, "SELECT * FROM hidden"), "42P01");
    assert_eq!(code(&mut session, "SELECT makes('CREATE TEMP VIEW hidden AS SELECT * FROM vault.secret')"), "");
    assert_eq!(stopped(&mut session, "SELECT * FROM hidden"), Some("doubt"));
}

#[test]
fn what_runs_without_being_written_is_named() {
    let mut case = Case::open(
        "unwritten",
        ADMIN,
        "CREATE FUNCTION reads() RETURNS text LANGUAGE sql AS $$SELECT pg_read_file('postgresql.conf')$$;
         CREATE FUNCTION meets(anyelement) RETURNS bool LANGUAGE sql AS $$SELECT length(reads()) > 0$$;
         CREATE FUNCTION defaulted(a text DEFAULT reads()) RETURNS text LANGUAGE sql AS 'SELECT a';
         CREATE FUNCTION filed(a text DEFAULT pg_read_file('postgresql.conf')) RETURNS text LANGUAGE sql AS 'SELECT a';
         CREATE DOMAIN checked AS int CHECK (meets(VALUE));
         CREATE FUNCTION answers() RETURNS checked LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
         CREATE FUNCTION declares() RETURNS int LANGUAGE plpgsql AS 'DECLARE a checked := 1; BEGIN RETURN 1; END';
         CREATE TYPE pair AS (a checked, b int);
         CREATE TYPE ordered AS (a int);
         CREATE FUNCTION compared(ordered, ordered) RETURNS int LANGUAGE sql AS 'SELECT length(public.reads())';
         CREATE FUNCTION less(ordered, ordered) RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE OPERATOR <<< (FUNCTION = less, LEFTARG = ordered, RIGHTARG = ordered);
         CREATE OPERATOR CLASS by_file DEFAULT FOR TYPE ordered USING btree AS OPERATOR 1 <<<,
            FUNCTION 1 compared(ordered, ordered);
         CREATE TABLE sorted (id int, a ordered); INSERT INTO sorted VALUES (1, ROW(1)), (2, ROW(2));
         CREATE TABLE source (id int, a text DEFAULT reads());
         CREATE FUNCTION json_scalar(text) RETURNS text LANGUAGE sql AS 'SELECT public.reads()';
         CREATE FUNCTION folded(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN length(public.reads()); END';
         CREATE FUNCTION pg_catalog.lower(int) RETURNS text LANGUAGE sql AS 'SELECT public.reads()';
         CREATE FUNCTION reads_row(plain) RETURNS text LANGUAGE sql AS 'SELECT public.reads()'",
    );
    for sql in [
        "SELECT defaulted()",
        "SELECT filed()",
        "SELECT answers()",
        "SELECT declares()",
        "DO $$DECLARE a checked := 1; BEGIN END$$",
        "SELECT ROW(1, 2)::pair",
        "SELECT * FROM json_populate_record(NULL::pair, '{\"a\": 1}')",
        "SELECT id FROM sorted ORDER BY a",
        "SELECT DISTINCT a FROM sorted",
        "CREATE TEMP TABLE copied (LIKE source INCLUDING DEFAULTS)",
        "CREATE TEMP TABLE heir () INHERITS (source)",
        "SELECT json_scalar('x')",
        "EXPLAIN SELECT folded(1)",
        "SELECT lower(1)",
        "SELECT p.reads_row FROM plain p",
        "SELECT (p.note).pg_read_file FROM plain p",
    ] {
        assert_eq!(case.stopped(sql), Some("commands"), "{sql}");
    }
    for sql in [
        "SELECT (information_schema._pg_expandarray(i.indkey)).n FROM pg_index i",
        "ANALYZE pg_catalog.pg_class, plain",
        "CREATE TEMP TABLE shape (LIKE source)",
        "EXPLAIN SELECT id FROM plain",
    ] {
        case.runs(sql);
    }
}

#[test]
fn a_rule_that_runs_something_else_is_a_doubt() {
    let mut case = Case::open(
        "rewriting",
        ADMIN,
        "CREATE VIEW trap AS SELECT 1 AS id;
         CREATE RULE instead AS ON INSERT TO trap DO INSTEAD DELETE FROM public.plain;
         CREATE TABLE logged (id int);
         CREATE RULE besides AS ON UPDATE TO logged DO ALSO DELETE FROM public.plain",
    );
    assert_eq!(case.stopped("INSERT INTO trap VALUES (1)"), Some("doubt"));
    assert_eq!(case.stopped("UPDATE logged SET id = 1 WHERE id = 2"), Some("doubt"));
    case.runs("SELECT * FROM trap");
    assert_eq!(case.database.sql("SELECT count(*) FROM plain"), "1");
}

/// The server reads a text when it is prepared: what it is called by later, under other settings, is another text.
#[test]
fn a_text_is_named_as_the_server_has_read_it() {
    let mut case = Case::open("readings", ADMIN, "");
    let bound = |name: &str| Batch::new().bind("", name, &[]).execute("", 0).sync();
    let is_denied = |answers: &[crate::support::frontend::Message]| {
        answers.iter().any(|it| it.tag == b'E') && answers.iter().all(|it| it.tag != b'D')
    };
    let sjis = [("client_encoding", "SJIS")];
    let mut session = Frontend::connect_with(&case.door, &sjis);
    session.ask(Batch::new().parse("s", "SELECT E'\u{3083}\\', pg_read_file($$PG_VERSION$$) --'").sync());
    session.ask(Batch::new().query("SET client_encoding = 'UTF8'"));
    let answers = session.ask(bound("s"));
    assert!(is_denied(&answers), "{answers:?}");

    const TEXT: &str = "SELECT '\\'', pg_read_file($$PG_VERSION$$) --'";
    case.runs("SET standard_conforming_strings = off");
    case.session.ask(Batch::new().parse("s", TEXT).sync());
    case.runs("PREPARE p AS SELECT 1");
    case.runs("SET standard_conforming_strings = on");
    assert!(is_denied(&case.session.ask(bound("s"))));
    assert!(is_denied(&case.session.ask(bound("p"))), "nobody looks whether it reads the same");
    case.session.ask(Batch::new().parse("t", TEXT).sync());
    assert!(!is_denied(&case.session.ask(bound("t"))), "under these it is one literal");

    // Set through a view.
    case.runs("SELECT 1 FROM pg_settings LIMIT 1");
    case.runs("UPDATE pg_settings SET setting = 'vault' WHERE name = 'search_path'");
    assert_eq!(case.stopped("SELECT card FROM secret"), Some("secret"));
}

/// What a client does out of turn ends its session, whatever else is waited for.
#[test]
fn a_query_in_the_middle_of_a_copy_ends_the_session() {
    let mut case = Case::open("copying", APP, "");
    case.runs("BEGIN");
    case.runs("SET LOCAL search_path = public");
    case.session.send(&Batch::new().query("COPY plain FROM STDIN").0);
    case.session.read_to(b'G');
    case.session.send(&Batch::new().query("SELECT 1").0);
    let answers = case.session.read_to(b'E');
    assert_eq!(answers.last().unwrap().field(b'C').as_deref(), Some("08P01"), "{answers:?}");
}

/// A cursor is known by name until its transaction ends, and longer only WITH HOLD.
#[test]
fn a_cursor_is_forgotten_with_its_transaction() {
    let mut case = Case::open("cursors", APP, "");
    for (options, end, is_known) in
        [("", "COMMIT", false), ("WITH HOLD ", "COMMIT", true), ("WITH HOLD ", "ROLLBACK", false)]
    {
        case.runs("BEGIN");
        case.runs(&format!("DECLARE c CURSOR {options}FOR SELECT id FROM plain"));
        case.runs("FETCH c");
        case.runs(end);
        assert_eq!(case.stopped("FETCH c"), (!is_known).then_some("doubt"), "{options}{end}");
        case.restore_path();
    }
}
