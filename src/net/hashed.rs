//! A body that streams through while it is hashed, and whose last bytes are let go only when
//! length and hash are what was claimed: the upstream never gets a whole body that was tampered with.
//!
//! INVARIANT: at least one byte is held back until the end has been seen and checked. With an announced length the
//! upstream then waits for that byte; with the chunked coding it waits for the last chunk.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::body::BodyError;
use crate::digest::{Digest, EMPTY_SHA256, Hasher};

/// The adaptor.
pub(crate) struct Hashed<B> {
    inner: B,
    claimed: Digest,
    claimed_bytes: Option<u64>,
    /// `None` once the end was checked.
    hasher: Option<Hasher>,
    /// Bytes read, and bytes let go.
    read_bytes: u64,
    passed_bytes: u64,
    held: Bytes,
}

impl<B> Hashed<B>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    /// `claimed_bytes` is the announced length where there is one besides that of `inner`.
    ///
    /// # Errors
    /// At once when two lengths disagree, and for an empty body with another hash: it would be
    /// whole before its first byte.
    pub(crate) fn new(inner: B, claimed: Digest, claimed_bytes: Option<u64>) -> Result<Self, BodyError> {
        let announced = inner.size_hint().exact();
        let claimed_bytes = claimed_bytes.or(announced);
        if announced.is_some() && announced != claimed_bytes {
            return Err(BodyError::LengthDiffers);
        }
        if claimed_bytes == Some(0) && claimed != EMPTY_SHA256 {
            return Err(BodyError::HashDiffers);
        }
        let hasher = Some(Hasher::new());
        Ok(Self { inner, claimed, claimed_bytes, hasher, read_bytes: 0, passed_bytes: 0, held: Bytes::new() })
    }

    fn check_end(&mut self) -> Result<(), BodyError> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        if self.claimed_bytes.is_some_and(|claimed| claimed != self.read_bytes) {
            return Err(BodyError::LengthDiffers);
        }
        if hasher.finish() == self.claimed { Ok(()) } else { Err(BodyError::HashDiffers) }
    }

    /// Takes in a piece and gives out the one before it.
    fn exchange(&mut self, piece: Bytes) -> Result<Bytes, BodyError> {
        self.read_bytes += piece.len() as u64;
        if self.claimed_bytes.is_some_and(|claimed| claimed < self.read_bytes) {
            return Err(BodyError::LengthDiffers);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&piece);
        }
        Ok(std::mem::replace(&mut self.held, piece))
    }
}

impl<B> Body for Hashed<B>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            let passed = if this.hasher.is_none() {
                std::mem::take(&mut this.held)
            } else {
                match ready!(Pin::new(&mut this.inner).poll_frame(cx)?) {
                    // Trailer fields are nobody's claim and are not passed on.
                    Some(frame) => match frame.into_data() {
                        Ok(piece) if !piece.is_empty() => this.exchange(piece)?,
                        _ => continue,
                    },
                    None => {
                        let checked = this.check_end();
                        if checked.is_err() {
                            this.held = Bytes::new();
                        }
                        checked?;
                        std::mem::take(&mut this.held)
                    }
                }
            };
            this.passed_bytes += passed.len() as u64;
            if !passed.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(passed))));
            }
            if this.hasher.is_none() {
                return Poll::Ready(None);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        (self.hasher.is_none() && self.held.is_empty()) || self.claimed_bytes == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        match self.claimed_bytes {
            Some(claimed) => SizeHint::with_exact(claimed.saturating_sub(self.passed_bytes)),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
