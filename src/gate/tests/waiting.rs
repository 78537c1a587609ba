//! Clients that wait long or leave, and processes that end, at the worst moment.

use super::*;

#[tokio::test]
async fn a_decision_may_take_longer_than_the_signature_is_valid() {
    let it = Fixture::new().await;
    let short = |mut ask: Ask| {
        ask.signature_expires = it.clock.now().plus(Duration::from_secs(301));
        ask
    };
    let held = short(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let again = held.clone();
    // Its signature does not cover the body.
    let other_body = Ask { digest: sha256(b"v"), retry_id: None, ..held.clone() };
    let waiting = it.admit(held);
    let hold = it.one_attached().await;
    let twin = it.admit(other_body);
    let holds = it.until(|holds| holds.len() == 2).await;
    let twin_id = holds.iter().map(|it| &it.id).find(|id| **id != hold.id).unwrap();
    it.clock.advance(Duration::from_secs(60));
    // Another request runs meanwhile, and its signature is forgotten.
    let other = short(it.ask("aws:sts:AssumeRole", "r", None, "s2"));
    drop(permitted(it.admit(other).await.unwrap()).spend(sha256(b"r")).unwrap());
    it.clock.advance(Duration::from_secs(600));
    it.gate.spent.sweep();
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    drop(permitted(waiting.await.unwrap()).spend(sha256(b"u")).unwrap());
    it.gate.spent.sweep();
    it.decide(twin_id, "alice", Verdict::Allow).await.unwrap();
    assert_eq!(ended(twin.await.unwrap()), Ending::Replayed, "one signature runs once");
    assert_eq!(ended(it.admit(again).await.unwrap()), Ending::Replayed, "though the clock may run behind once more");
}

#[tokio::test]
async fn a_client_that_leaves_while_its_forward_is_recorded_leaves_an_outcome() {
    let it = Fixture::new().await;
    let ask = it.ask("aws:sts:AssumeRole", "r", None, "s1");
    let ruling = it.gate.judge(&ask.agent, &ask.context, &ask.actions);
    let mut admission = Box::pin(it.gate.admit(ask.into(), ruling));
    let is_waiting = std::future::poll_fn(|context| {
        let polled = admission.as_mut().poll(context);
        std::task::Poll::Ready(polled.is_pending())
    });
    assert!(is_waiting.await, "for the disk");
    drop(admission);
    let outcome = async {
        while it.count("action.outcome") == 0 {
            it.flush().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), outcome).await.expect("an outcome");
    let log = it.log();
    let outcome = log.lines().find(|line| line.contains("\"type\":\"action.outcome\"")).unwrap();
    assert!(outcome.contains("\"outcome\":\"not-sent\"") && outcome.contains("\"forward_seq\":"), "{outcome}");
    assert_eq!(it.count("action.forward"), 1);
}

#[tokio::test]
async fn a_crash_between_an_outcome_and_its_save_adds_no_unknown_outcome() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    let receipt = permitted(waiting.await.unwrap()).spend(sha256(b"u")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(it.dir.path().join("state.redb"), dir.path().join("state.redb")).unwrap();
    it.gate.complete(receipt, answered(200), reply()).await.unwrap();
    std::fs::create_dir(dir.path().join("log")).unwrap();
    copy(&it.dir.path().join("log"), &dir.path().join("log"));
    std::fs::copy(it.dir.path().join("log.key"), dir.path().join("log.key")).unwrap();
    let gate = open(dir.path(), &it.clock, GateOptions::default()).await;
    let it = Fixture { dir, clock: it.clock.clone(), gate };
    assert_eq!(it.gate.hold(&hold.id).unwrap().state, HoldState::Executed);
    it.flush().await;
    assert_eq!((it.count("action.outcome"), it.count("action.outcome_unknown")), (1, 0));
}
