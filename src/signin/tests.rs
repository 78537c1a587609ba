//! Sessions and their ends; what a token must be is tested with a real provider's, in `tests/it/oidc.rs`.

use super::*;

fn claimed() -> Claimed {
    let (issuer, subject) = ("https://id.example.com".to_owned(), "7".to_owned());
    Claimed { issuer, subject, email: None, authenticated: None, expires: at(0) }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

#[test]
fn a_session_ends_when_idle_and_at_its_age() {
    let [idle, whole] = [60, 100].map(Duration::from_secs);
    let sessions = Sessions::new(Lifetimes { idle, whole });
    let secret = sessions.open(claimed(), at(0)).unwrap();
    assert!(sessions.find("another", true, at(1)).is_none());
    assert!(sessions.find(&secret, false, at(59)).is_some());
    assert!(sessions.find(&secret, true, at(60)).is_none(), "a look is no act");
    let secret = sessions.open(claimed(), at(0)).unwrap();
    assert!(sessions.find(&secret, true, at(59)).is_some());
    assert!(sessions.find(&secret, true, at(99)).is_some());
    assert!(sessions.find(&secret, true, at(100)).is_none());
    let secret = sessions.open(claimed(), at(0)).unwrap();
    sessions.close(&secret);
    assert!(sessions.find(&secret, true, at(1)).is_none());
}
