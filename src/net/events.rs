//! A body of signed events on its way: each is checked against the agent's chain and signed anew in ours.
//!
//! INVARIANT: no event passes before its signature was checked, nothing passes behind the one that closes the
//! stream, and a stream that was not closed does not end: it breaks off.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame};

use super::body::BodyError;
use super::listen::ArrivedBody;
use crate::digest::sha256;
use crate::time::{Clock, Timestamp};
use crate::wire::aws::events::{EventError, SignedEvent, date_field};
use crate::wire::sigv4::{EventChain, SigError};

/// Is told of what an agent did wrong within a stream, when it did.
pub(crate) type OnFault = Box<dyn Fn(&BodyError) + Send + Sync>;

/// Events that nobody has read yet.
pub(crate) struct Events {
    body: ArrivedBody,
    theirs: EventChain,
    earliest: Timestamp,
    clock: Clock,
    on_fault: OnFault,
}

/// Events that are checked and signed as they pass.
pub(crate) struct Resigned<B> {
    inner: B,
    buffer: BytesMut,
    theirs: EventChain,
    ours: EventChain,
    earliest: Timestamp,
    clock: Clock,
    is_closed: bool,
    on_fault: OnFault,
}

/// How far the date of an event may lie ahead of ours.
const SKEW: Duration = Duration::from_secs(5 * 60);

impl Events {
    /// `theirs` begins behind the head of the request; no event is older than `earliest`.
    pub(crate) fn new(
        mut body: ArrivedBody,
        (theirs, earliest): (EventChain, Timestamp),
        clock: Clock,
        on_fault: OnFault,
    ) -> Self {
        // Agents are silent for as long as they listen. That both sides are is noticed at the upstream.
        body.may_be_silent();
        Self { body, theirs, earliest, clock, on_fault }
    }

    /// The body to send behind a head that `ours` begins at.
    pub(crate) fn signed(self, ours: EventChain) -> Resigned<ArrivedBody> {
        let Self { body, theirs, earliest, clock, on_fault } = self;
        let buffer = BytesMut::new();
        Resigned { inner: body, buffer, theirs, ours, earliest, clock, is_closed: false, on_fault }
    }
}

impl<B> Resigned<B> {
    /// The next event, when it is whole.
    fn take(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.is_closed {
            return match self.buffer.is_empty() {
                true => Ok(None),
                false => Err(BodyError::Events(EventError("something follows the event that closes it"))),
            };
        }
        let Some(event) = SignedEvent::take(&mut self.buffer).map_err(BodyError::Events)? else { return Ok(None) };
        let SignedEvent { at, signature, ref payload } = event;
        let hash = sha256(payload);
        self.theirs.check(at, sha256(&date_field(at)), hash, signature).map_err(BodyError::EventSignature)?;
        let now = self.clock.now();
        if at < self.earliest || now.plus(SKEW) < at {
            return Err(BodyError::EventSignature(SigError::Skewed));
        }
        self.is_closed = event.is_last();
        // To the second, as the date in the string that is signed.
        let at = Timestamp::from_micros(now.as_seconds().saturating_mul(1_000_000));
        let signature = self.ours.sign(at, sha256(&date_field(at)), hash);
        SignedEvent { at, signature, payload: event.payload }.write().map(Some).map_err(BodyError::Events)
    }

    fn fail(&self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !matches!(error, BodyError::AgentCut) {
            (self.on_fault)(&error);
        }
        Poll::Ready(Some(Err(error)))
    }
}

impl<B> Body for Resigned<B>
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
                Err(error) => return this.fail(error),
                Ok(None) => {}
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => this.buffer.extend_from_slice(&piece),
                    Err(_) => return this.fail(BodyError::Events(EventError("a trailer follows its events"))),
                },
                Some(Err(error)) => return this.fail(error),
                None if this.is_closed => return Poll::Ready(None),
                None => return this.fail(BodyError::Events(EventError("it ends without the event that closes it"))),
            }
        }
    }
}
