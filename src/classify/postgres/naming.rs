//! One action for each statement and for each part that hides in it.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use hashbrown::HashSet;
use serde_json::{Map, Value};

use super::catalogue::Catalogue;
use super::grammar::{self, Raw};
use super::shape::{self, Shape};
use super::tree::Node;
use super::wording::Wording;
use super::{Effect, Parsed, Settings, Statement, parameters, search_path, text};
use crate::action::{Access, Action, Trait, Traits};
use crate::catalog::postgres as facts;

mod access;
mod body;
mod bulk;
mod command;
mod function;
mod plpgsql;
mod query;
mod relation;
mod replication;
pub(super) mod secrets;
mod session;
mod tagging;
mod utility;

/// See [`super::parse`].
pub(super) fn parse(sql: &[u8], settings: &Settings, catalogue: &Catalogue) -> Parsed {
    parse_shaped(sql, settings, catalogue, None).0
}

/// The same, and whether it names every text of the shape.
pub(super) fn parse_shaped(
    sql: &[u8],
    settings: &Settings,
    catalogue: &Catalogue,
    shape: Option<&Shape>,
) -> (Parsed, bool) {
    let shown = String::from_utf8_lossy(sql);
    let failed = |why: String| {
        let statements = vec![unknown(&shown, 0..sql.len(), settings, why)];
        (Parsed { statements, wording: Wording::unread(sql) }, false)
    };
    let mut checked = match text::check(sql, settings) {
        Ok(checked) => checked,
        Err(why) => return failed(why),
    };
    let tokens = checked.tokens.take();
    let read = || -> Result<(Parsed, bool), String> {
        let raws = grammar::parse(&checked.sql)?;
        let mut statements: Vec<Statement> = Vec::with_capacity(raws.len());
        if raws.len() > MOST_STATEMENTS {
            return Err(format!("the text has {} statements; more than {MOST_STATEMENTS} are not named", raws.len()));
        }
        let mut created = Vec::new();
        let mut places = checked.places();
        let mut run = InTurn::new(settings);
        for raw in &raws {
            let mut statement = name(raw, &checked.sql, &run.settings, catalogue, &mut created);
            run.follow(&mut statement);
            let start = places.original(statement.text.start);
            statement.text = start..places.original(statement.text.end);
            statements.push(statement);
        }
        let parsed = Parsed { statements, wording: Wording::of(sql, &checked.sql, tokens) };
        let is_open = shape.is_some_and(|it| it.is_open(&raws) && shape::is_template(&parsed, sql));
        Ok((parsed, is_open))
    };
    let parsed = if checked.is_deep { on_a_deep_stack(read) } else { read() };
    parsed.unwrap_or_else(failed)
}

/// What the statements of one string do to the names in those behind them: the server looks each name up
/// when its statement's turn comes.
struct InTurn<'s> {
    settings: Cow<'s, Settings>,
    /// Where names are looked for was changed in a way that a later statement may take back.
    has_moved: bool,
    is_in_doubt: bool,
}

impl<'s> InTurn<'s> {
    fn new(settings: &'s Settings) -> Self {
        Self { settings: Cow::Borrowed(settings), has_moved: false, is_in_doubt: false }
    }

    /// Takes in what a statement does, after it was named.
    fn follow(&mut self, statement: &mut Statement) {
        if self.is_in_doubt && !statement.effect.is_nameless() {
            statement.doubt("what comes before it in the string may change where its names are looked for");
        }
        match &statement.effect {
            Effect::Set { name, value: Some(value), .. } if name == "search_path" => {
                self.has_moved = true;
                match search_path::read(value) {
                    Some(path) => self.settings.to_mut().search_path = path,
                    None => self.is_in_doubt = true,
                }
            }
            Effect::Set { name, .. } if session::moves_names(Some(name)) => self.is_in_doubt = true,
            effect if effect.ends_transaction() => self.is_in_doubt |= self.has_moved,
            Effect::DiscardAll => self.is_in_doubt = true,
            _ => self.is_in_doubt |= statement.is_dynamic,
        }
    }
}

/// Most statements of one string.
const MOST_STATEMENTS: usize = 5000;

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
    match replication::command(sql, settings) {
        Some(statement) => {
            let wording = match std::str::from_utf8(sql) {
                Ok(text) => Wording::of(sql, text, None),
                Err(_) => Wording::unread(sql),
            };
            Parsed { statements: vec![statement], wording }
        }
        None => parse(sql, settings, catalogue),
    }
}

/// See [`super::function_call`].
pub(super) fn function_call(oid: u32, settings: &Settings, catalogue: &Catalogue) -> Statement {
    let mut created = Vec::new();
    let mut namer = Namer::new(settings, catalogue, &mut created);
    namer.push(Draft::new("function_call", &format!("function {oid}")));
    namer.called_oid(oid);
    namer.finish(0..0, Effect::None)
}

fn name(raw: &Raw, sql: &str, settings: &Settings, catalogue: &Catalogue, created: &mut Vec<String>) -> Statement {
    let range = trimmed(sql, raw.start, raw.end);
    let text = sql.get(range.clone()).unwrap_or_default();
    let mut namer = Namer::new(settings, catalogue, created);
    let effect = match raw.tree.node() {
        Some(node) => namer.statement(node, text),
        None => {
            let at = namer.push(Draft::new("unknown", text));
            namer.doubt(at, "a statement has no tree");
            Effect::Dynamic
        }
    };
    namer.finish(range, effect)
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
        is_dynamic: true,
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
    tags: Vec<String>,
    /// What it makes goes with the session: no database changes its shape.
    is_temporary: bool,
}

