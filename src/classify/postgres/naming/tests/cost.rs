//! What naming costs. `make bench-naming` prints it; nothing here passes or fails by time.

use std::hint::black_box;
use std::time::Instant;

use super::*;
use crate::classify::postgres::cache::Cache;

fn statements() -> Vec<(&'static str, String)> {
    let join = "SELECT t0.id, t0.name, t0.created_at, t1.id, t1.total FROM public.customers t0 LEFT OUTER JOIN public.orders \
                t1 ON t1.customer_id = t0.id AND t1.deleted_at IS NULL WHERE t0.tenant_id = $1 AND t0.name LIKE $2 ORDER BY \
                t0.created_at DESC, t0.id LIMIT 50";
    let rows: Vec<String> = (0..100).map(|row| format!("({row}, 'customer {row}', 'city {row}', {row}.5)")).collect();
    vec![
        ("SELECT 1", "SELECT 1".to_owned()),
        ("SELECT by primary key", "SELECT id, name FROM customers WHERE id = $1".to_owned()),
        ("ORM join", join.to_owned()),
        ("INSERT of 100 rows", format!("INSERT INTO customers (id, name, city, total) VALUES {}", rows.join(", "))),
    ]
}

#[test]
fn what_is_measured_has_its_name() {
    for (title, sql) in statements() {
        assert!(one(&sql).actions.iter().all(|it| it.unknown.is_none()), "{title}");
    }
}

/// The quickest of several rounds, per call: whatever else runs on the machine only ever adds.
fn least(calls: u32, mut call: impl FnMut()) -> f64 {
    let mut round = || {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        start.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
    };
    (0..9).map(|_| round()).fold(f64::INFINITY, f64::min)
}

#[test]
#[ignore = "a measurement: `make bench-naming` runs it in a release build"]
fn naming_in_microseconds() {
    let (settings, catalogue) = (Arc::new(Settings::default()), Catalogue::builtin());
    for (title, sql) in statements() {
        let calls = if sql.len() > 1000 { 200 } else { 5000 };
        let cache = Cache::new(64 << 20);
        let parsed = least(calls, || drop(black_box(parse(black_box(sql.as_bytes()), &settings, &catalogue))));
        let cached = least(20_000, || drop(black_box(cache.parse(black_box(sql.as_bytes()), &settings, &catalogue))));
        println!("{title:32} {parsed:8.2} µs, cached {cached:6.2} µs");
    }
}

/// The grammar runs once at a time: what two threads gain.
#[test]
#[ignore = "a measurement: `make bench-naming` runs it in a release build"]
fn two_threads_in_microseconds() {
    let (settings, catalogue) = (Settings::default(), Catalogue::builtin());
    let (_, sql) = statements().remove(1);
    let run = || {
        let start = Instant::now();
        (0..50_000).for_each(|_| drop(black_box(parse(black_box(sql.as_bytes()), &settings, &catalogue))));
        start.elapsed().as_secs_f64()
    };
    let alone = 50_000.0 / run();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(run);
        scope.spawn(run);
    });
    let together = 100_000.0 / start.elapsed().as_secs_f64();
    println!("{:32} {alone:8.0} a second on one thread, {together:.0} on two", "SELECT by primary key, uncached");
}
