//! Messages of countersign's own between those of a client, and what it knows of a client's names besides.

use super::{Broken, Machine, Own, Pipeline, Sent, Transaction, Turn, names};
use crate::wire::postgres::backend::{Frame, kind};
use crate::wire::postgres::frontend::Target;

impl Machine {
    /// A message of countersign's own was sent: a query only when [`Machine::is_between_queries`], a Sync
    /// only when [`Machine::may_sync`].
    pub(in super::super) fn ask_own(&mut self, own: Own) {
        match own {
            Own::Parse => {
                self.has_changed = true;
                self.pipeline = self.pipeline.max(Pipeline::Prepared);
            }
            Own::Describe => self.pipeline = self.pipeline.max(Pipeline::Prepared),
            Own::Sync => self.pipeline = Pipeline::No,
            Own::Query | Own::Close => {}
        }
        self.sent.push_back(Sent::Own(own));
    }

    /// A query of countersign's own is being answered.
    pub(in super::super) fn is_asking_own(&self) -> bool {
        matches!(self.sent.front(), Some(Sent::Own(Own::Query)))
    }

    /// Whether a Sync changes nothing for the client: all was answered, and nothing would end with it.
    pub(in super::super) fn may_sync(&self) -> bool {
        self.sent.is_empty() && !self.is_skipping && self.has_only_prepared()
    }

    /// Whether nothing since the last Sync would end with the next.
    pub(in super::super) fn has_only_prepared(&self) -> bool {
        self.pipeline == Pipeline::Prepared
    }

    /// Whether a transaction keeps locks while the next message waits: one that was begun, or a pipeline's.
    pub(in super::super) fn is_in_transaction(&self) -> bool {
        self.transaction != Transaction::None || self.pipeline == Pipeline::Worked
    }

    /// Whether the server waits for more of a pipeline, and times out as if a statement ran.
    pub(in super::super) fn is_in_pipeline(&self) -> bool {
        self.pipeline != Pipeline::No
    }

    /// An approver's statement was left behind by an error, and it can be closed now.
    pub(in super::super) fn must_close(&self) -> bool {
        self.has_changed && !self.is_skipping && self.sent.is_empty() && self.pipeline == Pipeline::No
    }

    /// The rules changed: what they allowed before, and has not run yet, is asked about again.
    pub(in super::super) fn rules_changed(&mut self) {
        self.rules += 1;
    }

    pub(super) fn own_answer(&mut self, own: Own, frame: &Frame<'_>) -> Result<Turn, Broken> {
        let is_answered = match (own, frame.kind) {
            (_, kind::PARAMETER_STATUS) => return Ok(Turn::Pass),
            (_, kind::ERROR_RESPONSE) if is_last(frame) => return Ok(Turn::Pass),
            (Own::Query, kind::READY_FOR_QUERY) => {
                self.transaction = frame.transaction().map_err(|_| Broken::Server(frame.kind))?;
                true
            }
            (Own::Sync, kind::READY_FOR_QUERY) => {
                let transaction = frame.transaction().map_err(|_| Broken::Server(frame.kind))?;
                self.sent.pop_front();
                self.ready(transaction);
                return Ok(Turn::Keep);
            }
            (Own::Query, kind::AUTHENTICATION | kind::BACKEND_KEY_DATA | kind::NEGOTIATE_PROTOCOL_VERSION) => {
                return Err(Broken::Server(frame.kind));
            }
            (Own::Query, _) | (Own::Describe, kind::PARAMETER_DESCRIPTION) => false,
            (Own::Describe, kind::ROW_DESCRIPTION | kind::NO_DATA)
            | (Own::Parse, kind::PARSE_COMPLETE)
            | (Own::Close, kind::CLOSE_COMPLETE) => true,
            (_, kind::ERROR_RESPONSE) => return Ok(self.failed()),
            _ => return Err(Broken::Server(frame.kind)),
        };
        if is_answered {
            self.has_changed &= own != Own::Close;
            self.sent.pop_front();
        }
        Ok(Turn::Keep)
    }

    /// Its client is told what columns a statement gives.
    pub(super) fn tell(&self, target: &Target<'_>) {
        let prepared = match target {
            Target::Statement(name) => names::key(name).and_then(|name| self.statements.get(name)),
            Target::Portal(name) => {
                names::key(name).and_then(|name| self.portals.get(name)).and_then(|it| it.prepared.as_ref())
            }
        };
        if let Some(prepared) = prepared {
            prepared.tell();
        }
    }
}

/// The server ends the session with it.
fn is_last(frame: &Frame<'_>) -> bool {
    let severity = frame.said().ok().and_then(|said| said.severity());
    matches!(severity.as_deref(), Some("FATAL" | "PANIC"))
}
