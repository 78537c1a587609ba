use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use serde_json::json;

use super::*;
use crate::classify::postgres::catalogue::{Function, Operator, Relation, RelationKind, Snapshot, Volatility};

mod cost;
mod grammar;
mod limits;
mod tags;

fn parsed(sql: &str) -> Parsed {
    super::parse(sql.as_bytes(), &Settings::default(), &Catalogue::builtin())
}

fn one(sql: &str) -> Statement {
    let mut parsed = parsed(sql);
    assert_eq!(parsed.statements.len(), 1, "{sql}");
    parsed.statements.remove(0)
}

fn names(sql: &str) -> Vec<String> {
    parsed(sql).statements.iter().map(|it| it.actions[0].name.to_string()).collect()
}

/// What a session knows, as far as the table of evasions needs it.
struct Session {
    settings: Settings,
    prepared: BTreeMap<String, String>,
}

impl Session {
    fn new(given: &Value) -> Self {
        let usual = Settings::default();
        let text = |name: &str, usual: String| given[name].as_str().map_or(usual, str::to_owned);
        let prepared = given["prepared"].as_object().into_iter().flatten();
        Self {
            settings: Settings {
                standard_conforming_strings: given["standard_conforming_strings"].as_bool().unwrap_or(true),
                client_encoding: text("client_encoding", usual.client_encoding),
                ..Settings::default()
            },
            prepared: prepared.map(|(name, sql)| (name.clone(), sql.as_str().unwrap().to_owned())).collect(),
        }
    }

    fn named(&mut self, sql: &[u8], is_replication: bool) -> Vec<Action> {
        let catalogue = Catalogue::builtin();
        let parse = if is_replication { super::parse_replication } else { super::parse };
        let mut actions = Vec::new();
        for statement in parse(sql, &self.settings, &catalogue).statements {
            actions.extend(statement.actions.iter().cloned());
            match statement.effect {
                Effect::Prepare { name, body, .. } => drop(self.prepared.insert(name, body)),
                Effect::Deallocate(None) => self.prepared.clear(),
                Effect::Deallocate(Some(name)) => drop(self.prepared.remove(&name)),
                Effect::Execute { name, .. } => {
                    if let Some(body) = self.prepared.get(&name).cloned() {
                        actions.extend(self.named(body.as_bytes(), false));
                    }
                }
                Effect::Set { name, value: Some(value), .. } => match name.as_str() {
                    "client_encoding" => self.settings.client_encoding = value,
                    "standard_conforming_strings" => self.settings.standard_conforming_strings = value == "on",
                    "search_path" => self.settings.search_path = super::search_path::read(&value).unwrap(),
                    _ => {}
                },
                _ => {}
            }
        }
        actions
    }

    fn row(&mut self, row: &Value) -> Vec<Action> {
        let is_replication = row["session"]["replication"] == true;
        if let Some(oid) = row["function"].as_u64() {
            let oid = u32::try_from(oid).unwrap();
            return super::function_call(oid, &self.settings, &Catalogue::builtin()).actions.to_vec();
        }
        if let Some(bytes) = row["sql_base64"].as_str() {
            let bytes = base64::engine::general_purpose::STANDARD.decode(bytes).unwrap();
            return self.named(&bytes, is_replication);
        }
        if let Some(messages) = row["messages"].as_array() {
            return messages.iter().flat_map(|message| self.message(message)).collect();
        }
        self.named(row["sql"].as_str().unwrap().as_bytes(), is_replication)
    }

    fn message(&mut self, message: &Value) -> Vec<Action> {
        let sql = message["sql"].as_str().unwrap();
        if let Some(name) = message["parse"].as_str() {
            self.prepared.insert(name.to_owned(), sql.to_owned());
        }
        self.named(sql.as_bytes(), false)
    }
}

