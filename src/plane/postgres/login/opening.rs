//! From the first byte to the startup packet: direct TLS, requests for encryption, cancels.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::TlsAcceptor;

use super::{LoginError, Parameters, Refused};
use crate::net::stream::Stream;
use crate::net::tls::{POSTGRESQL, PostgresServer, TlsError, postgres_server};
use crate::wire::postgres::startup::{Packet, StartupError, Version, packet_len};

/// TLS towards agents.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    end_point: Option<Vec<u8>>,
}

impl Tls {
    /// TLS with a certificate and its key from PEM files; agents may show certificates of `client_ca`.
    ///
    /// # Errors
    /// When a file is missing or does not fit.
    pub(crate) fn load(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self, TlsError> {
        let PostgresServer { config, end_point } = postgres_server(certificate, key, client_ca)?;
        Ok(Self { config, end_point })
    }

    /// What a login can be bound to.
    pub(super) fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }
}

/// What a client opened with, once encryption is settled.
pub(super) enum Opened {
    /// Process id and key.
    Cancel(u32, Vec<u8>),
    Startup(Startup),
}

/// A startup packet, taken off the wire.
pub(super) struct Startup {
    pub(super) version: Version,
    pub(super) parameters: Parameters,
}

/// Reads up to and with the startup packet. A refusal leaves the connection to say so on.
pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    tls: Option<&Tls>,
) -> Result<(Stream<Rewound<S>>, Result<Opened, Refused>), LoginError> {
    let mut socket = Rewound { first: None, inner: socket };
    let first = socket.read_u8().await?;
    socket.first = Some(first);
    let mut stream = Stream::Plain(socket);
    if first == CLIENT_HELLO {
        stream = encrypt(stream, tls).await?;
        // Whoever opens with TLS must say what for: else a server of another protocol could be made to answer.
        if stream.tls().and_then(|it| it.alpn_protocol()) != Some(POSTGRESQL) {
            return Err(LoginError::Tls(io::Error::other("TLS came first, but not for PostgreSQL (ALPN)")));
        }
    }
    let mut was_gss_asked = false;
    loop {
        let packet = match read(&mut stream).await? {
            Ok(packet) => packet,
            Err(refused) => return Ok((stream, Err(refused))),
        };
        match Packet::read(&packet) {
            Err(error) => return Ok((stream, Err(refused(error)))),
            Ok(Packet::Cancel(cancel)) => {
                let opened = Opened::Cancel(cancel.process_id, cancel.key.to_vec());
                return Ok((stream, Ok(opened)));
            }
            Ok(Packet::Startup(startup)) => {
                let parameters = Parameters::new(startup.parameters());
                return Ok((stream, Ok(Opened::Startup(Startup { version: startup.version, parameters }))));
            }
            Ok(Packet::Gssenc) if stream.tls().is_none() && !was_gss_asked => {
                was_gss_asked = true;
                answer(&mut stream, b'N').await?;
            }
            Ok(Packet::Ssl) if stream.tls().is_none() => {
                if let Some(early) = early(&mut stream).await? {
                    return Ok((stream, Err(early)));
                }
                if tls.is_none() {
                    answer(&mut stream, b'N').await?;
                    continue;
                }
                answer(&mut stream, b'S').await?;
                stream = encrypt(stream, tls).await?;
            }
            Ok(Packet::Gssenc | Packet::Ssl) => {
                return Ok((stream, Err(Refused::new("08P01", "encryption was settled before"))));
            }
        }
    }
}

/// The next packet, whole.
async fn read<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut Stream<S>) -> io::Result<Result<Vec<u8>, Refused>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let len = match packet_len(length) {
        Ok(len) => len,
        Err(error) => return Ok(Err(refused(error))),
    };
    let mut packet = vec![0; len];
    let (head, rest) = packet.split_at_mut(length.len());
    head.copy_from_slice(&length);
    stream.read_exact(rest).await?;
    Ok(Ok(packet))
}

fn refused(error: StartupError) -> Refused {
    Refused::new("08P01", error.to_string())
}

/// What a client says if it has already sent more than the request: it cannot know the answer, so
/// somebody else may have put it there for a careless server to read behind TLS.
async fn early<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut Stream<S>) -> io::Result<Option<Refused>> {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let ready = poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_read(cx, &mut buffer))).await;
    match ready {
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(())) if buffer.filled().is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        Poll::Ready(Ok(())) => {
            let message = "received unencrypted data after SSL request";
            Ok(Some(Refused::new("08P01", message)))
        }
        Poll::Pending => Ok(None),
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut Stream<S>, byte: u8) -> io::Result<()> {
    stream.write_all(&[byte]).await?;
    stream.flush().await
}

async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
    stream: Stream<Rewound<S>>,
    tls: Option<&Tls>,
) -> Result<Stream<Rewound<S>>, LoginError> {
    match (stream, tls) {
        (Stream::Plain(socket), Some(tls)) => {
            let accepted = TlsAcceptor::from(Arc::clone(&tls.config)).accept(socket).await;
            accepted.map(|stream| Stream::Tls(Box::new(stream.into()))).map_err(LoginError::Tls)
        }
        _ => Err(LoginError::Tls(io::Error::other("TLS is not spoken here"))),
    }
}

/// A connection whose first byte is given again to whoever reads it next.
#[derive(Debug)]
pub(crate) struct Rewound<S> {
    first: Option<u8>,
    inner: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_some() && buf.remaining() > 0 {
            buf.put_slice(self.first.take().as_slice());
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// The first byte of a TLS handshake; that of a packet's length is zero.
const CLIENT_HELLO: u8 = 0x16;
