//! The HTTP server: accepts, limits, guards the framing, drains. HTTP/2 is in [`multiplex`](super::multiplex).

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::body::{AnswerBody, BodyError};
use super::connect::Meant;
use super::door::{Door, Entered, Turned};
use super::framing::{HEAD_FIELDS, Refusal};
use super::guard::Guard;
use super::line::{Line, Shared, Stage};
use super::multiplex;
use super::peers::{Peers, Seat};
use super::socket::{Listener, Socket};
use super::stall::Stall;
use super::stream::Stream;
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
    /// The host the client believes to speak to; `None` where that is us, or the request alone says it.
    pub(crate) meant: Option<Arc<Meant>>,
}

/// The body of an arrived request. Reading it sends `100 Continue` to a client that waits for one.
#[derive(Debug)]
pub(crate) struct ArrivedBody {
    incoming: Incoming,
    shared: Arc<Shared>,
    request: u64,
    /// How long it may be silent, where no guard sees to that.
    patience: Option<(Stall, Duration)>,
}

impl ArrivedBody {
    pub(super) fn new(incoming: Incoming, shared: &Arc<Shared>, patience: Option<Duration>) -> Self {
        let patience = patience.map(|limit| (Stall::default(), limit));
        Self { incoming, shared: Arc::clone(shared), request: shared.request(), patience }
    }

    /// Somebody else sees to it that its silence ends, and that nothing but data comes.
    pub(super) fn may_be_silent(&mut self) {
        self.patience = None;
    }
}

/// What one listener lets a client take.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Open connections; one more is closed at once.
    pub(crate) connections: usize,
    /// Those of one peer. A listener bound to a loopback address knows one peer only, which may have all.
    pub(crate) connections_per_peer: usize,
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
            connections_per_peer: 10_000,
            head_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(300),
            stall_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Is told of each connection that ends because of what was sent on it: by whom, the status it was
/// answered with, and why. Never any of the bytes.
pub(crate) type OnRefusal = Arc<dyn Fn(IpAddr, &'static str, &'static str) + Send + Sync>;

/// Serves until `shutdown` says true (or its sender is gone) and the running requests have ended or
/// `drain_timeout` is over. The future that `answer` returns is dropped when its client leaves or
/// breaks the framing; a shutdown does not drop it.
///
/// A panic in `answer`, or a hostile client, costs its own connection and nothing else.
pub(crate) async fn serve<A, F>(
    listener: Listener,
    door: Door,
    limits: Limits,
    metrics: Arc<Metrics>,
    on_refusal: OnRefusal,
    mut shutdown: watch::Receiver<bool>,
    answer: A,
) where
    A: Fn(Arrived) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    let limits = Arc::new(limits);
    let door = Arc::new(door);
    let peers = Peers::new(if listener.is_local() { usize::MAX } else { limits.connections_per_peer });
    let stop = shutdown.clone();
    let mut stopping = pin!(shutdown.wait_for(|stop| *stop));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut stopping => break,
            Some(ended) = connections.join_next() => {
                report(&metrics, ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, address)) => {
                let has_room = connections.len() < limits.connections;
                let Some(seat) = has_room.then(|| peers.seat(address)).flatten() else {
                    metrics.turned_away.increment();
                    turn_away(&socket, door.is_tls());
                    continue;
                };
                let connection = Connection {
                    peer: address.to_canonical(),
                    limits: Arc::clone(&limits),
                    on_refusal: Arc::clone(&on_refusal),
                    stop: stop.clone(),
                    _seat: seat,
                };
                metrics.connections.add(1);
                connections.spawn(connection.run(socket, Arc::clone(&door), answer.clone()));
            }
            // Out of file descriptors, or a connection that was reset while it waited. The pause keeps
            // the loop from spinning; what is open goes on.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            report(&metrics, ended);
        }
    };
    let in_time = tokio::time::timeout(limits.drain_timeout, drained).await;
    if in_time.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections that did not end in time");
        metrics.connections.add(-i64::try_from(connections.len()).unwrap_or(0));
        connections.shutdown().await;
    }
}

fn report(metrics: &Metrics, ended: Result<(), tokio::task::JoinError>) {
    metrics.connections.add(-1);
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a request panicked; its connection was closed");
    }
}

/// Says that there is no room, as far as that needs no waiting.
fn turn_away(socket: &Socket, is_tls: bool) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n";
    if !is_tls {
        socket.try_write(ANSWER);
    }
}

