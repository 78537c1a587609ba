use proptest::prelude::*;

use super::*;

const T0: Timestamp = Timestamp::from_micros(1_000_000_000);
const PATIENCE: Patience =
    Patience { withdraw_after: Duration::from_secs(120), approval_ttl: Duration::from_secs(300) };

fn after(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

fn vote(person: &str, word: Word) -> Event {
    Event::Voted { vote: Vote { person: PersonId::new(person), word, reason: "because".into(), at: T0, void: false } }
}

fn quorum(n: usize) -> impl Fn(&[Said]) -> bool {
    move |allowed| allowed.len() >= n
}

fn open() -> Hold {
    Hold::open(T0, Duration::from_secs(900), PATIENCE)
}

fn in_state(state: HoldState) -> Hold {
    let mut hold = open();
    let script: &[Event] = &match state {
        HoldState::Pending => vec![],
        HoldState::Approved => vec![vote("a", Word::Allow)],
        HoldState::Forwarding => vec![vote("a", Word::Allow), Event::Released],
        HoldState::Executed => vec![vote("a", Word::Allow), Event::Released, Event::Answered],
        HoldState::Ended(Ending::FailedUpstream) => {
            vec![vote("a", Word::Allow), Event::Released, Event::FailedUpstream]
        }
        HoldState::Ended(_) => vec![vote("a", Word::Deny)],
    };
    for event in script {
        hold.apply(event.clone(), T0, quorum(1)).unwrap();
    }
    hold
}

fn events() -> Vec<(&'static str, Event)> {
    vec![
        ("allow", vote("b", Word::Allow)),
        ("deny", vote("b", Word::Deny)),
        ("modify", vote("b", Word::Modify)),
        ("answered", Event::Answered),
        ("attached", Event::Attached),
        ("cancelled", Event::Cancelled),
        ("detached", Event::Detached),
        ("failed-upstream", Event::FailedUpstream),
        ("limited to 60 s", Event::Limited { deadline: after(60), ending: Ending::TransactionLimit }),
        ("nobody-entitled", Event::NobodyEntitled),
        ("outcome-unknown", Event::OutcomeUnknown),
        ("released", Event::Released),
        ("restarted", Event::Restarted),
        ("superseded", Event::Superseded),
        ("tick after 119 s alone", Event::Tick),
        ("tick after 120 s alone", Event::Tick),
        ("tick after 900 s", Event::Tick),
        ("unfit", Event::Unfit),
        ("unsent", Event::Unsent),
        ("upstream-left", Event::UpstreamLeft),
    ]
}

/// The whole truth table, as a person would review it; `UPDATE_GOLDEN=1` writes it anew.
#[test]
fn every_state_meets_every_event() {
    let states = [
        HoldState::Pending,
        HoldState::Approved,
        HoldState::Forwarding,
        HoldState::Executed,
        HoldState::Ended(Ending::FailedUpstream),
        HoldState::Ended(Ending::Denied),
    ];
    let mut table = String::new();
    for state in states {
        for (name, event) in events() {
            let mut hold = in_state(state);
            assert_eq!(hold.state(), state);
            let now = match name {
                "tick after 119 s alone" => after(119),
                "tick after 120 s alone" => after(120),
                "tick after 900 s" => after(900),
                _ => after(1),
            };
            let outcome = match hold.apply(event, now, quorum(1)) {
                Ok(_) => hold.state().as_str(),
                Err(_) => "-",
            };
            table.push_str(&format!("{:<16} {name:<24} {outcome}\n", state.as_str()));
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/hold/truth_table.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    assert_eq!(table, std::fs::read_to_string(path).unwrap());
}

#[test]
fn quorum_needs_distinct_people() {
    let mut hold = open();
    hold.apply(vote("a", Word::Allow), T0, quorum(2)).unwrap();
    assert_eq!(hold.apply(vote("a", Word::Allow), T0, quorum(2)), Err(Rejected::Duplicate));
    assert_eq!(hold.state(), HoldState::Pending);
    hold.apply(vote("b", Word::Allow), T0, quorum(2)).unwrap();
    assert_eq!(hold.state(), HoldState::Approved);
}

#[test]
fn a_modification_voids_what_was_said_before() {
    let mut hold = open();
    hold.apply(vote("a", Word::Allow), T0, quorum(2)).unwrap();
    hold.apply(vote("b", Word::Modify), T0, quorum(2)).unwrap();
    assert_eq!(hold.state(), HoldState::Pending);
    assert_eq!(hold.allowed(), [Said { person: PersonId::new("b"), at: T0 }]);
    hold.apply(vote("a", Word::Allow), T0, quorum(2)).unwrap();
    assert_eq!(hold.state(), HoldState::Approved);
}

#[test]
fn an_allow_may_become_a_deny() {
    let mut hold = open();
    hold.apply(vote("a", Word::Allow), T0, quorum(2)).unwrap();
    hold.apply(vote("a", Word::Deny), T0, quorum(2)).unwrap();
    assert_eq!(hold.state(), HoldState::Ended(Ending::Denied));
}

#[test]
fn a_verdict_after_the_deadline_counts_for_nothing() {
    let mut hold = open();
    assert_eq!(hold.apply(vote("a", Word::Allow), after(900), quorum(1)), Err(Rejected::NotOpen(HoldState::Pending)));
    hold.apply(vote("a", Word::Allow), after(899), quorum(1)).unwrap();
    assert_eq!(
        hold.apply(Event::Released, after(899 + 300), quorum(1)),
        Err(Rejected::NotOpen(HoldState::Approved)),
        "an approval that ran out cannot be used, even before the tick that says so"
    );
}

#[test]
fn an_attached_client_is_never_withdrawn() {
    let mut hold = open();
    hold.apply(Event::Attached, T0, quorum(1)).unwrap();
    hold.apply(Event::Tick, after(899), quorum(1)).unwrap();
    assert_eq!(hold.state(), HoldState::Pending);
    hold.apply(Event::Detached, after(899), quorum(1)).unwrap();
    hold.apply(Event::Tick, after(899 + 1), quorum(1)).unwrap();
    assert_eq!(hold.state(), HoldState::Ended(Ending::Expired), "a deadline is a deadline");
}

#[test]
fn an_approval_waits_for_its_client() {
    let mut hold = in_state(HoldState::Approved);
    hold.apply(Event::Tick, after(299), quorum(1)).unwrap();
    assert_eq!(hold.state(), HoldState::Approved);
    hold.apply(Event::Tick, after(300), quorum(1)).unwrap();
    assert_eq!(hold.state(), HoldState::Ended(Ending::Expired));
}

proptest! {
    /// Whatever happens in whatever order: an end is final, a forward had its quorum in force and
    /// its deadline ahead, and nothing is forwarded twice unless the first certainly sent nothing.
    #[test]
    fn invariants_hold_over_any_history(script in prop::collection::vec((0..17_usize, 0..400_u64), 0..60), needed in 1..3_usize) {
        let mut hold = open();
        let mut now = T0;
        let (mut forwards, mut unsent) = (0, 0);
        for (index, wait) in script {
            now = now.plus(Duration::from_secs(wait));
            let (name, event) = events().swap_remove(index);
            let before = hold.clone();
            let outcome = hold.apply(event, now, quorum(needed));
            if outcome.is_err() {
                prop_assert_eq!(&hold, &before, "a rejected event changes nothing");
            }
            if before.state().is_over() {
                prop_assert_eq!(hold.state(), before.state());
            }
            if hold.state() == HoldState::Forwarding && before.state() != HoldState::Forwarding {
                prop_assert_eq!(before.state(), HoldState::Approved);
                prop_assert!(now < before.deadline() && before.allowed().len() >= needed);
                forwards += 1;
            }
            if name == "unsent" && outcome == Ok(true) {
                unsent += 1;
            }
        }
        prop_assert!(forwards - unsent <= 1);
    }
}
