//! Names SQL: which commands a query string holds, on what, and what hides inside them.
//!
//! The way of one string: [`text`] (is it read here as the server reads it?) → [`grammar`] (the server's
//! own grammar) → [`naming`] (one action per statement and per hidden part). Nothing here knows the
//! state of a session: what a statement will do to it is said as [`Effect`], and who keeps the session
//! believes it when the server has confirmed it.
//! INVARIANT (no guess): what the grammar, the walk over its tree or the catalogue does not know gives
//! an action with `Trait::Unknown`, never silence.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::action::{Action, Trait};

mod answer;
pub(crate) mod cache;
pub(crate) mod catalogue;
mod grammar;
mod naming;
pub(crate) mod search_path;
mod shape;
pub(crate) mod tags;
mod text;
mod tree;
mod values;
mod wording;

pub(crate) use answer::answers;
pub(crate) use catalogue::Catalogue;
pub(crate) use wording::{Wording, recorded, recorded_value};

/// What of a session decides how text is read and names are found; part of the cache's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Settings {
    pub(crate) standard_conforming_strings: bool,
    /// As ParameterStatus spells it: `UTF8`.
    pub(crate) client_encoding: String,
    /// Schemas in order, as the setting lists them; `$user` stands for `user`.
    pub(crate) search_path: Vec<String>,
    /// The upstream role the session acts as.
    pub(crate) user: String,
    pub(crate) database: String,
}

impl Default for Settings {
    /// What a server that nobody configured gives a new session.
    fn default() -> Self {
        Self {
            standard_conforming_strings: true,
            client_encoding: "UTF8".to_owned(),
            search_path: vec!["$user".to_owned(), "public".to_owned()],
            user: "postgres".to_owned(),
            database: "postgres".to_owned(),
        }
    }
}

/// The statements of one query string; none for a string without one.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) statements: Vec<Statement>,
    pub(crate) wording: Wording,
}

/// One statement.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// Bytes of the query string, without the semicolon; the whole string when it could not be parsed.
    pub(crate) text: Range<usize>,
    /// The command itself first, then its hidden parts; never empty.
    pub(crate) actions: Arc<[Action]>,
    pub(crate) effect: Effect,
    /// Besides `effect` it may have changed anything of the session: settings, prepared names, relations.
    pub(crate) is_dynamic: bool,
    /// Names that the catalogue does not have, `public.t`: a fresher catalogue may resolve them, and each
    /// of them made an action unknown.
    pub(crate) unresolved: Vec<String>,
}

/// What a statement does to its session, once the server confirms it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    Begin,
    /// `COMMIT`; with `AND CHAIN` a new transaction begins.
    Commit {
        is_chained: bool,
    },
    /// `ROLLBACK`, or to the savepoint of that name.
    Rollback {
        savepoint: Option<String>,
        is_chained: bool,
    },
    Savepoint(String),
    Release(String),
    /// `PREPARE TRANSACTION`: the transaction leaves the session.
    PrepareTransaction,
    CopyIn,
    CopyOut,
    /// Replication: both sides stream.
    CopyBoth,
    /// SQL `PREPARE`; `types` is the number of declared parameter types.
    Prepare {
        name: String,
        body: String,
        types: usize,
    },
    /// SQL `EXECUTE`: the session knows what the name means. Its arguments as text where they are literals.
    Execute {
        name: String,
        arguments: Vec<Option<String>>,
    },
    /// `DEALLOCATE`; all without a name.
    Deallocate(Option<String>),
    DiscardAll,
    /// `DISCARD TEMP`: the session's temporary relations go.
    DiscardTemporary,
    /// `SET`, `RESET` (no value) or `set_config` with literals. `RESET ALL` has the name `all`.
    Set {
        name: String,
        value: Option<String>,
        is_local: bool,
    },
    Declare {
        cursor: String,
        /// `WITH HOLD`: it outlives its transaction.
        is_held: bool,
    },
    Fetch {
        cursor: String,
    },
    /// `CLOSE`; all without a name.
    Close(Option<String>),
    /// Relations and functions that this session now has and the catalogue may not: `public.t`.
    Creates(Vec<String>),
    /// Names, without their schemas, that mean something else now than the catalogue says: DROP, RENAME,
    /// SET SCHEMA. `*`: any name.
    Moves(Vec<String>),
    /// May have done anything to the session's settings, prepared names and relations.
    Dynamic,
}

impl Effect {
    /// Whether the open transaction is over, or back at a savepoint.
    pub(crate) const fn ends_transaction(&self) -> bool {
        matches!(self, Self::Commit { .. } | Self::Rollback { .. } | Self::PrepareTransaction)
    }

    /// Whether a statement of this effect looks no name up in the catalogue.
    pub(crate) const fn is_nameless(&self) -> bool {
        matches!(
            self,
            Self::Begin
                | Self::Commit { .. }
                | Self::Rollback { .. }
                | Self::Savepoint(_)
                | Self::Release(_)
                | Self::PrepareTransaction
                | Self::Deallocate(_)
                | Self::DiscardAll
                | Self::DiscardTemporary
                | Self::Set { .. }
                | Self::Close(_)
        )
    }
}

impl Statement {
    /// Makes its first action unknown, for a reason that lies outside its text.
    fn doubt(&mut self, why: &str) {
        let mut actions = self.actions.to_vec();
        if let Some(first) = actions.first_mut() {
            first.traits = first.traits.with(Trait::Unknown);
            first.unknown.get_or_insert_with(|| why.to_owned());
        }
        self.actions = actions.into();
    }
}

/// Names the statements of a query string.
///
/// Never fails: a string that cannot be named is one statement with the action `postgres:unknown`.
pub(crate) fn parse(sql: &[u8], settings: &Settings, catalogue: &Catalogue) -> Parsed {
    naming::parse(sql, settings, catalogue)
}

/// Names a command of a replication connection; SQL where it is none.
pub(crate) fn parse_replication(sql: &[u8], settings: &Settings, catalogue: &Catalogue) -> Parsed {
    naming::parse_replication(sql, settings, catalogue)
}

/// A value as Bind carries it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BoundValue<'a> {
    /// `None` is NULL.
    pub(crate) bytes: Option<&'a [u8]>,
    pub(crate) is_binary: bool,
    /// Oid of the parameter's type as Parse declared it; 0 when it left that to the server.
    pub(crate) type_oid: u32,
}

/// The statement's actions with the values of its parameters as `parameters.params`.
pub(crate) fn with_values(statement: &Statement, values: &[BoundValue<'_>]) -> Arc<[Action]> {
    values::with_values(statement, values)
}

/// Names the fast-path call of a function by its oid (the FunctionCall message).
pub(crate) fn function_call(oid: u32, settings: &Settings, catalogue: &Catalogue) -> Statement {
    naming::function_call(oid, settings, catalogue)
}

/// An action's parameters with the statement's own text.
fn parameters(sql: &str) -> Map<String, Value> {
    Map::from_iter([("sql".to_owned(), Value::String(sql.to_owned()))])
}
