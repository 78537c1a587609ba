//! Durable append to the audit log: one writer, group commit, recovery.
//!
//! The directory of a log holds `log.pub` (the public key), `checkpoint` (the last signed tree head), `checkpoints/`
//! (earlier ones, kept for good), the segments `<first record>.jsonl`, a `reserve` file that is given up when the disk
//! is full, and a `lock`. `docs/audit-format.md` specifies what a verifier needs of it.
//!
//! It must never answer that a record is durable before the disk said so, never write after an
//! error, never repair what the checkpoint covers, and never let two processes extend one log.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::audit::chain::Chain;
use crate::audit::checkpoint::SigningKey;
use crate::audit::line::segment_name;
use crate::audit::record::{Kind, MAX_LINE, Record};
use crate::audit::tree::Frontier;
use crate::digest::Digest;
use crate::telemetry::Metrics;
use crate::time::{Clock, Timestamp};

use carry::Carry;
use disk::Disk;
use queue::Queue;
use recovery::{Found, Torn};
use writer::{Batch, Segment, Space, Writer};

mod carry;
mod disk;
mod fates;
mod key;
pub(crate) mod openings;
mod queue;
mod recovery;
mod writer;

pub(crate) use fates::Fate;
pub(crate) use key::KeyError;

/// Where a log lives.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Directory of the log. Everything a verifier needs is in it.
    pub(crate) dir: PathBuf,
    /// The signing key; it carries the log's origin.
    pub(crate) key_file: PathBuf,
}

/// Sizes that tests make small.
#[derive(Clone, Copy, Debug)]
struct Limits {
    segment_bytes: u64,
    /// Most bytes that are written in one piece, give or take one record.
    batch_bytes: u64,
    /// Kept free for the outcomes of what already runs when the disk is full.
    reserve_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, batch_bytes: 1 << 20, reserve_bytes: 16 << 20 }
    }
}

impl Limits {
    /// A segment with less room than this is sealed.
    fn batch_room(self) -> u64 {
        self.batch_bytes + MAX_LINE as u64 + 1
    }

    fn zero_ahead(self, step: u64) -> u64 {
        step.min(self.segment_bytes)
    }
}

/// What an earlier process left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Actions that were sent, or about to be, and have no outcome: they may have run.
    pub(crate) open_forwards: Vec<OpenForward>,
    /// Signatures of forwarded requests that are still valid, with their expiry: they must not run again.
    pub(crate) signatures: Vec<(Digest, Timestamp)>,
    /// Latest expiry of those that were left out because they expired; the epoch when there are none.
    pub(crate) forgotten_until: Timestamp,
}

/// An `action.forward` record without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenForward {
    pub(crate) action_id: String,
    pub(crate) hold: Option<String>,
    pub(crate) digest: Option<String>,
}

/// The log cannot be opened. The log on disk is as it was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(
        "the audit log is not what its checkpoint was signed for: {0}\n\
         Nothing was changed. Keep a copy of the directory, run `countersign audit verify` on it, and restore the log \
         from a copy that verifies; or move it away and begin a new log with `countersign init` and a new key"
    )]
    Damaged(Damage),
    #[error("there is an audit log in `{0}` already")]
    Exists(PathBuf),
    #[error("cannot {doing} `{path}` of the audit log", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the audit log's key")]
    Key(#[source] KeyError),
    #[error("another process writes the audit log in `{0}`: stop it first; two would fork the log")]
    Locked(PathBuf),
}

/// What is wrong with a log, and where.
#[derive(Debug)]
pub(crate) struct Damage {
    file: PathBuf,
    seq: Option<u64>,
    reason: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.file.display())?;
        if let Some(seq) = self.seq {
            write!(f, ", record {seq}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Handle to the one writer of this process's log; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Journal(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    dir: PathBuf,
    queue: Arc<Queue>,
    public_key: String,
    ended: tokio::sync::watch::Receiver<bool>,
}

/// Proof that a record is on disk. Only the journal makes one; forwarding demands it.
#[derive(Debug)]
pub(crate) struct Durable {
    seq: u64,
}

impl Durable {
    /// Number of the record in its log.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }
}

/// A record that was not taken without waiting, and why.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) error: JournalError,
    pub(crate) record: Record,
}

/// A record was not taken. But for `Behind`, the log stays so until an operator restarts the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("the disk of the audit log has fallen behind: too many records wait")]
    Behind,
    #[error("the audit log is closed")]
    Closed,
    #[error("the disk of the audit log is full: free space, then restart")]
    DiskFull,
    #[error("the audit log cannot be written: {0}")]
    Failed(String),
}

