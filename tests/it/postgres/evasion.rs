//! The tables of evasions over the wire, with the default pack, before a server where everything that
//! runs would have its way: what is held or denied does not run, and the client is told; what is ordinary
//! is answered as it is directly.

use std::collections::BTreeMap;

use base64::Engine as _;
use bytes::{BufMut as _, BytesMut};
use serde_json::Value;

use crate::support::driver::Door;
use crate::support::frontend::{Batch, Frontend, Message};
use crate::support::postgres::{ADMIN, Cluster, Database};
use crate::support::root;
use crate::support::site::{Setup, Site};

/// What the statements of the tables reach for.
const TABLES: &str = "
CREATE TABLE customers (id int PRIMARY KEY, name text, email text, a text, c text);
INSERT INTO customers SELECT g, 'customer ' || g, 'c' || g || '@example.com' FROM generate_series(1, 20) g;
CREATE TABLE orders (id int PRIMARY KEY, customer_id int, total numeric);
INSERT INTO orders SELECT g, g % 20, g FROM generate_series(1, 40) g;
CREATE TABLE t (id int PRIMARY KEY, a text, b text, n int, path text);
INSERT INTO t VALUES (1, 'a', 'b', 1, 'PG_VERSION');
CREATE TABLE docs (v tsvector);
CREATE TABLE aliases (t tsquery, s tsquery);
CREATE TABLE posts (id int PRIMARY KEY);
CREATE TABLE comments (post_id int, text text);
CREATE TABLE archive (LIKE customers);
CREATE TABLE audit (id int);
CREATE TABLE stale (id int);
CREATE SCHEMA evil;
CREATE EXTENSION dblink;
CREATE FUNCTION my_function(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.customers; RETURN $1; END';
CREATE PROCEDURE do_things(int) LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.customers; END';
CREATE FUNCTION evil.plus(int, int) RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.customers; RETURN $1; END';
CREATE OPERATOR evil.+ (FUNCTION = evil.plus, LEFTARG = int, RIGHTARG = int);
CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.customers; RETURN $1; END';
ANALYZE";

/// Everything that a statement of the tables could change, in one line.
const CANARY: &str = "
SELECT md5(concat(
  (SELECT string_agg(x::text, ';' ORDER BY id) FROM customers x), (SELECT string_agg(x::text, ';' ORDER BY id) FROM orders x),
  (SELECT string_agg(x::text, ';' ORDER BY id) FROM t x WHERE id <> 77), (SELECT count(*) FROM archive), (SELECT count(*) FROM audit),
  (SELECT string_agg(concat(rolname, rolsuper, rolpassword), ';' ORDER BY oid) FROM pg_authid), (SELECT count(*) FROM pg_auth_members),
  (SELECT string_agg(concat(relname, relkind, relowner, relacl, relrowsecurity), ';' ORDER BY oid) FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't'
     AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast)')),
  (SELECT string_agg(concat(attrelid, attname, atttypid, atthasdef), ';' ORDER BY attrelid, attnum) FROM pg_attribute WHERE attrelid IN ('customers'::regclass, 'orders'::regclass)),
  (SELECT string_agg(concat(proname, proowner, prosecdef, proacl), ';' ORDER BY oid) FROM pg_proc WHERE oid >= 16384 OR proname = 'lower'),
  (SELECT string_agg(x::text, ';' ORDER BY setdatabase, setrole) FROM pg_db_role_setting x), (SELECT count(*) FROM pg_replication_slots),
  (SELECT string_agg(x::text, ';') FROM pg_file_settings x), (SELECT count(*) FROM pg_largeobject_metadata), (SELECT count(*) FROM pg_publication),
  (SELECT count(*) FROM pg_default_acl), (SELECT count(*) FROM pg_policy), (SELECT count(*) FROM pg_extension), (SELECT count(*) FROM pg_foreign_server),
  (SELECT count(*) FROM pg_namespace WHERE nspname !~ '^pg_'), (SELECT count(*) FROM pg_rewrite), (SELECT count(*) FROM pg_trigger),
  (SELECT count(*) FROM pg_cast), (SELECT count(*) FROM pg_event_trigger), (SELECT count(*) FROM pg_subscription)))";

/// Traits of which the default pack lets none pass, in whatever statement.
const STOPPED: [&str; 8] = ["credential", "destructive", "exec", "export", "privilege", "schema", "sharing", "unknown"];

/// They change the session in ways that the pack lets pass: where names are looked up, and back to what was.
const PASS_ALL_THE_SAME: [&str; 6] =
    ["read-write", "reset-role", "reset-all", "search-path", "search-path-set-config", "sequence-search-path"];

struct Ground {
    database: Database,
    unconforming: Database,
    cluster: &'static Cluster,
}

impl Ground {
    fn new() -> Self {
        let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start("log_statement = 'all'\n")));
        let [database, unconforming] = ["evasion", "unconforming"].map(|name| {
            let database = cluster.database(name);
            database.sql(TABLES);
            database
        });
        cluster.psql(
            "postgres",
            &format!("ALTER DATABASE \"{}\" SET standard_conforming_strings = off", unconforming.name),
        );
        Self { database, unconforming, cluster }
    }

    fn site(&self, more: &str) -> Site {
        let pack = std::fs::read_to_string(root().join("rules/postgres.yaml")).unwrap();
        let config = format!("holds: {{ approvers: [security] }}\n{more}");
        Setup::postgres(&self.database, ADMIN).rules(&pack).config(&config).start()
    }

    /// A session for a row, and the database it is in.
    fn session(&self, door: &Door, row: &Value) -> (Frontend, &Database) {
        let session = &row["session"];
        let database =
            if session["standard_conforming_strings"] == false { &self.unconforming } else { &self.database };
        let mut options = Vec::new();
        if let Some(encoding) = session["client_encoding"].as_str() {
            options.push(("client_encoding", encoding));
        }
        if session["replication"] == true {
            options.push(("replication", "database"));
        }
        let door = Door { database: database.name.clone(), ..door.clone() };
        let mut frontend = Frontend::connect_with(&door, &options);
        for (name, sql) in session["prepared"].as_object().into_iter().flatten() {
            frontend.ask(Batch::new().parse(name, sql.as_str().unwrap()).sync());
        }
        (frontend, database)
    }
}

