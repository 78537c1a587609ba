//! Clients are told that they wait in the way each of them can bear, and in no other.

use crate::support::CREATED;
use crate::support::peer::Peer;
use crate::support::sign::{Draft, Keys};
use crate::support::site::Setup;
use crate::support::upstream::Upstream;

const OFTEN: &str = "holds: { interims: { first: 1s, every: 1s } }\n";

fn create_key(user: &str, user_agent: &str, keys: &Keys) -> Vec<u8> {
    let form = format!("Action=CreateAccessKey&Version=2010-05-08&UserName={user}");
    Draft::query("iam", "iam.amazonaws.com", &form).header("user-agent", user_agent).retry_id(user).signed(keys)
}

#[test]
fn boto3_waits_longer_than_its_read_timeout() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).config(OFTEN).start();
    let agent = site.agent("bot", "olga");
    let call = agent.start(
        "result = client('iam', read_timeout=3, retries={'total_max_attempts': 3})\
         .create_access_key(UserName='boto')['ResponseMetadata']['RetryAttempts']",
    );
    let id = site.pending(1).remove(0);
    // A client of our own counts the seconds that pass: one interim answer each.
    let mut clock = Peer::connect(site.proxy);
    clock.send(&create_key("clock", "Boto3/1.44.5 Botocore/1.44.5", &agent.keys));
    for _ in 0..6 {
        assert_eq!(clock.interim(), 100, "102 and 103 are final answers to Python");
    }
    site.decide("alice", &id, "allow");
    assert_eq!(call.wait(), 0, "it timed out although it was told to wait");
    assert_eq!(upstream.count("boto"), 1);
}

#[test]
fn unknown_clients_wait_in_silence() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).config(OFTEN).start();
    let keys = site.agent("bot", "olga").keys;
    let silent = ["aws-sdk-rust/1.3", "Go-http-client/1.1", "Java-http-client/17", "Terraform/1.9", "something"];
    let mut peers: Vec<Peer> = silent
        .iter()
        .enumerate()
        .map(|(index, user_agent)| {
            let mut peer = Peer::connect(site.proxy);
            peer.send(&create_key(&format!("silent-{index}"), user_agent, &keys));
            peer
        })
        .collect();
    let ids = site.pending(silent.len());
    let mut clock = Peer::connect(site.proxy);
    clock.send(&create_key("clock", "Boto3/1.44.5 Botocore/1.44.5", &keys));
    for _ in 0..3 {
        assert_eq!(clock.interim(), 100);
    }
    for id in &ids {
        site.decide("alice", id, "allow");
    }
    for (peer, user_agent) in peers.iter_mut().zip(silent) {
        let answer = peer.read().unwrap();
        assert_eq!((answer.status, answer.interims.as_slice()), (200, &[][..]), "{user_agent}");
    }
}

#[test]
fn nothing_behind_a_held_request_is_answered_before_it() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let list = Draft::query("iam", "iam.amazonaws.com", "Action=ListUsers&Version=2010-05-08").signed(&keys);
    let mut peer = Peer::connect(site.proxy);
    peer.send(&[create_key("u", "something", &keys), list].concat());
    let id = site.pending(1).remove(0);
    assert_eq!(upstream.received().len(), 0);
    site.decide("alice", &id, "allow");
    assert_eq!(peer.read().unwrap().status, 200);
    if let Some(second) = peer.read() {
        assert_eq!(second.status, 200);
    }
    assert!(upstream.received()[0].text().contains("CreateAccessKey"));
}
