//! Disks that fail, fill up and lose power; processes that are killed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// SplitMix64: a seed that is printed makes a round repeatable.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }
}

/// Appends records in waves of `width`, over several segments; gives those that were acknowledged.
async fn work(bench: &Bench, faults: &Arc<Faults>, width: u64) -> Vec<(u64, u64)> {
    let Ok((journal, _)) = bench.open_faulty(faults) else { return Vec::new() };
    let mut acknowledged = Vec::new();
    for wave in 0..32 / width {
        let mut appends = tokio::task::JoinSet::new();
        for n in wave * width..(wave + 1) * width {
            let journal = journal.clone();
            appends.spawn(async move { journal.append(numbered(n)).await.map(|durable| (n, durable.seq)) });
        }
        acknowledged.extend(appends.join_all().await.into_iter().flatten());
    }
    let failed = journal.close().await.is_err();
    assert_eq!(failed, journal.append(numbered(0)).await.is_err_and(|error| error != JournalError::Closed));
    acknowledged
}

/// Opens the log as a next process would; all that was acknowledged must be there, whole.
async fn check(bench: &Bench, acknowledged: &[(u64, u64)]) -> Result<(), String> {
    let (journal, _) = bench.try_open().map_err(|error| error.to_string())?;
    journal.append(numbered(1000)).await.map_err(|error| error.to_string())?;
    journal.close().await.map_err(|error| error.to_string())?;
    bench.verify().map_err(|finding| format!("{finding:?}"))?;
    let records = bench.records();
    for (n, seq) in acknowledged {
        let record = usize::try_from(*seq).ok().and_then(|seq| records.get(seq));
        if record.is_none_or(|record| record["n"] != *n) {
            return Err(format!("record {seq} was acknowledged and is lost"));
        }
    }
    Ok(())
}

/// Every change on disk fails once; nothing is written after it, and the next start finds all that
/// was acknowledged.
#[tokio::test]
async fn after_any_error_nothing_more_is_written_and_nothing_is_lost() {
    let bench = Bench::new();
    let faults = Arc::new(Faults::default());
    assert_eq!(work(&bench, &faults, 4).await.len(), 32);
    let changes = faults.done();
    assert!(changes > 60, "{changes}");
    check(&bench, &[]).await.unwrap();
    for change in 0..changes {
        for tear in [0, 20, 64] {
            let bench = Bench::new();
            let faults = Arc::new(Faults::default());
            faults.fail_at(change, io::ErrorKind::Other, tear);
            let acknowledged = work(&bench, &faults, 4).await;
            assert!(faults.done() <= change + 1, "went on after change {change} failed");
            check(&bench, &acknowledged).await.unwrap_or_else(|error| panic!("change {change}, tear {tear}: {error}"));
        }
    }
}

/// Starts may crash one after the other, each anywhere.
#[tokio::test]
async fn a_start_that_crashes_can_be_started_again() {
    let faults = Arc::new(Faults::default());
    Bench::new().open_faulty(&faults).unwrap().0.close().await.unwrap();
    let changes = faults.done();
    for first in 0..changes {
        for second in 0..changes {
            let bench = Bench::new();
            for change in [first, second] {
                let faults = Arc::new(Faults::default());
                faults.fail_at(change, io::ErrorKind::Other, 0);
                if let Ok((journal, _)) = bench.open_faulty(&faults) {
                    assert!(journal.close().await.is_err() || change >= faults.done());
                }
            }
            check(&bench, &[]).await.unwrap_or_else(|error| panic!("changes {first} and {second}: {error}"));
        }
    }
}

async fn power_cut(seed: u64, syncs_lie: bool) -> Result<(), String> {
    let mut dice = Dice(seed);
    let bench = Bench::new();
    let faults = Arc::new(Faults::default());
    if syncs_lie {
        faults.let_syncs_lie();
    }
    let mut acknowledged = Vec::new();
    // Some processes die, and are started again, before the power goes.
    for _ in 0..=dice.below(3) {
        faults.heal();
        let change = faults.done() + dice.below(140);
        faults.fail_at(change, io::ErrorKind::Other, usize::try_from(dice.below(65)).unwrap());
        let width = 1 << dice.below(5);
        acknowledged.extend(work(&bench, &faults, width).await);
    }
    faults.cut_power(|| dice.below(2) == 0);
    check(&bench, &acknowledged).await
}