#[test]
fn every_evasion_is_named_as_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/postgres-evasion.jsonl");
    let table = std::fs::read_to_string(path).unwrap();
    let mut wrong = Vec::new();
    for line in table.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let actions = Session::new(&row["session"]).row(&row);
        let names: Vec<&str> = actions.iter().map(|it| &*it.name).collect();
        let traits: BTreeSet<&str> = actions.iter().flat_map(|it| it.traits.names()).collect();
        let got = json!({"actions": names, "traits": traits});
        if got != row["expect"] {
            wrong.push(format!("{}: {got}, not {}", row["id"], row["expect"]));
        }
    }
    assert!(table.lines().count() >= 150);
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_statement_of_a_string_is_named() {
    assert_eq!(names("SELECT 1; DELETE FROM t;; -- end"), ["postgres:select", "postgres:delete"]);
    assert_eq!(names(""), [""; 0]);
    assert_eq!(names("SELECT FROM FROM"), ["postgres:unknown"]);
    let sql = "  SELECT 1 ; /* a */ DELETE FROM t  ";
    let texts: Vec<&str> = parsed(sql).statements.iter().map(|it| sql.get(it.text.clone()).unwrap()).collect();
    assert_eq!(texts, ["SELECT 1", "DELETE FROM t"]);
}

#[test]
fn resources_are_what_the_server_would_find() {
    let resources = |sql: &str| one(sql).actions[0].resources.clone();
    assert_eq!(
        resources("SELECT * FROM a JOIN s.b USING (i), pg_class"),
        ["postgres:postgres/public.a", "postgres:postgres/s.b", "postgres:postgres/pg_catalog.pg_class"]
    );
    assert_eq!(resources("WITH a AS (SELECT 1) SELECT * FROM a, public.a"), ["postgres:postgres/public.a"]);
    assert_eq!(
        resources("COPY t (a, b) TO '/x'"),
        ["postgres:postgres/public.t", "postgres:postgres/public.t.a", "postgres:postgres/public.t.b", "file:/x"]
    );
    assert_eq!(resources("COPY t FROM PROGRAM 'id'"), ["postgres:postgres/public.t", "program:id"]);
    assert_eq!(resources("GRANT a TO b"), ["postgres:postgres/role/a", "postgres:postgres/role/b"]);
    assert_eq!(resources("DROP TABLE \"T\", s.u"), ["postgres:postgres/public.T", "postgres:postgres/s.u"]);
    assert_eq!(resources("SELECT 1"), ["postgres:postgres"]);
    assert_eq!(resources("SELECT 't'::regclass"), ["postgres:postgres/public.t"]);
    assert!(one("SELECT * FROM other.public.t").actions[0].unknown.is_some());
}

#[test]
fn effects_are_what_the_session_must_follow() {
    let effect = |sql: &str| one(sql).effect;
    let set = |name: &str, value: Option<&str>, is_local| Effect::Set {
        name: name.to_owned(),
        value: value.map(str::to_owned),
        is_local,
    };
    assert_eq!(effect("START TRANSACTION"), Effect::Begin);
    assert_eq!(effect("COMMIT AND CHAIN"), Effect::Commit { is_chained: true });
    assert_eq!(effect("ROLLBACK TO s"), Effect::Rollback { savepoint: Some("s".to_owned()), is_chained: false });
    assert_eq!(effect("COPY t TO STDOUT"), Effect::CopyOut);
    assert_eq!(effect("COPY t FROM STDIN"), Effect::CopyIn);
    assert_eq!(effect("COPY t TO '/x'"), Effect::None);
    assert_eq!(effect("DEALLOCATE ALL"), Effect::Deallocate(None));
    assert_eq!(effect("DEALLOCATE x"), Effect::Deallocate(Some("x".to_owned())));
    assert_eq!(effect("DISCARD ALL"), Effect::DiscardAll);
    assert_eq!(effect("SET LOCAL search_path = a, b"), set("search_path", Some("\"a\", \"b\""), true));
    assert_eq!(effect("RESET work_mem"), set("work_mem", None, false));
    assert_eq!(effect("SELECT set_config('Search_Path', 'a', true)"), set("search_path", Some("a"), true));
    assert_eq!(effect("SELECT set_config('a.b', 'a', true), 1"), Effect::Dynamic);
    assert_eq!(
        effect("PREPARE p (int, text) AS SELECT $1"),
        Effect::Prepare { name: "p".to_owned(), body: "SELECT $1".to_owned(), types: 2 }
    );
    assert_eq!(
        effect("EXECUTE p (1, 'a', now())"),
        Effect::Execute { name: "p".to_owned(), arguments: vec![Some("1".to_owned()), Some("a".to_owned()), None] }
    );
    assert_eq!(effect("CREATE TEMP TABLE t (a int)"), Effect::Creates(vec!["pg_temp.t".to_owned()]));
    assert_eq!(effect("DO $$ BEGIN PERFORM 1; END $$"), Effect::None);
    assert_eq!(effect("DO $$ BEGIN SET ROLE a; END $$"), Effect::Dynamic);
    assert_eq!(effect("SELECT my_function()"), Effect::Dynamic);
}

