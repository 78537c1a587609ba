//! The chain: each record names its place and the hash of the one before it.

use std::borrow::Cow;

use serde::Deserialize;

use super::record::VERSION;
use super::tree::{Frontier, chain_start, leaf_hash};
use crate::digest::Digest;

/// The members that every record has, as read back; others are let through unread.
#[derive(Debug, Deserialize)]
pub(crate) struct Entry<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    prev: Cow<'a, str>,
    pub(crate) seq: u64,
    #[serde(borrow)]
    pub(crate) ts: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    v: u64,
}

/// Why a line is not the next record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Break {
    #[error("it is not a record: {0}")]
    Form(String),
    #[error("it belongs to the log `{0}`")]
    Log(String),
    #[error("its `prev` is not the hash of the record before it")]
    Prev,
    #[error("its `seq` is {0}, expected {1}")]
    Seq(u64, u64),
    #[error("its form is version {0}, this program reads version {VERSION}: use a newer one")]
    Version(u64),
}

/// Follows a log record by record.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    origin: String,
    /// Leaf hash of the last record.
    prev: Digest,
    frontier: Frontier,
}

impl Chain {
    /// Before the first record of a log.
    pub(crate) fn start(origin: &str) -> Self {
        Self::resume(origin, chain_start(origin), Frontier::default())
    }

    /// After some records: `prev` is the leaf hash of the last.
    pub(crate) fn resume(origin: &str, prev: Digest, frontier: Frontier) -> Self {
        Self { origin: origin.to_owned(), prev, frontier }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// When the line is not the record that follows; the chain is unchanged then.
    pub(crate) fn accept<'a>(&mut self, line: &'a [u8]) -> Result<Entry<'a>, Break> {
        let entry: Entry<'a> = serde_json::from_slice(line).map_err(|error| Break::Form(error.to_string()))?;
        if entry.v != VERSION {
            return Err(Break::Version(entry.v));
        }
        if entry.log != self.origin {
            return Err(Break::Log(entry.log.into_owned()));
        }
        if entry.seq != self.frontier.size() {
            return Err(Break::Seq(entry.seq, self.frontier.size()));
        }
        if Digest::parse(&entry.prev) != Some(self.prev) {
            return Err(Break::Prev);
        }
        self.push(leaf_hash(line));
        Ok(entry)
    }

    /// Takes a record that the caller made for this place, by its leaf hash.
    pub(crate) fn push(&mut self, leaf: Digest) {
        self.prev = leaf;
        self.frontier.push(leaf);
    }

    pub(crate) fn prev(&self) -> &Digest {
        &self.prev
    }

    pub(crate) fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Records so far: the next record's `seq`.
    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }
}
