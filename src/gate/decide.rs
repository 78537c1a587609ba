//! Verdicts: the one door for every channel.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::book::{Entry, bound_digest};
use super::keeper::Gate;
use super::waiting::patched;
use super::{Approver, DecideError, HoldView, Modified, Preview, Verdict, records};
use crate::action::Action;
use crate::audit::record::Record;
use crate::digest::Digest;
use crate::hold::{Change, Event, HoldState, Rejected, Vote, Word};
use crate::id::{HoldId, PersonId};
use crate::people::{Bar, Matter, Requirement, Said};
use crate::rules::{Decision, Ruling};
use crate::store::SavedHold;

impl Gate {
    /// Takes a person's verdict on a hold: the one door for every channel. `digest` is the one the
    /// person was shown; when it is not the hold's any more, nothing changes.
    ///
    /// # Errors
    /// When this person may not decide this, or the hold is not open; nothing changes then.
    pub(crate) async fn decide(
        self: &Arc<Self>,
        id: &HoldId,
        digest: Option<Digest>,
        approver: &Approver,
        verdict: Verdict,
        reason: &str,
    ) -> Result<HoldView, DecideError> {
        let (id_of, word) = (id.clone(), verdict.word().as_str());
        let (gate, id, by, reason) = (Arc::clone(self), id.clone(), approver.clone(), reason.to_owned());
        let deciding = async move { gate.decide_now(&id, digest, &by, verdict, &reason).await };
        self.whole(approver, word, deciding, id_of).await
    }

    /// Takes a hold back without deciding it (same eligibility as deciding).
    ///
    /// # Errors
    /// As [`Gate::decide`].
    pub(crate) async fn cancel(
        self: &Arc<Self>,
        id: &HoldId,
        approver: &Approver,
        reason: &str,
    ) -> Result<HoldView, DecideError> {
        let id_of = id.clone();
        let (gate, id, by, reason) = (Arc::clone(self), id.clone(), approver.clone(), reason.to_owned());
        let cancelling = async move { gate.cancel_now(&id, &by, &reason).await };
        self.whole(approver, "cancel", cancelling, id_of).await
    }

    /// Runs a decision in a task of its own, so that a channel whose caller hangs up does not cut it
    /// in two, and records it when it is refused.
    async fn whole(
        self: &Arc<Self>,
        approver: &Approver,
        word: &'static str,
        decision: impl Future<Output = Result<HoldView, DecideError>> + Send + 'static,
        id: HoldId,
    ) -> Result<HoldView, DecideError> {
        let (gate, approver) = (Arc::clone(self), approver.clone());
        let task = tokio::spawn(async move {
            let decided = decision.await;
            if let Err(error) = &decided {
                gate.note(records::vote_refused(&id, &approver, word, &error.to_string()));
            }
            decided
        });
        task.await.unwrap_or(Err(DecideError::LogUnavailable))
    }

    async fn cancel_now(
        self: &Arc<Self>,
        id: &HoldId,
        approver: &Approver,
        reason: &str,
    ) -> Result<HoldView, DecideError> {
        let turn = self.turn(id)?;
        let _turn = turn.lock().await;
        let record = {
            let book = self.book();
            let entry = book.entry(id).ok_or(DecideError::NotFound)?;
            if entry.hold.state().is_over() || entry.hold.state() == HoldState::Forwarding {
                return Err(DecideError::NotOpen(entry.hold.state().as_str()));
            }
            self.entitled(entry, &approver.person, Word::Deny)?;
            records::vote(entry, approver, "cancel", reason)
        };
        self.journal.append(record).await.map_err(|_| DecideError::LogUnavailable)?;
        self.commit(id, Event::Cancelled, approver).await
    }