/// Makes the key of a new log in a new file that only its owner can read, and an empty log; gives
/// the public key (a C2SP verifier key) to hand to auditors. `origin` names the log for ever: 1 to 128
/// letters, digits and `./_-:`, best a URL without scheme such as `example.com/countersign/1`.
///
/// # Errors
/// When the key or a log exists or cannot be written, or the origin is not fit for one.
pub(crate) fn create(options: &Options, origin: &str) -> Result<String, OpenError> {
    let dir = options.dir.as_path();
    if dir.join("checkpoint").exists() || dir.exists() && !recovery::list_segments(dir)?.is_empty() {
        return Err(OpenError::Exists(dir.to_owned()));
    }
    let key = key::create(origin).and_then(|key| key::write(&options.key_file, &key).map(|()| key));
    let key = key.map_err(OpenError::Key)?;
    begin(dir, &key)?;
    Ok(key.public().to_string())
}

/// Makes an empty log.
fn begin(dir: &Path, key: &SigningKey) -> Result<(), OpenError> {
    std::fs::create_dir_all(dir.join("checkpoints")).map_err(|source| io_error("make", dir, source))?;
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        Disk::default().replace(&path, text.as_bytes()).map_err(|source| io_error("write", &path, source))
    };
    write("log.pub", &format!("{}\n", key.public()))?;
    write("checkpoint", &key.sign(0, Frontier::default().root()))
}

impl Journal {
    /// Opens the log for writing: finds what a crash left, cuts a torn tail and says so in a
    /// record, and refuses a log that was damaged. Blocks on the disk.
    ///
    /// # Errors
    /// When another process has the log, or it is not what its checkpoint says, or on any IO error.
    pub(crate) fn open(options: &Options, clock: Clock, metrics: Arc<Metrics>) -> Result<(Self, Recovered), OpenError> {
        Self::open_on(Disk::default(), Limits::default(), options, clock, metrics)
    }

    fn open_on(
        disk: Disk,
        limits: Limits,
        options: &Options,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Recovered), OpenError> {
        let dir = options.dir.as_path();
        let key = key::read(&options.key_file).map_err(OpenError::Key)?;
        let lock = lock(dir)?;
        let found = recovery::find(dir, key.public(), limits.batch_room(), clock.now())?;
        let public_key = key.public().to_string();
        let queue = Arc::new(Queue::new(clock.clone()));
        let (mut writer, recovered, own) = start(disk, limits, dir, key, clock, metrics, &queue, found)
            .map_err(|source| io_error("write to", dir, source))?;
        writer.write_own(own).map_err(|source| io_error("write to", dir, source))?;
        let (end, ended) = tokio::sync::watch::channel(false);
        let thread = std::thread::Builder::new().name("journal".to_owned());
        thread
            .spawn(move || {
                writer.run();
                // The lock goes after the last write, and before whoever waits for the end hears of it.
                drop(lock);
                end.send_replace(true);
            })
            .map_err(|source| io_error("start the writer of", dir, source))?;
        Ok((Self(Arc::new(Handle { dir: dir.to_owned(), queue, public_key, ended })), recovered))
    }

    /// The public key of the log: a C2SP verifier key.
    pub(crate) fn public_key(&self) -> &str {
        &self.0.public_key
    }

    /// What the log says became of those holds; of one that it does not know, nothing. Blocks on the disk.
    ///
    /// # Errors
    /// When a segment cannot be read.
    pub(crate) fn fates(&self, holds: &HashSet<&str>) -> Result<HashMap<String, Fate>, OpenError> {
        fates::read(&self.0.dir, holds)
    }

    /// Appends a record and returns when it is durable. Dropping the future does not take a record
    /// back that has been queued.
    ///
    /// # Errors
    /// When the log has failed, now or before; it stays failed.
    pub(crate) async fn append(&self, record: Record) -> Result<Durable, JournalError> {
        let (waiter, durable) = oneshot::channel();
        self.0.queue.push_hurried(record, waiter).await?;
        match durable.await {
            Ok(result) => result,
            Err(_) => Err(JournalError::Failed("the writer stopped".to_owned())),
        }
    }

    /// Appends a record without waiting for the disk; it will be in the next group commit.
    ///
    /// # Errors
    /// When the log has failed, or so many records wait that the disk has fallen behind.
    pub(crate) fn enqueue(&self, record: Record) -> Result<(), Refused> {
        self.0.queue.push(record)
    }

    /// Returns once a record about something new would be taken at once, so that it may begin. Costs
    /// one look at an atomic then.
    ///
    /// # Errors
    /// When the log takes no such record any more.
    pub(crate) async fn ready(&self) -> Result<(), JournalError> {
        self.0.queue.ready().await
    }

