//! The body of a request while it is with the agent.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::dialect::{Cause, Fault};
use crate::net::body::BodyError;
use crate::net::chunked::Chunked;
use crate::net::listen::ArrivedBody;
use crate::wire::head::{Head, fields};
use crate::wire::sigv4::{Key, PayloadClaim, Presented, SigError};

/// A body that is still with the agent.
pub(super) enum Incoming {
    Plain(ArrivedBody),
    Chunks(Box<Chunked<ArrivedBody>>),
}

impl Incoming {
    /// Chunks that are signed one by one are checked as they come.
    pub(super) fn new(body: ArrivedBody, head: &Head, presented: &Presented, key: &Key) -> Result<Self, Fault> {
        let PayloadClaim::SignedChunks { trailer } = presented.payload else { return Ok(Self::Plain(body)) };
        let decoded = head.header(&fields::X_AMZ_DECODED_CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let decoded = decoded.ok_or_else(|| {
            Fault::new(Cause::Malformed, "signed chunks need `x-amz-decoded-content-length`: the length of their data.")
        })?;
        Ok(Self::Chunks(Box::new(Chunked::checked(body, presented.chain(key), trailer, decoded))))
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Plain(body) => Pin::new(body).poll_frame(cx),
            Self::Chunks(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Chunks(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Chunks(body) => body.size_hint(),
        }
    }
}

/// What is wrong with a signed part of a body, as AWS answers.
pub(super) fn part_fault(error: &BodyError) -> Fault {
    match error {
        BodyError::ChunkSignature => SigError::SignatureDiffers.into(),
        BodyError::EventSignature(error) => error.clone().into(),
        error => Fault::new(Cause::Malformed, format!("{error}.")),
    }
}
