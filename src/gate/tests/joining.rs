//! Retries of one call, and what is none.

use super::*;

#[tokio::test]
async fn a_retry_joins_and_only_the_live_attempt_is_released() {
    let it = Fixture::new().await;
    let first = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    let second = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s2"));
    it.until(|holds| holds.len() == 1 && holds[0].attached == 2).await;
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    let receipt = permitted(second.await.unwrap()).spend(sha256(b"u")).unwrap();
    it.gate.complete(receipt, answered(200), reply()).await.unwrap();
    assert!(matches!(first.await.unwrap(), Admission::Answered(_)), "the earlier connection gets the same answer");
    let late = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s3")).await.unwrap();
    assert!(matches!(late, Admission::Answered(_)), "and so does a client that dropped at the last second");
    for signature in ["s1", "s2", "s3"] {
        let replay = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), signature)).await.unwrap();
        assert_eq!(ended(replay), Ending::Replayed, "captured bytes of {signature} must not fetch the answer");
    }
    assert_eq!(it.count("action.forward"), 1);
}

#[tokio::test]
async fn a_verdict_given_while_nobody_is_connected_waits_for_the_retry() {
    let it = Fixture::new().await;
    let first = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    first.abort();
    it.until(|holds| holds[0].attached == 0).await;
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    assert_eq!(it.count("action.forward"), 0, "nothing runs while nobody waits");
    let second = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s2"));
    drop(permitted(second.await.unwrap()).spend(sha256(b"u")).unwrap());
    assert_eq!(it.count("action.forward"), 1);
}

#[tokio::test]
async fn another_body_or_agent_with_the_same_retry_id_does_not_ride() {
    let it = Fixture::new().await;
    let _first = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    let _other_body = it.admit(it.ask("aws:iam:CreateUser", "admin", Some("r"), "s2"));
    it.until(|holds| holds.len() == 2).await;
    let mut other_agent = it.ask("aws:iam:CreateUser", "u", Some("r"), "s3");
    other_agent.agent = Arc::new(Agent { id: AgentId::new("bot2"), owner: Owner::Person(PersonId::new("carol")) });
    let _other_agent = it.admit(other_agent);
    it.until(|holds| holds.len() == 3).await;
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    let holds = it.until(|holds| holds.iter().any(|h| h.state != HoldState::Pending)).await;
    assert_eq!(holds.iter().filter(|h| h.state == HoldState::Pending).count(), 2);
}

#[tokio::test]
async fn the_same_signature_twice_is_a_replay_not_a_retry() {
    let it = Fixture::new().await;
    let _first = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    it.one_attached().await;
    assert_eq!(ended(it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1")).await.unwrap()), Ending::Replayed);
}

#[tokio::test]
async fn a_denied_request_that_comes_back_gets_the_same_no() {
    let it = Fixture::new().await;
    let first = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    it.decide(&hold.id, "bob", Verdict::Deny).await.unwrap();
    let Admission::Ended(no) = first.await.unwrap() else { panic!() };
    assert_eq!(no.ending, Ending::Denied);
    assert!(
        no.message.contains("denied by bob") && no.message.contains("because") && no.message.contains(hold.id.as_str())
    );
    for (retry_id, signature) in [(Some("r"), "s2"), (Some("another"), "s3"), (None, "s4")] {
        let again = it.admit(it.ask("aws:iam:CreateUser", "u", retry_id, signature)).await.unwrap();
        assert_eq!(ended(again), Ending::Denied);
    }
    assert_eq!(it.gate.holds().len(), 1, "nobody is asked again");
    it.clock.advance(GateOptions::default().deny_memory + Duration::from_secs(1));
    let _anew = it.admit(it.ask("aws:iam:CreateUser", "u", Some("later"), "s5"));
    it.until(|holds| holds.iter().any(|h| h.state == HoldState::Pending)).await;
}

#[tokio::test]
async fn time_ends_what_nobody_decides_and_it_is_no_denial() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    it.clock.advance(Duration::from_secs(15 * 60));
    assert_eq!(
        it.decide(&hold.id, "alice", Verdict::Allow).await.map(|_| ()),
        Err(DecideError::NotOpen("pending")),
        "too late, even before the sweep"
    );
    let Admission::Ended(end) = waiting.await.unwrap() else { panic!() };
    assert_eq!(end.ending, Ending::Expired);
    assert!(end.message.contains("not a person's no"));
}

#[tokio::test]
async fn a_client_that_stays_away_withdraws_its_hold() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    it.one_attached().await;
    waiting.abort();
    it.until(|holds| holds[0].attached == 0).await;
    it.clock.advance(GateOptions::default().withdraw_after);
    it.until(|holds| holds[0].state == HoldState::Ended(Ending::Withdrawn)).await;
    assert_eq!(ended(it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s2")).await.unwrap()), Ending::Withdrawn);
}

#[tokio::test]
async fn an_agent_under_another_owner_does_not_ride_what_was_decided_under_the_first() {
    let it = Fixture::new().await;
    let first = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    first.abort();
    it.until(|holds| holds[0].attached == 0).await;
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    let mut again = it.ask("aws:iam:CreateUser", "u", Some("r"), "s2");
    again.agent = Arc::new(Agent { id: AgentId::new("bot"), owner: Owner::Person(PersonId::new("alice")) });
    let _waiting = it.admit(again);
    let holds = it.until(|holds| holds.len() == 2).await;
    let second = holds.iter().find(|other| other.id != hold.id).unwrap();
    assert_eq!(it.decide(&second.id, "alice", Verdict::Allow).await.unwrap_err(), DecideError::Conflict("owner"));
    assert_eq!(it.count("action.forward"), 0);
}
