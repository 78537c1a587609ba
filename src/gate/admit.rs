//! A request's way to its permit and from there to its end: pass, admit, complete.

use std::sync::Arc;

use super::book::Entry;
use super::keeper::Gate;
use super::permit::{Granted, Matched, Outcome, Passed, Permit, Receipt, Reply, Way};
use super::telling::{NOT_IN_A_TRANSACTION, ending_message, log_unavailable, rule_message};
use super::{Admission, Ask, Attempt, Ended, Passing, records};
use crate::credential::assume::Session;
use crate::digest::Digest;
use crate::hold::{Ending, Event};
use crate::id::{ActionId, HoldId};
use crate::journal::JournalError;
use crate::net::unstopped::Unstopped;
use crate::rules::{Assume, Decision, InTransaction, RuleSet, Ruling, Subject};
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
        Ok(Permit::mint(Granted { gate: Arc::clone(self), action_id: request.action_id.clone(), way, session: None }))
    }

    /// Brings a matched request to its decision: records it, holds it while people decide, and
    /// returns when there is an answer. Dropping the future means that the client has gone.
    pub(crate) async fn admit(self: &Arc<Self>, ask: Arc<Ask>, ruling: Ruling) -> Admission {
        if self.is_spent(ask.signature, ask.signature_expires) {
            return Admission::Ended(self.stop(&ask, &ruling, Ending::Replayed, None).await);
        }
        // Between its judgement and now its client may have taken its time over the body.
        let rules = self.rules.load_full();
        if ask.is_named_otherwise(&rules) || self.judge_ask(&rules, &ask).as_ref() != Some(&ruling) {
            return Admission::Ended(self.stop(&ask, &ruling, Ending::Superseded, None).await);
        }
        if ruling.decision != Decision::Deny && !self.spent.has_room(&ask.agent.id, ask.signature_expires) {
            return Admission::Ended(
                self.stop_saying(&ask, &ruling, Ending::Overloaded, None, self.too_many_lasting()).await,
            );
        }
        let rule_set = rules.digest();
        match ruling.decision {
            Decision::Allow => {
                let role = rules.role(&ruling.rules).cloned();
                self.allow(ask, ruling, rule_set, role).await
            }
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

    /// Whether a request with that signature has run: this one will not.
    pub(crate) fn is_spent(&self, signature: Digest, expires: Timestamp) -> bool {
        self.spent.contains(signature, expires)
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
        let Granted { action_id, way, session, .. } = granted;
        let session = session.as_deref();
        let matched = match way {
            Way::Passed(passed) => {
                self.note_passed(&action_id, passed, session, &outcome);
                return Ok(());
            }
            Way::Matched(matched) => matched,
        };
        self.count_forward(&outcome);
        let record = records::matched_outcome(&action_id, &matched, session, &outcome);
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
        if let Some(Granted { action_id, way: Way::Passed(passed), session, .. }) = receipt.redeem() {
            self.note_passed(&action_id, passed, session.as_deref(), outcome);
        }
    }

    fn note_passed(
        self: &Arc<Self>,
        action_id: &ActionId,
        passed: Passed,
        session: Option<&Session>,
        outcome: &Outcome,
    ) {
        self.count_forward(outcome);
        self.note(records::passed_outcome(action_id, passed, session, outcome));
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

    async fn allow(
        self: &Arc<Self>,
        ask: Arc<Ask>,
        ruling: Ruling,
        rule_set: Digest,
        role: Option<Arc<Assume>>,
    ) -> Admission {
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
                let digest = ask.digest;
                gate.permit(&ask, Matched { digest, hold: None, held: None, modified: None, role, forward })
            })
        });
        match permitted.await {
            Ok(Ok(permit)) => Admission::Permitted(permit),
            Ok(Err(error)) => Admission::Ended(log_unavailable(&error)),
            Err(_) => Admission::Ended(log_unavailable(&JournalError::Failed("its record broke off".to_owned()))),
        }
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

    pub(super) fn apply_and_save(&self, id: &HoldId, event: Event) {
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
    pub(super) async fn stop(
        self: &Arc<Self>,
        ask: &Ask,
        ruling: &Ruling,
        ending: Ending,
        hold: Option<HoldId>,
    ) -> Ended {
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
    pub(super) fn spend_signature(&self, ask: &Ask) -> bool {
        self.spent.spend(&ask.agent.id, ask.signature, ask.signature_expires)
    }

    fn too_many_lasting(&self) -> String {
        let limit = self.options.max_presigned_per_agent;
        format!(
            "{limit} presigned requests that this agent ran, or many more of all agents, stay valid for more than an \
             hour; nothing ran. Presign for at most an hour, or sign in header fields."
        )
    }

    pub(super) fn permit(self: &Arc<Self>, ask: &Ask, matched: Matched) -> Permit {
        let (gate, action_id) = (Arc::clone(self), ask.action_id.clone());
        Permit::mint(Granted { gate, action_id, way: Way::Matched(matched), session: None })
    }
}

impl Ask {
    pub(super) fn attempt(&self) -> Attempt<'_> {
        let Self { agent, context, digest, retry_id, signature, .. } = self;
        Attempt { agent, context, digest: *digest, retry_id: retry_id.as_deref(), signature: *signature }
    }

    /// Whether its names are of other facts than those that came with these rules.
    pub(super) fn is_named_otherwise(&self, rules: &RuleSet) -> bool {
        self.follows_rules && self.facts != rules.facts().digest
    }
}

impl Granted {
    /// Records an end that nobody waits for, and brings it to the hold.
    fn ended(self, outcome: &Outcome, event: Event) {
        let Self { gate, action_id, way, session } = self;
        let session = session.as_deref();
        match way {
            Way::Passed(passed) => gate.note(records::passed_outcome(&action_id, passed, session, outcome)),
            Way::Matched(matched) => {
                gate.note(records::matched_outcome(&action_id, &matched, session, outcome));
                if let Some(id) = &matched.hold {
                    gate.apply_and_save(id, event);
                }
            }
        }
    }
}
