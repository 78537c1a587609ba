//! One action for each statement and for each part that hides in it.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::catalogue::Catalogue;
use super::grammar::{self, Raw};
use super::tree::Node;
use super::{Effect, Parsed, Settings, Statement, parameters, text};
use crate::action::{Access, Action, Trait, Traits};
use crate::catalog::postgres as facts;

mod command;

/// See [`super::parse`].
pub(super) fn parse(sql: &[u8], settings: &Settings, catalogue: &Catalogue) -> Parsed {
    let shown = String::from_utf8_lossy(sql);
    let failed = |why: String| Parsed { statements: vec![unknown(&shown, 0..sql.len(), settings, why)] };
    let checked = match text::check(sql, settings) {
        Ok(checked) => checked,
        Err(why) => return failed(why),
    };
    let read = || -> Result<Parsed, String> {
        let raws = grammar::parse(&checked.sql)?;
        let mut statements: Vec<Statement> = Vec::with_capacity(raws.len());
        let mut created = Vec::new();
        for raw in &raws {
            let mut statement = name(raw, &checked.sql, settings, catalogue, &mut created);
            statement.text = checked.original(statement.text.start)..checked.original(statement.text.end);
            statements.push(statement);
        }
        Ok(Parsed { statements })
    };
    let parsed = if checked.is_deep { on_a_deep_stack(read) } else { read() };
    parsed.unwrap_or_else(failed)
}

/// Stack for trees as deep as the grammar makes them; touched only as far as it is needed.
const DEEP_STACK_BYTES: usize = 256 * 1024 * 1024;

fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(DEEP_STACK_BYTES).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| format!("no stack for a text so deeply nested: {error}"))?;
        thread.join().map_err(|_| "the text could not be read".to_owned())?
    })
}

/// See [`super::parse_replication`].
pub(super) fn parse_replication(sql: &[u8], settings: &Settings, catalogue: &Catalogue) -> Parsed {
    parse(sql, settings, catalogue)
}

/// See [`super::function_call`].
pub(super) fn function_call(oid: u32, settings: &Settings, _catalogue: &Catalogue) -> Statement {
    let text = format!("function {oid}");
    unknown(&text, 0..0, settings, format!("nothing is known about the function with oid {oid}"))
}

fn name(raw: &Raw, sql: &str, settings: &Settings, catalogue: &Catalogue, created: &mut Vec<String>) -> Statement {
    let range = trimmed(sql, raw.start, raw.end);
    let text = sql.get(range.clone()).unwrap_or_default();
    let mut namer = Namer { settings, catalogue, drafts: Vec::new(), unresolved: Vec::new(), created };
    let effect = match raw.tree.node() {
        Some(node) => namer.statement(node, text),
        None => {
            let draft = Draft::new("unknown", text);
            let at = namer.push(draft);
            namer.doubt(at, "a statement has no tree");
            Effect::Dynamic
        }
    };
    let Namer { drafts, unresolved, .. } = namer;
    let actions = drafts.into_iter().map(|draft| draft.finish(settings)).collect();
    Statement { text: range, actions, effect, unresolved }
}

/// The statement's own text: without what separates it from its neighbours.
fn trimmed(sql: &str, start: usize, end: usize) -> std::ops::Range<usize> {
    let text = sql.get(start..end).unwrap_or_default();
    let start = start + (text.len() - text.trim_start().len());
    start..start + text.trim().len()
}

/// The one statement of a text that cannot be named.
fn unknown(text: &str, range: std::ops::Range<usize>, settings: &Settings, why: String) -> Statement {
    let mut draft = Draft::new("unknown", text);
    draft.doubt(why);
    Statement {
        text: range,
        actions: Arc::from([draft.finish(settings)]),
        effect: Effect::Dynamic,
        unresolved: Vec::new(),
    }
}

/// An action on the way.
#[derive(Debug)]
struct Draft {
    command: Cow<'static, str>,
    traits: Traits,
    /// Stronger than the command's own.
    access: Option<Access>,
    resources: Vec<String>,
    parameters: Map<String, Value>,
    unknown: Option<String>,
}

impl Draft {
    fn new(command: impl Into<Cow<'static, str>>, sql: &str) -> Self {
        Self {
            command: command.into(),
            traits: Traits::EMPTY,
            access: None,
            resources: Vec::new(),
            parameters: parameters(sql),
            unknown: None,
        }
    }

    /// The first doubt is the one that is told.
    fn doubt(&mut self, why: impl Display) {
        self.unknown.get_or_insert_with(|| why.to_string());
    }

    fn resource(&mut self, resource: String) {
        if !self.resources.contains(&resource) {
            self.resources.push(resource);
        }
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.parameters.insert(name.to_owned(), value.into());
    }

    fn finish(mut self, settings: &Settings) -> Action {
        let command = facts::command(&self.command);
        if command.is_none() {
            self.doubt(format!("the facts do not know the command `{}`", self.command));
        }
        let mut traits = command.map_or(Traits::EMPTY, |it| it.traits).union(self.traits);
        if self.unknown.is_some() {
            traits = traits.with(Trait::Unknown);
        }
        if self.resources.is_empty() {
            self.resources.push(format!("postgres:{}", settings.database));
        }
        Action {
            name: command.map_or_else(
                || Cow::Owned(format!("postgres:{}", self.command)),
                |it| Cow::Borrowed(it.action_name.as_str()),
            ),
            access: self.access.unwrap_or(Access::List).max(command.map_or(Access::Write, |it| it.access)),
            traits,
            resources: self.resources,
            region: None,
            account: Some(settings.database.clone()),
            parameters: self.parameters,
            sensitive: Vec::new(),
            iam_actions: Vec::new(),
            unknown: self.unknown,
        }
    }
}

/// Where a draft stands in [`Namer::drafts`].
type At = usize;

/// Names one statement with all its parts.
struct Namer<'a> {
    settings: &'a Settings,
    catalogue: &'a Catalogue,
    drafts: Vec<Draft>,
    unresolved: Vec<String>,
    /// Relations that earlier statements of the same string make.
    created: &'a mut Vec<String>,
}

impl Namer<'_> {
    fn push(&mut self, draft: Draft) -> At {
        self.drafts.push(draft);
        self.drafts.len() - 1
    }

    fn doubt(&mut self, at: At, why: impl Display) {
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.doubt(why);
        }
    }

    fn statement(&mut self, node: &Node, text: &str) -> Effect {
        let at = self.push(Draft::new(command::name(node).unwrap_or(Cow::Borrowed("unknown")), text));
        if command::name(node).is_none() {
            self.doubt(at, format!("`{}` is no statement that is known here", node.kind));
        }
        Effect::None
    }
}

#[cfg(test)]
mod tests;
