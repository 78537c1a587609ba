//! Connections to upstreams: an own pool of HTTP/1.1 senders.
//!
//! INVARIANT (one exchange at a time): a connection is handed out only when hyper says that it is
//! idle, which it is when both the last request and its answer have passed whole and no stray byte
//! came after them. One whose exchange was given up is closed.
//!
//! INVARIANT (at most once): a request is sent again only when hyper handed it back untouched, and
//! then on a fresh connection, once. Whether any byte of it left is counted at the socket, below TLS.

mod duplex;
mod wire;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use smallvec::SmallVec;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use self::duplex::Duplex;
use self::wire::{Counted, Probe, Written};
use super::body::{BodyError, Outgoing};
use super::reach::Own;
use super::stall::Stall;
use super::stream::{Stream, tune};
use super::tls::{HTTP2, TlsError, client_config};

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
    /// Silence until the head of the answer: the time since the upstream last took a byte of the request.
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

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("cannot connect to the upstream")]
    Connect(#[source] io::Error),
    #[error("the upstream did not accept a connection in time")]
    ConnectTimeout,
    #[error("the upstream closed the connection before the request was sent")]
    Closed(#[source] hyper::Error),
    #[error("the upstream did not answer in time")]
    AnswerTimeout,
    #[error("the upstream switched to another protocol")]
    Switched,
    #[error("the body of the request broke off")]
    Body { sent: bool, source: BodyError },
    #[error("the exchange with the upstream failed before its answer came")]
    Exchange { sent: bool, source: hyper::Error },
}

impl SendError {
    /// False only when certainly no byte of the request left.
    pub(crate) fn was_sent(&self) -> bool {
        match self {
            Self::Connect(_) | Self::ConnectTimeout | Self::Closed(_) => false,
            Self::AnswerTimeout | Self::Switched => true,
            Self::Body { sent, .. } | Self::Exchange { sent, .. } => *sent,
        }
    }
}

/// The pool. Dropping it closes what is idle.
pub(crate) struct Pool {
    options: UpstreamOptions,
    /// Where a name that was led astray would end.
    own: Own,
    tls: TlsConnector,
    /// Asks for HTTP/2.
    tls_duplex: TlsConnector,
    shelf: Arc<Shelf>,
}

impl Pool {
    /// # Errors
    /// When the extra CA file cannot be read, or the machine has no roots.
    pub(crate) fn new(options: UpstreamOptions, own: Own) -> Result<Self, TlsError> {
        let tls = client_config(options.extra_ca.as_deref())?;
        let mut duplex = (*tls).clone();
        duplex.alpn_protocols = vec![HTTP2.to_vec()];
        let shelf = Shelf {
            idle: DashMap::new(),
            idle_timeout: options.idle_timeout,
            per_endpoint: options.idle_connections.max(1),
            swept: Mutex::new(Instant::now()),
        };
        Ok(Self { options, own, tls: tls.into(), tls_duplex: Arc::new(duplex).into(), shelf: Arc::new(shelf) })
    }

    /// Sends one request, once. The request target is the path and query of its URI; `Host` is sent
    /// as given. Fields that belong to one connection only (`Connection`, `Transfer-Encoding`, …) are
    /// gone from the answer. Dropping the future before its end closes the connection.
    ///
    /// # Errors
    /// See [`SendError::was_sent`].
    pub(crate) fn send(
        &self,
        endpoint: &Endpoint,
        request: Box<Request<Outgoing>>,
    ) -> impl Future<Output = Result<Response<UpstreamBody>, SendError>> + Send {
        self.send_telling(endpoint, request, None)
    }

    /// As [`Pool::send`], and tells when the answer is overdue.
    ///
    /// # Errors
    /// See [`SendError::was_sent`].
    pub(crate) async fn send_telling(
        &self,
        endpoint: &Endpoint,
        mut request: Box<Request<Outgoing>>,
        mut overdue: Option<Overdue<'_>>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        make_origin_form(&mut request);
        if let Some(lease) = self.shelf.take(endpoint) {
            match self.exchange(lease, request, &mut overdue).await {
                Err(Failed::Untouched(untouched, _)) => request = untouched,
                Err(Failed::Final(error)) => return Err(error),
                Ok(response) => return Ok(response),
            }
        }
        // Boxed, as the rare case: every waiting request would carry the room for it.
        Box::pin(self.send_fresh(endpoint, request, overdue)).await
    }

    /// Sends on a connection of its own.
    async fn send_fresh(
        &self,
        endpoint: &Endpoint,
        request: Box<Request<Outgoing>>,
        mut overdue: Option<Overdue<'_>>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let lease = self.connect(endpoint).await?;
        self.exchange(lease, request, &mut overdue).await.map_err(|failed| match failed {
            Failed::Untouched(_, error) => SendError::Closed(error),
            Failed::Final(error) => error,
        })
    }

    async fn exchange(
        &self,
        mut lease: Lease,
        request: Box<Request<Outgoing>>,
        overdue: &mut Option<Overdue<'_>>,
    ) -> Result<Response<UpstreamBody>, Failed> {
        let before = lease.connection.written.bytes();
        let written = &lease.connection.written;
        let answering = std::pin::pin!(lease.connection.sender.try_send_request(*request));
        let answer = self.awaited(answering, written, overdue).await.map_err(Failed::Final)?;
        let response = answer.map_err(|mut error| {
            let sent = written.bytes() != before;
            match error.take_message() {
                Some(request) if !sent => Failed::Untouched(Box::new(request), error.into_error()),
                _ => Failed::Final(SendError::Exchange { sent, source: error.into_error() }),
            }
        })?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failed::Final(SendError::Switched));
        }
        Ok(self.answered(response, Some(lease), None))
    }

    /// Waits for the head of an answer for as long as bytes of the request leave, and the timeout longer.
    async fn awaited<F: Future + Unpin>(
        &self,
        mut answering: F,
        written: &Written,
        overdue: &mut Option<Overdue<'_>>,
    ) -> Result<F::Output, SendError> {
        let mut seen = written.bytes();
        loop {
            let patience = overdue.as_ref().map_or(self.options.answer_timeout, |it| it.after);
            if let Ok(answer) = timeout(patience, &mut answering).await {
                return Ok(answer);
            }
            if let Some(overdue) = overdue.take() {
                (overdue.tell)();
                continue;
            }
            // A long upload is not silence.
            if written.bytes() == std::mem::replace(&mut seen, written.bytes()) {
                return Err(SendError::AnswerTimeout);
            }
        }
    }

    fn answered(
        &self,
        response: Response<Incoming>,
        lease: Option<Lease>,
        duplex: Option<Box<Duplex>>,
    ) -> Response<UpstreamBody> {
        let (mut head, incoming) = response.into_parts();
        drop_connection_fields(&mut head.headers);
        let mut body =
            UpstreamBody { incoming, lease, duplex, stall: Stall::default(), limit: self.options.stall_timeout };
        body.return_at_end();
        Response::from_parts(head, body)
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Lease, SendError> {
        let (stream, written, probe) = self.dial(endpoint, &self.tls).await?;
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| SendError::Connect(io::Error::other(error)))?;
        let other_handle = probe.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended early");
            }
            other_handle.close();
        });
        let connection = Connection { sender, written, probe, task: task.abort_handle() };
        Ok(Lease { connection, endpoint: Arc::new(endpoint.clone()), shelf: Arc::clone(&self.shelf) })
    }

    async fn dial(
        &self,
        endpoint: &Endpoint,
        tls: &TlsConnector,
    ) -> Result<(Stream<Counted>, Written, Probe), SendError> {
        let dialed = timeout(self.options.connect_timeout, self.dial_within(endpoint, tls)).await;
        dialed.map_err(|_| SendError::ConnectTimeout)?.map_err(SendError::Connect)
    }

    async fn dial_within(
        &self,
        endpoint: &Endpoint,
        tls: &TlsConnector,
    ) -> io::Result<(Stream<Counted>, Written, Probe)> {
        let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        if self.own.is_at_other_end(&tcp) {
            // Where DNS leads agents here, it must not lead us here too.
            return Err(io::Error::other("the upstream's name leads back to countersign itself"));
        }
        tune(&tcp)?;
        let probe = Probe::new(&tcp)?;
        let (tcp, written) = Counted::new(tcp);
        if !endpoint.tls {
            return Ok((Stream::Plain(tcp), written, probe));
        }
        let name = ServerName::try_from(endpoint.host.clone()).map_err(io::Error::other)?;
        let stream = tls.connect(name, tcp).await?;
        Ok((Stream::Tls(Box::new(stream.into())), written, probe))
    }
}

