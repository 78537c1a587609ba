//! The load: closed-loop connections that send prepared requests and time the answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls;

/// One request: these bytes, then that many zero bytes of body.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    pub(crate) zeroes: usize,
}

impl Request {
    async fn send(&self, stream: &mut Stream) {
        stream.write_all(&self.bytes).await.unwrap();
        write_zeroes(stream, self.zeroes).await.unwrap();
        stream.flush().await.unwrap();
    }
}

/// What bodies are made of, in the pieces in which they are written.
pub(crate) static ZEROES: [u8; 256 << 10] = [0; 256 << 10];

pub(crate) async fn write_zeroes(stream: &mut (impl AsyncWrite + Unpin), mut count: usize) -> std::io::Result<()> {
    while count > 0 {
        let piece = &ZEROES[..ZEROES.len().min(count)];
        stream.write_all(piece).await?;
        count -= piece.len();
    }
    Ok(())
}

/// A connection to a proxy.
pub(crate) type Stream = Box<dyn Duplex>;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Where a proxy listens, and how.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Door {
    pub(crate) async fn connect(&self) -> Stream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                Box::new(TlsConnector::from(Arc::clone(config)).connect(tls::name(), stream).await.unwrap())
            }
        }
    }
}

/// What one round showed.
pub(crate) struct Round {
    pub(crate) requests: usize,
    pub(crate) elapsed: Duration,
    /// One per request, in rising order.
    latencies: Vec<Duration>,
}

impl Round {
    pub(crate) fn new(elapsed: Duration, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        Self { requests: latencies.len(), elapsed, latencies }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// Latency in milliseconds below which that share of the requests stayed.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let index = ((self.latencies.len() - 1) as f64 * share).round() as usize;
        self.latencies[index].as_secs_f64() * 1e3
    }
}

/// Connections to one proxy that outlive a round.
pub(crate) struct Load {
    door: Door,
    streams: Vec<Stream>,
    /// Whether each request gets a connection of its own.
    reconnects: bool,
}

impl Load {
    pub(crate) async fn connect(door: &Door, connections: usize) -> Self {
        let mut streams = Vec::with_capacity(connections);
        for _ in 0..connections {
            streams.push(door.connect().await);
        }
        Self { door: door.clone(), streams, reconnects: false }
    }

    pub(crate) async fn reconnecting(door: &Door, connections: usize) -> Self {
        Self { reconnects: true, ..Self::connect(door, connections).await }
    }

    /// Sends each request once; each connection waits for its answer before it sends again.
    ///
    /// Any answer but 200 stops the bench: a refused request is cheap and would look fast.
    pub(crate) async fn run(&mut self, requests: Arc<Vec<Request>>) -> Round {
        let next = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let mut tasks = Vec::with_capacity(self.streams.len());
        for mut stream in self.streams.drain(..) {
            let (next, requests, door) = (Arc::clone(&next), Arc::clone(&requests), self.door.clone());
            let reconnects = self.reconnects;
            tasks.push(tokio::spawn(async move {
                let mut latencies = Vec::new();
                let mut buffer = Vec::with_capacity(16 << 10);
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let sent = Instant::now();
                    if reconnects {
                        stream = door.connect().await;
                    }
                    request.send(&mut stream).await;
                    read_answer(&mut stream, &mut buffer).await;
                    latencies.push(sent.elapsed());
                }
                (stream, latencies)
            }));
        }
        let mut all = Vec::with_capacity(requests.len());
        for task in tasks {
            let (stream, latencies) = task.await.unwrap();
            self.streams.push(stream);
            all.extend(latencies);
        }
        Round::new(start.elapsed(), all)
    }
}

/// Opens one connection for each request and leaves them all waiting for their answers.
pub(crate) async fn suspend(door: &Door, requests: &[Request]) -> Vec<Stream> {
    let mut streams = Vec::with_capacity(requests.len());
    for request in requests {
        let mut stream = door.connect().await;
        request.send(&mut stream).await;
        streams.push(stream);
    }
    streams
}

/// Opens one connection for each request, has it answered, and leaves them all open.
pub(crate) async fn answered(door: &Door, requests: &[Request]) -> Vec<Stream> {
    let mut streams = Vec::with_capacity(requests.len());
    let mut buffer = Vec::with_capacity(16 << 10);
    for request in requests {
        let mut stream = door.connect().await;
        request.send(&mut stream).await;
        read_answer(&mut stream, &mut buffer).await;
        streams.push(stream);
    }
    streams
}

async fn read_answer(stream: &mut Stream, buffer: &mut Vec<u8>) {
    buffer.clear();
    let end = loop {
        if let Some(end) = end_of_answer(buffer) {
            break end;
        }
        let count = stream.read_buf(buffer).await.unwrap();
        assert!(count > 0, "the proxy closed the connection");
    };
    let mut missing = end.saturating_sub(buffer.len());
    while missing > 0 {
        buffer.clear();
        // No more room than is missing: nothing may follow.
        buffer.reserve(ZEROES.len());
        let count = stream.read_buf(buffer).await.unwrap();
        assert!((1..=missing).contains(&count), "{missing} bytes were missing, {count} came");
        missing -= count;
    }
}

/// Where the answer will end that these bytes begin with; `None` before its head is whole.
pub(crate) fn end_of_answer(bytes: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    assert!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(bytes));
    Some(head + content_length(&bytes[..head]))
}

/// The value of the Content-Length field of a head; 0 without one.
pub(crate) fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    head.split(|byte| *byte == b'\n')
        .find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))
        .and_then(|line| std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok())
        .unwrap_or(0)
}
