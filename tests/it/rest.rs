//! The approver API as a program sees it, and the admin port.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::peer::Peer;
use crate::support::sign::Draft;
use crate::support::site::{Setup, Site, shown};
use crate::support::upstream::Upstream;
use crate::support::{CREATED, PATIENCE, root, wait_for};

fn site_and_hold() -> (Upstream, Site, Peer, String) {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let form = "Action=CreateAccessKey&Version=2010-05-08&UserName=u";
    let draft = Draft::query("iam", "iam.amazonaws.com", form);
    let mut peer = Peer::connect(site.proxy);
    peer.send(&draft.signed(&keys));
    let id = site.pending(1).remove(0);
    (upstream, site, peer, id)
}

fn error(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap();
    assert!(!value["message"].as_str().unwrap().is_empty());
    value["error"].as_str().unwrap().to_owned()
}

#[test]
fn document_is_served_to_anyone_as_committed() {
    let upstream = Upstream::answering("");
    let site = Setup::new(upstream.url()).start();
    let answer = site.api("", "GET", "/openapi.json", None);
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.text(), fs::read_to_string(root().join("docs/openapi.json")).unwrap());
}

#[test]
fn nothing_is_told_without_a_valid_token() {
    let (_upstream, site, _peer, id) = site_and_hold();
    let agent_key = site.agent("other", "olga").keys.secret;
    let revoked = site.new_token("carol");
    let listed = site.done(&["approver", "list", "--json"]);
    site.done(&["approver", "revoke", "carol"]);
    wait_for("the revocation", || (site.api(&revoked, "GET", "/v1/holds", None).status == 401).then_some(()));
    for token in ["", "x", "cst_aaaa", &agent_key, &revoked, revoked.split_at(20).0] {
        for path in ["/v1/holds", &format!("/v1/holds/{id}"), "/v1/holds/watch", "/v1/holds/h_nosuch"] {
            let answer = site.api(token, "GET", path, None);
            assert!(matches!(answer.status, 401 | 429), "{token} {path}: {}", answer.text());
            assert_eq!(answer.status == 401, error(&answer.text()) == "unauthenticated");
            assert!(!answer.text().contains(&id));
        }
        let body = json!({"verdict": "allow", "reason": "r"});
        let answer = site.api(token, "POST", &format!("/v1/holds/{id}/verdict"), Some(&body));
        assert!(matches!(answer.status, 401 | 429));
        if token.is_empty() {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert!(!listed.contains(&revoked));
    let many = (0..80).map(|_| site.api("x", "GET", "/v1/holds", None).status).collect::<Vec<_>>();
    assert!(many.contains(&429), "{many:?}");
    assert_eq!(site.api(site.token("alice"), "GET", "/v1/holds", None).status, 200, "a valid token always passes");
    assert_eq!(site.hold(&id)["state"], "pending");
}

#[test]
fn answers_are_json_that_nobody_keeps() {
    let (_upstream, site, _peer, id) = site_and_hold();
    for (method, path, status, word) in [
        ("GET", "/v1/holds?state=pending", 400, "unknown_query"),
        ("GET", "/v1/holds/h_01nosuch", 404, "not_found"),
        ("GET", "/v1/holds/../holds", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("PUT", "/v1/holds", 405, "method_not_allowed"),
        ("GET", &format!("/v1/holds/{id}/verdict"), 405, "method_not_allowed"),
    ] {
        let answer = site.api(site.token("alice"), method, path, None);
        assert_eq!((answer.status, error(&answer.text()).as_str()), (status, word), "{method} {path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[test]
fn verdicts_are_read_strictly() {
    let (upstream, site, _peer, id) = site_and_hold();
    let path = format!("/v1/holds/{id}/verdict");
    for (body, status, word) in [
        (json!({"verdict": "allow"}), 422, "invalid"),
        (json!({"verdict": "allow", "reason": "  "}), 422, "reason_missing"),
        (json!({"verdict": "allow", "reason": "r".repeat(2001)}), 422, "invalid"),
        (json!({"verdict": "Allow", "reason": "r"}), 422, "invalid"),
        (json!({"verdict": "allow", "reason": "r", "person": "bob"}), 422, "invalid"),
        (json!({"verdict": "allow", "reason": "r", "digest": "abc"}), 422, "invalid"),
        (json!({"verdict": "allow", "reason": "r", "digest": "0".repeat(64)}), 409, "digest_changed"),
        (json!({"verdict": "allow", "reason": "r", "parameters": {}}), 422, "invalid"),
        (json!({"verdict": "modify", "reason": "r"}), 422, "invalid"),
        (json!(["allow"]), 422, "invalid"),
        (json!({"verdict": "allow", "reason": "r", "pad": "x".repeat(70_000)}), 413, "too_large"),
    ] {
        let answer = site.api(site.token("alice"), "POST", &path, Some(&body));
        let shown: String = body.to_string().chars().take(90).collect();
        assert_eq!((answer.status, error(&answer.text()).as_str()), (status, word), "{}", shown);
    }
    let mut draft = Draft::new("api", &site.api.to_string(), "POST", &path)
        .header("authorization", &format!("Bearer {}", site.token("alice")))
        .header("content-type", "text/plain");
    draft.body = br#"{"verdict":"allow","reason":"r"}"#.to_vec();
    let answer = Peer::connect(site.api).ask(&draft.unsigned());
    assert_eq!((answer.status, error(&answer.text()).as_str()), (415, "unsupported_media_type"));
    assert_eq!(site.hold(&id)["state"], "pending");
    assert!(upstream.received().is_empty());
}

#[test]
fn same_verdict_again_is_answered_as_the_first() {
    let (upstream, site, mut peer, id) = site_and_hold();
    let digest = site.hold(&id)["digest"].clone();
    let path = format!("/v1/holds/{id}/verdict");
    let body = json!({"verdict": "allow", "reason": "yes", "digest": digest});
    assert_eq!(site.api(site.token("alice"), "POST", &path, Some(&body)).status, 200);
    assert_eq!(peer.read().unwrap().status, 200);
    let answer = site.api(site.token("alice"), "POST", &path, Some(&body));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let hold: Value = serde_json::from_str(&answer.text()).unwrap();
    assert_eq!((&hold["state"], hold["votes"].as_array().unwrap().len()), (&json!("executed"), 1));
    // Another word, or another person, is not a repetition.
    let other = json!({"verdict": "deny", "reason": "no"});
    let answer = site.api(site.token("alice"), "POST", &path, Some(&other));
    assert_eq!((answer.status, error(&answer.text()).as_str()), (410, "not_open"));
    assert_eq!(site.api(site.token("bob"), "POST", &path, Some(&body)).status, 410);
    assert_eq!(upstream.count("CreateAccessKey"), 1);
    site.verify();
}

#[test]
fn cancelled_hold_tells_its_agent_so() {
    let (upstream, site, mut peer, id) = site_and_hold();
    let refused = site.cli_as("olga", &["cancel", &id, "--reason", "mine"]);
    assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused));
    let output = site.cli_as("alice", &["cancel", &id, "--reason", "wrong account"]);
    assert!(output.status.success(), "{}", shown(&output));
    let answer = peer.read().unwrap();
    assert!(answer.text().contains(&id) && !answer.text().contains("denied by"), "{}", answer.text());
    assert_eq!(site.hold(&id)["state"], "cancelled");
    assert!(upstream.received().is_empty());
    site.verify();
}

#[test]
fn watch_tells_each_change_as_it_comes() {
    let (_upstream, site, _peer, id) = site_and_hold();
    let draft = Draft::new("api", &site.api.to_string(), "GET", "/v1/holds/watch")
        .header("authorization", &format!("Bearer {}", site.token("bob")));
    let mut watcher = Peer::connect(site.api);
    watcher.send(&draft.unsigned());
    let (status, headers) = watcher.head().unwrap();
    assert_eq!(status, 200);
    assert!(headers.contains(&("content-type".to_owned(), "text/event-stream".to_owned())), "{headers:?}");
    let mut wait = |part: &str| {
        wait_for(part, || {
            let chunk = watcher.chunk()?;
            let text = String::from_utf8_lossy(&chunk).into_owned();
            (text.contains(&id) && text.contains(part)).then_some(())
        });
    };
    wait("\"state\":\"pending\"");
    site.decide("alice", &id, "deny");
    wait("\"state\":\"denied\"");
}

/// A stream is no second token: it ends with the one it was opened with.
#[test]
fn watch_ends_with_its_token() {
    let (_upstream, site, _peer, _id) = site_and_hold();
    let issue = |lifetime: &str| -> Value {
        let words = ["approver", "add", "bob", "--lifetime", lifetime, "--json"];
        serde_json::from_str(&site.done(&words)).unwrap()
    };
    for lifetime in ["1d", "3s"] {
        let issued = issue(lifetime);
        let draft = Draft::new("api", &site.api.to_string(), "GET", "/v1/holds/watch")
            .header("authorization", &format!("Bearer {}", issued["token"].as_str().unwrap()));
        let mut watcher = Peer::connect(site.api);
        watcher.send(&draft.unsigned());
        assert_eq!(watcher.head().unwrap().0, 200);
        assert!(!watcher.chunk().unwrap().is_empty(), "it begins with the holds as they are");
        if lifetime == "1d" {
            site.done(&["approver", "revoke", issued["id"].as_str().unwrap()]);
        }
        // Heartbeats would go on for as long as one looks.
        let begun = Instant::now();
        while !watcher.chunk().expect("a proper end of the stream").is_empty() {
            assert!(begun.elapsed() < PATIENCE / 2, "{lifetime}: it goes on");
        }
    }
}

#[test]
fn command_line_lists_what_waits() {
    let (_upstream, site, _peer, id) = site_and_hold();
    let lines = |arguments: &[&str]| {
        let output = site.cli_as("alice", arguments);
        assert!(output.status.success(), "{}", shown(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(lines(&["holds", "list", "--ids"]), format!("{id}\n"));
    assert!(lines(&["holds", "list"]).contains("aws:iam:CreateAccessKey"));
    assert_eq!(lines(&["holds", "show", &id]), site.hold(&id)["card"].as_str().unwrap());
    let shown: Value = serde_json::from_str(&lines(&["holds", "show", &id, "--json"])).unwrap();
    assert_eq!(shown["id"], id);
    let (digest, _) = shown["digest"].as_str().unwrap().split_at(12);
    let stale = site.cli_as("alice", &["approve", &id, "--reason", "r", "--digest", "000000000000"]);
    assert_eq!(stale.status.code(), Some(1));
    lines(&["deny", &id, "--reason", "r", "--digest", digest]);
    assert_eq!(lines(&["holds", "list", "--ids"]), "");
    assert_eq!(lines(&["holds", "list", "--all", "--ids"]), format!("{id}\n"));
}

#[test]
fn admin_port_tells_health_and_nothing_else() {
    let upstream = Upstream::answering("");
    let site = Setup::new(upstream.url()).start();
    let ask = |method: &str, path: &str| {
        Peer::connect(site.admin).ask(&Draft::new("admin", &site.admin.to_string(), method, path).unsigned())
    };
    assert_eq!((ask("GET", "/healthz").status, ask("GET", "/readyz").status), (200, 200));
    assert_eq!((ask("POST", "/healthz").status, ask("GET", "/v1/holds").status), (405, 404));
    let metrics = ask("GET", "/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert_eq!(site.metric("countersign_rules"), 2);
}

#[test]
fn own_log_can_be_json() {
    let upstream = Upstream::answering("");
    let site = Setup::new(upstream.url()).config("log: { format: json, level: debug }\n").start();
    let log = wait_for("the server to say that it is ready", || Some(site.log()).filter(|log| log.contains("ready")));
    for line in log.lines().filter(|line| !line.contains(" listening on ")) {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["level"].is_string() && entry["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn rules_are_taken_up_and_a_bad_set_is_not() {
    let upstream = Upstream::answering("<ListUsersResponse/>");
    let site = Setup::new(upstream.url()).start();
    let file = site.data().join("rules/rules.yaml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, "rules:\n  - id: x\n    decision: alow\n").unwrap();
    wait_for("the bad set to be refused", || (site.metric("countersign_rule_reload_errors_total") == 1).then_some(()));
    assert!(site.log().contains("did you mean `allow`"), "{}", site.log());
    assert_eq!(site.metric("countersign_rules"), 2);
    let more = format!("{good}  - id: more\n    match: {{ action: [aws:iam:ListUsers] }}\n    decision: deny\n");
    fs::write(&file, more).unwrap();
    wait_for("the good set to be in force", || (site.metric("countersign_rules") == 3).then_some(()));
    wait_for("the change to be recorded", || {
        site.records().iter().any(|it| it["type"] == "policy.change" && it.get("before").is_some()).then_some(())
    });
}

#[test]
fn people_are_taken_up_on_sighup() {
    let (_upstream, site, mut peer, id) = site_and_hold();
    let file = site.data().join("countersign.yaml");
    let text = fs::read_to_string(&file).unwrap();
    // Whom the rule asks is now the agent's owner alone.
    fs::write(&file, text.replace("groups: [security]", "groups: [gardening]")).unwrap();
    site.signal("HUP");
    site.wait_for_state(&id, "no-approver");
    assert!((400..500).contains(&peer.read().unwrap().status));
    fs::write(&file, "people: 7\n").unwrap();
    site.signal("HUP");
    wait_for("the bad configuration to be refused", || {
        site.log().contains("the configuration is refused").then_some(())
    });
    assert_eq!(site.api(site.token("alice"), "GET", "/v1/holds", None).status, 200);
}

#[test]
fn stop_lets_held_clients_go_and_keeps_their_holds() {
    let (upstream, mut site, mut peer, id) = site_and_hold();
    let draft = Draft::new("api", &site.api.to_string(), "GET", "/v1/holds/watch")
        .header("authorization", &format!("Bearer {}", site.token("bob")));
    let mut watcher = Peer::connect(site.api);
    watcher.send(&draft.unsigned());
    assert_eq!(watcher.head().unwrap().0, 200);
    site.signal("TERM");
    let answer = peer.read().unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains(&id), "{}", answer.text());
    assert_eq!(site.wait_for_exit(), Some(0), "an open watch must not hold up the stop");
    assert!(!site.data().join("run.json").exists());
    site.verify();
    site.serve();
    assert_eq!(site.hold(&id)["state"], "pending");
    assert!(upstream.received().is_empty());
}

/// A token that is still good shows nothing to somebody who has no place in the configuration any more.
#[test]
fn person_taken_out_of_the_configuration_reads_nothing() {
    let (_upstream, site, _peer, _id) = site_and_hold();
    let file = site.data().join("countersign.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let token = site.token("alice").to_owned();
    fs::write(&file, text.replace("alice", "alicia")).unwrap();
    site.signal("HUP");
    wait_for("the token to be refused", || (site.api(&token, "GET", "/v1/holds", None).status == 403).then_some(()));
    assert_eq!(site.api(site.token("bob"), "GET", "/v1/holds", None).status, 200);
}
