//! From a message to the actions it stands for, and what approving it means.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Map;

use super::super::machine::{Machine, Subject};
use super::super::narrowing::bound_values;
use super::super::settings::Settings;
use super::super::wording::Worded;
use super::{Asker, Place};
use crate::action::{Access, Action, Context, Trait, Traits};
use crate::audit::commitment::What;
use crate::classify::postgres::{self as classify, BoundValue, Effect, Parsed, Statement};
use crate::digest::Digest;
use crate::id::ActionId;
use crate::wire::postgres::frontend::Message;

/// What a cursor reads that SQL declared.
#[derive(Clone, Debug)]
pub(in super::super) struct Cursor {
    pub(super) actions: Arc<[Action]>,
    /// Of what declared it.
    pub(super) digest: Digest,
    /// The rules that allowed it last.
    pub(super) rules: Digest,
    /// The end of the open transaction may run it, and that may change where the session looks for names.
    pub(super) may_move: bool,
    /// `WITH HOLD`: it outlives its transaction.
    pub(super) is_held: bool,
    /// It has done so.
    pub(super) is_committed: bool,
    /// Bytes of what declared it.
    pub(super) size: usize,
}

/// What the text of a statement does not say, and is approved with it.
#[derive(Clone, Debug)]
enum Meant {
    Text(Bytes),
    /// Nobody knows, so that nothing else is the same.
    Unique,
}

/// A message with its actions.
#[derive(Clone, Debug)]
pub(in super::super) struct Named {
    pub(in super::super) action_id: ActionId,
    pub(in super::super) actions: Arc<[Action]>,
    /// See [`Asker::digest_of`].
    digest: OnceLock<Digest>,
    meant: Vec<Meant>,
    settings: Arc<classify::Settings>,
    /// The rules in force when it was named.
    pub(super) rules: Digest,
    pub(super) parsed: Option<Arc<Parsed>>,
    pub(super) sql: Bytes,
    /// What the statement itself says of its agent, with what the session said; `None`: nothing.
    pub(super) context: Option<Context>,
    pub(in super::super) worded: Worded,
    /// The cursor whose rows it gives, where no SQL says so.
    cursor: Option<String>,
    /// It can be written anew with another text.
    is_plain: bool,
}

impl Named {
    /// Those that it was named under.
    pub(super) fn settings(&self) -> Arc<classify::Settings> {
        Arc::clone(&self.settings)
    }

    pub(in super::super) fn sql(&self) -> &[u8] {
        &self.sql
    }

    /// Whether an approver may write it anew: one statement, whose text is here.
    pub(in super::super) fn is_plain(&self) -> bool {
        self.is_plain && self.statements() == 1
    }

    /// Whether the grammar has read all of its text, so that what stands behind it is no part of it.
    pub(in super::super) fn is_read(&self) -> bool {
        self.parsed.as_ref().is_some_and(|parsed| parsed.wording.redacted.is_some())
    }

    pub(in super::super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.sql).into_owned()
    }

    pub(in super::super) fn statements(&self) -> usize {
        self.parsed.as_ref().map_or(1, |parsed| parsed.statements.len().max(1))
    }

    pub(in super::super) fn effects(&self) -> impl Iterator<Item = Effect> + '_ {
        let fetch = self.cursor.clone().map(|cursor| Effect::Fetch { cursor });
        let told = self.parsed.iter().flat_map(|parsed| &parsed.statements).map(|statement| statement.effect.clone());
        told.chain(fetch)
    }

    /// The cursors whose rows it gives.
    pub(in super::super) fn fetched(&self) -> Vec<String> {
        let cursor = |effect| match effect {
            Effect::Fetch { cursor } => Some(cursor),
            _ => None,
        };
        self.effects().filter_map(cursor).collect()
    }

    /// Whether what follows can be read only when this is done.
    pub(in super::super) fn is_barrier(&self) -> bool {
        let is_barrier = |effect: &Effect| match effect {
            Effect::None
            | Effect::Begin
            | Effect::Commit { .. }
            | Effect::Rollback { .. }
            | Effect::Savepoint(_)
            | Effect::Release(_)
            | Effect::PrepareTransaction
            | Effect::CopyOut => false,
            Effect::CopyIn
            | Effect::CopyBoth
            | Effect::Prepare { .. }
            | Effect::Deallocate(_)
            | Effect::DiscardAll
            | Effect::DiscardTemporary
            | Effect::Set { .. }
            | Effect::Declare { .. }
            | Effect::Close(_)
            | Effect::Creates(_)
            | Effect::Moves(_)
            | Effect::Execute { .. }
            | Effect::Fetch { .. }
            | Effect::Dynamic => true,
        };
        self.parsed.as_ref().is_none_or(|parsed| parsed.statements.iter().any(|it| is_barrier(&it.effect)))
    }
}

