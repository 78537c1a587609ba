//! The first words on a proxy's connection: what a CONNECT asks for, and what it may be told.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use super::authority::Authority;
use super::framing::{CONNECT, ConnectScan, Refusal};
use super::socket::Socket;
use crate::action::Agent;
use crate::secret::Secret;

/// Who a client believes to speak to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meant {
    /// DNS name in lower case, without its last dot.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whose credentials its connection to the proxy showed, where it showed any.
    pub(crate) agent: Option<Arc<Agent>>,
}

/// What a CONNECT asks for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) place: Authority,
    /// Its Proxy-Authorization.
    pub(crate) authorization: Option<Secret>,
    pub(crate) peer: IpAddr,
}

/// What becomes of a CONNECT.
pub(crate) enum Granted {
    /// The client will be spoken to as that host.
    Intercepted(Meant),
    /// Its bytes pass, in both directions.
    Tunnel(Tunnel),
    Refused {
        status: &'static str,
        reason: &'static str,
    },
}

/// What carries the bytes of a tunnel, once its client was told that it is there.
pub(crate) type Tunnel = Box<dyn FnOnce(Socket) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Decides what becomes of a CONNECT.
pub(crate) type OnConnect = Arc<dyn Fn(Wanted) -> Pin<Box<dyn Future<Output = Granted> + Send>> + Send + Sync>;

/// What a connection starts with.
pub(super) enum Opening {
    Connect(Wanted),
    /// The preface of HTTP/2 (RFC 9113, section 3.4).
    Http2,
    /// Anything else; for the guard to judge.
    Other,
}

/// Why there is no opening.
pub(super) enum OpeningError {
    Io(io::Error),
    Refused(Refusal),
}

impl From<io::Error> for OpeningError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Refusal> for OpeningError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Reads what it takes to know what a connection is. All of it is put back but for a CONNECT, which is
/// read whole only where `is_proxy`: elsewhere it is a request like any other, and refused.
pub(super) async fn opening(socket: &mut Socket, peer: IpAddr, is_proxy: bool) -> Result<Opening, OpeningError> {
    let mut bytes = BytesMut::with_capacity(1024);
    loop {
        // Cancelling this loses the connection, which is what its time limit is for.
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(OpeningError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let may_be = |words: &[u8]| words.iter().zip(&bytes).all(|(word, byte)| word == byte);
        if may_be(PREFACE) {
            if bytes.len() < PREFACE.len() {
                continue;
            }
            socket.unread(bytes.freeze());
            return Ok(Opening::Http2);
        }
        if is_proxy && may_be(CONNECT) {
            if bytes.len() < CONNECT.len() {
                continue;
            }
            return connect(socket, bytes, peer).await.map(Opening::Connect);
        }
        socket.unread(bytes.freeze());
        return Ok(Opening::Other);
    }
}

/// Reads the rest of a CONNECT.
async fn connect(socket: &mut Socket, mut bytes: BytesMut, peer: IpAddr) -> Result<Wanted, OpeningError> {
    let mut scan = ConnectScan::default();
    let end = loop {
        if let Some(end) = scan.scan(&bytes)? {
            break end;
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(OpeningError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    };
    let refused = |reason| OpeningError::Refused(Refusal { status: "400 Bad Request", reason });
    if bytes.len() > end.len {
        // Whoever sends ahead does not know yet whom it speaks to.
        return Err(refused(EARLY));
    }
    let text = |place| bytes.get(place).and_then(|bytes: &[u8]| str::from_utf8(bytes).ok());
    let place = text(end.target).and_then(Authority::parse).ok_or(refused("the CONNECT target is not host:port"))?;
    let authorization = match end.authorization {
        Some(place) => match text(place) {
            Some(value) => Some(Secret::new(value.trim_ascii())),
            None => return Err(refused("Proxy-Authorization is not ASCII")),
        },
        None => None,
    };
    Ok(Wanted { place, authorization, peer })
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const EARLY: &str = "bytes were sent ahead of the answer to a CONNECT";
