use super::*;

fn settings(user: &str) -> Arc<Settings> {
    Arc::new(Settings { user: user.to_owned(), ..Settings::default() })
}

#[test]
fn the_same_string_is_parsed_once_for_the_same_settings_and_catalogue() {
    let cache = Cache::new(1 << 20);
    let catalogue = Catalogue::builtin();
    let first = cache.parse(b"SELECT 1", &settings("a"), &catalogue);
    assert!(Arc::ptr_eq(&first, &cache.parse(b"SELECT 1", &settings("a"), &catalogue)));
    assert!(!Arc::ptr_eq(&first, &cache.parse(b"SELECT 2", &settings("a"), &catalogue)));
    assert!(!Arc::ptr_eq(&first, &cache.parse(b"SELECT 1", &settings("b"), &catalogue)));
    let newer = Catalogue::new(1, super::super::catalogue::Snapshot::default());
    assert!(!Arc::ptr_eq(&first, &cache.parse(b"SELECT 1", &settings("a"), &newer)));
    let with_names = catalogue.with_created(["public.t".to_owned()]);
    assert!(!Arc::ptr_eq(&first, &cache.parse(b"SELECT 1", &settings("a"), &with_names)));
}

#[test]
fn memory_is_bounded_and_what_is_asked_for_stays() {
    let cache = Cache::new(64 * 1024);
    let catalogue = Catalogue::builtin();
    let settings = settings("a");
    let kept = cache.parse(b"SELECT 'kept'", &settings, &catalogue);
    for number in 0..200 {
        cache.parse(format!("SELECT {number}").as_bytes(), &settings, &catalogue);
        assert!(Arc::ptr_eq(&kept, &cache.parse(b"SELECT 'kept'", &settings, &catalogue)));
    }
    let held: usize = cache
        .shards
        .iter()
        .map(|shard| {
            let shard = shard.lock().unwrap();
            shard.young.values().chain(shard.old.values()).map(|entry| entry.cost).sum::<usize>()
        })
        .sum();
    assert!(held <= 64 * 1024, "{held}");
    let long = format!("SELECT '{}'", "x".repeat(LONGEST_BYTES));
    let first = cache.parse(long.as_bytes(), &settings, &catalogue);
    assert!(!Arc::ptr_eq(&first, &cache.parse(long.as_bytes(), &settings, &catalogue)));
}
