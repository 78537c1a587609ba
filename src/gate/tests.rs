//! The gate with its real journal, store, rules and people, and a clock moved by hand.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::*;
use crate::action::{Access, Delta, Owner, Trait, Traits};
use crate::audit::record::{Kind, Record};
use crate::digest::sha256;
use crate::hold::Word;
use crate::id::AgentId;
use crate::journal::{self, Journal};
use crate::people::rota::Rota;
use crate::people::{People, Person};
use crate::rules::{self, RuleSet};
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::time::Clock;
use crate::yaml::Source;

mod deciding;
mod joining;
mod limits;
mod passing;
mod release;
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
  - id: hold-sns
    match: { action: ['aws:sns:*'] }
    decision: hold
    approvers: [approvers]
    escalate: [{ after: 5m, approvers: [readers] }]
    expires: 15m
  - id: deny-trail
    match: { action: ['aws:cloudtrail:StopLogging'] }
    decision: deny
    message: nobody stops the trail
  - id: allow-sts
    match: { action: ['aws:sts:AssumeRole'] }
    decision: allow
";

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Clock,
    pub(crate) gate: Arc<Gate>,
}

fn rule_set(text: &str) -> Arc<RuleSet> {
    let source = Source::new("test.yaml", text);
    Arc::new(rules::compile(&[source], &rules::Options::default()).unwrap())
}

fn people(persons: &[(&str, &str)]) -> People {
    let person = |(id, group): &(&str, &str)| Person {
        emails: [format!("{id}@example.com")].into(),
        ..Person::of(id, &[group])
    };
    People::new(persons.iter().map(person).collect(), Rota::default()).unwrap()
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

    pub(crate) async fn with(options: GateOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
        let gate = open(dir.path(), &clock, options).await;
        Self { dir, clock, gate }
    }

    /// A request of that action; `body` stands for everything that makes the digest.
    pub(crate) fn ask(&self, name: &str, body: &str, retry_id: Option<&str>, signature: &str) -> Ask {
        ask(&self.clock, name, body, retry_id, signature)
    }

    pub(crate) fn admit(&self, ask: Ask) -> tokio::task::JoinHandle<Admission> {
        let gate = Arc::clone(&self.gate);
        tokio::spawn(async move {
            let ruling = gate.judge(&ask.agent, &ask.context, &ask.actions);
            gate.admit(ask.into(), ruling).await
        })
    }

    /// Waits until the holds look as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&[HoldView]) -> bool) -> Vec<HoldView> {
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

    pub(crate) async fn one_attached(&self) -> HoldView {
        self.until(|holds| holds.len() == 1 && holds[0].attached == 1).await.remove(0)
    }

    pub(crate) async fn decide(&self, id: &HoldId, person: &str, verdict: Verdict) -> Result<HoldView, DecideError> {
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
        tags: vec![],
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
        facts: sha256(b"facts"),
        follows_rules: false,
        digest: sha256(body.as_bytes()),
        retry_id: retry_id.map(str::to_owned),
        signature: sha256(signature.as_bytes()),
        signature_expires: clock.now().plus(Duration::from_secs(900)),
        in_transaction: false,
        upstream_limit: None,
        shown: Arc::default(),
        look: None,
        held_at: Arc::default(),
        wording: None,
        narrow: Some(Arc::new(move |parameters| {
            let user = parameters.get("UserName").and_then(Value::as_str).ok_or("no user")?;
            Ok(Modified {
                actions: [action(&owned, Value::Object(parameters.clone()))].into(),
                digest: sha256(user.as_bytes()),
                shown: Arc::default(),
                wording: None,
            })
        })),
    }
}

fn passing(ask: &Ask) -> Passing<'_> {
    Passing {
        action_id: &ask.action_id,
        agent: &ask.agent,
        key_id: &ask.key_id,
        peer: ask.peer,
        actions: &ask.actions,
        facts: ask.facts,
        wording: None,
    }
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