    /// Why the log takes nothing any more; `None` while it works.
    pub(crate) fn failed(&self) -> Option<JournalError> {
        self.0.queue.ended()
    }

    /// Writes what waits and a last checkpoint, and ends the log for every clone of this handle.
    ///
    /// # Errors
    /// When the log has failed, now or before.
    pub(crate) async fn close(&self) -> Result<(), JournalError> {
        self.0.queue.close();
        // An error means that the thread has gone, which is what is waited for.
        drop(self.0.ended.clone().wait_for(|ended| *ended).await);
        match self.0.queue.ended() {
            None | Some(JournalError::Closed) => Ok(()),
            Some(error) => Err(error),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Brings the directory into order and makes the writer, with the records it must begin with.
#[expect(clippy::too_many_arguments, reason = "the writer's parts, put together once")]
fn start(
    disk: Disk,
    limits: Limits,
    dir: &Path,
    key: SigningKey,
    clock: Clock,
    metrics: Arc<Metrics>,
    queue: &Arc<Queue>,
    found: Option<Found>,
) -> io::Result<(Writer, Recovered, Vec<Record>)> {
    let open = Record::new(Kind::LogOpen)
        .text("key", key.public().to_string())
        .text("program", concat!("countersign ", env!("CARGO_PKG_VERSION")));
    let mut own = Vec::new();
    std::fs::create_dir_all(dir.join("checkpoints"))?;
    make_reserve(&disk, dir, limits.reserve_bytes)?;
    let (segment, chain, carry, covered, recovered) = match found {
        None => {
            let file = disk.create(&dir.join(segment_name(0)))?;
            disk.sync_dir(dir)?;
            let segment = Segment { file, length: 0, zeroed: 0 };
            (segment, Chain::start(key.public().name()), Carry::default(), 0, Recovered::default())
        }
        Some(found) => {
            own.extend(cut(&disk, dir, found.torn)?);
            let mut file = disk.open(&dir.join(segment_name(found.segment)))?;
            // Whole lines that were never synced become durable here, before anything builds on them.
            file.set_len(found.keep)?;
            file.sync_all()?;
            let segment = Segment { file, length: found.keep, zeroed: found.keep };
            (segment, found.chain, found.carry, found.checkpoint.size, found.recovered)
        }
    };
    own.push(open);
    // An origin needs no escapes: `is_origin`.
    let log_literal = format!("\"{}\"", key.public().name());
    let writer = Writer {
        disk,
        dir: dir.to_owned(),
        limits,
        key,
        clock,
        metrics,
        queue: queue.clone(),
        segment,
        chain,
        carry,
        covered,
        covered_at: Instant::now(),
        kept_hour: 0,
        log_literal,
        last_at: Timestamp::from_micros(0),
        space: Space::Free,
        batch: Batch::default(),
        runtime: tokio::runtime::Handle::try_current().ok(),
    };
    Ok((writer, recovered, own))
}

/// Removes a segment that a crash left incomplete, and says what is cut.
fn cut(disk: &Disk, dir: &Path, torn: Option<Torn>) -> io::Result<Option<Record>> {
    let Some(torn) = torn else { return Ok(None) };
    if torn.whole {
        disk.remove(&dir.join(&torn.segment))?;
        disk.sync_dir(dir)?;
    }
    let cut = i64::try_from(torn.tail.bytes).unwrap_or(i64::MAX);
    tracing::warn!(segment = torn.segment, bytes = cut, "the end of the audit log was torn by a crash and is cut");
    Ok((cut > 0).then(|| {
        Record::new(Kind::LogRecovered)
            .integer("cut_bytes", cut)
            .text("cut_sha256", torn.tail.sha256.hex())
            .text("segment", torn.segment)
    }))
}

fn make_reserve(disk: &Disk, dir: &Path, bytes: u64) -> io::Result<()> {
    let path = dir.join("reserve");
    if path.metadata().is_ok_and(|metadata| metadata.len() == bytes) {
        return Ok(());
    }
    disk.remove(&path)?;
    let zeros = vec![0; usize::try_from(bytes).unwrap_or(0)];
    let mut file = disk.create(&path)?;
    file.write_at(0, &zeros)?;
    file.sync_all()?;
    disk.sync_dir(dir)
}

/// The right to write the log; goes with the process, however that ends.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, but for a child process that is just being spawned and has the file too.
        drop(self.0.unlock());
    }
}

/// Takes the log for this process.
fn lock(dir: &Path) -> Result<Lock, OpenError> {
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| io_error("open", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Locked(dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(io_error("lock", &path, source)),
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
