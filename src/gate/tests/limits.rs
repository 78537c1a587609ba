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
