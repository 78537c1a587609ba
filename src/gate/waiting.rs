//! A held request's wait: joining or opening its hold, and the release.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::watch;

use super::book::{Book, Entry, JoinKey, Waiter, bound_digest};
use super::decide::joined;
use super::keeper::Gate;
use super::permit::Matched;
use super::telling::{ending_message, log_unavailable};
use super::{Admission, Ask, Attempt, Ended, Looked, records};
use crate::action::Shown;
use crate::digest::Digest;
use crate::hold::{Ending, Event, Hold, HoldState};
use crate::id::HoldId;
use crate::people::Matter;
use crate::rules::{Assume, Decision, InTransaction, Ruling};
use crate::store::SavedHold;
use crate::time::Timestamp;

impl Gate {
    pub(super) async fn hold_and_wait(self: &Arc<Self>, ask: Arc<Ask>, ruling: Ruling, rule_set: Digest) -> Admission {
        let attached = match self.attach(&ask, &ruling, rule_set) {
            Ok(attached) => attached,
            Err(Refused::Now(admission, id)) => {
                self.note(records::joined(&ask, &id));
                return *admission;
            }
            Err(Refused::Stop(ending, hold)) => {
                return Admission::Ended(self.stop(&ask, &ruling, ending, hold).await);
            }
        };
        let mut changed = attached.changed.clone();
        let mut draining = self.draining.subscribe();
        loop {
            // Marked as seen before the look, so that a change in between is not slept through.
            changed.mark_unchanged();
            match self.look(&attached) {
                Look::Over(admission) => return admission,
                Look::Release => {
                    if let Some(admission) = self.release(&attached, &ask).await {
                        return admission;
                    }
                    continue;
                }
                Look::Wait => {}
            }
            if *draining.borrow_and_update() {
                let message = ending_message(Ending::Restarted, Some(&attached.id), None);
                return Admission::Ended(Ended::new(Ending::Restarted, Some(attached.id.clone()), message));
            }
            tokio::select! {
                // Both senders outlive the loop; should one ever be gone, the next look says what became of it.
                _ = changed.changed() => {}
                _ = draining.changed() => {}
            }
        }
    }

    /// Joins the hold of an earlier attempt of the same call, or opens one.
    fn attach(self: &Arc<Self>, ask: &Ask, ruling: &Ruling, rule_set: Digest) -> Result<Attached, Refused> {
        let now = self.clock.now();
        let mut book = self.book();
        let joinable = self.joinable(&book, &ask.attempt());
        if let Err(Refused::Now(_, id)) = &joinable
            && let Some(entry) = book.entry_mut(id)
        {
            // Captured bytes of this attempt must not fetch the answer once more.
            entry.presented.push(ask.signature);
        }
        if let Some(id) = joinable? {
            let entry = book.entry_mut(&id).ok_or(Refused::Stop(Ending::AnswerLost, None))?;
            if entry.about.patch.is_none() {
                entry.about.actions.clone_from(&ask.actions);
            }
            // What was looked at for an earlier attempt was not looked at for this one.
            if ask.look.is_none() || entry.narrow.is_none() {
                entry.narrow.clone_from(&ask.narrow);
            }
            for limit in limits(ask, ruling, now) {
                if book.apply(&id, limit, now, |_| false).is_err() {
                    tracing::error!(hold = %id, "a hold could not be limited");
                }
            }
            let attached = self.add_waiter(&mut book, &id, ask);
            drop(book);
            self.metrics.joined.increment();
            self.note(records::joined(ask, &id));
            self.announce();
            return Ok(attached);
        }
        if *self.draining.borrow() {
            return Err(Refused::Stop(Ending::Restarted, None));
        }
        let people = self.people.load();
        let (agent, context, requirements) = (&ask.agent, &ask.context, &ruling.requirements);
        let matter = Matter { agent, context, requirements, opened: now, allowed: &[] };
        if !people.can_be_met(&matter, now, now.plus(ruling.expires)) {
            return Err(Refused::Stop(Ending::NoApprover, None));
        }
        let (own, all) = book.open_counts(&ask.agent.id);
        if own >= self.options.max_holds_per_agent || all >= self.options.max_holds {
            return Err(Refused::Stop(Ending::Overloaded, None));
        }
        let id = HoldId::fresh(now);
        let mut hold = Hold::open(now, ruling.expires, self.patience());
        for limit in limits(ask, ruling, now) {
            if hold.apply(limit, now, |_| false).is_err() {
                tracing::error!("a new hold could not be limited");
            }
        }
        let about = describe(&id, ask, ruling, rule_set, &hold, now);
        let mut entry = Entry::new(about, hold, ask.narrow.clone());
        entry.is_durable = false;
        let (own, all) = book.held_bytes(&ask.agent.id);
        if own + entry.weight > self.options.max_held_bytes_per_agent
            || all + entry.weight > self.options.max_held_bytes
        {
            return Err(Refused::Stop(Ending::Overloaded, None));
        }
        let (record, saved) = (records::held(ask, &entry), entry.to_saved());
        // Nobody can decide before the opening is durable: verdicts wait for this turn. A fresh lock is free.
        let turn = Arc::clone(&entry.turn).try_lock_owned().ok();
        book.insert(entry);
        let attached = self.add_waiter(&mut book, &id, ask);
        drop(book);
        self.metrics.holds.increment();
        // A task of its own, so that a client that leaves now cannot cut the opening in two.
        let gate = Arc::clone(self);
        tokio::spawn(async move {
            match gate.open_durably(record, saved).await {
                Ok(()) => {
                    gate.book().opened(&id);
                }
                Err(reason) => {
                    tracing::error!(hold = %id, reason, "a hold could not be opened");
                    gate.book().remove(&id);
                }
            }
            drop(turn);
            gate.announce();
        });
        Ok(attached)
    }

