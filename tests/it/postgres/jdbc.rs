//! pgjdbc, directly and through countersign. It needs a JDK, which nothing else here does: `make drivers-jdbc`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::holding::Bank;
use super::{ALLOWED, NO_RULE, site};
use crate::support::driver::Door;
use crate::support::postgres::{APP, cluster};
use crate::support::root;
use crate::support::site::shown;

/// Where Debian puts it.
const JAR: &str = "/usr/share/java/postgresql.jar";

/// The tour, compiled.
struct Tour(TempDir);

impl Tour {
    #[track_caller]
    fn new() -> Self {
        assert!(Path::new(JAR).exists(), "{JAR} is missing: run `make drivers-jdbc`");
        let folder = TempDir::new().unwrap();
        let source = root().join("tests/it/postgres/drivers/Tour.java");
        let output = Command::new("javac")
            .args(["-encoding", "UTF-8", "-cp", JAR, "-d"])
            .arg(folder.path())
            .arg(source)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", shown(&output));
        Self(folder)
    }

    fn command(&self, door: &Door, arguments: &[&str]) -> Command {
        let mut command = door.command(Path::new("java"));
        let classes = format!("{JAR}:{}", self.0.path().display());
        command.args(["-Dfile.encoding=UTF-8", "-cp", &classes, "Tour"]).args(arguments).stderr(Stdio::piped());
        command
    }
}

#[track_caller]
fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", shown(output));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs a JDK: make drivers-jdbc"]
fn pgjdbc_sees_the_same_in_every_query_mode() {
    let tour = Tour::new();
    let alone = cluster().database("alone");
    let direct = lines(&tour.command(&Door::direct(&alone, APP), &[]).output().unwrap());
    assert_eq!(direct.last().map(String::as_str), Some("the end of the tour"), "{direct:#?}");
    for rules in [NO_RULE, ALLOWED] {
        let behind = cluster().database("behind");
        let site = site(&behind, APP, rules);
        let through = lines(&tour.command(&Door::through(&site, "bot", &behind), &[]).output().unwrap());
        assert_eq!(direct.len(), through.len());
        let different: Vec<_> = direct.iter().zip(&through).filter(|(direct, through)| direct != through).collect();
        assert!(different.is_empty(), "{different:#?}");
        site.verify();
    }
}

#[test]
#[ignore = "needs a JDK: make drivers-jdbc"]
fn pgjdbc_waits_for_a_person() {
    let tour = Tour::new();
    for (verdict, says, left) in [("allow", "said 3", 7), ("deny", "42501", 10)] {
        let bank = Bank::open("jdbc");
        let child = tour.command(&bank.door, &["DELETE FROM accounts WHERE id < 4"]).spawn().unwrap();
        let id = bank.site.pending(1).remove(0);
        assert_eq!(bank.accounts(), 10);
        bank.site.decide("alice", &id, verdict);
        let seen = lines(&child.wait_with_output().unwrap());
        assert!(seen[0].contains(says) && seen[0].contains(&id), "{verdict}: {seen:?}");
        assert_eq!(seen[1], "next: next;");
        assert_eq!(bank.accounts(), left);
        bank.site.verify();
    }
}
