//! One record: what is written about one event.

use serde_json::Value;

/// What a record is about. `docs/audit-format.md` lists the fields of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    ActionApproved,
    ActionCancelled,
    ActionDenied,
    ActionExpired,
    ActionForward,
    ActionHeld,
    ActionJoined,
    ActionOutcome,
    ActionOutcomeUnknown,
    ActionPassed,
    ActionRefused,
    ActionReleased,
    ActionSuperseded,
    ActionWithdrawn,
    ApprovalModified,
    ApprovalRefused,
    ApprovalVote,
    ConfigChange,
    LogOpen,
    LogRecovered,
    PolicyChange,
}

/// A record before it has a place in the log.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    /// Member names in lower snake case with their values, in any order; the writer sorts. Names
    /// are unique, and none of `v`, `log`, `seq`, `prev`, `ts`, `type`, which the writer sets.
    pub(crate) fields: Vec<(&'static str, Field)>,
}

/// A value of a record. Text is UTF-8 of any content; the writer escapes it.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    Integer(i64),
    Json(Value),
    Text(String),
    Texts(Vec<String>),
}

impl Record {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, fields: Vec::with_capacity(12) }
    }

    #[must_use]
    pub(crate) fn text(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, Field::Text(value.into())));
        self
    }

    #[must_use]
    pub(crate) fn text_if(self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    #[must_use]
    pub(crate) fn integer(mut self, name: &'static str, value: i64) -> Self {
        self.fields.push((name, Field::Integer(value)));
        self
    }

    #[must_use]
    pub(crate) fn texts(mut self, name: &'static str, values: Vec<String>) -> Self {
        self.fields.push((name, Field::Texts(values)));
        self
    }

    #[must_use]
    pub(crate) fn json(mut self, name: &'static str, value: Value) -> Self {
        self.fields.push((name, Field::Json(value)));
        self
    }
}
