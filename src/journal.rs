//! Durable append to the audit log: one writer, group commit, recovery.

use crate::audit::record::Record;

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

/// The log cannot be written. Matched actions stop until an operator restarts the process.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("the audit log cannot be written: {0}")]
    Failed(String),
}

impl Journal {
    /// Appends a record and waits until it is durable.
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
}
