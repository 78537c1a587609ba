//! Bodies read whole before anyone is asked: in memory while small, in an unnamed file beyond.
//!
//! INVARIANT: what all of them take together is bounded, in memory and on disk, from the first byte
//! read, and so is what one agent takes of the disk. A file has no name, so that nothing is left behind
//! whatever happens to the process.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::task::{JoinHandle, spawn_blocking};

use super::body::{BodyError, Outgoing};
use crate::digest::{Digest, Hasher};
use crate::id::AgentId;

mod ledger;

pub(crate) use ledger::{DiskLimits, Payer};
use ledger::{DiskShare, Ledger};

/// The process's store of bodies that are being held.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: PathBuf,
    memory: Arc<Budget>,
    disk: Arc<Ledger>,
}

/// A body that was read to its end.
#[derive(Debug)]
pub(crate) struct Spooled {
    len: u64,
    sha256: Digest,
    stored: Stored,
}

/// Why a body could not be read whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    #[error("held bodies take all the space there is for them; try again when some were decided")]
    Full,
    #[error("this agent's held bodies may take {limit_bytes} bytes; try again when some were decided")]
    AgentFull { limit_bytes: u64 },
    #[error(
        "bodies that must be read before their signature can be checked may take {limit_bytes} bytes, and be \
         {limit_bodies}, for one key and address: send `x-amz-content-sha256`, or fewer at once"
    )]
    UnprovenFull { limit_bytes: u64, limit_bodies: usize },
    #[error(transparent)]
    Body(BodyError),
    #[error("the spool directory `{dir}` cannot be used; check its space and permissions")]
    Io { dir: PathBuf, source: io::Error },
}

impl Spool {
    /// `memory_bytes` bounds what all bodies together may take of memory.
    pub(crate) fn new(dir: PathBuf, memory_bytes: u64, disk: DiskLimits) -> Self {
        Self { dir, memory: Budget::new(memory_bytes), disk: Ledger::new(disk) }
    }

    /// Reads `body` to its end, hashing it on the way. `payer` is asked who is charged once something
    /// goes to disk. Dropping the future frees what it has taken.
    ///
    /// # Errors
    /// When it is longer than `limit_bytes`, does not arrive whole, or there is no room for it.
    pub(crate) async fn collect<B, P>(&self, mut body: B, limit_bytes: u64, payer: P) -> Result<Spooled, SpoolError>
    where
        P: Fn() -> Payer,
        B: Body<Data = Bytes, Error = BodyError> + Unpin,
    {
        // Said before a byte is read, so that a client that waits for `100 Continue` keeps its bytes.
        if body.size_hint().lower() > limit_bytes {
            return Err(SpoolError::TooLarge { limit_bytes });
        }
        let mut taking = Taking {
            len: 0,
            hasher: Hasher::new(),
            bytes: BytesMut::new(),
            memory: Share::of(&self.memory),
            file: None,
            disk: None,
        };
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(SpoolError::Body)?.into_data() else { continue };
            if taking.len + piece.len() as u64 > limit_bytes {
                return Err(SpoolError::TooLarge { limit_bytes });
            }
            if taking.is_due(&piece) {
                self.write_out(&mut taking, &payer).await?;
            }
        }
        if taking.file.is_some() {
            self.write_out(&mut taking, &payer).await?;
        }
        let stored = match (taking.file, taking.disk) {
            (Some(file), Some(share)) => Stored::File(Arc::new(SpoolFile { file, share })),
            (_, _) => Stored::Memory { bytes: taking.bytes.freeze(), _share: taking.memory },
        };
        Ok(Spooled { len: taking.len, sha256: taking.hasher.finish(), stored })
    }

    async fn write_out(&self, taking: &mut Taking, payer: &impl Fn() -> Payer) -> Result<(), SpoolError> {
        let share = taking.disk.get_or_insert_with(|| DiskShare::of(&self.disk, payer()));
        share.grow(taking.bytes.len() as u64)?;
        let bytes = std::mem::take(&mut taking.bytes);
        let file = taking.file.take();
        let dir = self.dir.clone();
        // Files block, and the runtime's threads must not.
        let written = spawn_blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => tempfile::tempfile_in(dir)?,
            };
            file.write_all(&bytes)?;
            Ok(file)
        });
        taking.file = Some(joined(written.await).map_err(|source| SpoolError::Io { dir: self.dir.clone(), source })?);
        taking.memory.clear();
        Ok(())
    }
}

