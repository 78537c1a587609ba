//! The enforcement point: the only mint of [`Permit`], the only function that takes a verdict.
//!
//! A plane turns a request into an [`Ask`], lets the gate judge it and gets a permit, an ending or
//! an earlier attempt's answer. Whatever writes to an upstream takes the permit by value.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::action::{Action, Agent, Context, Shown};
use crate::digest::Digest;
use crate::hold::{Change, Ending, HoldState, Vote};
use crate::id::{ActionId, HoldId, PersonId};
use crate::rules::Ruling;
use crate::time::Timestamp;

/// One authenticated, named request that asks to pass.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) action_id: ActionId,
    pub(crate) agent: Arc<Agent>,
    pub(crate) context: Context,
    pub(crate) peer: IpAddr,
    /// Id of the virtual credential the request was signed with.
    pub(crate) key_id: String,
    pub(crate) actions: Vec<Action>,
    /// Digest of exactly what would run: plane, method, upstream host, path, query, the fields
    /// that bear meaning, body hash, upstream identity. Signature, date, retry count and user
    /// agent are not in it, so that a retry has the digest of its first attempt.
    pub(crate) digest: Digest,
    /// The SDK's id that stays the same over the attempts of one call.
    pub(crate) retry_id: Option<String>,
    /// SHA-256 of the signature as presented, and the moment after which that signature is no
    /// longer accepted anyway: it must not be run twice until then.
    pub(crate) signature: Digest,
    pub(crate) signature_expires: Timestamp,
    pub(crate) shown: Shown,
    /// Puts changed parameters into the request; `None` where the request cannot be modified.
    pub(crate) narrow: Option<NarrowFn>,
}

/// Puts the parameters of an approver's modification into the original request and names the result.
pub(crate) type NarrowFn = Arc<dyn Fn(&Map<String, Value>) -> Result<Modified, String> + Send + Sync>;

/// A modified request, named anew.
#[derive(Clone, Debug)]
pub(crate) struct Modified {
    pub(crate) actions: Vec<Action>,
    pub(crate) digest: Digest,
    pub(crate) shown: Shown,
}

/// The right to send one request once. Minted here only; spent by the plane's forward.
#[derive(Debug)]
pub(crate) struct Permit {
    action_id: ActionId,
    digest: Digest,
    hold: Option<HoldId>,
    /// Parameters to put in before sending, when an approver modified the request.
    modified: Option<Map<String, Value>>,
    matched: bool,
}

impl Permit {
    /// The parameters an approver put in; the plane narrows its own copy of the request by these,
    /// and [`Permit::spend`] proves that the result is what was approved.
    pub(crate) fn modified(&self) -> Option<&Map<String, Value>> {
        self.modified.as_ref()
    }

    /// The hold this permit came from, to be told to the client.
    pub(crate) fn hold(&self) -> Option<&HoldId> {
        self.hold.as_ref()
    }

    /// Spends the permit on the request with that digest.
    ///
    /// # Errors
    /// When the request about to be sent is not the one that was decided.
    pub(crate) fn spend(self, digest: Digest) -> Result<Receipt, Drift> {
        if digest == self.digest {
            Ok(Receipt { action_id: self.action_id, hold: self.hold, matched: self.matched })
        } else {
            Err(Drift)
        }
    }
}

/// The request changed between decision and forward. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("the request changed between decision and forward; nothing was sent")]
pub(crate) struct Drift;

/// A spent permit: what [`Gate::complete`] needs to join the outcome to its request.
#[derive(Debug)]
pub(crate) struct Receipt {
    action_id: ActionId,
    hold: Option<HoldId>,
    matched: bool,
}

impl Receipt {
    /// True when a rule matched: the outcome must be durable before the client is answered, and
    /// the answer is kept for a retry.
    pub(crate) fn is_matched(&self) -> bool {
        self.matched
    }
}

/// How a forwarded request ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The upstream answered. `body_bytes` and `body_sha256` are absent while the body still streams.
    Answered { status: u16, upstream_request_id: Option<String>, body_bytes: Option<u64>, body_sha256: Option<Digest> },
    /// No byte of the request had left: it certainly did not run.
    NotSent { reason: String },
    /// The request left and no whole answer came: it may have run. Never sent again.
    Unknown { reason: String },
}

/// An upstream's answer, kept for a client that dropped at the last second.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// What the gate says to a request.
#[derive(Debug)]
pub(crate) enum Admission {
    /// An earlier attempt of the same call already ran; this is its answer.
    Answered(Arc<Reply>),
    Ended(Ended),
    Permitted(Permit),
}

/// An end without a forward, for the plane to put in its own dialect.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) ending: Ending,
    pub(crate) hold: Option<HoldId>,
    /// One sentence or two for the client: what happened and what to do next. Plain ASCII-safe text.
    pub(crate) message: String,
}

/// What the state of the process says about a request before anyone is asked.
pub(crate) struct Gate {}

impl Gate {
    /// Judges a request by the rules in force. Cheap, synchronous, no side effect.
    pub(crate) fn judge(&self, _agent: &Agent, _context: &Context, _actions: &[Action]) -> Ruling {
        unreachable!("built by the gate's author")
    }

