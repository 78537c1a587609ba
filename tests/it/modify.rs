//! Yes, but smaller: an approver changes the request, and what runs is what was approved.

use serde_json::{Value, json};

use crate::support::CREATED;
use crate::support::peer::Peer;
use crate::support::sign::{Draft, Keys};
use crate::support::site::{HOLD_KEYS, Setup, shown};
use crate::support::upstream::Upstream;

const POLICIES: &str = "\
rules:
  - id: items
    match: { action: [aws:dynamodb:PutItem] }
    decision: hold
    approvers: [security]
  - id: not-the-payroll
    match: { action: [aws:dynamodb:PutItem], resource: ['*table/payroll*'] }
    decision: deny
";

fn put_item(keys: &Keys) -> Vec<u8> {
    let body = json!({"TableName": "orders", "Item": {"id": {"S": "1"}, "amount": {"N": "100"}}}).to_string();
    Draft::json("dynamodb", "dynamodb.us-east-1.amazonaws.com", "DynamoDB_20120810.PutItem", &body).signed(keys)
}

#[test]
fn form_request_runs_with_the_approved_parameters() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).rules(HOLD_KEYS).start();
    let agent = site.agent("bot", "olga");
    let call = agent.start(
        "answer = client('iam').create_access_key(UserName='admin')\nresult = answer['ResponseMetadata']['HTTPHeaders']",
    );
    let id = site.pending(1).remove(0);
    let output =
        site.cli_as("alice", &["modify", &id, "--set", "UserName=intern", "--reason", "the intern's is enough"]);
    assert!(output.status.success(), "{}", shown(&output));
    // Another user than the agent asked for: one person alone cannot redirect a call.
    assert_eq!(site.hold(&id)["state"], "pending");
    assert_eq!(upstream.received().len(), 0);
    site.decide("bob", &id, "allow");
    let headers = call.wait();
    assert!(headers.to_string().contains("UserName"), "the agent must be told what ran: {headers}");
    assert_eq!((upstream.count("UserName=intern"), upstream.count("admin")), (1, 0));
    let hold = site.hold(&id);
    assert_eq!(hold["modified"], json!([{"pointer": "/UserName", "before": "admin", "after": "intern"}]));
    let types = site.history(&id);
    assert!(types.contains(&"approval.modified".to_owned()), "{types:?}");
    site.verify();
}

#[test]
fn json_request_runs_with_the_approved_parameters() {
    let upstream = Upstream::answering("{}");
    let site = Setup::new(upstream.url()).rules(POLICIES).start();
    let keys = site.agent("bot", "olga").keys;
    let mut peer = Peer::connect(site.proxy);
    peer.send(&put_item(&keys));
    let id = site.pending(1).remove(0);
    let parameters = json!({"Item": {"id": {"S": "1"}, "amount": {"N": "10"}}});
    let body = json!({"verdict": "modify", "reason": "less", "parameters": parameters});
    let answer = site.api(site.token("alice"), "POST", &format!("/v1/holds/{id}/verdict"), Some(&body));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(peer.read().unwrap().status, 200);
    let sent: Value = serde_json::from_str(&upstream.received()[0].text()).unwrap();
    assert_eq!(sent, json!({"TableName": "orders", "Item": {"id": {"S": "1"}, "amount": {"N": "10"}}}));
    site.verify();
}

#[test]
fn a_modification_into_something_forbidden_is_refused() {
    let upstream = Upstream::answering("{}");
    let site = Setup::new(upstream.url()).rules(POLICIES).start();
    let keys = site.agent("bot", "olga").keys;
    let mut peer = Peer::connect(site.proxy);
    peer.send(&put_item(&keys));
    let id = site.pending(1).remove(0);
    for parameters in [json!({"TableName": "payroll"}), json!({"NoSuchMember": 1})] {
        let body = json!({"verdict": "modify", "reason": "r", "parameters": parameters});
        let answer = site.api(site.token("alice"), "POST", &format!("/v1/holds/{id}/verdict"), Some(&body));
        assert_eq!(answer.status, 422, "{parameters}: {}", answer.text());
    }
    assert_eq!(site.hold(&id)["state"], "pending");
    assert_eq!(upstream.received().len(), 0);
    site.decide("alice", &id, "allow");
    assert_eq!(peer.read().unwrap().status, 200);
    assert_eq!(upstream.count("orders"), 1);
}

#[test]
fn a_stale_card_decides_nothing() {
    let upstream = Upstream::answering("{}");
    let rules = POLICIES.replacen("approvers: [security]", "approvers: [security]\n    quorum: 2", 1);
    let site = Setup::new(upstream.url()).rules(&rules).start();
    let keys = site.agent("bot", "olga").keys;
    let mut peer = Peer::connect(site.proxy);
    peer.send(&put_item(&keys));
    let id = site.pending(1).remove(0);
    let seen = site.hold(&id)["digest"].clone();
    let path = format!("/v1/holds/{id}/verdict");
    let body = json!({"verdict": "modify", "reason": "less", "parameters": {"Item": {"id": {"S": "2"}}}});
    assert_eq!(site.api(site.token("alice"), "POST", &path, Some(&body)).status, 200);
    let stale = json!({"verdict": "allow", "reason": "yes", "digest": seen});
    let answer = site.api(site.token("bob"), "POST", &path, Some(&stale));
    assert_eq!(answer.status, 409, "{}", answer.text());
    assert_eq!(upstream.received().len(), 0);
    let fresh = json!({"verdict": "allow", "reason": "yes", "digest": site.hold(&id)["digest"]});
    assert_eq!(site.api(site.token("bob"), "POST", &path, Some(&fresh)).status, 200);
    assert_eq!(peer.read().unwrap().status, 200);
    assert_eq!(upstream.received().len(), 1);
    site.verify();
}
