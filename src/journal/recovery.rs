//! Reading a log back before it is written to: what is whole, what a crash tore, what is damaged.
//!
//! | found | done |
//! |---|---|
//! | a torn end, none of it under the checkpoint | cut, and told of in `log.recovered` |
//! | a last segment whose first records (what is carried over) are torn | cut whole: nobody was answered for it |
//! | a line that is whole and not the next record | refused |
//! | a break under the checkpoint, or fewer records than it | refused |
//! | another root than the checkpoint's, another key, no checkpoint | refused |
//! | more torn than one write can tear | refused |
//!
//! A crash leaves parts of its last write as the zeros that were there before, or ends the file: so
//! a line is torn when it has a zero in it or no end. No crash puts other bytes in a line.
//!
//! INVARIANT (refusal): nothing is changed on disk before the whole judgement is made.

use std::fs::File;
use std::path::Path;

use super::carry::{Carry, Forward, Header};
use super::{Damage, OpenError};
use super::{Recovered, io_error};
use crate::audit::chain::Chain;
use crate::audit::checkpoint::{Checkpoint, VerifyingKey};
use crate::audit::line::{Lines, Tail, parse_segment_name, segment_name};
use crate::audit::record::MAX_LINE;
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

/// One segment, read to its end or to where it is torn.
struct Scan {
    first: u64,
    chain: Chain,
    carry: Carry,
    header: Option<Header>,
    /// `log.carried` records still to come.
    parts_missing: u64,
    signatures: Vec<(Digest, Timestamp)>,
    /// A `log.open` that the checkpoint does not cover.
    uncovered_open: Option<u64>,
    tail: Tail,
}

const TORN: &str = "the record is torn";

/// Reads the log in `dir`; `None` when it has no records yet. `batch_room` is the most that one write can leave torn.
pub(super) fn find(
    dir: &Path,
    key: &VerifyingKey,
    batch_room: u64,
    now: Timestamp,
) -> Result<Option<Found>, OpenError> {
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
    let mut torn =
        (scan.tail.bytes > 0).then(|| Torn { segment: segment_name(last), tail: scan.tail.clone(), whole: false });
    if scan.is_unbegun() && checkpoint.size <= last {
        // A crash while the segment was begun: the one before is whole and says everything.
        if let Some(previous) = before(last) {
            torn = Some(whole_file(dir, last)?);
            scan = self::scan(dir, key.name(), previous, before(previous), &checkpoint)?;
            if scan.tail.bytes > 0 {
                return Err(broken(dir, &scan, TORN.to_owned()));
            }
        }
    }
    check_end(dir, &scan, &checkpoint, batch_room)?;
    let mut signatures = scan.signatures;
    let mut first = scan.first;
    let mut until = scan.header.as_ref().and_then(Header::signatures_until);
    while let Some(previous) = before(first).filter(|_| until.is_some_and(|until| until > now)) {
        let older = self::scan(dir, key.name(), previous, before(previous), &checkpoint)?;
        if older.chain.size() != first || older.tail.bytes > 0 {
            return Err(broken(dir, &older, format!("it ends here, but the next segment begins at {first}")));
        }
        (first, until) = (previous, older.header.as_ref().and_then(Header::signatures_until));
        signatures.extend(older.signatures);
    }
    let expired = signatures.iter().map(|(_, expires)| *expires).chain(until).filter(|expires| *expires <= now);
    let forgotten_until = expired.max().unwrap_or_default();
    signatures.retain(|(_, expires)| *expires > now);
    let open_forwards = scan.carry.clone().into_open_forwards();
    let recovered = Recovered { open_forwards, signatures, forgotten_until };
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
    let checkpoint = key.open(&note).map_err(|error| damaged(&path, None, error.to_string()))?;
    // A copy is kept only after the checkpoint itself is in place.
    match newest_kept(dir)? {
        Some(kept) if kept > checkpoint.size => {
            Err(old_checkpoint(dir, &checkpoint, &format!("one for {kept} records was kept")))
        }
        _ => Ok(checkpoint),
    }
}

