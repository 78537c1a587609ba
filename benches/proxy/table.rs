//! Medians of rounds, as a Markdown table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::load::Round;

/// What one round of one proxy showed.
#[derive(Clone, Copy)]
pub(crate) struct Measure {
    cpu_us: f64,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Measure {
    pub(crate) fn new(round: &Round, cpu: Duration) -> Self {
        Self {
            cpu_us: cpu.as_secs_f64() * 1e6 / round.requests as f64,
            per_second: round.per_second(),
            p50_ms: round.quantile_ms(0.50),
            p99_ms: round.quantile_ms(0.99),
        }
    }
}

/// All rounds of all proxies. The first proxy of each title is the one others are compared with.
pub(crate) struct Table {
    titles: Vec<&'static str>,
    names: Vec<&'static str>,
    rounds: BTreeMap<(&'static str, &'static str), Vec<Measure>>,
    memory: Vec<(&'static str, usize, u64, u64)>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { titles: Vec::new(), names: Vec::new(), rounds: BTreeMap::new(), memory: Vec::new() }
    }

    pub(crate) fn add(&mut self, title: &'static str, name: &'static str, measure: Measure) {
        if !self.titles.contains(&title) {
            self.titles.push(title);
        }
        if !self.names.contains(&name) {
            self.names.push(name);
        }
        self.rounds.entry((title, name)).or_default().push(measure);
    }

    pub(crate) fn add_memory(&mut self, name: &'static str, held: usize, before: u64, with_held: u64) {
        self.memory.push((name, held, before, with_held));
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for title in &self.titles {
            let median = |name, value: fn(&Measure) -> f64| {
                self.rounds.get(&(*title, name)).map(|rounds| median(rounds.iter().map(value).collect()))
            };
            writeln!(text, "\n| {title} | CPU µs/request | × bare | requests/s | p50 ms | p99 ms |").unwrap();
            writeln!(text, "|---|---:|---:|---:|---:|---:|").unwrap();
            let floor = self.names.first().and_then(|name| median(*name, |m| m.cpu_us)).unwrap_or(f64::NAN);
            for name in &self.names {
                let Some(cpu) = median(*name, |m| m.cpu_us) else { continue };
                let per_second = median(*name, |m| m.per_second).unwrap_or(f64::NAN);
                let p50 = median(*name, |m| m.p50_ms).unwrap_or(f64::NAN);
                let p99 = median(*name, |m| m.p99_ms).unwrap_or(f64::NAN);
                let ratio = cpu / floor;
                writeln!(text, "| {name} | {cpu:.1} | {ratio:.2} | {per_second:.0} | {p50:.2} | {p99:.2} |").unwrap();
            }
        }
        writeln!(text, "\n| memory | waiting requests | idle MiB | with them MiB | KiB each | × bare |").unwrap();
        writeln!(text, "|---|---:|---:|---:|---:|---:|").unwrap();
        let each = |held: usize, before: u64, with: u64| with.saturating_sub(before) as f64 / 1024.0 / held as f64;
        let floor = self.memory.first().map_or(f64::NAN, |(_, held, before, with)| each(*held, *before, *with));
        for (name, held, before, with) in &self.memory {
            let mebibytes = |bytes: u64| bytes as f64 / (1 << 20) as f64;
            let each = each(*held, *before, *with);
            let (idle, full, ratio) = (mebibytes(*before), mebibytes(*with), each / floor);
            writeln!(text, "| {name} | {held} | {idle:.0} | {full:.0} | {each:.1} | {ratio:.2} |").unwrap();
        }
        text
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
