//! An upstream that fails: what may have run is never sent again, what did not run is said so.

use serde_json::Value;

use crate::support::peer::{Answer, Peer};
use crate::support::sign::Draft;
use crate::support::site::{Setup, Site};
use crate::support::upstream::{Reaction, Upstream};
use crate::support::{CREATED, wait_for};

/// A held call that is approved and then meets this upstream; its hold's id and the answer.
fn approved(site: &Site) -> (String, Answer) {
    let keys = site.agent("bot", "olga").keys;
    let form = "Action=CreateAccessKey&Version=2010-05-08&UserName=u";
    let call = Draft::query("iam", "iam.amazonaws.com", form).retry_id("one");
    let mut peer = Peer::connect(site.proxy);
    peer.send(&call.signed(&keys));
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "allow");
    let answer = peer.read().unwrap();
    // Whatever happened: the SDK's retry must not make it happen twice.
    let mut retry = call;
    retry.at += std::time::Duration::from_secs(1);
    assert_ne!(Peer::connect(site.proxy).ask(&retry.signed(&keys)).status, 200);
    (id, answer)
}

#[track_caller]
fn may_have_run(reaction: Reaction) {
    let upstream = Upstream::start(move |_| reaction.clone());
    let site = Setup::new(upstream.url()).answer_timeout("1s").start();
    let (id, answer) = approved(&site);
    assert!(answer.status >= 400, "{}", answer.text());
    assert!(answer.text().contains(&id), "{}", answer.text());
    assert_eq!(upstream.count("CreateAccessKey"), 1);
    assert_eq!(site.hold(&id)["state"], "outcome-unknown");
    assert_eq!(site.wait_for_record(&id, "action.outcome")["outcome"], "unknown");
    site.verify();
}

#[test]
fn reset_after_the_request_may_have_run() {
    may_have_run(Reaction::Reset);
}

#[test]
fn half_an_answer_may_have_run() {
    may_have_run(Reaction::Half(CREATED.to_owned()));
}

#[test]
fn garbage_may_have_run() {
    may_have_run(Reaction::Garbage);
}

#[test]
fn silence_may_have_run() {
    may_have_run(Reaction::Hang);
}

#[test]
fn refused_connection_certainly_did_not_run() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let site = Setup::new(format!("http://{closed}")).start();
    let keys = site.agent("bot", "olga").keys;
    let form = "Action=CreateAccessKey&Version=2010-05-08&UserName=u";
    let mut peer = Peer::connect(site.proxy);
    peer.send(&Draft::query("iam", "iam.amazonaws.com", form).retry_id("one").signed(&keys));
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "allow");
    let answer = peer.read().unwrap();
    assert!(answer.status >= 500, "{}", answer.text());
    assert_eq!(site.wait_for_record(&id, "action.outcome")["outcome"], "not-sent");
    site.verify();
}

#[test]
fn unmatched_call_is_not_retried_either() {
    for reaction in [Reaction::Reset, Reaction::Garbage, Reaction::Hang] {
        let upstream = Upstream::start(move |_| reaction.clone());
        let site = Setup::new(upstream.url()).answer_timeout("1s").start();
        let keys = site.agent("bot", "olga").keys;
        let form = "Action=TagUser&Version=2010-05-08&UserName=u&Tags.member.1.Key=a&Tags.member.1.Value=b";
        let mut peer = Peer::connect(site.proxy);
        let answer = peer.ask(&Draft::query("iam", "iam.amazonaws.com", form).signed(&keys));
        assert!(answer.status >= 500, "{}", answer.text());
        assert_eq!(upstream.count("TagUser"), 1);
        let records = passed(&site, |records| records.iter().any(|record| !record["outcome"].is_null()));
        assert_eq!(records.last().unwrap()["outcome"], "unknown");
        site.verify();
    }
}

/// The records of the one request that no rule matched, once they are as wanted.
fn passed(site: &Site, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    wait_for("the records of the request that passed", || {
        let mut records = site.records();
        let id = records.iter().find(|record| record["type"] == "action.passed")?["action_id"].clone();
        records.retain(|record| record["action_id"] == id);
        wanted(&records).then_some(records)
    })
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_passes() {
    let upstream = Upstream::answering("");
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    // No header field can hold the line feed that this presigned field does.
    let target = "/bucket/key?x-amz-expected-bucket-owner=%0A";
    let mut draft = Draft::new("s3", "s3.amazonaws.com", "GET", target);
    draft.target = draft.presigned(&keys, std::time::Duration::from_secs(60));
    let answer = Peer::connect(site.proxy).ask(&draft.unsigned());
    assert_eq!(answer.status, 400, "{}", answer.text());
    let records = wait_for("the record of the refusal", || {
        let records = site.records();
        records.iter().any(|record| record["type"] == "action.refused").then_some(records)
    });
    assert!(records.iter().all(|record| record["type"] != "action.passed"), "{records:?}");
}

#[test]
fn a_slow_upstream_is_on_record_before_it_answers() {
    let upstream = Upstream::start(|_| Reaction::Wait(200, CREATED.to_owned()));
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let list = Draft::query("iam", "iam.amazonaws.com", "Action=ListUsers&Version=2010-05-08");
    let mut peer = Peer::connect(site.proxy);
    peer.send(&list.signed(&keys));
    let records = passed(&site, |_| true);
    assert_eq!((records.len(), &records[0]["outcome"]), (1, &Value::Null));
    upstream.open();
    assert_eq!(peer.read().unwrap().status, 200);
    let records = passed(&site, |records| records.len() > 1);
    assert_eq!((&records[1]["type"], &records[1]["status"]), (&"action.outcome".into(), &200.into()));
    // One that is answered at once needs one record.
    let other = Draft::query("iam", "iam.amazonaws.com", "Action=ListRoles&Version=2010-05-08");
    let before = site.records().len();
    assert_eq!(peer.ask(&other.signed(&keys)).status, 200);
    let records = wait_for("its record", || Some(site.records()).filter(|records| records.len() > before));
    assert_eq!(records.len(), before + 1);
    assert_eq!((&records[before]["type"], &records[before]["status"]), (&"action.passed".into(), &200.into()));
    site.verify();
}

#[test]
fn a_client_that_leaves_an_unmatched_call_leaves_an_unknown_outcome() {
    let upstream = Upstream::start(|_| Reaction::Hang);
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let mut peer = Peer::connect(site.proxy);
    peer.send(&Draft::query("iam", "iam.amazonaws.com", "Action=ListUsers&Version=2010-05-08").signed(&keys));
    wait_for("the request to reach the upstream", || (!upstream.received().is_empty()).then_some(()));
    drop(peer);
    let records = passed(&site, |records| records.iter().any(|record| !record["outcome"].is_null()));
    assert_eq!(records.last().unwrap()["outcome"], "unknown");
    site.verify();
}

#[test]
fn a_failing_upstream_concerns_nobody_else() {
    let upstream = Upstream::start(|received| match received.text().contains("GetUser") {
        true => Reaction::Hang,
        false => Reaction::Answer(200, CREATED.to_owned()),
    });
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let hanging = Draft::query("iam", "iam.amazonaws.com", "Action=GetUser&Version=2010-05-08").signed(&keys);
    let peers: Vec<Peer> = (0..20)
        .map(|_| {
            let mut peer = Peer::connect(site.proxy);
            peer.send(&hanging);
            peer
        })
        .collect();
    let list = Draft::query("iam", "iam.amazonaws.com", "Action=ListUsers&Version=2010-05-08").signed(&keys);
    assert_eq!(Peer::connect(site.proxy).ask(&list).status, 200);
    drop(peers);
}
