//! Persons and groups, and the one judgement of who may decide what.
//!
//! Every channel asks the gate, and the gate asks [`People::may_allow`] and [`People::may_deny`], again at release;
//! there is no second place that knows the rule. It must never be loosened by anything the agent says: a claim can
//! bar a person, it can never entitle one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::action::Owner;
use crate::id::{GroupId, PersonId};

mod judge;
pub(crate) mod rota;

pub(crate) use judge::{Bar, Escalation, Matter, Requirement, Said, Stage};
use rota::Rota;

/// One human being of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) id: PersonId,
    /// Lower-case e-mail addresses that identify this person; unique over all persons.
    pub(crate) emails: BTreeSet<String>,
    pub(crate) groups: BTreeSet<GroupId>,
    /// Verified identities at other systems by which this person signs in; unique over all persons.
    pub(crate) accounts: BTreeSet<Account>,
    /// Further names by which an agent may call this person; nobody signs in by them. Lower case.
    pub(crate) aliases: BTreeSet<String>,
}

/// An identity that another system vouches for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Account {
    /// Subject of an OpenID Connect provider (OIDC Core, section 2: unique within its issuer).
    Oidc { issuer: String, subject: String },
    /// A member of a Slack workspace, or of an organization where `team` is one (`E…`).
    Slack { team: String, user: String },
    /// An object of a Microsoft Entra tenant.
    Teams { tenant: String, object: String },
}

impl Account {
    /// What the account itself is called there.
    fn name(&self) -> &str {
        match self {
            Self::Oidc { subject, .. } => subject,
            Self::Slack { user, .. } => user,
            Self::Teams { object, .. } => object,
        }
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Oidc { issuer, subject } => write!(f, "{subject} of {issuer}"),
            Self::Slack { team, user } => write!(f, "slack {team}/{user}"),
            Self::Teams { tenant, object } => write!(f, "teams {tenant}/{object}"),
        }
    }
}

/// All persons, by id, and when they decide.
#[derive(Clone, Debug, Default)]
pub(crate) struct People {
    persons: BTreeMap<PersonId, Person>,
    rota: Rota,
}

impl People {
    /// # Errors
    /// When two persons share an id, an e-mail address, an account or an alias: one human could then count as two.
    pub(crate) fn new(persons: Vec<Person>, rota: Rota) -> Result<Self, PeopleError> {
        let mut by_id = BTreeMap::<PersonId, Person>::new();
        let mut by_name = HashMap::<String, PersonId>::new();
        for person in persons {
            // An id that is also somebody's address would let one spelling mean two people.
            let names = person.emails.iter().chain(&person.aliases).map(|name| name.to_ascii_lowercase());
            let accounts = person.accounts.iter().map(Account::to_string);
            let own = [person.id.as_str().to_ascii_lowercase()];
            for name in names.chain(accounts).chain(own) {
                match by_name.insert(name.clone(), person.id.clone()) {
                    Some(other) if other != person.id => return Err(PeopleError::Shared(name, other, person.id)),
                    _ => {}
                }
            }
            if let Some(earlier) = by_id.insert(person.id.clone(), person) {
                return Err(PeopleError::DuplicateId(earlier.id));
            }
        }
        Ok(Self { persons: by_id, rota })
    }

    pub(crate) fn persons(&self) -> impl Iterator<Item = &Person> {
        self.persons.values()
    }

    pub(crate) fn rota(&self) -> &Rota {
        &self.rota
    }

    /// The person with that id or e-mail address (compared without regard to case).
    pub(crate) fn find(&self, id_or_email: &str) -> Option<&Person> {
        let wanted = id_or_email.trim();
        self.persons.values().find(|person| {
            person.id.as_str().eq_ignore_ascii_case(wanted)
                || person.emails.iter().any(|email| email.eq_ignore_ascii_case(wanted))
        })
    }

    /// The person who signs in by that account.
    pub(crate) fn holder(&self, account: &Account) -> Option<&Person> {
        self.persons.values().find(|person| person.accounts.contains(account))
    }

    /// The person with that e-mail address, which somebody must have verified.
    pub(crate) fn of_email(&self, email: &str) -> Option<&Person> {
        let is_theirs = |person: &&Person| person.emails.iter().any(|it| it.eq_ignore_ascii_case(email));
        self.persons.values().find(is_theirs)
    }

    pub(crate) fn has_group(&self, group: &GroupId) -> bool {
        self.persons.values().any(|person| person.groups.contains(group))
    }

    /// True when the owner is a configured person or group.
    pub(crate) fn knows_owner(&self, owner: &Owner) -> bool {
        match owner {
            Owner::Group(group) => self.has_group(group),
            Owner::Person(owner) => self.persons.values().any(|person| person.is_called(owner.as_str())),
        }
    }
}

impl Person {
    /// Whether that name means this person, in whatever of the forms in which people and accounts are named.
    fn is_called(&self, name: &str) -> bool {
        // `Jo Doe <jo@example.com>` and `mailto:` forms name a person as well as the bare address does.
        let name = name.trim();
        let bare = name.rsplit_once('<').map_or(name, |(_, rest)| rest.trim_end_matches('>'));
        let bare = bare.strip_prefix("mailto:").unwrap_or(bare);
        let bare = bare.strip_prefix("user:").unwrap_or(bare).trim_start_matches('@').trim();
        let names = self.emails.iter().chain(&self.aliases).map(String::as_str);
        let names = names.chain(self.accounts.iter().map(Account::name)).chain([self.id.as_str()]);
        names.into_iter().any(|known| known.eq_ignore_ascii_case(bare))
    }
}

/// Two persons who cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeopleError {
    #[error("person `{0}` is defined twice")]
    DuplicateId(PersonId),
    #[error("`{0}` names both `{1}` and `{2}`: one human would count as two; merge them into one person")]
    Shared(String, PersonId, PersonId),
}

#[cfg(test)]
mod tests;