#[test]
fn passwords_never_reach_the_parameters() {
    for sql in [
        "ALTER ROLE a PASSWORD 'hunter2'",
        "ALTER ROLE a PASSWORD /* x */ $$hunter2$$",
        "CREATE USER a WITH ENCRYPTED PASSWORD E'hunter2' VALID UNTIL '2030-01-01'",
        "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password 'hunter2')",
        "CREATE SUBSCRIPTION s CONNECTION 'host=h password=hunter2 user=u' PUBLICATION p",
        "SELECT dblink_connect('host=h password = hunter2')",
        "SELECT dblink_connect('postgresql://u:hunter2@h/d')",
        "DO $$ BEGIN ALTER ROLE a PASSWORD 'hunter2'; END $$",
        "ALTER ROLE a PASSWORD 'hunter2' SYNTAX ERROR",
        "ALTER SYSTEM SET primary_conninfo = 'host=h password=''hunter2'''",
        "DO $$ BEGIN EXECUTE 'ALTER ROLE a PASSWORD ''hunter2'''; END $$",
        "DO E'BEGIN ALTER ROLE a PASSWORD \\'hunter2\\'; END'",
    ] {
        for action in parsed(sql).statements.iter().flat_map(|it| it.actions.to_vec()) {
            let shown = action.shown_json().to_string();
            assert!(!shown.contains("hunter2"), "{sql}: {shown}");
            assert!(shown.contains("[redacted]"), "{sql}: {shown}");
        }
    }
    assert_eq!(one("SELECT 'a', 1").actions[0].parameters["sql"], "SELECT 'a', 1");
}

/// Who is shown a statement sees all of it but constants, however it is written to look like a password.
#[test]
fn nothing_that_runs_is_shown_as_a_password() {
    for sql in [
        "COPY (SELECT 1 FROM t WHERE password='' UNION ALL SELECT hunter2 FROM s WHERE a='') TO STDOUT",
        "DELETE FROM t /*://a:*/WHERE/**/hunter2/**/OR/*@*/id=1",
        "DELETE FROM t WHERE password=x/**/OR/**/hunter2",
        "DELETE FROM t WHERE password=hunter2",
        "DELETE FROM t WHERE a = '-- password ' OR hunter2 OR b = ''",
        "DELETE FROM t WHERE a = 'password=' OR hunter2 OR b = ''",
        "DO $$ BEGIN DELETE FROM t WHERE password = '' OR hunter2 OR a = ''; END $$",
        "DO $$ BEGIN DELETE FROM t WHERE a = 'password=' OR hunter2 OR b = ''; END $$",
        "DO 'BEGIN DELETE FROM t WHERE a=''password='' OR hunter2 OR b=''''; END'",
        "SELECT dblink_exec('c', 'DELETE FROM t WHERE a=''password='' OR hunter2 OR b=''''')",
        "SELECT dblink_exec('c', 'DELETE FROM t WHERE password=x/**/OR/**/hunter2')",
        "SELECT dblink_exec('c', 'DELETE FROM t WHERE password=x)OR(hunter2')",
    ] {
        let shown = secrets::redact(sql);
        assert!(shown.contains("hunter2"), "{sql}: {shown}");
    }
}

fn function(oid: u32, name: &str, language: &str, source: &str) -> Function {
    Function {
        oid,
        schema: "public".to_owned(),
        name: name.to_owned(),
        language: language.to_owned(),
        volatility: Volatility::Volatile,
        is_security_definer: false,
        owner: "postgres".to_owned(),
        source: Some(source.to_owned()).filter(|it| !it.is_empty()),
        extension: None,
        settings: Vec::new(),
        calls: Vec::new(),
        argument_calls: Vec::new(),
    }
}

