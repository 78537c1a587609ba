//! Reading a log back before it is written to: what is whole, what a crash tore, what is damaged.
//!
//! | found | done |
//! |---|---|
//! | bytes after the last record, none of them under the checkpoint | cut, and told of in `log.recovered` |
//! | a last segment whose first records (what is carried over) are not all there | cut whole: nobody was answered for it |
//! | a break under the checkpoint, or fewer records than it | refused |
//! | another root than the checkpoint's, another key, no checkpoint | refused |
//! | more damage than one write can leave | refused |
//!
//! INVARIANT (refusal): nothing is changed on disk before the whole judgement is made.

use std::fs::File;
use std::path::Path;

use super::carry::{Carry, Forward, Header};
use super::{BATCH_LIMIT, Recovered, io_error};
use super::{Damage, OpenError};
use crate::audit::chain::Chain;
use crate::audit::checkpoint::{Checkpoint, VerifyingKey};
use crate::audit::line::{Lines, Tail, parse_segment_name, segment_name};
use crate::audit::record::{Kind, MAX_LINE};
use crate::audit::tree::leaf_hash;
use crate::digest::Digest;
use crate::time::Timestamp;

/// A log as it was found.
pub(super) struct Found {
    /// First record of the segment to go on with.
    pub(super) segment: u64,
    /// Bytes of it to keep.
    pub(super) keep: u64,
    pub(super) chain: Chain,
    pub(super) carry: Carry,
    pub(super) checkpoint: Checkpoint,
    pub(super) torn: Option<Torn>,
    pub(super) recovered: Recovered,
}

/// What is cut because a crash tore it.
pub(super) struct Torn {
    pub(super) segment: String,
    pub(super) tail: Tail,
    /// The segment goes as a whole.
    pub(super) whole: bool,
}

/// One segment, read to its end or to its first break.
struct Scan {
    first: u64,
    chain: Chain,
    carry: Carry,
    header: Option<Header>,
    /// `log.carried` records still to come.
    parts_missing: u64,
    signatures: Vec<(Digest, Timestamp)>,
    tail: Tail,
    /// What is wrong with the first line that is not a record.
    reason: Option<String>,
}

/// Reads the log in `dir`; `None` when it has no records yet.
pub(super) fn find(dir: &Path, key: &VerifyingKey, now: Timestamp) -> Result<Option<Found>, OpenError> {
    let checkpoint = read_checkpoint(dir, key)?;
    let segments = list_segments(dir)?;
    let Some(last) = segments.last().copied() else {
        return match checkpoint.size {
            0 => Ok(None),
            size => Err(damaged(dir, None, format!("all segments are gone, {size} records were in them"))),
        };
    };
    let before = |first: u64| segments.iter().rev().find(|it| **it < first).copied();
    let mut scan = scan(dir, key.name(), last, before(last), &checkpoint)?;
    let mut torn = (scan.tail.bytes > 0).then(|| torn(&scan, false));
    if scan.header.is_none() || scan.parts_missing > 0 {
        // A crash while the segment was begun: the one before is whole and says everything.
        if checkpoint.size > last {
            return Err(broken(dir, &scan, "the records that begin the segment are missing".to_owned()));
        }
        if let Some(previous) = before(last) {
            torn = Some(whole_file(dir, last)?);
            scan = self::scan(dir, key.name(), previous, before(previous), &checkpoint)?;
            if scan.tail.bytes > 0 {
                return Err(broken(dir, &scan, scan.reason.clone().unwrap_or_default()));
            }
        }
    }
    check_end(dir, &scan, &checkpoint)?;
    let mut signatures = scan.signatures;
    let mut first = scan.first;
    let mut until = scan.header.as_ref().and_then(Header::signatures_until);
    while let Some(previous) = before(first).filter(|_| until.is_some_and(|until| until > now)) {
        let older = self::scan(dir, key.name(), previous, before(previous), &checkpoint)?;
        if older.chain.size() != first || older.tail.bytes > 0 {
            return Err(broken(dir, &older, older.reason.clone().unwrap_or_else(|| "records are missing".to_owned())));
        }
        (first, until) = (previous, older.header.as_ref().and_then(Header::signatures_until));
        signatures.extend(older.signatures);
    }
    signatures.retain(|(_, expires)| *expires > now);
    let recovered = Recovered { open_forwards: scan.carry.clone().into_open_forwards(), signatures };
    let (segment, keep, chain, carry) = (scan.first, scan.tail.offset, scan.chain, scan.carry);
    Ok(Some(Found { segment, keep, chain, carry, checkpoint, torn, recovered }))
}

