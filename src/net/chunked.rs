//! Bodies in signed chunks: checked as they come in, signed anew as they go out.
//!
//! What is checked leaves here with zeros in place of its signatures, so that a retry, which is signed at another
//! time, has the same bytes; signing fills them in. The length never changes.
//!
//! INVARIANT: no chunk passes before its signature was checked, and the last none before the whole was.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use super::body::BodyError;
use crate::digest::sha256;
use crate::wire::aws::chunks::{Chunks, Covered};
use crate::wire::sigv4::Chain;

/// The adaptor.
pub(crate) struct Chunked<B> {
    inner: B,
    chunks: Chunks,
    buffer: BytesMut,
    chain: Chain,
    work: Work,
}

enum Work {
    /// Signatures are compared and blanked. So many bytes of data are still to come.
    Check {
        left: u64,
    },
    Sign,
}

const BLANK: [u8; 64] = [b'0'; 64];

impl<B> Chunked<B>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    /// `decoded_bytes`: of the data of all chunks together, as the head says.
    pub(crate) fn checked(inner: B, chain: Chain, has_trailer: bool, decoded_bytes: u64) -> Self {
        Self::new(inner, chain, has_trailer, Work::Check { left: decoded_bytes })
    }

    /// Of what was checked.
    pub(crate) fn signed(inner: B, chain: Chain, has_trailer: bool) -> Self {
        Self::new(inner, chain, has_trailer, Work::Sign)
    }

    fn new(inner: B, chain: Chain, has_trailer: bool, work: Work) -> Self {
        Self { inner, chunks: Chunks::new(has_trailer), buffer: BytesMut::new(), chain, work }
    }

    /// The next chunk, when it is whole.
    fn take(&mut self) -> Result<Option<Bytes>, BodyError> {
        let Some(part) = self.chunks.next(&self.buffer).map_err(BodyError::Chunks)? else { return Ok(None) };
        let mut bytes = self.buffer.split_to(part.len);
        let (size, signature) = match &part.covered {
            Covered::Data(range) => {
                let data = bytes.get(range.clone()).unwrap_or_default();
                (data.len() as u64, self.chain.chunk(sha256(data)))
            }
            Covered::Trailer(fields) => (0, self.chain.trailer(sha256(fields))),
        };
        let place = bytes.get_mut(part.signature).unwrap_or_default();
        match &mut self.work {
            Work::Check { left } => {
                verify_slices_are_equal(place, signature.as_bytes()).map_err(|_| BodyError::ChunkSignature)?;
                *left = left.checked_sub(size).ok_or(BodyError::LengthDiffers)?;
                if self.chunks.is_done() && *left > 0 {
                    return Err(BodyError::LengthDiffers);
                }
                place.copy_from_slice(&BLANK);
            }
            Work::Sign => place.copy_from_slice(signature.as_bytes()),
        }
        Ok(Some(bytes.freeze()))
    }
}

impl<B> Body for Chunked<B>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            match this.take() {
                Ok(Some(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(error) => return Poll::Ready(Some(Err(error))),
                Ok(None) => {}
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        this.buffer.extend_from_slice(&piece);
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if this.chunks.is_done() => return Poll::Ready(None),
                None => return Poll::Ready(Some(Err(BodyError::AgentCut))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_done() && self.buffer.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.inner.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left + self.buffer.len() as u64),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests;
