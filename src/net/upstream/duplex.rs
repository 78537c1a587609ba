//! An exchange whose both bodies flow at once: HTTP/2, each on a connection of its own, as SDKs open it for such
//! a call. Whatever ends one direction for good ends the connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, header};
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::{Overdue, Pool, SendError, UpstreamBody};
use crate::net::body::{BodyError, Outgoing};
use crate::net::multiplex::{PING_EVERY, SEND_BYTES, WINDOW_BYTES};
use crate::net::tasks::Tasks;
use crate::net::tls::HTTP2;

use super::Endpoint;

/// The connection of an answer whose request may still be on its way; closed when dropped.
pub(super) struct Duplex {
    /// hyper ends a connection for which nobody can send.
    _sender: http2::SendRequest<Outgoing>,
    task: AbortHandle,
    going: Going,
}

/// What is known here of the body that goes to the upstream.
struct Going {
    broken: oneshot::Receiver<BodyError>,
    moved: Arc<AtomicU64>,
    seen: u64,
}

impl Pool {
    /// As [`Pool::send_telling`], over HTTP/2: the answer may begin, and flow, while the body of the request does.
    /// Its silence counts from when bytes last flowed either way.
    ///
    /// # Errors
    /// See [`SendError::was_sent`].
    pub(crate) async fn converse(
        &self,
        endpoint: &Endpoint,
        request: Box<Request<Outgoing>>,
        mut overdue: Option<Overdue<'_>>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let request = absolute(*request, endpoint).ok_or_else(|| refused("the upstream has no address"))?;
        let (stream, written, probe) = self.dial(endpoint, &self.tls_duplex).await?;
        if stream.tls().is_some_and(|tls| tls.alpn_protocol() != Some(HTTP2)) {
            return Err(refused("the upstream does not speak HTTP/2"));
        }
        // It belongs to the pool's idle connections, of which this is none.
        probe.close();
        let (mut sender, connection) = http2::Builder::new(Tasks::default())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(self.options.connect_timeout)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_send_buf_size(SEND_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| SendError::Connect(io::Error::other(error)))?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended early");
            }
        });
        let (request, going) = watched(request);
        let before = written.bytes();
        let answering = sender.send_request(request);
        let mut duplex = Box::new(Duplex { _sender: sender, task: task.abort_handle(), going });
        let answering = async {
            tokio::select! {
                biased;
                Ok(error) = &mut duplex.going.broken => Err(error),
                answer = answering => Ok(answer),
            }
        };
        let sent = || written.bytes() != before;
        match self.awaited(Box::pin(answering), &written, &mut overdue).await? {
            Err(source) => Err(SendError::Body { sent: sent(), source }),
            Ok(Err(source)) => Err(SendError::Exchange { sent: sent(), source }),
            Ok(Ok(response)) => Ok(self.answered(response, None, Some(duplex))),
        }
    }
}

impl Duplex {
    /// What broke the body of the request, once.
    pub(super) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Option<BodyError> {
        if self.going.broken.is_terminated() {
            return None;
        }
        match Pin::new(&mut self.going.broken).poll(cx) {
            Poll::Ready(Ok(error)) => Some(error),
            Poll::Ready(Err(_)) | Poll::Pending => None,
        }
    }

    /// Whether a part of the request left since this was asked.
    pub(super) fn has_moved(&mut self) -> bool {
        let moved = self.going.moved.load(Ordering::Relaxed);
        moved != std::mem::replace(&mut self.going.seen, moved)
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The body of a request, which says what becomes of it.
struct Watched {
    inner: Outgoing,
    broken: Option<oneshot::Sender<BodyError>>,
    moved: Arc<AtomicU64>,
}

fn watched(request: Request<Outgoing>) -> (Request<Outgoing>, Going) {
    let (broken, receiver) = oneshot::channel();
    let moved = Arc::new(AtomicU64::new(0));
    let going = Going { broken: receiver, moved: Arc::clone(&moved), seen: 0 };
    (request.map(|inner| Outgoing::boxed(Watched { inner, broken: Some(broken), moved })), going)
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let poll = Pin::new(&mut self.inner).poll_frame(cx);
        match poll {
            Poll::Ready(Some(Err(error))) => {
                if let Some(broken) = self.broken.take() {
                    drop(broken.send(error));
                }
                // hyper resets the stream for any error; the answer's side has this one.
                Poll::Ready(Some(Err(BodyError::AgentCut)))
            }
            poll => {
                self.moved.fetch_add(u64::from(poll.is_ready()), Ordering::Relaxed);
                poll
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The request with its whole URL, whose parts HTTP/2 sends instead of a `Host` field.
fn absolute(mut request: Request<Outgoing>, endpoint: &Endpoint) -> Option<Request<Outgoing>> {
    let host = request.headers_mut().remove(header::HOST)?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if endpoint.tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    Some(request)
}

fn refused(why: &'static str) -> SendError {
    SendError::Connect(io::Error::other(why))
}
