//! Rule files: YAML to compiled rules, every mistake with its place; and back to one canonical form.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::assume::Assume;
use super::condition::Condition;
use super::criteria::{Criteria, Field, ParameterTest, TraitTest, Wanted};
use super::volume::{Limit, Volume};
use super::{Decision, Fallback, Options, Rule, lint, terms};
use crate::action::{Access, Trait, Traits};
use crate::catalog::aws::Table;
use crate::id::{RuleId, is_plain_name};
use crate::pattern::Glob;
use crate::yaml::{self, Diagnostic, Fields, Kind, Node, Problems};

/// Longest and shortest window of a volume.
const LONGEST_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
/// Longest message, in characters: it is read on a telephone.
const LONGEST_MESSAGE: usize = 600;

pub(super) const DECISIONS: [(&str, Decision); 3] =
    [("allow", Decision::Allow), ("deny", Decision::Deny), ("hold", Decision::Hold)];

/// Reads the rules of one file. What is wrong is reported; the rules returned then matter no more.
pub(super) fn read(problems: &Problems, options: &Options) -> Vec<Rule> {
    let root = match yaml::parse(problems.source()) {
        Ok(root) => root,
        Err(diagnostic) => {
            problems.push(diagnostic);
            return Vec::new();
        }
    };
    let Some(mut fields) = Fields::read(&root, "a rule file", problems) else { return Vec::new() };
    let rules = fields.required("rules").and_then(|node| match &node.kind {
        Kind::List(items) => {
            let items = items.iter().take_while(|_| !problems.is_full());
            Some(items.filter_map(|item| read_rule(item, problems, options)).collect())
        }
        _ => {
            problems.error(node.span, format!("`rules` must be a list, not {}", node.noun()));
            None
        }
    });
    fields.finish();
    rules.unwrap_or_default()
}

fn read_rule(node: &Node, problems: &Problems, options: &Options) -> Option<Rule> {
    let mut fields = Fields::read(node, "a rule", problems)?;
    let id_node = fields.required("id");
    let id = id_node.and_then(|node| read_id(node, problems));
    let description = fields.text("description").map(str::to_owned);
    let decision = fields.required("decision").and_then(|node| node.one_of(problems, "decision", &DECISIONS));
    let criteria = fields
        .typed("match", |node, problems| read_criteria(node, "`match`", options.facts, problems))
        .unwrap_or_default();
    let unless = fields.typed("unless", |node, problems| read_criteria(node, "`unless`", options.facts, problems));
    let condition_node = fields.node("when");
    let condition = condition_node.and_then(|node| read_condition(node, problems));
    let says_in_transaction = fields.entry("in_transaction").is_some();
    let volume = fields.typed("volume", read_volume);
    let assume = fields.typed("assume", Assume::read).map(Arc::new);
    let hold = terms::read(&mut fields, decision, options);
    let message =
        fields.typed("message", |node, problems| short_text(node, problems)).map(|text| text.trim().to_owned());
    let controls = fields.texts("controls").unwrap_or_default().into_iter().map(str::to_owned).collect();
    if let (Some(Decision::Allow), Some(entry)) = (decision, fields.entry("volume")) {
        problems.push(
            Diagnostic::error(problems.source(), entry.key_span, "an allow rule has no `volume`")
                .help("put what it should not hold into `unless` of the rule with the limit"),
        );
    }
    let no_role = (decision == Some(Decision::Deny)).then_some("a deny rule has no `assume`: nothing is sent");
    let no_role = no_role.or(volume.is_some().then_some("a rule with a `volume` has no `assume`: it is about answers"));
    if let (Some(why), Some(entry)) = (no_role, fields.entry("assume")) {
        problems.error(entry.key_span, why);
    }
    fields.finish();

    let span = id_node.map_or(node.span, |node| node.span);
    if decision == Some(Decision::Allow) && criteria.is_empty() {
        problems.push(
            Diagnostic::error(problems.source(), span, "an allow rule must say in `match` what it allows")
                .help("to let everything ordinary pass, set the default decision in the configuration instead"),
        );
    }
    if let (Some(Decision::Allow), Some(node), Some(condition)) = (decision, condition_node, &condition)
        && condition.uses_claims()
    {
        problems.push(
            Diagnostic::error(problems.source(), node.span, "an allow rule must not depend on `context`").help(
                "its members are what the agent says about itself: an agent could say what the rule wants to hear",
            ),
        );
    }
    if let Some(unless) = &unless {
        lint::contradictions(&criteria, unless, span, problems);
    }
    let id = id?;
    let volume = volume.map(|volume| Arc::new(Limit { rule: id.clone(), volume }));
    Some(Rule {
        id,
        description,
        decision: decision?,
        criteria,
        unless,
        condition,
        hold,
        says_in_transaction,
        message,
        controls,
        volume,
        assume,
        source: problems.source().clone(),
        span,
    })
}

