//! The body types that planes and channels see. The common cases are plain enum variants, so that
//! an ordinary request costs no allocation for its body; everything else is boxed.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use super::upstream::UpstreamBody;
use crate::wire::aws::chunks::ChunkError;
use crate::wire::aws::events::EventError;
use crate::wire::sigv4::SigError;

/// Why a body did not arrive whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// More or fewer bytes than were announced.
    #[error("the body has another length than announced")]
    LengthDiffers,
    /// The bytes do not have the hash that was claimed for them.
    #[error("the body does not have the SHA-256 that was claimed for it")]
    HashDiffers,
    /// Signed chunks in another form than AWS documents.
    #[error(transparent)]
    Chunks(ChunkError),
    #[error("a chunk of the body does not have the signature that it should")]
    ChunkSignature,
    /// Signed events in another form than AWS documents.
    #[error(transparent)]
    Events(EventError),
    /// An event of the body is not what was signed at its place.
    #[error("an event of the body is refused: {0}")]
    EventSignature(SigError),
    /// The agent closed its connection, broke the framing or stalled before the end of the body.
    #[error("the agent's body was cut off")]
    AgentCut,
    /// The upstream closed, reset or broke the framing of its answer.
    #[error("the upstream's answer was cut off")]
    UpstreamCut(#[source] Option<hyper::Error>),
    /// The upstream sent nothing for too long.
    #[error("the upstream's answer stalled")]
    UpstreamStalled,
    /// A rule about volume let no more of the answer pass.
    #[error("the rest of the answer is withheld")]
    Withheld,
    /// The spool file could not be read back.
    #[error("a spooled body could not be read")]
    Spool(#[source] std::io::Error),
}

/// A body going out: an answer to an agent or a request to an upstream.
#[derive(Default)]
pub(crate) enum Outgoing {
    #[default]
    Empty,
    /// Bytes at hand.
    Whole(Bytes),
    /// An upstream's answer passed on as it comes.
    Upstream(UpstreamBody),
    /// Anything else.
    Boxed(UnsyncBoxBody<Bytes, BodyError>),
}

/// The body of an answer to an agent.
pub(crate) type AnswerBody = Outgoing;

impl Outgoing {
    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Whole(bytes) }
    }

    pub(crate) fn boxed(body: impl Body<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self::Boxed(body.boxed_unsync())
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match this {
            Self::Empty => None,
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Self::Upstream(body) => ready!(Pin::new(body).poll_frame(cx)),
            Self::Boxed(body) => ready!(Pin::new(body).poll_frame(cx)),
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(_) => false,
            Self::Upstream(body) => body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Upstream(body) => body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Whole(_) => "Whole",
            Self::Upstream(_) => "Upstream",
            Self::Boxed(_) => "Boxed",
        })
    }
}
