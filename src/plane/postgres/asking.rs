//! From a message to the actions it stands for, and from these to a permit.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Map;

use super::login::Credential;
use super::lookup::Names;
use super::machine::{Machine, Prepared, Subject};
use super::narrowing::{Bound, Standing, bound_values};
use super::notice::Notice;
use super::settings::Settings;
use super::timeouts::Limit;
use super::upstream::Host;
use super::wording::Worded;
use super::{Plane, ending, reach};
use crate::action::{Access, Action, Agent, Context, Shown, Trait, Traits};
use crate::audit::commitment::What;
use crate::classify::postgres::{self as classify, BoundValue, Effect, Parsed, Statement};
use crate::digest::Digest;
use crate::gate::{Admission, Ask, Ended, Outcome, Passing, Permit, Receipt};
use crate::id::{ActionId, HoldId};
use crate::rules::{Decision, Ruling};
use crate::wire::postgres::backend::Transaction;
use crate::wire::postgres::frontend::Message;

/// Where a session's statements run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) user: String,
    /// The server's process for the session.
    pub(super) process: Option<u32>,
}

impl Place {
    fn url(&self) -> String {
        let Self { host, port, database, user, .. } = self;
        format!("postgres://{user}@{host}:{port}/{database}")
    }
}

/// One session's way to the gate.
pub(super) struct Asker {
    pub(super) plane: Arc<Plane>,
    pub(super) agent: Arc<Agent>,
    pub(super) credential: Credential,
    pub(super) peer: IpAddr,
    pub(super) context: Context,
    pub(super) place: Arc<Place>,
    pub(super) names: Names,
    /// What cursors that SQL declared read.
    pub(super) cursors: HashMap<String, Cursor>,
    /// Commands of replication are understood too.
    pub(super) is_replication: bool,
}

/// What a cursor reads that SQL declared.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    actions: Arc<[Action]>,
    /// Of what declared it.
    digest: Digest,
    /// The rules that allowed it last.
    rules: Digest,
}

/// What the text of a statement does not say, and is approved with it.
enum Meant {
    Text(Bytes),
    /// Nobody knows, so that nothing else is the same.
    Unique,
}

/// A message with its actions.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) action_id: ActionId,
    pub(super) actions: Arc<[Action]>,
    pub(super) digest: Digest,
    /// The rules in force when it was named.
    rules: Digest,
    parsed: Option<Arc<Parsed>>,
    sql: Bytes,
    /// What the statement itself says of its agent, with what the session said; `None`: nothing.
    context: Option<Context>,
    pub(super) worded: Worded,
    /// The cursor whose rows it gives, where no SQL says so.
    cursor: Option<String>,
    /// It can be written anew with another text.
    is_plain: bool,
}

impl Named {
    pub(super) fn sql(&self) -> &[u8] {
        &self.sql
    }

