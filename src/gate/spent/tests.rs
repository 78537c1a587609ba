use super::*;
use crate::digest::sha256;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn start() -> Timestamp {
    Timestamp::parse_amz_date("20261120T112555Z").unwrap()
}

fn spent() -> (Spent, Clock) {
    let clock = Clock::manual(start());
    (Spent::recovered(clock.clone(), &Recovered::default(), 2), clock)
}

fn signature(number: usize) -> Digest {
    sha256(number.to_string().as_bytes())
}

fn bot() -> AgentId {
    AgentId::new("bot")
}

#[test]
fn a_signature_is_spent_once_and_forgotten_when_it_has_expired() {
    let (spent, clock) = spent();
    let expires = start().plus(15 * MINUTE);
    assert!(!spent.contains(signature(1), expires));
    assert!(spent.spend(&bot(), signature(1), expires));
    assert!(!spent.spend(&bot(), signature(1), expires));
    assert!(!spent.spend(&AgentId::new("other"), signature(1), expires), "whoever presents it");
    assert!(spent.spend(&bot(), signature(2), expires));
    clock.advance(14 * MINUTE);
    spent.sweep();
    assert!(spent.contains(signature(1), expires));
    clock.advance(2 * MINUTE);
    spent.sweep();
    assert!(spent.seen().minutes.is_empty(), "nothing is kept for good");
}

#[test]
fn a_clock_that_jumps_ahead_and_back_revives_nothing() {
    let (spent, clock) = spent();
    let expires = start().plus(15 * MINUTE);
    spent.spend(&bot(), signature(1), expires);
    let day = i64::try_from(DAY.as_micros()).unwrap();
    // For a moment: nothing is lost, and nothing that is fresh is refused.
    clock.jump(day);
    spent.sweep();
    clock.jump(-day);
    assert!(spent.contains(signature(1), expires));
    assert!(!spent.contains(signature(2), expires));
    // For so long that it was forgotten: whatever expires by then is taken for spent.
    clock.jump(day);
    clock.advance(20 * MINUTE);
    spent.sweep();
    assert!(spent.seen().minutes.is_empty());
    clock.jump(-day - 10 * 60_000_000);
    assert!(clock.now() < expires);
    assert!(spent.contains(signature(1), expires));
    assert!(!spent.spend(&bot(), signature(1), expires));
    assert!(!spent.contains(signature(3), expires.plus(MINUTE)), "what is signed later passes");
}

#[test]
fn what_an_earlier_process_spent_stays_spent() {
    let clock = Clock::manual(start());
    let expires = start().plus(DAY);
    let recovered = Recovered {
        signatures: vec![(signature(1), expires)],
        forgotten_until: start().plus(MINUTE),
        ..Recovered::default()
    };
    let spent = Spent::recovered(clock.clone(), &recovered, 2);
    assert!(spent.contains(signature(1), expires));
    assert!(!spent.contains(signature(2), expires));
    // The log was read by a clock that was ahead.
    assert!(spent.contains(signature(3), start().plus(MINUTE)));
}

#[test]
fn signatures_that_last_are_limited_by_agent_and_in_all() {
    let (mut spent, clock) = spent();
    spent.limits = Limits { of_agent: 2, of_all: 3 };
    let week = start().plus(7 * DAY);
    let other = AgentId::new("other");
    for number in 0..2 {
        assert!(spent.has_room(&bot(), week));
        assert!(spent.spend(&bot(), signature(number), week));
    }
    assert!(!spent.has_room(&bot(), week));
    assert!(spent.has_room(&bot(), start().plus(15 * MINUTE)), "header signatures are never too many");
    assert!(spent.has_room(&other, week));
    assert!(spent.spend(&other, signature(2), week));
    assert!(!spent.has_room(&AgentId::new("third"), week));
    clock.advance(7 * DAY + MINUTE);
    spent.sweep();
    assert!(spent.has_room(&bot(), clock.now().plus(DAY)));
    assert!(spent.seen().lasting.is_empty());
    assert_eq!(spent.seen().lasting_total, 0);
}