/// The messages of a row; `is_extended`: of each text by Parse, Bind and Execute.
fn batch(row: &Value, is_extended: bool) -> Batch {
    if let Some(messages) = row["messages"].as_array() {
        return messages.iter().fold(Batch::new(), |batch, message| add(batch, message, is_extended));
    }
    if row["function"].is_u64() {
        return add(Batch::new(), &serde_json::json!({"function": row["function"]}), false);
    }
    let text = match row["sql_base64"].as_str() {
        Some(text) => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
        None => row["sql"].as_str().unwrap().as_bytes().to_vec(),
    };
    put_text(Batch::new(), "", &text, is_extended, true)
}

fn put_text(batch: Batch, name: &str, text: &[u8], is_extended: bool, runs: bool) -> Batch {
    if !is_extended {
        return batch.raw(b'Q', &[text, b"\0"].concat());
    }
    let batch = batch.raw(b'P', &[name.as_bytes(), b"\0", text, b"\0\0\0"].concat());
    if !runs {
        return batch.sync();
    }
    // As many values as the text has places for.
    let text = String::from_utf8_lossy(text);
    let values: &[&str] = match (text.contains("$1"), text.contains("$2")) {
        (true, true) => &["role", "postgres"],
        (true, false) => &["SELECT v FROM docs"],
        _ => &[],
    };
    batch.bind("", name, values).execute("", 0).sync()
}

