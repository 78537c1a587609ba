//! The gate with its real journal, store, rules and people, and a clock moved by hand.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::action::{Access, Owner, Trait, Traits};
use crate::audit::record::{Kind, Record};
use crate::digest::sha256;
use crate::hold::Word;
use crate::id::{AgentId, GroupId};
use crate::journal::{self, Journal};
use crate::people::{People, Person};
use crate::rules::{self, RuleSet};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::time::Clock;
use crate::yaml::Source;

mod passing;
mod waiting;

const RULES: &str = "
rules:
  - id: hold-iam
    match: { action: ['aws:iam:*'] }
    decision: hold
    approvers: [approvers]
    quorum: 1
    expires: 15m
  - id: hold-kms
    match: { action: ['aws:kms:*'] }
    decision: hold
    approvers: [approvers]
    quorum: 2
    expires: 15m
  - id: deny-trail
    match: { action: ['aws:cloudtrail:StopLogging'] }
    decision: deny
    message: nobody stops the trail
  - id: allow-sts
    match: { action: ['aws:sts:AssumeRole'] }
    decision: allow
";

struct Fixture {
    dir: tempfile::TempDir,
    clock: Clock,
    gate: Arc<Gate>,
}

fn rule_set(text: &str) -> Arc<RuleSet> {
    let source = Source::new("test.yaml", text);
    Arc::new(rules::compile(&[source], &rules::Options::default()).unwrap())
}

fn people(persons: &[(&str, &str)]) -> People {
    let person = |(id, group): &(&str, &str)| Person {
        id: PersonId::new(id),
        emails: [format!("{id}@example.com")].into(),
        groups: [GroupId::new(group)].into(),
    };
    People::new(persons.iter().map(person).collect()).unwrap()
}

fn everybody() -> People {
    people(&[("alice", "approvers"), ("bob", "approvers"), ("carol", "approvers"), ("dave", "readers")])
}

async fn open(dir: &std::path::Path, clock: &Clock, options: GateOptions) -> Arc<Gate> {
    let metrics = Arc::new(Metrics::default());
    let log = journal::Options { dir: dir.join("log"), key_file: dir.join("log.key") };
    if !log.key_file.exists() {
        journal::create(&log, "example.com/test").unwrap();
    }
    let (journal, recovered) = Journal::open(&log, clock.clone(), Arc::clone(&metrics)).unwrap();
    let (store, saved) = Store::open(&dir.join("state.redb")).unwrap();
    let clock = clock.clone();
    Gate::open(options, journal, recovered, store, saved, rule_set(RULES), everybody(), clock, metrics).await.unwrap()
}

impl Fixture {
    async fn new() -> Self {
        Self::with(GateOptions::default()).await
    }

    async fn with(options: GateOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
        let gate = open(dir.path(), &clock, options).await;
        Self { dir, clock, gate }
    }

    /// A request of that action; `body` stands for everything that makes the digest.
    fn ask(&self, name: &str, body: &str, retry_id: Option<&str>, signature: &str) -> Ask {
        ask(&self.clock, name, body, retry_id, signature)
    }

    fn admit(&self, ask: Ask) -> tokio::task::JoinHandle<Admission> {
        let gate = Arc::clone(&self.gate);
        tokio::spawn(async move {
            let ruling = gate.judge(&ask.agent, &ask.context, &ask.actions);
            gate.admit(ask.into(), ruling).await
        })
    }

    /// Waits until the holds look as wanted.
    async fn until(&self, wanted: impl Fn(&[HoldView]) -> bool) -> Vec<HoldView> {
        let mut changes = self.gate.changes();
        loop {
            changes.mark_unchanged();
            let holds = self.gate.holds();
            if wanted(&holds) {
                return holds;
            }
            tokio::time::timeout(Duration::from_secs(20), changes.changed()).await.expect("a change").unwrap();
        }
    }

    async fn one_attached(&self) -> HoldView {
        self.until(|holds| holds.len() == 1 && holds[0].attached == 1).await.remove(0)
    }

