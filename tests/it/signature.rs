//! Hostile clients at the front door: bent signatures, bent framing, presigned URLs.

use std::time::Duration;

use crate::support::CREATED;
use crate::support::peer::Peer;
use crate::support::sign::{Draft, Keys};
use crate::support::site::{Setup, Site};
use crate::support::upstream::Upstream;

fn list_users() -> Draft {
    Draft::query("iam", "iam.amazonaws.com", "Action=ListUsers&Version=2010-05-08")
}

fn get_object() -> Draft {
    Draft::new("s3", "s3.us-east-1.amazonaws.com", "GET", "/bucket/key")
}

/// A site before an upstream that answers everything, and an agent's keys.
fn site() -> (Upstream, Site, Keys) {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    (upstream, site, keys)
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.contains(from), "`{from}` is not in {text}");
    text.replacen(from, to, 1).into_bytes()
}

#[test]
fn a_good_signature_passes() {
    let (upstream, site, keys) = site();
    assert_eq!(Peer::connect(site.proxy).ask(&list_users().signed(&keys)).status, 200);
    assert_eq!(Peer::connect(site.proxy).ask(&get_object().signed(&keys)).status, 200);
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn bent_signatures_are_refused_with_awss_own_codes() {
    let (upstream, site, keys) = site();
    let good = list_users().header("x-amz-meta", "v").signed(&keys);
    let mut old = list_users();
    old.at -= Duration::from_secs(16 * 60);
    let mut early = list_users();
    early.at += Duration::from_secs(16 * 60);
    let mut far = list_users();
    far.region = "eu-west-1".to_owned();
    let mut foreign = list_users();
    foreign.service = "s3".to_owned();
    let wrong = Keys { secret: "wrong".to_owned(), ..keys.clone() };
    let stranger = Keys { id: "AKIANOBODYNOBODY0000".to_owned(), ..keys.clone() };
    let other_body = replaced(&replaced(&good, "ListUsers", "ListRoles"), "content-length: 35", "content-length: 35");
    let cases: [(&str, Vec<u8>, &str); 11] = [
        ("body", other_body, "SignatureDoesNotMatch"),
        ("header value", replaced(&good, "x-amz-meta: v", "x-amz-meta: w"), "SignatureDoesNotMatch"),
        ("added x-amz header", replaced(&good, "x-amz-meta", "x-amz-target: A.B\r\nx-amz-meta"), ""),
        ("query", replaced(&good, "POST / ", "POST /?Action=ListRoles "), ""),
        ("secret", list_users().signed(&wrong), "SignatureDoesNotMatch"),
        ("key", list_users().signed(&stranger), "InvalidClientTokenId"),
        ("old", old.signed(&keys), "SignatureDoesNotMatch"),
        ("early", early.signed(&keys), "SignatureDoesNotMatch"),
        ("region", far.signed(&keys), ""),
        ("service", foreign.signed(&keys), ""),
        ("none", list_users().unsigned(), "MissingAuthenticationToken"),
    ];
    for (name, bytes, code) in cases {
        let answer = Peer::connect(site.proxy).ask(&bytes);
        assert!((400..=403).contains(&answer.status), "{name}: {} {}", answer.status, answer.text());
        assert!(answer.text().contains(code), "{name}: {}", answer.text());
        // A request with a target speaks JSON, whatever else it says.
        if name != "added x-amz header" {
            assert!(answer.text().contains("<ErrorResponse"), "{name} is not in IAM's shape: {}", answer.text());
        }
    }
    assert_eq!(upstream.received().len(), 0);
    site.verify();
}

#[test]
fn contradictory_framing_closes_the_connection() {
    let (upstream, site, keys) = site();
    let good = list_users().signed(&keys);
    for (name, from, to) in [
        ("two hosts", "host: ", "host: s3.amazonaws.com\r\nhost: "),
        ("two lengths", "content-length: ", "content-length: 3\r\ncontent-length: "),
        ("length and chunks", "content-length: ", "transfer-encoding: chunked\r\ncontent-length: "),
        ("signed length", "content-length: ", "content-length: +"),
        ("underscore alias", "content-type: ", "content_type: "),
        ("bare LF", "content-type", "x-a: b\ncontent-type"),
        ("folded line", "content-type", "x-a: b\r\n c\r\ncontent-type"),
        ("space before colon", "content-type:", "content-type :"),
        ("NUL", "content-type", "x-a: \0\r\ncontent-type"),
        ("method override", "content-type", "x-http-method-override: GET\r\ncontent-type"),
        ("HTTP/1.0 with chunks", "HTTP/1.1\r\n", "HTTP/1.0\r\ntransfer-encoding: chunked\r\n"),
        ("absolute target of another host", "POST / ", "POST http://sts.amazonaws.com/ "),
        ("fragment", "POST / ", "POST /#x "),
        ("dot segment", "POST / ", "POST /a/../ "),
        ("CONNECT", "POST / ", "CONNECT iam.amazonaws.com:443 "),
        ("upgrade", "content-type", "connection: upgrade\r\nupgrade: h2c\r\ncontent-type"),
    ] {
        let mut peer = Peer::connect(site.proxy);
        // A second request stands behind it: it must not be read as one.
        let sent = [replaced(&good, from, to), good.clone()].concat();
        drop(peer.try_send(&sent));
        if let Some(answer) = peer.read() {
            assert!((400..=403).contains(&answer.status), "{name}: {} {}", answer.status, answer.text());
            assert!(peer.read().is_none(), "{name}: a second answer");
        }
        assert_eq!(upstream.received().len(), 0, "{name} reached the upstream");
    }
    assert_eq!(Peer::connect(site.proxy).ask(&good).status, 200, "others are not concerned");
}

#[test]
fn presigned_url_reads_until_it_expires() {
    let (upstream, site, keys) = site();
    let ask = |target: &str| {
        let draft = Draft::new("s3", "s3.us-east-1.amazonaws.com", "GET", target);
        Peer::connect(site.proxy).ask(&draft.unsigned())
    };
    let good = get_object().presigned(&keys, Duration::from_secs(600));
    assert_eq!(ask(&good).status, 200);
    assert_eq!(ask(&good.replacen("/key?", "/other?", 1)).status, 403);
    assert_eq!(ask(&good.replacen("X-Amz-Expires=600", "X-Amz-Expires=60000", 1)).status, 403);
    assert_eq!(ask(&format!("{good}&versionId=1")).status, 403);
    let mut old = get_object();
    old.at -= Duration::from_secs(601);
    assert_eq!(ask(&old.presigned(&keys, Duration::from_secs(600))).status, 403);
    let unsigned = replaced(&get_object().unsigned(), "/bucket/key", &good);
    let both = replaced(&unsigned, "host:", "authorization: AWS4-HMAC-SHA256 Credential=x\r\nhost:");
    assert!((400..=403).contains(&Peer::connect(site.proxy).ask(&both).status), "two credentials");
    assert_eq!(upstream.received().len(), 1);
    let authorization = upstream.received()[0].header("authorization").is_some();
    assert!(authorization || upstream.received()[0].target.contains("X-Amz-Signature"));
    assert!(!upstream.received()[0].target.contains(&keys.id));
}

#[test]
fn presigned_url_of_a_held_action_is_held_too() {
    let upstream = Upstream::answering("");
    let rules = "rules:\n  - id: deletes\n    match: { action: [aws:s3:DeleteObject] }\n    decision: hold\n    approvers: [security]\n";
    let site = Setup::new(upstream.url()).rules(rules).start();
    let keys = site.agent("bot", "olga").keys;
    let delete = Draft::new("s3", "s3.us-east-1.amazonaws.com", "DELETE", "/bucket/key");
    let target = delete.presigned(&keys, Duration::from_secs(600));
    let bytes = Draft::new("s3", "s3.us-east-1.amazonaws.com", "DELETE", &target).unsigned();
    let mut peer = Peer::connect(site.proxy);
    peer.send(&bytes);
    let id = site.pending(1).remove(0);
    assert_eq!(upstream.received().len(), 0);
    site.decide("alice", &id, "allow");
    assert_eq!(peer.read().unwrap().status, 200);
    // The URL can be used again by whoever has it; the approval cannot.
    Peer::connect(site.proxy).try_send(&bytes).unwrap();
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn key_of_a_revoked_agent_opens_nothing() {
    let (upstream, site, keys) = site();
    assert_eq!(Peer::connect(site.proxy).ask(&list_users().signed(&keys)).status, 200);
    site.done(&["agent", "revoke", "bot"]);
    crate::support::wait_for("the revocation to be seen", || {
        (Peer::connect(site.proxy).ask(&list_users().signed(&keys)).status == 403).then_some(())
    });
    let seen = upstream.received().len();
    Peer::connect(site.proxy).ask(&list_users().signed(&keys));
    assert_eq!(upstream.received().len(), seen);
}

/// A key id is no secret. What is sent with one has to be read before its signature can be checked,
/// but not without bound.
#[test]
fn a_key_id_alone_does_not_fill_the_disk() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).config("bodies: { disk_unproven: 128KiB }\n").start();
    let keys = site.agent("bot", "olga").keys;
    let forged = Keys { id: keys.id.clone(), secret: "guessed".to_owned() };
    let form = |bytes: usize| format!("Action=ListUsers&Version=2010-05-08&PathPrefix=/{}/", "a".repeat(bytes));
    let ask = |bytes: usize, keys: &Keys| {
        Peer::connect(site.proxy).ask(&Draft::query("iam", "iam.amazonaws.com", &form(bytes)).signed(keys))
    };
    assert_eq!(ask(100_000, &forged).status, 403);
    let answer = ask(300_000, &forged);
    assert!(answer.status != 403, "it was read whole: {}", answer.text());
    assert!(answer.text().contains("before their signature can be checked"), "{}", answer.text());
    assert_eq!(upstream.received().len(), 0);
    assert_eq!(ask(100_000, &keys).status, 200);
}
