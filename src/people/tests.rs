use std::time::Duration;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

use super::rota::{StandIn, Turns, When, Window};
use super::*;
use crate::action::{Agent, Context};
use crate::id::AgentId;
use crate::time::Timestamp;

mod model;

impl Person {
    /// A person with no name but the id.
    pub(crate) fn of(id: &str, groups: &[&str]) -> Self {
        Self {
            id: PersonId::new(id),
            emails: BTreeSet::new(),
            groups: groups.iter().map(GroupId::new).collect(),
            accounts: BTreeSet::new(),
            aliases: BTreeSet::new(),
        }
    }
}

fn stage(groups: &[&str], quorum: u32) -> Stage {
    Stage { approvers: groups.iter().map(GroupId::new).collect(), quorum }
}

fn person(id: &str, emails: &[&str], groups: &[&str]) -> Person {
    Person { emails: emails.iter().map(|e| (*e).to_owned()).collect(), ..Person::of(id, groups) }
}

fn of(persons: Vec<Person>) -> People {
    People::new(persons, Rota::default()).unwrap()
}

fn people() -> People {
    of(vec![
        person("alice", &["alice@example.com", "a.smith@example.org"], &["approvers", "security"]),
        person("bob", &["bob@example.com"], &["approvers"]),
        person("carol", &["carol@example.com"], &["security"]),
        person("deploy-bot", &[], &["approvers"]),
        Person {
            accounts: [
                Account::Slack { team: "T1".to_owned(), user: "U7".to_owned() },
                Account::Oidc { issuer: "https://id.example.com".to_owned(), subject: "auth0|9".to_owned() },
            ]
            .into(),
            aliases: ["dora-gh".to_owned()].into(),
            ..person("dora", &[], &["approvers"])
        },
    ])
}

fn agent(owner: Owner) -> Agent {
    Agent { id: AgentId::new("deploy-bot"), owner }
}

fn owned_by(id: &str) -> Agent {
    agent(Owner::Person(PersonId::new(id)))
}

fn initiated_by(name: &str) -> Context {
    Context { initiator: Some(name.to_owned()), ..Context::default() }
}

/// Friday, 20 November 2026, at that hour in UTC.
fn at(hour: i64) -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-20T00:00:00Z")
        .unwrap()
        .plus(Duration::from_secs(u64::try_from(hour).unwrap() * 3600))
}

/// What is asked about the agent of carol's, opened at noon.
#[derive(Clone, Debug)]
struct Case {
    agent: Agent,
    context: Context,
    requirements: Vec<Requirement>,
    allowed: Vec<Said>,
}

impl Case {
    fn new(requirements: Vec<Requirement>) -> Self {
        Self { agent: owned_by("carol"), context: Context::default(), requirements, allowed: Vec::new() }
    }

    /// Allowed by these, one after the other, at noon.
    fn allowed(mut self, persons: &[&str]) -> Self {
        self.allowed = persons.iter().map(|id| Said { person: PersonId::new(id), at: at(12) }).collect();
        self
    }

    fn matter(&self) -> Matter<'_> {
        let Self { agent, context, requirements, allowed } = self;
        Matter { agent, context, requirements, opened: at(12), allowed }
    }

    fn may_allow(&self, people: &People, person: &str, now: Timestamp) -> Result<(), Bar> {
        people.may_allow(&self.matter(), &PersonId::new(person), now)
    }

    fn may_deny(&self, people: &People, person: &str, now: Timestamp) -> Result<(), Bar> {
        people.may_deny(&self.matter(), &PersonId::new(person), now)
    }

    fn is_met(&self, people: &People) -> bool {
        people.is_met(&self.matter())
    }

    fn can_be_met(&self, people: &People, from: i64, until: i64) -> bool {
        people.can_be_met(&self.matter(), at(from), at(until))
    }
}

