//! The decision point: match rules over actions.
//!
//! Rules are data compiled once ([`compile`]) and then only read: [`RuleSet::decide`] does no IO,
//! reads no clock and allocates nothing for a request that no rule matches. The strictest match
//! wins, so neither the order of rules nor that of files means anything.
//!
//! Doubt never helps a request: a hold or deny rule matches when any resource or value does, when
//! the account is not known, and when its condition fails to evaluate; an allow rule matches only
//! when all do, nothing is unknown and the condition holds. An action that could not be named has
//! at least the fate configured for it, unless an allow rule names the trait `unknown`.

mod assume;
mod cases;
mod condition;
mod criteria;
mod explain;
mod index;
mod lint;
mod syntax;
mod terms;
pub(crate) mod volume;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use crate::action::{Access, Action, Agent, Context, Trait, Traits};
use crate::catalog::aws::{Table, in_force};
use crate::digest::{Digest, canonical_json, sha256};
use crate::id::{GroupId, RuleId};
use crate::people::{Escalation, People, Requirement, Stage};
use crate::time::Timestamp;
use crate::yaml::{Diagnostic, Problems, Severity, Source, Span};

use condition::{Condition, Facts};
use criteria::{Criteria, Reach};
use index::Index;

pub(crate) use assume::{Assume, Cut, cache as read_cache, iam_action as read_iam_action, role as read_role};
pub(crate) use cases::{CASE_ACCOUNT, Case, Input, read_cases};
pub(crate) use explain::{ActionTrace, Explanation, RuleTrace};
pub(crate) use terms::{read_escalation, read_in_transaction};
pub(crate) use volume::{Count, Limit, Limits};

/// Most faults told of one request: a record is one line of limited length.
const MOST_FAULTS: usize = 16;

/// How rules name the region of an action that has none.
const NO_REGION: &str = "global";

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
    /// What of that holds inside of a transaction; the strictest of all matching hold rules. `None`: all of it.
    pub(crate) in_transaction: Option<InTransaction>,
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
    /// The facts that rules are checked against, and that requests which they judge are named by.
    pub(crate) facts: &'static Table,
    /// Everyone who can be named in rules; `None` leaves groups unchecked (`rules check` without a configuration).
    pub(crate) people: Option<Arc<People>>,
}

/// What a hold demands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HoldTerms {
    /// Who must agree, one stage after the other; never empty.
    pub(crate) stages: Vec<Stage>,
    /// Groups whose members may deny besides.
    pub(crate) deniers: Vec<GroupId>,
    /// Who may allow besides once nobody has decided for long.
    pub(crate) escalations: Vec<Escalation>,
    /// An allow counts only with the approver's own signature.
    pub(crate) signed: bool,
    pub(crate) expires: Duration,
    /// `None`: as long as `expires` says.
    pub(crate) in_transaction: Option<InTransaction>,
}

/// What becomes of a hold while a transaction is open, whose locks others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InTransaction {
    /// It waits no longer than this.
    Wait(Duration),
    /// It does not wait: it is denied, and can be sent in a transaction of its own.
    Refuse,
}

impl InTransaction {
    /// As rules and configurations write it.
    pub(crate) const REFUSE: &str = "refuse";

    fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Wait(one), Self::Wait(other)) => Self::Wait(one.min(other)),
            _ => Self::Refuse,
        }
    }
}

impl Default for Options {
    /// Ordinary work passes, what is privileged or unknown waits 15 minutes for one of the group `approvers`.
    fn default() -> Self {
        let stages = vec![Stage { approvers: vec![GroupId::new("approvers")], quorum: 1 }];
        Self {
            ordinary: Decision::Allow,
            privileged: Decision::Hold,
            unknown: Decision::Hold,
            hold: HoldTerms {
                stages,
                deniers: Vec::new(),
                escalations: Vec::new(),
                signed: false,
                expires: Duration::from_secs(15 * 60),
                in_transaction: None,
            },
            facts: in_force(),
            people: None,
        }
    }
}

/// Compiles rule files. Sources whose name ends with `.cases.yaml` are test cases and left out, so
/// the caller may pass all `*.yaml` of a directory.
///
/// # Errors
/// Everything that is wrong in any of them; the rules in force then stay.
pub(crate) fn compile(sources: &[Source], options: &Options) -> Result<RuleSet, Vec<Diagnostic>> {
    let mut rules = Vec::new();
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !is_cases(source.name())) {
        let problems = Problems::new(source.clone());
        rules.extend(syntax::read(&problems, options));
        found.extend(problems.into_vec());
    }
    found.extend(lint::duplicate_ids(&rules));
    if found.iter().any(|diagnostic| diagnostic.severity() == Severity::Error) {
        return Err(found);
    }
    Ok(RuleSet::build(rules, options.clone()))
}

