//! What runs, when, and under which record.

use super::*;

#[tokio::test]
async fn an_approved_request_gets_one_permit_for_its_digest() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    assert_eq!(hold.eligible, [PersonId::new("alice"), PersonId::new("bob")], "the owner is not among them");
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    let receipt = permitted(waiting.await.unwrap()).spend(sha256(b"u")).unwrap();
    assert_eq!(it.count("action.forward"), 1, "the forward is on disk before the permit is out");
    it.gate.complete(receipt, answered(200), reply()).await.unwrap();
    assert_eq!(it.count("action.outcome"), 1);
    assert_eq!(it.gate.hold(&hold.id).unwrap().state, HoldState::Executed);
    assert!(!it.log().contains("hunter2-secret"));
}

#[tokio::test]
async fn every_record_of_a_decision_is_canonical() {
    let it = Fixture::new().await;
    let mut ask = it.ask("aws:iam:CreateUser", "u \"x\" \u{1f600}", Some("r"), "s1");
    ask.context = Context { model: Some("m".into()), reason: Some("because\n".into()), ..Context::default() };
    Arc::make_mut(&mut ask.shown).headers =
        [("accept".to_owned(), "a\\b".to_owned()), ("x-amz-b".to_owned(), "c".to_owned())].into();
    let waiting = it.admit(ask);
    let hold = it.one_attached().await;
    assert!(it.decide(&hold.id, "carol", Verdict::Allow).await.is_err());
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    let receipt = permitted(waiting.await.unwrap()).spend(sha256("u \"x\" \u{1f600}".as_bytes())).unwrap();
    it.gate.complete(receipt, answered(200), reply()).await.unwrap();
    it.flush().await;
    let log = it.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with('{')).collect();
    assert!(lines.len() > 6 && lines.iter().any(|line| line.contains("\"claimed\":{\"model\":\"m\",")));
    for line in lines {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json_canonicalizer::to_string(&value).unwrap(), line);
    }
}

#[tokio::test]
async fn a_permit_does_not_fit_another_request() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    assert!(permitted(waiting.await.unwrap()).spend(sha256(b"other")).is_err());
    it.until(|holds| holds[0].state == HoldState::Approved).await;
}

#[tokio::test]
async fn rules_decide_without_people_where_they_can() {
    let it = Fixture::new().await;
    assert_eq!(
        ended(it.admit(it.ask("aws:cloudtrail:StopLogging", "t", None, "s1")).await.unwrap()),
        Ending::RuleDenied
    );
    let permit = permitted(it.admit(it.ask("aws:sts:AssumeRole", "r", None, "s2")).await.unwrap());
    drop(permit.spend(sha256(b"r")).unwrap());
    assert_eq!((it.count("action.denied"), it.count("action.forward")), (1, 1));
    assert_eq!(ended(it.admit(it.ask("aws:sts:AssumeRole", "r", None, "s2")).await.unwrap()), Ending::Replayed);
}

