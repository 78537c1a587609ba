//! Durable append to the audit log: one writer, group commit, recovery.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::record::Record;
use crate::digest::Digest;
use crate::telemetry::Metrics;
use crate::time::{Clock, Timestamp};

/// Where a log lives.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Directory of the log; made when absent. Everything a verifier needs is in it.
    pub(crate) dir: PathBuf,
    /// The signing key, as [`create_key`] wrote it. It carries the log's origin.
    pub(crate) key_file: PathBuf,
}

/// Makes the key of a new log in a new file that only its owner can read, and gives the public
/// key (a C2SP verifier key) to hand to auditors. `origin` names the log for ever: text without
/// white space or `+`, best a URL without scheme such as `example.com/countersign/1`.
///
/// # Errors
/// When the file exists or cannot be written, or the origin is not fit for one.
pub(crate) fn create_key(_key_file: &Path, _origin: &str) -> Result<String, KeyError> {
    Err(KeyError::Origin("not built yet".to_owned()))
}

/// A signing key could not be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error(
        "`{0}` is no name for a log: use 1 to 128 letters, digits and `./_-:`, such as `example.com/countersign/1`"
    )]
    Origin(String),
}

/// The log cannot be opened. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {}

/// What an earlier process left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Actions that were sent, or about to be, and have no outcome: they may have run.
    pub(crate) open_forwards: Vec<OpenForward>,
    /// Signatures of forwarded requests that are still valid, with their expiry: they must not run again.
    pub(crate) signatures: Vec<(Digest, Timestamp)>,
}

/// An `action.forward` record without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenForward {
    pub(crate) action_id: String,
    pub(crate) hold: Option<String>,
    pub(crate) digest: Option<String>,
}

/// Handle to the one writer of this process's log; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Journal {}

/// Proof that a record is on disk. Only the journal makes one; forwarding demands it.
#[derive(Debug)]
pub(crate) struct Durable {
    seq: u64,
}

impl Durable {
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }
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

impl Journal {
    /// Opens the log for writing, or starts it: finds what a crash left, cuts a torn tail and says
    /// so in a record, and refuses a log that was damaged. Blocks on the disk.
    ///
    /// # Errors
    /// When another process has the log, or it is not what its checkpoint says, or on any IO error.
    pub(crate) fn open(
        _options: Options,
        _clock: Clock,
        _metrics: Arc<Metrics>,
    ) -> Result<(Self, Recovered), OpenError> {
        Ok((Self {}, Recovered::default()))
    }

    /// The public key of the log: a C2SP verifier key.
    pub(crate) fn public_key(&self) -> &str {
        ""
    }

    /// Appends a record and returns when it is durable. Dropping the future does not take the
    /// record back.
    ///
    /// # Errors
    /// When the log has failed, now or before; it stays failed.
    pub(crate) async fn append(&self, _record: Record) -> Result<Durable, JournalError> {
        Err(JournalError::Failed("not built yet".to_owned()))
    }

    /// Appends a record without waiting for the disk; it will be in the next group commit.
    ///
    /// # Errors
    /// When the log has failed, or so many records wait that the disk has fallen behind.
    pub(crate) fn enqueue(&self, _record: Record) -> Result<(), JournalError> {
        Err(JournalError::Failed("not built yet".to_owned()))
    }

    /// Writes what waits and a last checkpoint, and ends the log for every clone of this handle.
    ///
    /// # Errors
    /// When the log has failed, now or before.
    pub(crate) async fn close(&self) -> Result<(), JournalError> {
        Ok(())
    }
}