    /// Whether an attempt would get what an earlier one got, or wait where that waits: nothing need be looked at
    /// for it.
    pub(crate) fn has_seen(&self, attempt: &Attempt<'_>) -> bool {
        let book = self.book();
        match self.joinable(&book, attempt) {
            Ok(None) => false,
            Ok(Some(id)) => book.entry(&id).is_some_and(|entry| entry.narrow.is_some()),
            Err(_) => true,
        }
    }

    /// The hold this request may join. An earlier attempt's end is given back at once.
    fn joinable(&self, book: &Book, attempt: &Attempt<'_>) -> Result<Option<HoldId>, Refused> {
        let now = self.clock.now();
        for entry in book.same_request(&JoinKey::of(attempt)).rev() {
            let state = entry.hold.state();
            let ended_ago = entry.hold.ended().map(|ended| now.since(ended));
            // Another owner, or another claim about who started it, may bar other people: that is another question.
            // So is another task, which a key may be bound to.
            if *entry.about.agent != *attempt.agent
                || entry.about.context.initiator != attempt.context.initiator
                || entry.about.context.task != attempt.context.task
            {
                continue;
            }
            let same_call = attempt.retry_id.is_some() && entry.about.retry_id.as_deref() == attempt.retry_id;
            let is_used = state.is_over() && entry.presented.contains(&attempt.signature);
            if is_used || entry.is_attached_with(attempt.signature) {
                return Err(Refused::Stop(Ending::Replayed, Some(entry.about.id.clone())));
            }
            // Nothing ran, and what ended it was neither a person nor the client: asked anew.
            if matches!(state, HoldState::Ended(Ending::Superseded | Ending::FailedUpstream)) {
                continue;
            }
            if same_call && ended_ago.is_none_or(|ago| ago <= self.options.retain) {
                if let Some(admission) = over(entry) {
                    return Err(Refused::Now(Box::new(admission), entry.about.id.clone()));
                }
                return Ok(Some(entry.about.id.clone()));
            }
            if state == HoldState::Ended(Ending::Denied) && ended_ago.is_some_and(|ago| ago <= self.options.deny_memory)
            {
                let id = entry.about.id.clone();
                return Err(match over(entry) {
                    Some(admission) => Refused::Now(Box::new(admission), id),
                    None => Refused::Stop(Ending::Denied, Some(id)),
                });
            }
            // Without an id a retry looks like a second call: it may join only a hold that nobody waits on.
            let anonymous = attempt.retry_id.is_none() && entry.about.retry_id.is_none();
            if anonymous
                && matches!(state, HoldState::Pending | HoldState::Approved)
                && entry.hold.attached() == 0
                && entry.hold.detached_for(now) <= self.options.rejoin_window
            {
                return Ok(Some(entry.about.id.clone()));
            }
        }
        Ok(None)
    }

    async fn open_durably(&self, record: crate::audit::record::Record, saved: SavedHold) -> Result<(), String> {
        self.journal.append(record).await.map_err(|error| error.to_string())?;
        self.store.save(saved).await.map_err(|error| error.to_string())
    }