fn relation(name: &str, kind: RelationKind, bases: &[&str], read_calls: &[u32], write_calls: &[u32]) -> Relation {
    Relation {
        oid: 1,
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind,
        bases: bases.iter().map(|it| ("public".to_owned(), (*it).to_owned())).collect(),
        read_calls: read_calls.to_vec(),
        write_calls: write_calls.to_vec(),
        ..Relation::default()
    }
}

fn upstream() -> Catalogue {
    let snapshot = Snapshot {
        schemas: vec!["public".to_owned()],
        relations: vec![
            relation("t", RelationKind::Table, &[], &[], &[20_001]),
            relation("v", RelationKind::View, &["w"], &[20_000], &[]),
            relation("w", RelationKind::View, &["t", "v"], &[], &[]),
            relation("f", RelationKind::ForeignTable, &[], &[], &[]),
        ],
        functions: vec![
            function(20_000, "reads", "sql", "SELECT pg_read_file('x')"),
            function(20_001, "audits", "plpgsql", "BEGIN DELETE FROM t; RETURN NEW; END"),
            function(20_002, "again", "sql", "SELECT again()"),
            function(20_003, "compiled", "c", ""),
            function(20_004, "lower", "plpgsql", "BEGIN DROP TABLE t; END"),
            Function {
                extension: Some("x".to_owned()),
                volatility: Volatility::Immutable,
                ..function(20_005, "quiet", "c", "")
            },
        ],
        operators: vec![Operator { schema: "public".to_owned(), name: "+".to_owned(), function: 20_001 }],
        ..Snapshot::default()
    };
    Catalogue::new(1, snapshot)
}

fn through(sql: &str) -> (Vec<String>, Vec<&'static str>, Vec<String>) {
    let parsed = super::parse(sql.as_bytes(), &Settings::default(), &upstream());
    let actions: Vec<Action> = parsed.statements.iter().flat_map(|it| it.actions.to_vec()).collect();
    let traits: Traits = actions.iter().flat_map(|it| it.traits.iter()).collect();
    let unresolved = parsed.statements.iter().flat_map(|it| it.unresolved.clone()).collect();
    (actions.iter().map(|it| it.name.replace("postgres:", "")).collect(), traits.names(), unresolved)
}

#[test]
fn views_triggers_and_overloads_are_followed() {
    let resources = |sql: &str| {
        super::parse(sql.as_bytes(), &Settings::default(), &upstream()).statements[0].actions[0].resources.clone()
    };
    assert_eq!(
        resources("SELECT * FROM v"),
        ["postgres:postgres/public.v", "postgres:postgres/public.w", "postgres:postgres/public.t"]
    );
    assert_eq!(through("SELECT * FROM v").1, ["exec", "export"]);
    assert_eq!(through("INSERT INTO t VALUES (1)").0, ["insert", "function_call", "delete"]);
    assert_eq!(through("SELECT * FROM f").1, ["exec"]);
    // The one in `public` may be the better match.
    assert_eq!(through("SELECT lower('a'::varchar)").1, ["destructive", "schema"]);
    assert_eq!(through("SELECT 1 + 2").0, ["select", "function_call", "delete"]);
    assert_eq!(through("SELECT t.audits FROM t").0, ["select", "function_call", "delete"]);
}

#[test]
fn what_the_catalogue_does_not_have_is_unknown_and_told() {
    assert_eq!(through("SELECT * FROM nothing").2, ["public.nothing"]);
    assert_eq!(through("SELECT * FROM nothing").1, ["unknown"]);
    assert_eq!(through("SELECT nothing()").2, ["nothing()"]);
    assert_eq!(through("SELECT compiled()").1, ["unknown"]);
    assert!(through("SELECT quiet()").1.is_empty());
    assert!(through("SELECT again()").1.is_empty());
    assert!(through("CREATE TEMP TABLE nothing (a int); SELECT * FROM nothing").1.is_empty());
    let made = upstream().with_created(["pg_temp.nothing".to_owned()]);
    let parsed = super::parse(b"SELECT * FROM nothing", &Settings::default(), &made);
    assert_eq!(parsed.statements[0].actions[0].resources, ["postgres:postgres/pg_temp.nothing"]);
    assert!(parsed.statements[0].unresolved.is_empty());
}

