//! Durable state of holds: what must be there again after `kill -9`.
//!
//! One thread owns the database and commits whatever queued meanwhile in one transaction, so that
//! a thousand holds at once cost a few syncs. The audit log says what happened and is the truth on
//! forwards; this store says what is still open. It never holds a secret: parameters are stored as
//! they are shown, and the request itself comes back with the client's retry.
//!
//! Crash between a journal record and its save here: the hold is as it was before the event. For a
//! verdict that means the person, who got no acknowledgement, is asked again; for a forward the
//! journal's open forward wins and the hold becomes `outcome-unknown`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use crate::id::HoldId;

mod saved;

pub(crate) use saved::SavedHold;

/// Handle to the store; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    writes: mpsc::SyncSender<Write>,
}

/// Why the store cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("hold `{0}` in the state database cannot be read: {1}; restore the file from a backup or move it away")]
    Damaged(String, String),
    #[error("cannot {doing} the state database: {cause}")]
    Database { doing: &'static str, cause: Arc<redb::Error> },
    #[error("the state database is closed")]
    Closed,
    #[error("hold `{0}` cannot be put into its stored form: {1}")]
    Unencodable(HoldId, String),
}

impl Store {
    /// Opens or creates the database and reads every hold in it.
    ///
    /// # Errors
    /// When the file cannot be opened (also because another process has it open) or holds what this
    /// version cannot read: starting without a pending hold would lose it, so nothing is skipped.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<SavedHold>), StoreError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|e| failed("open", e))?;
        let holds = load(&database)?;
        let (writes, queue) = mpsc::sync_channel(QUEUE_LENGTH);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || run(&database, &queue))
            .map_err(|e| failed("start the writer of", redb::Error::Io(e)))?;
        Ok((Self { writes }, holds))
    }

    /// Saves the hold as it is now; returns when that is durable.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub(crate) async fn save(&self, hold: SavedHold) -> Result<(), StoreError> {
        let text = hold.to_json().map_err(|e| StoreError::Unencodable(hold.id.clone(), e.to_string()))?;
        self.write(hold.id, Some(text), hold.revision).await
    }

    /// Forgets a hold that ended long ago.
    ///
    /// # Errors
    /// When that could not be made durable.
    pub(crate) async fn forget(&self, id: HoldId) -> Result<(), StoreError> {
        self.write(id, None, u64::MAX).await
    }

    async fn write(&self, id: HoldId, content: Option<String>, revision: u64) -> Result<(), StoreError> {
        let (done, durable) = oneshot::channel();
        let mut write = Write { id, content, revision, done };
        // The queue is longer than the holds a process may have open, so it is full only when the
        // disk stands still; then the caller waits without holding up its thread.
        loop {
            match self.writes.try_send(write) {
                Ok(()) => break,
                Err(mpsc::TrySendError::Disconnected(_)) => return Err(StoreError::Closed),
                Err(mpsc::TrySendError::Full(back)) => write = back,
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        durable.await.map_err(|_| StoreError::Closed)?
    }
}

/// Holds are read once, at start: a larger cache would only take memory.
const CACHE_BYTES: usize = 8 << 20;

/// Writes that may wait for the disk before callers feel it.
const QUEUE_LENGTH: usize = 4096;

/// Writes committed in one transaction at most.
const BATCH: usize = 1024;

const HOLDS: TableDefinition<'_, &str, &str> = TableDefinition::new("holds");

#[derive(Debug)]
struct Write {
    id: HoldId,
    /// `None` removes the hold.
    content: Option<String>,
    revision: u64,
    done: oneshot::Sender<Result<(), StoreError>>,
}

fn run(database: &Database, queue: &mpsc::Receiver<Write>) {
    let mut saved: HashMap<HoldId, u64> = HashMap::new();
    while let Ok(first) = queue.recv() {
        let mut batch: Vec<Write> = std::iter::once(first).chain(queue.try_iter().take(BATCH)).collect();
        // Tasks save, and tasks overtake each other: an approval written over its own outcome would run again.
        batch.sort_by_key(|write| write.revision);
        let outcome = commit(database, &batch, &saved);
        if let Err(error) = &outcome {
            tracing::error!(%error, "holds cannot be saved");
        }
        for write in batch {
            if outcome.is_ok() && write.content.is_none() {
                saved.remove(&write.id);
            } else if outcome.is_ok() {
                saved.entry(write.id).and_modify(|it| *it = write.revision.max(*it)).or_insert(write.revision);
            }
            // A caller that went away needs no answer.
            drop(write.done.send(outcome.clone()));
        }
    }
}

fn commit(database: &Database, batch: &[Write], saved: &HashMap<HoldId, u64>) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(|e| failed("write to", e))?;
    {
        let mut table = transaction.open_table(HOLDS).map_err(|e| failed("write to", e))?;
        for write in batch.iter().filter(|it| saved.get(&it.id).is_none_or(|saved| *saved <= it.revision)) {
            let id = write.id.as_str();
            match &write.content {
                Some(text) => table.insert(id, text.as_str()).map_err(|e| failed("write to", e))?,
                None => table.remove(id).map_err(|e| failed("write to", e))?,
            };
        }
    }
    transaction.commit().map_err(|e| failed("write to", e))
}

fn load(database: &Database) -> Result<Vec<SavedHold>, StoreError> {
    let transaction = database.begin_read().map_err(|e| failed("read", e))?;
    let table = match transaction.open_table(HOLDS) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", error)),
    };
    table
        .iter()
        .map_err(|e| failed("read", e))?
        .map(|entry| {
            let (id, text) = entry.map_err(|e| failed("read", e))?;
            SavedHold::from_json(text.value()).map_err(|cause| StoreError::Damaged(id.value().to_owned(), cause))
        })
        .collect()
}

fn failed(doing: &'static str, cause: impl Into<redb::Error>) -> StoreError {
    StoreError::Database { doing, cause: Arc::new(cause.into()) }
}

#[cfg(test)]
mod tests;
