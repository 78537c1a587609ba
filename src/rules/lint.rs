//! Findings about rules that are well written but cannot mean what they say: names that nothing
//! has, rules that never match, rules that another always overrides.

use std::collections::{BTreeMap, BTreeSet};

use super::criteria::{Criteria, Field, TraitTest, literal_prefix};
use super::{Decision, Rule, syntax};
use crate::action::{Access, TUNNEL, Trait, Traits};
use crate::catalog;
use crate::catalog::aws::Table;
use crate::pattern::Glob;
use crate::yaml::{Diagnostic, Kind, Node, Problems, Span, near_misses};

/// Reports each action glob that no known action has, with near misses.
pub(super) fn actions(node: &Node, facts: &'static Table, problems: &Problems) {
    let items = match &node.kind {
        Kind::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    for item in items {
        if let Kind::Scalar { text, .. } = &item.kind
            && !text.trim().is_empty()
            && matching(text, facts).next().is_none()
        {
            unknown_action(item, text, facts, problems);
        }
    }
}

pub(super) fn unknown_action(node: &Node, text: &str, facts: &'static Table, problems: &Problems) {
    let mut diagnostic = Diagnostic::error(problems.source(), node.span, format!("no known action is named `{text}`"));
    let near = near_actions(text, facts);
    if let Some(nearest) = near.first() {
        diagnostic = diagnostic.label(format!("did you mean `{nearest}`?"));
    }
    if near.len() > 1 {
        diagnostic = diagnostic.help(format!("near: {}", near.join(", ")));
    }
    problems.push(diagnostic.help(format!(
        "names are `aws:<IAM prefix>:<operation>`, `postgres:<command>` or `{TUNNEL}`; facts: {}, {}",
        facts.version(),
        catalog::postgres::facts_version()
    )));
}

/// Reports an `unless` that takes away all that `match` gives.
pub(super) fn contradictions(criteria: &Criteria, unless: &Criteria, span: Span, problems: &Problems) {
    if criteria == unless {
        problems.error(span, "`unless` takes away all that `match` gives: the rule never matches");
    }
}

pub(super) fn duplicate_ids(rules: &[Rule]) -> Vec<Diagnostic> {
    let mut first: BTreeMap<&str, &Rule> = BTreeMap::new();
    let mut found = Vec::new();
    for rule in rules {
        if let Some(earlier) = first.get(rule.id.as_str()) {
            let (line, _) = earlier.source.position(earlier.span.start);
            found.push(
                Diagnostic::error(&rule.source, rule.span, format!("a second rule `{}`", rule.id))
                    .label(format!("the first is at {}:{line}", earlier.source.name())),
            );
        } else {
            first.insert(rule.id.as_str(), rule);
        }
    }
    found
}

/// Rules that can be used but have no effect.
pub(super) fn warnings(rules: &[Rule], facts: &'static Table) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut seen: BTreeMap<String, &Rule> = BTreeMap::new();
    let strict: Vec<&Rule> = rules
        .iter()
        .filter(|rule| rule.decision != Decision::Allow && rule.unless.is_none() && rule.condition.is_none())
        .filter(|rule| rule.volume.is_none())
        .collect();
    for rule in rules {
        found.extend(never_matching(rule, facts));
        found.extend(never_in_a_transaction(rule, facts));
        let key = format!(
            "{} {} {:?} {:?} {:?}",
            rule.decision.as_str(),
            syntax::canonical_criteria(&rule.criteria),
            rule.unless.as_ref().map(syntax::canonical_criteria),
            rule.condition,
            rule.volume.as_ref().map(|limit| syntax::canonical_volume(&limit.volume)),
        );
        if let Some(earlier) = seen.get(key.as_str()) {
            found.push(
                Diagnostic::warning(
                    &rule.source,
                    rule.span,
                    format!("`{}` matches the same as `{}`", rule.id, earlier.id),
                )
                .help("keep one of them"),
            );
        } else {
            seen.insert(key, rule);
        }
        if rule.decision == Decision::Allow
            && let Some(winner) = strict.iter().find(|strict| covers(&strict.criteria, &rule.criteria))
        {
            let decision = winner.decision.as_str();
            found.push(
                Diagnostic::warning(&rule.source, rule.span, format!("`{}` never has an effect", rule.id))
                    .label(format!("`{}` matches all of it, and {decision} wins over allow", winner.id))
                    .help(format!("put the exception into `unless` of `{}`", winner.id)),
            );
        }
    }
    found
}

/// Reports criteria that no known action meets together.
fn never_matching(rule: &Rule, facts: &'static Table) -> Option<Diagnostic> {
    let Criteria { action, access, traits, resource, .. } = &rule.criteria;
    let warning = |message: String| Some(Diagnostic::warning(&rule.source, rule.span, message));
    if let Some(glob) = resource.iter().find(|glob| !may_name_a_resource(glob)) {
        return Some(
            warning(format!("no resource is named `{glob}`"))?
                .help("resources have whole ARNs, `arn:aws:s3:::bucket/*`, or start `postgres:<database>/`, `file:`, `program:` or `tunnel:`"),
        );
    }
    if action.is_empty() || (access.is_empty() && *traits == TraitTest::default()) {
        return None;
    }
    let known =
        || action.iter().flat_map(|glob| matching(glob.as_str(), facts)).filter_map(|name| Known::named(name, facts));
    if !access.is_empty() && !known().any(|it| it.access.iter().any(|level| access.contains(level))) {
        let has: BTreeSet<&str> = known().flat_map(|it| it.access).map(Access::as_str).collect();
        let has: Vec<&str> = has.into_iter().collect();
        return Some(
            warning(format!("`{}` can never match", rule.id))?.label(format!("its actions are: {}", has.join(", "))),
        );
    }
    let met = |it: Known| {
        traits.all.is_subset(it.traits)
            && (traits.any == Traits::EMPTY || traits.any.iter().any(|any| it.traits.contains(any)))
    };
    if known().any(met) {
        return None;
    }
    warning(format!("`{}` can never match", rule.id)).map(|it| it.label("none of its actions can have these traits"))
}

/// Reports a word on transactions in a rule about actions that have none.
fn never_in_a_transaction(rule: &Rule, facts: &'static Table) -> Option<Diagnostic> {
    let is_database = |glob: &Glob| matching(glob.as_str(), facts).any(|name| name.starts_with("postgres:"));
    let actions = &rule.criteria.action;
    if !rule.says_in_transaction || actions.is_empty() || actions.iter().any(is_database) {
        return None;
    }
    let message = format!("`in_transaction` of `{}` never has an effect", rule.id);
    Some(Diagnostic::warning(&rule.source, rule.span, message).label("none of its actions can be in a transaction"))
}

/// What the facts say that an action may have.
pub(super) struct Known {
    /// Its access, the usual one first.
    pub(super) access: Vec<Access>,
    /// Every trait that it has or may have by what the request says.
    traits: Traits,
    /// Those it always has.
    pub(super) certain: Traits,
}

impl Known {
    pub(super) fn named(name: &str, facts: &'static Table) -> Option<Self> {
        if let Some(it) = facts.operation_named(name) {
            let dependent = it.traits.union(DEPENDENT.into_iter().collect());
            let traits = it.conditional_traits.iter().fold(dependent, |all, (_, traits)| all.union(*traits));
            let higher = it.conditional_iam.iter().map(|it| it.access).filter(|access| *access > it.access());
            return Some(Self {
                access: std::iter::once(it.access()).chain(higher).collect(),
                traits,
                certain: it.traits,
            });
        }
        if name == TUNNEL {
            return Some(Self { access: vec![Access::Write], traits: Traits::EMPTY, certain: Traits::EMPTY });
        }
        let it = catalog::postgres::command_named(name)?;
        let traits = it.traits.union(it.possible);
        let mut access = vec![it.access];
        if traits.contains(Trait::Privilege) {
            access.push(Access::Permissions);
        }
        Some(Self { access, traits, certain: it.traits })
    }
}

/// Traits that an action may have by what its request says, whatever its name.
const DEPENDENT: [Trait; 5] = [Trait::CrossAccount, Trait::Export, Trait::Privilege, Trait::Sharing, Trait::Unknown];

fn may_name_a_resource(glob: &Glob) -> bool {
    let beginning = literal_prefix(glob.as_str());
    ["arn:", "file:", "postgres:", "program:", "tunnel:"]
        .into_iter()
        .any(|kind| beginning.starts_with(kind) || (kind.starts_with(beginning) && glob.literal().is_none()))
}

/// Whether everything that `narrow` matches is matched by `wide` too; `false` when not sure.
fn covers(wide: &Criteria, narrow: &Criteria) -> bool {
    let globs = |wide: &[Glob], narrow: &[Glob]| {
        !narrow.is_empty() && narrow.iter().all(|narrow| wide.iter().any(|wide| glob_covers(wide, narrow)))
    };
    Field::ALL.into_iter().filter(|field| wide.gives(*field)).all(|field| match field {
        Field::Action => globs(&wide.action, &narrow.action),
        Field::Access => !narrow.access.is_empty() && narrow.access.iter().all(|it| wide.access.contains(it)),
        Field::Traits => wide.traits == narrow.traits,
        Field::Tags => globs(&wide.tags, &narrow.tags),
        Field::Agent => globs(&wide.agent, &narrow.agent),
        Field::Owner => globs(&wide.owner, &narrow.owner),
        Field::Region => globs(&wide.region, &narrow.region),
        Field::Account => globs(&wide.account, &narrow.account),
        Field::Resource => globs(&wide.resource, &narrow.resource),
        Field::Parameters => wide.parameters == narrow.parameters,
    })
}

fn glob_covers(wide: &Glob, narrow: &Glob) -> bool {
    let beginning = literal_prefix(wide.as_str());
    match narrow.literal() {
        Some(literal) => wide.matches(literal),
        None => {
            wide == narrow
                || (wide.as_str().strip_suffix('*') == Some(beginning) && narrow.as_str().starts_with(beginning))
        }
    }
}

/// Every action name that any plane's facts know: a sorted list for each plane.
fn known_actions(facts: &'static Table) -> [&'static [&'static str]; 3] {
    static OF_DATABASES: std::sync::LazyLock<Vec<&'static str>> =
        std::sync::LazyLock::new(|| catalog::postgres::action_names().collect());
    [facts.action_names(), &OF_DATABASES, &[TUNNEL]]
}

/// The known names that a glob matches.
fn matching(glob: &str, facts: &'static Table) -> impl Iterator<Item = &'static str> {
    let beginning = literal_prefix(glob).to_owned();
    let glob = Glob::new(glob);
    let under = known_actions(facts).into_iter().flat_map(move |names| {
        let from = names.partition_point(|name| *name < beginning.as_str());
        let under = names.get(from..).unwrap_or_default();
        let count = under.partition_point(|name| name.starts_with(&beginning));
        under.iter().take(count).copied()
    });
    under.filter(move |name| glob.matches(name))
}

/// What was probably meant by an action glob that matches nothing: a name, a beginning of names, or a service.
fn near_actions(text: &str, facts: &'static Table) -> Vec<String> {
    let names = known_actions(facts).concat();
    let beginning = literal_prefix(text);
    let rest = text.get(beginning.len()..).unwrap_or_default();
    let service = |name: &str| name.rsplit_once(':').map(|(service, _)| service.to_owned());
    // A name without its plane or service: the longest names that end so.
    let ending = format!(":{text}");
    let near: Vec<String> =
        names.iter().filter(|name| name.ends_with(&ending)).take(NEAR).map(|name| (*name).to_owned()).collect();
    if !near.is_empty() {
        return near;
    }
    let beginnings: BTreeSet<&str> = match rest {
        "" => names.iter().copied().collect(),
        _ => names.iter().flat_map(|name| cuts(name, beginning.chars().count())).collect(),
    };
    let wanted = service(beginning);
    let limit = if rest.is_empty() { NEAR } else { 1 };
    let mut near = near_misses(beginning, beginnings.iter().copied().filter(|name| service(name) == wanted), limit);
    if near.is_empty() {
        near = near_misses(beginning, beginnings.iter().copied(), limit);
    }
    if !near.is_empty() {
        return near.into_iter().map(|near| format!("{near}{rest}")).collect();
    }
    let operation = text.rsplit_once(':').map_or("*", |(_, operation)| operation);
    let services: BTreeSet<String> = names.iter().filter_map(|name| service(name)).collect();
    let wanted = wanted.unwrap_or_else(|| text.to_owned());
    let near = near_misses(&wanted, services.iter().map(String::as_str), NEAR);
    near.into_iter().map(|near| format!("{near}:{operation}")).collect()
}

/// How many near misses are named.
const NEAR: usize = 3;

/// The beginnings of a name that have about that length.
fn cuts(name: &'static str, length: usize) -> impl Iterator<Item = &'static str> {
    (length.saturating_sub(1)..=length + 2).filter_map(|length| name.get(..length))
}
