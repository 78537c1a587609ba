//! The index against trying every rule, and how many rules a request meets.

use std::hint::black_box;
use std::time::Instant;

use super::super::criteria::{ParameterTest, TraitTest, Wanted};
use super::*;
use crate::pattern::Glob;

fn rule(id: usize, decision: Decision, criteria: Criteria) -> Rule {
    Rule {
        id: RuleId::new(format!("r{id:05}")),
        description: None,
        decision,
        criteria,
        unless: None,
        condition: None,
        hold: Options::default().hold,
        says_in_transaction: false,
        message: None,
        controls: Vec::new(),
        volume: None,
        assume: None,
        source: Source::new("m", ""),
        span: Span::default(),
    }
}

fn globs() -> impl Strategy<Value = Vec<Glob>> {
    let part = prop_oneof![Just("a"), Just("b"), Just("ab"), Just("*"), Just("?"), Just(":")];
    let glob = prop::collection::vec(part, 1..5).prop_map(|parts| Glob::new(&parts.concat()));
    prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec(glob, 1..3)]
}

fn criteria() -> impl Strategy<Value = Criteria> {
    let traits = (prop::bool::weighted(0.2), prop::bool::weighted(0.1)).prop_map(|(unknown, export)| TraitTest {
        any: [(unknown, Trait::Unknown), (export, Trait::Export)].iter().filter(|it| it.0).map(|it| it.1).collect(),
        ..TraitTest::default()
    });
    let parameters = prop::option::weighted(0.2, globs()).prop_map(|wanted| {
        wanted.map(|globs| ParameterTest { name: "P".to_owned(), wanted: Wanted::Text(globs) }).into_iter().collect()
    });
    (globs(), globs(), globs(), globs(), globs(), traits, parameters).prop_map(
        |(action, resource, agent, owner, account, traits, parameters)| Criteria {
            action,
            resource,
            agent,
            owner,
            account,
            traits,
            parameters,
            ..Criteria::default()
        },
    )
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just(":"), Just("ab")], 0..4)
        .prop_map(|parts| parts.concat())
}

/// Mostly plain names, some with a `*` of their own.
fn resource() -> impl Strategy<Value = String> {
    let template = (text(), text()).prop_map(|(before, after)| format!("{before}*{after}"));
    let upper = text().prop_map(|text| text.to_uppercase());
    prop_oneof![3 => text(), 1 => upper, 1 => template, 1 => Just("*".to_owned())]
}

fn decisions() -> impl Strategy<Value = Decision> {
    prop_oneof![Just(Decision::Allow), Just(Decision::Hold), Just(Decision::Deny)]
}