/// What to do when an answer is overdue, and when that is; the answer's time starts over then.
pub(crate) struct Overdue<'a> {
    pub(crate) after: Duration,
    pub(crate) tell: &'a mut (dyn FnMut() + Send),
}

/// Why an exchange brought no answer.
enum Failed {
    /// hyper never looked at the request.
    Untouched(Box<Request<Outgoing>>, hyper::Error),
    Final(SendError),
}

/// One connection and the task that drives it, which ends with it.
struct Connection {
    sender: http1::SendRequest<Outgoing>,
    written: Written,
    probe: Probe,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A connection in use; closed when dropped.
struct Lease {
    connection: Connection,
    endpoint: Arc<Endpoint>,
    shelf: Arc<Shelf>,
}

/// The connections that are not in use.
struct Shelf {
    idle: DashMap<Arc<Endpoint>, Vec<(Instant, Connection)>>,
    idle_timeout: Duration,
    per_endpoint: usize,
    swept: Mutex<Instant>,
}

impl Shelf {
    /// The connection that was used last, so that spare ones grow old and go.
    fn take(self: &Arc<Self>, endpoint: &Endpoint) -> Option<Lease> {
        let mut idle = self.idle.get_mut(endpoint)?;
        let mut busy = SmallVec::<[_; 4]>::new();
        let mut found = None;
        while let Some((since, connection)) = idle.pop() {
            if since.elapsed() >= self.idle_timeout || connection.sender.is_closed() {
                continue;
            }
            if connection.sender.is_ready() {
                // Its task may not have run since the upstream closed it or said something unasked. A
                // request that leaves on it then would be lost without anyone knowing whether it ran.
                if connection.probe.is_quiet() {
                    found = Some(connection);
                    break;
                }
                continue;
            }
            // It still has a request body to send, or its task has not run since its answer was taken.
            busy.push((since, connection));
        }
        idle.extend(busy.into_iter().rev());
        let endpoint = Arc::clone(idle.key());
        found.map(|connection| Lease { connection, endpoint, shelf: Arc::clone(self) })
    }

