//! What a verifier checks, as a fold over the log's lines: the caller reads the files.
//!
//! A log is whole when every record follows the one before (`seq`, `prev`), every segment begins
//! where the one before ends and says so (`log.segment`), and the tree passes through every
//! checkpoint held against it. Records after the last checkpoint are chained but not yet signed
//! for; how many is part of the answer. So is what cannot be seen from here: without a checkpoint
//! kept elsewhere, a log cut back to an old checkpoint of its own looks like a younger log.

use serde::{Deserialize, Serialize};

use super::chain::{Chain, Entry};
use super::checkpoint::Checkpoint;
use super::line::{Tail, segment_name};
use super::tree::Frontier;
use crate::digest::Digest;

/// A checkpoint that the log must agree with, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) source: String,
    pub(crate) checkpoint: Checkpoint,
}

/// The first thing found wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// File of the log it is in.
    pub(crate) file: String,
    /// The record: the one that is bad, or the first that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<u64>,
    /// Place of its line in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<u64>,
    pub(crate) reason: String,
}

/// A log that is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Whole {
    pub(crate) records: u64,
    /// Records under the log's own checkpoint.
    pub(crate) covered: u64,
    /// Root hash over all records.
    pub(crate) root: String,
    /// Moment of the last record.
    pub(crate) last_ts: Option<String>,
    /// Bytes after the last record that are none: a write under way, or torn by a crash.
    pub(crate) torn_bytes: u64,
}

/// Checks one log, line by line.
#[derive(Debug)]
pub(crate) struct Verifier {
    chain: Chain,
    /// Records under the log's own checkpoint.
    covered: u64,
    /// Checkpoints the tree has yet to pass through, smallest last.
    anchors: Vec<Anchor>,
    /// Size of the last one it passed through.
    agreed: Option<u64>,
    segment: Segment,
    /// A `log.open` that the checkpoint does not cover.
    uncovered_open: Option<u64>,
    last_ts: Option<String>,
    torn_bytes: u64,
}

/// The segment being read.
#[derive(Debug)]
struct Segment {
    name: String,
    first: u64,
    /// The tree before it.
    before: Frontier,
    /// Place of the line being read, or of what follows the last.
    offset: u64,
}

impl Verifier {
    /// `own` is the log's checkpoint; `anchors` are others, in any order. All are known to be
    /// signed by the log's key.
    pub(crate) fn new(own: Anchor, mut anchors: Vec<Anchor>) -> Self {
        let covered = own.checkpoint.size;
        let chain = Chain::start(&own.checkpoint.origin);
        anchors.push(own);
        anchors.sort_by_key(|anchor| std::cmp::Reverse(anchor.checkpoint.size));
        Self {
            segment: Segment { name: segment_name(0), first: 0, before: chain.frontier().clone(), offset: 0 },
            chain,
            covered,
            anchors,
            agreed: None,
            uncovered_open: None,
            last_ts: None,
            torn_bytes: 0,
        }
    }

    /// Begins a segment; they come in the order of their names.
    pub(crate) fn begin_segment(&mut self, first: u64) -> Result<(), Finding> {
        self.check_anchors()?;
        let expected = self.chain.size();
        let before = self.chain.frontier().clone();
        self.segment = Segment { name: segment_name(first), first, before, offset: 0 };
        if first > expected {
            let reason = format!("records {expected} to {} are missing before it", first - 1);
            return Err(self.finding(expected, reason));
        }
        if first < expected {
            return Err(self.finding(first, format!("it begins at {first}, which the segment before it already holds")));
        }
        if first > self.covered {
            // A segment is begun only after a checkpoint over all that lies before it is durable.
            return Err(self.old_checkpoint(format!("a segment begins at {first}")));
        }
        Ok(())
    }