#[test]
fn who_may_decide() {
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
        (owned_by("carol"), &initiated_by("U7"), "approvers", "dora", Err(Bar::Conflict("initiator"))),
        (owned_by("carol"), &initiated_by("<@U7>"), "approvers", "dora", Err(Bar::Conflict("initiator"))),
        (owned_by("carol"), &initiated_by("auth0|9"), "approvers", "dora", Err(Bar::Conflict("initiator"))),
        (owned_by("carol"), &initiated_by("@Dora-GH"), "approvers", "dora", Err(Bar::Conflict("initiator"))),
        (owned_by("dora-gh"), &nobody, "approvers", "dora", Err(Bar::Conflict("owner"))),
        (owned_by("carol"), &nobody, "approvers", "deploy-bot", Err(Bar::Conflict("own identity"))),
        (owned_by("alice"), &nobody, "approvers", "carol", Err(Bar::NotEntitled)),
        (owned_by("alice"), &nobody, "approvers", "mallory", Err(Bar::UnknownPerson)),
        (owned_by("alice"), &nobody, "nosuch", "bob", Err(Bar::NotEntitled)),
        (owned_by("gone"), &nobody, "approvers", "bob", Err(Bar::OwnerUnknown)),
        (agent(Owner::Group(GroupId::new("gone"))), &nobody, "approvers", "bob", Err(Bar::OwnerUnknown)),
    ] {
        let requirements = vec![Requirement::of("r", &[groups], 1)];
        let case = Case { agent, context: context.clone(), requirements, allowed: Vec::new() };
        assert_eq!(
            case.may_allow(&people(), person, at(12)),
            expected,
            "{:?} {context:?} {groups} {person}",
            case.agent
        );
        assert_eq!(
            case.may_deny(&people(), person, at(12)),
            expected,
            "{:?} {context:?} {groups} {person}",
            case.agent
        );
    }
}

#[test]
fn a_quorum_counts_distinct_entitled_people() {
    let met = |requirements: &[Requirement], allowed: &[&str]| {
        Case::new(requirements.to_vec()).allowed(allowed).is_met(&people())
    };
    let two = [Requirement::of("r", &["approvers", "security"], 2)];
    assert!(!met(&two, &["alice"]), "one person in two groups is one person");
    assert!(!met(&two, &["alice", "alice"]), "nor is a person who speaks twice");
    assert!(met(&two, &["alice", "bob"]));
    assert!(!met(&two, &["alice", "carol"]), "the owner does not count");
    assert!(!met(&two, &["alice", "deploy-bot"]), "the agent does not count");
    assert!(!met(&two, &["alice", "mallory"]), "strangers do not count");
    assert!(!met(&[], &["alice", "bob"]), "no requirement is not a met requirement");
    assert!(!met(&[Requirement::of("r", &["approvers"], 0)], &[]), "a quorum of zero still needs somebody");
    assert!(!met(&[Requirement { stages: Vec::new(), ..Requirement::of("r", &[], 1) }], &["alice"]), "nor no stages");
    let both = [Requirement::of("r", &["approvers"], 1), Requirement::of("s", &["security"], 1)];
    assert!(met(&both, &["alice"]), "one person may satisfy two rules");
    assert!(!met(&both, &["bob"]), "every rule must be satisfied");
}

#[test]
fn stages_open_one_after_the_other() {
    let staged = || {
        let stages = vec![stage(&["approvers"], 1), stage(&["security"], 1)];
        vec![Requirement { stages, deniers: vec![GroupId::new("watch")], ..Requirement::of("r", &[], 1) }]
    };
    let people = of(vec![
        Person::of("alice", &["approvers", "security"]),
        Person::of("bob", &["approvers"]),
        Person::of("sam", &["security"]),
        Person::of("wil", &["watch"]),
        Person::of("carol", &[]),
    ]);
    let begun = Case::new(staged());
    assert_eq!(begun.may_allow(&people, "sam", at(12)), Err(Bar::NotYet));
    assert_eq!(begun.may_deny(&people, "sam", at(12)), Ok(()), "a later stage may say no at once");
    assert_eq!(begun.may_deny(&people, "wil", at(12)), Ok(()));
    assert_eq!(begun.may_allow(&people, "wil", at(12)), Err(Bar::NotEntitled), "who may deny may not allow");
    assert_eq!(people.eligible(&begun.matter(), at(12)), ["alice", "bob"].map(PersonId::new));
    let half = Case::new(staged()).allowed(&["alice"]);
    assert_eq!(people.progress(&half.matter()), [(1, 0)]);
    assert_eq!(half.may_allow(&people, "alice", at(12)), Err(Bar::StageMet), "one person is no second pair of eyes");
    assert_eq!(half.may_allow(&people, "bob", at(12)), Err(Bar::StageMet));
    assert_eq!(people.eligible(&half.matter(), at(12)), [PersonId::new("sam")]);
    assert!(Case::new(staged()).allowed(&["alice", "sam"]).is_met(&people));
    assert!(!Case::new(staged()).allowed(&["alice", "alice"]).is_met(&people));
    assert!(!Case::new(staged()).allowed(&["sam", "alice"]).is_met(&people), "out of its order nobody counts");
    assert!(Case::new(staged()).can_be_met(&people, 12, 13));
    let few = of(vec![Person::of("alice", &["approvers", "security"]), Person::of("carol", &[])]);
    assert!(!Case::new(staged()).can_be_met(&few, 12, 13), "it takes two people");
    // Alice is wanted at both: only when bob takes the first stage is there somebody for the second.
    let just = of(vec![
        Person::of("alice", &["approvers", "security"]),
        Person::of("bob", &["approvers"]),
        Person::of("carol", &[]),
    ]);
    assert!(Case::new(staged()).can_be_met(&just, 12, 13));
    assert!(!Case::new(staged()).allowed(&["alice"]).can_be_met(&just, 12, 13));
}