    fn add_waiter(self: &Arc<Self>, book: &mut Book, id: &HoldId, ask: &Ask) -> Attached {
        let number = self.waiter_number();
        // Once: a request waits at one hold.
        drop(ask.held_at.set(id.clone()));
        self.spent.begin_awaiting(ask.signature, ask.signature_expires);
        // Attaching is possible in every state, so this cannot be rejected.
        if book.apply(id, Event::Attached, self.clock.now(), |_| false).is_err() {
            tracing::error!(hold = %id, "a client could not attach");
        }
        let changed = match book.entry_mut(id) {
            Some(entry) => {
                entry.waiters.push(Waiter { number, signature: ask.signature });
                entry.presented.push(ask.signature);
                entry.changed.subscribe()
            }
            None => watch::channel(0).1,
        };
        Attached { gate: Arc::clone(self), id: id.clone(), number, signature: ask.signature, changed }
    }

    fn look(&self, attached: &Attached) -> Look {
        let book = self.book();
        let Some(entry) = book.entry(&attached.id) else {
            // An entry goes while somebody waits only when its opening could not be recorded.
            let message = ending_message(Ending::LogUnavailable, None, None);
            return Look::Over(Admission::Ended(Ended::new(Ending::LogUnavailable, None, message)));
        };
        match entry.hold.state() {
            // The latest attempt is the live one; earlier connections of the same call get its answer.
            HoldState::Approved if entry.is_released_by(attached.number) => Look::Release,
            HoldState::Approved | HoldState::Forwarding | HoldState::Pending => Look::Wait,
            HoldState::Executed | HoldState::Ended(_) => over(entry).map_or(Look::Wait, Look::Over),
        }
    }

    /// Releases an approved hold. In a task of its own: a client that leaves in the middle leaves a
    /// whole release behind, whose permit is then dropped and recorded as unsent.
    async fn release(self: &Arc<Self>, attached: &Attached, ask: &Arc<Ask>) -> Option<Admission> {
        let gate = Arc::clone(self);
        let (id, number, ask) = (attached.id.clone(), attached.number, Arc::clone(ask));
        match tokio::spawn(async move { gate.release_now(&id, number, &ask).await }).await {
            Ok(admission) => admission,
            Err(_) => Some(Admission::Ended(Ended::new(
                Ending::OutcomeUnknown,
                Some(attached.id.clone()),
                ending_message(Ending::OutcomeUnknown, Some(&attached.id), None),
            ))),
        }
    }

