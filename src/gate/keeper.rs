//! The gate itself: what it owns, how it starts, what time and the operator do to it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::book::{Book, Entry};
use super::spent::Spent;
use super::volume::Windows;
use super::{HoldView, Look, Refusal, records};
use crate::action::{Action, Agent, Context};
use crate::audit::record::Record;
use crate::catalog::aws::Table;
use crate::digest::Digest;
use crate::hold::{Ending, Event, Hold, HoldState, Patience};
use crate::id::{HoldId, PersonId};
use crate::journal::{Fate, Journal, JournalError, Recovered, Refused};
use crate::people::People;
use crate::rules::{RuleSet, Ruling, Subject};
use crate::store::{SavedHold, Store, StoreError};
use crate::telemetry::Metrics;
use crate::time::{Clock, Timestamp};

/// Limits and patience of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GateOptions {
    /// A pending hold whose client has been gone this long is withdrawn.
    pub(crate) withdraw_after: Duration,
    /// An approval nobody comes back to use expires after this long.
    pub(crate) approval_ttl: Duration,
    /// Answers and endings are kept this long for a retry of the same call.
    pub(crate) retain: Duration,
    /// A denied request that comes back unchanged is answered with the earlier verdict this long,
    /// whatever its retry id; at most `retain`.
    pub(crate) deny_memory: Duration,
    /// A request without retry id joins the hold of an identical one that left no longer ago.
    pub(crate) rejoin_window: Duration,
    pub(crate) max_holds: usize,
    pub(crate) max_holds_per_agent: usize,
    /// Bytes of memory that holds may take, those that ended lately too. A request can be megabytes.
    pub(crate) max_held_bytes: usize,
    pub(crate) max_held_bytes_per_agent: usize,
    /// Presigned requests that stay valid for more than an hour which an agent may have run.
    pub(crate) max_presigned_per_agent: usize,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self {
            withdraw_after: Duration::from_secs(120),
            approval_ttl: Duration::from_secs(300),
            retain: Duration::from_secs(300),
            deny_memory: Duration::from_secs(300),
            rejoin_window: Duration::from_secs(120),
            max_holds: 20_000,
            max_holds_per_agent: 5_000,
            max_held_bytes: 256 << 20,
            max_held_bytes_per_agent: 64 << 20,
            max_presigned_per_agent: 100_000,
        }
    }
}

/// The enforcement point. One for the process, shared by planes and channels.
pub(crate) struct Gate {
    pub(super) options: GateOptions,
    pub(super) journal: Journal,
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) rules: ArcSwap<RuleSet>,
    pub(super) people: ArcSwap<People>,
    book: Mutex<Book>,
    pub(super) spent: Spent,
    pub(super) draining: watch::Sender<bool>,
    changes: watch::Sender<u64>,
    waiter_numbers: AtomicU64,
    strangers: Mutex<Strangers>,
    pub(super) windows: Windows,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

