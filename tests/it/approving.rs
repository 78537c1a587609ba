//! The API for programs: tokens that only look, verdicts sent twice, streams that go on where they ended.

use serde_json::{Value, json};

use crate::support::CREATED;
use crate::support::peer::{Answer, Peer};
use crate::support::sign::Draft;
use crate::support::site::{HOLD_KEYS, Setup, Site};
use crate::support::upstream::Upstream;

fn site(upstream: &Upstream, rules: &str) -> (Site, Peer, String) {
    let site = Setup::new(upstream.url()).rules(rules).start();
    let keys = site.agent("bot", "olga").keys;
    let mut peer = Peer::connect(site.proxy);
    let form = "Action=CreateAccessKey&Version=2010-05-08&UserName=admin";
    peer.send(&Draft::query("iam", "iam.amazonaws.com", form).signed(&keys));
    let id = site.pending(1).remove(0);
    (site, peer, id)
}

#[test]
fn a_token_to_look_with_decides_nothing() {
    let upstream = Upstream::answering(CREATED);
    let (site, _peer, id) = site(&upstream, HOLD_KEYS);
    let said: Value =
        serde_json::from_str(&site.done(&["approver", "add", "alice", "--scope", "read", "--json"])).unwrap();
    assert_eq!(said["scope"], "read");
    let token = said["token"].as_str().unwrap();
    assert_eq!(site.api(token, "GET", "/v1/holds", None).status, 200);
    let verdict = json!({"verdict": "allow", "reason": "r"});
    let [cancel, preview] = [json!({"reason": "r"}), json!({"parameters": {"UserName": "x"}})];
    for (path, body) in [("verdict", &verdict), ("cancel", &cancel), ("preview", &preview)] {
        let answer = site.api(token, "POST", &format!("/v1/holds/{id}/{path}"), Some(body));
        assert_eq!(
            (answer.status, answer.text().contains("insufficient_scope")),
            (403, true),
            "{path}: {}",
            answer.text()
        );
        assert!(answer.header("www-authenticate").unwrap().contains("insufficient_scope"));
    }
    assert_eq!(site.hold(&id)["state"], "pending");
    assert!(site.done(&["approver", "list"]).lines().any(|line| line.contains("alice") && line.contains("read")));
    assert_eq!(site.cli(&["approver", "add", "alice", "--scope", "all"]).status.code(), Some(2));
}

#[test]
fn a_verdict_under_a_key_counts_once() {
    let rules = HOLD_KEYS.replace("approvers: [security]", "approvers: [security]\n    quorum: 2");
    let upstream = Upstream::answering(CREATED);
    let (site, mut peer, id) = site(&upstream, &rules);
    let send = |person: &str, key: &str, body: &Value| -> Answer {
        let token = format!("Bearer {}", site.token(person));
        let path = format!("/v1/holds/{id}/verdict");
        let mut draft = Draft::new("api", &site.api.to_string(), "POST", &path)
            .header("authorization", &token)
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        draft.body = body.to_string().into_bytes();
        Peer::connect(site.api).ask(&draft.unsigned())
    };
    let digest = site.hold(&id)["digest"].clone();
    let modify = json!({"verdict": "modify", "reason": "r", "digest": digest, "parameters": {"UserName": "intern"}});
    let first = send("alice", "k-1", &modify);
    assert_eq!(first.status, 200, "{}", first.text());
    let again = send("alice", "k-1", &modify);
    assert_eq!((again.status, again.text()), (200, first.text()));
    // Without the key it is another modification, of what is not there any more.
    assert_eq!(send("alice", "k-2", &modify).status, 409);
    let other = json!({"verdict": "deny", "reason": "r"});
    let reused = send("alice", "k-1", &other);
    assert_eq!((reused.status, reused.text().contains("idempotency_key_reused")), (422, true), "{}", reused.text());
    assert_eq!(site.hold(&id)["state"], "pending", "a key that was used says nothing new");
    for key in ["", &"k".repeat(256)] {
        assert_eq!(send("alice", key, &other).status, 422);
    }
    // Another person's key of the same name is another key; a refusal is not kept.
    let stale = json!({"verdict": "allow", "reason": "r", "digest": digest});
    assert_eq!(send("bob", "k-1", &stale).status, 409);
    let digest = site.hold(&id)["digest"].clone();
    assert_eq!(send("bob", "k-3", &json!({"verdict": "allow", "reason": "r", "digest": digest})).status, 200);
    assert_eq!(peer.read().unwrap().status, 200);
    assert_eq!(upstream.count("UserName=intern"), 1);
    let votes = site.history(&id).iter().filter(|kind| *kind == "approval.vote").count();
    assert_eq!(votes, 2);
    site.verify();
}

/// Reads events until one says that, and gives the id of that one and all that came.
#[track_caller]
fn follow(site: &Site, path: &str, last: Option<&str>, until: &str) -> (String, String) {
    let mut draft = Draft::new("api", &site.api.to_string(), "GET", path)
        .header("authorization", &format!("Bearer {}", site.token("alice")));
    if let Some(last) = last {
        draft = draft.header("last-event-id", last);
    }
    let mut peer = Peer::connect(site.api);
    peer.send(&draft.unsigned());
    let (status, fields) = peer.head().unwrap();
    assert_eq!(status, 200);
    assert!(fields.iter().any(|(name, value)| name == "content-type" && value == "text/event-stream"));
    let mut text = String::new();
    while !text.contains(until) {
        text.push_str(&String::from_utf8(peer.chunk().unwrap()).unwrap());
    }
    let id = text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap().to_owned();
    (id, text)
}

#[test]
fn a_stream_goes_on_where_it_ended() {
    let upstream = Upstream::answering(CREATED);
    let (site, mut peer, id) = site(&upstream, HOLD_KEYS);
    let (last, text) = follow(&site, "/v1/holds/events", None, "\"pending\"");
    assert!(text.starts_with("event: hold\n"), "{text}");
    site.decide("alice", &id, "allow");
    assert_eq!(peer.read().unwrap().status, 200);
    let path = format!("/v1/holds/{id}/events");
    for path in ["/v1/holds/events", path.as_str()] {
        let (_, text) = follow(&site, path, Some(&last), "\"executed\"");
        assert!(!text.contains("\"state\":\"pending\""), "{text}");
    }
    let (now, _) = follow(&site, &path, None, "\"executed\"");
    assert_ne!(now, last);
    assert_eq!(site.api(site.token("alice"), "GET", "/v1/holds/h_0/events", None).status, 404);
}