    fn put(&self, endpoint: Arc<Endpoint>, connection: Connection) {
        let now = Instant::now();
        if !connection.sender.is_closed() {
            let mut idle = self.idle.entry(endpoint).or_default();
            if idle.len() >= self.per_endpoint {
                // The oldest; a short list, and only at its limit.
                idle.remove(0);
            }
            idle.push((now, connection));
        }
        // Endpoints are named by agents (a bucket is one), so those out of use must not add up.
        if let Ok(mut swept) = self.swept.try_lock()
            && now.duration_since(*swept) >= self.idle_timeout
        {
            *swept = now;
            self.idle.retain(|_, idle| {
                idle.retain(|(since, _)| now.duration_since(*since) < self.idle_timeout);
                !idle.is_empty()
            });
        }
    }
}

/// The body of an upstream's answer. Its connection is used again only when it was read to the end.
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    lease: Option<Lease>,
    /// Set instead where the request may still be on its way.
    duplex: Option<Box<Duplex>>,
    stall: Stall,
    limit: Duration,
}

impl UpstreamBody {
    /// Whether its request may still be on its way.
    pub(crate) fn is_duplex(&self) -> bool {
        self.duplex.is_some()
    }

    fn return_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        self.duplex = None;
        if let Some(Lease { connection, endpoint, shelf }) = self.lease.take() {
            shelf.put(endpoint, connection);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(error) = this.duplex.as_mut().and_then(|duplex| duplex.poll_broken(cx)) {
            this.duplex = None;
            return Poll::Ready(Some(Err(error)));
        }
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            while this.stall.poll(cx, this.limit).is_ready() {
                if !this.duplex.as_mut().is_some_and(|duplex| duplex.has_moved()) {
                    (this.lease, this.duplex) = (None, None);
                    return Poll::Ready(Some(Err(BodyError::UpstreamStalled)));
                }
                this.stall.ended();
            }
            return Poll::Pending;
        };
        this.stall.ended();
        match &frame {
            Some(Ok(_)) => this.return_at_end(),
            Some(Err(_)) => (this.lease, this.duplex) = (None, None),
            // hyper takes a stream that is reset without an error for one that has ended.
            None if this.duplex.is_some() && !this.incoming.is_end_stream() => {
                this.duplex = None;
                return Poll::Ready(Some(Err(BodyError::UpstreamCut(None))));
            }
            None => this.give_back(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| BodyError::UpstreamCut(Some(error)))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBody").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}

/// hyper writes the URI as it is, and a whole URL as target is for proxies.
fn make_origin_form(request: &mut Request<Outgoing>) {
    if request.uri().authority().is_some() {
        let target = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = target.into();
    }
}

/// Removes what describes the connection rather than the answer (RFC 9110 section 7.6.1).
fn drop_connection_fields(headers: &mut HeaderMap) {
    // Most answers have none of them, and looking is cheaper than eight removals.
    let found: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| CONNECTION_FIELDS.contains(name)).cloned().collect();
    if found.contains(&header::CONNECTION) {
        let listed = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        let options = listed.flat_map(|value| value.split(','));
        let named: Vec<HeaderName> = options.filter_map(|option| option.trim().parse().ok()).collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in found {
        headers.remove(name);
    }
}

const CONNECTION_FIELDS: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

#[cfg(test)]
mod tests;