/// The gate cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("what the last run left open cannot be recorded")]
    Journal(#[source] JournalError),
    #[error("the audit log cannot be asked what became of the open holds")]
    Log(#[source] crate::journal::OpenError),
    #[error("what the last run left open cannot be saved")]
    Store(#[source] StoreError),
}

impl Gate {
    /// Takes up what the last run left: forwards without an outcome become `outcome-unknown`,
    /// pending holds and unspent approvals wait for their clients. Starts the sweep.
    ///
    /// # Errors
    /// When that cannot be recorded or saved.
    #[expect(clippy::too_many_arguments, reason = "the composition root hands over each collaborator once")]
    pub(crate) async fn open(
        options: GateOptions,
        journal: Journal,
        recovered: Recovered,
        store: Store,
        saved: Vec<SavedHold>,
        rules: Arc<RuleSet>,
        people: People,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, OpenError> {
        let spent = Spent::recovered(clock.clone(), &recovered, options.max_presigned_per_agent);
        let gate = Arc::new(Self {
            options,
            journal,
            store,
            clock,
            metrics,
            rules: ArcSwap::new(rules),
            people: ArcSwap::from_pointee(people),
            book: Mutex::default(),
            spent,
            draining: watch::Sender::new(false),
            changes: watch::Sender::new(0),
            waiter_numbers: AtomicU64::new(0),
            strangers: Mutex::default(),
            windows: Windows::default(),
        });
        gate.restore(&recovered, saved).await?;
        // What was changed while nothing ran stands in no other record.
        gate.note(records::rules_changed(None, gate.rules.load().digest(), 0));
        gate.note(records::people_changed(&gate.people.load()));
        gate.note_facts();
        tokio::spawn(sweep(Arc::downgrade(&gate)));
        Ok(gate)
    }

    async fn restore(&self, recovered: &Recovered, saved: Vec<SavedHold>) -> Result<(), OpenError> {
        let now = self.clock.now();
        // The log is the truth on forwards: an open one means its hold may have run, whatever was saved.
        let forwarded: HashSet<&str> = recovered.open_forwards.iter().filter_map(|it| it.hold.as_deref()).collect();
        for forward in &recovered.open_forwards {
            let record = records::outcome_unknown(&forward.action_id, forward.hold.as_deref());
            self.journal.append(record).await.map_err(OpenError::Journal)?;
        }
        let mut saved = saved;
        self.correct(&mut saved, now).await?;
        for mut about in saved {
            if forwarded.contains(about.id.as_str()) && !about.state.is_over() {
                about.state = HoldState::Forwarding;
            }
            let was_forwarding = about.state == HoldState::Forwarding;
            let mut hold =
                Hold::restore(about.state, about.deadline, about.votes.clone(), about.ended, self.patience());
            hold.apply(Event::Restarted, now, |_| false).map_err(|_| OpenError::Store(StoreError::Closed))?;
            let entry = Entry::new(about, hold, None);
            if was_forwarding {
                tracing::warn!(hold = %entry.about.id, "was being sent when the last run ended: its outcome is unknown");
                self.store.save(entry.to_saved()).await.map_err(OpenError::Store)?;
                if !forwarded.contains(entry.about.id.as_str())
                    && let Some(record) = records::ended(&entry, None)
                {
                    self.journal.append(record).await.map_err(OpenError::Journal)?;
                }
            }
            self.book().insert(entry);
        }
        let current = self.rules.load_full();
        self.supersede(current.digest());
        self.measure();
        Ok(())
    }

    /// Holds the state database against the log. It is behind after a crash between a record and its
    /// save, or when it was restored from a copy; what it says is open may then have run long ago.
    async fn correct(&self, saved: &mut [SavedHold], now: Timestamp) -> Result<(), OpenError> {
        let is_open = |hold: &SavedHold| !hold.state.is_over();
        let open: HashSet<&str> = saved.iter().filter(|hold| is_open(hold)).map(|hold| hold.id.as_str()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let fates = self.journal.fates(&open).map_err(OpenError::Log)?;
        let mut corrected = Vec::new();
        for hold in saved.iter_mut().filter(|hold| is_open(hold)) {
            let state = match fates.get(hold.id.as_str()) {
                Some(Fate::Ran) => HoldState::Executed,
                // Its outcome is unknown, as the caller records, unless the log knows that it ran.
                _ if hold.state == HoldState::Forwarding => continue,
                Some(Fate::Open) => continue,
                Some(Fate::Ended(ending)) => HoldState::Ended(*ending),
                // Of what the log does not know nobody can say that it did not run.
                Some(Fate::MayHaveRun) | None => HoldState::Ended(Ending::OutcomeUnknown),
            };
            tracing::warn!(hold = %hold.id, state = state.as_str(), "the state database is behind the audit log");
            (hold.state, hold.ended) = (state, Some(now));
            self.store.save(hold.clone()).await.map_err(OpenError::Store)?;
            corrected.push((hold.id.to_string(), state.as_str()));
        }
        if !corrected.is_empty() {
            self.journal.append(records::holds_corrected(corrected)).await.map_err(OpenError::Journal)?;
        }
        Ok(())
    }

    /// Judges a request by the rules in force. Cheap, synchronous, no side effect.
    pub(crate) fn judge(&self, agent: &Agent, context: &Context, actions: &[Action]) -> Ruling {
        self.judge_by(&self.rules.load(), agent, context, actions)
    }

    /// The same for a request that was named by that table; `None` when the rules in force came with another.
    pub(crate) fn judge_named(
        &self,
        facts: Digest,
        agent: &Agent,
        context: &Context,
        actions: &[Action],
    ) -> Option<Ruling> {
        let rules = self.rules.load();
        (rules.facts().digest == facts).then(|| self.judge_by(&rules, agent, context, actions))
    }

    /// The facts about AWS that came into force with the rules.
    pub(crate) fn facts(&self) -> &'static Table {
        self.rules.load().facts()
    }

    pub(super) fn judge_by(&self, rules: &RuleSet, agent: &Agent, context: &Context, actions: &[Action]) -> Ruling {
        rules.decide(&Subject { agent, context, now: self.clock.now() }, actions)
    }

    /// Puts a new rule set in force, and with it the facts that it was checked against. Holds that were opened
    /// under another one end as superseded: their approvals were given for rules that no longer stand (promise 4).
    pub(crate) fn set_rules(self: &Arc<Self>, rules: Arc<RuleSet>) {
        let (after, facts) = (rules.digest(), rules.facts());
        let before = self.rules.swap(rules);
        if before.facts().digest != facts.digest {
            // They name by the facts that were.
            self.book().forget_requests();
            self.note_facts();
        }
        let before = before.digest();
        let rules = self.rules.load_full();
        self.windows.retain(|rule| rules.ids().any(|id| id == rule));
        if before != after {
            let superseded = self.supersede(after);
            self.note(records::rules_changed(Some(before), after, superseded));
        }
    }

    /// Puts new persons and groups in force; holds that nobody can decide any more end at once.
    pub(crate) fn set_people(self: &Arc<Self>, people: People) {
        let people = Arc::new(people);
        self.people.store(Arc::clone(&people));
        self.note(records::people_changed(&people));
        // Who may decide is shown with each hold.
        self.book().touch_all();
        self.announce();
        let now = self.clock.now();
        self.end_open(Event::NobodyEntitled, |entry| {
            !people.can_be_met(&entry.matter(&entry.hold.allowed()), now, entry.hold.deadline())
        });
    }

    /// Records by which facts requests are named from here on.
    fn note_facts(self: &Arc<Self>) {
        let facts = self.facts();
        self.note(records::facts_changed(facts.digest, &facts.version()));
    }

    /// Ends a hold whose client said that it does not want it any more, unless another client waits on it.
    pub(crate) fn withdraw(self: &Arc<Self>, id: &HoldId) {
        self.end_open(Event::Withdrawn, |entry| entry.about.id == *id);
    }

    /// Ends a hold whose session the upstream has ended.
    pub(crate) fn upstream_left(self: &Arc<Self>, id: &HoldId) {
        self.end_open(Event::UpstreamLeft, |entry| entry.about.id == *id);
    }

    /// Digest of the rules in force.
    pub(crate) fn rule_set(&self) -> Digest {
        self.rules.load().digest()
    }

    /// Lets go of every waiting client: each is told that the process restarts and that its hold
    /// is kept. New requests that need a hold are told the same.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Records a request that was refused before it could be judged (framing, signature, credential).
    /// Of those that no virtual key vouches for only some a second, with the count of the others:
    /// anybody who reaches the port could fill the disk otherwise.
    pub(crate) fn refused(self: &Arc<Self>, refusal: Refusal) {
        self.metrics.refused.increment();
        let suppressed = match &refusal.agent {
            Some(_) => Some(0),
            None => self.strangers.lock().unwrap_or_else(PoisonError::into_inner).admit(self.clock.now()),
        };
        if let Some(suppressed) = suppressed {
            self.note(records::refused(&refusal, suppressed));
        }
    }

    /// All holds that are open or ended in the last minutes, oldest first.
    pub(crate) fn holds(&self) -> Vec<HoldView> {
        self.holds_since(0).0
    }

    /// The holds that changed after the change of that number, oldest first, and the number to go on
    /// with. A hold that did not change costs next to nothing: there may be thousands, and watchers.
    pub(crate) fn holds_since(&self, since: u64) -> (Vec<HoldView>, u64) {
        let (people, now) = (self.people.load(), self.clock.now());
        let (mut views, last) = {
            let book = self.book();
            let (changed, last) = book.changed_since(since);
            (changed.map(|entry| entry.view(&people, now)).collect::<Vec<_>>(), last)
        };
        views.sort_by(|a, b| a.opened.cmp(&b.opened).then_with(|| a.id.cmp(&b.id)));
        (views, last)
    }

    pub(crate) fn hold(&self, id: &HoldId) -> Option<HoldView> {
        let (people, now) = (self.people.load(), self.clock.now());
        self.book().entry(id).filter(|entry| entry.is_durable).map(|entry| entry.view(&people, now))
    }

    /// The persons and groups in force.
    pub(crate) fn people(&self) -> Arc<People> {
        self.people.load_full()
    }

    /// True while the configuration knows this person.
    pub(crate) fn knows(&self, person: &PersonId) -> bool {
        self.people.load().persons().any(|it| it.id == *person)
    }

    /// A receiver that sees a new number whenever any hold changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        // A panic under the lock cannot leave the book half changed in a way that permits anything:
        // permits need a durable record, which is made outside.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn patience(&self) -> Patience {
        Patience { withdraw_after: self.options.withdraw_after, approval_ttl: self.options.approval_ttl }
    }

    pub(super) fn waiter_number(&self) -> u64 {
        self.waiter_numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells whoever watches that holds changed.
    pub(super) fn announce(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// Appends a record that nothing waits for. When the disk is behind, a task of its own waits.
    /// Records a question that countersign is about to ask for itself; durable when this returns.
    ///
    /// # Errors
    /// When it cannot be recorded: it must not be asked then.
    pub(crate) async fn looking(&self, look: &Look<'_>) -> Result<(), JournalError> {
        self.journal.append(records::look(look)).await.map(drop)
    }

    pub(super) fn note(self: &Arc<Self>, record: Record) {
        match self.journal.enqueue(record) {
            Ok(()) => {}
            Err(Refused { error: JournalError::Behind, record }) => {
                let gate = Arc::clone(self);
                tokio::spawn(async move {
                    if let Err(error) = gate.journal.append(record).await {
                        tracing::error!(%error, "a record was lost");
                    }
                });
            }
            Err(Refused { error, .. }) => tracing::error!(%error, "a record was lost"),
        }
    }

    /// Saves a hold without anyone waiting for it; the log already has what happened.
    pub(super) fn save_later(&self, saved: SavedHold) {
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.save(saved).await {
                tracing::error!(%error, "a hold could not be saved");
            }
        });
    }

    fn supersede(&self, current: Digest) -> usize {
        let ended = self.end_quietly(Event::Superseded, |entry| entry.about.rule_set != current);
        let count = ended.len();
        for (record, saved) in ended {
            if let Err(Refused { error, .. }) = self.journal.enqueue(record) {
                tracing::error!(%error, "a record was lost");
            }
            self.save_later(saved);
        }
        count
    }

    fn end_open(self: &Arc<Self>, event: Event, affected: impl Fn(&Entry) -> bool) {
        for (record, saved) in self.end_quietly(event, affected) {
            self.note(record);
            self.save_later(saved);
        }
    }

    /// Applies one event to all affected holds that it fits, and gives what to record and save.
    fn end_quietly(&self, event: Event, affected: impl Fn(&Entry) -> bool) -> Vec<(Record, SavedHold)> {
        let now = self.clock.now();
        let mut ended = Vec::new();
        let mut book = self.book();
        let ids: Vec<HoldId> = book.entries().filter(|e| affected(e)).map(|e| e.about.id.clone()).collect();
        for id in ids {
            if book.apply(&id, event.clone(), now, |_| false) == Ok(true)
                && let Some(entry) = book.entry(&id)
            {
                self.count(entry.hold.state());
                ended.extend(records::ended(entry, None).map(|record| (record, entry.to_saved())));
            }
        }
        drop(book);
        if !ended.is_empty() {
            self.announce();
        }
        ended
    }

    /// One sweep: deadlines, clients that went away, endings nobody can ask for any more.
    pub(super) fn tick(self: &Arc<Self>) {
        let now = self.clock.now();
        self.end_open(Event::Tick, |entry| !entry.hold.state().is_over());
        self.measure();
        let retain = self.options.retain.max(self.options.deny_memory);
        let stale: Vec<HoldId> = {
            let book = self.book();
            book.entries().filter(|e| e.is_stale(now, retain)).map(|e| e.about.id.clone()).collect()
        };
        for id in stale {
            self.book().remove(&id);
            let store = self.store.clone();
            tokio::spawn(async move {
                if let Err(error) = store.forget(id).await {
                    tracing::error!(%error, "an ended hold could not be removed");
                }
            });
        }
        self.spent.sweep();
    }

    /// Counts a state that a hold just came to.
    pub(super) fn count(&self, state: HoldState) {
        let metrics = &self.metrics;
        match state {
            HoldState::Approved => metrics.approved.increment(),
            HoldState::Ended(Ending::Denied) => metrics.declined.increment(),
            HoldState::Ended(Ending::Expired | Ending::TransactionLimit | Ending::UpstreamLimit) => {
                metrics.expired.increment()
            }
            HoldState::Ended(Ending::Withdrawn) => metrics.withdrawn.increment(),
            _ => {}
        }
    }

    fn measure(&self) {
        let book = self.book();
        let pending = book.entries().filter(|e| e.hold.state() == HoldState::Pending).count();
        let attached: usize = book.entries().map(|e| e.hold.attached()).sum();
        self.metrics.held.set(i64::try_from(pending).unwrap_or(i64::MAX));
        self.metrics.attached.set(i64::try_from(attached).unwrap_or(i64::MAX));
    }
}

/// How many refusals of strangers were recorded this second.
#[derive(Debug, Default)]
struct Strangers {
    second: i64,
    recorded: u32,
    suppressed: i64,
}

impl Strangers {
    /// The number of refusals left out since the last recorded one, when this one is to be recorded.
    fn admit(&mut self, now: Timestamp) -> Option<i64> {
        if self.second != now.as_seconds() {
            (self.second, self.recorded) = (now.as_seconds(), 0);
        }
        if self.recorded >= STRANGERS_PER_SECOND {
            self.suppressed += 1;
            return None;
        }
        self.recorded += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Refusals of requests without a good signature that are recorded in a second.
const STRANGERS_PER_SECOND: u32 = 20;

/// Time between two looks at the deadlines; an ending may be that late.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);

async fn sweep(gate: std::sync::Weak<Gate>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        match gate.upgrade() {
            Some(gate) => gate.tick(),
            None => return,
        }
    }
}
