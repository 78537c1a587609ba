use serde_json::Value;

use super::disk::faults::Faults;
use super::*;
use crate::audit::checkpoint::VerifyingKey;
use crate::audit::line::Lines;
use crate::audit::verify::{Anchor, Finding, Verifier, Whole};

mod crash;
mod recover;
mod sample;

/// Sealed after some 3 KB, so that a few records make several segments.
const SMALL: Limits = Limits { segment_bytes: 70_000, batch_bytes: 1_000, reserve_bytes: 200_000 };

/// A log in a directory of its own, in memory where the system has such a place.
pub(super) struct Bench {
    dir: tempfile::TempDir,
    options: Options,
    public: VerifyingKey,
}

impl Bench {
    pub(super) fn new() -> Self {
        let (dir, options) = Self::place();
        let public = VerifyingKey::parse(&create(&options, "example.com/log").unwrap()).unwrap();
        Self { dir, options, public }
    }

    /// An empty log with a key that is known.
    fn with_key(key: &SigningKey) -> Self {
        let (dir, options) = Self::place();
        key::write(&options.key_file, key).unwrap();
        begin(&options.dir, key).unwrap();
        Self { dir, options, public: key.public().clone() }
    }

    fn place() -> (tempfile::TempDir, Options) {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let options = Options { dir: dir.path().join("log"), key_file: dir.path().join("log.key") };
        (dir, options)
    }

    pub(super) fn open(&self) -> (Journal, Recovered) {
        self.try_open().unwrap()
    }

    fn try_open(&self) -> Result<(Journal, Recovered), OpenError> {
        Journal::open_on(Disk::default(), SMALL, &self.options, Clock::default(), Arc::default())
    }

    fn open_faulty(&self, faults: &Arc<Faults>) -> Result<(Journal, Recovered), OpenError> {
        Journal::open_on(Disk::faulty(faults), SMALL, &self.options, Clock::default(), Arc::default())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.options.dir.join(name)
    }

    pub(super) fn segments(&self) -> Vec<u64> {
        recovery::list_segments(&self.options.dir).unwrap()
    }

    /// All records that stand in the files, checked or not.
    fn records(&self) -> Vec<Value> {
        let mut records = Vec::new();
        for first in self.segments() {
            let mut lines = Lines::new(File::open(self.file(&segment_name(first))).unwrap());
            while let Some(line) = lines.peek().unwrap().map(<[u8]>::to_vec) {
                records.extend(serde_json::from_slice::<Value>(&line).ok());
                lines.advance(line.len());
            }
        }
        records
    }

    fn records_of(&self, kind: Kind) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["type"] == kind.as_str()).collect()
    }

    fn verify(&self) -> Result<Whole, Finding> {
        let anchor = |path: PathBuf| Anchor {
            source: path.display().to_string(),
            checkpoint: self.public.open(&std::fs::read_to_string(path).unwrap()).unwrap(),
        };
        let kept = std::fs::read_dir(self.file("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
        let kept = kept.filter(|path| path.extension().is_none()).map(anchor).collect();
        let mut verifier = Verifier::new(anchor(self.file("checkpoint")), kept);
        let segments = self.segments();
        for first in &segments {
            verifier.begin_segment(*first)?;
            let mut lines = Lines::new(File::open(self.file(&segment_name(*first))).unwrap());
            while let (offset, Some(line)) = (lines.offset(), lines.peek().unwrap()) {
                verifier.line(offset, line)?;
                let length = line.len();
                lines.advance(length);
            }
            verifier.end_segment(&lines.tail().unwrap(), Some(first) == segments.last())?;
        }
        verifier.finish()
    }
}

fn numbered(n: u64) -> Record {
    Record::new(Kind::ActionPassed).integer("n", i64::try_from(n).unwrap()).text("filler", "x".repeat(200))
}

fn forward(id: &str) -> Record {
    Record::new(Kind::ActionForward).text("action_id", id).text("hold", "h_1").text("digest", "d")
}

fn outcome(id: &str) -> Record {
    Record::new(Kind::ActionOutcome).text("action_id", id)
}

#[tokio::test]
async fn records_are_in_order_and_the_log_verifies() {
    let bench = Bench::new();
    let (journal, recovered) = bench.open();
    assert_eq!(recovered, Recovered::default());
    let mut appends = tokio::task::JoinSet::new();
    for n in 0..200 {
        let journal = journal.clone();
        if n % 3 == 0 {
            journal.enqueue(numbered(n)).unwrap();
        }
        appends.spawn(async move { (n, journal.append(numbered(n)).await.unwrap().seq) });
    }
    let mut acknowledged = appends.join_all().await;
    journal.close().await.unwrap();
    let records = bench.records();
    for (n, seq) in &acknowledged {
        assert_eq!(records[usize::try_from(*seq).unwrap()]["n"], *n);
    }
    acknowledged.sort_by_key(|(_, seq)| *seq);
    acknowledged.dedup_by_key(|(_, seq)| *seq);
    assert_eq!(acknowledged.len(), 200);
    assert_eq!(bench.records_of(Kind::ActionPassed).len(), 267);
    assert!(bench.segments().len() > 3, "{:?}", bench.segments());
    let whole = bench.verify().unwrap();
    assert_eq!((whole.records, whole.covered, whole.torn_bytes), (records.len() as u64, records.len() as u64, 0));
    assert_eq!(records.last().unwrap()["type"], "log.close");
    assert!(records.is_sorted_by_key(|record| record["ts"].as_str().unwrap().to_owned()));
}

#[tokio::test]
async fn each_line_is_canonical() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    for n in 0..20 {
        journal.append(forward(&format!("a_{n}"))).await.unwrap();
    }
    journal.close().await.unwrap();
    for first in bench.segments() {
        let text = std::fs::read_to_string(bench.file(&segment_name(first))).unwrap();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json_canonicalizer::to_string(&value).unwrap(), line);
        }
    }
}