    /// Takes the line at a place of the segment.
    pub(crate) fn line(&mut self, offset: u64, line: &[u8]) -> Result<(), Finding> {
        self.segment.offset = offset;
        let seq = self.chain.size();
        let entry = match self.chain.accept(line) {
            Ok(entry) => entry,
            Err(error) => return Err(self.finding(seq, error.to_string())),
        };
        let Entry { kind, ts, .. } = entry;
        self.last_ts = Some(ts.into_owned());
        if let Some(open) = self.uncovered_open.filter(|_| kind != "log.open" && kind != "log.recovered") {
            // The writer takes nothing after `log.open` before a checkpoint over it is durable; only another
            // start, after a crash in the first, can come before.
            return Err(self.old_checkpoint(format!("record {open} opened the log and others follow")));
        }
        if kind == "log.open" && seq >= self.covered {
            self.uncovered_open.get_or_insert(seq);
        }
        self.check_header(seq, &kind, line)?;
        self.check_anchors()
    }

    /// Ends a segment: `tail` is what follows its last line.
    pub(crate) fn end_segment(&mut self, tail: &Tail, is_last: bool) -> Result<(), Finding> {
        self.segment.offset = tail.offset;
        let seq = self.chain.size();
        if !is_last && (tail.bytes > 0 || tail.zeros > 0) {
            return Err(self.finding(seq, "the segment does not end with a record, though another follows".to_owned()));
        }
        if tail.bytes > 0 && seq < self.anchors.first().map_or(0, |anchor| anchor.checkpoint.size) {
            return Err(
                self.finding(seq, "it is not a record: it has no end, is too long, or begins with zeros".to_owned())
            );
        }
        self.torn_bytes = tail.bytes;
        Ok(())
    }

    /// Ends the log.
    pub(crate) fn finish(mut self) -> Result<Whole, Finding> {
        self.check_anchors()?;
        if let Some(anchor) = self.anchors.first() {
            let reason = format!(
                "the log ends before this record, but {} was signed for {} records",
                anchor.source, anchor.checkpoint.size
            );
            return Err(self.finding(self.chain.size(), reason));
        }
        Ok(Whole {
            records: self.chain.size(),
            covered: self.covered,
            root: self.chain.frontier().root().hex(),
            last_ts: self.last_ts,
            torn_bytes: self.torn_bytes,
        })
    }

    /// The first record of a segment repeats the tree before it, so that a start need not read further back.
    fn check_header(&self, seq: u64, kind: &str, line: &[u8]) -> Result<(), Finding> {
        if kind != "log.segment" {
            if seq == self.segment.first && seq > 0 {
                return Err(self.finding(seq, "a segment must begin with `log.segment`".to_owned()));
            }
            return Ok(());
        }
        if seq != self.segment.first {
            return Err(self.finding(seq, "a `log.segment` stands only at the beginning of a segment".to_owned()));
        }
        #[derive(Deserialize)]
        struct Header {
            frontier: Vec<String>,
        }
        let header: Option<Header> = serde_json::from_slice(line).ok();
        let before = self.segment.before.peaks().iter().map(Digest::hex);
        if header.is_none_or(|header| !before.eq(header.frontier)) {
            return Err(self.finding(seq, "its `frontier` is not the tree before its segment".to_owned()));
        }
        Ok(())
    }

    /// Holds the tree against every checkpoint of its present size.
    fn check_anchors(&mut self) -> Result<(), Finding> {
        while let Some(anchor) = self.anchors.pop_if(|anchor| anchor.checkpoint.size == self.chain.size()) {
            if anchor.checkpoint.root != self.chain.frontier().root() {
                let (first, last) = (self.agreed.unwrap_or(0), self.chain.size().saturating_sub(1));
                let which = if first < last { format!("one of {first} to {last}") } else { format!("record {last}") };
                let reason = format!("{} was signed for other records: {which} is not what was written", anchor.source);
                return Err(self.finding(last, reason));
            }
            self.agreed = Some(anchor.checkpoint.size);
        }
        Ok(())
    }

    fn old_checkpoint(&self, why: String) -> Finding {
        let reason = format!("it covers {} records, but {why}: an old checkpoint was put in its place", self.covered);
        Finding { file: "checkpoint".to_owned(), seq: None, offset: None, reason }
    }

    fn finding(&self, seq: u64, reason: String) -> Finding {
        Finding { file: self.segment.name.clone(), seq: Some(seq), offset: Some(self.segment.offset), reason }
    }
}

#[cfg(test)]
mod tests;
