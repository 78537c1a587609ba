//! Sequences of messages that no driver sends, directly and through countersign: the answers must be
//! the same to the byte.

use super::{ALLOWED, NO_RULE, site};
use crate::support::driver::Door;
use crate::support::frontend::{Batch, Frontend, Message};
use crate::support::postgres::{APP, Database, cluster};

/// What the random sequences are made of: each answers the same every time.
const TEXTS: [&str; 37] = [
    "SELECT 1",
    "SELECT $1::text",
    "SELECT $1::int + 1",
    "SELECT generate_series(1, 5)",
    "SELECT 1/0",
    "",
    "SELEC",
    "SELECT 1; SELECT 2",
    "SELECT 1; SELECT 1/0; SELECT 3",
    "INSERT INTO t VALUES ($1)",
    "INSERT INTO t VALUES (1)",
    "SELECT count(*) FROM t",
    "DELETE FROM t",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "BEGIN; INSERT INTO t VALUES (7)",
    "COPY t FROM STDIN",
    "COPY t TO STDOUT",
    "PREPARE s AS SELECT 2",
    "EXECUTE s",
    "EXECUTE u",
    "DEALLOCATE s",
    "DEALLOCATE ALL",
    "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 9)",
    "FETCH 2 FROM c",
    "CLOSE ALL",
    "DISCARD ALL",
    "SET DateStyle = 'German'",
    "SELECT generate_series(1, 3)",
    "COPY t (i) FROM STDIN",
    "COPY t FROM STDIN WITH (FORMAT text)",
    "LISTEN x",
    "LISTEN x; NOTIFY x, 'heard'",
    "DO $$BEGIN RAISE NOTICE 'said'; END$$",
];
const STATEMENTS: [&str; 3] = ["", "s", "u"];
const PORTALS: [&str; 3] = ["", "p", "c"];

/// xorshift: the same sequence for a seed everywhere.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(super) fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// One random message behind those there are, and its name.
fn add(batch: Batch, dice: &mut Dice) -> (Batch, String) {
    let (text, statement, portal) = (dice.of(&TEXTS), dice.of(&STATEMENTS), dice.of(&PORTALS));
    let kind = dice.of(b"SP");
    let name = if kind == b'S' { statement } else { portal };
    match dice.below(26) {
        0..=2 => (batch.query(text), format!("Query {text:?}")),
        3..=6 => (batch.parse(statement, text), format!("Parse {statement:?} {text:?}")),
        7..=9 => {
            let values: &[&str] = dice.of(&[&[], &["5"]]);
            (batch.bind(portal, statement, values), format!("Bind {portal:?} {statement:?} {values:?}"))
        }
        10..=12 => {
            let limit = dice.of(&[0, 1, 2]);
            (batch.execute(portal, limit), format!("Execute {portal:?} {limit}"))
        }
        13 => (batch.describe(kind, name), format!("Describe {} {name:?}", char::from(kind))),
        14 => (batch.close(kind, name), format!("Close {} {name:?}", char::from(kind))),
        15 | 16 => (batch.sync(), "Sync".to_owned()),
        17 => (batch.raw(b'H', b""), "Flush".to_owned()),
        18 => {
            let (tag, body): (u8, &[u8]) =
                dice.of(&[(b'd', b"3\n".as_slice()), (b'c', b""), (b'f', b"given up\0"), (b'd', b"no number\n")]);
            (batch.raw(tag, body), format!("{} {:?}", char::from(tag), String::from_utf8_lossy(body)))
        }
        20..=24 => {
            let limit = dice.of(&[0, 1, 2]);
            let batch = batch.parse(statement, text).bind(portal, statement, &[]).execute(portal, limit);
            (batch, format!("Parse {statement:?} {text:?}, Bind {portal:?}, Execute {portal:?} {limit}"))
        }
        // FunctionCall of `int4abs`, and of one that there is not.
        _ => {
            let oid = dice.of(&[1_251_u32, 1]);
            let call = [&oid.to_be_bytes()[..], &[0, 0, 0, 1, 0, 0, 0, 2], b"-7", &[0, 0]].concat();
            (batch.raw(b'F', &call), format!("FunctionCall {oid}"))
        }
    }
}

