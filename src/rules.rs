//! The decision point: match rules over actions.

use std::time::Duration;

use crate::action::{Action, Agent, Context};
use crate::digest::Digest;
use crate::id::RuleId;
use crate::people::Requirement;
use crate::time::Timestamp;

/// What the rules say about a request. Ordered by strictness: the greatest of all matches wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Decision {
    Allow,
    Hold,
    Deny,
}

impl Decision {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Hold => "hold",
            Self::Deny => "deny",
        }
    }
}

/// Everything besides the action that a rule can match.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) context: &'a Context,
    pub(crate) now: Timestamp,
}

/// The decision on one request (the strictest over its actions) and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ruling {
    pub(crate) decision: Decision,
    /// The rules that gave this decision, in name order; empty when the default (or the fate of
    /// `unknown`) decided.
    pub(crate) rules: Vec<RuleId>,
    /// What a hold demands: one entry per hold rule that matched, all of which must be met. Not
    /// empty exactly when `decision` is `Hold`.
    pub(crate) requirements: Vec<Requirement>,
    /// Time people have to decide; the shortest of all matching hold rules.
    pub(crate) expires: Duration,
    /// The rules' own words for the agent and the approver.
    pub(crate) message: Option<String>,
    /// Controls the deciding rules serve (`SOC2 CC6.1`).
    pub(crate) controls: Vec<String>,
}

impl Ruling {
    /// A request that no rule matched and that may pass: no durable record is awaited for it.
    pub(crate) fn is_unmatched_allow(&self) -> bool {
        self.decision == Decision::Allow && self.rules.is_empty()
    }
}

/// A compiled, immutable rule set.
#[derive(Debug)]
pub(crate) struct RuleSet {
    digest: Digest,
}

impl RuleSet {
    /// Digest of the rules as compiled: same rules, same digest. Bound into every approval.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// Decides one request: the strictest match over all of its actions wins; no match gives the
    /// default; `Trait::Unknown` has at least the fate that is configured for it.
    pub(crate) fn decide(&self, _subject: &Subject<'_>, _actions: &[Action]) -> Ruling {
        Ruling {
            decision: Decision::Deny,
            rules: Vec::new(),
            requirements: Vec::new(),
            expires: Duration::ZERO,
            message: None,
            controls: Vec::new(),
        }
    }
}
