//! As many requests as pass: CPU time per request, requests per second, latency, over plain HTTP and
//! with TLS on both sides.

use crate::Scale;
use crate::load::{Load, Round};
use crate::process::cpu_time;
use crate::request::Shape;
use crate::subject::{MATCHED, Stage, Subject, UNMATCHED, many_rules};
use crate::table::{Column, Table};

const COLUMNS: &[Column] = &[
    Column::Figure("CPU µs/request", 0, 1),
    Column::Ratio("× bare", 0),
    Column::Figure("requests/s", 1, 0),
    Column::Figure("p50 ms", 2, 2),
    Column::Figure("p99 ms", 3, 2),
];

pub(crate) async fn plain(scale: &Scale, only: &str) -> Vec<Table> {
    let rules = many_rules(scale.rules);
    let many = ("countersign, 10,000 rules, none matches", rules.as_str());
    let stage = Stage::at_hand().await;
    let subjects = stage.subjects(only, &[UNMATCHED, many, MATCHED], true);
    let mut tables = Vec::new();
    for (shape, title) in [(Shape::Get, "signed small GET"), (Shape::Post, "signed 1 KB JSON POST")] {
        let loads = kept(&subjects, scale.connections).await;
        tables.push(compare(title, shape, scale.rounds, scale.requests, &subjects, loads).await);
    }
    tables
}

pub(crate) async fn tls(scale: &Scale, only: &str) -> Vec<Table> {
    let stage = Stage::at_hand_with_tls().await;
    let subjects = stage.subjects(only, &[UNMATCHED], true);
    let (rounds, requests) = (scale.rounds.min(5), scale.requests / 2);
    let mut tables = Vec::new();
    for (shape, title) in
        [(Shape::Get, "TLS on both sides, signed small GET"), (Shape::Post, "TLS on both sides, signed 1 KB JSON POST")]
    {
        let loads = kept(&subjects, scale.connections).await;
        tables.push(compare(title, shape, rounds, requests, &subjects, loads).await);
    }
    let mut loads = Vec::new();
    for subject in &subjects {
        loads.push(Load::reconnecting(&subject.door, scale.connections.min(16)).await);
    }
    let title = "a new TLS connection for each signed small GET";
    tables.push(compare(title, Shape::Get, rounds, requests / 10, &subjects, loads).await);
    tables
}

async fn kept(subjects: &[Subject], connections: usize) -> Vec<Load> {
    let mut loads = Vec::new();
    for subject in subjects {
        loads.push(Load::connect(&subject.door, connections).await);
    }
    loads
}

async fn compare(
    title: &str,
    shape: Shape,
    rounds: usize,
    requests: usize,
    subjects: &[Subject],
    mut loads: Vec<Load>,
) -> Table {
    let mut table = Table::new(title, COLUMNS);
    for (subject, load) in subjects.iter().zip(&mut loads) {
        load.run(shape.requests(requests / 10, subject)).await;
    }
    for round in 0..rounds {
        for (subject, load) in subjects.iter().zip(&mut loads) {
            let requests = shape.requests(requests, subject);
            // The load never sleeps: to wake it takes an interrupt of the other core, which would be
            // billed to a proxy, and most often to the slower one.
            let awake = tokio::spawn(async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
            let before = cpu_time(subject.id());
            let result = load.run(requests).await;
            let cpu = cpu_time(subject.id()) - before;
            awake.abort();
            table.add(subject.name, &figures(&result, cpu.as_secs_f64()));
        }
        crate::progress(title, round, rounds);
    }
    table
}

/// CPU microseconds per request, requests per second, p50 and p99 in milliseconds.
pub(crate) fn figures(round: &Round, cpu_seconds: f64) -> [f64; 4] {
    let cpu = cpu_seconds * 1e6 / round.requests as f64;
    [cpu, round.per_second(), round.quantile_ms(0.50), round.quantile_ms(0.99)]
}
