//! The one judgement of who may decide what: conflicts, stages, quorums, stand-ins, escalation.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{People, Person};
use crate::action::{Agent, Context, Owner};
use crate::id::{GroupId, PersonId, RuleId};
use crate::time::Timestamp;

/// Who must agree, for one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    /// The rule, or `default` / `unknown` when no rule asked.
    pub(crate) rule: RuleId,
    /// One after the other; each opens once the one before it is met. Never empty.
    pub(crate) stages: Vec<Stage>,
    /// Members of these groups may deny, besides those who may allow at some stage.
    pub(crate) deniers: Vec<GroupId>,
    /// Who may allow besides, at every stage, once nobody has decided for long.
    pub(crate) escalations: Vec<Escalation>,
    /// An allow counts only with the approver's own signature.
    pub(crate) signed: bool,
}

/// People of whom some must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    /// Members of any of these groups may allow.
    pub(crate) approvers: Vec<GroupId>,
    /// How many distinct people must; at least 1.
    pub(crate) quorum: u32,
}

/// People who are asked when others have not decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Escalation {
    /// Counted from the opening of the hold.
    pub(crate) after: Duration,
    pub(crate) approvers: Vec<GroupId>,
}

/// A request that waits for people, as far as it bars or entitles them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matter<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) context: &'a Context,
    pub(crate) requirements: &'a [Requirement],
    pub(crate) opened: Timestamp,
    /// Who has allowed it, in the order in which they did.
    pub(crate) allowed: &'a [Said],
}

/// An allow that is in force. Whether its person was on call is a matter of when it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) person: PersonId,
    pub(crate) at: Timestamp,
}

/// Why a person may not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bar {
    /// The person has a part in the request: the agent's owner, its initiator, or itself.
    Conflict(&'static str),
    NotEntitled,
    /// A member of a group that is on call by turns, out of turn.
    NotOnCall,
    /// An approver of a later stage.
    NotYet,
    /// The agent's owner is nobody of the configuration, so nobody can be told apart from the owner.
    OwnerUnknown,
    /// An approver of a stage that is met, or the stand-in of somebody who has decided.
    StageMet,
    UnknownPerson,
    /// Only what its person signed would count, and nothing is signed yet.
    Unsigned,
}

impl People {
    /// Whether this person may allow it now, which is then one step towards its approval.
    ///
    /// # Errors
    /// The reason why not.
    pub(crate) fn may_allow(&self, matter: &Matter<'_>, person: &PersonId, now: Timestamp) -> Result<(), Bar> {
        self.may_allow_after(matter, &self.counts(matter), person, now)
    }

    /// Whether this person may deny it now: who may allow at any stage, and those named to deny.
    ///
    /// # Errors
    /// The reason why not.
    pub(crate) fn may_deny(&self, matter: &Matter<'_>, person: &PersonId, now: Timestamp) -> Result<(), Bar> {
        let person = self.unbarred(matter, person)?;
        let mut bar = Bar::NotEntitled;
        for requirement in matter.requirements {
            let groups = requirement.stages.iter().flat_map(|stage| &stage.approvers).chain(&requirement.deniers);
            match self.seat(matter, groups.chain(due(matter, requirement, now)), person, now, &[]) {
                Ok(_) => return Ok(()),
                Err(why) => bar = bar.or(why),
            }
        }
        Err(bar)
    }

    /// Everybody who may allow it now and has not, by id.
    pub(crate) fn eligible(&self, matter: &Matter<'_>, now: Timestamp) -> Vec<PersonId> {
        let counts = self.counts(matter);
        let may = |id: &&PersonId| !matter.has_allowed(id) && self.may_allow_after(matter, &counts, id, now).is_ok();
        self.persons.keys().filter(may).cloned().collect()
    }

    /// True when those who allowed it are enough for every requirement. Each person counts once, however often
    /// or through whatever channel the person spoke.
    pub(crate) fn is_met(&self, matter: &Matter<'_>) -> bool {
        let counts = self.counts(matter);
        !counts.is_empty() && matter.requirements.iter().zip(&counts).all(|(it, count)| count.meets(it))
    }

