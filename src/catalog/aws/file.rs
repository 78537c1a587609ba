//! The file a table is read from: magic, length of the index, and zlib streams of JSON.
//!
//! `generate/aws.py` writes it and says how. The built-in one is trusted to read, a test proves it; any
//! other is read whole and checked before it is used, so that it either serves or is refused with the
//! place of its mistake. Sizes are bounded before anything is unpacked.

use std::borrow::Cow;
use std::io::Read as _;
use std::sync::PoisonError;

use hashbrown::HashMap;
use serde::Deserialize;

use super::operation::OperationRow;
use super::shape::ShapeRow;
use super::{Partition, ServiceEntry, ServiceNumber, Table};
use crate::digest::sha256;

pub(super) const BUILT_IN: &[u8] = include_bytes!("../data/aws.bin");

/// Why a file is no table.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{origin}` is no table of AWS facts: {place}{what}\n  help: take the file that comes with a release, or make one \
     with `make facts`; countersign does not use a part of a table"
)]
pub(crate) struct FactsError {
    origin: String,
    place: String,
    what: String,
}

/// A table from the bytes of a file, for the life of the process; the same one where it was read before.
///
/// # Errors
/// When anything in it is not as it should be.
pub(crate) fn read(bytes: Vec<u8>, origin: &str) -> Result<&'static Table, FactsError> {
    let malformed = |Mistake { place, what }| FactsError { origin: origin.to_owned(), place, what: what.into_owned() };
    if let Some(known) = super::known(sha256(&bytes)) {
        return Ok(known);
    }
    check(&bytes).map_err(malformed)?;
    let table = read_for_good(bytes.leak(), origin).map_err(malformed)?;
    super::READ.lock().unwrap_or_else(PoisonError::into_inner).push(table);
    Ok(table)
}

/// A table from bytes that are known to be one.
pub(super) fn read_for_good(bytes: &'static [u8], origin: &str) -> Result<&'static Table, Mistake> {
    let (index, blocks) = parts(bytes)?;
    let text = unpack(index, "the index")?;
    let index = parse::<Index<'static>>(Box::leak(text.into_boxed_str()), "the index")?;
    Ok(Box::leak(Box::new(Table::new(index, sha256(bytes), origin.to_owned(), blocks))))
}

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Mistake {
    place: String,
    what: Cow<'static, str>,
}

fn mistake<T>(place: &str, what: impl Into<Cow<'static, str>>) -> Result<T, Mistake> {
    let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
    Err(Mistake { place, what: what.into() })
}

/// A table that names nothing.
pub(super) fn empty() -> &'static Table {
    Box::leak(Box::new(Table::new(Index::default(), sha256(b""), "empty".to_owned(), &[])))
}

#[derive(Default, Deserialize)]
pub(super) struct Index<'t> {
    #[serde(borrow)]
    pub(super) sources: Vec<&'t str>,
    pub(super) partitions: Vec<Partition<'t>>,
    pub(super) services: Vec<ServiceEntry<'t>>,
    pub(super) hosts: std::collections::HashMap<&'t str, Vec<ServiceNumber>>,
    pub(super) names: (usize, usize),
}

/// A service's operations and shapes.
#[derive(Deserialize)]
pub(super) struct Block<'t> {
    #[serde(borrow)]
    pub(super) ops: Vec<OperationRow<'t>>,
    pub(super) shapes: Vec<ShapeRow<'t>>,
}

impl Block<'static> {
    /// The block at that place, for good.
    pub(super) fn read(blocks: &'static [u8], at: (usize, usize)) -> Option<Self> {
        let text = unpack(slice(blocks, at)?, "").ok()?;
        parse(Box::leak(text.into_boxed_str()), "").ok()
    }
}

/// Operations by IAM prefix.
pub(super) fn names(blocks: &'static [u8], at: (usize, usize)) -> HashMap<String, Vec<String>> {
    let text = slice(blocks, at).and_then(|packed| unpack(packed, "").ok());
    let names: Option<std::collections::HashMap<String, Vec<String>>> =
        text.and_then(|text| serde_json::from_str(&text).ok());
    names.unwrap_or_default().into_iter().collect()
}

