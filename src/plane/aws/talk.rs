//! The answer in a talk of both sides: where the agent's own side breaks, it ends by an event that says why.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::dialect::Shape;
use super::incoming::part_fault;
use crate::net::body::BodyError;
use crate::net::upstream::UpstreamBody;
use crate::wire::aws::events::{Boundary, error_message};

/// The adaptor.
#[derive(Debug)]
pub(super) struct Talk {
    /// `None` once it has ended.
    inner: Option<UpstreamBody>,
    /// Where an event may be put in; `None` where the answer is no stream of events.
    boundary: Option<Boundary>,
}

impl Talk {
    pub(super) fn new(inner: UpstreamBody, is_events: bool) -> Self {
        Self { inner: Some(inner), boundary: is_events.then(Boundary::default) }
    }

    /// The last words to the agent, where there is a place for them.
    fn last_words(&self, error: &BodyError) -> Option<Bytes> {
        let is_ours = matches!(error, BodyError::Events(_) | BodyError::EventSignature(_));
        let has_place = self.boundary.as_ref().is_some_and(Boundary::is_between);
        let fault = (is_ours && has_place).then(|| part_fault(error))?;
        // Every service that takes events speaks REST with JSON.
        error_message(fault.code(Shape::RestJson), fault.message())
    }
}

impl Body for Talk {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Err(error)) => {
                this.inner = None;
                match this.last_words(&error) {
                    Some(words) => Some(Ok(Frame::data(words))),
                    None => Some(Err(error)),
                }
            }
            Some(Ok(frame)) => {
                if let (Some(boundary), Some(data)) = (&mut this.boundary, frame.data_ref()) {
                    boundary.follow(data);
                }
                Some(Ok(frame))
            }
            None => {
                this.inner = None;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
