//! Test cases that stand beside the rules: `privilege.cases.yaml` for `privilege.yaml`.
//!
//! A case is a request, as bytes or as an action, and the decision it must get. Naming the bytes is
//! not done here: the caller classifies a request with the code that names live traffic.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{Count, Decision, RuleSet, Ruling, Subject, syntax};
use crate::action::{Access, Action, Agent, Context, Owner, Trait};
use crate::catalog;
use crate::id::{AgentId, GroupId, PersonId};
use crate::time::Timestamp;
use crate::yaml::{self, Diagnostic, Entry, Fields, Kind, Node, Problems, Source, Span};

/// The account of the upstream identity in test cases that do not name another.
pub(crate) const CASE_ACCOUNT: &str = "123456789012";
/// Noon on a Monday, for cases that do not name a moment.
const CASE_MOMENT: &str = "2026-11-16T12:00:00Z";

/// One request and what must come of it.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) agent: Agent,
    pub(crate) context: Context,
    pub(crate) now: Timestamp,
    pub(crate) input: Input,
    /// What its answer came to, where the case is about volume.
    passed: Option<Count>,
    decision: Decision,
    /// The ids that must have decided; `None` when the case leaves that open.
    rules: Option<Vec<String>>,
    source: Source,
    /// Where the name stands.
    span: Span,
}

/// What a case judges.
#[derive(Debug)]
pub(crate) enum Input {
    Action(Box<Action>),
    /// A request, HTTP or SQL, in the JSON form that `countersign classify` reads.
    Request(Map<String, Value>),
}

impl Case {
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { agent: &self.agent, context: &self.context, now: self.now }
    }

    /// The decision of the rules, on the request or on how much its answer came to.
    pub(crate) fn judge(&self, rules: &RuleSet, actions: &[Action]) -> Ruling {
        match self.passed {
            Some(passed) => rules.decide_after(&self.subject(), actions, passed),
            None => rules.decide(&self.subject(), actions),
        }
    }

    /// Compares what came out with what the case wants.
    ///
    /// # Errors
    /// The difference, with the place of the case.
    pub(crate) fn check(&self, ruling: &Ruling) -> Result<(), Diagnostic> {
        let decided: Vec<&str> = match ruling.rules.as_slice() {
            [] if ruling.decision == Decision::Hold => ruling.requirements.iter().map(|it| it.rule.as_str()).collect(),
            [] => vec!["default"],
            rules => rules.iter().map(crate::id::RuleId::as_str).collect(),
        };
        let same_rules = self.rules.as_ref().is_none_or(|wanted| {
            let (mut wanted, mut decided) = (wanted.iter().map(String::as_str).collect::<Vec<_>>(), decided.clone());
            wanted.sort_unstable();
            decided.sort_unstable();
            wanted == decided
        });
        if ruling.decision == self.decision && same_rules {
            return Ok(());
        }
        let wanted = match &self.rules {
            Some(rules) => format!("{} by {}", self.decision.as_str(), rules.join(", ")),
            None => self.decision.as_str().to_owned(),
        };
        let mut failure = self.failure(format!("`{}` has another decision", self.name)).label(format!(
            "wanted {wanted}; got {} by {}",
            ruling.decision.as_str(),
            decided.join(", ")
        ));
        for fault in &ruling.faults {
            failure = failure.help(format!("a condition could not be evaluated: {fault}"));
        }
        Err(failure)
    }

    /// A failure of this case.
    pub(crate) fn failure(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(&self.source, self.span, message)
    }
}

/// Reads the cases of one file.
///
/// # Errors
/// Everything that is wrong in it.
pub(crate) fn read_cases(source: &Source) -> Result<Vec<Case>, Vec<Diagnostic>> {
    let root = yaml::parse(source).map_err(|diagnostic| vec![diagnostic])?;
    let problems = Problems::new(source.clone());
    let mut cases = Vec::new();
    if let Some(mut fields) = Fields::read(&root, "a file of cases", &problems) {
        match fields.required("cases").map(|node| &node.kind) {
            Some(Kind::List(items)) => cases.extend(items.iter().filter_map(|item| read_case(item, &problems))),
            Some(_) => problems.error(root.span, "`cases` must be a list"),
            None => {}
        }
        fields.finish();
    }
    problems.into_result().map(|()| cases)
}

fn read_case(node: &Node, problems: &Problems) -> Option<Case> {
    let mut fields = Fields::read(node, "a case", problems)?;
    let name = fields.required("name").and_then(|node| Some((node.text(problems)?, node.span)));
    let agent = Agent {
        id: AgentId::new(fields.text("agent").unwrap_or("agent")),
        owner: owner(fields.text("owner").unwrap_or("owner")),
    };
    let context = fields.typed("context", read_context).unwrap_or_default();
    let now = fields.typed("now", read_moment).or_else(|| Timestamp::parse_rfc3339(CASE_MOMENT));
    let input = match fields.typed("request", read_request) {
        Some(request) => {
            if let Some(entry) = fields.entry("action") {
                problems.error(entry.key_span, "a case has either `request` or `action`");
            }
            Some(Input::Request(request))
        }
        None if fields.entry("request").is_some() => None,
        None => read_action(&mut fields).map(|action| Input::Action(Box::new(action))),
    };
    let passed = fields.typed("passed", read_passed);
    let decision = fields.required("expect").and_then(|node| node.one_of(problems, "decision", &syntax::DECISIONS));
    let rules = fields.texts("rules").map(|rules| rules.into_iter().map(str::to_owned).collect());
    fields.finish();
    let (name, span) = name?;
    Some(Case {
        name: name.to_owned(),
        agent,
        context,
        now: now?,
        input: input?,
        passed,
        decision: decision?,
        rules,
        source: problems.source().clone(),
        span,
    })
}

