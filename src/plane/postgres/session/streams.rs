//! A session's two streams: reads and writes that take what there is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::{BUFFER_BYTES, Session, SessionError};
use crate::wire::postgres::frontend::{self, Header};

/// Messages of a client's that are read while the first of them waits.
pub(super) const READ_AHEAD_BYTES: usize = 64 << 10;
/// One read.
const READ_BYTES: usize = 32 << 10;

impl<C, U> Session<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    pub(super) fn write_both(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        let before = self.to_client.len() + self.to_upstream.len();
        if let Poll::Ready(Err(error)) = write(&mut self.client, &mut self.to_client, cx) {
            return Err(error.into());
        }
        if let Poll::Ready(Err(error)) = write(&mut self.upstream, &mut self.to_upstream, cx) {
            return Err(error.into());
        }
        Ok(self.to_client.len() + self.to_upstream.len() != before)
    }

    pub(super) fn read_client(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        let is_waiting = self.waiting.is_some()
            || self.changing.is_some()
            || self.looking.is_some()
            || self.cancelling.is_some()
            || self.is_paused();
        let is_full = match is_waiting || self.is_stuck {
            true => self.from_client.len() >= READ_AHEAD_BYTES,
            false => self.to_upstream.len() >= BUFFER_BYTES,
        };
        if self.client_left || is_full {
            return Ok(false);
        }
        match read(&mut self.client, &mut self.from_client, cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => {
                self.leave();
                Ok(true)
            }
            Poll::Ready(Ok(_)) => {
                let is_waited_for = self.waiting.is_some() || (self.pause.is_some() && self.passing == 0);
                if is_waited_for && has_terminate(&self.from_client) {
                    self.leave();
                }
                Ok(true)
            }
            Poll::Ready(Err(error)) => {
                self.withdraw();
                Err(error.into())
            }
        }
    }

    /// The client says nothing more. Nobody is asked for it any further.
    pub(super) fn leave(&mut self) {
        self.client_left = true;
        if self.waiting.is_some() {
            self.withdraw();
            self.from_client.clear();
        }
        if self.give_up_rest() {
            self.from_client.clear();
        }
    }

    pub(super) fn read_upstream(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        if self.to_client.len() >= BUFFER_BYTES || self.completing.is_some() || self.pause.is_some() {
            return Ok(false);
        }
        match read(&mut self.upstream, &mut self.from_upstream, cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => Err(SessionError::UpstreamLeft),
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(error)) => Err(error.into()),
        }
    }
}

pub(super) fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while !buffer.is_empty() {
        let count = ready!(Pin::new(&mut *stream).poll_write(cx, buffer))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        buffer.advance(count);
    }
    // Also with nothing new to write: TLS may still hold what it took before.
    Pin::new(stream).poll_flush(cx)
}

fn read<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    buffer.reserve(READ_BYTES);
    // Nothing is lost with a future that is dropped before it read.
    std::pin::pin!(stream.read_buf(buffer)).poll(cx)
}

/// Whether the client says further on that it leaves: drivers do so without waiting for an answer.
fn has_terminate(messages: &[u8]) -> bool {
    let mut rest = messages;
    while let Ok(Some(header)) = Header::read(rest, frontend::LARGE_LIMIT) {
        if header.kind == frontend::Kind::Terminate {
            return true;
        }
        match rest.get(header.len..) {
            Some(next) => rest = next,
            None => return false,
        }
    }
    false
}
