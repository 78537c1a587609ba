//! Reads a server's stream by the headers of its messages, in slices as they arrive: passes on what
//! nobody asked for, counts rows without decoding them, hands out whole the messages that were
//! asked for, and stops before a row that is one too many.
//!
//! INVARIANT (nothing is lost or added): the passed slices and the messages handed out, in order,
//! are the stream. At the end of a slice at most the beginning of a header, or of a message that was
//! asked for, is kept back.

use bytes::BytesMut;

use super::backend::{Frame, Header, kind};
use super::{FrameError, HEADER_LEN};

/// A set of message types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds(u128);

impl Kinds {
    pub(crate) const fn of(kinds: &[u8]) -> Self {
        let mut set = 0;
        let mut rest = kinds;
        while let [first, others @ ..] = rest {
            if *first < 128 {
                set |= 1 << *first;
            }
            rest = others;
        }
        Self(set)
    }

    pub(crate) const fn has(self, kind: u8) -> bool {
        kind < 128 && self.0 >> kind & 1 == 1
    }
}

/// What went by that can carry data: rows are DataRow and CopyData messages, bytes also those of the result
/// of a function call, notices, errors, notifications and parameters, into which a server may put any text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) rows: u64,
    /// Bytes of their contents: without the messages' own headers.
    pub(crate) bytes: u64,
}

impl Count {
    /// What one message counts.
    fn of(header: Header) -> Self {
        let rows = match header.kind {
            kind::DATA_ROW | kind::COPY_DATA => 1,
            _ if CARRIERS.has(header.kind) => 0,
            _ => return Self::default(),
        };
        Self { rows, bytes: header.len.saturating_sub(HEADER_LEN) as u64 }
    }

    fn plus(self, other: Self) -> Self {
        Self { rows: self.rows.saturating_add(other.rows), bytes: self.bytes.saturating_add(other.bytes) }
    }

    fn is_within(self, limit: Self) -> bool {
        self.rows <= limit.rows && self.bytes <= limit.bytes
    }
}

/// Messages that carry data without being rows.
const CARRIERS: Kinds = Kinds::of(b"AENSV");

/// No limit.
const UNLIMITED: Count = Count { rows: u64::MAX, bytes: u64::MAX };

