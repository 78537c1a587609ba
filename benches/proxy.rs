//! What countersign costs, as ratios to a bare proxy in the same run: CPU per request from `/proc`,
//! requests per second, latency, and memory with thousands of requests held.
//!
//! Rounds are interleaved over all proxies and the median is reported, since the machine's mood
//! changes from second to second. Load and upstream share one core, the proxy has the other.
//! Without `--bench` (under `cargo test`) it runs once on small numbers to see that it works.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a bench stops where something is not as it should be"
)]

#[path = "proxy/floor.rs"]
mod floor;
#[path = "proxy/load.rs"]
mod load;
#[path = "proxy/process.rs"]
mod process;
#[path = "proxy/stub.rs"]
mod stub;
#[path = "proxy/subject.rs"]
mod subject;
#[path = "proxy/table.rs"]
mod table;
/// The part of the tests that runs countersign and signs requests.
#[path = "../tests/it"]
mod it {
    pub(crate) mod support;
}

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use it::support;
use subject::Subject;
use support::sign::{Draft, Keys};
use table::{Measure, Table};

/// How much is measured.
struct Scale {
    rounds: usize,
    requests: usize,
    connections: usize,
    held: usize,
    rules: usize,
}

const FULL: Scale = Scale { rounds: 7, requests: 30_000, connections: 64, held: 10_000, rules: 10_000 };
const SMOKE: Scale = Scale { rounds: 1, requests: 200, connections: 4, held: 20, rules: 100 };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime =
        |workers| tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
    match words.as_slice() {
        ["stub"] => runtime(1).block_on(stub::run()),
        ["floor", upstream] => runtime(1).block_on(floor::run(upstream.parse().unwrap())),
        _ => {
            let scale = if words.contains(&"--bench") { FULL } else { SMOKE };
            let only = words.iter().copied().filter(|word| !word.starts_with('-')).collect::<Vec<_>>().join(" ");
            runtime(1).block_on(measure(&scale, &only));
        }
    }
}

/// Tells the parent where a role listens.
fn announce(address: SocketAddr) {
    println!("{address}");
}

/// The two requests: a small signed GET and a signed POST of 1 KB JSON.
#[derive(Clone, Copy)]
enum Shape {
    Get,
    Post,
}

impl Shape {
    const ALL: [(Self, &'static str); 2] = [(Self::Get, "signed small GET"), (Self::Post, "signed 1 KB JSON POST")];

    /// Fresh requests, each with its own signature: one that was seen does not run twice.
    fn requests(self, count: usize, keys: &Keys) -> Arc<Vec<Vec<u8>>> {
        // Unique in the whole run: the same request in the same second would have the same signature.
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let first = CALLS.fetch_add(count, Ordering::Relaxed);
        let id = |index: usize| format!("{:08}-0000-4000-8000-000000000000", first + index);
        let draft = |index: usize| match self {
            Self::Get => Draft::new("s3", "s3.us-east-1.amazonaws.com", "GET", "/bench/object").retry_id(&id(index)),
            Self::Post => {
                let body = format!(
                    r#"{{"TableName":"bench","Item":{{"id":{{"S":"{index:08}"}},"text":{{"S":"{}"}}}}}}"#,
                    "x".repeat(940)
                );
                Draft::json("dynamodb", "dynamodb.us-east-1.amazonaws.com", "DynamoDB_20120810.PutItem", &body)
                    .retry_id(&id(index))
            }
        };
        Arc::new((0..count).map(|index| draft(index).signed(keys)).collect())
    }
}

/// Measures the bare proxy and those whose names contain `only`.
async fn measure(scale: &Scale, only: &str) {
    process::pin_self(0);
    let stub = Subject::stub();
    let subjects = subject::all(stub.address, scale, only);
    let mut table = Table::new();
    for (shape, title) in Shape::ALL {
        for subject in &subjects {
            load::run(subject.address, shape.requests(scale.requests / 10, &subject.keys), scale.connections).await;
        }
        for round in 0..scale.rounds {
            for subject in &subjects {
                let requests = shape.requests(scale.requests, &subject.keys);
                let before = process::cpu_time(subject.id());
                let result = load::run(subject.address, requests, scale.connections).await;
                let cpu = process::cpu_time(subject.id()) - before;
                table.add(title, subject.name, Measure::new(&result, cpu));
            }
            eprintln!("{title}: round {} of {}", round + 1, scale.rounds);
        }
    }
    for subject in subject::for_memory(stub.address, only) {
        let before = process::resident_bytes(subject.id());
        let requests: Vec<_> = (0..scale.held).map(|index| subject.hanging(index)).collect();
        let streams = load::suspend(subject.address, &requests).await;
        subject.wait_until_held(scale.held).await;
        table.add_memory(subject.name, scale.held, before, process::resident_bytes(subject.id()));
        drop(streams);
    }
    println!("{}", table.markdown());
}