/// `group:platform` is a group, anything else a person: as [`Owner`] shows itself.
fn owner(text: &str) -> Owner {
    match text.strip_prefix("group:") {
        Some(group) => Owner::Group(GroupId::new(group)),
        None => Owner::Person(PersonId::new(text)),
    }
}

fn read_context(node: &Node, problems: &Problems) -> Option<Context> {
    let mut fields = Fields::read(node, "`context`", problems)?;
    let mut claim = |key| fields.text(key).map(str::to_owned);
    let context = Context {
        model: claim("model"),
        session: claim("session"),
        task: claim("task"),
        reason: claim("reason"),
        initiator: claim("initiator"),
        trace: None,
    };
    fields.finish();
    Some(context)
}

fn read_passed(node: &Node, problems: &Problems) -> Option<Count> {
    let mut fields = Fields::read(node, "`passed`", problems)?;
    let rows = fields.integer("rows", 0, u64::MAX).unwrap_or_default();
    let bytes = fields.typed("bytes", Node::size).unwrap_or_default();
    fields.finish();
    Some(Count { rows, bytes })
}

fn read_moment(node: &Node, problems: &Problems) -> Option<Timestamp> {
    let moment = Timestamp::parse_rfc3339(node.text(problems)?);
    if moment.is_none() {
        problems.error(node.span, format!("expected a moment such as `{CASE_MOMENT}`, found {}", node.noun()));
    }
    moment
}

/// Reads `method`, `url`, `headers` and `body` (as text) into the JSON form.
fn read_request(node: &Node, problems: &Problems) -> Option<Map<String, Value>> {
    let mut fields = Fields::read(node, "`request`", problems)?;
    // A statement where it has SQL, else an HTTP request.
    if let Some(sql) = fields.text("sql") {
        let mut form = Map::from_iter([("sql".to_owned(), Value::from(sql))]);
        for name in ["params", "session"] {
            form.extend(fields.node(name).map(|node| (name.to_owned(), node.to_json())));
        }
        fields.finish();
        return Some(form);
    }
    let method = fields.text("method").unwrap_or("GET");
    let url = fields.required("url").and_then(|node| node.text(problems));
    let headers = fields.typed("headers", |node, problems| {
        let Kind::Map(entries) = &node.kind else {
            problems.error(node.span, format!("`headers` must be a mapping, not {}", node.noun()));
            return None;
        };
        let field = |entry: &Entry| Some((entry.key.clone(), Value::from(entry.value.text(problems)?)));
        Some(entries.iter().filter_map(field).collect::<Map<_, _>>())
    });
    let body = fields.text("body").unwrap_or_default();
    fields.finish();
    let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, body);
    let form = json!({"method": method, "url": url?, "headers": headers.unwrap_or_default(), "body_base64": body});
    form.as_object().cloned()
}

/// An action by its name: what the case does not say is what the facts say about that name.
fn read_action(fields: &mut Fields<'_>) -> Option<Action> {
    let problems = fields.problems();
    let name = fields.required("action").and_then(|node| Some((node, node.text(problems)?)));
    let texts = |texts: Option<Vec<&str>>| texts.unwrap_or_default().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let resources = texts(fields.texts("resources"));
    let region = fields.text("region").map(str::to_owned);
    let account = fields.text("account").unwrap_or(CASE_ACCOUNT).to_owned();
    let parameters = fields.node("parameters").map_or(Value::Null, Node::to_json);
    let sensitive = texts(fields.texts("sensitive"));
    let tags = texts(fields.texts("tags"));
    let unknown = fields.text("unknown").map(str::to_owned);
    let access = fields.typed("access", |node, problems| {
        node.one_of(problems, "access", &Access::ALL.map(|access| (access.as_str(), access)))
    });
    let traits = fields.typed("traits", |node, problems| {
        let choices = Trait::ALL.map(|it| (it.as_str(), it));
        node.list_of(problems, |item, problems| item.one_of(problems, "trait", &choices))
    });
    let (node, name) = name?;
    let facts = catalog::aws::in_force();
    let (operation, known) = (facts.operation_named(name), super::lint::Known::named(name, facts));
    if known.is_none() && unknown.is_none() {
        super::lint::unknown_action(node, name, facts, problems);
        return None;
    }
    let mut traits = match (traits, &known) {
        (Some(traits), _) => traits.into_iter().collect(),
        (None, Some(known)) => known.certain,
        (None, None) => crate::action::Traits::EMPTY,
    };
    if unknown.is_some() {
        traits = traits.with(Trait::Unknown);
    }
    Some(Action {
        name: name.to_owned().into(),
        access: access.or_else(|| known.and_then(|it| it.access.first().copied())).unwrap_or(Access::Permissions),
        traits,
        resources: if resources.is_empty() { vec!["*".to_owned()] } else { resources },
        region: region.map(Cow::Owned),
        account: Some(account),
        parameters: match parameters {
            Value::Object(members) => members,
            _ => Map::new(),
        },
        sensitive,
        iam_actions: operation
            .map(|it| it.row.iam_actions.iter().map(|it| Cow::Borrowed(*it)).collect())
            .unwrap_or_default(),
        tags,
        unknown,
    })
}
