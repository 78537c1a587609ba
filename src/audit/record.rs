//! One record: what is written about one event, and its one spelling as a line.
//!
//! A record is built from named values; the writer gives it its place in the log and its line. Each
//! member is put into its RFC 8785 spelling and its place among the others the moment it is added, so
//! that writing the line is copying a few runs of them.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;

use serde_json::Value;

use super::spelling::{
    write_address, write_decimal, write_digest, write_integer, write_member, write_texts, write_value,
};
use crate::digest::{Digest, sha256, write_json_string};
use crate::time::Timestamp;

/// Longest line, without its line feed: the entry limit of the tile format for transparency logs.
pub(crate) const MAX_LINE: usize = 65_535;

/// Version of the record form, in every record's `v`.
pub(crate) const VERSION: u64 = 1;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// What a record is about. `docs/audit-format.md` lists the fields of each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The record's `type`.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    ActionApproved = "action.approved",
    ActionCancelled = "action.cancelled",
    ActionDenied = "action.denied",
    ActionExpired = "action.expired",
    ActionForward = "action.forward",
    ActionHeld = "action.held",
    ActionJoined = "action.joined",
    /// A read of what a held request would change.
    ActionLook = "action.look",
    ActionOutcome = "action.outcome",
    ActionOutcomeUnknown = "action.outcome_unknown",
    ActionPassed = "action.passed",
    ActionRefused = "action.refused",
    ActionSuperseded = "action.superseded",
    ActionWithdrawn = "action.withdrawn",
    ApprovalModified = "approval.modified",
    /// What it would change is not what was shown: it waits for verdicts on that.
    ApprovalOutdated = "approval.outdated",
    ApprovalRefused = "approval.refused",
    ApprovalVote = "approval.vote",
    ConfigChange = "config.change",
    /// More of what the segment before left open; follows `log.segment` directly.
    LogCarried = "log.carried",
    LogClose = "log.close",
    /// The disk is full: from here on only outcomes of what already runs are recorded.
    LogFull = "log.full",
    LogOpen = "log.open",
    LogRecovered = "log.recovered",
    /// The first record of every segment but the first.
    LogSegment = "log.segment",
    PolicyChange = "policy.change",
}

/// A record before it has a place in the log.
///
/// Member names are lower snake case and unique, and none of those the writer sets (`cut`, `log`,
/// `prev`, `seq`, `ts`, `type`, `v`); a name given twice keeps its last value. Members given in the
/// order of their names cost least.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    kind: Kind,
    /// `"name":value,` of each member, in the order of their names.
    text: String,
    members: Vec<Member>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    name: &'static str,
    /// Where its piece of the text ends, and the next one's begins.
    end: usize,
}

/// Where a record stands in its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The log's origin as a JSON string literal.
    pub(crate) log_literal: &'a str,
    pub(crate) seq: u64,
    pub(crate) prev: &'a Digest,
    /// The moment in RFC 3339.
    pub(crate) ts: &'a str,
}

