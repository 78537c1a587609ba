//! A retry joins its hold, nothing else does, and the upstream sees the call once.

use serde_json::json;

use crate::support::peer::Peer;
use crate::support::sign::{Draft, Keys};
use crate::support::site::{Setup, Site};
use crate::support::upstream::{Reaction, Upstream};
use crate::support::{CREATED, wait_for};

const RETRY_ID: &str = "11111111-2222-4333-8444-555555555555";

fn create_key(user: &str, retry_id: &str, keys: &Keys) -> Vec<u8> {
    let form = format!("Action=CreateAccessKey&Version=2010-05-08&UserName={user}");
    Draft::query("iam", "iam.amazonaws.com", &form).retry_id(retry_id).signed(keys)
}

fn ask(site: &Site, request: &[u8]) -> Peer {
    let mut peer = Peer::connect(site.proxy);
    peer.send(request);
    peer
}

#[test]
fn read_timeout_and_retry_of_botocore_join_the_hold() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).config("holds: { interims: { enabled: false } }\n").start();
    let agent = site.agent("bot", "olga");
    let call = agent.start(
        "result = client('iam', read_timeout=3, retries={'mode': 'standard', 'total_max_attempts': 5})\
         .create_access_key(UserName='u')['ResponseMetadata']['RetryAttempts']",
    );
    let id = site.pending(1).remove(0);
    wait_for("a retry to join", || (site.metric("countersign_holds_joined_total") > 0).then_some(()));
    site.pending(1);
    site.decide("alice", &id, "allow");
    let attempts = call.wait();
    assert!(attempts.as_u64() > Some(0), "{attempts}");
    assert_eq!(upstream.count("CreateAccessKey"), 1);
    assert_eq!(site.holds().len(), 1);
    assert_eq!(site.history(&id).iter().filter(|kind| *kind == "action.forward").count(), 1);
    site.verify();
}

#[test]
fn another_body_with_the_same_retry_id_does_not_ride() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let mut first = ask(&site, &create_key("harmless", RETRY_ID, &keys));
    let harmless = site.pending(1).remove(0);
    let _second = ask(&site, &create_key("admin", RETRY_ID, &keys));
    assert_eq!(site.pending(2)[0], harmless);
    site.decide("alice", &harmless, "allow");
    assert_eq!(first.read().unwrap().status, 200);
    assert_eq!((upstream.count("harmless"), upstream.count("admin")), (1, 0));
    let other = site.pending(1).remove(0);
    assert_ne!(other, harmless);
    // Once more, now that the id was approved and ran.
    let _third = ask(&site, &create_key("root", RETRY_ID, &keys));
    site.pending(2);
    assert_eq!(upstream.received().len(), 1);
    site.verify();
}

#[test]
fn another_agent_does_not_ride_on_the_same_bytes() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).start();
    let (bot, imp) = (site.agent("bot", "olga").keys, site.agent("imp", "olga").keys);
    let mut first = ask(&site, &create_key("u", RETRY_ID, &bot));
    let id = site.pending(1).remove(0);
    let _second = ask(&site, &create_key("u", RETRY_ID, &imp));
    site.pending(2);
    site.decide("alice", &id, "allow");
    assert_eq!(first.read().unwrap().status, 200);
    assert_eq!(upstream.count("CreateAccessKey"), 1);
    site.pending(1);
}

#[test]
fn a_second_call_of_the_same_kind_is_a_second_hold() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let _first = ask(&site, &create_key("u", RETRY_ID, &keys));
    site.pending(1);
    let _second = ask(&site, &create_key("u", &RETRY_ID.replace('1', "9"), &keys));
    site.pending(2);
}