    async fn decide_now(
        self: &Arc<Self>,
        id: &HoldId,
        digest: Option<Digest>,
        approver: &Approver,
        verdict: Verdict,
        reason: &str,
    ) -> Result<HoldView, DecideError> {
        let turn = self.turn(id)?;
        let _turn = turn.lock().await;
        let word = verdict.word();
        let (records, modification) = {
            let book = self.book();
            let entry = book.entry(id).ok_or(DecideError::NotFound)?;
            match self.entitled(entry, &approver.person, word) {
                // Whoever could have decided it learns that it is decided, not at which stage.
                Err(DecideError::StageMet) => check_open(entry, word).and(Err(DecideError::StageMet))?,
                judged => judged?,
            }
            check_open(entry, word)?;
            // Whoever does not say what was shown may have seen it before it was modified or outdated.
            let is_other = match digest {
                Some(shown) => shown != entry.bound_digest(),
                None => {
                    word != Word::Deny && (entry.about.patch.is_some() || entry.hold.votes().iter().any(|it| it.void))
                }
            };
            if is_other {
                return Err(DecideError::DigestChanged);
            }
            if word != Word::Modify && gave(entry, &approver.person, word) {
                return Err(DecideError::Duplicate);
            }
            let modification = match verdict {
                Verdict::Modify(patch) => Some(self.modification(entry, patch)?),
                Verdict::Allow | Verdict::Deny => None,
            };
            let mut records = vec![records::vote(entry, approver, word.as_str(), reason)];
            if let Some(it) = &modification {
                let bound = bound_digest(it.modified.digest, entry.about.rule_set, &it.modified.shown.deltas);
                records.push(records::modified(entry, approver, &it.modified, &it.changes, bound));
            }
            (records, modification)
        };
        self.append_all(records).await?;
        if let Some(it) = modification {
            self.put_in(id, it);
        }
        let at = self.clock.now();
        let vote = Vote { person: approver.person.clone(), word, reason: reason.to_owned(), at, void: false };
        self.commit(id, Event::Voted { vote }, approver).await
    }

    /// Whether a verdict of that person would be taken now, were it sent. Changes nothing.
    ///
    /// # Errors
    /// What [`Gate::decide`] would answer.
    pub(crate) fn may(&self, id: &HoldId, person: &PersonId, word: Word) -> Result<(), DecideError> {
        let book = self.book();
        let entry = book.entry(id).ok_or(DecideError::NotFound)?;
        self.entitled(entry, person, word)?;
        check_open(entry, word)?;
        if gave(entry, person, word) { Err(DecideError::Duplicate) } else { Ok(()) }
    }

    /// What a modification would make of a hold, judged as [`Gate::decide`] would judge it. Changes nothing.
    ///
    /// # Errors
    /// As [`Gate::decide`] of that modification.
    pub(crate) fn preview(
        &self,
        id: &HoldId,
        digest: Option<Digest>,
        approver: &Approver,
        patch: Map<String, Value>,
    ) -> Result<Preview, DecideError> {
        let book = self.book();
        let entry = book.entry(id).ok_or(DecideError::NotFound)?;
        self.entitled(entry, &approver.person, Word::Modify)?;
        check_open(entry, Word::Modify)?;
        if digest.is_some_and(|shown| shown != entry.bound_digest()) {
            return Err(DecideError::DigestChanged);
        }
        let it = self.modification(entry, patch)?;
        Ok(Preview {
            digest: bound_digest(it.modified.digest, entry.about.rule_set, &it.modified.shown.deltas),
            changes: records::shown_changes(&it.changes, &it.modified.actions),
            actions: it.modified.actions,
            requirements: it.requirements,
        })
    }

    fn turn(&self, id: &HoldId) -> Result<Arc<tokio::sync::Mutex<()>>, DecideError> {
        self.book().entry(id).map(|entry| Arc::clone(&entry.turn)).ok_or(DecideError::NotFound)
    }

    fn entitled(&self, entry: &Entry, person: &PersonId, word: Word) -> Result<(), DecideError> {
        let (people, now, allowed) = (self.people.load(), self.clock.now(), entry.hold.allowed());
        let matter = entry.matter(&allowed);
        let judged = match word {
            Word::Deny => people.may_deny(&matter, person, now),
            // Who has allowed it may say so once more, and is told that it is known.
            Word::Allow if gave(entry, person, word) => Ok(()),
            // Who changes it has what was said before taken back, also by themselves.
            Word::Modify => people.may_allow(&Matter { allowed: &[], ..matter }, person, now),
            Word::Allow => people.may_allow(&matter, person, now),
        };
        judged.map_err(|bar| match bar {
            Bar::Conflict(role) => DecideError::Conflict(role),
            Bar::NotEntitled => DecideError::NotEntitled,
            Bar::NotOnCall => DecideError::NotOnCall,
            Bar::NotYet => DecideError::NotYet,
            Bar::OwnerUnknown => DecideError::OwnerUnknown,
            Bar::StageMet => DecideError::StageMet,
            Bar::UnknownPerson => DecideError::UnknownPerson,
            Bar::Unsigned => DecideError::Unsigned,
        })
    }