    async fn decide(&self, id: &HoldId, person: &str, verdict: Verdict) -> Result<HoldView, DecideError> {
        self.gate.decide(id, None, &approver(person), verdict, "because").await
    }

    fn log(&self) -> String {
        let mut text = String::new();
        let entries = std::fs::read_dir(self.dir.path().join("log")).unwrap();
        for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            let bytes = std::fs::read(path).unwrap();
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        text
    }

    /// Waits until everything that was queued for the log is on disk.
    async fn flush(&self) {
        self.gate.journal.append(Record::new(Kind::ConfigChange)).await.unwrap();
    }

    fn count(&self, kind: &str) -> usize {
        self.log().matches(&format!("\"type\":\"{kind}\"")).count()
    }
}

fn approver(person: &str) -> Approver {
    Approver { person: PersonId::new(person), method: "token", credential: "t1".into() }
}

fn action(name: &str, parameters: Value) -> Action {
    Action {
        name: name.to_owned().into(),
        access: Access::Permissions,
        traits: Traits::EMPTY.with(Trait::Privilege),
        resources: vec![format!("arn:aws:iam::1:user/{}", parameters["UserName"].as_str().unwrap_or("x"))],
        region: None,
        account: Some("1".into()),
        parameters: parameters.as_object().unwrap().clone(),
        sensitive: vec!["Password".into()],
        iam_actions: vec![],
        unknown: None,
    }
}

fn ask(clock: &Clock, name: &str, body: &str, retry_id: Option<&str>, signature: &str) -> Ask {
    let owned = name.to_owned();
    Ask {
        action_id: ActionId::fresh(clock.now()),
        agent: Arc::new(Agent { id: AgentId::new("bot"), owner: Owner::Person(PersonId::new("carol")) }),
        context: Context::default(),
        peer: "127.0.0.1".parse().unwrap(),
        key_id: "AKCS".into(),
        actions: [action(name, json!({"UserName": body, "Password": "hunter2-secret"}))].into(),
        digest: sha256(body.as_bytes()),
        retry_id: retry_id.map(str::to_owned),
        signature: sha256(signature.as_bytes()),
        signature_expires: clock.now().plus(Duration::from_secs(900)),
        shown: Arc::default(),
        narrow: Some(Arc::new(move |parameters| {
            let user = parameters.get("UserName").and_then(Value::as_str).ok_or("no user")?;
            Ok(Modified {
                actions: [action(&owned, Value::Object(parameters.clone()))].into(),
                digest: sha256(user.as_bytes()),
                shown: Arc::default(),
            })
        })),
    }
}

fn passing(ask: &Ask) -> Passing<'_> {
    Passing { action_id: &ask.action_id, agent: &ask.agent, key_id: &ask.key_id, peer: ask.peer, actions: &ask.actions }
}

fn permitted(admission: Admission) -> Permit {
    match admission {
        Admission::Permitted(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn ended(admission: Admission) -> Ending {
    match admission {
        Admission::Ended(ended) => ended.ending,
        other => panic!("{other:?}"),
    }
}

fn answered(status: u16) -> Outcome {
    Outcome::Answered { status, upstream_request_id: None, body_bytes: Some(2), body_sha256: None }
}

fn reply() -> Option<Arc<Reply>> {
    Some(Arc::new(Reply { status: 200, headers: vec![], body: Bytes::from_static(b"ok") }))
}

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
    assert_eq!((view.state, view.ruling.requirements[0].quorum), (HoldState::Pending, 2));
    for bad in [json!({}), json!({"UserName": "admin"}), json!({"UserName": null})] {
        let verdict = Verdict::Modify(bad.as_object().unwrap().clone());
        let refused = it.gate.decide(&hold.id, Some(view.digest), &approver("alice"), verdict, "").await;
        assert!(matches!(refused, Err(DecideError::NotModifiable(_))), "{bad}");
    }
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

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
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
