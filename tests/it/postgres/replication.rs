//! Connections for replication with the programs that come with PostgreSQL: backups, the log as it is
//! written, the log decoded; as they are, refused by rule, and paused by one.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use super::{NO_RULE, site};
use crate::support::driver::Door;
use crate::support::frontend::{Batch, Frontend, Message};
use crate::support::postgres::{ADMIN, Cluster, Database, program};
use crate::support::site::{Site, shown};
use crate::support::wait_for;

/// What backups and slots must not be.
const NO_COPIES: &str = "\
rules:
  - id: no-copies
    match: { action: [postgres:start_replication, postgres:base_backup] }
    decision: deny
    message: The log is not for agents.
";

const BY_VOLUME: &str = "\
rules:
  - id: much
    match: { action: [postgres:start_replication] }
    volume: { bytes: 256KiB }
    decision: hold
    approvers: [security]
";

/// A server of its own: the position in the log is one for all of its databases.
struct Source {
    database: Database,
    site: Site,
    door: Door,
    folder: TempDir,
}

impl Source {
    #[track_caller]
    fn open(rules: &str) -> Self {
        let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start("")));
        let database = cluster.database("source");
        database.sql("CREATE TABLE t (i int)");
        let site = site(&database, ADMIN, rules);
        let door = Door::through(&site, "bot", &database);
        Self { database, site, door, folder: TempDir::new().unwrap() }
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.door.command(&program(name));
        command.args(arguments).stderr(Stdio::piped());
        command
    }

    #[track_caller]
    fn run(&self, name: &str, arguments: &[&str]) -> Output {
        let output = self.command(name, arguments).output().unwrap();
        assert!(output.status.success(), "{name} {arguments:?}: {}", shown(&output));
        output
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Where the log ends.
    fn position(&self) -> String {
        self.database.sql("SELECT pg_current_wal_insert_lsn()")
    }
}

/// Ends a program as a terminal does.
#[track_caller]
fn interrupted(child: Child) -> Output {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    child.wait_with_output().unwrap()
}

#[test]
fn a_backup_is_whole() {
    let source = Source::open(NO_RULE);
    source.database.sql("INSERT INTO t SELECT generate_series(1, 100000)");
    let folder = source.path("backup");
    source.run("pg_basebackup", &["-D", &folder, "-Xstream", "-cfast"]);
    let output = Command::new(program("pg_verifybackup")).arg(&folder).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    source.site.verify();
}

#[test]
fn the_log_arrives_as_the_server_wrote_it() {
    let source = Source::open(NO_RULE);
    let folder = source.path("log");
    std::fs::create_dir(&folder).unwrap();
    source.run("pg_receivewal", &["-D", &folder, "--slot=archive", "--create-slot"]);
    let segment = source.database.sql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
    let child = source.command("pg_receivewal", &["-D", &folder, "--slot=archive", "--synchronous"]).spawn().unwrap();
    wait_for("the archive to follow", || {
        let active = source.database.sql("SELECT active FROM pg_replication_slots WHERE slot_name = 'archive'");
        (active == "t").then_some(())
    });
    source.database.sql("INSERT INTO t SELECT generate_series(1, 100000)");
    source.database.sql("SELECT pg_switch_wal()");
    let file = Path::new(&folder).join(&segment);
    wait_for("the segment", || file.exists().then_some(()));
    let output = interrupted(child);
    assert!(output.status.success(), "{}", shown(&output));
    let own = source.database.cluster().folder().join("data/pg_wal").join(&segment);
    assert!(std::fs::read(&file).unwrap() == std::fs::read(own).unwrap(), "{segment} differs");
    source.run("pg_receivewal", &["-D", &folder, "--slot=archive", "--drop-slot"]);
    assert_eq!(source.database.sql("SELECT count(*) FROM pg_replication_slots"), "0");
    source.site.verify();
}