    /// `None`: the hold is not to be released by this waiter any more; look again.
    async fn release_now(self: &Arc<Self>, id: &HoldId, number: u64, ask: &Ask) -> Option<Admission> {
        let turn = Arc::clone(&self.book().entry(id)?.turn);
        let _turn = turn.lock().await;
        match self.is_as_shown(id, number, ask).await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(ended) => return Some(Admission::Ended(ended)),
        }
        let (record, saved, runnable, held) = {
            let mut book = self.book();
            // An approval that ran out before the sweep saw it ends here, with its own name and its signature unspent.
            if let Some(admission) = self.end_one(&mut book, id, Event::Tick) {
                return Some(admission);
            }
            let entry = book.entry(id)?;
            if !entry.is_released_by(number) {
                return None;
            }
            let runnable = match self.check_release(entry, ask) {
                Ok(runnable) => runnable,
                Err(why) => {
                    tracing::warn!(hold = %id, why, "an approval does not stand at release");
                    return self.end_one(&mut book, id, Event::Superseded);
                }
            };
            if !self.spend_signature(ask) {
                let message = ending_message(Ending::Replayed, Some(id), None);
                return Some(Admission::Ended(Ended::new(Ending::Replayed, Some(id.clone()), message)));
            }
            let entry = book.entry(id)?;
            let record = records::forward(ask, &entry.about.ruling, entry.about.rule_set, runnable.digest, Some(entry));
            book.apply(id, Event::Released, self.clock.now(), |_| false).ok()?;
            let entry = book.entry(id)?;
            (record, entry.to_saved(), runnable, self.clock.now().since(entry.about.opened))
        };
        // Crash before the save: approved, unspent. Between save and record: `outcome-unknown`,
        // though nothing left. After the record: `outcome-unknown`. Never twice.
        if let Err(error) = self.store.save(saved).await {
            self.apply_and_save(id, Event::Unsent);
            return Some(Admission::Ended(log_unavailable(&error)));
        }
        match self.journal.append(record).await {
            Ok(forward) => {
                let Runnable { digest, parameters: modified, role } = runnable;
                let (hold, held) = (Some(id.clone()), Some(held));
                Some(Admission::Permitted(self.permit(ask, Matched { digest, hold, held, modified, role, forward })))
            }
            Err(error) => {
                self.apply_and_save(id, Event::Unsent);
                Some(Admission::Ended(log_unavailable(&error)))
            }
        }
    }

    /// Whether the request would still change what people were shown. Where it would not, their approval was for
    /// another change: the hold waits for verdicts on this one.
    async fn is_as_shown(self: &Arc<Self>, id: &HoldId, number: u64, ask: &Ask) -> Result<bool, Ended> {
        let patch = match self.book().entry(id).filter(|entry| entry.is_released_by(number)) {
            Some(entry) => entry.about.patch.clone(),
            // It is not to be released at all, as the caller finds.
            None => return Ok(true),
        };
        let Some(look) = &ask.look else { return Ok(true) };
        let parameters = patch.and_then(|patch| Some(patched(&ask.actions.first()?.parameters, &patch)));
        let Looked { deltas, narrow } = look(id.clone(), parameters).await;
        let (record, shown) = {
            let book = self.book();
            let Some(entry) = book.entry(id) else { return Ok(false) };
            let (about, before) = (&entry.about, &entry.about.shown.deltas);
            if before.len() == deltas.len() && deltas.iter().zip(before).all(|(now, then)| now.is_as_shown(then)) {
                return Ok(true);
            }
            let digest = bound_digest(about.effective, about.rule_set, &deltas);
            (records::outdated(entry, &deltas, digest), Arc::new(Shown { deltas, ..(*about.shown).clone() }))
        };
        self.journal.append(record).await.map_err(|error| log_unavailable(&error))?;
        let saved = {
            let (mut book, now) = (self.book(), self.clock.now());
            let Some(expires) = book.entry(id).map(|entry| entry.about.ruling.expires) else { return Ok(false) };
            let event = Event::Outdated { deadline: now.plus(expires) };
            if book.apply(id, event, now, |_| false).is_err() {
                // It has ended meanwhile, and stays so.
                return Ok(false);
            }
            let Some(entry) = book.entry_mut(id) else { return Ok(false) };
            (entry.about.shown, entry.narrow) = (shown, narrow);
            entry.to_saved()
        };
        self.store.save(saved).await.map_err(|error| log_unavailable(&error))?;
        tracing::info!(hold = %id, "what it would change is not what was approved: it waits anew");
        self.announce();
        Ok(false)
    }

    /// Everything is checked again at release (promise 4): rules, people, digest.
    fn check_release(&self, entry: &Entry, ask: &Ask) -> Result<Runnable, &'static str> {
        let about = &entry.about;
        if about.request != ask.digest {
            return Err("the request is another one");
        }
        let rules = self.rules.load();
        if rules.digest() != about.rule_set {
            return Err("the rules changed");
        }
        if ask.is_named_otherwise(&rules) {
            return Err("the facts changed by which it was named");
        }
        let now = self.judge_by(&rules, &about.agent, &about.context, &about.actions);
        let role = rules.role(&now.rules).cloned();
        if now.decision == Decision::Deny {
            return Err("the rules now deny it");
        }
        // Conditions on the time of day may ask for more people now than when it was opened.
        let (requirements, allowed) = (joined(&about.ruling, &now), entry.hold.allowed());
        if !self.people.load().is_met(&Matter { requirements: &requirements, ..entry.matter(&allowed) }) {
            return Err("those who allowed it may not decide it any more");
        }
        let Some(patch) = &about.patch else {
            return if about.effective == ask.digest {
                Ok(Runnable { digest: ask.digest, parameters: None, role })
            } else {
                Err("the digest drifted")
            };
        };
        let original = ask.actions.first().ok_or("the request has no action")?;
        let parameters = patched(&original.parameters, patch);
        let narrow = ask.narrow.as_ref().ok_or("the request cannot be modified")?;
        match narrow(&parameters) {
            Ok(modified) if modified.digest == about.effective => {
                Ok(Runnable { digest: modified.digest, parameters: Some(parameters), role })
            }
            _ => Err("the modification gives another request than was approved"),
        }
    }

    /// Applies what may end a hold; gives what is to be told when it is over.
    fn end_one(self: &Arc<Self>, book: &mut Book, id: &HoldId, event: Event) -> Option<Admission> {
        let changed = book.apply(id, event, self.clock.now(), |_| false).ok()?;
        let entry = book.entry(id)?;
        if changed {
            self.count(entry.hold.state());
            if let Some(record) = records::ended(entry, None) {
                self.note(record);
            }
            self.save_later(entry.to_saved());
        }
        over(entry)
    }
}