/// A session that is opened again when it ended.
struct Side<'a> {
    door: &'a Door,
    session: Option<Frontend>,
}

impl Side<'_> {
    /// What the server answers, up to a marker that nothing else gives, and whether the marker came: a
    /// query inside of COPY ends the connection.
    fn answers(&mut self, batch: &Batch) -> (Vec<Message>, bool) {
        let session = self.session.get_or_insert_with(|| Frontend::connect(self.door));
        session.ask(Batch::new().query("TRUNCATE t"));
        // COPY must be left and errors be over before the marker can be asked for.
        let end = Batch::new().raw(b'f', b"the end\0").sync().query("ROLLBACK").query("SELECT 'the marker'");
        session.send(&[&batch.0[..], &end.0[..]].concat());
        let mut messages = Vec::new();
        while let Some(mut message) = session.try_read() {
            if message.tag == b'A' {
                // The process that notified.
                message.body[..4].fill(0);
            }
            let is_marker = message.tag == b'D' && message.body.ends_with(b"the marker");
            messages.push(message);
            if is_marker {
                messages.extend(session.read_to(b'Z'));
                session.ask(Batch::new().query("DISCARD ALL"));
                return (messages, true);
            }
        }
        self.session = None;
        (messages, false)
    }
}

fn prepared(database: &Database) -> &Database {
    database.sql("CREATE TABLE t (i int); ALTER TABLE t OWNER TO app");
    database
}

#[track_caller]
fn compare(direct: &Door, other: &Door, seeds: std::ops::Range<u64>) {
    let [mut direct, mut other] = [direct, other].map(|door| Side { door, session: None });
    let mut kinds = std::collections::BTreeSet::new();
    for seed in seeds {
        let mut dice = Dice::new(seed);
        let (mut batch, mut names) = (Batch::new(), Vec::new());
        for _ in 0..4 + dice.below(28) {
            let (longer, name) = add(batch, &mut dice);
            batch = longer;
            names.push(name);
        }
        let (mut expected, is_whole) = direct.answers(&batch);
        let (mut seen, other_is_whole) = other.answers(&batch);
        assert_eq!(is_whole, other_is_whole, "seed {seed}: only one connection ended\n{}", names.join("\n"));
        if !is_whole {
            // What was on its way when it ended may be lost, and the last words are countersign's own.
            expected.retain(|message| message.tag != b'E');
            seen.retain(|message| message.tag != b'E');
            let count = expected.len().min(seen.len());
            expected.truncate(count);
            seen.truncate(count);
        }
        kinds.extend(expected.iter().map(|message| message.tag));
        let first =
            expected.iter().zip(&seen).position(|(one, other)| one != other).unwrap_or(expected.len().min(seen.len()));
        assert!(
            expected == seen,
            "seed {seed}: answer {first} is {:?} instead of {:?}\n{}\n",
            seen.get(first),
            expected.get(first),
            names.join("\n")
        );
    }
    // They reach what they are made for.
    for tag in b"123ACDEGHINSTVZnst" {
        assert!(kinds.contains(tag), "no sequence was answered by `{}`: {kinds:?}", char::from(*tag));
    }
}

#[test]
fn random_sequences_are_answered_the_same_each_time() {
    let (one, other) = (cluster().database("messages"), cluster().database("messages"));
    let (one, other) = (prepared(&one), prepared(&other));
    compare(&Door::direct(one, APP), &Door::direct(other, APP), 0..150);
}

/// How many random sequences are played; `make fuzz-postgres` plays more.
pub(super) fn sequences() -> u64 {
    std::env::var("COUNTERSIGN_SEQUENCES").map_or(400, |count| count.parse().unwrap())
}