#[test]
fn the_log_is_decoded_with_every_plugin() {
    let source = Source::open(NO_RULE);
    source.database.sql("CREATE PUBLICATION all_of_it FOR ALL TABLES");
    let database = source.database.name.clone();
    let options = ["proto_version=1", "publication_names=all_of_it"];
    for (plugin, options) in [("test_decoding", &["include-xids=off"][..]), ("pgoutput", &options[..])] {
        let slot = format!("--slot={plugin}");
        source.run("pg_recvlogical", &["-d", &database, &slot, "--create-slot", "-P", plugin]);
        source.database.sql("INSERT INTO t VALUES (4711)");
        let (file, end) = (source.path(plugin), format!("--endpos={}", source.position()));
        let mut arguments = vec!["-d", &database, &slot, "--start", &end, "-f", &file];
        arguments.extend(options.iter().flat_map(|option| ["-o", option]));
        source.run("pg_recvlogical", &arguments);
        let text = std::fs::read(&file).unwrap();
        assert!(text.windows(4).any(|it| it == b"4711"), "{plugin}: {}", text.escape_ascii());
        source.run("pg_recvlogical", &["-d", &database, &slot, "--drop-slot"]);
    }
    source.site.verify();
}

#[test]
fn who_may_not_have_the_log_gets_none_of_it() {
    let source = Source::open(NO_COPIES);
    let folder = source.path("denied");
    let output = source.command("pg_basebackup", &["-D", &folder, "-Xfetch"]).output().unwrap();
    let said = shown(&output);
    assert!(!output.status.success() && said.contains("The log is not for agents."), "{said}");
    // It has to be allowed to leave the ways of replication, and to ask on.
    let mut session = Frontend::connect_with(&source.door, &[("replication", "database")]);
    for command in ["START_REPLICATION 0/1", "BASE_BACKUP"] {
        let seen = session.ask(Batch::new().query(command));
        assert_eq!(tags(&seen), "EZ", "{seen:?}");
        assert_eq!(seen[0].field(b'C').as_deref(), Some("42501"), "{seen:?}");
        assert_eq!(tags(&session.ask(Batch::new().query("IDENTIFY_SYSTEM"))), "TDCZ");
        assert_eq!(tags(&session.ask(Batch::new().query("SELECT 1"))), "TDCZ");
    }
    source.site.verify();
}

fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).filter(|tag| *tag != 'N').collect()
}

/// The log streams, is paused by its volume, and goes on or ends; what the client says meanwhile passes.
#[test]
fn the_log_is_paused_by_its_volume() {
    for verdict in ["allow", "deny"] {
        let source = Source::open(BY_VOLUME);
        let begin = source.position();
        source.database.sql("INSERT INTO t SELECT generate_series(1, 50000)");
        let end = source.position();
        let mut session = Frontend::connect_with(&source.door, &[("replication", "true")]);
        session.send(&Batch::new().query(&format!("START_REPLICATION PHYSICAL {begin}")).0);
        let before = session.read_to(b'N');
        assert_eq!(before[0].tag, b'W', "{}", tags(&before));
        let bytes =
            |messages: &[Message]| messages.iter().filter(|it| it.tag == b'd').map(|it| it.body.len()).sum::<usize>();
        assert!(bytes(&before) <= 256 << 10, "{}", bytes(&before));
        let hold = source.site.pending(1).remove(0);
        // A status update: 0 was written, flushed and applied, and no answer is asked for.
        session.send(&Batch::new().raw(b'd', &[b"r".as_slice(), &[0; 33]].concat()).0);
        source.site.decide("alice", &hold, verdict);
        if verdict == "deny" {
            let seen = session.read_to(b'E');
            assert_eq!(seen.last().unwrap().field(b'C').as_deref(), Some("42501"), "{seen:?}");
            assert_eq!(bytes(&seen), 0);
        } else {
            let all = source.database.sql(&format!("SELECT '{end}'::pg_lsn - '{begin}'::pg_lsn"));
            let all: usize = all.parse().unwrap();
            let mut came = bytes(&before);
            while came < all {
                came += bytes(&session.read_to(b'd'));
            }
            let seen = session.ask(Batch::new().raw(b'c', b""));
            assert!(tags(&seen).ends_with("CCZ") || tags(&seen).ends_with("CZ"), "{}", tags(&seen));
            assert_eq!(tags(&session.ask(Batch::new().query("IDENTIFY_SYSTEM"))), "TDCZ");
        }
        drop(session);
        source.site.verify();
    }
}