/// One client's place at a hold; leaving it is dropping this.
struct Attached {
    gate: Arc<Gate>,
    id: HoldId,
    number: u64,
    signature: Digest,
    changed: watch::Receiver<u64>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let now = self.gate.clock.now();
        {
            let mut book = self.gate.book();
            if let Some(entry) = book.entry_mut(&self.id) {
                entry.waiters.retain(|waiter| waiter.number != self.number);
                // The waiter before this one may be the one to release now.
                entry.wake();
            }
            // Detaching fits every state; a hold that is gone has nobody to detach from.
            if book.apply(&self.id, Event::Detached, now, |_| false).is_err() {
                tracing::debug!(hold = %self.id, "the hold was gone before its client");
            }
        }
        // Only now, since a release asks whether the waiter is still there.
        self.gate.spent.stop_awaiting(self.signature);
        self.gate.announce();
    }
}

/// What a release lets run.
struct Runnable {
    digest: Digest,
    /// After a modification: the whole parameters that make that digest.
    parameters: Option<Map<String, Value>>,
    role: Option<Arc<Assume>>,
}

enum Look {
    Over(Admission),
    Release,
    Wait,
}

/// Why a request got no place at a hold.
enum Refused {
    /// With what an earlier attempt came to.
    Now(Box<Admission>, HoldId),
    /// With an ending of its own, to be recorded.
    Stop(Ending, Option<HoldId>),
}

/// What keeps a request from waiting as long as people have.
fn limits(ask: &Ask, ruling: &Ruling, now: Timestamp) -> impl Iterator<Item = Event> {
    let of_rule = match ruling.in_transaction {
        Some(InTransaction::Wait(time)) if ask.in_transaction => Some((time, Ending::TransactionLimit)),
        _ => None,
    };
    let of_upstream = ask.upstream_limit.map(|time| (time, Ending::UpstreamLimit));
    let limits = of_rule.into_iter().chain(of_upstream);
    limits.map(move |(time, ending)| Event::Limited { deadline: now.plus(time), ending })
}

/// The stored form of a hold that opens.
fn describe(id: &HoldId, ask: &Ask, ruling: &Ruling, rule_set: Digest, hold: &Hold, now: Timestamp) -> SavedHold {
    SavedHold {
        id: id.clone(),
        action_id: ask.action_id.clone(),
        agent: Arc::clone(&ask.agent),
        context: ask.context.clone(),
        peer: ask.peer,
        key_id: ask.key_id.clone(),
        actions: Arc::clone(&ask.actions),
        shown: Arc::clone(&ask.shown),
        request: ask.digest,
        effective: ask.digest,
        rule_set,
        retry_id: ask.retry_id.clone(),
        ruling: Arc::new(ruling.clone()),
        opened: now,
        state: hold.state(),
        deadline: hold.deadline(),
        ended: None,
        votes: Vec::new(),
        patch: None,
        changes: Vec::new(),
        upstream_status: None,
        revision: 0,
    }
}

/// What a hold that is over has to say to whoever comes.
fn over(entry: &Entry) -> Option<Admission> {
    let id = &entry.about.id;
    let ending = match entry.hold.state() {
        HoldState::Pending | HoldState::Approved | HoldState::Forwarding => return None,
        HoldState::Executed => match &entry.reply {
            Some(reply) => return Some(Admission::Answered(Arc::clone(reply))),
            None => Ending::AnswerLost,
        },
        HoldState::Ended(ending) => ending,
    };
    Some(Admission::Ended(Ended::new(ending, Some(id.clone()), ending_message(ending, Some(id), Some(entry)))))
}

/// The parameters with an approver's members put in; `null` takes one out.
pub(super) fn patched(original: &Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
    let mut parameters = original.clone();
    for (name, value) in patch {
        if value.is_null() {
            parameters.remove(name);
        } else {
            parameters.insert(name.clone(), value.clone());
        }
    }
    parameters
}