/// Whether a file of that name holds test cases rather than rules.
pub(crate) fn is_cases(name: &str) -> bool {
    name.ends_with(".cases.yaml")
}

/// One compiled rule.
#[derive(Debug)]
struct Rule {
    id: RuleId,
    description: Option<String>,
    decision: Decision,
    criteria: Criteria,
    unless: Option<Criteria>,
    condition: Option<Condition>,
    hold: HoldTerms,
    /// `hold.in_transaction` stands in the rule itself.
    says_in_transaction: bool,
    message: Option<String>,
    controls: Vec<String>,
    /// It applies to an answer that is larger, and to no request.
    volume: Option<Arc<Limit>>,
    /// The role that what it lets through is sent in.
    assume: Option<Arc<Assume>>,
    /// Where the rule's id stands.
    source: Source,
    span: Span,
}

impl Rule {
    /// `Ok` when the rule matches or not; `Err` when its condition could not be evaluated.
    fn matches(
        &self,
        subject: &Subject<'_>,
        action: &Action,
        facts: &OnceCell<Facts>,
    ) -> Result<bool, condition::Fault> {
        if !self.criteria.matches(subject, action, self.reach()) {
            return Ok(false);
        }
        if self.unless.as_ref().is_some_and(|unless| unless.matches(subject, action, self.reach().opposite())) {
            return Ok(false);
        }
        match &self.condition {
            Some(condition) => condition.holds(facts.get_or_init(|| Facts::of(subject, action))),
            None => Ok(true),
        }
    }

    fn reach(&self) -> Reach {
        if self.decision == Decision::Allow { Reach::Narrow } else { Reach::Wide }
    }
}

/// A compiled, immutable rule set.
#[derive(Debug)]
pub(crate) struct RuleSet {
    rules: Vec<Rule>,
    /// Rules about requests.
    index: Index,
    /// Rules about the volume of answers.
    volumes: Index,
    options: Options,
    digest: Digest,
}

/// What one action met.
#[derive(Debug)]
struct Judged {
    decision: Decision,
    /// Numbers of the rules of that decision that matched; empty when none did.
    rules: Vec<u32>,
    /// What decided when no rule did.
    fallback: Option<Fallback>,
}

/// What decides where no rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fallback {
    Ordinary,
    Privileged,
    Unknown,
}

impl RuleSet {
    fn build(mut rules: Vec<Rule>, options: Options) -> Self {
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        let digest = sha256(canonical_json(&syntax::canonical(&rules, &options)).as_bytes());
        let index = Index::build(&rules, |rule| rule.volume.is_none());
        let volumes = Index::build(&rules, |rule| rule.volume.is_some());
        Self { index, volumes, rules, options, digest }
    }

