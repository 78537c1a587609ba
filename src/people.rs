//! Persons and groups, and the one judgement of who may decide what.
//!
//! Every channel asks [`People::may_decide`]; there is no second place that knows the rule.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{GroupId, PersonId, RuleId};

/// One human being of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) id: PersonId,
    /// Lower-case e-mail addresses that identify this person; unique over all persons.
    pub(crate) emails: BTreeSet<String>,
    pub(crate) groups: BTreeSet<GroupId>,
}

/// All persons, by id.
#[derive(Clone, Debug, Default)]
pub(crate) struct People {
    persons: BTreeMap<PersonId, Person>,
}

impl People {
    /// # Errors
    /// When two persons share an id or an e-mail address: one human could then count as two.
    pub(crate) fn new(_persons: Vec<Person>) -> Result<Self, PeopleError> {
        Ok(Self { persons: BTreeMap::new() })
    }

    pub(crate) fn persons(&self) -> impl Iterator<Item = &Person> {
        self.persons.values()
    }

    pub(crate) fn person(&self, id: &PersonId) -> Option<&Person> {
        self.persons.get(id)
    }

    /// The person with that id or e-mail address (compared without regard to case).
    pub(crate) fn find(&self, _id_or_email: &str) -> Option<&Person> {
        None
    }

    pub(crate) fn has_group(&self, group: &GroupId) -> bool {
        self.persons.values().any(|person| person.groups.contains(group))
    }
}

/// Two persons who cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeopleError {
    #[error("person `{0}` is defined twice")]
    DuplicateId(PersonId),
    #[error("e-mail address `{0}` belongs to both `{1}` and `{2}`: one human would count as two")]
    SharedEmail(String, PersonId, PersonId),
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
