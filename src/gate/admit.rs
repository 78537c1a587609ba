//! A request's way to its permit: pass, hold, wait, release, complete.

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::watch;

use super::book::{Entry, JoinKey, Waiter};
use super::decide::joined;
use super::keeper::Gate;
use super::permit::{Granted, Matched, Outcome, Passed, Permit, Receipt, Reply, Way};
use super::{Admission, Ask, Ended, Passing, records};
use crate::digest::Digest;
use crate::hold::{Ending, Event, Hold, HoldState, Word};
use crate::id::{ActionId, HoldId};
use crate::journal::JournalError;
use crate::net::unstopped::Unstopped;
use crate::rules::{Decision, InTransaction, RuleSet, Ruling, Subject};
use crate::store::SavedHold;
use crate::time::Timestamp;

impl Gate {
    /// Lets an unmatched request pass. Its record is written with its outcome, or once it is overdue; it
    /// waits here while the disk is behind. A ruling that is not an unmatched allow gives no permit here.
    ///
    /// # Errors
    /// When the ruling does not allow it, or the audit log has failed.
    pub(crate) async fn pass(self: &Arc<Self>, request: &Passing<'_>, ruling: &Ruling) -> Result<Permit, Ended> {
        if !ruling.is_unmatched_allow() {
            return Err(Ended::new(Ending::RuleDenied, None, "this request needs a decision".to_owned()));
        }
        self.journal.ready().await.map_err(|error| log_unavailable(&error))?;
        let way = Way::Passed(Passed { record: Some(records::passed(request)) });
        Ok(Permit::mint(Granted { gate: Arc::clone(self), action_id: request.action_id.clone(), way }))
    }

    /// Brings a matched request to its decision: records it, holds it while people decide, and
    /// returns when there is an answer. Dropping the future means that the client has gone.
    pub(crate) async fn admit(self: &Arc<Self>, ask: Arc<Ask>, ruling: Ruling) -> Admission {
        if self.spent.contains(ask.signature, ask.signature_expires) {
            return Admission::Ended(self.stop(&ask, &ruling, Ending::Replayed, None).await);
        }
        // Between its judgement and now its client may have taken its time over the body.
        let rules = self.rules.load_full();
        if self.judge_ask(&rules, &ask).as_ref() != Some(&ruling) {
            return Admission::Ended(self.stop(&ask, &ruling, Ending::Superseded, None).await);
        }
        if ruling.decision != Decision::Deny && !self.spent.has_room(&ask.agent.id, ask.signature_expires) {
            return Admission::Ended(
                self.stop_saying(&ask, &ruling, Ending::Overloaded, None, self.too_many_lasting()).await,
            );
        }
        let rule_set = rules.digest();
        match ruling.decision {
            Decision::Allow => self.allow(ask, ruling, rule_set).await,
            Decision::Deny => {
                self.metrics.denied.increment();
                Admission::Ended(self.stop(&ask, &ruling, Ending::RuleDenied, None).await)
            }
            Decision::Hold if ask.in_transaction && ruling.in_transaction == Some(InTransaction::Refuse) => {
                self.metrics.denied.increment();
                let message = rule_message(&ruling, Some(NOT_IN_A_TRANSACTION));
                Admission::Ended(self.stop_saying(&ask, &ruling, Ending::RuleDenied, None, message).await)
            }
            Decision::Hold => self.hold_and_wait(ask, ruling, rule_set).await,
        }
    }

    /// A request by what it asks for, an answer that crossed limits by those limits.
    fn judge_ask(&self, rules: &RuleSet, ask: &Ask) -> Option<Ruling> {
        let Ask { agent, context, actions, shown, .. } = ask;
        match &shown.crossed {
            None => Some(self.judge_by(rules, agent, context, actions)),
            Some(crossed) => rules.crossed(&Subject { agent, context, now: self.clock.now() }, actions, &crossed.rules),
        }
    }

