//! The enforcement point: the only mint of [`Permit`], the only function that takes a verdict.
//!
//! A plane turns a request into an [`Ask`], lets the gate judge it and gets a permit, an ending or
//! an earlier attempt's answer. Whatever writes to an upstream takes the permit by value.
//!
//! # Who owns what
//!
//! `book` holds every open hold and those that ended in the last minutes. Its lock is taken for
//! short, synchronous looks and changes; nothing awaits while it is held. What must be durable
//! between two changes of one hold (a verdict, a release) runs under that hold's `turn`, an async
//! lock, so that verdicts and releases of one hold are strictly one after the other while clients
//! may attach, detach and time pass at any moment.
//!
//! # What a crash leaves
//!
//! | crash after | the log has | the store has | after restart |
//! |---|---|---|---|
//! | opening | `action.held` | nothing | no hold; the client's retry opens a new one |
//! | opening, saved | `action.held` | pending | pending, waits for its client's retry |
//! | a yes | `approval.vote` | the state before | the person, who got no answer, is asked again |
//! | a no | `approval.vote` | the state before | ended as that person said |
//! | a verdict, saved | `approval.vote` | approved | approved, unspent |
//! | a release, saved | nothing | forwarding | `outcome-unknown`: nothing left, but nobody can know |
//! | a forward's record | `action.forward` | forwarding | `outcome-unknown`, recorded, never sent again |
//! | an outcome's record | `action.outcome` | forwarding | executed, when it says that it ran; else `outcome-unknown` |
//!
//! A state database that is behind the log, also one that was restored from a copy, is corrected at
//! the start: the log says of each hold that it has open whether it ended or ran.
//!
//! The order "save forwarding, then record the forward, then mint the permit" makes the worst case
//! an approval lost, never an action run twice.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::action::{Action, Agent, Context, Delta, Shown};
use crate::digest::Digest;
use crate::hold::{Change, Ending, HoldState, Vote};
use crate::id::{ActionId, AgentId, HoldId, PersonId};
use crate::people::Requirement;
use crate::rules::Ruling;
use crate::time::Timestamp;

mod admit;
mod book;
mod decide;
mod keeper;
mod permit;
mod records;
mod spent;
mod telling;
mod volume;
mod waiting;

pub(crate) use keeper::{Gate, GateOptions};
pub(crate) use permit::{Drift, Finished, OVERDUE_AFTER, Outcome, Permit, Receipt, Reply};
pub(crate) use volume::{Meter, Suspended};

/// One authenticated, named request that asks to pass. Its hold shares the large parts.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) action_id: ActionId,
    pub(crate) agent: Arc<Agent>,
    pub(crate) context: Context,
    pub(crate) peer: IpAddr,
    /// Id of the virtual credential the request was signed with.
    pub(crate) key_id: String,
    pub(crate) actions: Arc<[Action]>,
    /// Digest of the fact table they were named by.
    pub(crate) facts: Digest,
    /// Whether that table comes into force with rules: then only those that came with it judge this.
    pub(crate) follows_rules: bool,
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
    pub(crate) shown: Arc<Shown>,
    /// The upstream keeps a transaction open while this waits.
    pub(crate) in_transaction: bool,
    /// How long it can wait before the upstream ends its session.
    pub(crate) upstream_limit: Option<Duration>,
    /// Puts changed parameters into the request; `None` where the request cannot be modified.
    pub(crate) narrow: Option<NarrowFn>,
    /// Looks anew at what the request would change, where it changes what can be looked at.
    pub(crate) look: Option<LookFn>,
    /// Is told the hold this request waits at, as soon as it waits.
    pub(crate) held_at: Arc<OnceLock<HoldId>>,
    /// Where a request is a statement.
    pub(crate) wording: Option<Arc<Wording>>,
}

/// A statement as records hold it: provable, and without its constants unless the operator wants them there.
#[derive(Clone, Debug)]
pub(crate) struct Wording {
    /// `None`: nobody knows where its constants are.
    pub(crate) text: Option<Arc<str>>,
    /// Size of the statement as it came.
    pub(crate) bytes: usize,
    pub(crate) commitment: Digest,
    /// Those bound to its parameters.
    pub(crate) values: Option<Values>,
    /// What of its actions a record may hold; `None`: all of it.
    pub(crate) redaction: Option<Redaction>,
}

/// Values as records hold them: what they are, not what they say.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    pub(crate) count: usize,
    /// Oid of the type and size in bytes of the first of them; no size is NULL.
    pub(crate) first: Vec<(u32, Option<usize>)>,
    pub(crate) commitment: Digest,
}

/// Takes out of actions what a record must not hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Redaction {
    /// `true`: it is known where the constants of its texts are.
    pub(crate) action: fn(&Action, bool) -> Action,
    /// The same for a parameter, by its name.
    pub(crate) value: fn(&str, &Value) -> Value,
}