#[tokio::test]
async fn only_an_unmatched_allow_passes_without_waiting() {
    let it = Fixture::new().await;
    let mut ask = it.ask("aws:s3:ListBuckets", "b", None, "s1");
    let action = &mut Arc::make_mut(&mut ask.actions)[0];
    (action.access, action.traits) = (Access::List, Traits::EMPTY);
    let ruling = it.gate.judge(&ask.agent, &ask.context, &ask.actions);
    assert!(it.gate.pass(&passing(&ask), &ruling).await.is_ok());
    for name in ["aws:iam:CreateUser", "aws:cloudtrail:StopLogging", "aws:sts:AssumeRole"] {
        let ask = it.ask(name, "b", None, "s1");
        let ruling = it.gate.judge(&ask.agent, &ask.context, &ask.actions);
        assert!(it.gate.pass(&passing(&ask), &ruling).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn changed_rules_supersede_what_was_held_under_the_old_ones() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    it.one_attached().await;
    it.gate.set_rules(rule_set(RULES));
    assert_eq!(it.gate.holds()[0].state, HoldState::Pending, "the same rules change nothing");
    it.gate.set_rules(rule_set(&RULES.replace("quorum: 2", "quorum: 3")));
    assert_eq!(ended(waiting.await.unwrap()), Ending::Superseded);
    it.flush().await;
    assert_eq!((it.count("action.superseded"), it.count("policy.change")), (1, 2));
    let _retry = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s2"));
    it.until(|holds| holds.iter().any(|h| h.state == HoldState::Pending)).await;
}

/// What people are shown that a request adds, which another changes meanwhile.
fn looking(now_adds: &Arc<Mutex<String>>) -> LookFn {
    let adds = Arc::clone(now_adds);
    Arc::new(move |_, _| {
        let added = vec![adds.lock().unwrap().clone()];
        Box::pin(async move { Looked { deltas: vec![Delta { added, ..Delta::default() }], narrow: None } })
    })
}

#[tokio::test]
async fn an_approval_is_of_the_change_that_was_shown() {
    let it = Fixture::new().await;
    let adds = Arc::new(Mutex::new("s3:GetObject".to_owned()));
    let mut ask = it.ask("aws:iam:PutUserPolicy", "u", Some("r"), "s1");
    let added = vec!["s3:GetObject".to_owned()];
    Arc::make_mut(&mut ask.shown).deltas = vec![Delta { added, ..Delta::default() }];
    ask.look = Some(looking(&adds));
    let waiting = it.admit(ask);
    let shown = it.one_attached().await;
    "s3:*".clone_into(&mut adds.lock().unwrap());
    it.decide(&shown.id, "alice", Verdict::Allow).await.unwrap();
    it.until(|holds| holds[0].shown.deltas[0].added == ["s3:*"]).await;
    let again = it.gate.hold(&shown.id).unwrap();
    assert_eq!((again.state, again.votes[0].void), (HoldState::Pending, true));
    assert_eq!((it.count("approval.outdated"), it.count("action.forward")), (1, 0));
    // A verdict on what was shown before does not count, nor one that does not say what was.
    let alice = approver("alice");
    for digest in [Some(shown.digest), None] {
        let late = it.gate.decide(&shown.id, digest, &alice, Verdict::Allow, "").await;
        assert!(matches!(late, Err(DecideError::DigestChanged)), "{late:?}");
    }
    it.gate.decide(&shown.id, Some(again.digest), &alice, Verdict::Allow, "").await.unwrap();
    drop(permitted(waiting.await.unwrap()).spend(sha256(b"u")).unwrap());
    it.flush().await;
    let log = it.log();
    let forward = log.lines().find(|line| line.contains("\"action.forward\"")).unwrap();
    assert!(forward.contains("\"added\":[\"s3:*\"]") && forward.contains(&again.digest.hex()), "{forward}");
}

#[tokio::test]
async fn a_denied_change_is_not_looked_at_again() {
    let it = Fixture::new().await;
    let ask = |signature: &str, retry: &str| it.ask("aws:iam:PutUserPolicy", "u", Some(retry), signature);
    assert!(!it.gate.has_seen(&ask("s1", "r").attempt()));
    let waiting = it.admit(ask("s1", "r"));
    let hold = it.one_attached().await;
    assert!(it.gate.has_seen(&ask("s2", "r").attempt()), "it would wait with the first");
    assert!(!it.gate.has_seen(&ask("s2", "other").attempt()), "another call of the same has a hold of its own");
    it.decide(&hold.id, "alice", Verdict::Deny).await.unwrap();
    assert_eq!(ended(waiting.await.unwrap()), Ending::Denied);
    assert!(it.gate.has_seen(&ask("s3", "other").attempt()), "it would be answered with the no");
}

#[tokio::test]
async fn people_are_checked_again_at_release() {
    let it = Fixture::new().await;
    let first = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    first.abort();
    it.until(|holds| holds[0].attached == 0).await;
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    it.gate.set_people(people(&[("alice", "readers"), ("bob", "approvers"), ("carol", "approvers")]));
    let retry = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s2")).await.unwrap();
    assert_eq!(ended(retry), Ending::Superseded, "who allowed it may not any more");
    assert_eq!(it.count("action.forward"), 0);
}

#[tokio::test]
async fn a_restart_keeps_what_is_open_and_never_sends_twice() {
    let it = Fixture::new().await;
    let pending = it.admit(it.ask("aws:iam:CreateUser", "pending", Some("p"), "s1"));
    let approved = it.admit(it.ask("aws:iam:CreateUser", "approved", Some("a"), "s2"));
    let sent = it.admit(it.ask("aws:iam:CreateUser", "sent", Some("s"), "s3"));
    let done = it.admit(it.ask("aws:iam:CreateUser", "done", Some("d"), "s4"));
    let holds = it.until(|holds| holds.iter().filter(|h| h.attached == 1).count() == 4).await;
    let id = |body: &str| {
        holds.iter().find(|h| h.actions[0].parameters["UserName"] == json!(body)).map(|h| h.id.clone()).unwrap()
    };
    approved.abort();
    it.until(|holds| holds.iter().filter(|h| h.attached == 1).count() == 3).await;
    for body in ["approved", "sent", "done"] {
        it.decide(&id(body), "alice", Verdict::Allow).await.unwrap();
    }
    let lost = permitted(sent.await.unwrap()).spend(sha256(b"sent")).unwrap();
    let receipt = permitted(done.await.unwrap()).spend(sha256(b"done")).unwrap();
    it.gate.complete(receipt, answered(200), reply()).await.unwrap();
    // A crash: what is in memory is gone and runs no more destructors. The copy stands for the disk.
    let dir = tempfile::tempdir().unwrap();
    copy(it.dir.path(), dir.path());
    std::mem::forget(lost);
    pending.abort();
    let gate = open(dir.path(), &it.clock, GateOptions::default()).await;
    let it = Fixture { dir, clock: it.clock.clone(), gate };
    let state = |body: &str| it.gate.hold(&id(body)).unwrap().state;
    assert_eq!(state("pending"), HoldState::Pending);
    assert_eq!(state("approved"), HoldState::Approved);
    assert_eq!(state("sent"), HoldState::Ended(Ending::OutcomeUnknown));
    assert_eq!(state("done"), HoldState::Executed);
    it.flush().await;
    assert_eq!(it.count("action.outcome_unknown"), 1);
    let retry =
        |body: &str, id: &str, signature: &str| it.admit(it.ask("aws:iam:CreateUser", body, Some(id), signature));
    assert_eq!(ended(retry("sent", "s", "t1").await.unwrap()), Ending::OutcomeUnknown);
    assert_eq!(ended(retry("done", "d", "t2").await.unwrap()), Ending::AnswerLost);
    assert_eq!(ended(retry("done", "x", "s4").await.unwrap()), Ending::Replayed, "signatures are remembered");
    drop(permitted(retry("approved", "a", "t3").await.unwrap()).spend(sha256(b"approved")).unwrap());
    let waiting = retry("pending", "p", "t4");
    it.until(|holds| holds.iter().any(|h| h.attached == 1)).await;
    it.decide(&id("pending"), "bob", Verdict::Allow).await.unwrap();
    drop(permitted(waiting.await.unwrap()).spend(sha256(b"pending")).unwrap());
}

#[tokio::test]
async fn drain_lets_go_of_clients_and_keeps_their_holds() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    it.one_attached().await;
    it.gate.drain();
    assert_eq!(ended(waiting.await.unwrap()), Ending::Restarted);
    assert_eq!(it.gate.holds()[0].state, HoldState::Pending);
    assert_eq!(ended(it.admit(it.ask("aws:iam:CreateUser", "v", Some("q"), "s2")).await.unwrap()), Ending::Restarted);
}

#[tokio::test]
async fn a_receipt_that_is_lost_is_an_unknown_outcome() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    drop(permitted(waiting.await.unwrap()).spend(sha256(b"u")).unwrap());
    it.until(|holds| holds[0].state == HoldState::Ended(Ending::OutcomeUnknown)).await;
    assert_eq!(
        ended(it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s2")).await.unwrap()),
        Ending::OutcomeUnknown
    );
}

#[tokio::test]
async fn when_the_log_is_gone_nothing_matched_leaves() {
    let it = Fixture::new().await;
    let waiting = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    it.gate.journal.close().await.unwrap();
    assert_eq!(it.decide(&hold.id, "alice", Verdict::Allow).await.map(|_| ()), Err(DecideError::LogUnavailable));
    assert!(!waiting.is_finished());
    assert_eq!(ended(it.admit(it.ask("aws:sts:AssumeRole", "r", None, "s2")).await.unwrap()), Ending::LogUnavailable);
    assert_eq!(
        ended(it.admit(it.ask("aws:iam:CreateUser", "v", Some("q"), "s3")).await.unwrap()),
        Ending::LogUnavailable
    );
    let mut ask = it.ask("aws:s3:ListBuckets", "b", None, "s4");
    let action = &mut Arc::make_mut(&mut ask.actions)[0];
    (action.access, action.traits) = (Access::List, Traits::EMPTY);
    let ruling = it.gate.judge(&ask.agent, &ask.context, &ask.actions);
    assert_eq!(it.gate.pass(&passing(&ask), &ruling).await.unwrap_err().ending, Ending::LogUnavailable);
}

/// Rules may ask for more at another time of day: what was enough when it was opened is not then.
#[tokio::test]
async fn an_approval_must_meet_what_the_rules_ask_at_release() {
    let it = Fixture::new().await;
    // The fixture's clock begins at 08:00.
    let by_night = "
  - id: night
    match: { action: ['aws:iam:*'] }
    when: now.getHours() >= 9
    decision: hold
    approvers: [approvers]
    quorum: 2
    expires: 15m
";
    it.gate.set_rules(rule_set(&format!("{RULES}{by_night}")));
    it.clock.advance(Duration::from_secs(59 * 60));
    for (attempt, is_late) in [("in time", false), ("too late", true)] {
        let first = it.admit(it.ask("aws:iam:CreateUser", attempt, Some(attempt), &format!("{attempt} 1")));
        let is_it = |hold: &HoldView| hold.state == HoldState::Pending && hold.attached == 1;
        let hold = it.until(|holds| holds.iter().any(is_it)).await.into_iter().find(is_it).unwrap();
        assert_eq!(hold.ruling.requirements.len(), 1, "{attempt}");
        first.abort();
        it.until(|holds| holds.iter().all(|hold| hold.attached == 0)).await;
        it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
        assert_eq!(it.gate.hold(&hold.id).unwrap().state, HoldState::Approved);
        if is_late {
            it.clock.advance(Duration::from_secs(2 * 60));
        }
        let retry = it.admit(it.ask("aws:iam:CreateUser", attempt, Some(attempt), &format!("{attempt} 2"))).await;
        if is_late {
            assert_eq!(ended(retry.unwrap()), Ending::Superseded);
        } else {
            drop(permitted(retry.unwrap()).spend(sha256(attempt.as_bytes())).unwrap());
        }
    }
    it.flush().await;
    assert_eq!((it.count("action.forward"), it.count("action.superseded")), (1, 1));
}

#[tokio::test]
async fn an_approval_that_ran_out_is_expired_and_no_replay() {
    let it = Fixture::new().await;
    let first = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.one_attached().await;
    first.abort();
    it.until(|holds| holds[0].attached == 0).await;
    it.decide(&hold.id, "alice", Verdict::Allow).await.unwrap();
    // The runtime has one thread and this does not await: the release runs before any sweep.
    it.clock.advance(GateOptions::default().approval_ttl);
    let retry = it.admit(it.ask("aws:iam:CreateUser", "u", Some("r"), "s2")).await.unwrap();
    assert_eq!(ended(retry), Ending::Expired);
    assert!(!it.gate.spent.contains(sha256(b"s2"), it.clock.now().plus(Duration::from_secs(900))));
    it.flush().await;
    assert_eq!((it.count("action.forward"), it.count("action.expired")), (0, 1));
}

/// Many holds, verdicts and retries at once: each is released exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_holds_at_once_are_each_released_once() {
    let it = Fixture::new().await;
    let permits = Arc::new(Mutex::new(std::collections::HashMap::<String, usize>::new()));
    let mut tasks = Vec::new();
    for n in 0..100 {
        for attempt in 0..3 {
            let (gate, permits) = (Arc::clone(&it.gate), Arc::clone(&permits));
            let body = format!("u{n}");
            let ask = it.ask("aws:iam:CreateUser", &body, Some(&body), &format!("{n}/{attempt}"));
            tasks.push(tokio::spawn(async move {
                let ruling = gate.judge(&ask.agent, &ask.context, &ask.actions);
                match gate.admit(ask.into(), ruling).await {
                    Admission::Permitted(permit) => {
                        *permits.lock().unwrap().entry(body.clone()).or_default() += 1;
                        let receipt = permit.spend(sha256(body.as_bytes())).unwrap();
                        gate.complete(receipt, answered(200), reply()).await.unwrap();
                    }
                    Admission::Answered(_) => {}
                    Admission::Ended(ended) => panic!("{ended:?}"),
                }
            }));
        }
    }
    let holds = it.until(|holds| holds.len() == 100 && holds.iter().all(|h| h.attached == 3)).await;
    let deciders: Vec<_> = holds
        .iter()
        .flat_map(|hold| ["alice", "bob"].map(|person| (Arc::clone(&it.gate), hold.id.clone(), person)))
        .map(|(gate, id, person)| {
            tokio::spawn(async move { gate.decide(&id, None, &approver(person), Verdict::Allow, "").await.is_ok() })
        })
        .collect();
    let mut taken = 0;
    for decider in deciders {
        taken += usize::from(decider.await.unwrap());
    }
    assert_eq!(taken, 100, "the first verdict decides, the second comes too late");
    for task in tasks {
        task.await.unwrap();
    }
    let permits = permits.lock().unwrap();
    assert!(permits.len() == 100 && permits.values().all(|n| *n == 1));
    assert_eq!((it.count("action.forward"), it.count("action.outcome")), (100, 100));
}

/// A client chooses how long it takes over its body, and so how old its judgement is when it arrives.
#[tokio::test]
async fn a_judgement_by_earlier_rules_is_not_admitted() {
    let it = Fixture::new().await;
    let ask = it.ask("aws:iam:CreateUser", "u", Some("r"), "s1");
    let ruling = it.gate.judge(&ask.agent, &ask.context, &ask.actions);
    it.gate.set_rules(rule_set(&RULES.replacen("quorum: 1", "quorum: 2", 1)));
    assert_eq!(ended(it.gate.admit(ask.into(), ruling).await), Ending::Superseded);
    let ask = it.ask("aws:sts:AssumeRole", "u", None, "s2");
    let ruling = it.gate.judge(&ask.agent, &ask.context, &ask.actions);
    it.gate.set_rules(rule_set(&RULES.replace("decision: allow", "decision: deny")));
    assert_eq!(ended(it.gate.admit(ask.into(), ruling).await), Ending::Superseded);
    assert_eq!(it.count("action.forward"), 0);
}