    /// Records how a forwarded request ended; for a matched one returns when the record is durable
    /// and keeps `reply` for a retry. Must be called for each receipt, also when the client left.
    ///
    /// # Errors
    /// When the outcome of a matched action could not be made durable: the answer must not be given.
    pub(crate) async fn complete(
        self: &Arc<Self>,
        receipt: Receipt,
        outcome: Outcome,
        reply: Option<Arc<Reply>>,
    ) -> Result<(), Ended> {
        let Some(granted) = receipt.redeem() else { return Ok(()) };
        let Granted { action_id, way, .. } = granted;
        let matched = match way {
            Way::Passed(passed) => {
                self.note_passed(&action_id, passed, &outcome);
                return Ok(());
            }
            Way::Matched(matched) => matched,
        };
        self.count_forward(&outcome);
        let record = records::matched_outcome(&action_id, &matched, &outcome);
        let durable = self.journal.append(record).await;
        let outcome = if durable.is_ok() {
            outcome
        } else {
            // Without its record the action counts as one nobody knows about.
            Outcome::Unknown { reason: "the outcome could not be recorded".to_owned() }
        };
        self.settle(matched.hold.as_ref(), &outcome, reply).await;
        durable.map(|_| ()).map_err(|error| log_unavailable(&error))
    }

    /// Records how a request ended that no rule matched.
    pub(crate) fn passed(self: &Arc<Self>, receipt: Receipt, outcome: &Outcome) {
        if let Some(Granted { action_id, way: Way::Passed(passed), .. }) = receipt.redeem() {
            self.note_passed(&action_id, passed, outcome);
        }
    }

    fn note_passed(self: &Arc<Self>, action_id: &ActionId, passed: Passed, outcome: &Outcome) {
        self.count_forward(outcome);
        self.note(records::passed_outcome(action_id, passed, outcome));
    }

    fn count_forward(&self, outcome: &Outcome) {
        self.metrics.forwarded.increment();
        if !matches!(outcome, Outcome::Answered { .. } | Outcome::Finished(_)) {
            self.metrics.upstream_errors.increment();
        }
    }

    /// A permit was dropped unspent: nothing was sent, so its hold may be released once more.
    pub(super) fn unsent(granted: Granted) {
        let outcome = Outcome::NotSent { reason: "it ended before anything was sent".to_owned() };
        granted.ended(&outcome, Event::Unsent);
    }

    /// A receipt was dropped without an outcome: the request may have run.
    pub(super) fn lost(granted: Granted) {
        let outcome = Outcome::Unknown { reason: "the forward ended without reporting an outcome".to_owned() };
        granted.ended(&outcome, Event::OutcomeUnknown);
    }

    /// Records a passed request before its outcome is known.
    pub(super) fn record_intent(&self, passed: &mut Passed) {
        let Some(record) = passed.record.take() else { return };
        if let Err(refused) = self.journal.enqueue(record) {
            // A log that is behind, or full but for outcomes, may still take it with its outcome.
            passed.record = Some(refused.record);
        }
    }

    async fn allow(self: &Arc<Self>, ask: Arc<Ask>, ruling: Ruling, rule_set: Digest) -> Admission {
        if !self.spend_signature(&ask) {
            return Admission::Ended(self.stop(&ask, &ruling, Ending::Replayed, None).await);
        }
        let record = records::forward(&ask, &ruling, rule_set, ask.digest, None);
        let gate = Arc::clone(self);
        // The record cannot be taken back: a client that leaves now leaves a permit behind, which is
        // then dropped and recorded as unsent.
        let permitted = Unstopped::new(async move {
            let appended = gate.journal.append(record).await;
            appended.map(|forward| {
                gate.permit(&ask, Matched { digest: ask.digest, hold: None, held: None, modified: None, forward })
            })
        });
        match permitted.await {
            Ok(Ok(permit)) => Admission::Permitted(permit),
            Ok(Err(error)) => Admission::Ended(log_unavailable(&error)),
            Err(_) => Admission::Ended(log_unavailable(&JournalError::Failed("its record broke off".to_owned()))),
        }
    }

