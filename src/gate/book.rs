//! The holds of this process and the ways to find them. Only synchronous looks and changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tokio::sync::watch;

use super::permit::Reply;
use super::{Attempt, HoldView, NarrowFn};
use crate::action::Delta;
use crate::digest::{Digest, canonical_json, sha256};
use crate::hold::{Ending, Event, Hold, HoldState, Rejected};
use crate::id::{AgentId, HoldId, PersonId};
use crate::people::{Matter, People, Said};
use crate::store::SavedHold;
use crate::time::Timestamp;

/// All open holds, and those that ended lately.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: HashMap<HoldId, Entry>,
    by_key: HashMap<JoinKey, Vec<HoldId>>,
    /// Holds that are not over, by agent; agents without any are absent.
    open: HashMap<AgentId, usize>,
    open_total: usize,
    /// Bytes that the holds in memory take, by agent; also those that are over.
    held_bytes: HashMap<AgentId, usize>,
    held_bytes_total: usize,
    /// Counts what people can see change.
    changes: u64,
}

/// What a retry must share with its first attempt. The retry id alone is never enough: the client
/// chooses it, and could ride an approved one with another body.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct JoinKey {
    agent: AgentId,
    request: Digest,
}

impl JoinKey {
    pub(super) fn of(attempt: &Attempt<'_>) -> Self {
        Self { agent: attempt.agent.id.clone(), request: attempt.digest }
    }
}

/// One hold with everything that hangs on it.
pub(super) struct Entry {
    /// The description; its `state`, `deadline`, `ended` and `votes` are those of the last save,
    /// the truth about them is in `hold`.
    pub(super) about: SavedHold,
    pub(super) hold: Hold,
    /// Present once a client of this process brought the request.
    pub(super) narrow: Option<NarrowFn>,
    pub(super) waiters: Vec<Waiter>,
    /// Signatures of every attempt that ever attached.
    pub(super) presented: Vec<Digest>,
    pub(super) reply: Option<Arc<Reply>>,
    /// Serialises what must be durable between two changes: opening, verdicts, release.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    pub(super) changed: watch::Sender<u64>,
    /// Bytes of memory it takes, roughly, as it was opened.
    pub(super) weight: usize,
    /// False until the opening is durable: what a crash would take back is shown to nobody.
    pub(super) is_durable: bool,
    /// Number of its last change, of all changes in the book.
    touched: u64,
}

/// One attached client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) number: u64,
    pub(super) signature: Digest,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({}, {})", self.about.id, self.hold.state().as_str())
    }
}

impl Book {
    pub(super) fn insert(&mut self, mut entry: Entry) {
        self.changes += 1;
        entry.touched = self.changes;
        if !entry.hold.state().is_over() {
            *self.open.entry(entry.about.agent.id.clone()).or_default() += 1;
            self.open_total += 1;
        }
        *self.held_bytes.entry(entry.about.agent.id.clone()).or_default() += entry.weight;
        self.held_bytes_total += entry.weight;
        self.by_key.entry(entry.join_key()).or_default().push(entry.about.id.clone());
        self.entries.insert(entry.about.id.clone(), entry);
    }