impl Draft {
    fn new(command: impl Into<Cow<'static, str>>, sql: &str) -> Self {
        Self::with(command, parameters(&secrets::redact(sql)))
    }

    fn with(command: impl Into<Cow<'static, str>>, parameters: Map<String, Value>) -> Self {
        Self {
            command: command.into(),
            traits: Traits::EMPTY,
            access: None,
            resources: Vec::new(),
            parameters,
            unknown: None,
            tags: Vec::new(),
            is_temporary: false,
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
        let value = match value.into() {
            Value::String(text) => Value::String(secrets::redact_value(&text).into_owned()),
            value => value,
        };
        self.parameters.insert(name.to_owned(), value);
    }

    fn finish(mut self, settings: &Settings) -> Action {
        let command = facts::command(&self.command);
        if command.is_none() {
            self.doubt(format!("the facts do not know the command `{}`", self.command));
        }
        let mut traits = command.map_or(Traits::EMPTY, |it| it.traits).union(self.traits);
        if self.is_temporary {
            traits = traits.iter().filter(|it| *it != Trait::Schema).collect();
        }
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
            tags: self.tags,
        }
    }
}

/// Where a draft stands in [`Namer::drafts`].
type At = usize;

/// Names that WITH gives to queries, and whether each may be all of a table.
#[derive(Debug)]
struct Scope<'s> {
    names: Vec<(&'s str, bool)>,
    outer: Option<&'s Scope<'s>>,
}

impl Scope<'_> {
    const ROOT: Self = Self { names: Vec::new(), outer: None };

    fn find(&self, name: &str) -> Option<bool> {
        let mut scope = Some(self);
        while let Some(here) = scope {
            if let Some((_, is_bulk)) = here.names.iter().rev().find(|(it, _)| *it == name) {
                return Some(*is_bulk);
            }
            scope = here.outer;
        }
        None
    }
}

/// Most parts that one statement is named by; more are a doubt about the whole.
const MOST_PARTS: usize = 500;

/// Names one statement with all its parts.
struct Namer<'a> {
    settings: &'a Settings,
    catalogue: &'a Catalogue,
    drafts: Vec<Draft>,
    unresolved: Vec<String>,
    /// Relations and functions, `public.f()`, that the string makes, also by earlier statements.
    created: &'a mut Vec<String>,
    /// Functions of the catalogue that are named already, with the path and the role they were called with.
    seen: HashSet<(u32, Option<Vec<String>>, Option<String>)>,
    /// Bodies around this one, and all so far.
    depth: usize,
    bodies: usize,
    /// What is walked is planned and not run.
    is_dry: bool,
    is_dynamic: bool,
    tagging: tagging::Tagging<'a>,
    /// See [`Effect::Moves`].
    moved: Vec<String>,
    /// In place of the session's, inside a function that sets it.
    search_path: Option<Vec<String>>,
    /// As whom a function runs that runs as its owner.
    acting: Option<String>,
    /// It changes where names are looked for.
    moves_names: bool,
}

impl<'a> Namer<'a> {
    fn new(settings: &'a Settings, catalogue: &'a Catalogue, created: &'a mut Vec<String>) -> Self {
        Self {
            settings,
            catalogue,
            drafts: Vec::new(),
            unresolved: Vec::new(),
            created,
            seen: HashSet::new(),
            depth: 0,
            bodies: 0,
            is_dry: false,
            is_dynamic: false,
            tagging: tagging::Tagging::default(),
            moved: Vec::new(),
            search_path: None,
            acting: None,
            moves_names: false,
        }
    }

    fn push(&mut self, draft: Draft) -> At {
        if self.drafts.len() >= MOST_PARTS {
            self.doubt(0, format!("the statement has more than {MOST_PARTS} parts"));
            return 0;
        }
        self.drafts.push(draft);
        self.drafts.len() - 1
    }

    fn doubt(&mut self, at: At, why: impl Display) {
        if let Some(draft) = self.drafts.get_mut(at) {
            draft.doubt(why);
        }
    }

    fn statement(&mut self, node: &Node, text: &str) -> Effect {
        let Some(name) = command::name(node) else {
            let at = self.push(Draft::new("unknown", text));
            self.doubt(at, format!("`{}` is no statement that is known here", node.kind));
            return Effect::Dynamic;
        };
        let at = self.push(Draft::new(name, text));
        self.fill(at, node, text)
    }

    /// Whether it names anything that only the search path finds.
    fn looks_up(&self) -> bool {
        let builtin = self.resource_of("function", "pg_catalog.");
        self.drafts.iter().flat_map(|draft| &draft.resources).any(|it| !it.starts_with(&builtin))
    }

    fn finish(mut self, text: std::ops::Range<usize>, effect: Effect) -> Statement {
        if self.moves_names && self.bodies > 0 && self.looks_up() {
            self.doubt(0, "it changes where names are looked for while what looks for them runs");
        }
        self.settle_tags();
        let is_dynamic = self.is_dynamic && !matches!(effect, Effect::Set { .. });
        let effect = match effect {
            Effect::None if is_dynamic => Effect::Dynamic,
            Effect::None if !self.moved.is_empty() => Effect::Moves(self.moved),
            effect => effect,
        };
        let actions = self.drafts.into_iter().map(|draft| draft.finish(self.settings)).collect();
        Statement {
            text,
            actions,
            is_dynamic: is_dynamic || effect == Effect::Dynamic,
            effect,
            unresolved: self.unresolved,
        }
    }
}

#[cfg(test)]
mod tests;
