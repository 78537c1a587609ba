use super::*;
use crate::id::AgentId;

fn person(id: &str, emails: &[&str], groups: &[&str]) -> Person {
    Person {
        id: PersonId::new(id),
        emails: emails.iter().map(|e| (*e).to_owned()).collect(),
        groups: groups.iter().map(GroupId::new).collect(),
    }
}

fn people() -> People {
    People::new(vec![
        person("alice", &["alice@example.com", "a.smith@example.org"], &["approvers", "security"]),
        person("bob", &["bob@example.com"], &["approvers"]),
        person("carol", &["carol@example.com"], &["security"]),
        person("deploy-bot", &[], &["approvers"]),
    ])
    .unwrap()
}

fn agent(owner: Owner) -> Agent {
    Agent { id: AgentId::new("deploy-bot"), owner }
}

fn requires(groups: &[&str], quorum: u32) -> Vec<Requirement> {
    vec![Requirement { rule: RuleId::new("r"), approvers: groups.iter().map(GroupId::new).collect(), quorum }]
}

fn initiated_by(name: &str) -> Context {
    Context { initiator: Some(name.to_owned()), ..Context::default() }
}

#[test]
fn who_may_decide() {
    let owned_by = |id: &str| agent(Owner::Person(PersonId::new(id)));
    let nobody = Context::default();
    for (agent, context, groups, person, expected) in [
        (owned_by("carol"), &nobody, "approvers", "alice", Ok(())),
        (owned_by("alice"), &nobody, "approvers", "alice", Err(Bar::Conflict("owner"))),
        (owned_by("ALICE"), &nobody, "approvers", "alice", Err(Bar::Conflict("owner"))),
        (owned_by("a.smith@example.org"), &nobody, "approvers", "alice", Err(Bar::Conflict("owner"))),
        (agent(Owner::Group(GroupId::new("security"))), &nobody, "approvers", "alice", Err(Bar::Conflict("owner"))),
        (agent(Owner::Group(GroupId::new("security"))), &nobody, "approvers", "bob", Ok(())),
        (owned_by("carol"), &initiated_by("alice"), "approvers", "alice", Err(Bar::Conflict("initiator"))),
        (
            owned_by("carol"),
            &initiated_by(" A.Smith@Example.org "),
            "approvers",
            "alice",
            Err(Bar::Conflict("initiator")),
        ),
        (
            owned_by("carol"),
            &initiated_by("Al <alice@example.com>"),
            "approvers",
            "alice",
            Err(Bar::Conflict("initiator")),
        ),
        (
            owned_by("carol"),
            &initiated_by("mailto:alice@example.com"),
            "approvers",
            "alice",
            Err(Bar::Conflict("initiator")),
        ),
        (owned_by("carol"), &initiated_by("bob"), "approvers", "alice", Ok(())),
        (owned_by("carol"), &nobody, "approvers", "deploy-bot", Err(Bar::Conflict("own identity"))),
        (owned_by("alice"), &nobody, "approvers", "carol", Err(Bar::NotEntitled)),
        (owned_by("alice"), &nobody, "approvers", "mallory", Err(Bar::UnknownPerson)),
        (owned_by("alice"), &nobody, "nosuch", "bob", Err(Bar::NotEntitled)),
        (owned_by("gone"), &nobody, "approvers", "bob", Err(Bar::OwnerUnknown)),
        (agent(Owner::Group(GroupId::new("gone"))), &nobody, "approvers", "bob", Err(Bar::OwnerUnknown)),
    ] {
        let outcome = people().may_decide(&agent, context, &requires(&[groups], 1), &PersonId::new(person));
        assert_eq!(outcome, expected, "{agent:?} {context:?} {groups} {person}");
    }
}

#[test]
fn a_quorum_counts_distinct_entitled_people() {
    let agent = agent(Owner::Person(PersonId::new("carol")));
    let met = |requirements: &[Requirement], allowed: &[&str]| {
        people().is_met(&agent, &Context::default(), requirements, &allowed.iter().map(PersonId::new).collect())
    };
    let two = requires(&["approvers", "security"], 2);
    assert!(!met(&two, &["alice"]), "one person in two groups is one person");
    assert!(met(&two, &["alice", "bob"]));
    assert!(!met(&two, &["alice", "carol"]), "the owner does not count");
    assert!(!met(&two, &["alice", "deploy-bot"]), "the agent does not count");
    assert!(!met(&two, &["alice", "mallory"]), "strangers do not count");
    assert!(!met(&[], &["alice", "bob"]), "no requirement is not a met requirement");
    assert!(!met(&requires(&["approvers"], 0), &[]), "a quorum of zero still needs somebody");
    let both = [requires(&["approvers"], 1), requires(&["security"], 1)].concat();
    assert!(met(&both, &["alice"]), "one person may satisfy two rules");
    assert!(!met(&both, &["bob"]), "every rule must be satisfied");
}

#[test]
fn nobody_left_is_noticed() {
    let only_alice = People::new(vec![person("alice", &[], &["approvers"])]).unwrap();
    let agent = agent(Owner::Person(PersonId::new("alice")));
    assert!(!only_alice.can_be_met(&agent, &Context::default(), &requires(&["approvers"], 1)));
    assert!(!people().can_be_met(&agent, &Context::default(), &requires(&["approvers"], 2)));
    assert!(people().can_be_met(&agent, &Context::default(), &requires(&["approvers"], 1)));
}

#[test]
fn one_human_cannot_be_two_persons() {
    for persons in [
        vec![person("a", &["x@e.com"], &[]), person("b", &["X@E.com"], &[])],
        vec![person("a", &[], &[]), person("a", &[], &[])],
        vec![person("a@e.com", &[], &[]), person("b", &["A@e.com"], &[])],
        vec![person("Alice", &[], &[]), person("alice", &[], &[])],
    ] {
        assert!(People::new(persons.clone()).is_err(), "{persons:?}");
    }
}