    async fn hold_and_wait(self: &Arc<Self>, ask: Arc<Ask>, ruling: Ruling, rule_set: Digest) -> Admission {
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
        let joinable = self.joinable(&book, ask);
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
            entry.narrow.clone_from(&ask.narrow);
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
        if !people.can_be_met(&ask.agent, &ask.context, &ruling.requirements) {
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

    /// The hold this request may join. An earlier attempt's end is given back at once.
    fn joinable(&self, book: &super::book::Book, ask: &Ask) -> Result<Option<HoldId>, Refused> {
        let now = self.clock.now();
        for entry in book.same_request(&JoinKey::of(ask)).rev() {
            let state = entry.hold.state();
            let ended_ago = entry.hold.ended().map(|ended| now.since(ended));
            // Another owner, or another claim about who started it, may bar other people: that is another question.
            if entry.about.agent != ask.agent || entry.about.context.initiator != ask.context.initiator {
                continue;
            }
            let same_call = ask.retry_id.is_some() && entry.about.retry_id == ask.retry_id;
            if entry.is_attached_with(ask.signature) || (state.is_over() && entry.presented.contains(&ask.signature)) {
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
            let anonymous = ask.retry_id.is_none() && entry.about.retry_id.is_none();
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

    fn add_waiter(self: &Arc<Self>, book: &mut super::book::Book, id: &HoldId, ask: &Ask) -> Attached {
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
            HoldState::Approved if entry.waiters.last().is_some_and(|w| w.number == attached.number) => Look::Release,
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
        let (record, saved, runnable, held) = {
            let mut book = self.book();
            // An approval that ran out before the sweep saw it ends here, with its own name and its signature unspent.
            if let Some(admission) = self.end_one(&mut book, id, Event::Tick) {
                return Some(admission);
            }
            let entry = book.entry(id)?;
            if entry.hold.state() != HoldState::Approved || entry.waiters.last().is_none_or(|w| w.number != number) {
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
                let Runnable { digest, parameters: modified } = runnable;
                let (hold, held) = (Some(id.clone()), Some(held));
                Some(Admission::Permitted(self.permit(ask, Matched { digest, hold, held, modified, forward })))
            }
            Err(error) => {
                self.apply_and_save(id, Event::Unsent);
                Some(Admission::Ended(log_unavailable(&error)))
            }
        }
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
        let now = self.judge(&about.agent, &about.context, &about.actions);
        if now.decision == Decision::Deny {
            return Err("the rules now deny it");
        }
        // Conditions on the time of day may ask for more people now than when it was opened.
        let (requirements, allowed) = (joined(&about.ruling, &now), entry.hold.allowed());
        if !self.people.load().is_met(&about.agent, &about.context, &requirements, &allowed) {
            return Err("those who allowed it may not decide it any more");
        }
        let Some(patch) = &about.patch else {
            return if about.effective == ask.digest {
                Ok(Runnable { digest: ask.digest, parameters: None })
            } else {
                Err("the digest drifted")
            };
        };
        let original = ask.actions.first().ok_or("the request has no action")?;
        let parameters = patched(&original.parameters, patch);
        let narrow = ask.narrow.as_ref().ok_or("the request cannot be modified")?;
        match narrow(&parameters) {
            Ok(modified) if modified.digest == about.effective => {
                Ok(Runnable { digest: modified.digest, parameters: Some(parameters) })
            }
            _ => Err("the modification gives another request than was approved"),
        }
    }

    /// Applies what may end a hold; gives what is to be told when it is over.
    fn end_one(self: &Arc<Self>, book: &mut super::book::Book, id: &HoldId, event: Event) -> Option<Admission> {
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

    /// Moves the hold to what its forward came to, and keeps the answer.
    async fn settle(&self, hold: Option<&HoldId>, outcome: &Outcome, reply: Option<Arc<Reply>>) {
        let Some(id) = hold else { return };
        let event = match outcome {
            Outcome::Answered { .. } | Outcome::Finished(_) => Event::Answered,
            Outcome::NotSent { .. } => Event::FailedUpstream,
            Outcome::Unfit { .. } => Event::Unfit,
            Outcome::Unknown { .. } => Event::OutcomeUnknown,
        };
        let saved = {
            let mut book = self.book();
            if let Some(entry) = book.entry_mut(id) {
                entry.reply = reply;
                if let Outcome::Answered { status, .. } = outcome {
                    entry.about.upstream_status = Some(*status);
                }
            }
            if book.apply(id, event, self.clock.now(), |_| false).is_err() {
                tracing::error!(hold = %id, "an outcome came for a hold that was not being sent");
            }
            book.entry(id).map(Entry::to_saved)
        };
        self.announce();
        if let Some(saved) = saved
            && let Err(error) = self.store.save(saved).await
        {
            // The log has the outcome; after a restart this hold reads as `outcome-unknown` at worst.
            tracing::error!(hold = %id, %error, "an ended hold could not be saved");
        }
    }

    fn apply_and_save(&self, id: &HoldId, event: Event) {
        let saved = {
            let mut book = self.book();
            match book.apply(id, event, self.clock.now(), |_| false) {
                Ok(_) => book.entry(id).map(Entry::to_saved),
                Err(_) => None,
            }
        };
        if let Some(saved) = saved {
            self.save_later(saved);
        }
        self.announce();
    }

    /// Ends a request that is not held, durably recorded when the log can be written.
    async fn stop(self: &Arc<Self>, ask: &Ask, ruling: &Ruling, ending: Ending, hold: Option<HoldId>) -> Ended {
        let message = match (ending, &ruling.message) {
            (Ending::RuleDenied, message) => rule_message(ruling, message.as_deref()),
            (_, _) => ending_message(ending, hold.as_ref(), None),
        };
        self.stop_saying(ask, ruling, ending, hold, message).await
    }

    async fn stop_saying(
        self: &Arc<Self>,
        ask: &Ask,
        ruling: &Ruling,
        ending: Ending,
        hold: Option<HoldId>,
        message: String,
    ) -> Ended {
        let record = records::stopped(ask, ruling, self.rules.load().digest(), ending, &message);
        if let Err(error) = self.journal.append(record).await {
            // It does not run either way; the client learns what keeps it from running.
            tracing::error!(%error, "a refusal could not be recorded");
        }
        Ended::new(ending, hold, message)
    }

    /// Marks the signature as run. False when it was already: the same bytes came twice.
    fn spend_signature(&self, ask: &Ask) -> bool {
        self.spent.spend(&ask.agent.id, ask.signature, ask.signature_expires)
    }

    fn too_many_lasting(&self) -> String {
        let limit = self.options.max_presigned_per_agent;
        format!(
            "{limit} presigned requests that this agent ran, or many more of all agents, stay valid for more than an \
             hour; nothing ran. Presign for at most an hour, or sign in header fields."
        )
    }

    fn permit(self: &Arc<Self>, ask: &Ask, matched: Matched) -> Permit {
        let (gate, action_id) = (Arc::clone(self), ask.action_id.clone());
        Permit::mint(Granted { gate, action_id, way: Way::Matched(matched) })
    }
}

impl Granted {
    /// Records an end that nobody waits for, and brings it to the hold.
    fn ended(self, outcome: &Outcome, event: Event) {
        let Self { gate, action_id, way } = self;
        match way {
            Way::Passed(passed) => gate.note(records::passed_outcome(&action_id, passed, outcome)),
            Way::Matched(matched) => {
                gate.note(records::matched_outcome(&action_id, &matched, outcome));
                if let Some(id) = &matched.hold {
                    gate.apply_and_save(id, event);
                }
            }
        }
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

/// Says to an agent how to get its statement held.
const NOT_IN_A_TRANSACTION: &str =
    "it does not wait for people inside of a transaction; roll back, and send it in a transaction of its own.";

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

fn log_unavailable(error: &dyn std::error::Error) -> Ended {
    tracing::error!(error = %error, "a matched action was stopped: what must be recorded cannot be written");
    Ended::new(Ending::LogUnavailable, None, ending_message(Ending::LogUnavailable, None, None))
}

fn rule_message(ruling: &Ruling, message: Option<&str>) -> String {
    let by = match ruling.rules.as_slice() {
        [] => "by the default decision".to_owned(),
        rules => format!("by rule {}", rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    };
    match message {
        Some(message) => format!("denied {by}: {message}"),
        None => format!("denied {by}. Ask the owner of the rules if this should be possible."),
    }
}

/// What a client is told about an end: what happened, and what to do next.
fn ending_message(ending: Ending, hold: Option<&HoldId>, entry: Option<&Entry>) -> String {
    let hold = hold.map_or_else(String::new, |id| format!(" (hold {id})"));
    match ending {
        Ending::AnswerLost => format!("this call was approved and ran{hold}, but its answer can no longer be given. Read the state of the resource instead of calling again."),
        Ending::Cancelled => format!("the hold was taken back by a person{hold}; nothing ran."),
        Ending::Denied => {
            let no = entry.and_then(|entry| entry.hold.votes().iter().rev().find(|v| v.word == Word::Deny && !v.void));
            let by = no.map_or_else(String::new, |v| format!(" by {}", v.person));
            let why = no.filter(|v| !v.reason.is_empty()).map_or_else(String::new, |v| format!(": {}", v.reason));
            format!("denied{by}{hold}{why}. Do not repeat it unchanged: the answer will be the same.")
        }
        Ending::Expired => format!("nobody decided in time{hold}; this is not a person's no, and nothing ran. Call again to ask again."),
        Ending::FailedUpstream => format!("this call was approved, but the upstream could not be reached{hold}; nothing ran. Call again to ask again."),
        Ending::LogUnavailable => "the audit log cannot be written, so privileged calls are stopped; nothing ran. Tell the operator of countersign.".to_owned(),
        Ending::NoApprover => format!("this call needs a person's approval and nobody is entitled to give it{hold}; nothing ran. Ask for an approver to be configured who is neither the agent's owner nor the initiator."),
        Ending::OutcomeUnknown => format!("this call was sent and no answer is known{hold}: it may have run. It is never sent again; read the state of the resource."),
        Ending::Overloaded => "too many calls are waiting for approval; nothing ran. Let the pending ones be decided, then call again.".to_owned(),
        Ending::Replayed => format!("this signature was already used{hold}: sign the request anew."),
        Ending::Restarted => format!("countersign is restarting{hold}; the hold is kept, call again to join it."),
        Ending::RuleDenied => "denied by rule.".to_owned(),
        Ending::Superseded => format!("what was approved does not stand any more, since the rules or the upstream changed meanwhile{hold}; nothing ran. Call again to be judged anew."),
        Ending::TransactionLimit => format!("nobody decided in the time that a statement may wait inside of a transaction{hold}; this is not a person's no, and nothing ran. Roll back, and run it outside of a transaction."),
        Ending::Unfit => format!("it was approved with a change that does not give the result which the client was told{hold}; nothing ran."),
        Ending::UpstreamLeft => format!("the upstream ended the session while this waited{hold}; nothing ran. Connect anew and call again."),
        Ending::UpstreamLimit => format!("nobody decided before the upstream's own time-out would have ended the session{hold}; this is not a person's no, and nothing ran."),
        Ending::Withdrawn => format!("the client went away and the hold was withdrawn{hold}; nothing ran. Call again to ask again."),
    }
}

impl Ended {
    pub(super) fn new(ending: Ending, hold: Option<HoldId>, message: String) -> Self {
        Self { ending, hold, message }
    }
}