/// All segments by their first record, in order.
pub(super) fn list_segments(dir: &Path) -> Result<Vec<u64>, OpenError> {
    let entries = std::fs::read_dir(dir).map_err(|source| io_error("list", dir, source))?;
    let mut segments = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| io_error("list", dir, source))?;
        segments.extend(entry.file_name().to_str().and_then(parse_segment_name));
    }
    segments.sort_unstable();
    Ok(segments)
}

fn read_checkpoint(dir: &Path, key: &VerifyingKey) -> Result<Checkpoint, OpenError> {
    let path = dir.join("checkpoint");
    let note = match std::fs::read_to_string(&path) {
        Ok(note) => note,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(damaged(&path, None, "the checkpoint is missing".to_owned()));
        }
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => String::new(),
        Err(source) => return Err(io_error("read", &path, source)),
    };
    key.open(&note).map_err(|error| damaged(&path, None, error.to_string()))
}

fn scan(
    dir: &Path,
    origin: &str,
    first: u64,
    previous: Option<u64>,
    checkpoint: &Checkpoint,
) -> Result<Scan, OpenError> {
    let path = dir.join(segment_name(first));
    let mut lines = open_lines(&path)?;
    let failed = |source| io_error("read", &path, source);
    let (mut header, mut chain) = (None, Chain::start(origin));
    let mut carry = Carry::default();
    if first > 0 {
        let prev = match previous {
            Some(previous) => last_leaf(dir, previous)?,
            None => return Err(damaged(&path, None, "the segment before it is missing".to_owned())),
        };
        // The tree before this segment stands in its first record, which the chain then proves.
        let line = lines.peek().map_err(failed)?.unwrap_or_default();
        header = serde_json::from_slice::<Header>(line).ok();
        let frontier = header.as_ref().and_then(|header| header.frontier(first)).filter(|it| it.size() > 0);
        header = header.filter(|_| frontier.is_some());
        chain = Chain::resume(origin, prev, frontier.unwrap_or_default());
    }
    let mut scan = Scan {
        first,
        parts_missing: header.as_ref().map_or(0, |header| header.parts),
        chain,
        carry: std::mem::take(&mut carry),
        header,
        signatures: Vec::new(),
        tail: Tail { offset: 0, bytes: 0, sha256: leaf_hash(b""), zeros: 0 },
        reason: None,
    };
    if scan.first == 0 {
        scan.header = serde_json::from_str("{\"forwards\":[]}").ok();
    }
    if scan.header.is_some() {
        scan.read_lines(&mut lines, &path, checkpoint)?;
    }
    scan.tail = lines.tail().map_err(failed)?;
    if scan.tail.bytes > 0 && scan.reason.is_none() {
        scan.reason = Some("it has no end".to_owned());
    }
    Ok(scan)
}

impl Scan {
    fn read_lines(&mut self, lines: &mut Lines<File>, path: &Path, checkpoint: &Checkpoint) -> Result<(), OpenError> {
        check_root(path, &self.chain, checkpoint)?;
        while let Some(line) = lines.peek().map_err(|source| io_error("read", path, source))? {
            let kind = match self.chain.accept(line) {
                Ok(entry) => entry.kind.into_owned(),
                Err(error) => {
                    self.reason = Some(error.to_string());
                    break;
                }
            };
            self.note(&kind, line);
            let length = line.len();
            lines.advance(length);
            check_root(path, &self.chain, checkpoint)?;
        }
        Ok(())
    }

