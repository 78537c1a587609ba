//! Statements that came before, so that a repeated one costs a hash and a comparison.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use super::{Catalogue, Parsed, Settings, parse};

/// Parsed strings by their bytes and all that decides their meaning. Bounded by bytes; shared by sessions.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Two generations each: what the older one holds and nobody asks for again goes with it.
    shards: Vec<Mutex<Generations>>,
    hasher: RandomState,
    limit_bytes: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, Entry>,
    old: HashMap<u64, Entry>,
    young_bytes: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    sql: Arc<[u8]>,
    settings: Arc<Settings>,
    version: u64,
    created: Arc<BTreeSet<String>>,
    parsed: Arc<Parsed>,
    cost: usize,
}

impl Entry {
    /// A hash may be shared by two keys: only a comparison of all of it is an answer.
    fn is_for(&self, sql: &[u8], settings: &Settings, catalogue: &Catalogue) -> bool {
        *self.sql == *sql
            && self.version == catalogue.version()
            && *self.settings == *settings
            && self.created == *catalogue.created()
    }
}

const SHARDS: usize = 16;
/// Longest string kept; longer ones are bulk data, not statements that come again.
const LONGEST_BYTES: usize = 16 * 1024;
/// A parsed statement is about that many times its text.
const GROWTH: usize = 12;
const ENTRY_BYTES: usize = 1024;

impl Cache {
    /// A cache that holds about `limit_bytes` of memory.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), limit_bytes: limit_bytes / SHARDS / 2 }
    }

    /// [`parse`], or what it gave before.
    pub(crate) fn parse(&self, sql: &[u8], settings: &Arc<Settings>, catalogue: &Catalogue) -> Arc<Parsed> {
        if sql.len() > LONGEST_BYTES {
            return Arc::new(parse(sql, settings, catalogue));
        }
        let hash = self.hasher.hash_one((sql, &**settings, catalogue.version(), catalogue.created()));
        let Some(shard) = self.shards.get(usize::try_from(hash % SHARDS as u64).unwrap_or(0)) else {
            return Arc::new(parse(sql, settings, catalogue));
        };
        if let Some(parsed) = find(
            &mut shard.lock().unwrap_or_else(PoisonError::into_inner),
            hash,
            |entry| entry.is_for(sql, settings, catalogue),
            self.limit_bytes,
        ) {
            return parsed;
        }
        // Not under the lock: a second session may parse the same meanwhile, which costs only that.
        let parsed = Arc::new(parse(sql, settings, catalogue));
        let entry = Entry {
            sql: sql.into(),
            settings: Arc::clone(settings),
            version: catalogue.version(),
            created: Arc::clone(catalogue.created()),
            parsed: Arc::clone(&parsed),
            cost: sql.len().saturating_mul(GROWTH).saturating_add(ENTRY_BYTES),
        };
        shard.lock().unwrap_or_else(PoisonError::into_inner).keep(hash, entry, self.limit_bytes);
        parsed
    }
}

fn find(shard: &mut Generations, hash: u64, is_it: impl Fn(&Entry) -> bool, limit_bytes: usize) -> Option<Arc<Parsed>> {
    if let Some(entry) = shard.young.get(&hash).filter(|entry| is_it(entry)) {
        return Some(Arc::clone(&entry.parsed));
    }
    let entry = shard.old.remove(&hash).filter(is_it)?;
    let parsed = Arc::clone(&entry.parsed);
    shard.keep(hash, entry, limit_bytes);
    Some(parsed)
}

impl Generations {
    fn keep(&mut self, hash: u64, entry: Entry, limit_bytes: usize) {
        if self.young_bytes.saturating_add(entry.cost) > limit_bytes {
            self.old = mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes = self.young_bytes.saturating_add(entry.cost);
        if let Some(before) = self.young.insert(hash, entry) {
            self.young_bytes = self.young_bytes.saturating_sub(before.cost);
        }
    }
}

#[cfg(test)]
mod tests;
