//! One session's view of the catalogue: the snapshot, and what the session has changed since.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::{PATIENCE, Seat, State};
use crate::action::{Action, Trait};
use crate::classify::postgres::{Catalogue, Effect, Parsed};

pub(in super::super) type Looking = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is to be done when a transaction ends that changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aftermath {
    Nothing,
    /// The catalogue is read again soon: it lacks something.
    Refresh,
    /// Nobody's statement is named before it is read again: it is wrong about something.
    Wait,
}

/// Commands after which what stands in the catalogue runs something else than before.
const REPLACING: [&str; 25] = [
    "alter_aggregate",
    "alter_domain",
    "alter_event_trigger",
    "alter_extension",
    "alter_foreign_table",
    "alter_function",
    "alter_materialized_view",
    "alter_operator",
    "alter_policy",
    "alter_procedure",
    "alter_table",
    "alter_view",
    "create_aggregate",
    "create_cast",
    "create_event_trigger",
    "create_extension",
    "create_function",
    "create_index",
    "create_operator",
    "create_policy",
    "create_procedure",
    "create_rule",
    "create_trigger",
    "create_view",
    "import_foreign_schema",
];

#[derive(Clone)]
pub(in super::super) struct Names {
    seat: Seat,
    news: watch::Receiver<State>,
    catalogue: Arc<Catalogue>,
    /// The number of the check that `catalogue` stands for.
    checked: u64,
    /// The one that it should: the session's own changes are in what it finds.
    wanted: u64,
    aftermath: Aftermath,
    /// Names that mean something else within the open transaction.
    moved: Vec<String>,
    /// The check that was asked for last.
    sought: u64,
    /// Something ran that may have made what only this session sees.
    may_have_more: bool,
}

impl Names {
    pub(super) fn new(seat: Seat) -> Self {
        let news = seat.0.state.subscribe();
        let State { catalogue, checked, .. } = news.borrow().clone();
        Self {
            seat,
            news,
            catalogue,
            checked,
            wanted: 0,
            aftermath: Aftermath::Nothing,
            moved: Vec::new(),
            sought: 0,
            may_have_more: false,
        }
    }

    pub(in super::super) fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// Takes the snapshot that there is now. Costs a look at a counter when it is the same.
    pub(in super::super) fn catch_up(&mut self) {
        if !self.news.has_changed().unwrap_or(false) {
            return;
        }
        let State { catalogue, checked, .. } = self.news.borrow_and_update().clone();
        self.checked = checked;
        let created = self.catalogue.created();
        let created = if checked >= self.wanted && self.aftermath == Aftermath::Nothing {
            // What it made is in there by now, or gone again. Temporary relations never are.
            Arc::new(created.iter().filter(|name| name.starts_with("pg_temp.")).cloned().collect())
        } else {
            Arc::clone(created)
        };
        self.catalogue = match created.is_empty() {
            true => catalogue,
            false => Arc::new(catalogue.with_only_created(created)),
        };
    }

    /// Whether something is committed that the catalogue does not have, and that changes what it says.
    pub(in super::super) fn is_behind(&self) -> bool {
        self.checked < self.seat.0.required.load(Ordering::Acquire)
    }

    /// Whether a look may tell more about a statement that is to be decided by people.
    pub(in super::super) fn may_tell_more(&self, parsed: &Parsed) -> bool {
        self.checked < self.wanted || parsed.statements.iter().any(|it| !it.unresolved.is_empty())
    }

    /// The catalogue, where a relation that it lacks does not exist: it was read since that was asked, and
    /// nothing of this session's can hide from it. The server then says so to the client, as it would without
    /// countersign; a person could not say more.
    pub(in super::super) fn whole(&self) -> Option<Arc<Catalogue>> {
        let is_sure = self.sought > 0
            && self.checked >= self.sought.max(self.wanted)
            && self.aftermath == Aftermath::Nothing
            && !self.may_have_more
            && !self.catalogue.is_builtin();
        is_sure.then(|| Arc::new(self.catalogue.as_whole()))
    }

    /// Puts another catalogue in place of this one, which it gives.
    pub(in super::super) fn replace(&mut self, catalogue: Arc<Catalogue>) -> Arc<Catalogue> {
        std::mem::replace(&mut self.catalogue, catalogue)
    }

    /// Asks for a check, and returns what waits for it, for [`PATIENCE`] at most.
    pub(in super::super) fn look(&mut self) -> Looking {
        let number = self.seat.0.ask();
        self.sought = number;
        let mut news = self.news.clone();
        Box::pin(async move {
            drop(tokio::time::timeout(PATIENCE, news.wait_for(|state| state.attempted >= number)).await);
        })
    }

    /// What is known to be wrong is not used: without a catalogue the functions of users are unknown.
    pub(in super::super) fn forget(&mut self) {
        self.catalogue = Arc::new(self.catalogue.forgotten());
    }

    /// The server has confirmed a statement.
    pub(in super::super) fn note(&mut self, effect: &Effect, actions: &[Action]) {
        match effect {
            Effect::Creates(names) => {
                self.catalogue = Arc::new(self.catalogue.with_created(names.iter().cloned()));
            }
            Effect::Moves(names) => {
                self.aftermath = Aftermath::Wait;
                self.moved.extend_from_slice(names);
                // A temporary relation may have another name now, which no catalogue of ours will ever have.
                self.may_have_more |= actions.iter().any(|it| it.name.starts_with("postgres:alter_"));
            }
            Effect::Dynamic => self.may_have_more = true,
            _ => {}
        }
        for action in actions {
            self.may_have_more |= action.traits.contains(Trait::Unknown);
            if action.traits.contains(Trait::Schema) {
                let is_replacing = REPLACING.contains(&action.name.trim_start_matches("postgres:"));
                self.aftermath = self.aftermath.max(if is_replacing { Aftermath::Wait } else { Aftermath::Refresh });
            } else if action.traits.contains(Trait::Unknown) {
                self.aftermath = self.aftermath.max(Aftermath::Refresh);
            }
        }
    }

    /// No transaction is open any more.
    pub(in super::super) fn outside(&mut self) {
        if self.aftermath == Aftermath::Nothing {
            return;
        }
        if self.aftermath == Aftermath::Wait {
            self.wanted = self.seat.0.ask();
            self.seat.0.required.fetch_max(self.wanted, Ordering::AcqRel);
        } else {
            self.wanted = self.seat.0.ask_in_time();
        }
        self.aftermath = Aftermath::Nothing;
        self.moved.clear();
    }

    /// Temporary relations are gone.
    pub(in super::super) fn drop_temporary(&mut self) {
        let created = self.catalogue.created();
        if created.iter().any(|name| name.starts_with("pg_temp.")) {
            let left = created.iter().filter(|name| !name.starts_with("pg_temp.")).cloned().collect();
            self.catalogue = Arc::new(self.catalogue.with_only_created(Arc::new(left)));
        }
    }

    /// Whether a statement with these actions names something whose meaning the open transaction changed.
    pub(in super::super) fn is_moved(&self, actions: &[Action]) -> bool {
        let last = |resource: &str| resource.rsplit(['.', '/']).next().map(str::to_owned);
        !self.moved.is_empty()
            && actions.iter().flat_map(|it| &it.resources).any(|resource| {
                let name = last(resource);
                self.moved.iter().any(|it| it == "*" || Some(it) == name.as_ref())
            })
    }
}
