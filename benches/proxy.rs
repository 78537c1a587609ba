//! What countersign costs, as ratios to a bare proxy in the same run: CPU time from `/proc`,
//! throughput, latency and memory.
//!
//! Rounds are interleaved over all proxies and the median is reported, since the machine's mood
//! changes from second to second. Load and upstream share one core, the proxy has the other.
//! Without `--bench` (under `cargo test`) it runs once on small numbers to see that it works.
//!
//! `cargo bench --bench proxy -- --part=tls,idle "no rule"` measures two parts, and besides the bare
//! proxy only those whose names contain these words. The part `postgres` has pgbench as its load.

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
/// What is measured, one module for each kind.
#[path = "proxy/part"]
mod part {
    pub(crate) mod bodies;
    pub(crate) mod memory;
    pub(crate) mod postgres;
    pub(crate) mod saturated;
    pub(crate) mod steady;
}
#[path = "proxy/postgres.rs"]
mod postgres;
#[path = "proxy/process.rs"]
mod process;
#[path = "proxy/request.rs"]
mod request;
#[path = "proxy/steady.rs"]
mod steady;
#[path = "proxy/stub.rs"]
mod stub;
#[path = "proxy/subject.rs"]
mod subject;
#[path = "proxy/table.rs"]
mod table;
#[path = "proxy/tls.rs"]
mod tls;
/// The part of the tests that runs countersign and signs requests.
#[path = "../tests/it"]
mod it {
    pub(crate) mod support;
}

use std::net::SocketAddr;
use std::path::Path;

use it::support;

/// How much is measured.
struct Scale {
    rounds: usize,
    requests: usize,
    connections: usize,
    held: usize,
    idle: usize,
    rules: usize,
    large_mib: usize,
}

impl Scale {
    fn is_full(&self) -> bool {
        self.rounds > 1
    }
}

const FULL: Scale =
    Scale { rounds: 7, requests: 30_000, connections: 64, held: 10_000, idle: 9_500, rules: 10_000, large_mib: 1024 };
const SMOKE: Scale = Scale { rounds: 1, requests: 200, connections: 4, held: 20, idle: 20, rules: 100, large_mib: 8 };

const PARTS: [&str; 7] = ["saturated", "steady", "tls", "bodies", "idle", "held", "postgres"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime =
        |workers| tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap();
    match words.as_slice() {
        ["relay", upstream] => runtime(1).block_on(postgres::run_relay(upstream.parse().unwrap())),
        ["stub", rest @ ..] => runtime(1).block_on(stub::run(rest.first().map(Path::new))),
        ["floor", upstream, rest @ ..] => {
            runtime(1).block_on(floor::run(upstream.parse().unwrap(), rest.first().map(Path::new)));
        }
        _ => {
            let scale = if words.contains(&"--bench") { FULL } else { SMOKE };
            let parts = words.iter().find_map(|word| word.strip_prefix("--part="));
            let parts = parts.map_or(PARTS.to_vec(), |names| names.split(',').collect());
            let only = words.iter().copied().filter(|word| !word.starts_with('-')).collect::<Vec<_>>().join(" ");
            process::raise_file_limit();
            runtime(1).block_on(measure(&scale, &parts, &only));
        }
    }
}

/// Tells the parent where a role listens.
fn announce(address: SocketAddr) {
    println!("{address}");
}

/// Tells whoever waits how far it is.
fn progress(title: &str, round: usize, rounds: usize) {
    eprintln!("{title}: round {} of {rounds}", round + 1);
}

/// Measures the bare proxy and those whose names contain `only`.
async fn measure(scale: &Scale, parts: &[&str], only: &str) {
    process::pin_self(0);
    for part in parts {
        let tables = match *part {
            "saturated" => part::saturated::plain(scale, only).await,
            "steady" => part::steady::measure(scale, only),
            "tls" => part::saturated::tls(scale, only).await,
            "bodies" => part::bodies::measure(scale, only).await,
            "idle" => part::memory::idle(scale, only).await,
            "held" => part::memory::held(scale, only).await,
            "postgres" => part::postgres::measure(scale, only).await,
            other => panic!("no part is called `{other}`; there are {}", PARTS.join(", ")),
        };
        for table in tables.iter().filter(|table| !table.is_empty()) {
            println!("{}", table.markdown());
        }
    }
}