    /// For each requirement the stage that is open and how many people count there.
    pub(crate) fn progress(&self, matter: &Matter<'_>) -> Vec<(usize, u32)> {
        self.counts(matter).iter().map(|count| (count.stage, count.have)).collect()
    }

    /// True when enough people exist who can meet every requirement between now and its expiry, given what has been
    /// said: also those who come on call meanwhile, and those it is escalated to.
    pub(crate) fn can_be_met(&self, matter: &Matter<'_>, now: Timestamp, expires: Timestamp) -> bool {
        let mut moments = self.rota.begins(now, expires);
        let escalations = matter.requirements.iter().flat_map(|it| &it.escalations);
        moments.extend(escalations.map(|it| matter.opened.plus(it.after)).filter(|at| (now..expires).contains(at)));
        moments.push(now);
        let counts = self.counts(matter);
        !counts.is_empty()
            && matter.requirements.iter().zip(&counts).all(|(it, count)| self.could_meet(matter, it, count, &moments))
    }

    /// Whether different people can be found for all places that are still open.
    fn could_meet(
        &self,
        matter: &Matter<'_>,
        requirement: &Requirement,
        count: &Count<'_>,
        moments: &[Timestamp],
    ) -> bool {
        if requirement.signed {
            return false;
        }
        let mut places = Vec::new();
        for (number, stage) in requirement.stages.iter().enumerate().skip(count.stage) {
            // Stand-ins are left out: each takes the seat of somebody who counts here, so they make no more of them.
            let has_seat = |person: &Person, at: Timestamp| {
                let mut groups = stage.approvers.iter().chain(due(matter, requirement, at));
                groups.any(|group| person.groups.contains(group) && self.rota.is_on_call(&person.id, group, at))
                    && !count.seats.contains(&&person.id)
            };
            let fits = |id: &PersonId| {
                !matter.has_allowed(id)
                    && self.unbarred(matter, id).is_ok_and(|person| moments.iter().any(|at| has_seat(person, *at)))
            };
            let people: Vec<&PersonId> = self.persons.keys().filter(|id| fits(id)).collect();
            let have = if number == count.stage { count.have } else { 0 };
            places.extend((have..stage.quorum.max(1)).map(|_| people.clone()));
        }
        let mut taken = HashMap::new();
        (0..places.len()).all(|place| find_person(place, &places, &mut taken, &mut HashSet::new()))
    }

