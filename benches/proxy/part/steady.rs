//! A steady 1,000 requests a second: what a request takes when nothing queues.

use std::time::Duration;

use crate::Scale;
use crate::process::cpu_time;
use crate::request::Shape;
use crate::steady::Steady;
use crate::subject::{MATCHED, Stage, UNMATCHED};
use crate::table::{Column, Table};

use super::saturated::figures;

const COLUMNS: &[Column] = &[
    Column::Figure("CPU µs/request", 0, 1),
    Column::Ratio("× bare", 0),
    Column::Figure("p50 ms", 2, 3),
    Column::Added("p50 added to bare", 2),
    Column::Figure("p99 ms", 3, 2),
];

const PERIOD: Duration = Duration::from_millis(1);

pub(crate) fn measure(scale: &Scale, only: &str) -> Vec<Table> {
    let stage = Stage::plain();
    let subjects = stage.subjects(only, &[UNMATCHED, MATCHED], true);
    let Some(bare) = subjects.first() else { return Vec::new() };
    let (rounds, count) = (scale.rounds.min(5), scale.requests / 10);
    let title = "1,000 signed small GETs a second";
    let mut table = Table::new(title, COLUMNS);
    let connect = |proxy| Steady::connect(proxy, scale.connections / 2);
    let mut loads: Vec<Steady> = subjects.iter().map(|subject| connect(subject.door.address)).collect();
    let mut direct = connect(stage.upstream());
    for (subject, load) in subjects.iter().zip(&mut loads) {
        load.run(&Shape::Get.requests(count / 10, subject), PERIOD);
    }
    for round in 0..rounds {
        for (subject, load) in subjects.iter().zip(&mut loads) {
            let requests = Shape::Get.requests(count, subject);
            let before = cpu_time(subject.id());
            let result = load.run(&requests, PERIOD);
            let cpu = cpu_time(subject.id()) - before;
            table.add(subject.name, &figures(&result, cpu.as_secs_f64()));
        }
        let result = direct.run(&Shape::Get.requests(count, bare), PERIOD);
        table.add("no proxy", &figures(&result, f64::NAN));
        crate::progress(title, round, rounds);
    }
    vec![table]
}
