//! Segments as bytes: their names, their lines, and what follows the last line.
//!
//! A segment is lines, then zeros up to the end of the file. Sealed segments have no zeros; what
//! else follows the last line is a torn write, or worse.

use std::io::{self, Read};
use std::ops::Range;

use super::record::MAX_LINE;
use crate::digest::{Digest, Hasher};

/// Name of the segment whose first record is `seq`.
pub(crate) fn segment_name(seq: u64) -> String {
    format!("{seq:020}.jsonl")
}

/// The first record of the segment of that name; `None` when it is no segment's name.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".jsonl")?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// Reads lines with bounded memory, whatever the file holds.
pub(crate) struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that are read and not yet consumed.
    filled: Range<usize>,
    /// Place in the file of the first byte not yet consumed.
    offset: u64,
    ended: bool,
}

/// What follows the last line of a segment, zeros at the end left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: Digest,
    /// Zeros that follow.
    pub(crate) zeros: u64,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; 4 * (MAX_LINE + 1)], filled: 0..0, offset: 0, ended: false }
    }

    /// Place in the file of the line that [`Lines::peek`] shows.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line without its line feed; `None` where no line of the allowed length follows.
    pub(crate) fn peek(&mut self) -> io::Result<Option<&[u8]>> {
        let mut searched = 0;
        let length = loop {
            let unread = self.unread();
            if unread.first() == Some(&0) {
                return Ok(None);
            }
            if let Some(at) = memchr::memchr(b'\n', unread.get(searched..).unwrap_or_default()) {
                break searched + at;
            }
            searched = unread.len();
            if searched > MAX_LINE || !self.fill()? {
                return Ok(None);
            }
        };
        Ok(self.unread().get(..length).filter(|line| line.len() <= MAX_LINE))
    }

    /// Consumes the line that [`Lines::peek`] showed, of that length.
    pub(crate) fn advance(&mut self, length: usize) {
        self.consume(length + 1);
    }

    /// Reads what is left, from the line that was not consumed on.
    pub(crate) fn tail(mut self) -> io::Result<Tail> {
        let offset = self.offset;
        let (mut hasher, mut bytes, mut zeros) = (Hasher::new(), 0_u64, 0_u64);
        loop {
            let unread = self.buffer.get(self.filled.clone()).unwrap_or_default();
            let used = unread.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let (data, padding) = unread.split_at_checked(used).unwrap_or_default();
            if !data.is_empty() {
                while zeros > 0 {
                    let run = zeros.min(4096);
                    hasher.update([0; 4096].get(..usize::try_from(run).unwrap_or(0)).unwrap_or_default());
                    (zeros, bytes) = (zeros - run, bytes + run);
                }
                hasher.update(data);
                bytes += data.len() as u64;
            }
            zeros += padding.len() as u64;
            self.consume(unread.len());
            if !self.fill()? {
                return Ok(Tail { offset, bytes, sha256: hasher.finish(), zeros });
            }
        }
    }

    fn unread(&self) -> &[u8] {
        self.buffer.get(self.filled.clone()).unwrap_or_default()
    }

    fn consume(&mut self, bytes: usize) {
        self.filled.start = self.filled.end.min(self.filled.start + bytes);
        self.offset += bytes as u64;
    }

    /// Reads more; false at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        if self.filled.end == self.buffer.len() {
            self.buffer.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        while !self.ended {
            match self.reader.read(self.buffer.get_mut(self.filled.end..).unwrap_or_default()) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    self.filled.end += count;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