/// Why a text that was read before is not read again.
const OTHERWISE: &str = "the server has read its text under settings by which it is another text than now";

impl Asker {
    pub(in super::super) fn name(
        &self,
        subject: &Subject,
        message: &Message<'_>,
        settings: &Settings,
        machine: &Machine,
    ) -> Named {
        match subject {
            Subject::Query(sql) => self.name_text(sql.clone(), &[], settings, machine, true),
            Subject::Bind(Some(prepared)) if !prepared.is_read_as_under(settings.for_naming_shared()) => {
                self.unknown(OTHERWISE, settings)
            }
            Subject::Bind(Some(prepared)) => {
                let values = bound_values(message, prepared);
                self.name_text(prepared.sql.clone(), &values, settings, machine, true)
            }
            Subject::Bind(None) => {
                self.unknown("nobody knows what the server has under that statement's name", settings)
            }
            Subject::Execute(portal) => self.name_cursor(portal, settings),
            // The session knows it, and brings it here only when it does not.
            Subject::Again(_) => self.unknown("nobody knows what the server has under that portal's name", settings),
            Subject::Function(oid) => {
                let statement = classify::function_call(*oid, settings.for_naming(), self.names.catalogue());
                let sql = Bytes::from(format!("FunctionCall {oid}"));
                // Nobody is shown what it is called with, so that no other call is this one.
                self.named(Arc::clone(&statement.actions), None, sql, &[], settings, vec![Meant::Unique])
            }
        }
    }