fn add(batch: Batch, message: &Value, is_extended: bool) -> Batch {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (name, value) = message.as_object().unwrap().iter().next().unwrap();
    match name.as_str() {
        "query" => batch.query(&text(value)),
        "sql" => put_text(batch, "", text(value).as_bytes(), is_extended, true),
        // Of the older table: a statement of that name beside its text.
        "parse" if value.is_string() => put_text(batch, &text(value), text(&message["sql"]).as_bytes(), true, false),
        "parse" => batch.parse(&text(&value[0]), &text(&value[1])),
        "bind" => {
            let values: Vec<String> = value[2].as_array().unwrap().iter().map(text).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            batch.bind(&text(&value[0]), &text(&value[1]), &values)
        }
        "execute" => batch.execute(&text(&value[0]), i32::try_from(value[1].as_i64().unwrap()).unwrap()),
        "describe" => batch.describe(text(&value[0]).as_bytes()[0], &text(&value[1])),
        "close" => batch.close(text(&value[0]).as_bytes()[0], &text(&value[1])),
        "sync" => batch.sync(),
        "flush" => batch.raw(b'H', b""),
        "copy" => batch.raw(b'd', text(value).as_bytes()),
        "copy_done" => batch.raw(b'c', b""),
        "function" => {
            let mut body = BytesMut::new();
            body.put_u32(u32::try_from(value.as_u64().unwrap()).unwrap());
            // No formats, one value in text, and the answer in text.
            body.put_slice(&[0, 0, 0, 1, 0, 0, 0, 1, b'1', 0, 0]);
            batch.raw(b'F', &body)
        }
        other => panic!("{other} in the table"),
    }
}

/// What came of a batch.
#[derive(Debug)]
struct Seen {
    answers: Vec<Message>,
    is_stopped: bool,
}

/// Reads until the client is told of a hold, or until a marker behind it all is answered.
fn run(session: &mut Frontend, batch: &Batch) -> Seen {
    // CopyDone where a copy waits for data; the server takes no notice of it anywhere else.
    let end = Batch::new().raw(b'c', b"").sync().query("ROLLBACK").query("SELECT 'the marker'");
    // What is held hears nothing of it; a connection that was ended takes nothing more.
    drop(session.try_send(&[&batch.0[..], &end.0[..]].concat()));
    let mut answers = Vec::new();
    while let Some(message) = session.try_read() {
        let is_told = message.tag == b'N' && message.field(b'M').is_some_and(|it| it.contains("waits for approval"));
        let is_denied = message.tag == b'E' && message.field(b'M').is_some_and(|it| it.starts_with("countersign"));
        let is_marker = message.tag == b'D' && message.body.ends_with(b"the marker");
        answers.push(message);
        if is_told || is_denied || is_marker {
            return Seen { answers, is_stopped: !is_marker };
        }
    }
    // The connection was ended: a message that is none.
    Seen { answers, is_stopped: true }
}