fn read_volume(node: &Node, problems: &Problems) -> Option<Volume> {
    let mut fields = Fields::read(node, "`volume`", problems)?;
    let rows = fields.integer("rows", 0, u64::MAX);
    let bytes = fields.typed("bytes", Node::size);
    let window = fields.typed("window", |node, problems| {
        let window = node.duration(problems)?;
        if (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&window) {
            return Some(window);
        }
        problems.error(node.span, "a window has between 1s and 7d");
        None
    });
    let is_bare = fields.entry("rows").is_none() && fields.entry("bytes").is_none();
    fields.finish();
    if is_bare {
        problems.push(
            Diagnostic::error(problems.source(), node.span, "`volume` must hold `rows` or `bytes`")
                .help("`volume: {rows: 10000, bytes: 16MiB, window: 1h}`"),
        );
    }
    Some(Volume { rows, bytes, window })
}

fn read_id(node: &Node, problems: &Problems) -> Option<RuleId> {
    let text = node.text(problems)?;
    if [Fallback::Ordinary, Fallback::Privileged, Fallback::Unknown].iter().any(|it| it.name() == text) {
        problems
            .error(node.span, format!("the id `{text}` stands for the decision where no rule matches: choose another"));
        return None;
    }
    plain_name(node, problems).map(RuleId::new)
}

pub(super) fn plain_name<'a>(node: &'a Node, problems: &Problems) -> Option<&'a str> {
    let text = node.text(problems)?;
    if is_plain_name(text) {
        return Some(text);
    }
    problems.push(
        Diagnostic::error(problems.source(), node.span, format!("{} is not a plain name", node.noun()))
            .help("1 to 64 letters, digits and . _ @ + -, starting with a letter or digit"),
    );
    None
}

fn short_text<'a>(node: &'a Node, problems: &Problems) -> Option<&'a str> {
    let text = node.text(problems)?;
    if text.chars().count() > LONGEST_MESSAGE {
        problems.error(node.span, format!("a message has at most {LONGEST_MESSAGE} characters"));
        return None;
    }
    Some(text)
}

fn read_criteria(node: &Node, what: &'static str, facts: &'static Table, problems: &Problems) -> Option<Criteria> {
    let mut fields = Fields::read(node, what, problems)?;
    let action = fields.node("action");
    let mut globs = |key| {
        fields.typed(key, |node, problems| node.list_of(problems, |item, problems| item.text(problems).map(Glob::new)))
    };
    let criteria = Criteria {
        action: globs("action").unwrap_or_default(),
        resource: globs("resource").unwrap_or_default(),
        agent: globs("agent").unwrap_or_default(),
        owner: globs("owner").unwrap_or_default(),
        region: globs("region").unwrap_or_default(),
        account: globs("account").unwrap_or_default(),
        access: fields
            .typed("access", |node, problems| {
                let choices = Access::ALL.map(|access| (access.as_str(), access));
                node.list_of(problems, |item, problems| item.one_of(problems, "access", &choices))
            })
            .unwrap_or_default(),
        tags: fields
            .typed("tags", |node, problems| node.list_of(problems, |item, problems| item.text(problems).map(Glob::new)))
            .unwrap_or_default(),
        traits: fields.typed("traits", read_traits).unwrap_or_default(),
        parameters: fields.typed("parameters", read_parameters).unwrap_or_default(),
    };
    fields.finish();
    if node.is_empty() {
        problems.error(node.span, format!("{what} must hold at least one field"));
    }
    if let Some(node) = action {
        lint::actions(node, facts, problems);
    }
    Some(criteria)
}

fn read_traits(node: &Node, problems: &Problems) -> Option<TraitTest> {
    let one =
        |item: &Node, problems: &Problems| item.one_of(problems, "trait", &Trait::ALL.map(|it| (it.as_str(), it)));
    let read = |node: &Node, problems: &Problems| -> Option<Traits> {
        Some(node.list_of(problems, one)?.into_iter().collect())
    };
    if !matches!(node.kind, Kind::Map(_)) {
        return read(node, problems).map(|any| TraitTest { any, ..TraitTest::default() });
    }
    let mut fields = Fields::read(node, "`traits`", problems)?;
    let mut part = |key| fields.node(key).and_then(|node| read(node, problems)).unwrap_or_default();
    let test = TraitTest { any: part("any"), all: part("all"), none: part("none") };
    fields.finish();
    if node.is_empty() {
        problems.error(node.span, "`traits` must hold at least one of: any, all, none");
    }
    if let Some(both) = test.all.iter().find(|it| test.none.contains(*it)) {
        problems.error(node.span, format!("no action has the trait `{}` and has it not", both.as_str()));
    }
    Some(test)
}

