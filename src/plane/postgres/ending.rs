//! What a client of Postgres is told when something does not run: SQLSTATEs (PostgreSQL docs,
//! appendix A) by which drivers decide whether to try again.

use super::session::SessionError;
use crate::gate::Ended;
use crate::hold::Ending;
use crate::id::{HoldId, RuleId};
use crate::journal::openings::OpeningsError;
use crate::rules::Count;
use crate::wire::postgres::backend::{Report, Severity};

/// Writes the error for an end without a run.
pub(super) fn report(ended: &Ended, write: impl FnOnce(&Report<'_>)) {
    let detail = match &ended.hold {
        Some(hold) => format!("Hold {hold}, ending {}.", ended.ending.as_str()),
        None => format!("Ending {}.", ended.ending.as_str()),
    };
    write(&Report {
        severity: Severity::Error,
        code: code(ended.ending),
        message: &format!("countersign: {}", ended.message),
        detail: Some(&detail),
        hint: Some(hint(ended.ending)),
    });
}

fn code(ending: Ending) -> &'static str {
    match ending {
        Ending::Denied | Ending::RuleDenied | Ending::NoApprover => "42501",
        Ending::Cancelled | Ending::Withdrawn | Ending::Expired => "57014",
        Ending::TransactionLimit | Ending::UpstreamLimit => "57014",
        Ending::Unfit => "0A000",
        Ending::UpstreamLeft => "08006",
        Ending::Overloaded => "53400",
        Ending::LogUnavailable => "58030",
        Ending::OutcomeUnknown => "08007",
        Ending::FailedUpstream => "08006",
        Ending::Restarted => "57P03",
        Ending::AnswerLost | Ending::Replayed | Ending::Superseded => "55000",
    }
}

fn hint(ending: Ending) -> &'static str {
    match ending {
        Ending::Denied | Ending::RuleDenied => {
            "Roll back and do not repeat it unchanged; ask for less, or ask its owner."
        }
        Ending::NoApprover => "An operator has to configure an approver who is neither owner nor initiator.",
        Ending::Cancelled | Ending::Withdrawn => "Nothing ran.",
        Ending::Expired => "Nothing ran. Run it again to ask again.",
        Ending::TransactionLimit => {
            "Roll back, and run it first in a transaction, or outside of one: there people have longer."
        }
        Ending::Unfit => "Nothing ran. Ask for what the approver wrote, as a statement of its own.",
        Ending::UpstreamLimit => {
            "Roll back, and run it outside of a transaction, or raise the server's time-out before: SET idle_in_transaction_session_timeout."
        }
        Ending::UpstreamLeft => "Connect anew; nothing of the open transaction was kept.",
        Ending::Overloaded => "Run it again when fewer calls wait.",
        Ending::LogUnavailable => "An operator has to repair the audit log.",
        Ending::OutcomeUnknown | Ending::AnswerLost => "Read the state of the data before anything is repeated.",
        Ending::FailedUpstream | Ending::Restarted | Ending::Superseded | Ending::Replayed => "Run it again.",
    }
}

/// Writes nothing yet: the error for an answer whose rest was dropped.
pub(super) fn stopped(ended: &Ended, rules: &[RuleId], passed: Count) -> Stopped {
    let rules = rules.iter().map(RuleId::as_str).collect::<Vec<_>>().join(", ");
    let why = match ended.ending {
        Ending::Denied | Ending::RuleDenied => ended.message.clone(),
        Ending::Expired => "nobody decided in time whether the answer may go on; this is not a person's no.".to_owned(),
        Ending::Withdrawn => "canceled while the rest of the answer waited for a decision.".to_owned(),
        ending => format!("the rest of the answer may not go on ({}).", ending.as_str()),
    };
    let hold = ended.hold.as_ref().map_or_else(String::new, |hold| format!("Hold {hold}, "));
    let code = match ended.ending {
        Ending::Expired => "42501",
        ending => code(ending),
    };
    Stopped {
        code,
        message: format!("countersign: stopped after {passed}: {why}"),
        detail: format!("{hold}rule {rules}, ending {}. {passed} had passed.", ended.ending.as_str()),
    }
}

/// The error of an answer whose rest was dropped.
#[derive(Debug)]
pub(super) struct Stopped {
    code: &'static str,
    pub(super) message: String,
    detail: String,
}

impl Stopped {
    pub(super) fn write(&self, out: &mut bytes::BytesMut) {
        let Self { code, message, detail } = self;
        let hint = "Roll back. Ask for fewer rows, or run it again to ask again.";
        Report { severity: Severity::Error, code, message, detail: Some(detail), hint: Some(hint) }.write(out);
    }
}

/// It was cancelled by the client while it waited.
pub(super) fn cancelled(hold: Option<&HoldId>) -> Ended {
    let message = "canceled while it waited for a decision; nothing ran.".to_owned();
    Ended { ending: Ending::Withdrawn, hold: hold.cloned(), message }
}

/// An earlier attempt ran, and no rows are kept.
pub(super) fn answer_lost() -> Ended {
    let message = "this statement was approved and ran, and its rows were given to an earlier connection.".to_owned();
    Ended { ending: Ending::AnswerLost, hold: None, message }
}

/// What would be sent is not what was decided.
pub(super) fn drifted() -> Ended {
    let message = "the statement changed between decision and sending; nothing was sent.".to_owned();
    Ended { ending: Ending::Superseded, hold: None, message }
}

/// What would prove its record cannot be kept.
pub(super) fn unprovable(error: &OpeningsError) -> Ended {
    tracing::error!(%error, "a statement was stopped: what opens its record cannot be kept");
    let message = "what proves the record of this statement cannot be kept; nothing ran.".to_owned();
    Ended { ending: Ending::LogUnavailable, hold: None, message }
}

/// The last words to a client whose session ends; `None` where the upstream has said them.
pub(super) fn of_session(error: &SessionError) -> Option<OwnedReport> {
    let code = match error {
        SessionError::Broken(_) | SessionError::ClientFrame(_) | SessionError::Malformed(_) => "08P01",
        SessionError::Io(_) | SessionError::ServerFrame(_) | SessionError::UpstreamLeft => "08006",
        SessionError::Revoked => "28000",
        SessionError::Stopping => "57P01",
        SessionError::Unrecorded => "08007",
        SessionError::Exceeded(_) => "42501",
    };
    let message = match error {
        // It says already who speaks.
        SessionError::Exceeded(_) => error.to_string(),
        _ => format!("countersign: {error}"),
    };
    Some(OwnedReport { code, message })
}

/// A fatal error of countersign's own.
#[derive(Debug)]
pub(super) struct OwnedReport {
    code: &'static str,
    message: String,
}

impl OwnedReport {
    pub(super) fn write(&self, out: &mut bytes::BytesMut) {
        let Self { code, message } = self;
        Report { severity: Severity::Fatal, code, message, detail: None, hint: None }.write(out);
    }
}
