//! An open loop: requests leave at fixed times, whether or not the earlier ones were answered.
//!
//! Each thread sleeps until the next request is due. A timer of the async runtime would be a
//! millisecond coarse, which is more than a proxy adds.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::load::{Request, Round, end_of_answer};

/// Connections to one proxy that outlive a round.
pub(crate) struct Steady {
    streams: Vec<TcpStream>,
}

impl Steady {
    /// As many connections as requests that may be under way at once.
    pub(crate) fn connect(proxy: SocketAddr, connections: usize) -> Self {
        let connect = |_| {
            let stream = TcpStream::connect(proxy).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        };
        Self { streams: (0..connections).map(connect).collect() }
    }

    /// Sends one request every `period`. The latency counts from the time at which it was due, so
    /// that a request that had to wait for a free connection is not taken for a fast one.
    pub(crate) fn run(&mut self, requests: &[Request], period: Duration) -> Round {
        let next = AtomicUsize::new(0);
        let start = Instant::now() + Duration::from_millis(10);
        let latencies: Vec<Duration> = thread::scope(|scope| {
            let next = &next;
            let work = |stream| move || answer_all(stream, requests, next, start, period);
            let threads: Vec<_> = self.streams.iter_mut().map(|stream| scope.spawn(work(stream))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        Round::new(start.elapsed(), latencies)
    }
}

fn answer_all(
    stream: &mut TcpStream,
    requests: &[Request],
    next: &AtomicUsize,
    start: Instant,
    period: Duration,
) -> Vec<Duration> {
    let mut latencies = Vec::with_capacity(requests.len());
    let mut buffer = [0; 4 << 10];
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = requests.get(index) else { return latencies };
        let due = start + period * u32::try_from(index).unwrap();
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(&request.bytes).unwrap();
        let mut filled = 0;
        while end_of_answer(&buffer[..filled]).is_none_or(|end| filled < end) {
            let count = stream.read(&mut buffer[filled..]).unwrap();
            assert!(count > 0, "the proxy closed the connection");
            filled += count;
        }
        latencies.push(due.elapsed());
    }
}
