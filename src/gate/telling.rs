//! What a client is told when its request ends here.

use super::Ended;
use super::book::Entry;
use crate::hold::{Ending, Word};
use crate::id::HoldId;
use crate::rules::Ruling;

/// Says to an agent how to get its statement held.
pub(super) const NOT_IN_A_TRANSACTION: &str =
    "it does not wait for people inside of a transaction; roll back, and send it in a transaction of its own.";

pub(super) fn log_unavailable(error: &dyn std::error::Error) -> Ended {
    tracing::error!(error = %error, "a matched action was stopped: what must be recorded cannot be written");
    Ended::new(Ending::LogUnavailable, None, ending_message(Ending::LogUnavailable, None, None))
}

pub(super) fn rule_message(ruling: &Ruling, message: Option<&str>) -> String {
    let by = match ruling.rules.as_slice() {
        [] => "by the default decision".to_owned(),
        rules => format!("by rule {}", rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    };
    match message {
        Some(message) => format!("denied {by}: {message}"),
        None => format!("denied {by}. Ask the owner of the rules if this should be possible."),
    }
}

/// What a client is told about an end: what happened, and what to do next.
pub(super) fn ending_message(ending: Ending, hold: Option<&HoldId>, entry: Option<&Entry>) -> String {
    let hold = hold.map_or_else(String::new, |id| format!(" (hold {id})"));
    match ending {
        Ending::AnswerLost => format!("this call was approved and ran{hold}, but its answer can no longer be given. Read the state of the resource instead of calling again."),
        Ending::Cancelled => format!("the hold was taken back by a person{hold}; nothing ran."),
        Ending::Denied => {
            let no = entry.and_then(|entry| entry.hold.votes().iter().rev().find(|v| v.word == Word::Deny && !v.void));
            let by = no.map_or_else(String::new, |v| format!(" by {}", v.person));
            let why = no.filter(|v| !v.reason.is_empty()).map_or_else(String::new, |v| format!(": {}", v.reason));
            format!("denied{by}{hold}{why}. Do not repeat it unchanged: the answer will be the same.")
        }
        Ending::Expired => format!("nobody decided in time{hold}; this is not a person's no, and nothing ran. Call again to ask again."),
        Ending::FailedUpstream => format!("this call was approved, but the upstream could not be reached{hold}; nothing ran. Call again to ask again."),
        Ending::LogUnavailable => "the audit log cannot be written, so privileged calls are stopped; nothing ran. Tell the operator of countersign.".to_owned(),
        Ending::NoApprover => format!("this call needs a person's approval and nobody is entitled to give it{hold}; nothing ran. Ask for an approver to be configured who is neither the agent's owner nor the initiator."),
        Ending::OutcomeUnknown => format!("this call was sent and no answer is known{hold}: it may have run. It is never sent again; read the state of the resource."),
        Ending::Overloaded => "too many calls are waiting for approval; nothing ran. Let the pending ones be decided, then call again.".to_owned(),
        Ending::Replayed => format!("this signature was already used{hold}: sign the request anew."),
        Ending::Restarted => format!("countersign is restarting{hold}; the hold is kept, call again to join it."),
        Ending::RuleDenied => "denied by rule.".to_owned(),
        Ending::Superseded => format!("what was approved does not stand any more, since the rules or the upstream changed meanwhile{hold}; nothing ran. Call again to be judged anew."),
        Ending::TransactionLimit => format!("nobody decided in the time that a statement may wait inside of a transaction{hold}; this is not a person's no, and nothing ran. Roll back, and run it outside of a transaction."),
        Ending::Unfit => format!("it was approved with a change that does not give the result which the client was told{hold}; nothing ran."),
        Ending::UpstreamLeft => format!("the upstream ended the session while this waited{hold}; nothing ran. Connect anew and call again."),
        Ending::UpstreamLimit => format!("nobody decided before the upstream's own time-out would have ended the session{hold}; this is not a person's no, and nothing ran."),
        Ending::Withdrawn => format!("the client went away and the hold was withdrawn{hold}; nothing ran. Call again to ask again."),
    }
}

impl Ended {
    pub(super) fn new(ending: Ending, hold: Option<HoldId>, message: String) -> Self {
        Self { ending, hold, message }
    }
}
