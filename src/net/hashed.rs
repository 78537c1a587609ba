//! A body that streams through while it is hashed, and whose last bytes are let go only when
//! length and hash are what was claimed: the upstream never gets a whole body that was tampered with.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::BodyError;
use crate::digest::Digest;

/// The adaptor.
#[derive(Debug)]
pub(crate) struct Hashed<B> {
    inner: B,
}

impl<B> Hashed<B>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    /// `claimed_bytes` is the announced length where there is one.
    ///
    /// # Errors
    /// At once for an empty body with another hash: it would be whole before its first byte.
    pub(crate) fn new(_inner: B, _claimed: Digest, _claimed_bytes: Option<u64>) -> Result<Self, BodyError> {
        unreachable!("being built")
    }
}

impl<B> Body for Hashed<B>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().inner).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
