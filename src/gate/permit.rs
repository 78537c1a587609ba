//! The right to send one request once, and what must be reported after it was used.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::keeper::Gate;
use crate::audit::record::Record;
use crate::credential::assume::Session;
use crate::digest::Digest;
use crate::id::{ActionId, HoldId};
use crate::journal::Durable;
use crate::rules::Assume;

/// How long a request that no rule matched may be under way before its record is written without
/// its outcome: the most that a crash can keep from the log.
pub(crate) const OVERDUE_AFTER: Duration = Duration::from_secs(1);

/// The right to send one request once. Minted by the gate only; spent by the plane's forward.
///
/// A permit that is dropped unspent proves that nothing was sent: its hold is approved again and
/// waits for the client's retry.
#[derive(Debug)]
pub(crate) struct Permit(Option<Granted>);

/// What a permit and its receipt are about.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) gate: Arc<Gate>,
    pub(super) action_id: ActionId,
    pub(super) way: Way,
    /// The session of a role that it is sent in, where it is not the upstream's own credential.
    pub(super) session: Option<Box<Session>>,
}

#[derive(Debug)]
pub(super) enum Way {
    Passed(Passed),
    Matched(Matched),
}

/// A request that no rule matched.
#[derive(Debug)]
pub(super) struct Passed {
    /// Its one record, until that is handed to the log.
    pub(super) record: Option<Record>,
}

/// What a permit for a matched request is bound to. Its outcome must be durable before the client is answered.
#[derive(Debug)]
pub(super) struct Matched {
    pub(super) digest: Digest,
    pub(super) hold: Option<HoldId>,
    /// From the hold's opening to its release.
    pub(super) held: Option<Duration>,
    /// The whole parameters to put in before sending, when an approver modified the request.
    pub(super) modified: Option<Map<String, Value>>,
    /// The role that the rules which let it run want it sent in.
    pub(super) role: Option<Arc<Assume>>,
    /// The proof that the forward is on disk.
    pub(super) forward: Durable,
}

impl Granted {
    pub(super) fn matched(&self) -> Option<&Matched> {
        match &self.way {
            Way::Passed(_) => None,
            Way::Matched(matched) => Some(matched),
        }
    }
}

impl Permit {
    pub(super) fn mint(granted: Granted) -> Self {
        Self(Some(granted))
    }

    /// The parameters an approver put in; the plane narrows its own copy of the request by these,
    /// and [`Permit::spend`] proves that the result is what was approved.
    pub(crate) fn modified(&self) -> Option<&Map<String, Value>> {
        self.0.as_ref()?.matched()?.modified.as_ref()
    }

    /// Whether a rule matched the request, so that the permit is bound to its digest.
    pub(crate) fn is_matched(&self) -> bool {
        self.0.as_ref().is_some_and(|granted| granted.matched().is_some())
    }

    /// The role that the request is to be sent in, by the very rules that let it run.
    pub(crate) fn role(&self) -> Option<&Arc<Assume>> {
        self.0.as_ref()?.matched()?.role.as_ref()
    }

    /// The hold this permit came from, to be told to the client.
    pub(crate) fn hold(&self) -> Option<&HoldId> {
        self.0.as_ref()?.matched()?.hold.as_ref()
    }

    /// The request is signed in this session, which its outcome's record will name.
    pub(crate) fn set_session(&mut self, session: Session) {
        if let Some(granted) = &mut self.0 {
            granted.session = Some(Box::new(session));
        }
    }

    /// Spends the permit of a matched request on the request with that digest.
    ///
    /// # Errors
    /// When the request about to be sent is not the one that was decided; nothing may be sent.
    pub(crate) fn spend(self, digest: Digest) -> Result<Receipt, Drift> {
        self.spend_if(|matched| matched.is_some_and(|it| it.digest == digest))
    }

    /// Spends the permit of a request that no rule matched: nobody decided on anything that another
    /// request could differ from.
    ///
    /// # Errors
    /// When it is the permit of a matched request.
    pub(crate) fn spend_unmatched(self) -> Result<Receipt, Drift> {
        self.spend_if(|matched| matched.is_none())
    }

    fn spend_if(mut self, fits: impl FnOnce(Option<&Matched>) -> bool) -> Result<Receipt, Drift> {
        match self.0.take_if(|granted| fits(granted.matched())) {
            Some(granted) => Ok(Receipt(Some(granted))),
            None => Err(Drift),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(granted) = self.0.take() {
            Gate::unsent(granted);
        }
    }
}

/// The request changed between decision and forward. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("the request changed between decision and forward; nothing was sent")]
pub(crate) struct Drift;

/// A spent permit: what [`Gate::complete`] needs to join the outcome to its request.
///
/// A receipt that is dropped without an outcome is recorded as an unknown one.
#[derive(Debug)]
pub(crate) struct Receipt(Option<Granted>);

impl Receipt {
    /// The answer takes long: records that the request is under way, where that is not on record yet.
    /// To be called [`OVERDUE_AFTER`] the request was sent.
    pub(crate) fn overdue(&mut self) {
        if let Some(Granted { gate, way: Way::Passed(passed), .. }) = &mut self.0 {
            gate.record_intent(passed);
        }
    }

    pub(super) fn redeem(mut self) -> Option<Granted> {
        self.0.take()
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(granted) = self.0.take() {
            Gate::lost(granted);
        }
    }
}

/// How a forwarded request ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The upstream answered. `body_bytes` and `body_sha256` are absent while the body still streams.
    Answered { status: u16, upstream_request_id: Option<String>, body_bytes: Option<u64>, body_sha256: Option<Digest> },
    /// A database ran the statements, or refused one of them with an error.
    Finished(Finished),
    /// No byte of the request had left: it certainly did not run.
    NotSent { reason: String },
    /// What an approver made of the request does not fit what its client was told: it did not run.
    Unfit { reason: String },
    /// The request left and no whole answer came: it may have run. Never sent again.
    Unknown { reason: String },
}

/// What a database said at the end of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finished {
    /// The tag of the last command that was completed, `SELECT 5`.
    pub(crate) tag: Option<String>,
    /// The error that ended it (a five-character SQLSTATE).
    pub(crate) sqlstate: Option<String>,
    /// Rows and bytes of data that went to the agent or came from it.
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// From the sending to the last word.
    pub(crate) duration: Duration,
}

/// An upstream's answer, kept for a client that dropped at the last second.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// The answer may carry the very secret the call made: only its shape is shown.
impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reply({}, {} bytes)", self.status, self.body.len())
    }
}