/// What stands under a name is decided when its statement's turn comes.
#[test]
fn a_path_that_changes_on_the_way_is_followed_or_a_doubt() {
    let other = |schema: &str, function: Function| Function { schema: schema.to_owned(), ..function };
    let snapshot = Snapshot {
        schemas: vec!["public".to_owned(), "evil".to_owned()],
        functions: vec![
            function(20_000, "f", "sql", "SELECT 1"),
            other("evil", function(20_001, "f", "sql", "SELECT pg_read_file('x')")),
            function(20_002, "g", "sql", "SELECT f()"),
        ],
        ..Snapshot::default()
    };
    let catalogue = Catalogue::new(7, snapshot);
    let traits = |sql: &str| {
        let parsed = super::parse(sql.as_bytes(), &Settings::default(), &catalogue);
        let traits: Traits =
            parsed.statements.iter().flat_map(|it| it.actions.iter()).flat_map(|it| it.traits.iter()).collect();
        traits.names()
    };
    assert!(traits("SELECT f()").is_empty());
    for sql in [
        "SET search_path = evil; SELECT f()",
        "SET search_path = \"evil\", public; SELECT g()",
        "SELECT set_config('search_path', 'evil', false); SELECT f()",
    ] {
        assert_eq!(traits(sql), ["exec", "export", "session"], "{sql}");
    }
    for sql in [
        "BEGIN; SET search_path = public; ROLLBACK; SELECT f()",
        "SET LOCAL search_path = public; COMMIT; SELECT f()",
        "SET ROLE a; SELECT f()",
        "RESET search_path; SELECT f()",
        "DISCARD ALL; SELECT f()",
        "SELECT set_config('search_path', lower('EVIL'), false); SELECT f()",
        "SELECT set_config('search_path', 'evil', false), g()",
        "DO $$ BEGIN SET search_path = evil; PERFORM f(); END $$",
    ] {
        assert!(traits(sql).contains(&"unknown"), "{sql}: {:?}", traits(sql));
    }
    for sql in [
        "BEGIN; SELECT f(); COMMIT",
        "SET search_path = public; SET work_mem = 1; COMMIT",
        "DO $$ BEGIN SET ROLE a; END $$",
    ] {
        assert!(!traits(sql).contains(&"unknown"), "{sql}: {:?}", traits(sql));
    }
}

#[test]
fn operators_that_syntax_implies_are_followed() {
    let snapshot = Snapshot {
        schemas: vec!["public".to_owned()],
        relations: vec![relation("t", RelationKind::Table, &[], &[], &[])],
        functions: vec![function(20_000, "f", "sql", "SELECT pg_read_file('x')")],
        operators: ["=", "<="]
            .map(|name| Operator { schema: "public".to_owned(), name: name.to_owned(), function: 20_000 })
            .into(),
        ..Snapshot::default()
    };
    let catalogue = Catalogue::new(8, snapshot);
    for sql in [
        "SELECT a = 1 FROM t",
        "SELECT CASE a WHEN 1 THEN 2 END FROM t",
        "SELECT a BETWEEN 1 AND 2 FROM t",
        "SELECT 1 FROM t JOIN t s USING (a)",
        "SELECT 1 FROM t NATURAL JOIN t s",
        "SELECT a IN (SELECT 1) FROM t",
        "SELECT a <= ANY (SELECT 1) FROM t",
        "SELECT a FROM t ORDER BY a USING OPERATOR(public.<=)",
        "SELECT NULLIF(a, 1) FROM t",
        "SELECT a IS DISTINCT FROM 1 FROM t",
    ] {
        let parsed = super::parse(sql.as_bytes(), &Settings::default(), &catalogue);
        let has_exec = parsed.statements[0].actions.iter().any(|it| it.traits.contains(Trait::Exec));
        assert!(has_exec, "{sql}");
    }
}

#[test]
fn an_aggregate_written_as_an_attribute_is_an_export() {
    for sql in [
        "SELECT c.array_agg FROM customers c",
        "SELECT (c).json_agg FROM customers c",
        "SELECT (c.*).json_agg FROM customers c",
    ] {
        assert!(one(sql).actions[0].traits.contains(Trait::Export), "{sql}");
    }
    assert!(!one("SELECT c.json_agg FROM customers c WHERE id = 1").actions[0].traits.contains(Trait::Export));
}