proptest! {
    /// A template stands for every text that its `*` may turn out to be.
    #[test]
    fn a_template_may_be_all_it_can_become(
        before in "[aAb:é]{0,3}", inner in "[ab:é]{0,3}", between in "[ab:]{0,2}", last in "[ab:é]{0,3}",
        glob in "[ab:*?é]{1,6}",
    ) {
        let template = format!("{before}*{between}*{last}");
        let become_so = format!("{before}{inner}{between}{inner}{last}");
        let criteria = Criteria { resource: vec![Glob::new(&glob)], ..Criteria::default() };
        let (agent, context) = (agent(), Context::default());
        let subject = Subject { agent: &agent, context: &context, now: Timestamp::from_micros(0) };
        let of = |name: String, reach| criteria.matches(&subject, &Action { resources: vec![name], ..action("x") }, reach);
        if of(become_so.clone(), Reach::Wide) {
            prop_assert!(of(template.clone(), Reach::Wide), "{} for {}", template, become_so);
        } else {
            prop_assert!(!of(template.clone(), Reach::Narrow), "{} for {}", template, become_so);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_index_finds_every_rule_that_matches(
        rules in prop::collection::vec((decisions(), criteria()), 0..12),
        name in text(),
        resources in prop::collection::vec(resource(), 0..4),
        agent in text(),
        owner in text(),
        account in prop::option::of(text()),
        unknown: bool,
        parameter in prop::option::of(text()),
    ) {
        let rules: Vec<Rule> = rules.into_iter().enumerate().map(|(id, (decision, it))| rule(id, decision, it)).collect();
        let set = RuleSet::build(rules, Options::default());
        let agent = Agent { id: AgentId::new(agent), owner: Owner::Person(PersonId::new(owner)) };
        let context = Context::default();
        let subject = Subject { agent: &agent, context: &context, now: Timestamp::from_micros(0) };
        let mut action = action(&name);
        action.resources = resources;
        action.account = account;
        action.parameters.extend(parameter.map(|value| ("P".to_owned(), value.into())));
        if unknown {
            action.traits = action.traits.with(Trait::Unknown);
        }
        let matching: Vec<u32> = (0..)
            .zip(&set.rules)
            .filter(|(_, rule)| rule.matches(&subject, &action, &OnceCell::new()).unwrap())
            .map(|(number, _)| number)
            .collect();
        let candidates = set.index.candidates(&subject, &action);
        prop_assert!(matching.iter().all(|number| candidates.contains(number)), "{:?} not in {:?}", matching, candidates);

        let strictest = matching.iter().map(|&number| set.rules[number as usize].decision).max();
        let floor = if unknown { Decision::Hold } else { Decision::Allow };
        let wanted = match strictest {
            None => floor,
            Some(Decision::Allow) => Decision::Allow,
            Some(strictest) => strictest.max(floor),
        };
        let ruling = set.decide(&subject, std::slice::from_ref(&action));
        prop_assert_eq!(ruling.decision, wanted);
        prop_assert_eq!(ruling.requirements.is_empty(), wanted != Decision::Hold);
        prop_assert_eq!(set.explain(&subject, &[action]).ruling, ruling);
    }
}

/// Ten thousand rules of one shape each, as large organisations have them.
fn large_sets() -> Vec<(&'static str, RuleSet)> {
    let actions = |name: String| Criteria { action: vec![Glob::new(&name)], ..Criteria::default() };
    let on = |name: &str, resource: String| Criteria {
        action: vec![Glob::new(name)],
        resource: vec![Glob::new(&resource)],
        ..Criteria::default()
    };
    let shapes: [(&str, &dyn Fn(usize) -> Criteria); 7] = [
        ("one action each", &|n| actions(format!("aws:svc{}:Op{n}", n % 100))),
        ("a service's beginning each", &|n| actions(format!("aws:svc{}:Op{n}*", n % 100))),
        ("a bucket each", &|n| on("aws:s3:*", format!("arn:aws:s3:::bucket-{n}/*"))),
        ("a bucket each, any action", &|n| on("*", format!("arn:aws:s3:::bucket-{n}/*"))),
        ("a piece of the name each", &|n| on("aws:s3:GetObject", format!("*BUCKET-{n}/*"))),
        ("an agent each", &|n| Criteria { agent: vec![Glob::new(&format!("agent-{n}"))], ..Criteria::default() }),
        ("an owner each", &|n| Criteria {
            action: vec![Glob::new("aws:s3:*")],
            owner: vec![Glob::new(&format!("group:team-{n}"))],
            ..Criteria::default()
        }),
    ];
    let set = |criteria: &dyn Fn(usize) -> Criteria| {
        RuleSet::build((0..10_000).map(|n| rule(n, Decision::Hold, criteria(n))).collect(), Options::default())
    };
    shapes.into_iter().map(|(shape, criteria)| (shape, set(criteria))).collect()
}

fn asked(name: &str) -> Action {
    let mut action = action(name);
    action.resources = vec!["arn:aws:s3:::bucket-77/key".to_owned()];
    action
}

/// What ten thousand rules cost is counted, not timed: the rules a request is compared with.
#[test]
fn ten_thousand_rules_are_met_by_few_requests() {
    let agent = Agent { id: AgentId::new("agent-77"), owner: Owner::Group(GroupId::new("team-77")) };
    let context = Context::default();
    let subject = Subject { agent: &agent, context: &context, now: Timestamp::from_micros(0) };
    for (shape, set) in large_sets() {
        for name in ["aws:svc77:Op4277", "aws:s3:GetObject", "aws:dynamodb:GetItem", ""] {
            let met = set.index.candidates(&subject, &asked(name)).len();
            assert!(met <= 5, "{shape}: {name} meets {met} rules");
        }
    }
}

#[test]
#[ignore = "a measurement: `make bench-naming` runs it in a release build"]
fn judging_in_microseconds() {
    const CALLS: u32 = 50_000;
    let agent = Agent { id: AgentId::new("agent-1"), owner: Owner::Group(GroupId::new("team-x")) };
    let context = Context::default();
    let subject = Subject { agent: &agent, context: &context, now: Timestamp::from_micros(0) };
    for (shape, set) in large_sets() {
        for name in ["aws:s3:GetObject", "aws:dynamodb:PutItem"] {
            let actions = [asked(name)];
            let round = |_| {
                let start = Instant::now();
                for _ in 0..CALLS {
                    black_box(set.decide(black_box(&subject), black_box(&actions)));
                }
                start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
            };
            // The quickest round: whatever else runs on the machine only ever adds.
            let least = (0..9).map(round).fold(f64::INFINITY, f64::min);
            println!("10,000 rules, {shape:28} {name:22} {least:6.2} µs");
        }
    }
}