    /// Whether an approver may write it anew: one statement, whose text is here.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain && self.statements() == 1
    }

    /// Whether the grammar has read all of its text, so that what stands behind it is no part of it.
    pub(super) fn is_read(&self) -> bool {
        self.parsed.as_ref().is_some_and(|parsed| parsed.wording.redacted.is_some())
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.sql).into_owned()
    }

    pub(super) fn statements(&self) -> usize {
        self.parsed.as_ref().map_or(1, |parsed| parsed.statements.len().max(1))
    }

    pub(super) fn effects(&self) -> impl Iterator<Item = Effect> + '_ {
        let fetch = self.cursor.clone().map(|cursor| Effect::Fetch { cursor });
        let told = self.parsed.iter().flat_map(|parsed| &parsed.statements).map(|statement| statement.effect.clone());
        told.chain(fetch)
    }

    /// The cursors whose rows it gives.
    pub(super) fn fetched(&self) -> Vec<String> {
        let cursor = |effect| match effect {
            Effect::Fetch { cursor } => Some(cursor),
            _ => None,
        };
        self.effects().filter_map(cursor).collect()
    }

    /// Whether what follows can be read only when this is done.
    pub(super) fn is_barrier(&self) -> bool {
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

pub(super) type Deciding = Pin<Box<dyn Future<Output = Admission> + Send>>;
type Completing = Pin<Box<dyn Future<Output = Result<(), Ended>> + Send>>;

impl Asker {
    pub(super) fn message_limit_bytes(&self) -> usize {
        self.plane.options.message_limit_bytes
    }

    pub(super) fn notice_every(&self) -> Duration {
        self.plane.options.notice_every
    }

    /// Whether the virtual credential still is the agent's. That its time ran out ends no session.
    pub(super) fn is_welcome(&self) -> bool {
        self.credential.still_holds(&self.agent, &self.plane.door.agents, self.plane.clock.now())
    }

    pub(super) fn name(
        &self,
        subject: &Subject,
        message: &Message<'_>,
        settings: &Settings,
        machine: &Machine,
    ) -> Named {
        match subject {
            Subject::Query(sql) => self.name_text(sql.clone(), &[], settings, machine, true),
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
                self.named(Arc::clone(&statement.actions), None, sql, &[], settings, &[Meant::Unique])
            }
        }
    }

    pub(super) fn name_text(
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
                    let moves = is_run(&statement.effect) && these.iter().any(may_move_names)
                        || ends_transaction && settings.are_passing();
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
        Named { is_plain, ..self.named(actions, Some(parsed), sql, values, settings, &meant) }
    }

    fn named(
        &self,
        actions: Arc<[Action]>,
        parsed: Option<Arc<Parsed>>,
        sql: Bytes,
        values: &[BoundValue<'_>],
        settings: &Settings,
        meant: &[Meant],
    ) -> Named {
        let action_id = ActionId::fresh(self.plane.clock.now());
        let digest = self.digest(&sql, values, settings, &action_id, (&actions, meant));
        let unread = classify::Wording::default();
        let known = parsed.as_ref().map_or(&unread, |parsed| &parsed.wording);
        let context = known.claims.as_ref().map(|claims| claims.or(&self.context));
        let worded = self.plane.words.word(&action_id, What::Statement, &sql, known, values);
        let (rules, cursor) = (self.rule_set(), None);
        Named { action_id, actions, digest, rules, parsed, sql, context, worded, cursor, is_plain: false }
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

    pub(super) fn parse(&self, sql: &[u8], settings: &Settings) -> Arc<Parsed> {
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
                let meant = [Meant::Text(cursor.digest.hex().into())];
                let named = self.named(Arc::clone(&cursor.actions), None, sql, &[], settings, &meant);
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
        self.named(actions.into(), None, sql, &[], settings, &[Meant::Unique])
    }

    /// Digest of exactly what would run: where, as whom, the text, the values, the settings that decide how
    /// both are read, and what the names in it stand for.
    fn digest(
        &self,
        sql: &[u8],
        values: &[BoundValue<'_>],
        settings: &Settings,
        action_id: &ActionId,
        (actions, meant): (&[Action], &[Meant]),
    ) -> Digest {
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
        settings.for_digest(&mut put);
        put(&[u8::from(self.plane.options.attribution.comment)]);
        put(sql);
        for value in values {
            put(&[u8::from(value.is_binary), u8::from(value.bytes.is_none())]);
            put(&value.type_oid.to_be_bytes());
            put(value.bytes.unwrap_or_default());
        }
        // The same name is a temporary table in one session, and not in the next.
        for action in actions {
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
    pub(super) fn may_tell_more(&self, named: &Named) -> bool {
        named.parsed.as_ref().is_some_and(|parsed| self.names.may_tell_more(parsed))
    }

    /// Whether it uses a name that the catalogue lacks.
    pub(super) fn lacks_names(&self, named: &Named) -> bool {
        named.parsed.as_ref().is_some_and(|it| it.statements.iter().any(|it| !it.unresolved.is_empty()))
    }

    pub(super) fn judge(&self, named: &Named) -> Ruling {
        self.plane.metrics.requests.increment();
        self.plane.gate.judge(&self.agent, self.context_of(named), &named.actions)
    }

    pub(super) fn context_of<'n>(&'n self, named: &'n Named) -> &'n Context {
        named.context.as_ref().unwrap_or(&self.context)
    }

    pub(super) async fn pass(&self, named: &Named, ruling: &Ruling) -> Result<Permit, Ended> {
        if self.plane.words.keeps_all() {
            // What opens its record must be durable first: that is [`Asker::pass_later`]'s.
            std::future::pending::<()>().await;
        }
        let passing = Passing {
            action_id: &named.action_id,
            agent: &self.agent,
            key_id: self.credential.id(),
            peer: self.peer,
            actions: &named.actions,
            wording: Some(&named.worded.wording),
        };
        self.plane.gate.pass(&passing, ruling).await
    }

    /// The same, for when the disk is behind.
    pub(super) fn pass_later(&self, named: &Named, ruling: Ruling) -> Deciding {
        let (plane, agent, key_id, peer) =
            (Arc::clone(&self.plane), Arc::clone(&self.agent), self.credential.id().to_owned(), self.peer);
        let (action_id, actions) = (named.action_id.clone(), Arc::clone(&named.actions));
        let wording = named.worded.wording.clone();
        let openings = match plane.words.keeps_all() {
            true => plane.words.openings(&action_id, &named.sql, &named.worded),
            false => Vec::new(),
        };
        Box::pin(async move {
            if let Err(error) = plane.words.keep(openings).await {
                return Admission::Ended(ending::unprovable(&error));
            }
            let (key_id, wording) = (key_id.as_str(), Some(&wording));
            let passing = Passing { action_id: &action_id, agent: &agent, key_id, peer, actions: &actions, wording };
            match plane.gate.pass(&passing, &ruling).await {
                Ok(permit) => Admission::Permitted(permit),
                Err(ended) => Admission::Ended(ended),
            }
        })
    }

    pub(super) fn admit(
        &self,
        named: &Named,
        settings: &Settings,
        standing: &Standing,
        bound: Option<Bound>,
        ruling: Ruling,
    ) -> (Deciding, Arc<OnceLock<HoldId>>) {
        let held_at = Arc::new(OnceLock::new());
        let now = self.plane.clock.now();
        let mut shown = self.shown(&named.sql, settings, standing);
        let reaching = (ruling.decision == Decision::Hold)
            .then(|| (Arc::clone(&self.plane), self.reaching(named, bound.clone(), settings, standing)));
        let mut ask = Ask {
            action_id: named.action_id.clone(),
            agent: Arc::clone(&self.agent),
            context: self.context_of(named).clone(),
            peer: self.peer,
            key_id: self.credential.id().to_owned(),
            actions: Arc::clone(&named.actions),
            digest: named.digest,
            retry_id: None,
            // No message of this protocol is signed, and none can be replayed: each has its own.
            signature: crate::digest::sha256(named.action_id.as_str().as_bytes()),
            signature_expires: now,
            in_transaction: standing.is_in_transaction,
            upstream_limit: standing.limit.map(|limit| limit.after),
            shown: Arc::default(),
            narrow: bound.filter(|_| named.is_plain()).map(|bound| self.narrow_fn(named, bound, settings, standing)),
            held_at: Arc::clone(&held_at),
            wording: Some(Arc::new(named.worded.wording.clone())),
        };
        let openings = self.plane.words.openings(&named.action_id, &named.sql, &named.worded);
        let (asker, settings) = (self.copy(), settings.clone());
        let deciding = async move {
            if let Err(error) = asker.plane.words.keep(openings).await {
                return Admission::Ended(ending::unprovable(&error));
            }
            if let Some((plane, reaching)) = reaching {
                shown.reach = plane.reach.gather(&reaching).await;
            }
            ask.shown = Arc::new(shown);
            let action_id = ask.action_id.clone();
            let admission = asker.plane.gate.admit(Arc::new(ask), ruling).await;
            match asker.keep_modified(&action_id, &admission, &settings).await {
                Ok(()) => admission,
                Err(error) => Admission::Ended(ending::unprovable(&error)),
            }
        };
        (Box::pin(deciding), held_at)
    }

    /// What is to be found out about a message before people are asked.
    fn reaching(
        &self,
        named: &Named,
        bound: Option<Bound>,
        settings: &Settings,
        standing: &Standing,
    ) -> reach::Subject {
        let statements = named.parsed.as_ref().map_or(&[][..], |parsed| &parsed.statements);
        let text = match statements {
            [only] => named.sql.get(only.text.clone()).map(|text| named.sql.slice_ref(text)),
            _ => None,
        };
        let is_utf8 = matches!(settings.for_naming().client_encoding.as_str(), "UTF8" | "SQL_ASCII");
        let host = || Host { name: self.place.host.clone(), port: self.place.port };
        reach::Subject {
            text: match is_utf8 {
                true => text.ok_or("there is more than one statement"),
                false => Err("its text is in another encoding than UTF-8"),
            },
            bound: bound.unwrap_or_default(),
            actions: Arc::clone(&named.actions),
            search_path: settings.for_naming().search_path.clone(),
            has_standard_strings: settings.for_naming().standard_conforming_strings,
            database: self.place.database.clone(),
            process: self.place.process.filter(|_| standing.is_in_transaction).map(|it| (host(), it)),
        }
    }

    pub(super) fn shown(&self, sql: &[u8], settings: &Settings, standing: &Standing) -> Shown {
        let transaction = match standing.transaction {
            Transaction::None if standing.is_in_transaction => {
                "open, a pipeline's: its locks are held while this waits"
            }
            Transaction::None => "none open",
            Transaction::Open => "open: its locks are held while this waits",
            Transaction::Failed => "failed",
        };
        let mut headers: std::collections::BTreeMap<_, _> =
            [("transaction".to_owned(), transaction.to_owned()), ("search_path".to_owned(), settings.path())].into();
        if let Some(Limit { setting, after }) = standing.limit {
            let limit = format!("{setting} of the server: this can wait for {} s", after.as_secs());
            headers.insert("upstream_limit".to_owned(), limit);
        }
        Shown {
            method: "SQL".to_owned(),
            url: self.place.url(),
            headers,
            body_bytes: sql.len() as u64,
            body_sha256: crate::digest::sha256(sql).hex(),
            reach: Vec::new(),
            crossed: None,
        }
    }

    /// The same way for what outlives a borrow.
    pub(super) fn copy(&self) -> Self {
        Self {
            plane: Arc::clone(&self.plane),
            agent: Arc::clone(&self.agent),
            credential: self.credential.clone(),
            peer: self.peer,
            context: self.context.clone(),
            place: Arc::clone(&self.place),
            names: self.names.clone(),
            cursors: self.cursors.clone(),
            is_replication: self.is_replication,
        }
    }

    /// Digest of the rules in force.
    pub(super) fn rule_set(&self) -> Digest {
        self.plane.gate.rule_set()
    }

    /// The same work under the rules of now, as a request of its own.
    pub(super) fn again(&self, named: &Named) -> Named {
        let action_id = ActionId::fresh(self.plane.clock.now());
        let worded = self.plane.words.again(&named.worded, What::Statement, &action_id, &named.sql);
        Named { action_id, rules: self.rule_set(), worded, is_plain: false, ..named.clone() }
    }

    pub(super) fn upstream_left(&self, hold: &HoldId) {
        self.plane.gate.upstream_left(hold);
    }

    pub(super) fn notice(&self, hold: &HoldId) -> Option<Notice> {
        let view = self.plane.gate.hold(hold)?;
        Some(Notice::waiting(&view, self.plane.clock.now()))
    }

    pub(super) fn withdraw(&self, hold: &HoldId) {
        self.plane.gate.withdraw(hold);
    }

    pub(super) fn complete(&self, receipt: Receipt, outcome: Outcome) -> Completing {
        let gate = Arc::clone(&self.plane.gate);
        Box::pin(async move { gate.complete(receipt, outcome, None).await })
    }

    pub(super) fn passed(&self, receipt: Receipt, outcome: &Outcome) {
        self.plane.gate.passed(receipt, outcome);
    }

    /// The server has confirmed what a statement does to its session.
    pub(super) fn apply(&mut self, effect: Effect, named: &Named, settings: &mut Settings, machine: &mut Machine) {
        self.names.note(&effect, &named.actions);
        match effect {
            Effect::Prepare { name, body, .. } => {
                let prepared = Prepared::new(Bytes::from(body), Vec::new());
                machine.prepared_by_sql(name.into_bytes(), Some(prepared));
            }
            Effect::Deallocate(Some(name)) => machine.prepared_by_sql(name.into_bytes(), None),
            Effect::Deallocate(None) => machine.forget_statements(),
            Effect::DiscardTemporary => self.names.drop_temporary(),
            Effect::DiscardAll => {
                self.names.drop_temporary();
                machine.forget_statements();
                self.cursors.clear();
                settings.discard();
            }
            Effect::Set { name, value, is_local } => settings.set(&name, value.as_deref(), is_local),
            Effect::Declare { cursor } => {
                machine.portal_by_sql(Some(cursor.as_bytes()));
                let known = Cursor { actions: Arc::clone(&named.actions), digest: named.digest, rules: named.rules };
                drop(self.cursors.insert(cursor, known));
            }
            // What they run was named with them; what it does to the session was not.
            Effect::Execute { .. } if named.actions.iter().any(may_move_names) => settings.doubt(),
            Effect::Fetch { cursor } => {
                if let Some(cursor) = self.cursors.get_mut(&cursor) {
                    cursor.rules = named.rules;
                }
                if named.actions.iter().any(may_move_names) {
                    settings.doubt();
                }
            }
            Effect::Close(Some(cursor)) => {
                machine.portal_by_sql(Some(cursor.as_bytes()));
                self.cursors.remove(&cursor);
            }
            Effect::Close(None) => {
                machine.portal_by_sql(None);
                self.cursors.clear();
            }
            Effect::Commit { .. } | Effect::PrepareTransaction => {
                settings.commit();
                // A cursor WITH HOLD is run to its end now.
                if self.cursors.values().flat_map(|it| it.actions.iter()).any(may_move_names) {
                    settings.doubt();
                }
            }
            Effect::Rollback { savepoint, .. } => settings.roll_back(savepoint.is_some()),
            Effect::Dynamic => {
                // It may have prepared, closed and set anything: what comes from here on is known again.
                machine.forget_statements();
                self.cursors.clear();
                settings.doubt();
            }
            Effect::None
            | Effect::Begin
            | Effect::Savepoint(_)
            | Effect::Release(_)
            | Effect::CopyIn
            | Effect::CopyOut
            | Effect::CopyBoth
            | Effect::Execute { .. }
            | Effect::Creates(_)
            | Effect::Moves(_) => {}
        }
    }
}

/// Whether what it runs was written before, under a name.
fn is_run(effect: &Effect) -> bool {
    matches!(effect, Effect::Execute { .. } | Effect::Fetch { .. })
}

/// Whether it may change where the session looks for names, as functions do.
fn may_move_names(action: &Action) -> bool {
    action.name == "postgres:function_call" || action.traits.contains(Trait::Unknown)
}

/// Whether statements before it in the same string give the name that it uses its meaning. Their actions
/// are judged with it, so that nothing is to be added.
fn is_made_by(before: &[Statement], used: &Effect) -> bool {
    let makes = |statement: &Statement| match (&statement.effect, used) {
        (Effect::Declare { cursor: made }, Effect::Fetch { cursor }) => made == cursor,
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
