//! What records hold of a statement, and what proves the rest.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::asking::{Asker, Named};
use super::settings::Settings;
use crate::audit::commitment::{Key, KeyedHasher, Opening, What};
use crate::classify::postgres::{self as classify, BoundValue};
use crate::gate::{Admission, Redaction, Values, Wording};
use crate::id::{ActionId, HoldId};
use crate::journal::openings::{Openings, OpeningsError};

/// What an operator may set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) statements: Statements,
    pub(crate) openings: Kept,
}

/// How statements stand in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Statements {
    /// Without constants and comments.
    #[default]
    Redacted,
    /// As people are shown them.
    Full,
}

/// Whose openings are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Those of statements that a rule matched.
    #[default]
    Matched,
    All,
    None,
}

/// Makes wordings, and keeps what opens them.
pub(crate) struct Words {
    options: Options,
    key: Key,
    /// `None`: none are kept.
    openings: Option<Openings>,
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({:?})", self.options)
    }
}

/// Values whose kind and size a record lists.
const LISTED: usize = 64;

/// A statement's record, and the texts that it commits to.
#[derive(Clone, Debug)]
pub(super) struct Worded {
    pub(super) wording: Wording,
    what: What,
    /// As people are shown it; `None`: as it was sent.
    shown: Option<Arc<str>>,
    values: Vec<u8>,
}

impl Worded {
    /// The values in the form in which they are committed to.
    pub(super) fn values(&self) -> &[u8] {
        &self.values
    }
}

impl Words {
    pub(crate) fn new(options: Options, key: Key, openings: Option<Openings>) -> Self {
        Self { options, key, openings }
    }

    /// For a digest of a request: nobody without the key can try out what was in it.
    pub(super) fn hasher(&self) -> KeyedHasher {
        self.key.hasher()
    }

    /// Whether also those of statements that no rule matched are kept.
    pub(super) fn keeps_all(&self) -> bool {
        self.options.openings == Kept::All
    }

    /// `what`: the statement of the action, or what an approver put in its place.
    pub(super) fn word(
        &self,
        action_id: &ActionId,
        what: What,
        sql: &Bytes,
        known: &classify::Wording,
        values: &[BoundValue<'_>],
    ) -> Worded {
        let shown = known.shown.clone();
        let provable = shown.as_deref().map_or(&**sql, str::as_bytes);
        let is_full = self.options.statements == Statements::Full;
        let text = match is_full {
            true => Some(shown.clone().unwrap_or_else(|| String::from_utf8_lossy(sql).into())),
            false => known.redacted.clone(),
        };
        let framed = framed(values);
        let wording = Wording {
            text,
            bytes: sql.len(),
            commitment: self.key.salt(action_id.as_str(), what).commit(what, provable),
            values: (!values.is_empty()).then(|| Values {
                count: values.len(),
                first: values.iter().take(LISTED).map(|it| (it.type_oid, it.bytes.map(<[u8]>::len))).collect(),
                commitment: self.key.salt(action_id.as_str(), What::Values).commit(What::Values, &framed),
            }),
            redaction: (!is_full).then_some(Redaction { action: classify::recorded, value: classify::recorded_value }),
        };
        Worded { wording, what, shown, values: framed }
    }

    /// The same texts, committed to for another action or purpose.
    pub(super) fn again(&self, worded: &Worded, what: What, action_id: &ActionId, sql: &[u8]) -> Worded {
        let provable = worded.shown.as_deref().map_or(sql, str::as_bytes);
        let salt = |what| self.key.salt(action_id.as_str(), what);
        let mut again = Worded { what, ..worded.clone() };
        again.wording.commitment = salt(what).commit(what, provable);
        if let Some(values) = &mut again.wording.values {
            values.commitment = salt(What::Values).commit(What::Values, &worded.values);
        }
        again
    }

    /// Keeps what opens the record of a statement, where that is kept.
    pub(super) async fn keep(&self, openings: Vec<Opening>) -> Result<(), OpeningsError> {
        match &self.openings {
            Some(file) if !openings.is_empty() => file.keep(&openings).await,
            _ => Ok(()),
        }
    }

    /// What opens the record of a statement; nothing where it is not kept.
    pub(super) fn openings(&self, action_id: &ActionId, sql: &[u8], worded: &Worded) -> Vec<Opening> {
        if self.openings.is_none() {
            return Vec::new();
        }
        let open = |what: What, text: &[u8]| Opening {
            action_id: action_id.as_str().to_owned(),
            what,
            salt: self.key.salt(action_id.as_str(), what),
            text: text.to_vec(),
        };
        let mut openings = vec![open(worded.what, worded.shown.as_deref().map_or(sql, str::as_bytes))];
        if worded.wording.values.is_some() {
            openings.push(open(What::Values, &worded.values));
        }
        openings
    }
}

impl Asker {
    /// What goes behind a statement for the server's own log, where an operator wants that: a comment in the form
    /// of sqlcommenter. On a line of its own, since the text may end in a comment to the end of its line; behind
    /// it, so that the places that the server's errors name stay right. Nothing where the text was not read
    /// whole, and what stands behind it could be a part of it.
    pub(super) fn comment(&self, named: &Named, hold: Option<&HoldId>, settings: &Settings) -> Option<String> {
        (self.comments(settings) && named.is_read())
            .then(|| attribution(Some(named.action_id.as_str()), self.agent.id.as_str(), hold.map(HoldId::as_str)))
    }

