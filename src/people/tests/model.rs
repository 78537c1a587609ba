//! The judgement against a search through everything that people could say.

use proptest::prelude::*;

use super::*;

const PERSONS: [&str; 5] = ["ann", "ben", "cem", "dan", "eve"];
const GROUPS: [&str; 3] = ["first", "second", "turns"];

/// A small world, in which `turns` is a group on call by turns.
#[derive(Clone, Debug)]
struct World {
    people: People,
    case: Case,
    /// Who speaks when, whether they may or not.
    spoken: Vec<Said>,
}

fn names(of: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(of.to_vec(), 0..=most)
}

fn hours() -> impl Strategy<Value = (i64, i64)> {
    (0_i64..4, 1_i64..4).prop_map(|(since, long)| (12 + since, 12 + since + long))
}

fn rota() -> impl Strategy<Value = Rota> {
    let window = (names(&PERSONS, 4), hours()).prop_map(|(who, (since, until))| Window {
        who: who.iter().map(PersonId::new).collect(),
        when: When::Between { since: at(since), until: at(until) },
    });
    let person = || prop::sample::select(PERSONS.to_vec()).prop_map(PersonId::new);
    let stand_in = (person(), person(), names(&GROUPS, 2), hours()).prop_map(|(from, to, groups, (since, until))| {
        StandIn { from, to, groups: groups.iter().map(GroupId::new).collect(), since: at(since), until: at(until) }
    });
    (prop::collection::vec(window, 0..3), prop::collection::vec(stand_in, 0..4)).prop_map(|(windows, stand_ins)| Rota {
        turns: [(GroupId::new("turns"), Turns { zone: TimeZone::UTC, windows })].into(),
        stand_ins,
    })
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let of_stage = (prop::sample::subsequence(GROUPS.to_vec(), 1..=2), 0_u32..3);
    let stages = prop::collection::vec(of_stage.prop_map(|(groups, quorum)| stage(&groups, quorum)), 1..=3);
    let escalations = prop::option::of((names(&GROUPS, 2), 0_u64..4)).prop_map(|it| {
        let one = |(groups, hours): (Vec<&str>, u64)| Escalation {
            after: Duration::from_secs(hours * 3600),
            approvers: groups.iter().map(GroupId::new).collect(),
        };
        it.map(one).into_iter().collect()
    });
    (stages, escalations).prop_map(|(stages, escalations)| Requirement {
        stages,
        escalations,
        ..Requirement::of("r", &[], 1)
    })
}

fn world(requirements: usize) -> impl Strategy<Value = World> {
    let groups = prop::collection::vec(names(&GROUPS, 3), PERSONS.len());
    let owner = prop_oneof![
        prop::sample::select(PERSONS.to_vec()).prop_map(|id| Owner::Person(PersonId::new(id))),
        prop::sample::select(GROUPS.to_vec()).prop_map(|id| Owner::Group(GroupId::new(id))),
    ];
    let initiator = prop::option::of(prop::sample::select(PERSONS.to_vec()));
    let spoken = prop::collection::vec((prop::sample::select(PERSONS.to_vec()), 0_i64..2), 0..6);
    let requirements = prop::collection::vec(requirement(), 1..=requirements);
    (groups, rota(), owner, initiator, requirements, spoken).prop_map(
        |(groups, rota, owner, initiator, requirements, spoken)| {
            let persons = PERSONS.iter().zip(groups).map(|(id, groups)| Person::of(id, &groups)).collect();
            let people = People::new(persons, rota).unwrap();
            let mut hour = 12;
            let spoken = spoken.into_iter().map(|(person, later)| {
                hour += later;
                Said { person: PersonId::new(person), at: at(hour) }
            });
            let case = Case {
                agent: agent(owner),
                context: initiator.map(initiated_by).unwrap_or_default(),
                requirements,
                allowed: Vec::new(),
            };
            World { people, case, spoken: spoken.collect() }
        },
    )
}

impl World {
    /// Lets somebody speak as the gate does: once, and only who may.
    fn speak(&self, case: &mut Case, said: &Said) {
        let is_new = !case.allowed.iter().any(|it| it.person == said.person);
        if is_new && !case.is_met(&self.people) && case.may_allow(&self.people, said.person.as_str(), said.at).is_ok() {
            case.allowed.push(said.clone());
        }
    }

    fn hear(&self) -> Case {
        let mut case = self.case.clone();
        self.spoken.iter().for_each(|said| self.speak(&mut case, said));
        case
    }

