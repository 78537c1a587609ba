//! HTTP/2: many requests on one connection, each answered as one on a connection of its own.
//!
//! hyper's codec refuses what has a second reading in this version: fields of a connection, lengths that
//! disagree with the bytes, names in capital letters. What is left for here are the limits in time, and
//! that tasks end with their connection. A client cannot be told to keep waiting: a held request waits in silence,
//! and pings tell whether its client is still there.

use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, sleep_until};

use super::body::{AnswerBody, BodyError, Outgoing};
use super::connect::Meant;
use super::framing::{HEAD_BYTES, HEAD_FIELDS};
use super::line::{Line, Shared};
use super::listen::{Arrived, ArrivedBody, Connection, Limits, OnRefusal};
use super::socket::Socket;
use super::stream::Stream;
use super::tasks::Tasks;

/// Runs a connection to its end.
pub(super) async fn serve<A, F>(connection: &Connection, stream: Stream<Socket>, meant: Option<Arc<Meant>>, answer: A)
where
    A: Fn(Arrived) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    let Connection { peer, limits, on_refusal, stop, .. } = connection;
    let traffic = Arc::new(Traffic::default());
    let arriving = Arc::new(Arriving {
        peer: *peer,
        meant,
        limits: Arc::clone(limits),
        on_refusal: Arc::clone(on_refusal),
        traffic: Arc::clone(&traffic),
    });
    let service = service_fn(move |request| {
        let (arriving, answer) = (Arc::clone(&arriving), answer.clone());
        async move { Ok::<_, std::convert::Infallible>(arriving.respond(request, answer).await) }
    });
    let mut builder = Builder::new(Tasks::default());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(limits.head_timeout)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES as u32)
        .max_send_buf_size(SEND_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES * 4);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut stop = stop.clone();
    let mut stopping = pin!(stop.wait_for(|stop| *stop));
    let mut is_ending = false;
    let mut watch = Watch::new(limits);
    loop {
        tokio::select! {
            ended = &mut serving => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "connection ended early");
                }
                return;
            }
            _ = &mut stopping, if !is_ending => {
                is_ending = true;
                serving.as_mut().graceful_shutdown();
            }
            () = sleep_until(watch.next) => match watch.look(&traffic) {
                Found::Life => {}
                Found::Idle if !is_ending => {
                    is_ending = true;
                    serving.as_mut().graceful_shutdown();
                }
                Found::Idle | Found::Stalled => return,
            },
        }
    }
}

/// What each request of a connection needs.
struct Arriving {
    peer: IpAddr,
    meant: Option<Arc<Meant>>,
    limits: Arc<Limits>,
    on_refusal: OnRefusal,
    traffic: Arc<Traffic>,
}

impl Arriving {
    async fn respond<A, F>(&self, request: Request<Incoming>, answer: A) -> Response<Counted>
    where
        A: Fn(Arrived) -> F,
        F: Future<Output = Response<AnswerBody>>,
    {
        let open = Open::new(&self.traffic);
        let counted = |response: Response<AnswerBody>, open| response.map(|body| Counted::new(body, open));
        let (mut head, incoming) = request.into_parts();
        if let Some(reason) = fault(&head) {
            (self.on_refusal)(self.peer, REFUSED, reason);
            let mut response = Response::new(Outgoing::whole(format!("{reason}\n")));
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            return counted(response, open);
        }
        // What was `Host` in HTTP/1.1 is `:authority` here (RFC 9113, section 8.3.1). Where both are there, they
        // are held against each other with the rest of the head.
        if !head.headers.contains_key(header::HOST)
            && let Some(authority) = head.uri.authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            head.headers.insert(header::HOST, host);
        }
        let shared = Arc::new(Shared::default());
        let leaving = Leaving(&shared);
        let body = ArrivedBody::new(incoming, &shared, Some(self.limits.stall_timeout));
        let arrived = Arrived {
            method: head.method,
            uri: head.uri,
            headers: head.headers,
            body,
            peer: self.peer,
            line: Line::new(&shared),
            meant: self.meant.clone(),
        };
        let response = Box::pin(answer(arrived)).await;
        std::mem::forget(leaving);
        counted(response, open)
    }
}