    fn may_allow_after(
        &self,
        matter: &Matter<'_>,
        counts: &[Count<'_>],
        person: &PersonId,
        now: Timestamp,
    ) -> Result<(), Bar> {
        let person = self.unbarred(matter, person)?;
        let mut bar = Bar::NotEntitled;
        for (requirement, count) in matter.requirements.iter().zip(counts) {
            if requirement.signed {
                bar = bar.or(Bar::Unsigned);
                continue;
            }
            for (number, stage) in requirement.stages.iter().enumerate() {
                let groups = stage.approvers.iter().chain(due(matter, requirement, now));
                match (self.seat(matter, groups, person, now, &count.seats), number.cmp(&count.stage)) {
                    (Ok(_), Ordering::Equal) => return Ok(()),
                    (Ok(_), Ordering::Less) => bar = bar.or(Bar::StageMet),
                    (Ok(_), Ordering::Greater) => bar = bar.or(Bar::NotYet),
                    (Err(why), _) => bar = bar.or(why),
                }
            }
        }
        Err(bar)
    }

    fn counts<'a>(&'a self, matter: &Matter<'a>) -> Vec<Count<'a>> {
        matter.requirements.iter().map(|requirement| self.count(matter, requirement)).collect()
    }

    /// Counts what was said, in its order: each person at the stage that was open then, in a seat of their own.
    fn count<'a>(&'a self, matter: &Matter<'a>, requirement: &'a Requirement) -> Count<'a> {
        let mut count = Count::default();
        // A verdict cannot be signed yet: where that is asked for, none counts.
        let allowed = if requirement.signed { &[] } else { matter.allowed };
        for said in allowed {
            let Some(stage) = requirement.stages.get(count.stage) else { break };
            let Ok(person) = self.unbarred(matter, &said.person) else { continue };
            let groups = stage.approvers.iter().chain(due(matter, requirement, said.at));
            let Ok(seat) = self.seat(matter, groups, person, said.at, &count.seats) else { continue };
            // A stand-in takes the seat of whom they stand in for, and keeps no other.
            count.seats.extend([seat, &person.id]);
            count.have += 1;
            // A quorum of zero would be an approval by nobody.
            if count.have >= stage.quorum.max(1) {
                (count.stage, count.have) = (count.stage + 1, 0);
            }
        }
        count
    }

    /// The person, when nothing but their groups can keep them from deciding.
    fn unbarred(&self, matter: &Matter<'_>, person: &PersonId) -> Result<&Person, Bar> {
        let person = self.persons.get(person).ok_or(Bar::UnknownPerson)?;
        // An owner nobody can point at could be anybody, also the one who wants to decide.
        if !self.knows_owner(&matter.agent.owner) {
            return Err(Bar::OwnerUnknown);
        }
        conflict(matter, person).map_or(Ok(person), |part| Err(Bar::Conflict(part)))
    }

    /// Whose seat this person takes as one of those groups: their own, or that of somebody they stand in for and
    /// who could decide it. Seats that are taken are not given again.
    fn seat<'a>(
        &'a self,
        matter: &Matter<'_>,
        groups: impl Iterator<Item = &'a GroupId> + Clone,
        person: &'a Person,
        at: Timestamp,
        taken: &[&PersonId],
    ) -> Result<&'a PersonId, Bar> {
        let is_free = |id: &PersonId| !taken.contains(&id);
        let mut bar = Bar::NotEntitled;
        for group in groups.clone().filter(|group| person.groups.contains(*group)) {
            if !self.rota.is_on_call(&person.id, group, at) {
                bar = bar.or(Bar::NotOnCall);
            } else if is_free(&person.id) {
                return Ok(&person.id);
            } else {
                bar = bar.or(Bar::StageMet);
            }
        }
        for (absent, group) in
            self.rota.stands_in_for(&person.id, at).flat_map(|it| groups.clone().map(move |group| (it, group)))
        {
            let Some(other) = self.persons.get(&absent.from) else { continue };
            // Nobody passes on a right that they have not: not the owner of the agent, not somebody out of turn.
            let has_right = absent.covers(group)
                && other.groups.contains(group)
                && self.rota.is_on_call(&other.id, group, at)
                && self.unbarred(matter, &other.id).is_ok();
            if has_right && is_free(&other.id) && is_free(&person.id) && !matter.has_allowed(&other.id) {
                return Ok(&other.id);
            }
            if has_right {
                bar = bar.or(Bar::StageMet);
            }
        }
        Err(bar)
    }
}

impl Requirement {
    /// One stage and nothing else.
    pub(crate) fn of(rule: &str, groups: &[&str], quorum: u32) -> Self {
        Self {
            rule: RuleId::new(rule),
            stages: vec![Stage { approvers: groups.iter().map(GroupId::new).collect(), quorum }],
            deniers: Vec::new(),
            escalations: Vec::new(),
            signed: false,
        }
    }

    /// Raises the number of people it takes, at its last stage, to that many in all.
    pub(crate) fn take_at_least(&mut self, people: u32) {
        let others: u32 = self.stages.iter().rev().skip(1).map(|stage| stage.quorum.max(1)).sum();
        if let Some(last) = self.stages.last_mut() {
            last.quorum = last.quorum.max(people.saturating_sub(others));
        }
    }