fn read_parameters(node: &Node, problems: &Problems) -> Option<Vec<ParameterTest>> {
    let Kind::Map(entries) = &node.kind else {
        problems.push(
            Diagnostic::error(
                problems.source(),
                node.span,
                format!("`parameters` must be a mapping, not {}", node.noun()),
            )
            .help("`UserName: \"prod-*\"`, or `/Tags/*/Key: [env]` with a JSON pointer"),
        );
        return None;
    };
    let tests = entries.iter().filter_map(|entry| {
        let wanted = match &entry.value.kind {
            Kind::Map(_) => {
                let mut fields = Fields::read(&entry.value, "a parameter", problems)?;
                let present = fields.required("present").and_then(|node| node.boolean(problems));
                fields.finish();
                Wanted::Present(present?)
            }
            _ => Wanted::Text(entry.value.list_of(problems, |item, problems| item.text(problems).map(Glob::new))?),
        };
        Some(ParameterTest { name: entry.key.clone(), wanted })
    });
    Some(tests.collect())
}

fn read_condition(node: &Node, problems: &Problems) -> Option<Condition> {
    let text = node.text(problems)?;
    let mistakes = match Condition::compile(text) {
        Ok(condition) => return Some(condition),
        Err(mistakes) => mistakes,
    };
    for mistake in mistakes {
        let span = node.span_within(problems.source(), mistake.start, mistake.end);
        let mut diagnostic = Diagnostic::error(problems.source(), span, mistake.message).label(mistake.label);
        if !mistake.help.is_empty() {
            diagnostic = diagnostic.help(mistake.help);
        }
        problems.push(diagnostic);
    }
    None
}

/// Rules and options as one value that is the same for the same rules, however they are written:
/// lists that mean sets are sorted, comments and descriptions are gone. `rules` come sorted by id.
pub(super) fn canonical(rules: &[Rule], options: &Options) -> Value {
    let rules: Vec<Value> = rules.iter().map(canonical_rule).collect();
    json!({
        "format": 1,
        "ordinary": options.ordinary.as_str(),
        "privileged": options.privileged.as_str(),
        "unknown": options.unknown.as_str(),
        "hold": terms::canonical(&options.hold),
        "rules": rules,
    })
}

fn canonical_rule(rule: &Rule) -> Value {
    let mut value = json!({
        "id": rule.id.as_str(),
        "decision": rule.decision.as_str(),
        "match": canonical_criteria(&rule.criteria),
        "unless": rule.unless.as_ref().map(canonical_criteria),
        "when": rule.condition.as_ref().map(Condition::text),
        "message": rule.message,
        "controls": sorted(rule.controls.iter().map(String::as_str)),
    });
    if let (Decision::Hold, Some(members)) = (rule.decision, value.as_object_mut()) {
        members.insert("hold".to_owned(), terms::canonical(&rule.hold));
    }
    // Absent where there is none, so that rules without it keep their digest.
    if let (Some(limit), Some(members)) = (&rule.volume, value.as_object_mut()) {
        members.insert("volume".to_owned(), canonical_volume(&limit.volume));
    }
    if let (Some(assume), Some(members)) = (&rule.assume, value.as_object_mut()) {
        members.insert("assume".to_owned(), assume.canonical());
    }
    value
}

pub(super) fn canonical_volume(volume: &Volume) -> Value {
    json!({
        "rows": volume.rows,
        "bytes": volume.bytes,
        "window_ms": volume.window.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
    })
}

pub(super) fn canonical_criteria(criteria: &Criteria) -> Value {
    let globs = |field: Field, globs: &[Glob]| (field.as_str().to_owned(), sorted(globs.iter().map(Glob::as_str)));
    let members = [
        globs(Field::Action, &criteria.action),
        globs(Field::Resource, &criteria.resource),
        globs(Field::Agent, &criteria.agent),
        globs(Field::Owner, &criteria.owner),
        globs(Field::Region, &criteria.region),
        globs(Field::Account, &criteria.account),
        (Field::Access.as_str().to_owned(), sorted(criteria.access.iter().map(|access| access.as_str()))),
    ];
    let mut value: serde_json::Map<String, Value> = members.into_iter().collect();
    // Rules from before there were tags keep their digest.
    if !criteria.tags.is_empty() {
        value.extend([globs(Field::Tags, &criteria.tags)]);
    }
    let TraitTest { any, all, none } = criteria.traits;
    value.insert("traits".to_owned(), json!({"any": any.names(), "all": all.names(), "none": none.names()}));
    let parameters = criteria.parameters.iter().map(|test| {
        let wanted = match &test.wanted {
            Wanted::Present(present) => Value::Bool(*present),
            Wanted::Text(globs) => sorted(globs.iter().map(Glob::as_str)),
        };
        (test.name.clone(), wanted)
    });
    value.insert("parameters".to_owned(), Value::Object(parameters.collect()));
    Value::Object(value)
}

pub(super) fn sorted<'a>(texts: impl Iterator<Item = &'a str>) -> Value {
    let set: BTreeSet<&str> = texts.collect();
    set.into_iter().collect()
}