/// What comes next in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Bytes to pass on: messages nobody asked for, or parts of them.
    Pass(&'a [u8]),
    /// A message that was asked for, whole.
    Message(Frame<'a>),
    /// A message that was asked for but is longer than what is kept; its bytes are passed next.
    Long(Header),
    /// The next message that counts would go past the limit. It is not taken before the limit is raised.
    Full(Count),
}

/// The place in a server's stream.
#[derive(Debug)]
pub(crate) struct Tally {
    wanted: Kinds,
    /// Longest message handed out whole, in bytes.
    keep: usize,
    limit: Count,
    count: Count,
    /// The beginning of a header, or of a message that was asked for.
    kept: BytesMut,
    /// What of `kept` goes out with the next piece, and is dropped then.
    spent: usize,
    /// How many bytes of the message that is being passed are to come.
    left: usize,
}

impl Tally {
    /// Hands out messages of the `wanted` types that have at most `keep` bytes.
    pub(crate) fn new(wanted: Kinds, keep: usize) -> Self {
        Self { wanted, keep, limit: UNLIMITED, count: Count::default(), kept: BytesMut::new(), spent: 0, left: 0 }
    }

    /// Asks for other types from the next message on whose header is not read yet.
    pub(crate) fn want(&mut self, wanted: Kinds) {
        self.wanted = wanted;
    }

    /// Rows since the last [`Tally::restart`], each counted when its header is read.
    pub(crate) fn count(&self) -> Count {
        self.count
    }

    /// Counts from zero again, up to `limit`.
    pub(crate) fn restart(&mut self, limit: Option<Count>) {
        self.count = Count::default();
        self.limit = limit.unwrap_or(UNLIMITED);
    }

    /// Whether what was handed out so far ends with a message: only then may another be put in.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.left == 0
    }

    /// The next piece, taken from the front of `bytes`; `None` when all of it was taken. To be called
    /// until it says so, except after [`Piece::Full`], which it repeats while the limit stays.
    ///
    /// # Errors
    /// When the stream is none of a server: nothing can be said of it from here on.
    pub(crate) fn next<'t, 'b: 't>(&'t mut self, bytes: &mut &'b [u8]) -> Result<Option<Piece<'t>>, FrameError> {
        if self.spent > 0 {
            self.kept.clear();
            self.spent = 0;
        }
        if self.left > 0 {
            return Ok(self.pass(bytes));
        }
        if self.kept.is_empty() { self.over_slice(bytes) } else { self.over_kept(bytes) }
    }

    /// Goes over whole headers within the slice.
    fn over_slice<'t, 'b: 't>(&'t mut self, bytes: &mut &'b [u8]) -> Result<Option<Piece<'t>>, FrameError> {
        let all = *bytes;
        let mut at = 0;
        loop {
            let ahead = all.get(at..).unwrap_or_default();
            let Some(header) = ahead.first_chunk() else { break };
            let header = Header::read(*header)?;
            match self.judge(header) {
                Way::Pass => {
                    self.note(header);
                    at = at.saturating_add(header.len);
                    if at > all.len() {
                        self.left = at - all.len();
                        *bytes = &[];
                        return Ok(Some(Piece::Pass(all)));
                    }
                }
                // What lies before it goes first.
                _ if at > 0 => break,
                Way::HandOut => {
                    let Some((raw, rest)) = ahead.split_at_checked(header.len) else { break };
                    self.note(header);
                    *bytes = rest;
                    return Ok(Some(Piece::Message(Frame { kind: header.kind, raw })));
                }
                Way::Announce => {
                    self.note(header);
                    self.left = header.len;
                    return Ok(Some(Piece::Long(header)));
                }
                Way::Stop(next) => return Ok(Some(Piece::Full(next))),
            }
        }
        let (passed, rest) = all.split_at_checked(at).unwrap_or((all, &[]));
        *bytes = rest;
        if !passed.is_empty() {
            return Ok(Some(Piece::Pass(passed)));
        }
        self.kept.extend_from_slice(rest);
        *bytes = &[];
        Ok(None)
    }

    /// Completes the header, or the message, of which the beginning came before.
    fn over_kept<'t, 'b: 't>(&'t mut self, bytes: &mut &'b [u8]) -> Result<Option<Piece<'t>>, FrameError> {
        self.fill(HEADER_LEN, bytes);
        let Some(header) = self.kept.first_chunk() else { return Ok(None) };
        let header = Header::read(*header)?;
        match self.judge(header) {
            Way::Stop(next) => Ok(Some(Piece::Full(next))),
            Way::HandOut => {
                self.fill(header.len, bytes);
                if self.kept.len() < header.len {
                    return Ok(None);
                }
                self.note(header);
                self.spent = self.kept.len();
                Ok(Some(Piece::Message(Frame { kind: header.kind, raw: &self.kept })))
            }
            Way::Announce => {
                self.note(header);
                self.left = header.len;
                Ok(Some(Piece::Long(header)))
            }
            Way::Pass => {
                self.note(header);
                self.left = header.len;
                Ok(self.pass(bytes))
            }
        }
    }

    /// The next bytes of a message that is passed, first those of it that were kept.
    fn pass<'t, 'b: 't>(&'t mut self, bytes: &mut &'b [u8]) -> Option<Piece<'t>> {
        if !self.kept.is_empty() {
            self.spent = self.kept.len();
            self.left = self.left.saturating_sub(self.spent);
            return Some(Piece::Pass(&self.kept));
        }
        let (passed, rest) = bytes.split_at_checked(self.left).unwrap_or((bytes, &[]));
        self.left -= passed.len();
        *bytes = rest;
        (!passed.is_empty()).then_some(Piece::Pass(passed))
    }

    fn fill(&mut self, len: usize, bytes: &mut &[u8]) {
        let missing = len.saturating_sub(self.kept.len());
        let (taken, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.kept.extend_from_slice(taken);
        *bytes = rest;
    }

    fn judge(&self, header: Header) -> Way {
        let next = Count::of(header);
        if next != Count::default() && !self.count.plus(next).is_within(self.limit) {
            return Way::Stop(next);
        }
        match self.wanted.has(header.kind) {
            true if header.len <= self.keep => Way::HandOut,
            true => Way::Announce,
            false => Way::Pass,
        }
    }

    /// Counts a message; once, when it is taken.
    fn note(&mut self, header: Header) {
        self.count = self.count.plus(Count::of(header));
    }
}

/// What is done with a message.
enum Way {
    Announce,
    HandOut,
    Pass,
    Stop(Count),
}

#[cfg(test)]
mod tests;