    async fn append_all(&self, records: Vec<Record>) -> Result<(), DecideError> {
        for record in records {
            self.journal.append(record).await.map_err(|_| DecideError::LogUnavailable)?;
        }
        Ok(())
    }

    /// Applies a recorded decision to the hold as it is now, saves it and wakes its clients. Time
    /// went by while the record was made: a hold that ended meanwhile stays ended.
    async fn commit(self: &Arc<Self>, id: &HoldId, event: Event, approver: &Approver) -> Result<HoldView, DecideError> {
        let people = self.people.load_full();
        let (view, record, saved) = {
            let mut book = self.book();
            let about = &book.entry(id).ok_or(DecideError::NotFound)?.about;
            let (agent, context, opened) = (Arc::clone(&about.agent), about.context.clone(), about.opened);
            let ruling = Arc::clone(&about.ruling);
            let is_met = |allowed: &[Said]| {
                let requirements = &ruling.requirements;
                people.is_met(&Matter { agent: &agent, context: &context, requirements, opened, allowed })
            };
            let changed = book.apply(id, event, self.clock.now(), is_met).map_err(|rejected| match rejected {
                Rejected::Duplicate => DecideError::Duplicate,
                Rejected::NotOpen(state) => DecideError::NotOpen(state.as_str()),
            })?;
            let entry = book.entry(id).ok_or(DecideError::NotFound)?;
            let record = changed.then(|| records::ended(entry, Some(approver.person.as_str()))).flatten();
            if changed {
                self.count(entry.hold.state());
            }
            (entry.view(&people, self.clock.now()), record, entry.to_saved())
        };
        self.keep(record, saved).await?;
        self.announce();
        Ok(view)
    }

    async fn keep(self: &Arc<Self>, record: Option<Record>, saved: SavedHold) -> Result<(), DecideError> {
        if let Some(record) = record {
            self.note(record);
        }
        self.store.save(saved).await.map_err(|error| {
            tracing::error!(%error, "a verdict could not be saved");
            DecideError::LogUnavailable
        })
    }

    /// Works out what a modification would run, and whether it may stand for the original.
    fn modification(&self, entry: &Entry, patch: Map<String, Value>) -> Result<Modification, DecideError> {
        let refuse = |why: &str| Err(DecideError::NotModifiable(why.to_owned()));
        let Some(narrow) = &entry.narrow else {
            return refuse(
                "the request is not here; wait until its client is attached, or it is of a kind that cannot be modified",
            );
        };
        let originals = &*entry.about.actions;
        let Some(original) = originals.first().filter(|_| !patch.is_empty()) else {
            return refuse("it changes nothing");
        };
        if patch.keys().any(|name| originals.iter().any(|it| it.sensitive.contains(name))) {
            // Nobody could see what would run, and it would have to be stored.
            return refuse("a secret cannot be replaced");
        }
        // A second modification builds on the first: `actions` are already those that would run.
        let parameters = patched(&original.parameters, &patch);
        let modified = narrow(&parameters).map_err(DecideError::NotModifiable)?;
        // The first is what the request says, the others what hides in it.
        let Some(action) = modified.actions.first().filter(|it| is_of_class(it, original)) else {
            return refuse(OTHER_CLASS);
        };
        if !modified.actions.iter().all(|it| originals.iter().any(|original| is_of_class(it, original))) {
            return refuse(OTHER_CLASS);
        }
        let changes = difference(&original.parameters, &action.parameters);
        if changes.is_empty() {
            return refuse("it changes nothing");
        }
        let ruling = self.judge(&entry.about.agent, &entry.about.context, &modified.actions);
        if ruling.decision == Decision::Deny {
            return refuse("the rules deny the modified request");
        }
        let mut requirements = joined(&entry.about.ruling, &ruling);
        if !modified.actions.iter().all(|it| is_within(it, originals)) {
            // Not a narrowing: it reaches something the agent did not ask for, so a second person must agree.
            for requirement in &mut requirements {
                requirement.take_at_least(2);
            }
        }
        // A modification takes back what was said so far.
        let matter = Matter { requirements: &requirements, ..entry.matter(&[]) };
        if !self.people.load().can_be_met(&matter, self.clock.now(), entry.hold.deadline()) {
            return refuse(
                "it reaches other resources than the agent asked for, which takes two people, and there are not two who may decide",
            );
        }
        let mut whole_patch = entry.about.patch.clone().unwrap_or_default();
        whole_patch.extend(patch);
        Ok(Modification { modified, changes, patch: whole_patch, requirements })
    }

