//! PostgreSQL: pgbench's short reads in each protocol, and bulk.

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use tokio_postgres::{Client, NoTls};

use crate::Scale;
use crate::postgres::{BOUNCER, RELAY, Way, ways};
use crate::support::postgres::cluster;
use crate::support::site::shown;
use crate::table::{Column, Table};

const SHORT: &[Column] = &[
    Column::Figure("CPU µs/transaction", 1, 1),
    Column::Ratio("× pgbouncer", 1),
    Column::Figure("transactions/s", 0, 0),
    Column::Ratio("× pgbouncer", 0),
    Column::Figure("latency ms", 2, 3),
];

/// Where there is no pgbouncer.
const SHORT_ALONE: &[Column] = &[
    Column::Figure("CPU µs/transaction", 1, 1),
    Column::Figure("transactions/s", 0, 0),
    Column::Ratio("× no proxy", 0),
    Column::Figure("latency ms", 2, 3),
];

const BULK: &[Column] = &[
    Column::Figure("CPU ms/GB", 1, 0),
    Column::Ratio("× relay", 1),
    Column::Figure("MB/s", 0, 0),
    Column::Ratio("× relay", 0),
    Column::Figure("peak MiB", 2, 0),
];

pub(crate) async fn measure(scale: &Scale, only: &str) -> Vec<Table> {
    let database = cluster().database("bench");
    let size = if scale.is_full() { "10" } else { "1" };
    let mut ways = ways(&database, only);
    let output = ways[0].command("pgbench").args(["-i", "-q", "-s", size]).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let rounds = scale.rounds.min(3);
    let clients: &[u32] = if scale.is_full() { &[1, 8, 64] } else { &[2] };
    let mut tables = Vec::new();
    put_first(BOUNCER, &mut ways);
    for protocol in ["simple", "extended", "prepared"] {
        for clients in clients {
            tables.push(short(protocol, *clients, rounds, scale, &ways));
        }
    }
    put_first(RELAY, &mut ways);
    let rows = if scale.is_full() { 5 } else { 1 };
    let copied = format!("COPY (SELECT a.* FROM pgbench_accounts a, generate_series(1, {rows})) TO STDOUT");
    let selected = format!("SELECT a.* FROM pgbench_accounts a, generate_series(1, {rows})");
    let large = format!("SELECT repeat('x', 100000) FROM generate_series(1, {})", rows * 1_000);
    for (title, text, is_copy) in [
        (format!("COPY of {rows} times {size} × 100,000 rows out"), copied, true),
        (format!("SELECT of {rows} times {size} × 100,000 rows"), selected, false),
        (format!("SELECT of {rows},000 rows of 100 KB"), large, false),
    ] {
        tables.push(bulk(&title, &text, is_copy, rounds.min(3), &ways).await);
    }
    tables
}

/// What the others are compared with comes first.
fn put_first(name: &str, ways: &mut Vec<Way>) {
    if let Some(index) = ways.iter().position(|way| way.name == name) {
        let first = ways.remove(index);
        ways.insert(0, first);
    }
}

/// `pgbench -S`, with as much as it can do.
fn short(protocol: &str, clients: u32, rounds: usize, scale: &Scale, ways: &[Way]) -> Table {
    let title = format!("pgbench -S, {protocol}, {clients} client{}", if clients == 1 { "" } else { "s" });
    let columns = if ways.iter().any(|way| way.name == BOUNCER) { SHORT } else { SHORT_ALONE };
    let mut table = Table::new(title.as_str(), columns);
    let count = match clients {
        _ if !scale.is_full() => 50,
        1 => 8_000,
        8 => 2_500,
        _ => 400,
    };
    for round in 0..rounds {
        for way in ways {
            // Logins, which are dear, are taken off.
            let (once, _) = run(way, protocol, clients, 1);
            let (used, said) = run(way, protocol, clients, count);
            let transactions = f64::from(clients * (count - 1));
            let cpu = if used == Duration::ZERO {
                f64::NAN
            } else {
                (used.as_secs_f64() - once.as_secs_f64()) * 1e6 / transactions
            };
            table.add(way.name, &[number(&said, "tps = "), cpu, number(&said, "latency average = ")]);
        }
        crate::progress(&title, round, rounds);
    }
    table
}

/// The CPU time that so many transactions of each client took on the way, and what pgbench said.
fn run(way: &Way, protocol: &str, clients: u32, count: u32) -> (Duration, String) {
    let mut command = way.command("pgbench");
    command.args(["-n", "-S", "-M", protocol, "-j", "1", "-c", &clients.to_string(), "-t", &count.to_string()]);
    let before = way.cpu_time();
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let used = way.cpu_time() - before;
    assert!(output.status.success(), "{}: {}", way.name, shown(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    // A transaction that was refused is cheap and would look fast.
    assert!(said.contains("number of failed transactions: 0"), "{}: {said}", way.name);
    (used, said)
}

/// The number behind a word of pgbench's report.
fn number(report: &str, word: &str) -> f64 {
    let rest = report.split(word).nth(1).unwrap_or_else(|| panic!("no `{word}` in {report}"));
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    rest[..end].parse().unwrap()
}

async fn bulk(title: &str, text: &str, is_copy: bool, rounds: usize, ways: &[Way]) -> Table {
    let mut table = Table::new(title, BULK);
    for round in 0..rounds {
        for way in ways {
            let client = connect(way).await;
            if let Some(id) = way.id() {
                crate::process::forget_peak(id);
            }
            let (start, before) = (Instant::now(), way.cpu_time());
            let bytes = if is_copy { copied(&client, text).await } else { selected(&client, text).await };
            let (elapsed, used) = (start.elapsed(), way.cpu_time() - before);
            let gigabytes = bytes as f64 / 1e9;
            let cpu = if used == Duration::ZERO { f64::NAN } else { used.as_secs_f64() * 1e3 / gigabytes };
            let peak = way.peak_bytes() / f64::from(1 << 20);
            table.add(way.name, &[gigabytes * 1e3 / elapsed.as_secs_f64(), cpu, peak]);
        }
        crate::progress(title, round, rounds);
    }
    table
}

async fn connect(way: &Way) -> Client {
    let door = &way.door;
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(door.port).user(&door.user).password(&door.password).dbname(&door.database);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    client
}

/// Bytes of the rows.
async fn copied(client: &Client, text: &str) -> usize {
    let stream = client.copy_out(text).await.unwrap();
    stream.try_fold(0, |sum, piece| async move { Ok(sum + piece.len()) }).await.unwrap()
}

/// Bytes of the rows.
async fn selected(client: &Client, text: &str) -> usize {
    let none: [&str; 0] = [];
    let stream = client.query_raw(text, none).await.unwrap();
    stream.try_fold(0, |sum, row| async move { Ok(sum + row.raw_size_bytes()) }).await.unwrap()
}