    /// `2 of approvers, security, then 1 of owners`, for people.
    pub(crate) fn describe(&self) -> String {
        let groups = |groups: &[GroupId]| groups.iter().map(GroupId::as_str).collect::<Vec<_>>().join(", ");
        let stages: Vec<_> = self
            .stages
            .iter()
            .map(|stage| {
                let people = if stage.quorum == 1 { "person" } else { "people" };
                format!("{} {people} of {}", stage.quorum, groups(&stage.approvers))
            })
            .collect();
        let mut text = stages.join(", then ");
        for escalation in &self.escalations {
            text.push_str(&format!("; after {} s also {}", escalation.after.as_secs(), groups(&escalation.approvers)));
        }
        if !self.deniers.is_empty() {
            text.push_str(&format!("; {} may deny", groups(&self.deniers)));
        }
        if self.signed {
            text.push_str("; signed by each approver's own key");
        }
        text
    }

    /// As records and the API hold it. What is not asked for is absent.
    pub(crate) fn json(&self) -> Value {
        let groups = |groups: &[GroupId]| groups.iter().map(|group| group.as_str().into()).collect::<Vec<Value>>();
        let stage = |stage: &Stage| json!({ "approvers": groups(&stage.approvers), "quorum": stage.quorum });
        let mut value = Map::new();
        value.insert("rule".to_owned(), self.rule.as_str().into());
        value.insert("stages".to_owned(), self.stages.iter().map(stage).collect());
        if !self.deniers.is_empty() {
            value.insert("deniers".to_owned(), groups(&self.deniers).into());
        }
        if !self.escalations.is_empty() {
            let one = |it: &Escalation| json!({ "after_s": it.after.as_secs(), "approvers": groups(&it.approvers) });
            value.insert("escalations".to_owned(), self.escalations.iter().map(one).collect());
        }
        if self.signed {
            value.insert("signed".to_owned(), true.into());
        }
        Value::Object(value)
    }
}

/// What was said about one requirement.
#[derive(Debug, Default)]
struct Count<'a> {
    /// Index of the stage that is open; the number of stages when all are met.
    stage: usize,
    /// People who count at that stage.
    have: u32,
    /// Who has spoken, and whose place they took.
    seats: Vec<&'a PersonId>,
}

impl Count<'_> {
    fn meets(&self, requirement: &Requirement) -> bool {
        !requirement.stages.is_empty() && self.stage >= requirement.stages.len()
    }
}

impl Matter<'_> {
    fn has_allowed(&self, person: &PersonId) -> bool {
        self.allowed.iter().any(|said| said.person == *person)
    }
}

impl Bar {
    /// Of two reasons the one that says more.
    fn or(self, other: Self) -> Self {
        if self == Self::NotEntitled { other } else { self }
    }
}

/// Groups it has been escalated to by then.
fn due<'a>(
    matter: &Matter<'_>,
    requirement: &'a Requirement,
    at: Timestamp,
) -> impl Iterator<Item = &'a GroupId> + Clone {
    let waited = at.since(matter.opened);
    requirement.escalations.iter().filter(move |it| it.after <= waited).flat_map(|it| &it.approvers)
}

/// The part this person has in the request, if any: such a person never decides it.
fn conflict(matter: &Matter<'_>, person: &Person) -> Option<&'static str> {
    if person.is_called(matter.agent.id.as_str()) {
        return Some("own identity");
    }
    let owns = match &matter.agent.owner {
        Owner::Group(group) => person.groups.contains(group),
        Owner::Person(owner) => person.is_called(owner.as_str()),
    };
    if owns {
        return Some("owner");
    }
    matter.context.initiator.as_deref().is_some_and(|name| person.is_called(name)).then_some("initiator")
}

/// Finds a person for that place, moving others to other places where that helps (Kuhn's algorithm).
fn find_person<'a>(
    place: usize,
    places: &[Vec<&'a PersonId>],
    taken: &mut HashMap<&'a PersonId, usize>,
    tried: &mut HashSet<&'a PersonId>,
) -> bool {
    let Some(people) = places.get(place) else { return false };
    for person in people {
        if !tried.insert(person) {
            continue;
        }
        let holder = taken.get(person).copied();
        if holder.is_none_or(|holder| find_person(holder, places, taken, tried)) {
            taken.insert(person, place);
            return true;
        }
    }
    false
}