    fn put_in(&self, id: &HoldId, it: Modification) {
        let mut book = self.book();
        let Some(entry) = book.entry_mut(id) else { return };
        let about = &mut entry.about;
        about.effective = it.modified.digest;
        about.shown = it.modified.shown;
        about.changes.extend(records::shown_changes(&it.changes, &it.modified.actions));
        about.actions = it.modified.actions;
        about.patch = Some(it.patch);
        Arc::make_mut(&mut about.ruling).requirements = it.requirements;
    }
}

/// A modification that was checked and may be put in.
struct Modification {
    modified: Modified,
    changes: Vec<Change>,
    patch: Map<String, Value>,
    requirements: Vec<Requirement>,
}

const OTHER_CLASS: &str = "it would be an action of another class; deny it, and let the agent ask for that instead";

/// Whether an action does what another does, or less of it, maybe to other resources.
fn is_of_class(action: &Action, original: &Action) -> bool {
    action.name == original.name
        && action.access <= original.access
        && action.traits.is_subset(original.traits)
        && action.account == original.account
        && action.region == original.region
}

/// Whether an action reaches only what actions of its class reached.
fn is_within(action: &Action, originals: &[Action]) -> bool {
    let is_reached = |resource| originals.iter().any(|it| it.resources.contains(resource) && is_of_class(action, it));
    action.resources.iter().all(is_reached)
}

impl Verdict {
    pub(super) const fn word(&self) -> Word {
        match self {
            Self::Allow => Word::Allow,
            Self::Deny => Word::Deny,
            Self::Modify(_) => Word::Modify,
        }
    }
}

fn check_open(entry: &Entry, word: Word) -> Result<(), DecideError> {
    match entry.hold.state() {
        HoldState::Pending => Ok(()),
        HoldState::Approved if word == Word::Deny => Ok(()),
        HoldState::Approved if word == Word::Allow => Err(DecideError::Duplicate),
        state => Err(DecideError::NotOpen(state.as_str())),
    }
}

fn gave(entry: &Entry, person: &PersonId, word: Word) -> bool {
    entry.hold.votes().iter().any(|vote| !vote.void && vote.person == *person && vote.word == word)
}

/// What both rulings demand: a modification never needs less than the original did.
pub(super) fn joined(before: &Ruling, after: &Ruling) -> Vec<Requirement> {
    let mut requirements = before.requirements.clone();
    for requirement in &after.requirements {
        if !requirements.contains(requirement) {
            requirements.push(requirement.clone());
        }
    }
    requirements
}

/// The members that differ, as JSON pointers; nested objects are compared member by member.
fn difference(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", before, after, &mut changes);
    changes
}

fn compare(prefix: &str, before: &Map<String, Value>, after: &Map<String, Value>, changes: &mut Vec<Change>) {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let pointer = format!("{prefix}/{}", name.replace('~', "~0").replace('/', "~1"));
        match (before.get(name), after.get(name)) {
            (Some(old), Some(new)) if old == new => {}
            (Some(Value::Object(old)), Some(Value::Object(new))) => compare(&pointer, old, new, changes),
            (old, new) => changes.push(Change { pointer, before: old.cloned(), after: new.cloned() }),
        }
    }
}