/// A request that no rule matched: as much of it as its record needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passing<'a> {
    pub(crate) action_id: &'a ActionId,
    pub(crate) agent: &'a Agent,
    pub(crate) key_id: &'a str,
    pub(crate) peer: IpAddr,
    pub(crate) actions: &'a [Action],
    /// Digest of the fact table they were named by.
    pub(crate) facts: Digest,
    pub(crate) wording: Option<&'a Wording>,
}

/// Puts the parameters of an approver's modification into the original request and names the result.
pub(crate) type NarrowFn = Arc<dyn Fn(&Map<String, Value>) -> Result<Modified, String> + Send + Sync>;

/// Looks at what a hold's request would change, with those parameters where an approver changed them.
pub(crate) type LookFn = Arc<dyn Fn(HoldId, Option<Map<String, Value>>) -> Looking + Send + Sync>;
pub(crate) type Looking = Pin<Box<dyn Future<Output = Looked> + Send>>;

/// What a request would change, as it is now.
pub(crate) struct Looked {
    pub(crate) deltas: Vec<Delta>,
    /// As [`Ask::narrow`], against that state.
    pub(crate) narrow: Option<NarrowFn>,
}

/// A question to the upstream with countersign's own credential, about what a request would change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) action_id: &'a ActionId,
    pub(crate) agent: &'a AgentId,
    /// Absent before there is one.
    pub(crate) hold: Option<&'a HoldId>,
    pub(crate) method: &'a str,
    pub(crate) url: &'a str,
    /// Size and SHA-256 of the question's body.
    pub(crate) body: (usize, Digest),
    /// The question, named as a request.
    pub(crate) actions: &'a [Action],
    /// Id of the credential it is signed with.
    pub(crate) upstream_key_id: &'a str,
}

/// One attempt of a call, by what decides which hold it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) context: &'a Context,
    pub(crate) digest: Digest,
    pub(crate) retry_id: Option<&'a str>,
    pub(crate) signature: Digest,
}

/// A modified request, named anew.
#[derive(Clone, Debug)]
pub(crate) struct Modified {
    pub(crate) actions: Arc<[Action]>,
    pub(crate) digest: Digest,
    pub(crate) shown: Arc<Shown>,
    pub(crate) wording: Option<Arc<Wording>>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) ending: Ending,
    pub(crate) hold: Option<HoldId>,
    /// What happened and what to do next, for the client.
    pub(crate) message: String,
}

/// A request refused before it was named.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) peer: IpAddr,
    /// The agent, when its signature was good.
    pub(crate) agent: Option<Arc<Agent>>,
    /// What the client was told: an AWS error code such as `SignatureDoesNotMatch`, or the HTTP status
    /// where its bytes were no request.
    pub(crate) code: &'static str,
    pub(crate) reason: String,
}

/// A person's word on a hold.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Allow,
    Deny,
    /// Allow with these top-level parameters in place of the request's own; `null` removes one.
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
    /// For each requirement the index of the stage that is open, and how many people count there.
    pub(crate) progress: Vec<(usize, u32)>,
    /// JSON pointers into the parameters with their values before and after, when modified.
    pub(crate) modified: Vec<Change>,
    /// Status of the upstream's answer once it ran.
    pub(crate) upstream_status: Option<u16>,
}

/// What a modification would make of a hold.
#[derive(Clone, Debug)]
pub(crate) struct Preview {
    /// What an approval of it would be bound to.
    pub(crate) digest: Digest,
    pub(crate) actions: Arc<[Action]>,
    /// JSON pointers into the parameters with their values before and after; secrets replaced.
    pub(crate) changes: Vec<Change>,
    /// Who would have to agree to it.
    pub(crate) requirements: Vec<Requirement>,
}

/// Why a verdict changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecideError {
    #[error("this person may not decide it, being the request's {0}")]
    Conflict(&'static str),
    #[error("the hold has changed since it was shown: look at it again")]
    DigestChanged,
    #[error("this person has already given that verdict on this hold")]
    Duplicate,
    #[error("the audit log or the state database cannot be written; nothing can be decided until it is repaired")]
    LogUnavailable,
    #[error("this person is in none of the groups that may decide this")]
    NotEntitled,
    #[error("this person decides this only when on call")]
    NotOnCall,
    #[error("this person decides at a later stage; others come first")]
    NotYet,
    #[error("no such hold")]
    NotFound,
    #[error("the modification is not possible: {0}")]
    NotModifiable(String),
    #[error("the hold is not open any more: it is {0}")]
    NotOpen(&'static str),
    #[error(
        "the agent's owner is no configured person or group, so nobody can be told apart from the owner: \
         add the owner under `people`"
    )]
    OwnerUnknown,
    #[error("the part that this person could decide is decided")]
    StageMet,
    #[error("there is no such person")]
    UnknownPerson,
    #[error("only a signed verdict counts here, and verdicts cannot be signed yet")]
    Unsigned,
}

#[cfg(test)]
pub(crate) mod tests;
