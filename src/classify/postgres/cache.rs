//! Statements that came before, so that a repeated one costs a hash and a comparison.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

use super::shape::{self, Shape};
use super::{Catalogue, Parsed, Settings, naming};

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
    /// A text, or the shape of many.
    key: Arc<[u8]>,
    is_shape: bool,
    /// The text that was parsed.
    sql: Arc<[u8]>,
    settings: Arc<Settings>,
    version: u64,
    created: Arc<BTreeSet<String>>,
    parsed: Arc<Parsed>,
    cost: usize,
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Question<'a> {
    key: &'a [u8],
    is_shape: bool,
    settings: &'a Arc<Settings>,
    catalogue: &'a Catalogue,
}

impl Entry {
    /// A hash may be shared by two keys: only a comparison of all of it is an answer.
    fn answers(&self, question: Question<'_>) -> bool {
        *self.key == *question.key
            && self.is_shape == question.is_shape
            && self.version == question.catalogue.version()
            && (Arc::ptr_eq(&self.settings, question.settings) || *self.settings == **question.settings)
            && self.created == *question.catalogue.created()
    }
}

const SHARDS: usize = 16;
/// Longest string kept; longer ones are bulk data, not statements that come again.
pub(crate) const LONGEST_BYTES: usize = 16 * 1024;
/// A parsed statement is about that many times its text.
const GROWTH: usize = 12;
const ENTRY_BYTES: usize = 1024;

impl Cache {
    /// A cache that holds about `limit_bytes` of memory.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), limit_bytes: limit_bytes / SHARDS / 2 }
    }

    /// [`super::parse`], or what it gave before for the text or for another of its shape.
    pub(crate) fn parse(&self, sql: &[u8], settings: &Arc<Settings>, catalogue: &Catalogue) -> Arc<Parsed> {
        if sql.len() > LONGEST_BYTES {
            return Arc::new(super::parse(sql, settings, catalogue));
        }
        let shape = Shape::of(sql);
        if let Some(shape) = &shape
            && let Some((before, parsed)) =
                self.find(Question { key: shape.key(), is_shape: true, settings, catalogue })
        {
            if *before == *sql {
                return parsed;
            }
            if let Some(parsed) = shape::filled(&parsed, &before, sql, shape) {
                return Arc::new(parsed);
            }
        }
        let question = Question { key: sql, is_shape: false, settings, catalogue };
        if let Some((_, parsed)) = self.find(question) {
            return parsed;
        }
        // Not under the lock: a second session may parse the same meanwhile, which costs only that.
        let (parsed, is_open) = naming::parse_shaped(sql, settings, catalogue, shape.as_ref());
        let parsed = Arc::new(parsed);
        match shape.filter(|_| is_open) {
            Some(shape) => self.keep(Question { key: shape.key(), is_shape: true, ..question }, sql, &parsed),
            None => self.keep(question, sql, &parsed),
        }
        parsed
    }

    /// The text that was parsed, and what that gave.
    fn find(&self, question: Question<'_>) -> Option<(Arc<[u8]>, Arc<Parsed>)> {
        let hash = self.hash(question);
        self.shard(hash)?.find(hash, question, self.limit_bytes)
    }

    fn keep(&self, question: Question<'_>, sql: &[u8], parsed: &Arc<Parsed>) {
        let sql: Arc<[u8]> = sql.into();
        let entry = Entry {
            key: if question.is_shape { question.key.into() } else { Arc::clone(&sql) },
            is_shape: question.is_shape,
            settings: Arc::clone(question.settings),
            version: question.catalogue.version(),
            created: Arc::clone(question.catalogue.created()),
            parsed: Arc::clone(parsed),
            cost: sql.len().saturating_mul(GROWTH).saturating_add(ENTRY_BYTES),
            sql,
        };
        let hash = self.hash(question);
        if let Some(mut shard) = self.shard(hash) {
            shard.keep(hash, entry, self.limit_bytes);
        }
    }

    fn hash(&self, Question { key, is_shape, settings, catalogue }: Question<'_>) -> u64 {
        self.hasher.hash_one((key, is_shape, &**settings, catalogue.version(), catalogue.created()))
    }

    fn shard(&self, hash: u64) -> Option<MutexGuard<'_, Generations>> {
        let shard = self.shards.get(usize::try_from(hash % SHARDS as u64).unwrap_or(0))?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Generations {
    fn find(&mut self, hash: u64, question: Question<'_>, limit_bytes: usize) -> Option<(Arc<[u8]>, Arc<Parsed>)> {
        let found = |entry: &Entry| (Arc::clone(&entry.sql), Arc::clone(&entry.parsed));
        if let Some(entry) = self.young.get(&hash).filter(|entry| entry.answers(question)) {
            return Some(found(entry));
        }
        let entry = self.old.remove(&hash).filter(|entry| entry.answers(question))?;
        let answer = found(&entry);
        self.keep(hash, entry, limit_bytes);
        Some(answer)
    }

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
