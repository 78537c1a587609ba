//! The decision point: match rules over actions.

use std::sync::Arc;
use std::time::Duration;

use crate::action::{Action, Agent, Context};
use crate::digest::{Digest, sha256};
use crate::id::{GroupId, RuleId};
use crate::people::{People, Requirement};
use crate::time::Timestamp;
use crate::yaml::{Diagnostic, Source};

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
    /// Conditions that could not be evaluated (`` `rule`: no such key: tags ``). Such a hold or deny
    /// rule counts as matched, such an allow rule as not matched; it belongs into the record.
    pub(crate) faults: Vec<String>,
}

impl Ruling {
    /// A request that no rule matched and that may pass: no durable record is awaited for it.
    pub(crate) fn is_unmatched_allow(&self) -> bool {
        self.decision == Decision::Allow && self.rules.is_empty()
    }
}

/// What the configuration says about rules.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Fate of an action that no rule matches and that is not privileged: access `list`, `read`,
    /// `tagging` or `write`, and no trait.
    pub(crate) ordinary: Decision,
    /// Fate of an action that no rule matches and that is privileged: access `permissions`, or any trait.
    pub(crate) privileged: Decision,
    /// Least fate of an action that could not be named without doubt, unless an allow rule names
    /// the trait `unknown`.
    pub(crate) unknown: Decision,
    /// What a hold demands where its rule does not say, and where no rule asked for it.
    pub(crate) hold: HoldTerms,
    /// Everyone who can be named in rules; `None` leaves groups unchecked (`rules check` without a configuration).
    pub(crate) people: Option<Arc<People>>,
}

/// What a hold demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HoldTerms {
    pub(crate) approvers: Vec<GroupId>,
    pub(crate) quorum: u32,
    pub(crate) expires: Duration,
}

impl Default for Options {
    /// Ordinary work passes, what is privileged or unknown waits 15 minutes for one of the group `approvers`.
    fn default() -> Self {
        let approvers = vec![GroupId::new("approvers")];
        Self {
            ordinary: Decision::Allow,
            privileged: Decision::Hold,
            unknown: Decision::Hold,
            hold: HoldTerms { approvers, quorum: 1, expires: Duration::from_secs(15 * 60) },
            people: None,
        }
    }
}

/// Compiles rule files. Sources whose name ends with `.cases.yaml` are test cases and left out, so
/// the caller may pass all `*.yaml` of a directory.
///
/// # Errors
/// Everything that is wrong in any of them; the rules in force then stay.
pub(crate) fn compile(_sources: &[Source], _options: &Options) -> Result<RuleSet, Vec<Diagnostic>> {
    Ok(RuleSet { digest: sha256(b"") })
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

    /// Number of rules.
    pub(crate) fn len(&self) -> usize {
        0
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
            faults: Vec::new(),
        }
    }
}
