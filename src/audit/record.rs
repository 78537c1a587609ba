//! One record: what is written about one event, and its one spelling as a line.
//!
//! A record is built from named values; the writer gives it its place in the log and its line. Each
//! value is put into its RFC 8785 spelling the moment it is added, into one buffer, so that writing
//! the line is sorting a dozen names and copying.

use serde_json::{Number, Value};

use crate::digest::{Digest, canonical_json, sha256, write_json_string};
use crate::time::Timestamp;

/// Longest line, without its line feed: the entry limit of the tile format for transparency logs.
pub(crate) const MAX_LINE: usize = 65_535;

/// Version of the record form, in every record's `v`.
pub(crate) const VERSION: u64 = 1;

/// Integers of JSON are exact up to here (RFC 8785 numbers are doubles); larger ones become text.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

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
    ActionOutcome = "action.outcome",
    ActionOutcomeUnknown = "action.outcome_unknown",
    ActionPassed = "action.passed",
    ActionRefused = "action.refused",
    ActionSuperseded = "action.superseded",
    ActionWithdrawn = "action.withdrawn",
    ApprovalModified = "approval.modified",
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
/// `prev`, `seq`, `ts`, `type`, `v`); a name given twice keeps its last value.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    kind: Kind,
    /// The values in their final spelling, one after the other.
    values: String,
    members: Vec<Member>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    name: &'static str,
    start: usize,
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
        Self { kind, values: String::with_capacity(512), members: Vec::with_capacity(16) }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// UTF-8 of any content.
    #[must_use]
    pub(crate) fn text(self, name: &'static str, value: impl AsRef<str>) -> Self {
        self.member(name, |values| write_json_string(value.as_ref(), values))
    }

    #[must_use]
    pub(crate) fn text_if(self, name: &'static str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    #[must_use]
    pub(crate) fn integer(self, name: &'static str, value: i64) -> Self {
        self.member(name, |values| write_integer(value, values))
    }

    #[must_use]
    pub(crate) fn timestamp(self, name: &'static str, value: Timestamp) -> Self {
        self.text(name, value.rfc3339())
    }

    #[must_use]
    pub(crate) fn texts<T: AsRef<str>>(self, name: &'static str, texts: impl IntoIterator<Item = T>) -> Self {
        self.member(name, |values| {
            values.push('[');
            for (index, text) in texts.into_iter().enumerate() {
                if index > 0 {
                    values.push(',');
                }
                write_json_string(text.as_ref(), values);
            }
            values.push(']');
        })
    }

    /// Any JSON. Numbers that are no exact integers become text: see `docs/audit-format.md`.
    #[must_use]
    pub(crate) fn json(self, name: &'static str, mut value: Value) -> Self {
        spell_numbers(&mut value);
        self.member(name, |values| values.push_str(&canonical_json(&value)))
    }

    /// Bytes this record keeps in memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        self.values.len() + 512
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.name == name)
    }

    /// The text of a member, when it has one.
    pub(crate) fn find_text(&self, name: &str) -> Option<String> {
        let member = self.members.iter().rev().find(|member| member.name == name)?;
        serde_json::from_str(self.value(*member)).ok()
    }

    /// Appends the record's line, without line feed, at most [`MAX_LINE`] bytes: what does not fit
    /// is replaced by its size and hash, largest member first, and named in `cut`.
    pub(crate) fn write_line(mut self, place: &Place<'_>, line: &mut Vec<u8>) {
        self.members.reverse();
        self.members.sort_by_key(|member| member.name);
        self.members.dedup_by_key(|member| member.name);
        self.cut(place);
        let mut members = self.members.iter().copied().peekable();
        let prev = place.prev.hex();
        let kind = self.kind.as_str();
        let (log, ts) = (place.log_literal, place.ts);
        let mut seq = String::new();
        write_integer(i64::try_from(place.seq).unwrap_or(i64::MAX), &mut seq);
        let version = VERSION.to_string();
        let fixed = [
            ("log", "", log, ""),
            ("prev", "\"", prev.as_str(), "\""),
            ("seq", "", seq.as_str(), ""),
            ("ts", "\"", ts, "\""),
            ("type", "\"", kind, "\""),
            ("v", "", version.as_str(), ""),
        ];
        line.push(b'{');
        for (name, before, value, after) in fixed {
            while let Some(member) = members.next_if(|member| member.name < name) {
                self.write_member(member, line);
            }
            for piece in ["\"", name, "\":", before, value, after, ","] {
                line.extend_from_slice(piece.as_bytes());
            }
        }
        for member in members {
            self.write_member(member, line);
        }
        line.pop();
        line.push(b'}');
    }

    fn write_member(&self, member: Member, line: &mut Vec<u8>) {
        for piece in ["\"", member.name, "\":", self.value(member), ","] {
            line.extend_from_slice(piece.as_bytes());
        }
    }

    fn value(&self, member: Member) -> &str {
        self.values.get(member.start..member.end).unwrap_or("null")
    }

    fn member(mut self, name: &'static str, write: impl FnOnce(&mut String)) -> Self {
        debug_assert!(is_member_name(name), "`{name}` is no member name");
        debug_assert!(self.members.iter().all(|member| member.name != name), "`{name}` is set twice");
        let start = self.values.len();
        write(&mut self.values);
        self.members.push(Member { name, start, end: self.values.len() });
        self
    }

    /// Replaces the largest members until the line fits. Expects sorted members, keeps them so.
    fn cut(&mut self, place: &Place<'_>) {
        // The members the writer sets: names, punctuation, a hash, a sequence number.
        let fixed = 160 + place.log_literal.len() + place.ts.len() + self.kind.as_str().len();
        let mut cut: Vec<&'static str> = Vec::new();
        loop {
            let names: usize = cut.iter().map(|name| name.len() + 3).sum();
            let size = |member: &Member| member.name.len() + 4 + member.end - member.start;
            let total = fixed + names + 8 + self.members.iter().map(size).sum::<usize>();
            if total <= MAX_LINE {
                break;
            }
            let largest = self.members.iter_mut().filter(|member| !cut.contains(&member.name)).max_by_key(|m| size(m));
            let Some(largest) = largest else { break };
            let value = self.values.get(largest.start..largest.end).unwrap_or_default();
            let replacement = cut_value(value);
            (largest.start, largest.end) = (self.values.len(), self.values.len() + replacement.len());
            self.values.push_str(&replacement);
            cut.push(largest.name);
        }
        if !cut.is_empty() {
            cut.sort_unstable();
            let start = self.values.len();
            self.values.push_str(&canonical_json(&Value::from(cut)));
            let at = self.members.partition_point(|member| member.name < "cut");
            self.members.insert(at, Member { name: "cut", start, end: self.values.len() });
        }
    }
}

