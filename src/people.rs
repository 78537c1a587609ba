//! Persons and groups, and the one judgement of who may decide what.
//!
//! Every channel asks [`People::may_decide`], and the gate asks it again at release; there is no
//! second place that knows the rule. It must never be loosened by anything the agent says: a claim
//! can bar a person, it can never entitle one.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::{Agent, Context, Owner};
use crate::id::{GroupId, PersonId, RuleId};

/// One human being of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) id: PersonId,
    /// Lower-case e-mail addresses that identify this person; unique over all persons.
    pub(crate) emails: BTreeSet<String>,
    pub(crate) groups: BTreeSet<GroupId>,
}

/// Who must agree, for one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    /// The rule, or `default` / `unknown` when no rule asked.
    pub(crate) rule: RuleId,
    /// Members of any of these groups may decide.
    pub(crate) approvers: Vec<GroupId>,
    /// How many distinct people must allow it; at least 1.
    pub(crate) quorum: u32,
}

/// All persons, by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct People {
    persons: BTreeMap<PersonId, Person>,
}

impl People {
    /// # Errors
    /// When two persons share an id or an e-mail address: one human could then count as two.
    pub(crate) fn new(persons: Vec<Person>) -> Result<Self, PeopleError> {
        let mut by_id = BTreeMap::<PersonId, Person>::new();
        let mut by_email = BTreeMap::<String, PersonId>::new();
        for person in persons {
            // An id that is also somebody's address would let one spelling mean two people.
            let id_as_email = person.id.as_str().to_ascii_lowercase();
            for email in person.emails.iter().map(|e| e.to_ascii_lowercase()).chain([id_as_email]) {
                match by_email.insert(email.clone(), person.id.clone()) {
                    Some(other) if other != person.id => return Err(PeopleError::Shared(email, other, person.id)),
                    _ => {}
                }
            }
            if let Some(earlier) = by_id.insert(person.id.clone(), person) {
                return Err(PeopleError::DuplicateId(earlier.id));
            }
        }
        Ok(Self { persons: by_id })
    }

    pub(crate) fn persons(&self) -> impl Iterator<Item = &Person> {
        self.persons.values()
    }

    /// The person with that id or e-mail address (compared without regard to case).
    pub(crate) fn find(&self, id_or_email: &str) -> Option<&Person> {
        let wanted = id_or_email.trim();
        self.persons.values().find(|person| {
            person.id.as_str().eq_ignore_ascii_case(wanted)
                || person.emails.iter().any(|email| email.eq_ignore_ascii_case(wanted))
        })
    }

    pub(crate) fn has_group(&self, group: &GroupId) -> bool {
        self.persons.values().any(|person| person.groups.contains(group))
    }

    /// Whether this person may give a verdict on a request of `agent` under `requirements`.
    ///
    /// # Errors
    /// The reason why not.
    pub(crate) fn may_decide(
        &self,
        agent: &Agent,
        context: &Context,
        requirements: &[Requirement],
        person: &PersonId,
    ) -> Result<(), Bar> {
        let person = self.persons.get(person).ok_or(Bar::UnknownPerson)?;
        // An owner nobody can point at could be anybody, also the one who wants to decide.
        if !self.knows_owner(&agent.owner) {
            return Err(Bar::OwnerUnknown);
        }
        if let Some(role) = self.conflict(agent, context, person) {
            return Err(Bar::Conflict(role));
        }
        if requirements.iter().any(|requirement| is_member(person, requirement)) {
            Ok(())
        } else {
            Err(Bar::NotEntitled)
        }
    }

    /// Everybody who may decide, by id.
    pub(crate) fn eligible(&self, agent: &Agent, context: &Context, requirements: &[Requirement]) -> Vec<PersonId> {
        self.persons.keys().filter(|id| self.may_decide(agent, context, requirements, id).is_ok()).cloned().collect()
    }

    /// True when the people in `allowed` who may decide are enough for every requirement. Each
    /// person counts once, however often or through whatever channel the person spoke.
    pub(crate) fn is_met(
        &self,
        agent: &Agent,
        context: &Context,
        requirements: &[Requirement],
        allowed: &BTreeSet<PersonId>,
    ) -> bool {
        !requirements.is_empty()
            && requirements.iter().all(|requirement| {
                let entitled = allowed
                    .iter()
                    .filter(|id| self.may_decide(agent, context, std::slice::from_ref(requirement), id).is_ok())
                    .count();
                // A quorum of zero would be an approval by nobody.
                entitled >= usize::try_from(requirement.quorum.max(1)).unwrap_or(usize::MAX)
            })
    }

    /// True when enough people exist to meet every requirement.
    pub(crate) fn can_be_met(&self, agent: &Agent, context: &Context, requirements: &[Requirement]) -> bool {
        self.is_met(agent, context, requirements, &self.persons.keys().cloned().collect())
    }

    /// True when the owner is a configured person or group.
    pub(crate) fn knows_owner(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Group(group) => self.has_group(group),
            Owner::Person(owner) => self.persons.values().any(|person| is_called(person, owner.as_str())),
        }
    }

    /// The part this person has in the request, if any: such a person never decides it.
    fn conflict(&self, agent: &Agent, context: &Context, person: &Person) -> Option<&'static str> {
        if person.id.as_str().eq_ignore_ascii_case(agent.id.as_str()) {
            return Some("own identity");
        }
        let owns = match &agent.owner {
            Owner::Group(group) => person.groups.contains(group),
            Owner::Person(owner) => is_called(person, owner.as_str()),
        };
        if owns {
            return Some("owner");
        }
        context.initiator.as_deref().is_some_and(|name| is_called(person, name)).then_some("initiator")
    }
}

/// Why a person may not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bar {
    /// The person has a part in the request: the agent's owner, its initiator, or itself.
    Conflict(&'static str),
    NotEntitled,
    /// The agent's owner is nobody of the configuration, so nobody can be told apart from the owner.
    OwnerUnknown,
    UnknownPerson,
}

/// Two persons who cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeopleError {
    #[error("person `{0}` is defined twice")]
    DuplicateId(PersonId),
    #[error("`{0}` names both `{1}` and `{2}`: one human would count as two; merge them into one person")]
    Shared(String, PersonId, PersonId),
}

fn is_member(person: &Person, requirement: &Requirement) -> bool {
    requirement.approvers.iter().any(|group| person.groups.contains(group))
}

fn is_called(person: &Person, name: &str) -> bool {
    // `Jo Doe <jo@example.com>` and `mailto:` forms name a person as well as the bare address does.
    let name = name.trim();
    let bare = name.rsplit_once('<').map_or(name, |(_, rest)| rest.trim_end_matches('>'));
    let bare = bare.strip_prefix("mailto:").unwrap_or(bare);
    let bare = bare.strip_prefix("user:").unwrap_or(bare).trim();
    person.id.as_str().eq_ignore_ascii_case(bare) || person.emails.iter().any(|email| email.eq_ignore_ascii_case(bare))
}

#[cfg(test)]
mod tests;
