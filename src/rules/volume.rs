//! Rules about how much goes out: they match no request, but the answer to one once it is too much.
//!
//! Such a rule is latent. Whoever carries an answer asks [`RuleSet::limits`] for those that a request
//! meets, counts, and asks [`RuleSet::crossed`] for the ruling when one of them is crossed.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::{Decision, Judged, Rule, RuleSet, Ruling, Subject};
use crate::action::Action;
use crate::id::RuleId;

/// How much of answers; rows are items where a service has no rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Count {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { rows: self.rows.saturating_add(other.rows), bytes: self.bytes.saturating_add(other.bytes) }
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self { rows: self.rows.saturating_sub(other.rows), bytes: self.bytes.saturating_sub(other.bytes) }
    }

    pub(crate) fn least(self, other: Self) -> Self {
        Self { rows: self.rows.min(other.rows), bytes: self.bytes.min(other.bytes) }
    }

    pub(crate) fn is_within(self, limit: Self) -> bool {
        self.rows <= limit.rows && self.bytes <= limit.bytes
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows and {} bytes", self.rows, self.bytes)
    }
}

/// What may pass before a rule asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) rows: Option<u64>,
    pub(crate) bytes: Option<u64>,
    /// `None`: of one statement, portal or cursor, or one answer of AWS. Else of an agent, over all it does in that time.
    pub(crate) window: Option<Duration>,
}

impl Volume {
    pub(crate) fn limit(&self) -> Count {
        Count { rows: self.rows.unwrap_or(u64::MAX), bytes: self.bytes.unwrap_or(u64::MAX) }
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rows, self.bytes) {
            (Some(rows), Some(bytes)) => write!(f, "{rows} rows or {bytes} bytes")?,
            (Some(rows), None) => write!(f, "{rows} rows")?,
            (None, Some(bytes)) => write!(f, "{bytes} bytes")?,
            (None, None) => f.write_str("nothing")?,
        }
        match self.window {
            Some(window) => write!(f, " of the agent in {} s", window.as_secs()),
            None => f.write_str(" of one answer"),
        }
    }
}

/// The volume of one rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) rule: RuleId,
    pub(crate) volume: Volume,
}

/// The limits that an answer meets.
pub(crate) type Limits = SmallVec<[Arc<Limit>; 2]>;

impl RuleSet {
    pub(crate) fn has_volumes(&self) -> bool {
        !self.volumes.is_empty()
    }

    /// The limits that the answer to a request must keep. Without rules about volume it looks at nothing.
    pub(crate) fn limits(&self, subject: &Subject<'_>, actions: &[Action]) -> Limits {
        if self.volumes.is_empty() {
            return Limits::new();
        }
        let mut limits = Limits::new();
        for action in actions {
            for rule in self.latent(subject, action) {
                if let Some(limit) = &rule.volume
                    && !limits.iter().any(|it| Arc::ptr_eq(it, limit))
                {
                    limits.push(Arc::clone(limit));
                }
            }
        }
        limits
    }

    /// The ruling when the answer to a request crossed the limits of these rules; `None` when none of
    /// them stands any more.
    pub(crate) fn crossed(&self, subject: &Subject<'_>, actions: &[Action], rules: &[RuleId]) -> Option<Ruling> {
        if self.volumes.is_empty() {
            return None;
        }
        let mut found: Vec<(u32, Decision)> = Vec::new();
        for action in actions {
            for number in self.volumes.candidates(subject, action) {
                let Some(rule) = self.rule(number) else { continue };
                if rules.contains(&rule.id) && rule.matches_or_fails(subject, action) {
                    found.push((number, rule.decision));
                }
            }
        }
        let decision = found.iter().map(|(_, decision)| *decision).max()?;
        let rules = found.into_iter().filter(|(_, its)| *its == decision).map(|(number, _)| number).collect();
        Some(self.ruling(&[Judged { decision, rules, fallback: None }], Vec::new()))
    }

    /// Decides a request whose answer has come to `passed`: for test cases.
    pub(crate) fn decide_after(&self, subject: &Subject<'_>, actions: &[Action], passed: Count) -> Ruling {
        let ruling = self.decide(subject, actions);
        if ruling.decision != Decision::Allow {
            return ruling;
        }
        let limits = self.limits(subject, actions);
        let over: Vec<RuleId> =
            limits.iter().filter(|it| !passed.is_within(it.volume.limit())).map(|it| it.rule.clone()).collect();
        self.crossed(subject, actions, &over).unwrap_or(ruling)
    }

    fn latent<'a>(&'a self, subject: &'a Subject<'_>, action: &'a Action) -> impl Iterator<Item = &'a Rule> {
        let numbers = self.volumes.candidates(subject, action);
        numbers.into_iter().filter_map(|number| self.rule(number)).filter(|rule| rule.matches_or_fails(subject, action))
    }
}

impl Rule {
    /// A rule whose condition cannot be evaluated applies, as any restricting one.
    fn matches_or_fails(&self, subject: &Subject<'_>, action: &Action) -> bool {
        self.matches(subject, action, &OnceCell::new()).unwrap_or(true)
    }
}