#[test]
fn without_a_signature_nothing_counts_where_one_is_asked_for() {
    let signed = || vec![Requirement { signed: true, ..Requirement::of("r", &["approvers"], 1) }];
    let case = Case::new(signed()).allowed(&["alice", "bob"]);
    assert!(!case.is_met(&people()) && !case.can_be_met(&people(), 12, 13));
    assert_eq!(Case::new(signed()).may_allow(&people(), "alice", at(12)), Err(Bar::Unsigned));
    assert_eq!(Case::new(signed()).may_deny(&people(), "alice", at(12)), Ok(()));
}

#[test]
fn nobody_left_is_noticed() {
    let requires = |quorum| vec![Requirement::of("r", &["approvers"], quorum)];
    let only_alice = of(vec![person("alice", &[], &["approvers"])]);
    let own = Case { agent: owned_by("alice"), ..Case::new(requires(1)) };
    assert!(!own.can_be_met(&only_alice, 12, 13));
    assert!(!Case { agent: owned_by("alice"), ..Case::new(requires(3)) }.can_be_met(&people(), 12, 13));
    assert!(Case { agent: owned_by("alice"), ..Case::new(requires(2)) }.can_be_met(&people(), 12, 13));
}

#[test]
fn others_are_asked_when_nobody_decides() {
    let escalated = || {
        let escalations =
            vec![Escalation { after: Duration::from_secs(1800), approvers: vec![GroupId::new("security")] }];
        vec![Requirement { escalations, ..Requirement::of("r", &["owners"], 1) }]
    };
    let case = Case { agent: owned_by("bob"), ..Case::new(escalated()) };
    let half_past = at(12).plus(Duration::from_secs(1800));
    assert_eq!(case.may_allow(&people(), "carol", at(12)), Err(Bar::NotEntitled));
    assert_eq!(case.may_allow(&people(), "carol", half_past), Ok(()));
    assert!(case.can_be_met(&people(), 12, 13), "there will be somebody");
    assert!(!people().can_be_met(&case.matter(), at(12), half_past), "not before it ends");
    let early = Case {
        agent: owned_by("bob"),
        allowed: vec![Said { person: PersonId::new("carol"), at: at(12) }],
        ..Case::new(escalated())
    };
    assert!(!early.is_met(&people()), "what was said before it was escalated does not count later");
}

fn on_call(zone: &str, windows: Vec<Window>) -> People {
    let turns = Turns { zone: TimeZone::get(zone).unwrap(), windows };
    let rota = Rota { turns: [(GroupId::new("approvers"), turns)].into(), stand_ins: Vec::new() };
    People::new(people().persons().cloned().collect(), rota).unwrap()
}

fn weekly(who: &[&str], days: &[Weekday], from: i8, to: i8) -> Window {
    let hour = |hour| Time::new(hour, 0, 0, 0).unwrap();
    let when = When::Weekly { days: days.to_vec(), from: hour(from), to: hour(to) };
    Window { who: who.iter().map(PersonId::new).collect(), when }
}

