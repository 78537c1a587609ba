//! One session's way to the gate: from the actions of a message to a permit, and to its end.

mod effects;
mod naming;

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(super) use naming::{Cursor, Named};

use super::login::Credential;
use super::lookup::Names;
use super::narrowing::{Bound, Standing};
use super::notice::Notice;
use super::settings::Settings;
use super::timeouts::Limit;
use super::upstream::Host;
use super::{Plane, ending, reach};
use crate::action::{Agent, Context, Shown};
use crate::catalog::postgres::facts_digest;
use crate::digest::Digest;
use crate::gate::{Admission, Ask, Ended, Outcome, Passing, Permit, Receipt};
use crate::id::HoldId;
use crate::rules::{Decision, Ruling};
use crate::wire::postgres::backend::Transaction;

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
        self.credential.still_holds(&self.agent, &self.plane.door.agents, self.peer, self.plane.clock.now())
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
            facts: facts_digest(),
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
            let passing = Passing {
                action_id: &action_id,
                agent: &agent,
                key_id,
                peer,
                actions: &actions,
                facts: facts_digest(),
                wording,
            };
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
            facts: facts_digest(),
            follows_rules: false,
            digest: self.digest_of(named),
            retry_id: None,
            // No message of this protocol is signed, and none can be replayed: each has its own.
            signature: crate::digest::sha256(named.action_id.as_str().as_bytes()),
            signature_expires: now,
            in_transaction: standing.is_in_transaction,
            upstream_limit: standing.limit.map(|limit| limit.after),
            shown: Arc::default(),
            narrow: bound.filter(|_| named.is_plain()).map(|bound| self.narrow_fn(named, bound, settings, standing)),
            look: None,
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
            deltas: Vec::new(),
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
}