    /// Digest of the rules as compiled: same rules, same digest. Bound into every approval.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// The facts by which what these rules judge is named: in force with them, at one stroke.
    pub(crate) fn facts(&self) -> &'static Table {
        self.options.facts
    }

    /// Number of rules.
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// What the rules say that their authors can hardly mean: for `rules check` and the log at start.
    pub(crate) fn warnings(&self) -> Vec<Diagnostic> {
        lint::warnings(&self.rules, self.options.facts)
    }

    /// The role that a request is sent in which these rules decided: of the first of them that names one.
    pub(crate) fn role(&self, deciding: &[RuleId]) -> Option<&Arc<Assume>> {
        deciding.iter().find_map(|id| {
            let place = self.rules.binary_search_by(|rule| rule.id.cmp(id)).ok()?;
            self.rules.get(place)?.assume.as_ref()
        })
    }

    /// Ids of all rules, sorted.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &RuleId> {
        self.rules.iter().map(|rule| &rule.id)
    }

    /// Decides one request: the strictest match over all of its actions wins; no match gives the
    /// default; `Trait::Unknown` has at least the fate that is configured for it. A request without
    /// any action is denied.
    pub(crate) fn decide(&self, subject: &Subject<'_>, actions: &[Action]) -> Ruling {
        let mut faults = Vec::new();
        match actions {
            // The common request, without allocation.
            [action] => {
                let judged = self.judge(subject, action, &mut faults);
                self.ruling(std::slice::from_ref(&judged), faults)
            }
            _ => {
                let judged: Vec<_> = actions.iter().map(|action| self.judge(subject, action, &mut faults)).collect();
                self.ruling(&judged, faults)
            }
        }
    }

    fn judge(&self, subject: &Subject<'_>, action: &Action, faults: &mut Vec<String>) -> Judged {
        let facts = OnceCell::new();
        let mut matched = Vec::new();
        let mut strictest = None;
        for number in self.index.candidates(subject, action) {
            let Some(rule) = self.rule(number) else { continue };
            let matches = rule.matches(subject, action, &facts).unwrap_or_else(|fault| {
                if faults.len() < MOST_FAULTS {
                    faults.push(format!("`{}`: {fault}", rule.id));
                }
                rule.decision != Decision::Allow
            });
            if matches {
                strictest = strictest.max(Some(rule.decision));
                matched.push(number);
            }
        }
        let is_unknown = action.traits.contains(Trait::Unknown);
        let fallback = match strictest {
            // An allow rule matches an unknown action only when it names the trait: it was meant.
            Some(Decision::Allow) => None,
            Some(decision) if is_unknown && self.options.unknown > decision => Some(Fallback::Unknown),
            Some(_) => None,
            None if is_unknown => Some(Fallback::Unknown),
            None if action.access == Access::Permissions || action.traits != Traits::EMPTY => {
                Some(Fallback::Privileged)
            }
            None => Some(Fallback::Ordinary),
        };
        let decision = fallback.map_or(strictest.unwrap_or(Decision::Deny), |fallback| self.fate(fallback));
        matched.retain(|number| self.rule(*number).is_some_and(|rule| rule.decision == decision));
        Judged { decision, rules: matched, fallback }
    }

    fn fate(&self, fallback: Fallback) -> Decision {
        match fallback {
            Fallback::Ordinary => self.options.ordinary,
            Fallback::Privileged => self.options.privileged,
            // Never looser than the same action would be with a name.
            Fallback::Unknown => self.options.unknown,
        }
    }

    fn ruling(&self, judged: &[Judged], faults: Vec<String>) -> Ruling {
        let decision = judged.iter().map(|it| it.decision).max().unwrap_or(Decision::Deny);
        let deciding = || judged.iter().filter(|it| it.decision == decision);
        let mut numbers: Vec<u32> = deciding().flat_map(|it| it.rules.iter().copied()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let rules = || numbers.iter().filter_map(|number| self.rule(*number));
        let fallback = deciding().find_map(|it| it.fallback.filter(|_| it.rules.is_empty()));
        let mut ruling = Ruling {
            decision,
            rules: rules().map(|rule| rule.id.clone()).collect(),
            requirements: Vec::new(),
            expires: Duration::ZERO,
            in_transaction: None,
            message: joined(rules().filter_map(|rule| rule.message.as_deref())),
            controls: Vec::new(),
            faults,
        };
        for control in rules().flat_map(|rule| &rule.controls) {
            if !ruling.controls.contains(control) {
                ruling.controls.push(control.clone());
            }
        }
        if let Some(fallback) = fallback
            && decision != Decision::Allow
            && ruling.message.is_none()
        {
            ruling.message = Some(fallback.message().to_owned());
        }
        if decision == Decision::Hold {
            let of_rules = rules().map(|rule| (rule.id.clone(), &rule.hold));
            let of_fallback = fallback.map(|fallback| (RuleId::new(fallback.name()), &self.options.hold));
            for (rule, terms) in of_rules.chain(of_fallback) {
                let HoldTerms { stages, deniers, escalations, signed, expires, in_transaction } = terms.clone();
                ruling.expires = if ruling.expires.is_zero() { expires } else { ruling.expires.min(expires) };
                ruling.in_transaction = match (ruling.in_transaction, in_transaction) {
                    (Some(one), Some(other)) => Some(one.stricter(other)),
                    (one, other) => one.or(other),
                };
                ruling.requirements.push(Requirement { rule, stages, deniers, escalations, signed });
            }
        } else if judged.is_empty() {
            ruling.message = Some("the request names no action".to_owned());
        }
        ruling
    }

    fn rule(&self, number: u32) -> Option<&Rule> {
        self.rules.get(number as usize)
    }
}

impl Fallback {
    /// Stands for a rule id in a requirement; no rule may have it.
    const fn name(self) -> &'static str {
        match self {
            Self::Ordinary | Self::Privileged => "default",
            Self::Unknown => "unknown",
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::Ordinary => "No rule matches this request.",
            Self::Privileged => "No rule matches this privileged request.",
            Self::Unknown => "This request could not be named without doubt.",
        }
    }
}

/// Different texts, each once, as one.
fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut different: Vec<&str> = Vec::new();
    for text in texts {
        if !different.contains(&text) {
            different.push(text);
        }
    }
    (!different.is_empty()).then(|| different.join(" "))
}

#[cfg(test)]
mod tests;