/// What stands for a value that is too long: size and hash of a text's UTF-8 bytes, or of any
/// other value's RFC 8785 form.
fn cut_value(value: &str) -> String {
    let text = serde_json::from_str::<String>(value);
    let bytes = text.as_deref().unwrap_or(value).as_bytes();
    format!("{{\"bytes\":{},\"sha256\":\"{}\"}}", bytes.len(), sha256(bytes))
}

fn write_integer(value: i64, text: &mut String) {
    let digits = value.to_string();
    let quote = if value.unsigned_abs() > MAX_SAFE_INTEGER { "\"" } else { "" };
    for piece in [quote, &digits, quote] {
        text.push_str(piece);
    }
}

/// Turns numbers that a reader might round into text.
fn spell_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if !is_exact(number) => *value = Value::String(number.to_string()),
        Value::Array(items) => items.iter_mut().for_each(spell_numbers),
        Value::Object(members) => members.values_mut().for_each(spell_numbers),
        _ => {}
    }
}

fn is_exact(number: &Number) -> bool {
    match (number.as_u64(), number.as_i64()) {
        (Some(n), _) => n <= MAX_SAFE_INTEGER,
        (None, Some(n)) => n.unsigned_abs() <= MAX_SAFE_INTEGER,
        (None, None) => false,
    }
}

fn is_member_name(name: &str) -> bool {
    let reserved = ["cut", "log", "prev", "seq", "ts", "type", "v"];
    !reserved.contains(&name)
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests;