    pub(in super::super) fn name_text(
        &self,
        sql: Bytes,
        values: &[BoundValue<'_>],
        settings: &Settings,
        machine: &Machine,
        is_plain: bool,
    ) -> Named {
        let parsed = self.parse(&sql, settings);
        let is_moved = parsed.statements.iter().any(|it| self.names.is_moved(&it.actions));
        let actions = match parsed.statements.as_slice() {
            [] => Arc::from([self.nothing()]),
            [only] if !is_run(&only.effect) && !settings.is_in_doubt() && !is_moved => {
                classify::with_values(only, values)
            }
            statements => {
                let mut all = Vec::new();
                let mut is_in_doubt = settings.is_in_doubt();
                for (index, statement) in statements.iter().enumerate() {
                    let own = all.len();
                    all.extend(classify::with_values(statement, values).iter().cloned());
                    let is_made_here = is_made_by(statements.get(..index).unwrap_or_default(), &statement.effect);
                    if !is_made_here {
                        self.add_meant(statement, settings, machine, &mut all);
                    }
                    let these = all.get(own..).unwrap_or_default();
                    let ends_transaction = statement.effect.ends_transaction();
                    // What it runs may stand before it in this string, and then its actions do.
                    let run = if is_made_here { all.as_slice() } else { these };
                    let before = statements.get(..index).unwrap_or_default();
                    let moves = is_run(&statement.effect) && run.iter().any(may_move_names)
                        || ends_transaction
                            && (settings.are_passing()
                                || self.has_moving_cursor()
                                || before.iter().any(|it| declares_moving(&it.effect, &it.actions)));
                    if is_in_doubt
                        && !statement.effect.is_nameless()
                        && let Some(first) = these.first()
                    {
                        let why = "what ran before may have changed where this session looks for names";
                        let doubt = doubtful(first, why);
                        all.push(doubt);
                    }
                    is_in_doubt |= moves;
                }
                if is_moved && let Some(first) = all.first() {
                    let doubt = doubtful(first, "the open transaction changed what a name of it means");
                    all.push(doubt);
                }
                all.into()
            }
        };
        let meant: Vec<Meant> = parsed.statements.iter().filter_map(|it| self.meant(&it.effect, machine)).collect();
        Named { is_plain, ..self.named(actions, Some(parsed), sql, values, settings, meant) }
    }

    fn named(
        &self,
        actions: Arc<[Action]>,
        parsed: Option<Arc<Parsed>>,
        sql: Bytes,
        values: &[BoundValue<'_>],
        settings: &Settings,
        meant: Vec<Meant>,
    ) -> Named {
        let action_id = ActionId::fresh(self.plane.clock.now());
        let unread = classify::Wording::default();
        let known = parsed.as_ref().map_or(&unread, |parsed| &parsed.wording);
        let context = known.claims.as_ref().map(|claims| {
            let mut context = claims.or(&self.context);
            context.bind(self.credential.task());
            context
        });
        let worded = self.plane.words.word(&action_id, What::Statement, &sql, known, values);
        let (rules, cursor) = (self.rule_set(), None);
        let (digest, settings) = (OnceLock::new(), Arc::clone(settings.for_naming_shared()));
        let is_plain = false;
        Named { action_id, actions, digest, meant, settings, rules, parsed, sql, context, worded, cursor, is_plain }
    }

    /// A string without a statement, which a server answers and which does nothing: drivers send it to see
    /// whether anybody is there.
    fn nothing(&self) -> Action {
        Action {
            name: "postgres:empty_query".into(),
            access: Access::Read,
            traits: Traits::default(),
            resources: vec!["*".to_owned()],
            region: None,
            account: Some(self.place.database.clone()),
            parameters: Map::new(),
            sensitive: Vec::new(),
            iam_actions: Vec::new(),
            tags: Vec::new(),
            unknown: None,
        }
    }

    pub(in super::super) fn parse(&self, sql: &[u8], settings: &Settings) -> Arc<Parsed> {
        if self.is_replication {
            return Arc::new(classify::parse_replication(sql, settings.for_naming(), self.names.catalogue()));
        }
        self.plane.cache.parse(sql, settings.for_naming_shared(), self.names.catalogue())
    }

    /// What a name stands for decides what runs, and is another in another session.
    fn meant(&self, effect: &Effect, machine: &Machine) -> Option<Meant> {
        let found = match effect {
            Effect::Execute { name, .. } => machine.statement(name.as_bytes()).map(|it| it.sql.clone()),
            Effect::Fetch { cursor } => self.cursors.get(cursor).map(|it| Bytes::from(it.digest.hex())),
            _ => return None,
        };
        Some(found.map_or(Meant::Unique, Meant::Text))
    }

    /// What a name in a statement stands for in this session.
    fn add_meant(&self, statement: &Statement, settings: &Settings, machine: &Machine, all: &mut Vec<Action>) {
        let doubt = |why: &str| statement.actions.first().map(|first| doubtful(first, why));
        match &statement.effect {
            Effect::Execute { name, .. } => match machine.statement(name.as_bytes()) {
                Some(prepared) if !prepared.is_read_as_under(settings.for_naming_shared()) => {
                    all.extend(doubt(OTHERWISE));
                }
                Some(prepared) => {
                    let inner = self.parse(&prepared.sql, settings);
                    all.extend(inner.statements.iter().flat_map(|it| it.actions.iter().cloned()));
                }
                None => all.extend(doubt("nobody knows what the server has under that statement's name")),
            },
            Effect::Fetch { cursor } => match self.cursors.get(cursor) {
                // What was allowed once is read on, unless the rules are others now.
                Some(cursor) => {
                    let known = usize::from(cursor.rules == self.rule_set());
                    all.extend(cursor.actions.iter().skip(known).cloned());
                }
                None => all.extend(doubt("nobody knows what that cursor reads")),
            },
            _ => {}
        }
    }

    fn name_cursor(&self, portal: &[u8], settings: &Settings) -> Named {
        let name = String::from_utf8_lossy(portal);
        match self.cursors.get(&*name) {
            Some(cursor) => {
                let sql = Bytes::from(format!("FETCH FROM {name}"));
                let meant = vec![Meant::Text(cursor.digest.hex().into())];
                let named = self.named(Arc::clone(&cursor.actions), None, sql, &[], settings, meant);
                Named { cursor: Some(name.into_owned()), ..named }
            }
            None => self.unknown("nobody knows what the server has under that portal's name", settings),
        }
    }

    fn unknown(&self, why: &str, settings: &Settings) -> Named {
        // Text that no grammar takes: the classifier's own way to say that it does not know.
        let sql = Bytes::from_static(b"?");
        let parsed = classify::parse(&sql, settings.for_naming(), self.names.catalogue());
        let actions: Vec<Action> =
            parsed.statements.iter().flat_map(|it| it.actions.iter()).map(|it| doubtful(it, why)).collect();
        self.named(actions.into(), None, sql, &[], settings, vec![Meant::Unique])
    }

    /// Digest of exactly what would run: where, as whom, the text, the values, the settings that decide how
    /// both are read, and what the names in it stand for. Made when it is asked for: what no rule matches has no
    /// use for it.
    pub(in super::super) fn digest_of(&self, named: &Named) -> Digest {
        *named.digest.get_or_init(|| self.digest(named))
    }

    fn digest(&self, named: &Named) -> Digest {
        let Named { action_id, actions, meant, settings, sql, worded, .. } = named;
        let mut hasher = self.plane.words.hasher();
        let mut put = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        let Place { host, port, database, user, .. } = &*self.place;
        for part in ["postgres", host, database, user] {
            put(part.as_bytes());
        }
        put(&port.to_be_bytes());
        Settings::for_digest(settings, &mut put);
        put(&[u8::from(self.plane.options.attribution.comment)]);
        put(sql);
        put(worded.values());
        // The same name is a temporary table in one session, and not in the next.
        for action in &**actions {
            put(action.name.as_bytes());
            action.resources.iter().for_each(|it| put(it.as_bytes()));
        }
        for it in meant {
            match it {
                Meant::Text(text) => put(text),
                Meant::Unique => put(action_id.as_str().as_bytes()),
            }
        }
        hasher.finish()
    }

    /// Whether the catalogue may tell more about a message than it did.
    pub(in super::super) fn may_tell_more(&self, named: &Named) -> bool {
        named.parsed.as_ref().is_some_and(|parsed| self.names.may_tell_more(parsed))
    }

    /// Whether it uses a name that the catalogue lacks.
    pub(in super::super) fn lacks_names(&self, named: &Named) -> bool {
        named.parsed.as_ref().is_some_and(|it| it.statements.iter().any(|it| !it.unresolved.is_empty()))
    }

    /// The same work under the rules of now, as a request of its own.
    pub(in super::super) fn again(&self, named: &Named) -> Named {
        let action_id = ActionId::fresh(self.plane.clock.now());
        let worded = self.plane.words.again(&named.worded, What::Statement, &action_id, &named.sql);
        Named { action_id, rules: self.rule_set(), worded, is_plain: false, ..named.clone() }
    }
}

/// Whether what it runs was written before, under a name.
fn is_run(effect: &Effect) -> bool {
    matches!(effect, Effect::Execute { .. } | Effect::Fetch { .. })
}

/// Whether it may change where the session looks for names, as functions do.
pub(super) fn may_move_names(action: &Action) -> bool {
    action.name == "postgres:function_call" || action.traits.contains(Trait::Unknown)
}

/// Whether it declares a cursor whose query may do so: WITH HOLD it is run when its transaction ends.
pub(super) fn declares_moving(effect: &Effect, actions: &[Action]) -> bool {
    matches!(effect, Effect::Declare { .. }) && actions.iter().any(may_move_names)
}

/// Whether statements before it in the same string give the name that it uses its meaning. Their actions
/// are judged with it, so that nothing is to be added.
fn is_made_by(before: &[Statement], used: &Effect) -> bool {
    let makes = |statement: &Statement| match (&statement.effect, used) {
        (Effect::Declare { cursor: made, .. }, Effect::Fetch { cursor }) => made == cursor,
        (Effect::Prepare { name: made, .. }, Effect::Execute { name, .. }) => made == name,
        _ => false,
    };
    let is_plain = |statement: &Statement| !matches!(statement.effect, Effect::Dynamic);
    before.iter().all(is_plain) && before.iter().any(makes)
}

fn doubtful(action: &Action, why: &str) -> Action {
    let traits = action.traits.with(Trait::Unknown);
    Action { traits, unknown: Some(why.to_owned()), ..action.clone() }
}
