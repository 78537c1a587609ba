use std::time::Duration;

use serde_json::json;

use super::*;
use crate::action::{Access, Action, Agent, Context, Owner, Shown, Trait, Traits};
use crate::digest::sha256;
use crate::hold::{Change, Ending, HoldState, Vote, Word};
use crate::id::{ActionId, AgentId, GroupId, PersonId, RuleId};
use crate::people::{Escalation, Requirement};
use crate::rules::{Decision, Ruling};
use crate::time::Timestamp;

fn hold(id: &str, state: HoldState) -> SavedHold {
    let parameters = json!({"UserName": "ci", "Password": "hunter2-very-secret"});
    SavedHold {
        id: HoldId::new(id),
        action_id: ActionId::new("a_1"),
        agent: Arc::new(Agent { id: AgentId::new("bot"), owner: Owner::Group(GroupId::new("platform")) }),
        context: Context { reason: Some("because".into()), ..Context::default() },
        peer: "127.0.0.1".parse().unwrap(),
        key_id: "AKCS1".into(),
        actions: Arc::new([Action {
            name: "aws:iam:CreateLoginProfile".into(),
            access: Access::Permissions,
            traits: Traits::EMPTY.with(Trait::Privilege),
            resources: vec!["arn:aws:iam::1:user/ci".into()],
            region: None,
            account: Some("1".into()),
            parameters: parameters.as_object().unwrap().clone(),
            sensitive: vec!["Password".into()],
            iam_actions: vec!["iam:CreateLoginProfile".into()],
            tags: vec!["pii".to_owned()],
            unknown: None,
        }]),
        shown: Arc::new(Shown { method: "POST".into(), ..Shown::default() }),
        request: sha256(b"r"),
        effective: sha256(b"e"),
        rule_set: sha256(b"s"),
        retry_id: Some("uuid".into()),
        ruling: Arc::new(Ruling {
            decision: Decision::Hold,
            rules: vec![RuleId::new("r")],
            requirements: vec![Requirement {
                deniers: vec![GroupId::new("watch")],
                escalations: vec![Escalation {
                    after: Duration::from_secs(60),
                    approvers: vec![GroupId::new("managers")],
                }],
                signed: true,
                ..Requirement::of("r", &["approvers"], 2)
            }],
            expires: Duration::from_secs(900),
            in_transaction: None,
            message: None,
            controls: vec!["SOC2 CC6.1".into()],
            faults: Vec::new(),
        }),
        opened: Timestamp::from_micros(5),
        state,
        deadline: Timestamp::from_micros(7),
        ended: state.is_over().then_some(Timestamp::from_micros(6)),
        votes: vec![Vote {
            person: PersonId::new("alice"),
            word: Word::Modify,
            reason: "smaller".into(),
            at: Timestamp::from_micros(6),
            void: false,
        }],
        patch: json!({"UserName": "cj"}).as_object().cloned(),
        changes: vec![Change { pointer: "/UserName".into(), before: Some(json!("ci")), after: Some(json!("cj")) }],
        upstream_status: Some(200),
        revision: 0,
    }
}

#[tokio::test]
async fn an_older_state_never_takes_a_newer_ones_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let (store, _) = Store::open(&path).unwrap();
    store.save(SavedHold { revision: 2, ..hold("h_1", HoldState::Executed) }).await.unwrap();
    store.save(SavedHold { revision: 1, ..hold("h_1", HoldState::Approved) }).await.unwrap();
    drop(store);
    let found = loop {
        match Store::open(&path) {
            Ok((_, found)) => break found,
            Err(_) => std::thread::yield_now(),
        }
    };
    assert_eq!(found.iter().map(|hold| hold.state).collect::<Vec<_>>(), [HoldState::Executed]);
}

#[tokio::test]
async fn holds_come_back_as_they_were_without_their_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let states = [
        HoldState::Pending,
        HoldState::Approved,
        HoldState::Forwarding,
        HoldState::Executed,
        HoldState::Ended(Ending::Denied),
    ];
    let saved: Vec<_> = states.iter().enumerate().map(|(i, state)| hold(&format!("h_{i}"), *state)).collect();
    {
        let (store, found) = Store::open(&path).unwrap();
        assert!(found.is_empty());
        for hold in &saved {
            store.save(hold.clone()).await.unwrap();
        }
        store.save(hold("h_gone", HoldState::Pending)).await.unwrap();
        store.forget(HoldId::new("h_gone")).await.unwrap();
        drop(store);
    }
    // The writer's thread closes the file when the last handle is gone; until then it is locked.
    let found = loop {
        match Store::open(&path) {
            Ok((_, found)) => break found,
            Err(StoreError::Database { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    let expected: Vec<_> = saved
        .into_iter()
        .map(|mut hold| {
            let stored = |action: &Action| Action { parameters: action.shown_parameters(), ..action.clone() };
            hold.actions = hold.actions.iter().map(stored).collect();
            hold
        })
        .collect();
    assert_eq!(found, expected);
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(19).any(|w| w == b"hunter2-very-secret"));
}

#[test]
fn every_ending_can_be_stored() {
    for ending in Ending::ALL {
        let before = hold("h", HoldState::Ended(ending));
        let mut after = SavedHold::from_json(&before.to_json().unwrap()).unwrap();
        after.actions.clone_from(&before.actions);
        assert_eq!(after, before);
    }
}

#[test]
fn what_cannot_be_read_is_said_and_not_skipped() {
    let good = hold("h", HoldState::Pending).to_json().unwrap();
    for bad in [
        "{}".to_owned(),
        good.replace("\"v\":2", "\"v\":1"),
        good.replace("\"pending\"", "\"dreaming\""),
        good.replace("\"peer\"", "\"pier\""),
    ] {
        assert!(SavedHold::from_json(&bad).is_err(), "{bad}");
    }
}