    fn is_barred(&self, person: &PersonId) -> bool {
        let owns = match &self.case.agent.owner {
            Owner::Person(owner) => owner == person,
            Owner::Group(group) => self.person(person).groups.contains(group),
        };
        owns || !self.people.knows_owner(&self.case.agent.owner)
            || self.case.context.initiator.as_deref() == Some(person.as_str())
    }

    fn person(&self, id: &PersonId) -> &Person {
        self.people.persons().find(|it| it.id == *id).unwrap()
    }

    /// Whose seats that person may take at that stage, by another way than the judgement's.
    fn seats(&self, requirement: &Requirement, stage: usize, said: &Said) -> Vec<PersonId> {
        if self.is_barred(&said.person) {
            return Vec::new();
        }
        let waited = said.at.since(at(12));
        let mut groups: Vec<&GroupId> = requirement.stages[stage].approvers.iter().collect();
        groups.extend(requirement.escalations.iter().filter(|it| it.after <= waited).flat_map(|it| &it.approvers));
        let decides = |id: &PersonId, group: &GroupId| {
            let rota = self.people.rota();
            let is_on_call = rota.turns.get(group).is_none_or(|turns| {
                turns.windows.iter().any(|window| {
                    let When::Between { since, until } = window.when else { return false };
                    window.who.contains(id) && since <= said.at && said.at < until
                })
            });
            is_on_call && !self.is_barred(id) && self.person(id).groups.contains(group)
        };
        let mut seats = Vec::new();
        for group in groups {
            if decides(&said.person, group) {
                seats.push(said.person.clone());
            }
            for it in &self.people.rota().stand_ins {
                let covers = it.groups.is_empty() || it.groups.contains(group);
                if it.to == said.person
                    && it.since <= said.at
                    && said.at < it.until
                    && covers
                    && decides(&it.from, group)
                {
                    seats.push(it.from.clone());
                }
            }
        }
        seats
    }

    /// Whether some of what was said, in its order, fills all stages with people and seats that count once.
    fn can_fill(&self, requirement: &Requirement, said: &[Said], stage: usize, have: u32, used: &[PersonId]) -> bool {
        let Some(wanted) = requirement.stages.get(stage) else { return true };
        if have >= wanted.quorum.max(1) {
            return self.can_fill(requirement, said, stage + 1, 0, used);
        }
        let Some((first, rest)) = said.split_first() else { return false };
        let counts = |seat: &PersonId| {
            let taken = [seat.clone(), first.person.clone()];
            !taken.iter().any(|it| used.contains(it))
                && self.can_fill(requirement, rest, stage, have + 1, &[used, &taken].concat())
        };
        self.seats(requirement, stage, first).iter().any(counts) || self.can_fill(requirement, rest, stage, have, used)
    }

    /// Whether some order in which those left speak at that moment meets it.
    fn has_way(&self, case: &Case, now: Timestamp) -> bool {
        case.is_met(&self.people)
            || PERSONS.iter().any(|id| {
                let mut next = case.clone();
                self.speak(&mut next, &Said { person: PersonId::new(id), at: now });
                next.allowed.len() > case.allowed.len() && self.has_way(&next, now)
            })
    }
}

proptest! {
    #[test]
    fn an_approval_has_enough_people_who_may_and_none_counts_twice(world in world(2)) {
        for allowed in [world.spoken.clone(), world.hear().allowed] {
            let case = Case { allowed, ..world.case.clone() };
            if case.is_met(&world.people) {
                for requirement in &case.requirements {
                    prop_assert!(world.can_fill(requirement, &case.allowed, 0, 0, &[]), "{requirement:?} {:?}", case.allowed);
                }
            }
        }
    }

    #[test]
    fn who_is_barred_never_decides(world in world(2)) {
        let case = world.hear();
        for id in PERSONS.map(PersonId::new) {
            if world.is_barred(&id) {
                prop_assert!(case.may_allow(&world.people, id.as_str(), at(14)).is_err());
                prop_assert!(case.may_deny(&world.people, id.as_str(), at(14)).is_err());
            }
        }
    }

    #[test]
    fn it_can_be_met_exactly_when_some_order_meets_it(world in world(1)) {
        let (case, now) = (world.hear(), at(13));
        let can = world.people.can_be_met(&case.matter(), now, now.plus(Duration::from_secs(1)));
        prop_assert_eq!(can, world.has_way(&case, now));
    }

    #[test]
    fn nobody_is_told_that_nobody_can_while_some_order_meets_all(world in world(2)) {
        let (case, now) = (world.hear(), at(13));
        if world.has_way(&case, now) {
            prop_assert!(world.people.can_be_met(&case.matter(), now, now.plus(Duration::from_secs(1))));
        }
    }
}
