//! Bytes between a client and a host that nobody here reads.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep, timeout};

use super::authority::{Authority, HostName};
use super::reach::{Own, forbidden};
use super::socket::Socket;
use super::stream::tune;

/// Why there is no connection to a host.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("`{0}` cannot be reached")]
    Unreachable(Authority, #[source] io::Error),
    #[error("`{0}` did not accept a connection in time")]
    TimedOut(Authority),
    #[error("`{place}` stands for {address}: {why}")]
    Forbidden { place: Authority, address: IpAddr, why: &'static str },
    #[error("`{0}` leads back to countersign itself")]
    Home(Authority),
}

/// Connects to a host, to exactly the address that was looked at.
///
/// # Errors
/// When a name or address leads to a place that is forbidden, to this process, or nowhere.
pub(crate) async fn dial(
    place: &Authority,
    may_be_private: bool,
    own: &Own,
    patience: Duration,
) -> Result<TcpStream, DialError> {
    let dialing = async {
        let unreachable = |source| DialError::Unreachable(place.clone(), source);
        let addresses: Vec<SocketAddr> = match &place.host {
            HostName::Address(address) => vec![SocketAddr::new(*address, place.port)],
            HostName::Dns(name) => lookup_host((name.as_str(), place.port)).await.map_err(unreachable)?.collect(),
        };
        // One bad address spoils the name: whoever mixes them in is trying something.
        for address in &addresses {
            if let Some(why) = forbidden(address.ip(), may_be_private) {
                return Err(DialError::Forbidden { place: place.clone(), address: address.ip(), why });
            }
        }
        let tcp = TcpStream::connect(addresses.as_slice()).await.map_err(unreachable)?;
        if own.is_at_other_end(&tcp) {
            return Err(DialError::Home(place.clone()));
        }
        tune(&tcp).map_err(unreachable)?;
        Ok(tcp)
    };
    timeout(patience, dialing).await.unwrap_or_else(|_| Err(DialError::TimedOut(place.clone())))
}

/// Bytes that a tunnel carried, as its client sees them: sent and received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried {
    from_client: Arc<AtomicU64>,
    from_host: Arc<AtomicU64>,
}

impl Carried {
    pub(crate) fn sent(&self) -> u64 {
        self.from_client.load(Ordering::Relaxed)
    }

    pub(crate) fn received(&self) -> u64 {
        self.from_host.load(Ordering::Relaxed)
    }

    fn all(&self) -> u64 {
        self.sent().wrapping_add(self.received())
    }
}

/// Carries bytes both ways until both sides have ended, one breaks off, or both are silent for too long.
///
/// # Errors
/// When it did not end by both sides' closing.
pub(crate) async fn carry(client: Socket, host: TcpStream, carried: &Carried, idle: Duration) -> io::Result<()> {
    let mut client = Metered { io: client, bytes: Arc::clone(&carried.from_client) };
    let mut host = Metered { io: host, bytes: Arc::clone(&carried.from_host) };
    let silence = async {
        loop {
            let before = carried.all();
            sleep(idle).await;
            if carried.all() == before {
                return;
            }
        }
    };
    tokio::select! {
        copied = copy_bidirectional(&mut client, &mut host) => copied.map(|_| ()),
        () = silence => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Counts what is read.
struct Metered<S> {
    io: S,
    bytes: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.bytes.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
