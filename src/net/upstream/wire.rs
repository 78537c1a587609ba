//! The TCP side of an upstream connection: what the kernel took from us, the only sure answer to
//! "did any of it leave?", and what it has for us, the only sure one to "is it still open?".

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

#[derive(Debug)]
pub(super) struct Counted {
    tcp: TcpStream,
    written: Written,
}

/// How many bytes the kernel has taken on one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Written(Arc<AtomicU64>);

impl Written {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn note(&self, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(len)) = &poll {
            self.0.fetch_add(*len as u64, Ordering::AcqRel);
        }
        poll
    }
}

/// Looks at a connection that belongs to another task. It is a second handle of the socket, so it
/// must be closed when that task is done: the connection would stay open else.
#[derive(Clone, Debug)]
pub(super) struct Probe(Arc<Mutex<Option<Socket>>>);

impl Probe {
    pub(super) fn new(tcp: &TcpStream) -> io::Result<Self> {
        let socket = SockRef::from(tcp).try_clone()?;
        Ok(Self(Arc::new(Mutex::new(Some(socket)))))
    }

    /// The kernel holds nothing that was not read: no end, no error, no stray byte. Does not block,
    /// since the socket, which is shared, does not.
    pub(super) fn is_quiet(&self) -> bool {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let peeked = socket.as_ref().map(|socket| socket.peek(&mut [MaybeUninit::uninit()]));
        matches!(peeked, Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(super) fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Counted {
    pub(super) fn new(tcp: TcpStream) -> (Self, Written) {
        let written = Written::default();
        (Self { tcp, written: written.clone() }, written)
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.written.note(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.tcp).poll_write_vectored(cx, slices);
        self.written.note(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
