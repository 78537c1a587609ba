//! What one agent or stranger may take.

use super::*;

#[tokio::test]
async fn an_agent_cannot_open_holds_without_end() {
    let it = Fixture::with(GateOptions { max_holds_per_agent: 1, ..GateOptions::default() }).await;
    let _first = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    it.one_attached().await;
    assert_eq!(ended(it.admit(it.ask("aws:iam:CreateUser", "v", Some("q"), "s2")).await.unwrap()), Ending::Overloaded);
}

#[tokio::test]
async fn presigned_requests_that_must_be_remembered_for_long_are_limited() {
    let it = Fixture::with(GateOptions { max_presigned_per_agent: 1, ..GateOptions::default() }).await;
    let ask = |body: &str, signature: &str, hours: u64| Ask {
        signature_expires: it.clock.now().plus(Duration::from_secs(hours * 3600)),
        ..it.ask("aws:sts:AssumeRole", body, None, signature)
    };
    drop(permitted(it.admit(ask("a", "s1", 168)).await.unwrap()));
    match it.admit(ask("b", "s2", 168)).await.unwrap() {
        Admission::Ended(ended) => {
            assert_eq!(ended.ending, Ending::Overloaded);
            assert!(ended.message.contains("Presign for at most an hour"), "{}", ended.message);
        }
        other => panic!("{other:?}"),
    }
    drop(permitted(it.admit(ask("c", "s3", 1)).await.unwrap()));
    assert_eq!(ended(it.admit(ask("a", "s1", 168)).await.unwrap()), Ending::Replayed, "and it is remembered");
}

#[tokio::test]
async fn strangers_cannot_fill_the_log() {
    let it = Fixture::new().await;
    let refusal = |agent| Refusal {
        peer: "127.0.0.1".parse().unwrap(),
        agent,
        code: "SignatureDoesNotMatch",
        reason: "no".into(),
    };
    for _ in 0..1000 {
        it.gate.refused(refusal(None));
    }
    it.clock.advance(Duration::from_secs(1));
    it.gate.refused(refusal(None));
    let agent = Agent { id: AgentId::new("bot"), owner: Owner::Person(PersonId::new("carol")) };
    for _ in 0..30 {
        it.gate.refused(refusal(Some(Arc::new(agent.clone()))));
    }
    it.flush().await;
    assert_eq!(it.count("action.refused"), 20 + 1 + 30, "what a known agent does is all recorded");
    assert!(it.log().contains("\"suppressed\":980"), "and the others are counted");
}

#[tokio::test]
async fn holds_take_no_more_memory_than_they_may() {
    let it = Fixture::with(GateOptions { max_held_bytes_per_agent: 100_000, ..GateOptions::default() }).await;
    let _first = it.admit(it.ask("aws:iam:CreateUser", &"u".repeat(60_000), Some("r"), "s1"));
    it.one_attached().await;
    let second = it.ask("aws:iam:CreateUser", &"v".repeat(60_000), Some("q"), "s2");
    assert_eq!(ended(it.admit(second).await.unwrap()), Ending::Overloaded);
    let mut many = it.ask("aws:iam:CreateUser", "w", Some("p"), "s3");
    Arc::make_mut(&mut many.actions)[0].parameters.insert("Numbers".into(), json!(vec![0; 10_000]));
    assert_eq!(ended(it.admit(many).await.unwrap()), Ending::Overloaded, "small on the wire is large in memory");
}

const IN_TRANSACTIONS: &str = "
rules:
  - id: users
    match: { action: \"aws:iam:*\" }
    decision: hold
    expires: 15m
    in_transaction: 30s
  - id: roles
    match: { action: \"aws:sts:*\" }
    decision: hold
    in_transaction: refuse
";

/// A transaction's time is not people's time, and its end has a name of its own.
#[tokio::test]
async fn a_session_limits_its_hold_by_a_name_of_its_own() {
    for (in_transaction, upstream_limit, seconds, ending) in [
        (false, None, 900, Ending::Expired),
        (true, None, 30, Ending::TransactionLimit),
        (true, Some(60), 30, Ending::TransactionLimit),
        (true, Some(20), 20, Ending::UpstreamLimit),
        (false, Some(20), 20, Ending::UpstreamLimit),
        (false, Some(1000), 900, Ending::Expired),
    ] {
        let it = Fixture::new().await;
        it.gate.set_rules(rule_set(IN_TRANSACTIONS));
        let upstream_limit = upstream_limit.map(Duration::from_secs);
        let ask = Ask { in_transaction, upstream_limit, ..it.ask("aws:iam:CreateUser", "u", None, "s1") };
        let waiting = it.admit(ask);
        let hold = it.one_attached().await;
        assert_eq!(hold.expires, it.clock.now().plus(Duration::from_secs(seconds)), "people are shown that time");
        it.clock.advance(Duration::from_secs(seconds - 1));
        it.gate.tick();
        assert_eq!(it.gate.holds()[0].state, HoldState::Pending);
        it.clock.advance(Duration::from_secs(1));
        assert_eq!(ended(waiting.await.unwrap()), ending);
        assert_eq!(
            it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap_err(),
            DecideError::NotOpen(ending.as_str())
        );
        it.flush().await;
        assert!(it.log().contains(&format!("\"ending\":\"{}\"", ending.as_str())), "{ending:?}");
    }
}

#[tokio::test]
async fn what_may_not_wait_in_a_transaction_is_denied_there_and_held_elsewhere() {
    let it = Fixture::new().await;
    it.gate.set_rules(rule_set(IN_TRANSACTIONS));
    let ask = |in_transaction, name: &str| Ask { in_transaction, ..it.ask("aws:sts:AssumeRole", name, None, name) };
    match it.admit(ask(true, "a")).await.unwrap() {
        Admission::Ended(it) => {
            assert_eq!(it.ending, Ending::RuleDenied);
            assert!(it.message.contains("roles") && it.message.contains("transaction of its own"), "{}", it.message);
        }
        other => panic!("{other:?}"),
    }
    assert!(it.gate.holds().is_empty(), "nobody was asked");
    let _waiting = it.admit(ask(false, "b"));
    it.one_attached().await;
}

#[tokio::test]
async fn a_session_that_the_upstream_ended_ends_its_hold() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", None, "s1"));
    let hold = it.one_attached().await;
    it.gate.upstream_left(&hold.id);
    assert_eq!(ended(waiting.await.unwrap()), Ending::UpstreamLeft);
    assert!(it.decide(&hold.id, "alice", Verdict::Allow).await.is_err());
}

#[tokio::test]
async fn a_modification_that_does_not_fit_ends_its_hold() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", None, "s1"));
    let hold = it.one_attached().await;
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    let receipt = permitted(waiting.await.unwrap()).spend(sha256(b"u")).unwrap();
    let outcome = Outcome::Unfit { reason: "other columns".to_owned() };
    it.gate.complete(receipt, outcome, None).await.unwrap();
    assert_eq!(it.gate.hold(&hold.id).unwrap().state, HoldState::Ended(Ending::Unfit));
    assert!(it.log().contains("\"outcome\":\"unfit\""));
}
