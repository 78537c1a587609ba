//! Connections to upstreams: an own pool of HTTP/1.1 senders.

use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};

use super::body::{BodyError, Outgoing};
use super::tls::TlsError;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// DNS name or IP address, lower case, an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

/// How upstreams are treated.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamOptions {
    /// DNS, TCP and TLS together.
    pub(crate) connect_timeout: Duration,
    /// From the last byte of the request to the head of the answer.
    pub(crate) answer_timeout: Duration,
    /// Silence within the body of an answer.
    pub(crate) stall_timeout: Duration,
    /// How long an idle connection is kept.
    pub(crate) idle_timeout: Duration,
    /// Idle connections kept per endpoint.
    pub(crate) idle_connections: usize,
    /// Roots to trust besides the platform's.
    pub(crate) extra_ca: Option<PathBuf>,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(900),
            stall_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(15),
            idle_connections: 256,
            extra_ca: None,
        }
    }
}

/// The pool.
#[derive(Debug)]
pub(crate) struct Pool {}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("cannot connect to the upstream")]
    Connect(#[source] std::io::Error),
    #[error("the upstream did not accept a connection in time")]
    ConnectTimeout,
    #[error("the upstream closed the connection before the request was sent")]
    Closed,
    #[error("the upstream did not answer in time")]
    AnswerTimeout,
    #[error("the exchange with the upstream failed")]
    Exchange { sent: bool, source: hyper::Error },
}

impl SendError {
    /// False only when certainly no byte of the request left.
    pub(crate) fn was_sent(&self) -> bool {
        match self {
            Self::Connect(_) | Self::ConnectTimeout | Self::Closed => false,
            Self::AnswerTimeout => true,
            Self::Exchange { sent, .. } => *sent,
        }
    }
}

impl Pool {
    /// # Errors
    /// When the extra CA file cannot be read.
    pub(crate) fn new(_options: UpstreamOptions) -> Result<Self, TlsError> {
        unreachable!("being built")
    }

    /// Sends one request, once. The request target is the path and query of its URI; `Host` is sent
    /// as given. Fields that belong to one connection only (`Connection`, `Transfer-Encoding`, …) are
    /// gone from the answer. Dropping the future before its end closes the connection.
    ///
    /// # Errors
    /// See [`SendError::was_sent`].
    pub(crate) async fn send(
        &self,
        _endpoint: &Endpoint,
        _request: Request<Outgoing>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        unreachable!("being built")
    }
}

/// The body of an upstream's answer. Its connection is used again only when it was read to the end.
#[derive(Debug)]
pub(crate) struct UpstreamBody {
    incoming: hyper::body::Incoming,
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().incoming).poll_frame(cx).map_err(|e| BodyError::UpstreamCut(Some(e)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