#[test]
fn verdict_given_while_nobody_is_connected_waits_for_the_retry() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let first = ask(&site, &create_key("u", RETRY_ID, &keys));
    let id = site.pending(1).remove(0);
    drop(first);
    wait_for("the client to be gone", || (site.hold(&id)["attached"] == 0).then_some(()));
    site.decide("alice", &id, "allow");
    assert_eq!(site.hold(&id)["state"], "approved");
    assert_eq!(upstream.received().len(), 0, "nothing runs while nobody waits for it");
    let mut retry = Draft::query("iam", "iam.amazonaws.com", "Action=CreateAccessKey&Version=2010-05-08&UserName=u")
        .retry_id(RETRY_ID)
        .header("amz-sdk-request", "attempt=2; max=3");
    retry.at += std::time::Duration::from_secs(1);
    assert_eq!(Peer::connect(site.proxy).ask(&retry.signed(&keys)).status, 200);
    assert_eq!(upstream.count("CreateAccessKey"), 1);
    site.verify();
}

#[test]
fn answer_is_kept_for_a_client_that_dropped_at_the_last_second() {
    let upstream = Upstream::start(|_| Reaction::Wait(200, CREATED.to_owned()));
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let first = ask(&site, &create_key("u", RETRY_ID, &keys));
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "allow");
    wait_for("the request to reach the upstream", || (!upstream.received().is_empty()).then_some(()));
    drop(first);
    upstream.open();
    site.wait_for_state(&id, "executed");
    let mut retry = Draft::query("iam", "iam.amazonaws.com", "Action=CreateAccessKey&Version=2010-05-08&UserName=u")
        .retry_id(RETRY_ID);
    retry.at += std::time::Duration::from_secs(1);
    let answer = Peer::connect(site.proxy).ask(&retry.signed(&keys));
    assert_eq!((answer.status, answer.text()), (200, CREATED.to_owned()));
    assert_eq!(upstream.count("CreateAccessKey"), 1);
    site.verify();
}

#[test]
fn retry_of_a_denied_call_gets_the_same_denial_at_once() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let mut first = ask(&site, &create_key("u", RETRY_ID, &keys));
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "deny");
    let denied = first.read().unwrap();
    let mut retry = Draft::query("iam", "iam.amazonaws.com", "Action=CreateAccessKey&Version=2010-05-08&UserName=u")
        .retry_id(RETRY_ID);
    retry.at += std::time::Duration::from_secs(1);
    let again = Peer::connect(site.proxy).ask(&retry.signed(&keys));
    assert_eq!((denied.status, again.status), (403, 403));
    assert!(again.text().contains(&id), "{}", again.text());
    assert_eq!((site.holds().len(), upstream.received().len()), (1, 0));
}

#[test]
fn the_same_signature_does_not_run_twice() {
    let upstream = Upstream::answering(CREATED);
    let rules = "rules:\n  - id: keys\n    match: { action: [aws:iam:CreateAccessKey] }\n    decision: allow\n";
    let site = Setup::new(upstream.url()).rules(rules).start();
    let keys = site.agent("bot", "olga").keys;
    let form = "Action=CreateAccessKey&Version=2010-05-08&UserName=u";
    // Without a retry id there is nothing a second sending could join.
    let captured = Draft::query("iam", "iam.amazonaws.com", form).signed(&keys);
    assert_eq!(Peer::connect(site.proxy).ask(&captured).status, 200);
    let replayed = Peer::connect(site.proxy).ask(&captured);
    assert_eq!(replayed.status, 503, "{}", replayed.text());
    assert_eq!(upstream.count("CreateAccessKey"), 1);
    site.verify();
}

#[test]
fn a_captured_hold_does_not_run_for_the_one_who_captured_it() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let captured = create_key("u", RETRY_ID, &keys);
    let mut first = ask(&site, &captured);
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "allow");
    assert_eq!(first.read().unwrap().status, 200);
    // The same bytes are the same call: at best its answer, never a second run.
    Peer::connect(site.proxy).ask(&captured);
    assert_eq!(upstream.count("CreateAccessKey"), 1);
    assert_eq!(json!(site.holds().len()), 1);
    site.verify();
}