#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    for seed in 0..400 {
        power_cut(seed, false).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// The rounds above must be able to see a sync that is missing.
#[tokio::test]
async fn a_power_cut_shows_a_disk_that_does_not_sync() {
    let mut broken = 0;
    for seed in 0..20 {
        broken += u32::from(power_cut(seed, true).await.is_err());
    }
    assert!(broken > 10, "{broken} of 20");
}

#[tokio::test]
async fn a_full_disk_still_takes_outcomes_and_says_so() {
    let bench = Bench::new();
    let faults = Arc::new(Faults::default());
    let metrics = Arc::new(Metrics::default());
    let open = Journal::open_on(Disk::faulty(&faults), SMALL, &bench.options, Clock::default(), metrics.clone());
    let (journal, _) = open.unwrap();
    journal.append(forward("a_1")).await.unwrap();
    faults.set_room(Some(0));
    let mut acknowledged = 0;
    let error = loop {
        match journal.append(numbered(acknowledged)).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, JournalError::DiskFull);
    assert_eq!(journal.enqueue(numbered(0)).unwrap_err().error, JournalError::DiskFull);
    assert!(metrics.render().contains("countersign_audit_failed 1"));
    assert_eq!(journal.ready().await, Err(JournalError::DiskFull));
    journal.append(outcome("a_1")).await.unwrap();
    // What no rule matched was under way too.
    journal.enqueue(numbered(acknowledged).text("outcome", "answered")).unwrap();
    journal.close().await.unwrap();
    assert!(!bench.file("reserve").exists());
    assert_eq!(bench.records_of(Kind::LogFull).len(), 1);
    assert_eq!(bench.records_of(Kind::ActionPassed).len() as u64, acknowledged + 1);
    bench.verify().unwrap();

    let faults = Arc::new(Faults::default());
    faults.set_room(Some(0));
    assert!(bench.open_faulty(&faults).is_err(), "a start without room for the reserve");
    let (journal, recovered) = bench.open();
    assert!(recovered.open_forwards.is_empty());
    journal.append(numbered(0)).await.unwrap();
    journal.close().await.unwrap();
    assert!(bench.file("reserve").exists());
}

/// The disk fills up between any two changes: each record is durable or refused, never neither.
#[tokio::test]
async fn a_disk_that_fills_up_anywhere_loses_nothing() {
    for room in (200_000..500_000).step_by(7_919) {
        let bench = Bench::new();
        let faults = Arc::new(Faults::default());
        faults.set_room(Some(room));
        let acknowledged = work(&bench, &faults, 2).await;
        check(&bench, &acknowledged).await.unwrap_or_else(|error| panic!("room {room}: {error}"));
    }
}

const CHILD_DIR: &str = "COUNTERSIGN_TEST_CHILD_DIR";

/// Not a test of its own: the process that is killed below.
#[test]
#[ignore = "run by a_process_that_is_killed_keeps_its_word"]
fn child_appends() {
    let Some(dir) = std::env::var_os(CHILD_DIR).map(PathBuf::from) else { return };
    let options = Options { dir: dir.join("log"), key_file: dir.join("log.key") };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (journal, _) =
            Journal::open_on(Disk::default(), SMALL, &options, Clock::default(), Arc::default()).unwrap();
        for n in 0.. {
            let seq = journal.append(numbered(n)).await.unwrap().seq;
            println!("acknowledged {n} {seq}");
        }
    });
}

#[tokio::test]
async fn a_process_that_is_killed_keeps_its_word() {
    let bench = Bench::new();
    let mut acknowledged: Vec<(u64, u64)> = Vec::new();
    for seed in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "journal::tests::crash::child_appends", "--ignored", "--nocapture"])
            .env(CHILD_DIR, bench.dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let wanted = Dice(seed).below(60) + 1;
        let mut seen = 0;
        let mut note = |line: String| {
            let mut words = line.split_once("acknowledged ")?.1.split(' ').map(str::parse);
            acknowledged.push((words.next()?.ok()?, words.next()?.ok()?));
            seen += 1;
            Some(seen)
        };
        for line in lines.by_ref() {
            if note(line) == Some(wanted) {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts as well.
        for line in lines {
            note(line);
        }
        assert!(seen >= wanted, "the child ended by itself");
        check(&bench, &acknowledged).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