#[test]
fn who_is_not_on_call_does_not_decide() {
    let case = Case::new(vec![Requirement::of("r", &["approvers"], 1)]);
    // 09:00 to 17:00 in Berlin is 08:00 to 16:00 in UTC in November.
    let people = on_call(
        "Europe/Berlin",
        vec![weekly(&["alice"], &[Weekday::Friday], 9, 17), weekly(&["bob"], &[Weekday::Thursday], 22, 6)],
    );
    for (person, hour, expected) in [
        ("alice", 7, Err(Bar::NotOnCall)),
        ("alice", 8, Ok(())),
        ("alice", 15, Ok(())),
        ("alice", 16, Err(Bar::NotOnCall)),
        ("alice", 24 + 10, Err(Bar::NotOnCall)),
        ("alice", 7 * 24 + 10, Ok(())),
        ("bob", 4, Ok(())),
        ("bob", 5, Err(Bar::NotOnCall)),
        ("bob", 22, Err(Bar::NotOnCall)),
        ("dora", 10, Err(Bar::NotOnCall)),
    ] {
        assert_eq!(case.may_allow(&people, person, at(hour)), expected, "{person} {hour}");
        assert_eq!(case.may_deny(&people, person, at(hour)), expected, "{person} {hour}");
    }
    assert!(case.can_be_met(&people, 16, 24 * 7), "bob comes on call on Thursday");
    assert!(!case.can_be_met(&people, 16, 30));
    assert!(
        Case::new(vec![Requirement::of("r", &["approvers"], 1)]).allowed(&["alice"]).is_met(&people),
        "she was on call then"
    );
    let between = When::Between { since: at(1), until: at(2) };
    let people = on_call("UTC", vec![Window { who: vec![PersonId::new("alice")], when: between }]);
    assert_eq!([0, 1, 2].map(|hour| case.may_allow(&people, "alice", at(hour)).is_ok()), [false, true, false]);
}

#[test]
fn a_stand_in_has_the_right_of_whom_they_stand_in_for() {
    let stand_ins = |groups: &[&str]| {
        let groups = groups.iter().map(GroupId::new).collect();
        let it =
            StandIn { from: PersonId::new("alice"), to: PersonId::new("carol"), groups, since: at(10), until: at(14) };
        let rota = Rota { turns: BTreeMap::new(), stand_ins: vec![it] };
        People::new(people().persons().cloned().collect(), rota).unwrap()
    };
    let asked = |owner: &str, quorum| Case {
        agent: owned_by(owner),
        ..Case::new(vec![Requirement::of("r", &["approvers"], quorum)])
    };
    let people = stand_ins(&[]);
    assert_eq!(asked("bob", 1).may_allow(&people, "carol", at(12)), Ok(()));
    assert_eq!(asked("bob", 1).may_allow(&people, "carol", at(9)), Err(Bar::NotEntitled));
    assert_eq!(asked("bob", 1).may_allow(&people, "carol", at(14)), Err(Bar::NotEntitled));
    assert_eq!(
        asked("alice", 1).may_allow(&people, "carol", at(12)),
        Err(Bar::NotEntitled),
        "nobody passes on a right they have not"
    );
    assert_eq!(asked("carol", 1).may_allow(&people, "carol", at(12)), Err(Bar::Conflict("owner")));
    assert_eq!(asked("bob", 1).may_allow(&stand_ins(&["security"]), "carol", at(12)), Err(Bar::NotEntitled));
    assert_eq!(asked("bob", 1).may_allow(&stand_ins(&["approvers"]), "carol", at(12)), Ok(()));
    assert!(!asked("bob", 2).allowed(&["alice", "carol"]).is_met(&people), "one right is one vote");
    assert!(!asked("bob", 2).allowed(&["carol", "alice"]).is_met(&people), "in whatever order");
    assert!(asked("bob", 2).allowed(&["carol", "dora"]).is_met(&people));
    let few = People::new(
        vec![Person::of("alice", &["approvers"]), Person::of("carol", &[]), Person::of("bob", &[])],
        people.rota().clone(),
    );
    assert!(!asked("bob", 2).can_be_met(&few.unwrap(), 12, 13), "one right is one vote, whoever may give it");
}

#[test]
fn one_human_cannot_be_two_persons() {
    let slack = || Account::Slack { team: "T1".to_owned(), user: "U1".to_owned() };
    let with = |id: &str| Person { accounts: [slack()].into(), ..Person::of(id, &[]) };
    for persons in [
        vec![person("a", &["x@e.com"], &[]), person("b", &["X@E.com"], &[])],
        vec![person("a", &[], &[]), person("a", &[], &[])],
        vec![person("a@e.com", &[], &[]), person("b", &["A@e.com"], &[])],
        vec![person("Alice", &[], &[]), person("alice", &[], &[])],
        vec![with("a"), with("b")],
        vec![Person { aliases: ["b".to_owned()].into(), ..Person::of("a", &[]) }, Person::of("b", &[])],
    ] {
        assert!(People::new(persons.clone(), Rota::default()).is_err(), "{persons:?}");
    }
}