/// One accepted connection.
pub(super) struct Connection {
    pub(super) peer: IpAddr,
    pub(super) limits: Arc<Limits>,
    pub(super) on_refusal: OnRefusal,
    pub(super) stop: watch::Receiver<bool>,
    _seat: Seat,
}

impl Connection {
    async fn run<A, F>(self, socket: Socket, door: Arc<Door>, answer: A)
    where
        A: Fn(Arrived) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<AnswerBody>> + Send + 'static,
    {
        match self.enter(socket, &door).await {
            Ok(Entered { stream, is_http2: false, meant }) => self.serve(stream, meant, answer).await,
            Ok(Entered { stream, is_http2: true, meant }) => {
                // Boxed, as the rare case: every connection would carry the room for it.
                Box::pin(multiplex::serve(&self, stream, meant, answer)).await;
            }
            Err(Turned::Away(error)) => tracing::debug!(peer = %self.peer, %error, "connection not set up"),
            Err(Turned::Refused { refusal, socket, is_recorded }) => {
                if !is_recorded {
                    (self.on_refusal)(self.peer, refusal.status, refusal.reason);
                }
                let Some(socket) = socket else { return };
                if let Err(error) = close(Stream::Plain(socket), Some(refusal), true).await {
                    tracing::debug!(peer = %self.peer, %error, "connection not closed cleanly");
                }
            }
            Err(Turned::Tunnel { tunnel, socket }) => tunnel(socket).await,
        }
    }

    /// Lets the connection in, unless a shutdown comes first.
    async fn enter(&self, socket: Socket, door: &Door) -> Result<Entered, Turned> {
        socket.tune()?;
        let mut stop = self.stop.clone();
        tokio::select! {
            entered = door.enter(socket, self.peer, self.limits.head_timeout) => entered,
            _ = stop.wait_for(|stop| *stop) => Err(Turned::Away(io::ErrorKind::Interrupted.into())),
        }
    }

    /// Speaks HTTP/1.1.
    async fn serve<A, F>(&self, stream: Stream<Socket>, meant: Option<Arc<Meant>>, answer: A)
    where
        A: Fn(Arrived) -> F,
        F: Future<Output = Response<AnswerBody>> + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let guard = Guard::new(stream, Arc::clone(&shared), Arc::clone(&self.limits));
        let (guard, result) = self.exchange(guard, &shared, meant, answer).await;
        if let Err(error) = &result {
            tracing::debug!(peer = %self.peer, %error, "connection ended early");
        }
        let is_cut = shared.is_cut() || (result.is_err() && shared.is_at(Stage::Sending));
        let refusal = guard.refusal();
        if let Some(Refusal { status, reason }) = guard.refused() {
            (self.on_refusal)(self.peer, status, reason);
        } else if result.as_ref().is_err_and(hyper::Error::is_parse) {
            (self.on_refusal)(self.peer, "400 Bad Request", "the request head cannot be read");
        }
        let must_linger = guard.must_linger();
        let stream = guard.into_inner();
        if is_cut {
            reset(&stream);
        } else if let Err(error) = close(stream, refusal, must_linger).await {
            tracing::debug!(peer = %self.peer, %error, "connection not closed cleanly");
        }
    }

    /// Runs requests until the client, the limits or a shutdown end it.
    async fn exchange<A, F>(
        &self,
        guard: Guard<Stream<Socket>>,
        shared: &Arc<Shared>,
        meant: Option<Arc<Meant>>,
        answer: A,
    ) -> (Guard<Stream<Socket>>, hyper::Result<()>)
    where
        A: Fn(Arrived) -> F,
        F: Future<Output = Response<AnswerBody>> + Send + 'static,
    {
        let service = service_fn(|request| respond(self.peer, shared, meant.clone(), &answer, request));
        let mut connection =
            http1::Builder::new().max_headers(HEAD_FIELDS).serve_connection(TokioIo::new(guard), service);
        let mut stop = self.stop.clone();
        let mut stopping = pin!(stop.wait_for(|stop| *stop));
        let mut is_stopping = false;
        let result = poll_fn(|cx| {
            shared.runs_in(cx.waker());
            if !is_stopping && stopping.as_mut().poll(cx).is_ready() {
                is_stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            match connection.poll_without_shutdown(cx) {
                // Only a body that will not come any more leaves hyper waiting for the plane then.
                Poll::Pending if shared.is_broken() => Poll::Ready(Ok(())),
                poll => poll,
            }
        })
        .await;
        (connection.into_parts().io.into_inner(), result)
    }
}