/// Reads all of a file, and checks what the JSON's types do not: numbers that refer to something, and texts that
/// requests are compared with.
fn check(bytes: &[u8]) -> Result<(), Mistake> {
    if bytes.len() as u64 > FILE_LIMIT {
        return mistake("", format!("it is larger than {} MiB", FILE_LIMIT >> 20));
    }
    let (packed, blocks) = parts(bytes)?;
    let text = unpack(packed, "the index")?;
    let index: Index<'_> = parse(&text, "the index")?;
    check_index(&index)?;
    let mut ids = std::collections::HashSet::new();
    for entry in &index.services {
        let place = format!("service `{}`", entry.id);
        if !is_plain(entry.id) || !is_plain(entry.prefix) || !ids.insert(entry.id) {
            return mistake(&place, "its id or IAM prefix is malformed or given twice");
        }
        let Some(packed) = slice(blocks, entry.at) else { return mistake(&place, "its block is not in the file") };
        check_block(&unpack(packed, &place)?, &place)?;
    }
    let Some(packed) = slice(blocks, index.names) else { return mistake("the names", "they are not in the file") };
    let text = unpack(packed, "the names")?;
    parse::<std::collections::HashMap<&str, Vec<&str>>>(&text, "the names").map(drop)
}

fn check_index(index: &Index<'_>) -> Result<(), Mistake> {
    let count = index.services.len();
    if index.sources.is_empty() || index.partitions.is_empty() || count == 0 || count > SERVICE_LIMIT {
        return mistake("the index", "it has no sources, no partitions, or no sensible number of services");
    }
    if let Some((host, _)) = index.hosts.iter().find(|(_, services)| {
        services.is_empty()
            || services.len() > SERVICES_OF_ONE_HOST
            || services.iter().any(|it| usize::from(*it) >= count)
    }) {
        return mistake("the index", format!("the host `{}` has services that are not there", host.escape_debug()));
    }
    match index.partitions.iter().find(|it| it.suffix.is_empty() || it.dual.is_empty() || !it.suffix.contains('.')) {
        Some(partition) => {
            mistake("the index", format!("partition `{}` has no DNS suffix", partition.id.escape_debug()))
        }
        None => Ok(()),
    }
}

fn check_block(text: &str, place: &str) -> Result<(), Mistake> {
    let block: Block<'_> = parse(text, place)?;
    let count = block.shapes.len();
    if let Some(number) = block.shapes.iter().position(|shape| !shape.is_sound(count)) {
        return mistake(place, format!("shape {number} is of no known kind or refers to a shape that is not there"));
    }
    let is_structure = |number: usize| block.shapes.get(number).is_some_and(ShapeRow::is_structure);
    match block.ops.iter().find_map(|row| Some((row.name, row.mistake(is_structure)?))) {
        Some((name, what)) => mistake(place, format!("operation `{}`: {what}", name.escape_debug())),
        None => Ok(()),
    }
}

/// The packed index and the blocks behind it.
fn parts(bytes: &[u8]) -> Result<(&[u8], &[u8]), Mistake> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        let is_other = bytes.starts_with(MAGIC.get(..5).unwrap_or_default());
        return mistake("", if is_other { "it is of another version" } else { "it does not begin as one" });
    };
    let split = rest
        .split_first_chunk::<4>()
        .and_then(|(length, rest)| rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?));
    split.map_or_else(|| mistake("the index", "the file ends in it"), Ok)
}

fn slice(blocks: &[u8], (offset, length): (usize, usize)) -> Option<&[u8]> {
    blocks.get(offset..)?.get(..length)
}

fn unpack(packed: &[u8], place: &str) -> Result<String, Mistake> {
    let mut text = String::new();
    let decoder = flate2::read::ZlibDecoder::new(packed);
    match decoder.take(TEXT_LIMIT + 1).read_to_string(&mut text) {
        Err(error) => mistake(place, format!("it cannot be unpacked: {error}")),
        Ok(_) if text.len() as u64 > TEXT_LIMIT => {
            mistake(place, format!("it is larger than {} MiB", TEXT_LIMIT >> 20))
        }
        Ok(_) => Ok(text),
    }
}

fn parse<'t, T: Deserialize<'t>>(text: &'t str, place: &str) -> Result<T, Mistake> {
    // The error says line and column of the unpacked text.
    serde_json::from_str(text).or_else(|error| mistake(place, error.to_string()))
}

fn is_plain(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

const MAGIC: &[u8] = b"CSAWS03\n";

/// Largest file; that of the end of 2026 has 1.3 MB.
pub(crate) const FILE_LIMIT: u64 = 16 << 20;
/// Largest unpacked index or block; those of the end of 2026 have less than 2 MB.
const TEXT_LIMIT: u64 = 32 << 20;
const SERVICE_LIMIT: usize = 10_000;
/// So many services under one host would make naming slow; the most there are is 4.
const SERVICES_OF_ONE_HOST: usize = 64;

#[cfg(test)]
mod tests;
