//! Large bodies: CPU time per gigabyte both ways, and the most memory while the largest pass.
//!
//! SigV4 demands the hash of an upload, so what SHA-256 of the same bytes takes is measured in the
//! same rounds and given apart. Nothing is hashed on the way down.

use crate::Scale;
use crate::load::Load;
use crate::process::{cpu_time, forget_peak, peak_bytes};
use crate::request::{Shape, zeroes_sha256};
use crate::subject::{Stage, Subject, UNMATCHED};
use crate::table::{Column, Table};

const DOWN: &[Column] = &[
    Column::Figure("CPU ms/GB", 0, 0),
    Column::Ratio("× bare", 0),
    Column::Figure("MB/s", 3, 0),
    Column::Figure("peak MiB", 4, 0),
];

const UP: &[Column] = &[
    Column::Figure("CPU ms/GB", 0, 0),
    Column::Ratio("× bare", 0),
    Column::Figure("of it SHA-256 ms/GB", 1, 0),
    Column::Ratio("× bare without it", 2),
    Column::Figure("MB/s", 3, 0),
    Column::Figure("peak MiB", 4, 0),
];

pub(crate) async fn measure(scale: &Scale, only: &str) -> Vec<Table> {
    let stage = Stage::plain();
    let subjects = stage.subjects(only, &[UNMATCHED], true);
    let large = scale.large_mib << 20;
    let (rounds, connections) = (scale.rounds.min(5), scale.connections.min(8));
    let mut tables = Vec::new();
    for (size, count, rounds, connections) in
        [(1 << 20, scale.large_mib / 4, rounds, connections), (large, 1, rounds.min(3), 1)]
    {
        for shape in [Shape::Download(size), Shape::Upload(size)] {
            tables.push(compare(shape, size, count, rounds, connections, &subjects).await);
        }
    }
    tables
}

async fn compare(
    shape: Shape,
    size: usize,
    count: usize,
    rounds: usize,
    connections: usize,
    subjects: &[Subject],
) -> Table {
    let is_upload = matches!(shape, Shape::Upload(_));
    let unit = if size < 1 << 30 { format!("{} MiB", size >> 20) } else { format!("{} GiB", size >> 30) };
    let title = if is_upload { format!("{unit} up, its hash signed") } else { format!("{unit} down") };
    let mut table = Table::new(title.as_str(), if is_upload { UP } else { DOWN });
    let mut loads = Vec::new();
    for subject in subjects {
        loads.push(Load::connect(&subject.door, connections).await);
    }
    let gigabytes = (size * count) as f64 / 1e9;
    for round in 0..rounds {
        let hash = if is_upload { seconds_to_hash(size, count) / gigabytes * 1e3 } else { f64::NAN };
        for (subject, load) in subjects.iter().zip(&mut loads) {
            let requests = shape.requests(count, subject);
            forget_peak(subject.id());
            let before = cpu_time(subject.id());
            let result = load.run(requests).await;
            let cpu = (cpu_time(subject.id()) - before).as_secs_f64() / gigabytes * 1e3;
            let rate = gigabytes * 1e3 / result.elapsed.as_secs_f64();
            let peak = peak_bytes(subject.id()) as f64 / f64::from(1 << 20);
            let (hash, other) = if subject.is_countersign() { (hash, cpu - hash) } else { (f64::NAN, cpu) };
            table.add(subject.name, &[cpu, hash, other, rate, peak]);
        }
        crate::progress(&title, round, rounds);
    }
    table
}

/// CPU time of this process to hash what one round sends.
fn seconds_to_hash(size: usize, count: usize) -> f64 {
    let before = cpu_time(std::process::id());
    for _ in 0..count {
        std::hint::black_box(zeroes_sha256(std::hint::black_box(size)));
    }
    (cpu_time(std::process::id()) - before).as_secs_f64()
}
