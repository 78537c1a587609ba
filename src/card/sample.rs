//! A hold of nobody's: for tests of cards, and to try a channel with.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::action::{Access, Action, Agent, Context, Owner, Shown, Trait};
use crate::digest::sha256;
use crate::gate::HoldView;
use crate::hold::HoldState;
use crate::id::{ActionId, AgentId, GroupId, HoldId, PersonId, RuleId};
use crate::people::Requirement;
use crate::rules::{Decision, Ruling};
use crate::time::Timestamp;

/// The moment at which tests have it opened.
#[cfg(test)]
pub(crate) fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-20T12:00:00Z").unwrap()
}

/// The hold, as it stands when it was just opened.
pub(crate) fn hold(now: Timestamp) -> HoldView {
    let action = Action {
        name: "aws:iam:CreateAccessKey".into(),
        access: Access::Permissions,
        traits: [Trait::Credential, Trait::Privilege].into_iter().collect(),
        resources: vec!["arn:aws:iam::123456789012:user/bob".to_owned()],
        region: None,
        account: Some("123456789012".to_owned()),
        parameters: [("UserName".to_owned(), "bob".into())].into_iter().collect(),
        sensitive: Vec::new(),
        iam_actions: vec!["iam:CreateAccessKey".into()],
        tags: Vec::new(),
        unknown: None,
    };
    HoldView {
        id: HoldId::new("h_01jd4q0000000000000000test"),
        action_id: ActionId::new("a_01jd4q0000000000000000test"),
        agent: Agent { id: AgentId::new("deployer"), owner: Owner::Group(GroupId::new("platform")) },
        context: Context { reason: Some("rotate bob's key".to_owned()), ..Context::default() },
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        actions: vec![action],
        shown: Shown {
            method: "POST".to_owned(),
            url: "https://iam.amazonaws.com/".to_owned(),
            headers: BTreeMap::from([("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())]),
            body_bytes: 54,
            body_sha256: sha256(b"body").hex(),
            reach: Vec::new(),
            deltas: Vec::new(),
            crossed: None,
        },
        digest: sha256(b"what runs"),
        ruling: Ruling {
            decision: Decision::Hold,
            rules: vec![RuleId::new("iam-credentials")],
            requirements: vec![Requirement::of("iam-credentials", &["security"], 1)],
            expires: Duration::from_secs(900),
            in_transaction: None,
            message: Some("New keys need a second pair of eyes.".to_owned()),
            controls: vec!["SOC2 CC6.1".to_owned()],
            faults: Vec::new(),
        },
        opened: now,
        expires: now.plus(Duration::from_secs(900)),
        state: HoldState::Pending,
        attached: 1,
        votes: Vec::new(),
        eligible: vec![PersonId::new("alice"), PersonId::new("carol")],
        progress: vec![(0, 0)],
        modified: Vec::new(),
        upstream_status: None,
    }
}