fn fault(head: &http::request::Parts) -> Option<&'static str> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Some("CONNECT and TRACE are not served");
    }
    if head.headers.len() > HEAD_FIELDS {
        return Some("more than 100 header fields");
    }
    None
}

/// A request whose answer is not there yet: dropped, its client has left.
struct Leaving<'s>(&'s Arc<Shared>);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.break_off();
    }
}

/// What moves on a connection.
#[derive(Debug, Default)]
struct Traffic {
    /// Requests that have no whole answer yet.
    open: AtomicI64,
    /// Parts of answers that wait for their client to take what it got.
    full: AtomicI64,
    /// Parts of answers that were taken so far.
    taken: AtomicU64,
}

/// One request that has no whole answer yet.
struct Open(Arc<Traffic>);

impl Open {
    fn new(traffic: &Arc<Traffic>) -> Self {
        traffic.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(traffic))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, which says whether it waits for the upstream or for the client.
struct Counted {
    inner: AnswerBody,
    open: Open,
    is_full: bool,
}

impl Counted {
    fn new(inner: AnswerBody, open: Open) -> Self {
        let mut counted = Self { inner, open, is_full: false };
        counted.fill(true);
        counted
    }

    /// `true`: hyper has a part that it will ask for the next of once its client has taken it.
    fn fill(&mut self, is_full: bool) {
        if is_full != std::mem::replace(&mut self.is_full, is_full) {
            self.open.0.full.fetch_add(if is_full { 1 } else { -1 }, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.fill(false);
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.open.0.taken.fetch_add(1, Ordering::Relaxed);
        let poll = Pin::new(&mut self.inner).poll_frame(cx);
        let is_full = poll.is_ready();
        self.fill(is_full);
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Looks now and then whether a connection still lives.
struct Watch {
    next: Instant,
    idle_since: Option<Instant>,
    /// How much was taken when something first waited to be, and when that was.
    full_since: Option<(u64, Instant)>,
    idle_timeout: Duration,
    stall_timeout: Duration,
}

enum Found {
    Life,
    /// No request for too long.
    Idle,
    /// Its client has taken nothing of its answers for too long.
    Stalled,
}

impl Watch {
    fn new(limits: &Limits) -> Self {
        let Limits { idle_timeout, stall_timeout, .. } = *limits;
        let now = Instant::now();
        let every = idle_timeout.min(stall_timeout) / 4;
        Self { next: now + every, idle_since: Some(now), full_since: None, idle_timeout, stall_timeout }
    }

    fn look(&mut self, traffic: &Traffic) -> Found {
        let now = Instant::now();
        self.next = now + self.idle_timeout.min(self.stall_timeout) / 4;
        if traffic.open.load(Ordering::Relaxed) > 0 {
            self.idle_since = None;
        } else if now.duration_since(*self.idle_since.get_or_insert(now)) >= self.idle_timeout {
            return Found::Idle;
        }
        let taken = traffic.taken.load(Ordering::Relaxed);
        if traffic.full.load(Ordering::Relaxed) <= 0 {
            self.full_since = None;
            return Found::Life;
        }
        let (before, since) = *self.full_since.get_or_insert((taken, now));
        if before != taken {
            self.full_since = Some((taken, now));
        } else if now.duration_since(since) >= self.stall_timeout {
            return Found::Stalled;
        }
        Found::Life
    }
}

const REFUSED: &str = "400 Bad Request";
/// Requests at once on one connection.
const STREAMS: u32 = 100;
/// What either side may send ahead of the other's reader, on one stream.
pub(super) const WINDOW_BYTES: u32 = 256 * 1024;
pub(super) const SEND_BYTES: usize = 256 * 1024;
/// Often enough for NAT boxes, and to notice a client that is gone while its request is held.
pub(super) const PING_EVERY: Duration = Duration::from_secs(30);