#[track_caller]
fn is_transparent(rules: &str) {
    let (alone, behind) = (cluster().database("messages"), cluster().database("messages"));
    let (alone, behind) = (prepared(&alone), prepared(&behind));
    let site = site(behind, APP, rules);
    compare(&Door::direct(alone, APP), &Door::through(&site, "bot", behind), 0..sequences());
    site.verify();
}

#[test]
fn random_sequences_are_answered_the_same() {
    is_transparent(NO_RULE);
}

#[test]
fn random_sequences_are_answered_the_same_with_every_statement_on_disk_first() {
    is_transparent(ALLOWED);
}

/// countersign asks the server about the session once a statement may have changed it; that must not end
/// what a simple query would end.
#[test]
fn a_question_of_countersigns_own_ends_no_unnamed_statement() {
    let database = cluster().database("unnamed");
    let site = site(&database, APP, NO_RULE);
    for door in [Door::direct(&database, APP), Door::through(&site, "bot", &database)] {
        let mut session = Frontend::connect(&door);
        let mut ask = |batch: Batch| {
            let answers = session.ask(batch);
            assert!(answers.iter().all(|it| it.tag != b'E'), "{answers:?}");
            answers
        };
        let doubt = "SELECT set_config('jit', current_setting('jit'), false)";
        ask(Batch::new().parse("doubt", doubt).sync());
        ask(Batch::new().query("BEGIN"));
        ask(Batch::new().parse("", "SELECT generate_series(1, 3)").bind("", "", &[]).execute("", 1).sync());
        for count in 2..=3 {
            ask(Batch::new().bind("d", "doubt", &[]).execute("d", 0).close(b'P', "d").sync());
            // One of either: the next of these is asked about where names are looked up.
            ask(Batch::new()
                .parse("n", "SELECT 1")
                .bind("n", "n", &[])
                .execute("n", 0)
                .close(b'P', "n")
                .close(b'S', "n")
                .sync());
            let answers = ask(Batch::new().execute("", 1).sync());
            assert!(
                answers.iter().any(|it| it.tag == b'D' && it.body.ends_with(count.to_string().as_bytes())),
                "{answers:?}"
            );
        }
        let answers = ask(Batch::new().bind("", "", &[]).execute("", 0).sync());
        assert_eq!(answers.iter().filter(|it| it.tag == b'D').count(), 3, "{answers:?}");
    }
    site.verify();
}

/// What a client says of processes and what the server says of them is the same.
#[test]
fn a_session_is_told_the_servers_own_process() {
    let database = cluster().database("process");
    let site = site(&database, APP, NO_RULE);
    let mut session = Frontend::connect(&Door::through(&site, "bot", &database));
    let answers = session.ask(Batch::new().query("SELECT pg_backend_pid()"));
    let process = session.key.0.to_string();
    assert!(answers.iter().any(|it| it.tag == b'D' && it.body.ends_with(process.as_bytes())), "{process}: {answers:?}");
}

/// Decided when it is executed, by the rules of that moment.
#[test]
fn a_statement_prepared_before_a_rule_is_held_by_it() {
    let database = cluster().database("reloaded");
    let database = prepared(&database);
    let site = site(database, APP, NO_RULE);
    let mut session = Frontend::connect(&Door::through(&site, "bot", database));
    let run = || Batch::new().bind("", "s", &["5"]).execute("", 0).sync();
    session.ask(Batch::new().parse("s", "INSERT INTO t VALUES ($1)").sync());
    session.ask(run());
    assert_eq!(database.sql("SELECT count(*) FROM t"), "1");
    let rule = "rules:\n  - id: inserts\n    match: { action: [postgres:insert] }\n    decision: deny\n";
    std::fs::write(site.data().join("rules/more.yaml"), rule).unwrap();
    site.signal("HUP");
    crate::support::wait_for("the new rule", || {
        let answers = session.ask(run());
        answers.iter().find(|message| message.tag == b'E' && message.field(b'C').as_deref() == Some("42501")).cloned()
    });
    let before = database.sql("SELECT count(*) FROM t");
    session.ask(run());
    assert_eq!(database.sql("SELECT count(*) FROM t"), before);
    site.verify();
}