/// Gives one request to the plane.
fn respond<A, F>(
    peer: IpAddr,
    shared: &Arc<Shared>,
    meant: Option<Arc<Meant>>,
    answer: &A,
    request: Request<Incoming>,
) -> Responding<F>
where
    A: Fn(Arrived) -> F,
    F: Future<Output = Response<AnswerBody>>,
{
    let line = Line::new(shared);
    let (head, incoming) = request.into_parts();
    let body = ArrivedBody::new(incoming, shared, None);
    let arrived = Arrived { method: head.method, uri: head.uri, headers: head.headers, body, peer, line, meant };
    Responding { answer: Box::pin(answer(arrived)), shared: Arc::clone(shared) }
}

/// The plane at work on one request.
struct Responding<F> {
    /// Boxed: hyper keeps room for this future also while the connection is idle.
    answer: Pin<Box<F>>,
    shared: Arc<Shared>,
}

impl<F: Future<Output = Response<AnswerBody>>> Future for Responding<F> {
    type Output = Result<Response<Tracked>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.shared.is_broken() {
            // What was refused, or left, while it was being answered gets no answer; the connection drops this.
            return Poll::Pending;
        }
        let (mut head, body) = ready!(self.answer.as_mut().poll(cx)).into_parts();
        self.shared.reach(Stage::Sending);
        if self.shared.must_close() {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(Response::from_parts(head, Tracked { inner: body, shared: Arc::clone(&self.shared) })))
    }
}

/// Ends a connection so that the client gets all that was written to it.
async fn close(mut stream: Stream<Socket>, refusal: Option<Refusal>, must_linger: bool) -> io::Result<()> {
    let ending = async {
        if let Some(Refusal { status, reason }) = refusal {
            let challenge = if status == PROXY_CREDENTIALS { CHALLENGE } else { "" };
            let answer = format!(
                "HTTP/1.1 {status}\r\n{challenge}Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{reason}\n",
                reason.len() + 1
            );
            stream.write_all(answer.as_bytes()).await?;
        }
        stream.shutdown().await?;
        // Closing a socket with unread bytes resets it, and a reset takes the answer from a client
        // that is still sending. So the rest is read, within bounds.
        let mut left = if must_linger { LINGER_BYTES } else { 0 };
        let mut scratch = vec![0; if must_linger { 16 * 1024 } else { 0 }];
        while left > 0 {
            match stream.read(&mut scratch).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        Ok(())
    };
    tokio::time::timeout(LINGER, ending).await?
}

/// Ends a connection so that the client cannot take what it got for a whole answer.
fn reset(stream: &Stream<Socket>) {
    let socket = match stream {
        Stream::Plain(socket) => socket,
        Stream::Tls(tls) => tls.get_ref().0,
    };
    if let Err(error) = socket.reset_on_close() {
        tracing::debug!(%error, "connection could not be reset");
    }
}

/// An answer's body, which tells the connection how it ended.
struct Tracked {
    inner: AnswerBody,
    shared: Arc<Shared>,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let poll = Pin::new(&mut self.inner).poll_frame(cx);
        if matches!(poll, Poll::Ready(Some(Err(_)))) {
            self.shared.cut();
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Tracked {
    /// hyper has taken the last of it.
    fn drop(&mut self) {
        self.shared.reach(Stage::Answered);
    }
}

impl Body for ArrivedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let poll = Pin::new(&mut self.incoming).poll_frame(cx);
        let is_whole = self.incoming.is_end_stream();
        if let Some((stall, limit)) = &mut self.patience {
            match &poll {
                Poll::Pending => return stall.poll(cx, *limit).map(|()| Some(Err(BodyError::AgentCut))),
                // A trailer says something about the body that nobody here would read.
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {
                    return Poll::Ready(Some(Err(BodyError::AgentCut)));
                }
                // hyper takes a stream that is reset without an error for one that has ended.
                Poll::Ready(None) if !is_whole => {
                    return Poll::Ready(Some(Err(BodyError::AgentCut)));
                }
                Poll::Ready(_) => stall.ended(),
            }
        }
        if matches!(poll, Poll::Ready(None)) || is_whole {
            self.shared.body_was_read(self.request);
        }
        poll.map_err(|_| BodyError::AgentCut)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The status of a proxy that wants to know whose connection it is, and the field that says how.
pub(crate) const PROXY_CREDENTIALS: &str = "407 Proxy Authentication Required";
const CHALLENGE: &str = "Proxy-Authenticate: Basic realm=\"countersign\"\r\n";

/// Wait before accepting again after the operating system refused.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How much, and for how long, is read from a client after its last answer, so that it can read that answer.
const LINGER_BYTES: usize = 64 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
