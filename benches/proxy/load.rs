//! The load: closed-loop connections that send prepared bytes and time the answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What one round showed.
pub(crate) struct Round {
    pub(crate) requests: usize,
    pub(crate) elapsed: Duration,
    /// One per request, in rising order.
    latencies: Vec<Duration>,
}

impl Round {
    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// Latency in milliseconds below which that share of the requests stayed.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let index = ((self.latencies.len() - 1) as f64 * share).round() as usize;
        self.latencies[index].as_secs_f64() * 1e3
    }
}

/// Sends each request once, over that many connections, each of which waits for its answer before
/// it sends again.
///
/// Any answer but 200 stops the bench: a refused request is cheap and would look fast.
pub(crate) async fn run(proxy: SocketAddr, requests: Arc<Vec<Vec<u8>>>, connections: usize) -> Round {
    let next = Arc::new(AtomicUsize::new(0));
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(proxy).await.unwrap();
        stream.set_nodelay(true).unwrap();
        streams.push(stream);
    }
    let start = Instant::now();
    let tasks: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            let (next, requests) = (Arc::clone(&next), Arc::clone(&requests));
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(requests.len() / connections * 2);
                let mut buffer = Vec::with_capacity(16 << 10);
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let sent = Instant::now();
                    stream.write_all(request).await.unwrap();
                    read_answer(&mut stream, &mut buffer).await;
                    latencies.push(sent.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::with_capacity(requests.len());
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    let elapsed = start.elapsed();
    latencies.sort_unstable();
    Round { requests: requests.len(), elapsed, latencies }
}

/// Opens one connection for each request and leaves them all waiting.
pub(crate) async fn suspend(proxy: SocketAddr, requests: &[Vec<u8>]) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(requests.len());
    for request in requests {
        let mut stream = TcpStream::connect(proxy).await.unwrap();
        stream.write_all(request).await.unwrap();
        streams.push(stream);
    }
    streams
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    buffer.clear();
    loop {
        if let Some(at) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            let end = at + 4 + content_length(&buffer[..at + 4]);
            assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(buffer));
            if buffer.len() >= end {
                return;
            }
        }
        let count = stream.read_buf(buffer).await.unwrap();
        assert!(count > 0, "the proxy closed the connection");
    }
}

/// The value of the Content-Length field of a head; 0 without one.
pub(crate) fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length:";
    head.split(|byte| *byte == b'\n')
        .find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))
        .and_then(|line| std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok())
        .unwrap_or(0)
}