    /// Forgets the requests themselves: what is changed in one is changed in the next that its client sends.
    pub(super) fn forget_requests(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.narrow = None);
    }

    pub(super) fn remove(&mut self, id: &HoldId) {
        let Some(entry) = self.entries.remove(id) else { return };
        if !entry.hold.state().is_over() {
            self.closed(&entry.about.agent.id);
        }
        self.held_bytes_total = self.held_bytes_total.saturating_sub(entry.weight);
        if let Some(bytes) = self.held_bytes.get_mut(&entry.about.agent.id) {
            *bytes = bytes.saturating_sub(entry.weight);
            if *bytes == 0 {
                self.held_bytes.remove(&entry.about.agent.id);
            }
        }
        let key = entry.join_key();
        if let Some(ids) = self.by_key.get_mut(&key) {
            ids.retain(|other| other != id);
            if ids.is_empty() {
                self.by_key.remove(&key);
            }
        }
        entry.wake();
    }

    /// Applies an event to a hold and wakes whoever waits on it when its state changed.
    ///
    /// # Errors
    /// As [`Hold::apply`]; a hold that is not here is not open.
    pub(super) fn apply(
        &mut self,
        id: &HoldId,
        event: Event,
        now: Timestamp,
        is_met: impl FnOnce(&[Said]) -> bool,
    ) -> Result<bool, Rejected> {
        let entry = self.entries.get_mut(id).ok_or(Rejected::NotOpen(HoldState::Ended(Ending::AnswerLost)))?;
        let was_over = entry.hold.state().is_over();
        let is_seen = matches!(event, Event::Attached | Event::Detached | Event::Voted { .. });
        let changed = entry.hold.apply(event, now, is_met)?;
        if changed || is_seen {
            self.changes += 1;
            entry.touched = self.changes;
        }
        if changed {
            entry.wake();
        }
        if !was_over && entry.hold.state().is_over() {
            let agent = entry.about.agent.id.clone();
            self.closed(&agent);
        }
        Ok(changed)
    }

    pub(super) fn entry(&self, id: &HoldId) -> Option<&Entry> {
        self.entries.get(id)
    }

    pub(super) fn entry_mut(&mut self, id: &HoldId) -> Option<&mut Entry> {
        self.entries.get_mut(id)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The holds that changed after change number `since`, and the number of the last change.
    pub(super) fn changed_since(&self, since: u64) -> (impl Iterator<Item = &Entry>, u64) {
        (self.entries.values().filter(move |entry| entry.is_durable && entry.touched > since), self.changes)
    }

    /// The hold's opening is durable: from here on people see it.
    pub(super) fn opened(&mut self, id: &HoldId) {
        if let Some(entry) = self.entries.get_mut(id) {
            self.changes += 1;
            entry.touched = self.changes;
            entry.is_durable = true;
        }
    }

    /// Marks every hold as changed.
    pub(super) fn touch_all(&mut self) {
        self.changes += 1;
        self.entries.values_mut().for_each(|entry| entry.touched = self.changes);
    }

    /// The holds of the same agent and request, oldest first.
    pub(super) fn same_request(&self, key: &JoinKey) -> impl DoubleEndedIterator<Item = &Entry> {
        self.by_key.get(key).into_iter().flatten().filter_map(|id| self.entries.get(id))
    }

    /// Holds that are not over: of this agent, and of all.
    pub(super) fn open_counts(&self, agent: &AgentId) -> (usize, usize) {
        (self.open.get(agent).copied().unwrap_or(0), self.open_total)
    }

    /// Bytes that the holds take: of this agent, and of all.
    pub(super) fn held_bytes(&self, agent: &AgentId) -> (usize, usize) {
        (self.held_bytes.get(agent).copied().unwrap_or(0), self.held_bytes_total)
    }

    fn closed(&mut self, agent: &AgentId) {
        self.open_total = self.open_total.saturating_sub(1);
        if let Some(count) = self.open.get_mut(agent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.open.remove(agent);
            }
        }
    }
}

impl Entry {
    pub(super) fn new(about: SavedHold, hold: Hold, narrow: Option<NarrowFn>) -> Self {
        Self {
            weight: weight(&about),
            touched: 0,
            about,
            hold,
            narrow,
            waiters: Vec::new(),
            presented: Vec::new(),
            reply: None,
            turn: Arc::default(),
            changed: watch::Sender::new(0),
            is_durable: true,
        }
    }

    fn join_key(&self) -> JoinKey {
        JoinKey { agent: self.about.agent.id.clone(), request: self.about.request }
    }

    /// What an approval is bound to: the request that would run, the rule set it was held under, and what it
    /// was shown to change.
    pub(super) fn bound_digest(&self) -> Digest {
        bound_digest(self.about.effective, self.about.rule_set, &self.about.shown.deltas)
    }

    /// The stored form as of now. Taken under the book's lock, so that revisions are in the order of the states.
    pub(super) fn to_saved(&self) -> SavedHold {
        SavedHold {
            state: self.hold.state(),
            deadline: self.hold.deadline(),
            ended: self.hold.ended(),
            votes: self.hold.votes().to_vec(),
            revision: REVISIONS.fetch_add(1, Ordering::Relaxed),
            ..self.about.clone()
        }
    }