#[tokio::test]
async fn a_log_has_one_writer_and_needs_its_key() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    assert_eq!(journal.public_key(), bench.public.to_string());
    assert!(matches!(bench.try_open(), Err(OpenError::Locked(_))));
    journal.close().await.unwrap();
    assert_eq!(journal.append(numbered(1)).await.unwrap_err(), JournalError::Closed);
    assert_eq!(journal.enqueue(numbered(1)).unwrap_err().error, JournalError::Closed);

    let other = Bench::new();
    let stranger = Options { key_file: other.options.key_file.clone(), ..bench.options.clone() };
    assert!(matches!(Journal::open(&stranger, Clock::default(), Arc::default()), Err(OpenError::Damaged(_))));
    assert!(matches!(create(&bench.options, "example.com/log"), Err(OpenError::Exists(_))));
    let taken = Options { dir: bench.dir.path().join("new"), ..bench.options.clone() };
    assert!(matches!(create(&taken, "example.com/log"), Err(OpenError::Key(KeyError::Io { .. }))));

    use std::os::unix::fs::PermissionsExt;
    let mode = |mode| std::fs::set_permissions(&bench.options.key_file, PermissionsExt::from_mode(mode)).unwrap();
    assert_eq!(bench.options.key_file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    mode(0o644);
    assert!(matches!(bench.try_open(), Err(OpenError::Key(KeyError::Open(_)))));
    mode(0o640);
    bench.open().0.close().await.unwrap();
}

#[tokio::test]
async fn a_handle_that_is_dropped_ends_the_log_in_order() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    journal.enqueue(numbered(1)).unwrap();
    let mut ended = journal.0.ended.clone();
    drop(journal);
    ended.wait_for(|ended| *ended).await.unwrap();
    assert_eq!(bench.records_of(Kind::LogClose).len(), 1);
    assert_eq!(bench.verify().unwrap().records, 3);
}

#[tokio::test]
async fn what_nobody_waits_for_is_written_all_the_same() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    journal.enqueue(numbered(1)).unwrap();
    while bench.records_of(Kind::ActionPassed).is_empty() {
        tokio::task::yield_now().await;
    }
    journal.close().await.unwrap();
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_or_makes_wait() {
    let queue = Arc::new(Queue::new(Clock::default()));
    while queue.push(Record::new(Kind::ActionPassed)).is_ok() {}
    assert_eq!(queue.push(numbered(1)).unwrap_err().error, JournalError::Behind);
    let (waiter, durable) = oneshot::channel();
    let pushing = tokio::spawn({
        let queue = queue.clone();
        async move { queue.push_hurried(numbered(1), waiter).await }
    });
    // So does what has not begun yet.
    let beginning = tokio::spawn({
        let queue = queue.clone();
        async move { queue.ready().await }
    });
    tokio::task::yield_now().await;
    assert!(!pushing.is_finished() && !beginning.is_finished());
    let mut taken = Vec::new();
    assert_eq!(queue.take(&mut taken, None), queue::Turn::Write);
    assert_eq!(pushing.await.unwrap(), Ok(()));
    assert_eq!(beginning.await.unwrap(), Ok(()));
    taken.clear();
    queue.take(&mut taken, None);
    assert_eq!(taken.len(), 1);
    assert_eq!(queue.ready().await, Ok(()));
    queue.fail(&JournalError::DiskFull);
    assert_eq!(queue.ready().await, Err(JournalError::DiskFull));
    assert_eq!(queue.push(numbered(1)).unwrap_err().error, JournalError::DiskFull);
    drop(taken);
    assert!(durable.await.is_err());
}