    fn note(&mut self, kind: &str, line: &[u8]) {
        match kind {
            "action.forward" | "action.outcome" | "action.outcome_unknown" => {
                let forward = serde_json::from_slice::<Forward>(line).unwrap_or_default();
                self.signatures.extend(self.carry.note(kind, &forward));
            }
            "log.segment" | "log.carried" => {
                if let Ok(header) = serde_json::from_slice::<Header>(line) {
                    self.carry.note_header(header);
                }
                if kind == Kind::LogCarried.as_str() {
                    self.parts_missing = self.parts_missing.saturating_sub(1);
                }
            }
            _ => {}
        }
    }
}

/// The tree must pass through the checkpoint.
fn check_root(path: &Path, chain: &Chain, checkpoint: &Checkpoint) -> Result<(), OpenError> {
    if chain.size() == checkpoint.size && chain.frontier().root() != checkpoint.root {
        let reason = format!("the {} records up to here are not those the checkpoint was signed for", chain.size());
        return Err(damaged(path, chain.size().checked_sub(1), reason));
    }
    Ok(())
}

fn check_end(dir: &Path, scan: &Scan, checkpoint: &Checkpoint) -> Result<(), OpenError> {
    let size = scan.chain.size();
    if checkpoint.size < scan.first {
        // A checkpoint is durable before the segment after it is begun.
        let reason =
            format!("it covers {} records, the log has {size}: an old one was put in its place", checkpoint.size);
        return Err(damaged(&dir.join("checkpoint"), None, reason));
    }
    if size < checkpoint.size {
        let reason = match &scan.reason {
            Some(reason) => reason.clone(),
            None => format!("the log ends here, the checkpoint covers {} records", checkpoint.size),
        };
        return Err(broken(dir, scan, reason));
    }
    if scan.tail.bytes > BATCH_LIMIT as u64 + 2 * MAX_LINE as u64 {
        let reason = scan.reason.clone().unwrap_or_default();
        return Err(broken(dir, scan, format!("{reason}; {} bytes follow, more than a crash leaves", scan.tail.bytes)));
    }
    Ok(())
}

/// Leaf hash of a sealed segment's last record.
fn last_leaf(dir: &Path, first: u64) -> Result<Digest, OpenError> {
    let path = dir.join(segment_name(first));
    let bytes = read_end(&path, MAX_LINE as u64 + 2).map_err(|source| io_error("read", &path, source))?;
    let line = bytes.strip_suffix(b"\n").and_then(|bytes| bytes.rsplit(|byte| *byte == b'\n').next());
    match line {
        Some(line) => Ok(leaf_hash(line)),
        None => Err(damaged(&path, None, "it does not end with a record".to_owned())),
    }
}

fn read_end(path: &Path, length: u64) -> std::io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(length)))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn whole_file(dir: &Path, first: u64) -> Result<Torn, OpenError> {
    let path = dir.join(segment_name(first));
    let tail = open_lines(&path)?.tail().map_err(|source| io_error("read", &path, source))?;
    Ok(Torn { segment: segment_name(first), tail, whole: true })
}

fn torn(scan: &Scan, whole: bool) -> Torn {
    Torn { segment: segment_name(scan.first), tail: scan.tail.clone(), whole }
}

fn open_lines(path: &Path) -> Result<Lines<File>, OpenError> {
    let file = File::open(path).map_err(|source| io_error("open", path, source))?;
    Ok(Lines::new(file))
}

fn broken(dir: &Path, scan: &Scan, reason: String) -> OpenError {
    damaged(
        &dir.join(segment_name(scan.first)),
        Some(scan.chain.size()),
        format!("at byte {}: {reason}", scan.tail.offset),
    )
}

fn damaged(file: &Path, seq: Option<u64>, reason: String) -> OpenError {
    OpenError::Damaged(Damage { file: file.to_owned(), seq, reason })
}
