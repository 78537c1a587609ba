//! The ways in: an endpoint of our own, a host's own name, a proxy. Each ends in a stream of requests
//! and the name of the host that the client believes to speak to, or in nothing.
//!
//! INVARIANT (one name): on an intercepted connection the CONNECT target, the SNI and the certificate name
//! one host; whether each request names it too is for the plane to see.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::authority::HostName;
use super::connect::{EARLY, Granted, Meant, OnConnect, Opening, OpeningError, Tunnel, Wanted, opening};
use super::framing::Refusal;
use super::leaf::Interception;
use super::socket::Socket;
use super::stream::Stream;
use super::tls::HTTP2;

/// What a listener is to its clients.
#[derive(Clone)]
pub(crate) enum Door {
    /// A server of its own name.
    Endpoint {
        tls: Option<Arc<ServerConfig>>,
        /// Whether a client without TLS may start with HTTP/2.
        http2: bool,
    },
    /// Every host that is intercepted, by SNI: for traffic that was led here by DNS or routing.
    Transparent(Arc<Interception>),
    /// An HTTP proxy.
    Proxy { interception: Arc<Interception>, on_connect: OnConnect },
}

/// A connection on which requests may come.
pub(super) struct Entered {
    pub(super) stream: Stream<Socket>,
    pub(super) is_http2: bool,
    /// `None` where each request says it.
    pub(super) meant: Option<Arc<Meant>>,
}

/// Why no requests come.
pub(super) enum Turned {
    /// The client left, broke TLS, or took too long.
    Away(io::Error),
    /// It is still to be told so, where it can be.
    Refused { refusal: Refusal, socket: Option<Socket>, is_recorded: bool },
    /// It came for a tunnel.
    Tunnel { tunnel: Tunnel, socket: Socket },
}

impl From<io::Error> for Turned {
    fn from(error: io::Error) -> Self {
        Self::Away(error)
    }
}

impl Door {
    pub(crate) fn plain() -> Self {
        Self::Endpoint { tls: None, http2: false }
    }

    /// Whether a client hears TLS only.
    pub(super) fn is_tls(&self) -> bool {
        match self {
            Self::Endpoint { tls, .. } => tls.is_some(),
            Self::Transparent(_) => true,
            Self::Proxy { .. } => false,
        }
    }

    /// Lets a connection in. A client has `patience` for its first words, and once more for its handshake.
    pub(super) async fn enter(&self, socket: Socket, peer: IpAddr, patience: Duration) -> Result<Entered, Turned> {
        match self {
            Self::Endpoint { tls: Some(tls), .. } => {
                let tls = TlsAcceptor::from(Arc::clone(tls)).accept(socket);
                let stream = timeout(patience, tls).await.map_err(io::Error::from)??;
                Ok(Entered::new(Stream::Tls(Box::new(stream.into())), None))
            }
            Self::Endpoint { tls: None, http2: false } => Ok(Entered::new(Stream::Plain(socket), None)),
            Self::Endpoint { tls: None, http2: true } => match open(socket, peer, patience, false).await? {
                (socket, Opening::Http2) => Ok(Entered { is_http2: true, ..Entered::new(Stream::Plain(socket), None) }),
                (socket, _) => Ok(Entered::new(Stream::Plain(socket), None)),
            },
            Self::Transparent(interception) => interception.intercept(socket, None, patience).await,
            Self::Proxy { interception, on_connect } => match open(socket, peer, patience, true).await? {
                (socket, Opening::Connect(wanted)) => connect(socket, wanted, interception, on_connect, patience).await,
                (socket, _) => Ok(Entered::new(Stream::Plain(socket), None)),
            },
        }
    }
}

impl Entered {
    fn new(stream: Stream<Socket>, meant: Option<Meant>) -> Self {
        let is_http2 = stream.tls().is_some_and(|tls| tls.alpn_protocol() == Some(HTTP2));
        Self { stream, is_http2, meant: meant.map(Arc::new) }
    }
}

/// Reads a connection's first words.
async fn open(
    mut socket: Socket,
    peer: IpAddr,
    patience: Duration,
    is_proxy: bool,
) -> Result<(Socket, Opening), Turned> {
    match timeout(patience, opening(&mut socket, peer, is_proxy)).await {
        Ok(Ok(opening)) => Ok((socket, opening)),
        Ok(Err(OpeningError::Io(error))) => Err(Turned::Away(error)),
        Ok(Err(OpeningError::Refused(refusal))) => {
            Err(Turned::Refused { refusal, socket: Some(socket), is_recorded: false })
        }
        Err(elapsed) => Err(Turned::Away(elapsed.into())),
    }
}

async fn connect(
    mut socket: Socket,
    wanted: Wanted,
    interception: &Interception,
    on_connect: &OnConnect,
    patience: Duration,
) -> Result<Entered, Turned> {
    let mut early = [0];
    let granted = tokio::select! {
        granted = on_connect(wanted) => granted,
        // People may be asked meanwhile: a client that leaves is not waited for.
        read = socket.read(&mut early) => {
            if read? == 0 {
                return Err(Turned::Away(io::ErrorKind::UnexpectedEof.into()));
            }
            let refusal = Refusal { status: "400 Bad Request", reason: EARLY };
            return Err(Turned::Refused { refusal, socket: Some(socket), is_recorded: false });
        }
    };
    let mut establish = async || timeout(patience, socket.write_all(ESTABLISHED)).await.map_err(io::Error::from)?;
    match granted {
        Granted::Intercepted(meant) => {
            establish().await?;
            interception.intercept(socket, Some(meant), patience).await
        }
        Granted::Tunnel(tunnel) => {
            establish().await?;
            Err(Turned::Tunnel { tunnel, socket })
        }
        Granted::Refused { status, reason } => {
            let refusal = Refusal { status, reason };
            Err(Turned::Refused { refusal, socket: Some(socket), is_recorded: true })
        }
    }
}

impl Interception {
    /// Speaks TLS as the host that the client names by SNI, which must be the one it asked for.
    async fn intercept(&self, socket: Socket, meant: Option<Meant>, patience: Duration) -> Result<Entered, Turned> {
        let handshake = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
            let named = start.client_hello().server_name().and_then(HostName::parse);
            let refused = |reason| Refusal { status: MISDIRECTED, reason };
            let named = match (&named, &meant) {
                (None, _) => Err(refused("the TLS handshake names no host")),
                (Some(HostName::Dns(name)), Some(meant)) if *name != meant.host => {
                    Err(refused("the TLS handshake names another host than the CONNECT"))
                }
                (Some(host), _) if !self.covers(host) => {
                    Err(refused("the TLS handshake names a host that is not intercepted"))
                }
                (Some(host), _) => Ok(host.to_string()),
            };
            match named {
                Ok(name) => Ok(Ok((start.into_stream(Arc::clone(&self.tls)).await?, name))),
                Err(refusal) => {
                    // It fails, and says so to the client.
                    drop(start.into_stream(Arc::clone(&self.refusing)).await);
                    Ok::<_, io::Error>(Err(refusal))
                }
            }
        };
        match timeout(patience, handshake).await.map_err(io::Error::from)?? {
            Ok((stream, host)) => {
                let meant = meant.unwrap_or(Meant { host, port: 443, agent: None });
                Ok(Entered::new(Stream::Tls(Box::new(stream.into())), Some(meant)))
            }
            Err(refusal) => Err(Turned::Refused { refusal, socket: None, is_recorded: false }),
        }
    }
}

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const MISDIRECTED: &str = "421 Misdirected Request";