    /// Lets an unmatched request pass: its record is queued, not awaited. For a ruling that is not
    /// an unmatched allow this is refused.
    ///
    /// # Errors
    /// When the ruling does not allow it, or the audit log has failed.
    #[expect(clippy::result_large_err, reason = "built once per refused request")]
    pub(crate) fn pass(&self, _ask: &Ask, _ruling: &Ruling) -> Result<Permit, Ended> {
        unreachable!("built by the gate's author")
    }

    /// Brings a matched request to its decision: records it, holds it while people decide, and
    /// returns when there is an answer. Dropping the future means that the client has gone.
    pub(crate) async fn admit(&self, _ask: Ask, _ruling: Ruling) -> Admission {
        unreachable!("built by the gate's author")
    }

    /// Records how a forwarded request ended; for a matched one returns when the record is durable
    /// and keeps `reply` for a retry. Must be called for each receipt, also when the client left.
    ///
    /// # Errors
    /// When the outcome of a matched action could not be made durable: the answer must not be given.
    pub(crate) async fn complete(
        &self,
        _receipt: Receipt,
        _outcome: Outcome,
        _reply: Option<Arc<Reply>>,
    ) -> Result<(), Ended> {
        unreachable!("built by the gate's author")
    }

    /// All holds that are open or ended in the last minutes, oldest first.
    pub(crate) fn holds(&self) -> Vec<HoldView> {
        unreachable!("built by the gate's author")
    }

    pub(crate) fn hold(&self, _id: &HoldId) -> Option<HoldView> {
        unreachable!("built by the gate's author")
    }

    /// Takes a person's verdict on a hold: the one door for every channel. `digest` is the one the person was shown;
    /// when it is not the hold's any more, nothing changes.
    ///
    /// # Errors
    /// When this person may not decide this, or the hold is not open; nothing changes then.
    pub(crate) async fn decide(
        &self,
        _id: &HoldId,
        _digest: Option<Digest>,
        _approver: &Approver,
        _verdict: Verdict,
        _reason: &str,
    ) -> Result<HoldView, DecideError> {
        unreachable!("built by the gate's author")
    }

    /// Takes a hold back without deciding it (an operator's act; same eligibility as deciding).
    ///
    /// # Errors
    /// As [`Gate::decide`].
    pub(crate) async fn cancel(
        &self,
        _id: &HoldId,
        _approver: &Approver,
        _reason: &str,
    ) -> Result<HoldView, DecideError> {
        unreachable!("built by the gate's author")
    }

    /// A receiver that sees a new number whenever any hold changes.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        unreachable!("built by the gate's author")
    }

    /// Records a request that was refused before it could be judged (framing, signature, credential).
    pub(crate) fn refused(&self, _refusal: Refusal) {}
}

/// A request refused before it was named.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) peer: IpAddr,
    /// The agent, when its signature was good.
    pub(crate) agent: Option<Arc<Agent>>,
    /// The AWS error code given to the client: `SignatureDoesNotMatch`.
    pub(crate) code: &'static str,
    pub(crate) reason: String,
}

/// A person's word on a hold.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Allow,
    Deny,
    /// Allow with these parameters in place of the request's own.
    Modify(Map<String, Value>),
}

/// A person who was authenticated by a channel, and how.
#[derive(Clone, Debug)]
pub(crate) struct Approver {
    pub(crate) person: PersonId,
    /// `token`, later `slack`, `oidc`…; goes into the record.
    pub(crate) method: &'static str,
    /// What was used, without the secret: a token's id.
    pub(crate) credential: String,
}

/// One hold as people see it. Secrets are already replaced in it.
#[derive(Clone, Debug)]
pub(crate) struct HoldView {
    pub(crate) id: HoldId,
    pub(crate) action_id: ActionId,
    pub(crate) agent: Agent,
    pub(crate) context: Context,
    pub(crate) peer: IpAddr,
    /// The actions as they would run now (after a modification: the modified ones).
    pub(crate) actions: Vec<Action>,
    pub(crate) shown: Shown,
    /// What an approval is bound to: the request, the upstream identity and the rule set.
    pub(crate) digest: Digest,
    pub(crate) ruling: Ruling,
    pub(crate) opened: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) state: HoldState,
    /// Client connections waiting on it now.
    pub(crate) attached: usize,
    pub(crate) votes: Vec<Vote>,
    /// Persons who may still decide it, by id.
    pub(crate) eligible: Vec<PersonId>,
    /// JSON pointers into the parameters with their values before and after, when modified.
    pub(crate) modified: Vec<Change>,
    /// Status of the upstream's answer once it ran.
    pub(crate) upstream_status: Option<u16>,
}

/// Why a verdict changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecideError {
    #[error("this person is the agent's {0} and may not decide it")]
    Conflict(&'static str),
    #[error("the hold has changed since it was shown: look at it again")]
    DigestChanged,
    #[error("this person has already given a verdict on this hold")]
    Duplicate,
    #[error("the hold is not open any more: {0}")]
    NotOpen(String),
    #[error("no such hold")]
    NotFound,
    #[error("this person is in none of the groups that may decide this")]
    NotEntitled,
    #[error("the modification is not possible: {0}")]
    NotModifiable(String),
    #[error("the audit log cannot be written; nothing can be decided until it is repaired")]
    LogUnavailable,
    #[error("a reason is required")]
    ReasonMissing,
    #[error("there is no such person")]
    UnknownPerson,
}
