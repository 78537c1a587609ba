//! Stands between the socket and hyper, so that only what [`framing`](super::framing) lets pass is parsed.
//!
//! INVARIANT (one request at a time): hyper gets the bytes of one request and none of the next until
//! its answer is flushed. So its read buffer is empty while a request is held, and it keeps reading
//! the socket: a client that leaves is noticed at once, even if it had sent more requests ahead.
//!
//! INVARIANT (whole messages): an interim response starts only in `poll_flush`, which hyper calls when all it
//! had to write is written, and only while the plane has not answered; hyper's next write waits
//! until it is out. So the two never mix.
//!
//! No bytes are copied in the common case: the socket is read into hyper's buffer, and the buffer is
//! cut back to what may pass.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::{Framing, HEAD_BYTES, HeadScan, Refusal};
use super::line::{Shared, Stage};
use super::listen::Limits;
use super::stall::Stall;

/// The wrapper around one agent's connection.
#[derive(Debug)]
pub(super) struct Guard<S> {
    io: S,
    shared: Arc<Shared>,
    limits: Arc<Limits>,
    framing: Framing,
    /// Bytes that were read and not yet passed: an unfinished head, or what follows the current request.
    ahead: BytesMut,
    /// So many of them, from the front, may pass.
    cleared: usize,
    refusal: Option<Refusal>,
    /// What is left of an interim response.
    interim: &'static [u8],
    /// hyper has written and not yet flushed.
    is_mid_write: bool,
    has_ended: bool,
    read_stall: Stall,
    write_stall: Stall,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guard<S> {
    pub(super) fn new(io: S, shared: Arc<Shared>, limits: Arc<Limits>) -> Self {
        Self {
            io,
            shared,
            limits,
            framing: Framing::Head(HeadScan::default()),
            ahead: BytesMut::new(),
            cleared: 0,
            refusal: None,
            interim: &[],
            is_mid_write: false,
            has_ended: false,
            read_stall: Stall::default(),
            write_stall: Stall::default(),
        }
    }

    pub(super) fn into_inner(self) -> S {
        self.io
    }

    /// Why the connection ends, when what came was refused; whether or not the client can be told.
    pub(super) fn refused(&self) -> Option<Refusal> {
        self.refusal
    }

    /// The refusal the client is still to be told. `None` when an answer has begun: nothing can be
    /// said within one.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let is_between = self.shared.is_at(Stage::Answering) || matches!(self.framing, Framing::Head(_));
        self.refusal.filter(|_| is_between && !self.is_mid_write && self.interim.is_empty())
    }

    /// Bytes may still lie unread at the socket, so that closing it now would reset the connection
    /// and could take the answer from the client.
    pub(super) fn must_linger(&self) -> bool {
        !self.has_ended && (self.refusal.is_some() || !matches!(self.framing, Framing::Whole | Framing::Head(_)))
    }