fn rows(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(root().join("tests/data").join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn is_stopped_by_the_pack(row: &Value) -> bool {
    let id = row["id"].as_str().unwrap();
    let traits: Vec<&str> = row["expect"]["traits"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let is_stopped = traits.iter().any(|it| STOPPED.contains(it)) || traits.contains(&"session");
    is_stopped && !PASS_ALL_THE_SAME.contains(&id)
}

/// Each way to send each row, with a name.
fn ways(rows: &[Value]) -> Vec<(String, &Value, Batch)> {
    let mut ways = Vec::new();
    for row in rows {
        let id = row["id"].as_str().unwrap();
        ways.push((format!("{id}, simple"), row, batch(row, false)));
        // A replication session takes no others.
        let is_text = row["sql"].is_string() || row["sql_base64"].is_string();
        if is_text && row["session"]["replication"] != true {
            ways.push((format!("{id}, extended"), row, batch(row, true)));
        }
    }
    ways
}

/// What did not stop, or had an effect.
fn faults(ground: &Ground, door: &Door, ways: &[(String, &Value, Batch)]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut watch = [&ground.database, &ground.unconforming].map(|it| Frontend::connect(&Door::direct(it, ADMIN)));
    let mut canary = move || watch.each_mut().map(|it| it.ask(Batch::new().query(CANARY)));
    for (name, row, batch) in ways {
        let before = canary();
        let (mut session, _) = ground.session(door, row);
        let seen = run(&mut session, batch);
        drop(session);
        // A statement that cannot be parsed or bound by the server fails before anybody is asked. That proves
        // nothing, and is said in the table.
        let has_failed = seen.answers.iter().any(|it| it.tag == b'E');
        if !seen.is_stopped && has_failed && row["refused"].is_null() {
            faults
                .push(format!("{name}: the server itself refuses it, which its row does not say: {:?}", seen.answers));
        }
        if !seen.is_stopped && !has_failed {
            faults.push(format!("{name}: ran: {:?}", seen.answers));
        }
        let after = canary();
        if before != after {
            faults.push(format!("{name}: had an effect"));
        }
    }
    faults
}

#[test]
fn what_hides_is_stopped_over_the_wire_and_has_no_effect() {
    let ground = Ground::new();
    let site = ground.site("");
    let door = Door::through(&site, "bot", &ground.database);
    let table = rows("postgres-evasion.jsonl");
    let (stopped, ordinary): (Vec<Value>, Vec<Value>) = table.into_iter().partition(is_stopped_by_the_pack);
    let sequences = rows("postgres-sequences.jsonl");
    let stopped: Vec<Value> = stopped.into_iter().chain(sequences).collect();
    let ways_in = ways(&stopped);
    assert!(ways_in.len() >= 300, "{}", ways_in.len());
    let faults = faults(&ground, &door, &ways_in);
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), ways_in.len(), faults.join("\n"));
    // The server saw none of it run: its log has every statement that did. How far a held statement would
    // reach, countersign asks by itself.
    let log = ground.cluster.log();
    for text in ["DROP TABLE customers", "DELETE FROM customers", "pg_read_file", "TO PROGRAM", "TRUNCATE"] {
        let ran = log.lines().find(|line| {
            let is_run = line.contains("statement: ") || line.contains(" execute ");
            is_run
                && !line.contains(" countersign LOG:  execute <unnamed>: EXPLAIN (FORMAT JSON) ")
                && line.contains(text)
                && line.contains(" admin@")
        });
        assert_eq!(ran, None);
    }
    ordinary_ones_are_answered_as_directly(&ground, &door, &ordinary);
    site.verify();
}

/// By kind and SQLSTATE: some have the time or a random number in them.
fn ordinary_ones_are_answered_as_directly(ground: &Ground, through: &Door, ordinary: &[Value]) {
    let direct = Door::direct(&ground.database, ADMIN);
    let mut different = BTreeMap::new();
    // The table that it looks for is not in that schema: held, since nobody knows what it means.
    let ordinary: Vec<Value> = ordinary.iter().filter(|row| row["id"] != "sequence-search-path").cloned().collect();
    for (name, row, batch) in ways(&ordinary) {
        let [expected, seen] = [&direct, through].map(|door| {
            let (mut session, _) = ground.session(door, row);
            let answers = run(&mut session, &batch).answers;
            answers.iter().map(|it| (char::from(it.tag), it.field(b'C').filter(|_| it.tag == b'E'))).collect::<Vec<_>>()
        });
        if expected != seen {
            different.insert(name, (expected, seen));
        }
    }
    assert!(different.is_empty(), "{different:#?}");
}

/// The same with nothing that stops anything: the test above can fail.
#[test]
fn without_rules_the_evasions_have_their_effect() {
    let ground = Ground::new();
    let site = Setup::postgres(&ground.database, ADMIN)
        .rules(super::NO_RULE)
        .config("rules: { ordinary: allow, privileged: allow, unknown: allow }\n")
        .start();
    let door = Door::through(&site, "bot", &ground.database);
    let sequences = rows("postgres-sequences.jsonl");
    for id in ["named-parse-long-before", "flush-in-place-of-sync", "search-path-to-own-function"] {
        let row = sequences.iter().find(|row| row["id"] == id).unwrap();
        ground.database.sql("INSERT INTO customers (id) VALUES (1) ON CONFLICT DO NOTHING");
        let found = faults(&ground, &door, &ways(std::slice::from_ref(row)));
        assert!(found.iter().any(|it| it.contains("ran: ")), "{id}: {found:?}");
        assert!(found.iter().any(|it| it.contains("had an effect")), "{id}: {found:?}");
    }
}