impl Spooled {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn sha256(&self) -> Digest {
        self.sha256
    }

    /// The signature over it holds: from here on the agent is charged for it. Before anyone reads it.
    ///
    /// # Errors
    /// When that agent has no room for it.
    pub(crate) fn proven(&mut self, agent: &AgentId) -> Result<(), SpoolError> {
        match &mut self.stored {
            Stored::Memory { .. } => Ok(()),
            Stored::File(file) => match Arc::get_mut(file) {
                Some(file) => file.share.pass_to(Payer::Agent(agent.clone())),
                None => Ok(()),
            },
        }
    }

    /// The body for sending; may be called again.
    pub(crate) fn body(&self) -> Outgoing {
        match &self.stored {
            Stored::Memory { bytes, .. } => Outgoing::whole(bytes.clone()),
            Stored::File(file) => {
                Outgoing::boxed(FileBody { file: Arc::clone(file), at: 0, len: self.len, reading: None })
            }
        }
    }

    /// The whole body in memory. For bodies known to be small enough by [`Spooled::len`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) async fn bytes(&self) -> Result<Bytes, SpoolError> {
        match &self.stored {
            Stored::Memory { bytes, .. } => Ok(bytes.clone()),
            Stored::File(file) => {
                let len = usize::try_from(self.len).unwrap_or(usize::MAX);
                joined(read(file, 0, len).await).map_err(|error| SpoolError::Body(BodyError::Spool(error)))
            }
        }
    }
}

/// A body while it is being read.
struct Taking {
    len: u64,
    hasher: Hasher,
    /// Read and not yet written to `file`, counted by `memory`.
    bytes: BytesMut,
    memory: Share,
    file: Option<File>,
    disk: Option<DiskShare>,
}

impl Taking {
    /// Takes a piece in; true when it is time to write out.
    fn is_due(&mut self, piece: &[u8]) -> bool {
        self.len += piece.len() as u64;
        self.hasher.update(piece);
        self.bytes.extend_from_slice(piece);
        let limit = if self.file.is_none() { MEMORY_BYTES } else { SLICE_BYTES };
        !self.memory.grow(piece.len() as u64) || self.bytes.len() > limit
    }
}

#[derive(Debug)]
enum Stored {
    Memory { bytes: Bytes, _share: Share },
    File(Arc<SpoolFile>),
}

/// Gone, with its share of the budget, when the last reader is.
#[derive(Debug)]
struct SpoolFile {
    file: File,
    share: DiskShare,
}

/// Reads a spool file in slices, the next one only when the last was taken.
struct FileBody {
    file: Arc<SpoolFile>,
    at: u64,
    len: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let left = this.len - this.at;
        if left == 0 {
            return Poll::Ready(None);
        }
        let slice = usize::try_from(left).unwrap_or(usize::MAX).min(SLICE_BYTES);
        let reading = this.reading.get_or_insert_with(|| read(&this.file, this.at, slice));
        let bytes = joined(ready!(Pin::new(reading).poll(cx))).map_err(BodyError::Spool)?;
        this.reading = None;
        this.at += bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.len
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len - self.at)
    }
}

fn read(file: &Arc<SpoolFile>, at: u64, len: usize) -> JoinHandle<io::Result<Bytes>> {
    let file = Arc::clone(file);
    spawn_blocking(move || {
        let mut bytes = vec![0; len];
        file.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes.into())
    })
}

fn joined<T>(result: Result<io::Result<T>, tokio::task::JoinError>) -> io::Result<T> {
    result.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Bytes of memory that may be in use at once.
#[derive(Debug)]
struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl Budget {
    fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }
}

/// One body's part of a budget, given back on drop.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Share {
    fn of(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// False, and nothing changed, when the budget does not allow it.
    fn grow(&mut self, bytes: u64) -> bool {
        let grown = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.budget.limit);
        let fits = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    fn clear(&mut self) {
        self.budget.used.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A body up to this size stays in memory.
const MEMORY_BYTES: usize = 64 * 1024;
/// What is written to or read from a file at once.
const SLICE_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests;