    fn read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), ReadError>> {
        loop {
            if self.cleared > 0 {
                self.pass(buf);
                return Poll::Ready(Ok(()));
            }
            if !self.ahead.is_empty() && !matches!(self.framing, Framing::Whole) {
                self.cleared = clear(&mut self.framing, &self.shared, &self.ahead)?;
                if self.cleared > 0 {
                    continue;
                }
            }
            let start = buf.filled().len();
            if Pin::new(&mut self.io).poll_read(cx, buf)?.is_pending() {
                return self.poll_patience(cx);
            }
            let fresh = buf.filled().get(start..).unwrap_or_default();
            if fresh.is_empty() {
                return Poll::Ready(Err(ReadError::Ended));
            }
            // A head must arrive within its time; a drop now and then does not prolong it.
            if self.ahead.is_empty() {
                self.read_stall.ended();
            }
            let mut passed = 0;
            if self.ahead.is_empty() && !matches!(self.framing, Framing::Whole) {
                passed = clear(&mut self.framing, &self.shared, fresh)?;
            }
            self.ahead.extend_from_slice(fresh.get(passed..).unwrap_or_default());
            buf.set_filled(start + passed);
            if matches!(self.framing, Framing::Whole) && self.ahead.len() > AHEAD_BYTES {
                return Poll::Ready(Err(ReadError::Refused(Refusal {
                    status: "400 Bad Request",
                    reason: "too much was sent ahead of the answer",
                })));
            }
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Hands on what may pass of the bytes that were kept.
    fn pass(&mut self, buf: &mut ReadBuf<'_>) {
        let len = self.cleared.min(buf.remaining());
        buf.put_slice(self.ahead.get(..len).unwrap_or_default());
        self.ahead.advance(len);
        self.cleared -= len;
        if self.ahead.is_empty() {
            // An idle connection keeps no buffer.
            self.ahead = BytesMut::new();
        }
    }

    /// Nothing to read: is the client's time over?
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReadError>> {
        let is_idle = self.ahead.is_empty();
        let limit = match self.framing {
            // A held request may take as long as people take.
            Framing::Whole => return Poll::Pending,
            Framing::Head(_) if is_idle && self.shared.request() > 0 => self.limits.idle_timeout,
            Framing::Head(_) => self.limits.head_timeout,
            Framing::Length(_) | Framing::Chunked(_) => self.limits.stall_timeout,
        };
        ready!(self.read_stall.poll(cx, limit));
        Poll::Ready(Err(match self.framing {
            Framing::Head(_) if is_idle => ReadError::Ended,
            _ => ReadError::Refused(Refusal {
                status: "408 Request Timeout",
                reason: "the request did not arrive in time",
            }),
        }))
    }

    /// Writes what is left of an interim response.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let written = Pin::new(&mut self.io).poll_write(cx, self.interim);
            let written = ready!(self.in_time(cx, written))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim = self.interim.get(written..).unwrap_or_default();
        }
        Poll::Ready(Ok(()))
    }

    /// Passes `poll` on, unless the client has taken nothing for too long.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.write_stall.ended();
            return poll;
        }
        self.write_stall.poll(cx, self.limits.stall_timeout).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refusal.is_some() || this.has_ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let error = match ready!(this.read(cx, buf)) {
            Ok(()) => return Poll::Ready(Ok(())),
            Err(error) => error,
        };
        this.shared.break_off();
        Poll::Ready(match error {
            ReadError::Ended => {
                this.has_ended = true;
                Ok(())
            }
            ReadError::Io(error) => {
                this.has_ended = true;
                Err(error)
            }
            ReadError::Refused(refusal) => {
                this.refusal = Some(refusal);
                Err(io::Error::new(io::ErrorKind::InvalidData, refusal.reason))
            }
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        this.is_mid_write = true;
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        if let Some(interim) = this.shared.take_interim() {
            this.interim = interim;
            ready!(this.poll_interim(cx))?;
        }
        let flushed = Pin::new(&mut this.io).poll_flush(cx);
        ready!(this.in_time(cx, flushed))?;
        this.is_mid_write = false;
        if matches!(this.framing, Framing::Whole) && this.shared.is_at(Stage::Answered) {
            this.framing = Framing::Head(HeadScan::default());
            // hyper looks again when the socket becomes readable. But the next request may be here already,
            // and the time in which it must come starts now.
            if !this.ahead.is_empty() || this.read_stall.poll(cx, this.limits.idle_timeout).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// Why there is nothing more to read.
enum ReadError {
    /// The client closed its side, or was idle for too long.
    Ended,
    Io(io::Error),
    Refused(Refusal),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Refusal> for ReadError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Says how many of `bytes`, from the front, belong to the current request. Zero only for a head
/// that is not whole yet: the caller keeps the bytes and asks again with more.
fn clear(framing: &mut Framing, shared: &Shared, bytes: &[u8]) -> Result<usize, Refusal> {
    let mut cleared = 0;
    if let Framing::Head(scan) = framing {
        let Some(end) = scan.scan(bytes)? else { return Ok(0) };
        shared.begin(end.is_http11, !matches!(end.then, Framing::Whole));
        cleared = end.len;
        *framing = end.then;
    }
    cleared += framing.follow(bytes.get(cleared..).unwrap_or_default())?;
    Ok(cleared)
}

/// What a client may send ahead while its request is being answered.
const AHEAD_BYTES: usize = HEAD_BYTES;

#[cfg(test)]
mod tests;