/// Size of the largest checkpoint that was kept.
fn newest_kept(dir: &Path) -> Result<Option<u64>, OpenError> {
    let kept = dir.join("checkpoints");
    let entries = match std::fs::read_dir(&kept) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|source| io_error("list", &kept, source))?,
    };
    let mut newest = None;
    for entry in entries {
        let entry = entry.map_err(|source| io_error("list", &kept, source))?;
        newest = newest.max(entry.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    Ok(newest)
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
    if first > 0 {
        let Some(previous) = previous else {
            return Err(damaged(&path, None, "the segment before it is missing".to_owned()));
        };
        // The tree before this segment stands in its first record, which chain and checkpoint then prove.
        if let Some(line) = lines.peek().map_err(failed)?.filter(|line| !is_torn(line)) {
            let read = Header::read(line).and_then(|header| Some((header.frontier(first)?, header)));
            let Some((frontier, read)) = read else {
                return Err(damaged(
                    &path,
                    Some(first),
                    "it is not the `log.segment` that begins a segment".to_owned(),
                ));
            };
            chain = Chain::resume(origin, last_leaf(dir, previous)?, frontier);
            header = Some(read);
        }
    }
    let tail = Tail { offset: 0, bytes: 0, sha256: leaf_hash(b""), zeros: 0 };
    let parts_missing = header.as_ref().map_or(0, |header| header.parts);
    let mut scan = Scan {
        first,
        chain,
        carry: Carry::default(),
        header,
        parts_missing,
        signatures: Vec::new(),
        uncovered_open: None,
        tail,
    };
    if first == 0 || scan.header.is_some() {
        scan.read_lines(&mut lines, dir, checkpoint)?;
    }
    scan.tail = lines.tail().map_err(failed)?;
    Ok(scan)
}

impl Scan {
    /// True when the records that begin a segment are not all there.
    fn is_unbegun(&self) -> bool {
        self.first > 0 && (self.header.is_none() || self.parts_missing > 0)
    }

    fn read_lines(&mut self, lines: &mut Lines<File>, dir: &Path, checkpoint: &Checkpoint) -> Result<(), OpenError> {
        let path = dir.join(segment_name(self.first));
        check_root(&path, &self.chain, checkpoint)?;
        while let Some(line) = lines.peek().map_err(|source| io_error("read", &path, source))? {
            if is_torn(line) {
                break;
            }
            let (seq, length) = (self.chain.size(), line.len());
            let kind = self.chain.accept(line).map(|entry| entry.kind.into_owned()).map_err(|error| error.to_string());
            let is_start = matches!(kind.as_deref(), Ok("log.open" | "log.recovered"));
            if let Some(open) = self.uncovered_open.filter(|_| !is_start) {
                // Only another start, after a crash in the first, can be before a checkpoint over it.
                return Err(old_checkpoint(dir, checkpoint, &format!("records follow the start at {open}")));
            }
            let opens = kind.as_deref() == Ok("log.open") && seq >= checkpoint.size;
            if let Err(reason) = kind.and_then(|kind| self.note(&kind, line)) {
                return Err(damaged(&path, Some(seq), format!("at byte {}: {reason}", lines.offset())));
            }
            self.uncovered_open = self.uncovered_open.or(opens.then_some(seq));
            lines.advance(length);
            check_root(&path, &self.chain, checkpoint)?;
        }
        Ok(())
    }

    fn note(&mut self, kind: &str, line: &[u8]) -> Result<(), String> {
        match kind {
            "log.segment" | "log.carried" => {
                let header = Header::read(line).ok_or("it does not say what is carried over")?;
                self.carry.note_header(header);
                self.parts_missing -= u64::from(kind == "log.carried").min(self.parts_missing);
            }
            _ if self.parts_missing > 0 => return Err("`log.carried` records are missing before it".to_owned()),
            "action.forward" | "action.outcome" | "action.outcome_unknown" => {
                let forward = serde_json::from_slice::<Forward<'_>>(line).map_err(|error| error.to_string())?;
                self.signatures.extend(self.carry.note(kind, forward));
            }
            _ => {}
        }
        Ok(())
    }
}

/// True for a line that a crash may have left: part of it was not written.
fn is_torn(line: &[u8]) -> bool {
    line.contains(&0)
}

/// The tree must pass through the checkpoint.
fn check_root(path: &Path, chain: &Chain, checkpoint: &Checkpoint) -> Result<(), OpenError> {
    if chain.size() == checkpoint.size && chain.frontier().root() != checkpoint.root {
        let reason = format!("the {} records up to here are not those the checkpoint was signed for", chain.size());
        return Err(damaged(path, chain.size().checked_sub(1), reason));
    }
    Ok(())
}

fn check_end(dir: &Path, scan: &Scan, checkpoint: &Checkpoint, batch_room: u64) -> Result<(), OpenError> {
    let size = scan.chain.size();
    if checkpoint.size < scan.first {
        // A checkpoint is durable before the segment after it is begun.
        return Err(old_checkpoint(dir, checkpoint, &format!("a segment begins at {}", scan.first)));
    }
    if size < checkpoint.size {
        let torn = if scan.tail.bytes > 0 { TORN } else { "there is no record" };
        return Err(broken(dir, scan, format!("{torn}, but the checkpoint covers {} records", checkpoint.size)));
    }
    if scan.tail.bytes > batch_room {
        return Err(broken(
            dir,
            scan,
            format!("{TORN}, and so are {} bytes: more than a crash tears", scan.tail.bytes),
        ));
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

fn old_checkpoint(dir: &Path, checkpoint: &Checkpoint, why: &str) -> OpenError {
    let reason = format!("it covers {} records, but {why}: an old one was put in its place", checkpoint.size);
    damaged(&dir.join("checkpoint"), None, reason)
}

fn damaged(file: &Path, seq: Option<u64>, reason: String) -> OpenError {
    OpenError::Damaged(Damage { file: file.to_owned(), seq, reason })
}
