//! What thousands of connections take, idle or waiting.

use crate::Scale;
use crate::load::{answered, suspend};
use crate::process::resident_bytes;
use crate::request::Shape;
use crate::subject::{HELD, Stage, Subject, UNMATCHED};
use crate::table::{Column, Table};

const COLUMNS: &[Column] = &[
    Column::Figure("before MiB", 0, 0),
    Column::Figure("with them MiB", 1, 0),
    Column::Figure("KiB each", 2, 1),
    Column::Ratio("× bare", 2),
];

/// Connections that had one small request answered and stay open.
pub(crate) async fn idle(scale: &Scale, only: &str) -> Vec<Table> {
    let stage = Stage::plain();
    let title = format!("memory of {} idle connections", scale.idle);
    let mut table = Table::new(title.as_str(), COLUMNS);
    for subject in stage.subjects(only, &[UNMATCHED], true) {
        let before = resident_bytes(subject.id());
        let streams = answered(&subject.door, &Shape::Get.requests(scale.idle, &subject)).await;
        add(&mut table, &subject, before, scale.idle);
        drop(streams);
    }
    crate::progress(&title, 0, 1);
    vec![table]
}

/// Requests that wait: for a person behind countersign, for the upstream behind the bare proxy.
pub(crate) async fn held(scale: &Scale, only: &str) -> Vec<Table> {
    let mut tables = Vec::new();
    for (shape, name) in [(Shape::Delete, "DELETE"), (Shape::CreateKey, "CreateAccessKey")] {
        let stage = Stage::plain();
        let title = format!("memory of {} waiting {name} requests", scale.held);
        let mut table = Table::new(title.as_str(), COLUMNS);
        for subject in stage.subjects(only, &[HELD], false) {
            let before = resident_bytes(subject.id());
            let streams = suspend(&subject.door, &shape.requests(scale.held, &subject)).await;
            subject.wait_until_held(scale.held).await;
            add(&mut table, &subject, before, scale.held);
            drop(streams);
        }
        crate::progress(&title, 0, 1);
        tables.push(table);
    }
    tables
}

fn add(table: &mut Table, subject: &Subject, before: u64, count: usize) {
    let after = resident_bytes(subject.id());
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let each = after.saturating_sub(before) as f64 / 1024.0 / count as f64;
    table.add(subject.name, &[mebibytes(before), mebibytes(after), each]);
}