    pub(super) fn wake(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// Whether it is that waiter's to release.
    pub(super) fn is_released_by(&self, number: u64) -> bool {
        self.hold.state() == HoldState::Approved && self.waiters.last().is_some_and(|w| w.number == number)
    }

    pub(super) fn is_attached_with(&self, signature: Digest) -> bool {
        self.waiters.iter().any(|waiter| waiter.signature == signature)
    }

    /// What people are to decide, with what `allowed` said so far.
    pub(super) fn matter<'a>(&'a self, allowed: &'a [Said]) -> Matter<'a> {
        let about = &self.about;
        let requirements = &about.ruling.requirements;
        Matter { agent: &about.agent, context: &about.context, requirements, opened: about.opened, allowed }
    }

    /// The hold as people see it, with every secret replaced.
    pub(super) fn view(&self, people: &People, now: Timestamp) -> HoldView {
        let about = &self.about;
        let allowed = self.hold.allowed();
        let matter = self.matter(&allowed);
        let is_pending = self.hold.state() == HoldState::Pending;
        let eligible: Vec<PersonId> = if is_pending { people.eligible(&matter, now) } else { Vec::new() };
        let progress = people.progress(&matter);
        HoldView {
            id: about.id.clone(),
            action_id: about.action_id.clone(),
            agent: (*about.agent).clone(),
            context: about.context.clone(),
            peer: about.peer,
            actions: about.actions.iter().map(super::records::shown_action).collect(),
            shown: (*about.shown).clone(),
            digest: self.bound_digest(),
            ruling: (*about.ruling).clone(),
            opened: about.opened,
            expires: self.hold.deadline(),
            state: self.hold.state(),
            attached: self.hold.attached(),
            votes: self.hold.votes().to_vec(),
            eligible,
            progress,
            modified: about.changes.clone(),
            upstream_status: about.upstream_status,
        }
    }

    /// True when it ended so long ago that nobody can still ask for it.
    pub(super) fn is_stale(&self, now: Timestamp, retain: std::time::Duration) -> bool {
        self.hold.ended().is_some_and(|ended| now.since(ended) > retain)
    }
}

/// What a hold takes in memory, roughly: people are shown all of the parameters, so they stay.
pub(super) fn weight(about: &SavedHold) -> usize {
    let parameters = about.actions.iter().flat_map(|action| &action.parameters);
    let shown = about.shown.url.len() + about.shown.headers.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
    let lines = |it: &Delta| {
        [&it.added, &it.removed, &it.changed, &it.dangers].map(|it| it.iter().map(String::len).sum::<usize>())
    };
    let deltas = about.shown.deltas.iter().flat_map(lines).sum::<usize>();
    WEIGHT_BYTES + shown + deltas + parameters.map(|(name, value)| name.len() + value_weight(value)).sum::<usize>()
}

fn value_weight(value: &Value) -> usize {
    let own = size_of::<Value>();
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => own,
        Value::String(text) => own + text.len(),
        Value::Array(items) => own + items.iter().map(value_weight).sum::<usize>(),
        // A tree of small maps has mostly empty nodes.
        Value::Object(members) => {
            WEIGHT_BYTES + members.iter().map(|(name, value)| name.len() + own + value_weight(value)).sum::<usize>()
        }
    }
}

const WEIGHT_BYTES: usize = 600;

static REVISIONS: AtomicU64 = AtomicU64::new(1);

/// Binds a request to the rule set it was judged under, and to what was shown that it changes.
pub(super) fn bound_digest(effective: Digest, rule_set: Digest, deltas: &[Delta]) -> Digest {
    let mut bound = serde_json::json!({ "request": effective.hex(), "rule_set": rule_set.hex() });
    if let (false, Some(members)) = (deltas.is_empty(), bound.as_object_mut()) {
        members.insert("deltas".to_owned(), deltas.iter().map(Delta::json).collect());
    }
    sha256(canonical_json(&bound).as_bytes())
}
