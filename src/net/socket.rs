//! What is accepted: TCP connections and those of a unix socket, with what was read ahead of them.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::stream::tune;

/// Where connections come from.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// Removes its file when it is dropped.
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

impl Listener {
    /// Listens on a unix socket that every user of the machine may connect to: each request proves
    /// itself. One that a process left behind is replaced.
    ///
    /// # Errors
    /// When a live process listens there, something else lies there, or the directory is not writable.
    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        if let Ok(found) = std::fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket lies there"));
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        let _file = SocketFile(path.to_owned());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        Ok(Self::Unix { listener, _file })
    }

    /// The next connection and who made it: over a unix socket, this machine.
    pub(super) async fn accept(&self) -> io::Result<(Socket, IpAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, address) = listener.accept().await?;
                Ok((Socket::new(Io::Tcp(tcp)), address.ip()))
            }
            Self::Unix { listener, .. } => {
                let (unix, _) = listener.accept().await?;
                Ok((Socket::new(Io::Unix(unix)), Ipv4Addr::LOCALHOST.into()))
            }
        }
    }

    /// Whether all its peers are on this machine, and so look alike.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(listener) => listener.local_addr().is_ok_and(|address| address.ip().is_loopback()),
            Self::Unix { .. } => true,
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

/// The file of a unix socket.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(%error, "a socket's file could not be removed");
        }
    }
}

/// One accepted connection.
#[derive(Debug)]
pub(crate) struct Socket {
    io: Io,
    /// What was read to see what this is, and is to be read again.
    ahead: Bytes,
}

#[derive(Debug)]
enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    fn new(io: Io) -> Self {
        Self { io, ahead: Bytes::new() }
    }

    pub(super) fn tune(&self) -> io::Result<()> {
        match &self.io {
            Io::Tcp(tcp) => tune(tcp),
            Io::Unix(_) => Ok(()),
        }
    }

    /// Writes as much of it as needs no waiting.
    pub(super) fn try_write(&self, bytes: &[u8]) {
        // A fresh socket takes a short answer at once; and if not, closing says the same.
        drop(match &self.io {
            Io::Tcp(tcp) => tcp.try_write(bytes),
            Io::Unix(unix) => unix.try_write(bytes),
        });
    }

    /// Puts back what was read.
    pub(super) fn unread(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }

    /// Closing it will tell the peer that it was cut.
    pub(super) fn reset_on_close(&self) -> io::Result<()> {
        let fd = match &self.io {
            Io::Tcp(tcp) => tcp.as_fd(),
            Io::Unix(unix) => unix.as_fd(),
        };
        SockRef::from(&fd).set_linger(Some(Duration::ZERO))
    }
}

macro_rules! each {
    ($self:ident, $io:ident => $call:expr) => {
        match &mut $self.get_mut().io {
            Io::Tcp($io) => {
                let $io = Pin::new($io);
                $call
            }
            Io::Unix($io) => {
                let $io = Pin::new($io);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let len = self.ahead.len().min(buf.remaining());
            buf.put_slice(self.ahead.get(..len).unwrap_or_default());
            self.ahead.advance(len);
            if self.ahead.is_empty() {
                // An empty slice would still keep its buffer.
                self.ahead = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        each!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_shutdown(cx))
    }
}