    /// The same for a statement that is prepared, and runs any number of times.
    pub(super) fn prepared_comment(&self, sql: &[u8], settings: &Settings) -> Option<String> {
        // What is too long to be kept would be read once more for it.
        (self.comments(settings)
            && sql.len() <= classify::cache::LONGEST_BYTES
            && self.parse(sql, settings).wording.redacted.is_some())
        .then(|| attribution(None, self.agent.id.as_str(), None))
    }

    fn comments(&self, settings: &Settings) -> bool {
        self.plane.options.attribution.comment && !self.is_replication && !settings.is_in_doubt()
    }

    /// Keeps what opens the record of a modification before it runs.
    pub(super) async fn keep_modified(
        &self,
        action_id: &ActionId,
        admission: &Admission,
        settings: &Settings,
    ) -> Result<(), OpeningsError> {
        let Admission::Permitted(permit) = admission else { return Ok(()) };
        let sql = permit.modified().and_then(|parameters| parameters.get("sql")?.as_str());
        let Some(sql) = sql.map(|sql| Bytes::copy_from_slice(sql.as_bytes())) else { return Ok(()) };
        let (parsed, words) = (self.parse(&sql, settings), &self.plane.words);
        let worded = words.word(action_id, What::Modified, &sql, &parsed.wording, &[]);
        words.keep(words.openings(action_id, &sql, &worded)).await
    }
}

fn attribution(action_id: Option<&str>, agent: &str, hold: Option<&str>) -> String {
    let pairs = [("action", action_id), ("agent", Some(agent)), ("hold", hold)];
    let pairs = pairs.into_iter().filter_map(|(key, value)| {
        // Nothing is left that could end the comment or a text.
        Some(format!("{key}='{}'", utf8_percent_encode(value?, NON_ALPHANUMERIC)))
    });
    format!("\n/*{}*/", pairs.collect::<Vec<_>>().join(","))
}

/// Values as they are committed to, each in the form of the wire: format, oid of the type, length (−1 is NULL), bytes.
fn framed(values: &[BoundValue<'_>]) -> Vec<u8> {
    let mut framed = Vec::new();
    for value in values {
        framed.put_u8(u8::from(value.is_binary));
        framed.put_u32(value.type_oid);
        // A message is shorter than two gigabytes.
        framed.put_i32(value.bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX)));
        framed.put_slice(value.bytes.unwrap_or_default());
    }
    framed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::postgres::{Catalogue, Parsed, Settings, Statement, parse};

    /// What was named is what runs: for every text of the table of evasions that the grammar reads.
    #[test]
    fn a_comment_behind_a_text_changes_nothing_of_it() {
        let comment = attribution(Some("a_01"), "bot'*/; DROP TABLE t --", Some("h_01"));
        assert_eq!(comment.matches("*/").count(), 1, "{comment}");
        let table = include_str!("../../../tests/data/postgres-evasion.jsonl");
        let mut texts: Vec<String> = table
            .lines()
            .filter_map(|line| {
                Some(serde_json::from_str::<serde_json::Value>(line).ok()?.get("sql")?.as_str()?.to_owned())
            })
            .collect();
        let traps = [
            "SELECT 1 -- open",
            "SELECT 'a'",
            "SELECT 1;",
            "",
            "SELECT U&'a'",
            "SELECT $$a$$",
            "SELECT 1 /* a */",
            "COPY t FROM STDIN",
        ];
        texts.extend(traps.map(str::to_owned));
        let mut read = 0;
        for sql in texts {
            let name = |sql: &str| parse(sql.as_bytes(), &Settings::default(), &Catalogue::builtin());
            let (before, after) = (name(&sql), name(&format!("{sql}{comment}")));
            if before.wording.redacted.is_none() {
                continue;
            }
            read += 1;
            // The text that PREPARE keeps goes to the end, as the server has it.
            let of = |parsed: &Parsed| -> Vec<_> {
                let actions = |it: &Statement| {
                    it.actions.iter().map(|it| (it.name.clone(), it.resources.clone(), it.traits)).collect::<Vec<_>>()
                };
                let statements = parsed.statements.iter();
                statements.map(|it| (it.text.start, std::mem::discriminant(&it.effect), actions(it))).collect()
            };
            assert_eq!(of(&before), of(&after), "{sql}");
            assert_eq!(before.wording.redacted, after.wording.redacted, "{sql}");
        }
        assert!(read > 150, "{read}");
    }
}
