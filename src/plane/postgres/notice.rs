//! What a client hears while its statement waits.

use bytes::BytesMut;

use crate::action::Crossed;
use crate::gate::HoldView;
use crate::time::Timestamp;
use crate::wire::postgres::backend::{Report, Severity};

/// A NoticeResponse.
#[derive(Debug)]
pub(super) struct Notice {
    message: String,
    detail: String,
    hint: String,
}

impl Notice {
    /// It waits for people.
    pub(super) fn waiting(hold: &HoldView, now: Timestamp) -> Self {
        let what = hold.actions.first().map_or("statement", |action| &action.name);
        let who = match hold.eligible.as_slice() {
            [] => "nobody".to_owned(),
            people => people.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        let left = hold.expires.since(now).as_secs();
        Self {
            message: match &hold.shown.crossed {
                Some(Crossed { rows, bytes, .. }) => format!(
                    "countersign: the rest of the answer to {what} waits for approval after {rows} rows and {bytes} \
                     bytes, hold {}",
                    hold.id
                ),
                None => format!("countersign: {what} waits for approval, hold {}", hold.id),
            },
            detail: format!("{who} may decide. It expires in {left} s; cancel it to withdraw it."),
            hint: format!("countersign holds show {}", hold.id),
        }
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        let Self { message, detail, hint } = self;
        let report =
            Report { severity: Severity::Notice, code: "00000", message, detail: Some(detail), hint: Some(hint) };
        report.write(out);
    }

    /// It runs, but not as it was sent.
    pub(super) fn changed(hold: &str, sql: &str) -> Self {
        Self {
            message: format!("countersign: an approver changed this statement, hold {hold}"),
            detail: format!("What ran: {sql}"),
            hint: "The rows are those of the changed statement.".to_owned(),
        }
    }
}
