//! Bodies read whole before anyone is asked: in memory while small, in an unnamed file beyond.

use std::path::PathBuf;

use bytes::Bytes;
use http_body::Body;

use super::body::{BodyError, Outgoing};
use crate::digest::Digest;

/// The process's store of bodies that are being held.
#[derive(Debug)]
pub(crate) struct Spool {}

/// A body that was read to its end; its file, if it has one, is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Spooled {}

/// Why a body could not be read whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    #[error("too many bytes of held bodies are spooled already; try again later")]
    Full,
    #[error(transparent)]
    Body(BodyError),
    #[error("the spool directory `{dir}` cannot be written")]
    Io { dir: PathBuf, source: std::io::Error },
}

impl Spool {
    /// `memory_bytes` and `disk_bytes` bound what all held bodies together may take.
    pub(crate) fn new(_dir: PathBuf, _memory_bytes: u64, _disk_bytes: u64) -> Self {
        unreachable!("being built")
    }

    /// Reads `body` to its end, hashing it on the way.
    ///
    /// # Errors
    /// When it is longer than `limit_bytes`, does not arrive whole, or there is no room for it.
    pub(crate) async fn collect<B>(&self, _body: B, _limit_bytes: u64) -> Result<Spooled, SpoolError>
    where
        B: Body<Data = Bytes, Error = BodyError> + Unpin,
    {
        unreachable!("being built")
    }
}

impl Spooled {
    pub(crate) fn len(&self) -> u64 {
        unreachable!("being built")
    }

    pub(crate) fn sha256(&self) -> Digest {
        unreachable!("being built")
    }

    /// The body for sending; may be called again.
    pub(crate) fn body(&self) -> Outgoing {
        unreachable!("being built")
    }

    /// The whole body in memory. For bodies known to be small enough by [`Spooled::len`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) async fn bytes(&self) -> Result<Bytes, SpoolError> {
        unreachable!("being built")
    }
}
