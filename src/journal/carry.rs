//! What a later process must know of older segments: forwards without an outcome, and until when
//! signatures of forwards are still valid.
//!
//! It is carried over in the log itself: a segment begins with `log.segment` (and as many
//! `log.carried` as that says), so that a start reads the last segment only, and what it reads is
//! under the chain and the checkpoint. Signatures are not carried; a start that needs more of them
//! reads back as many segments as their expiry asks for.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::OpenForward;
use super::queue::is_outcome;
use crate::audit::record::{Kind, Record};
use crate::audit::tree::Frontier;
use crate::digest::Digest;
use crate::time::Timestamp;

/// Forwards told of in one record: far below the longest line.
const FORWARDS_PER_RECORD: usize = 100;

/// Members of records about forwards.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Forward<'r> {
    action_id: Option<Cow<'r, str>>,
    hold: Option<Cow<'r, str>>,
    digest: Option<Cow<'r, str>>,
    signature: Option<Cow<'r, str>>,
    signature_expires: Option<Cow<'r, str>>,
}

/// Members of `log.segment` and `log.carried`.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    #[serde(default)]
    frontier: Vec<String>,
    forwards: Vec<CarriedForward>,
    /// `log.carried` records that follow.
    #[serde(default)]
    pub(super) parts: u64,
    #[serde(default)]
    signatures_until: Option<String>,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct CarriedForward {
    action_id: String,
    hold: Option<String>,
    digest: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Carry {
    open: BTreeMap<String, OpenForward>,
    /// Latest expiry of any forward's signature so far.
    signatures_until: Option<Timestamp>,
}

impl Carry {
    /// Takes notice of a record that is about to be written.
    pub(super) fn note_record(&mut self, record: &Record) {
        let find = |name| record.find_text(name);
        match record.kind() {
            Kind::ActionForward => {
                let forward = Forward {
                    action_id: find("action_id"),
                    hold: find("hold"),
                    digest: find("digest"),
                    signature: find("signature"),
                    signature_expires: find("signature_expires"),
                };
                self.note_forward(forward);
            }
            kind if is_outcome(kind) => self.note_outcome(find("action_id")),
            _ => {}
        }
    }

    /// Takes notice of a record that was read; gives the signature of a forward.
    pub(super) fn note(&mut self, kind: &str, forward: Forward<'_>) -> Option<(Digest, Timestamp)> {
        if kind == Kind::ActionForward.as_str() {
            return self.note_forward(forward);
        }
        self.note_outcome(forward.action_id);
        None
    }

    fn note_forward(&mut self, forward: Forward<'_>) -> Option<(Digest, Timestamp)> {
        let signature = forward.signature();
        let Forward { action_id, hold, digest, .. } = forward;
        let action_id = action_id?.into_owned();
        let (hold, digest) = (hold.map(Cow::into_owned), digest.map(Cow::into_owned));
        self.open.insert(action_id.clone(), OpenForward { action_id, hold, digest });
        self.signatures_until = self.signatures_until.max(signature.map(|(_, expires)| expires));
        signature
    }

    fn note_outcome(&mut self, action_id: Option<Cow<'_, str>>) {
        if let Some(action_id) = action_id {
            self.open.remove(action_id.as_ref());
        }
    }

    /// Takes over what a segment's first records say.
    pub(super) fn note_header(&mut self, header: Header) {
        self.signatures_until = self.signatures_until.max(header.signatures_until());
        self.open.extend(header.forwards.into_iter().map(|forward| {
            let CarriedForward { action_id, hold, digest } = forward;
            (action_id.clone(), OpenForward { action_id, hold, digest })
        }));
    }

    /// The records a new segment begins with.
    pub(super) fn header(&self, frontier: &Frontier) -> Vec<Record> {
        let open: Vec<&OpenForward> = self.open.values().collect();
        let mut chunks = open.chunks(FORWARDS_PER_RECORD).map(|chunk| {
            let forward = |open: &&OpenForward| match (&open.hold, &open.digest) {
                (None, None) => json!({"action_id": open.action_id}),
                (None, Some(digest)) => json!({"action_id": open.action_id, "digest": digest}),
                (Some(hold), None) => json!({"action_id": open.action_id, "hold": hold}),
                (Some(hold), Some(digest)) => json!({"action_id": open.action_id, "digest": digest, "hold": hold}),
            };
            Value::from(chunk.iter().map(forward).collect::<Vec<_>>())
        });
        let first = chunks.next().unwrap_or_else(|| json!([]));
        let carried: Vec<Record> = chunks.map(|chunk| Record::new(Kind::LogCarried).json("forwards", &chunk)).collect();
        let parts = i64::try_from(carried.len()).unwrap_or(i64::MAX);
        let segment = Record::new(Kind::LogSegment)
            .json("forwards", &first)
            .texts("frontier", frontier.peaks().iter().map(|peak| peak.hex()))
            .integer("parts", parts)
            .text_if("signatures_until", self.signatures_until.map(Timestamp::rfc3339));
        std::iter::once(segment).chain(carried).collect()
    }

    pub(super) fn into_open_forwards(self) -> Vec<OpenForward> {
        self.open.into_values().collect()
    }
}

impl Forward<'_> {
    fn signature(&self) -> Option<(Digest, Timestamp)> {
        let signature = Digest::parse(self.signature.as_deref()?)?;
        Some((signature, Timestamp::parse_rfc3339(self.signature_expires.as_deref()?)?))
    }
}

impl Header {
    /// `None` unless the line is a `log.segment` or `log.carried` in its proper form.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let kinds = [Kind::LogSegment.as_str(), Kind::LogCarried.as_str()];
        serde_json::from_slice(line).ok().filter(|header: &Self| kinds.contains(&header.kind.as_str()))
    }

    /// The tree before the segment, whose first record is `size`.
    pub(super) fn frontier(&self, size: u64) -> Option<Frontier> {
        let peaks = self.frontier.iter().map(|peak| Digest::parse(peak)).collect::<Option<Vec<_>>>()?;
        Frontier::from_peaks(size, peaks)
    }

    pub(super) fn signatures_until(&self) -> Option<Timestamp> {
        self.signatures_until.as_deref().and_then(Timestamp::parse_rfc3339)
    }
}
