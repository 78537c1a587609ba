//! Who may say what about a held call.

use super::*;

#[tokio::test]
async fn who_has_a_part_in_it_does_not_decide_it() {
    let it = Fixture::new().await;
    let mut ask = it.ask("aws:kms:PutKeyPolicy", "k", Some("r"), "s1");
    ask.context.initiator = Some("BOB@example.com".into());
    assert_eq!(ended(it.admit(ask.clone()).await.unwrap()), Ending::NoApprover, "two of one is nobody: said at once");
    ask.context.initiator = Some("dave".into());
    let _waiting = it.admit(ask);
    let hold = it.one_attached().await;
    for (person, error) in [
        ("carol", DecideError::Conflict("owner")),
        ("dave", DecideError::Conflict("initiator")),
        ("bot", DecideError::UnknownPerson),
        ("mallory", DecideError::UnknownPerson),
    ] {
        for verdict in [Verdict::Allow, Verdict::Deny, Verdict::Modify(Map::new())] {
            assert_eq!(it.decide(&hold.id, person, verdict).await.map(|_| ()), Err(error.clone()), "{person}");
        }
        assert_eq!(it.gate.cancel(&hold.id, &approver(person), "").await.map(|_| ()), Err(error), "{person}");
    }
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    assert_eq!(it.decide(&hold.id, "alice", Verdict::Allow).await.map(|_| ()), Err(DecideError::Duplicate));
    assert_eq!(it.gate.hold(&hold.id).unwrap().state, HoldState::Pending, "one person is not a quorum of two");
    it.decide(&hold.id, "bob", Verdict::Allow).await.unwrap();
    assert_ne!(it.gate.hold(&hold.id).unwrap().state, HoldState::Pending);
}

#[tokio::test]
async fn a_verdict_is_for_what_was_shown() {
    let it = Fixture::new().await;
    let _waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    let stale = it.gate.decide(&hold.id, Some(sha256(b"else")), &approver("alice"), Verdict::Allow, "").await;
    assert_eq!(stale.map(|_| ()), Err(DecideError::DigestChanged));
    it.gate.decide(&hold.id, Some(hold.digest), &approver("alice"), Verdict::Allow, "").await.unwrap();
}

#[tokio::test]
async fn when_nobody_is_left_the_client_is_told_at_once() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    it.one_attached().await;
    it.gate.set_people(people(&[("carol", "approvers")]));
    assert_eq!(ended(waiting.await.unwrap()), Ending::NoApprover);
}

#[tokio::test]
async fn a_modification_runs_as_modified_and_voids_earlier_votes() {
    let it = Fixture::new().await;
    let mut ask = it.ask("aws:kms:CreateGrant", "wide", Some("r"), "s1");
    Arc::make_mut(&mut ask.actions)[0].resources.push("arn:aws:iam::1:user/small".into());
    let waiting = it.admit(ask);
    let hold = it.one_attached().await;
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    let patch = json!({"UserName": "small"}).as_object().unwrap().clone();
    let view = it.decide(&hold.id, "bob", Verdict::Modify(patch)).await.unwrap();
    assert_eq!(view.state, HoldState::Pending, "alice's word was about the request as it was");
    assert_ne!(view.digest, hold.digest);
    assert_eq!(view.modified.len(), 1);
    assert_eq!(
        view.votes.iter().map(|v| (v.word, v.void)).collect::<Vec<_>>(),
        [(Word::Allow, true), (Word::Modify, false)]
    );
    let unseen = it.decide(&hold.id, "alice", Verdict::Allow).await;
    assert_eq!(
        unseen.map(|_| ()),
        Err(DecideError::DigestChanged),
        "who does not say what was shown may not have seen it"
    );
    it.gate.decide(&hold.id, Some(view.digest), &approver("alice"), Verdict::Allow, "").await.unwrap();
    let permit = permitted(waiting.await.unwrap());
    assert_eq!(permit.modified().unwrap()["UserName"], json!("small"));
    assert_eq!(permit.modified().unwrap()["Password"], json!("hunter2-secret"), "what was not changed is as sent");
    assert!(permit.spend(sha256(b"small")).is_ok(), "the permit is for the modified request");
    assert!(!it.log().contains("hunter2-secret"));
}

#[tokio::test]
async fn a_modification_that_reaches_further_needs_two_people() {
    let it = Fixture::new().await;
    let _waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    let patch = json!({"UserName": "admin"}).as_object().unwrap().clone();
    let view = it.decide(&hold.id, "alice", Verdict::Modify(patch)).await.unwrap();
    assert_eq!((view.state, view.ruling.requirements[0].stages[0].quorum), (HoldState::Pending, 2));
    for bad in [json!({}), json!({"UserName": "admin"}), json!({"UserName": null})] {
        let verdict = Verdict::Modify(bad.as_object().unwrap().clone());
        let refused = it.gate.decide(&hold.id, Some(view.digest), &approver("alice"), verdict, "").await;
        assert!(matches!(refused, Err(DecideError::NotModifiable(_))), "{bad}");
    }
}

#[tokio::test]
async fn a_cancel_is_whole_or_recorded_as_refused() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    assert!(it.gate.cancel(&hold.id, &approver("carol"), "mine").await.is_err());
    it.flush().await;
    assert_eq!(it.count("approval.refused"), 1);
    let (gate, id) = (Arc::clone(&it.gate), hold.id.clone());
    let caller = async move { gate.cancel(&id, &approver("alice"), "enough").await.map(|_| ()) };
    // Polled once and dropped: the caller hung up while its word was being recorded.
    tokio::select! {
        biased;
        _ = caller => panic!("recorded without waiting for the disk"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(ended(waiting.await.unwrap()), Ending::Cancelled);
}

#[tokio::test]
async fn a_secret_is_not_put_in_by_a_modification() {
    let it = Fixture::new().await;
    let _waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    let patch = json!({"Password": "another-secret"}).as_object().unwrap().clone();
    let refused = it.decide(&hold.id, "alice", Verdict::Modify(patch)).await.unwrap_err();
    assert!(matches!(refused, DecideError::NotModifiable(_)), "{refused}");
}

/// A watcher looks after every change: what did not change must not be copied, or a busy agent and a
/// few watchers stop everything else.
#[tokio::test]
async fn a_watcher_is_given_what_changed_alone() {
    let it = Fixture::new().await;
    let _first = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let first = it.one_attached().await;
    let (holds, since) = it.gate.holds_since(0);
    assert_eq!(holds.len(), 1);
    assert!(it.gate.holds_since(since).0.is_empty());
    let second = it.admit(it.ask("aws:iam:CreateUser", "v", Some("q"), "s2"));
    it.until(|holds| holds.len() == 2).await;
    let (holds, since) = it.gate.holds_since(since);
    assert!(holds.iter().all(|hold| hold.id != first.id) && holds.len() == 1);
    it.decide(&first.id, "alice", Verdict::Deny).await.unwrap();
    let (holds, since) = it.gate.holds_since(since);
    assert!(holds.iter().any(|hold| hold.id == first.id));
    second.abort();
    it.until(|holds| holds.iter().all(|hold| hold.attached == 0)).await;
    let (holds, since) = it.gate.holds_since(since);
    assert!(!holds.is_empty());
    it.gate.set_people(everybody());
    assert_eq!(it.gate.holds_since(since).0.len(), 2, "who may decide is shown with each hold");
}
