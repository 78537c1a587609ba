use super::*;
use crate::card::sample::{hold, now};
use crate::hold::{Ending, HoldState, Vote, Word};
use crate::id::PersonId;

#[test]
fn a_place_reads_as_it_was_written() {
    let place = Place { channel: "C1".to_owned(), ts: "1700000000.000100".to_owned(), told: 3 };
    assert_eq!(Place::parse(&place.to_string()), Some(place));
    for other in ["", "7", "C1/1.2", "C1/1.2/x"] {
        assert_eq!(Place::parse(other), None);
    }
}

#[test]
fn history_only_grows() {
    let mut hold = hold(now());
    let lines = |hold: &HoldView| history(hold, &Card::of(hold, now()));
    assert_eq!(lines(&hold), Vec::<String>::new());
    let vote =
        |person, word| Vote { person: PersonId::new(person), word, reason: "a\nb".to_owned(), at: now(), void: false };
    hold.votes.push(vote("alice", Word::Allow));
    let first = lines(&hold);
    assert_eq!(first, ["2026-11-20T12:00:00Z allow by alice: \"a\\nb\""]);
    hold.votes.push(vote("carol", Word::Deny));
    hold.state = HoldState::Ended(Ending::Denied);
    assert_eq!(lines(&hold)[..1], first);
    assert_eq!(lines(&hold)[2], "It is over: denied by carol; nothing ran.");
}

#[test]
fn failures_say_whether_to_try_again() {
    let refused = |error: &str| {
        Failure::from(CallError::Refused { method: "chat.update", error: error.to_owned(), advice: String::new() })
    };
    assert!(matches!(refused("invalid_blocks"), Failure::Never { .. }));
    assert!(matches!(refused("invalid_auth"), Failure::Later { after: None, .. }));
    let wait = Duration::from_secs(7);
    assert!(matches!(Failure::from(CallError::Later(wait)), Failure::Later { after: Some(it), .. } if it == wait));
}
