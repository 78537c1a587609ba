//! Why a request got its decision: which rules matched, and what kept the near ones from matching.

use std::cell::OnceCell;

use super::condition::Facts;
use super::criteria::{Criteria, Field, Reach};
use super::{Decision, Fallback, Rule, RuleSet, Ruling, Subject};
use crate::action::Action;
use crate::id::RuleId;

/// The decision on a request and its reasons.
#[derive(Debug)]
pub(crate) struct Explanation {
    pub(crate) ruling: Ruling,
    pub(crate) actions: Vec<ActionTrace>,
}

/// What one action met.
#[derive(Debug)]
pub(crate) struct ActionTrace {
    pub(crate) name: String,
    pub(crate) decision: Decision,
    /// Why, when no rule decided.
    pub(crate) fallback: Option<&'static str>,
    /// The rules that are about this kind of action, those that matched first.
    pub(crate) rules: Vec<RuleTrace>,
    /// Number of rules that are about actions with another name, access or traits.
    pub(crate) others: usize,
}

/// How one rule met one action.
#[derive(Debug)]
pub(crate) struct RuleTrace {
    pub(crate) id: RuleId,
    pub(crate) decision: Decision,
    pub(crate) description: Option<String>,
    /// `file:line` of the rule.
    pub(crate) place: String,
    pub(crate) matched: bool,
    pub(crate) steps: Vec<Step>,
}

/// One part of a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// `action`, `resource`, `unless`, `when`…
    pub(crate) part: &'static str,
    /// Whether this part lets the rule match.
    pub(crate) passed: bool,
    /// What the rule wants, in its own words.
    pub(crate) wanted: String,
    /// What the request has there; empty where that would only repeat it.
    pub(crate) found: String,
}

impl RuleTrace {
    fn is_near(&self) -> bool {
        let kind = [Field::Action, Field::Access, Field::Traits].map(Field::as_str);
        self.steps.iter().all(|step| step.passed || !kind.contains(&step.part))
    }
}

impl RuleSet {
    /// Decides like [`RuleSet::decide`], and says why.
    pub(crate) fn explain(&self, subject: &Subject<'_>, actions: &[Action]) -> Explanation {
        let traces = actions.iter().map(|action| {
            let judged = self.judge(subject, action, &mut Vec::new());
            let facts = OnceCell::new();
            let mut rules: Vec<RuleTrace> = self.rules.iter().map(|rule| rule.trace(subject, action, &facts)).collect();
            let all = rules.len();
            rules.retain(RuleTrace::is_near);
            rules.sort_by_key(|rule| (!rule.matched, std::cmp::Reverse(rule.decision)));
            ActionTrace {
                name: action.name.to_string(),
                decision: judged.decision,
                fallback: judged.fallback.map(Fallback::message),
                others: all - rules.len(),
                rules,
            }
        });
        Explanation { actions: traces.collect(), ruling: self.decide(subject, actions) }
    }
}

impl Rule {
    fn trace(&self, subject: &Subject<'_>, action: &Action, facts: &OnceCell<Facts>) -> RuleTrace {
        let reach = self.reach();
        let mut steps = criteria_steps(&self.criteria, subject, action, reach);
        if let Some(unless) = &self.unless {
            let inner = criteria_steps(unless, subject, action, reach.opposite());
            let applies = unless.matches(subject, action, reach.opposite());
            steps.push(Step {
                part: "unless",
                passed: !applies,
                wanted: inner
                    .iter()
                    .map(|step| format!("{} {}", step.part, step.wanted))
                    .collect::<Vec<_>>()
                    .join(", "),
                found: if applies { "applies".to_owned() } else { "does not apply".to_owned() },
            });
        }
        if let Some(condition) = &self.condition {
            let (passed, found) = match condition.holds(facts.get_or_init(|| Facts::of(subject, action))) {
                Ok(truth) => (truth, truth.to_string()),
                Err(fault) if self.decision == Decision::Allow => (false, format!("{fault}: counts as false")),
                Err(fault) => (true, format!("{fault}: counts as true")),
            };
            steps.push(Step { part: "when", passed, wanted: condition.text().to_owned(), found });
        }
        if let Some(limit) = &self.volume {
            steps.push(Step {
                part: "volume",
                passed: false,
                wanted: format!("more than {}", limit.volume),
                found: "counted in its answer".to_owned(),
            });
        }
        let (line, _) = self.source.position(self.span.start);
        RuleTrace {
            id: self.id.clone(),
            decision: self.decision,
            description: self.description.clone(),
            place: format!("{}:{line}", self.source.name()),
            matched: steps.iter().all(|step| step.passed),
            steps,
        }
    }
}

fn criteria_steps(criteria: &Criteria, subject: &Subject<'_>, action: &Action, reach: Reach) -> Vec<Step> {
    let steps = Field::ALL.into_iter().map(|field| Step {
        part: field.as_str(),
        passed: criteria.field_matches(field, subject, action, reach),
        wanted: criteria.wanted(field),
        found: found(field, subject, action),
    });
    // Traits that were not asked for show only where they kept the rule from matching.
    steps.filter(|step| !step.wanted.is_empty() || !step.passed).collect()
}

fn found(field: Field, subject: &Subject<'_>, action: &Action) -> String {
    match field {
        Field::Action => action.name.to_string(),
        Field::Access => action.access.as_str().to_owned(),
        Field::Traits if action.traits.names().is_empty() => "none".to_owned(),
        Field::Traits => action.traits.names().join(", "),
        Field::Tags if action.tags.is_empty() => "none".to_owned(),
        Field::Tags => action.tags.join(", "),
        Field::Agent => subject.agent.id.to_string(),
        Field::Owner => subject.agent.owner.to_string(),
        Field::Region => action.region.as_deref().unwrap_or(super::NO_REGION).to_owned(),
        Field::Account => action.account.as_deref().unwrap_or("not known").to_owned(),
        Field::Resource => {
            let shown: Vec<&str> = action.resources.iter().take(5).map(String::as_str).collect();
            let more = action.resources.len().saturating_sub(shown.len());
            if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
        }
        // Values may be long, and secret.
        Field::Parameters => action.parameters.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}
