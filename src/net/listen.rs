//! The HTTP/1.1 server: accepts, limits, guards the framing, drains.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::body::{AnswerBody, BodyError};
use super::line::Line;
use crate::telemetry::Metrics;

/// One request as it arrived. Its framing has exactly one reading.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ArrivedBody,
    pub(crate) peer: IpAddr,
    pub(crate) line: Line,
}

/// The body of an arrived request. Reading it sends `100 Continue` to a client that waits for one.
#[derive(Debug)]
pub(crate) struct ArrivedBody {
    incoming: hyper::body::Incoming,
}

/// What one listener lets a client take.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Open connections; one more is closed at once.
    pub(crate) connections: usize,
    /// TLS handshake, and a request head from its first byte to its last.
    pub(crate) head_timeout: Duration,
    /// Silence between two requests.
    pub(crate) idle_timeout: Duration,
    /// Silence within a request body that is being read, and a client that takes nothing of its answer.
    pub(crate) stall_timeout: Duration,
    /// How long running requests may go on after the shutdown began.
    pub(crate) drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(300),
            stall_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Serves until `shutdown` says true and the running requests have ended or `drain_timeout` is over.
/// The future that `answer` returns is dropped when its client leaves. `shutdown` does not drop it.
pub(crate) async fn serve<A, F>(
    _listener: TcpListener,
    _tls: Option<Arc<rustls::ServerConfig>>,
    _limits: Limits,
    _metrics: Arc<Metrics>,
    _shutdown: watch::Receiver<bool>,
    _answer: A,
) where
    A: Fn(Arrived) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    unreachable!("being built")
}

impl Body for ArrivedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().incoming).poll_frame(cx).map_err(|_| BodyError::AgentCut)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