impl Record {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with_capacity(kind, 512)
    }

    /// A record whose members take about so many bytes.
    pub(crate) fn with_capacity(kind: Kind, bytes: usize) -> Self {
        Self { kind, text: String::with_capacity(bytes), members: Vec::with_capacity(16) }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// UTF-8 of any content.
    #[must_use]
    pub(crate) fn text(self, name: &'static str, value: impl AsRef<str>) -> Self {
        self.member(name, |text| write_json_string(value.as_ref(), text))
    }

    #[must_use]
    pub(crate) fn text_if(self, name: &'static str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    #[must_use]
    pub(crate) fn digest(self, name: &'static str, value: Digest) -> Self {
        self.member(name, |text| write_digest(value, text))
    }

    #[must_use]
    pub(crate) fn digest_if(self, name: &'static str, value: Option<Digest>) -> Self {
        match value {
            Some(value) => self.digest(name, value),
            None => self,
        }
    }

    #[must_use]
    pub(crate) fn address(self, name: &'static str, value: IpAddr) -> Self {
        self.member(name, |text| write_address(value, text))
    }

    #[must_use]
    pub(crate) fn integer(self, name: &'static str, value: i64) -> Self {
        self.member(name, |text| write_integer(value, text))
    }

    #[must_use]
    pub(crate) fn integer_if(self, name: &'static str, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.integer(name, value),
            None => self,
        }
    }

    #[must_use]
    pub(crate) fn timestamp(self, name: &'static str, value: Timestamp) -> Self {
        self.text(name, value.rfc3339())
    }

    #[must_use]
    pub(crate) fn texts<T: AsRef<str>>(self, name: &'static str, texts: impl IntoIterator<Item = T>) -> Self {
        self.member(name, |text| write_texts(texts, text))
    }

    /// Any JSON. Numbers that are no exact integers become text: see `docs/audit-format.md`.
    #[must_use]
    pub(crate) fn json(self, name: &'static str, value: &Value) -> Self {
        self.member(name, |text| write_value(value, text))
    }

    /// A member whose value `write` appends, in its RFC 8785 spelling.
    #[must_use]
    pub(crate) fn member(mut self, name: &'static str, write: impl FnOnce(&mut String)) -> Self {
        debug_assert!(is_member_name(name), "`{name}` is no member name");
        debug_assert!(!self.has(name), "`{name}` is set twice");
        let start = self.text.len();
        write_member(name, &mut self.text, write);
        if self.members.last().is_none_or(|last| last.name < name) {
            self.members.push(Member { name, end: self.text.len() });
        } else {
            let piece = self.text.split_off(start);
            self.put_in_order(name, &piece);
        }
        self
    }

    /// This record with the members of another; of two of one name the other's counts. For several that come
    /// late this costs less than putting each in its place.
    #[must_use]
    pub(crate) fn with(self, more: &Self) -> Self {
        let mut merged = Self {
            kind: self.kind,
            text: String::with_capacity(self.text.len() + more.text.len()),
            members: Vec::with_capacity(self.members.len() + more.members.len()),
        };
        let (mut ours, mut theirs) = (0, 0);
        loop {
            let (from, at) = match (self.members.get(ours), more.members.get(theirs)) {
                (Some(our), Some(their)) if our.name == their.name => {
                    ours += 1;
                    continue;
                }
                (Some(our), their) if their.is_none_or(|their| our.name < their.name) => (&self, &mut ours),
                (_, Some(_)) => (more, &mut theirs),
                (_, None) => return merged,
            };
            let piece = from.piece(*at);
            merged.text.push_str(from.text.get(piece).unwrap_or_default());
            let end = merged.text.len();
            merged.members.extend(from.members.get(*at).map(|it| Member { name: it.name, end }));
            *at += 1;
        }
    }

    /// Bytes this record keeps in memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        self.text.len() + 512
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.name == name)
    }

    /// The text of a member, when it has one.
    pub(crate) fn find_text(&self, name: &str) -> Option<Cow<'_, str>> {
        let at = self.members.binary_search_by(|member| member.name.cmp(name)).ok()?;
        let value = self.text.get(self.piece(at))?.get(name.len() + 3..)?.strip_suffix(',')?;
        match value.strip_prefix('"')?.strip_suffix('"')? {
            plain if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
            _ => serde_json::from_str(value).ok().map(Cow::Owned),
        }
    }

    /// Appends the record's line, without line feed, at most [`MAX_LINE`] bytes: what does not fit
    /// is replaced by its size and hash, largest member first, and named in `cut`.
    pub(crate) fn write_line(mut self, place: &Place<'_>, line: &mut String) {
        // The members the writer sets: names, punctuation, a hash, a sequence number.
        let fixed = 160 + place.log_literal.len() + place.ts.len() + self.kind.as_str().len();
        if fixed + 8 + self.text.len() > MAX_LINE {
            self.cut(fixed);
        }
        line.reserve(fixed + self.text.len());
        let mut rest = Pieces { record: &self, next: 0, start: 0 };
        line.push('{');
        line.push_str(rest.before("log"));
        write_member("log", line, |line| line.push_str(place.log_literal));
        line.push_str(rest.before("prev"));
        write_member("prev", line, |line| write_digest(*place.prev, line));
        line.push_str(rest.before("seq"));
        write_member("seq", line, |line| write_integer(i64::try_from(place.seq).unwrap_or(i64::MAX), line));
        line.push_str(rest.before("ts"));
        write_member("ts", line, |line| {
            line.push('"');
            line.push_str(place.ts);
            line.push('"');
        });
        line.push_str(rest.before("type"));
        write_member("type", line, |line| write_json_string(self.kind.as_str(), line));
        line.push_str(rest.before("v"));
        write_member("v", line, |line| write_decimal(VERSION, 1, line));
        line.push_str(self.text.get(rest.start..).unwrap_or_default());
        line.pop();
        line.push('}');
    }

    /// Where the member of that index stands in the text.
    fn piece(&self, index: usize) -> Range<usize> {
        let end = |index: usize| self.members.get(index).map_or(self.text.len(), |member| member.end);
        index.checked_sub(1).map_or(0, end)..end(index)
    }

    /// Puts the piece of a member into its place; takes that of an earlier one with its name.
    fn put_in_order(&mut self, name: &'static str, piece: &str) {
        let at = self.members.partition_point(|member| member.name < name);
        let mut old = self.piece(at);
        if self.members.get(at).is_none_or(|member| member.name != name) {
            old.end = old.start;
            self.members.insert(at, Member { name, end: old.start });
        }
        self.text.replace_range(old.clone(), piece);
        for member in self.members.iter_mut().skip(at) {
            member.end = member.end + piece.len() - old.len();
        }
    }

    /// Replaces the largest members until the line fits; `fixed` is the size of what is not theirs.
    fn cut(&mut self, fixed: usize) {
        let mut cut: Vec<&'static str> = Vec::new();
        loop {
            let names: usize = cut.iter().map(|name| name.len() + 3).sum();
            if fixed + names + 8 + self.text.len() <= MAX_LINE {
                break;
            }
            let uncut = (0..self.members.len()).filter_map(|at| Some((at, self.members.get(at)?.name)));
            let uncut = uncut.filter(|(_, name)| !cut.contains(name));
            let Some((at, name)) = uncut.max_by_key(|(at, _)| self.piece(*at).len()) else { break };
            let piece = self.text.get(self.piece(at)).unwrap_or_default();
            let value = piece.get(name.len() + 3..).and_then(|value| value.strip_suffix(',')).unwrap_or_default();
            let mut replacement = String::new();
            write_member(name, &mut replacement, |text| text.push_str(&cut_value(value)));
            self.put_in_order(name, &replacement);
            cut.push(name);
        }
        if !cut.is_empty() {
            cut.sort_unstable();
            let mut piece = String::new();
            write_member("cut", &mut piece, |text| write_texts(cut, text));
            self.put_in_order("cut", &piece);
        }
    }
}

/// The members of a record, taken in runs.
struct Pieces<'r> {
    record: &'r Record,
    /// Index of the next member, and where its piece begins.
    next: usize,
    start: usize,
}

impl<'r> Pieces<'r> {
    /// The pieces of the members that come before a name.
    fn before(&mut self, name: &str) -> &'r str {
        let start = self.start;
        while let Some(member) = self.record.members.get(self.next).filter(|member| member.name < name) {
            self.next += 1;
            self.start = member.end;
        }
        self.record.text.get(start..self.start).unwrap_or_default()
    }
}

/// What stands for a value that is too long: size and hash of a text's UTF-8 bytes, or of any
/// other value's RFC 8785 form.
fn cut_value(value: &str) -> String {
    let text = serde_json::from_str::<String>(value);
    let bytes = text.as_deref().unwrap_or(value).as_bytes();
    format!("{{\"bytes\":{},\"sha256\":\"{}\"}}", bytes.len(), sha256(bytes))
}

fn is_member_name(name: &str) -> bool {
    let reserved = ["cut", "log", "prev", "seq", "ts", "type", "v"];
    !reserved.contains(&name)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests;
