//! Holds in Slack: what Slack's own SDK says of every message.

use serde_json::{Value, json};

use crate::support::site::{HOLD_KEYS, shown};
use crate::support::slack::Workspace;

const CREATE_KEY: &str = "result = client('iam').create_access_key(UserName='u')['AccessKey']['Status']";

/// Everything a message shows, in order.
fn text(call: &Value) -> String {
    fn collect(value: &Value, text: &mut String) {
        match value {
            Value::Object(members) => {
                text.extend(members.get("text").and_then(Value::as_str));
                members.values().for_each(|member| collect(member, text));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, text)),
            _ => {}
        }
    }
    let mut text = String::new();
    collect(&call["arguments"]["blocks"], &mut text);
    text
}

#[test]
fn a_hold_stands_in_slack_and_its_message_says_how_it_ended() {
    let workspace = Workspace::start();
    let (mut site, _upstream) = workspace.site_of_keys();
    let call = site.agent("bot", "olga").start(CREATE_KEY);
    let id = site.pending(1).remove(0);
    let posted = workspace.call("chat.postMessage", |_| true);
    assert_eq!(posted["arguments"]["channel"], "C0OPS");
    let shown = text(&posted);
    for part in
        [id.as_str(), "PENDING", "bot asks to create access key", "\"UserName\": \"u\"", "may decide now: alice, bob"]
    {
        assert!(shown.contains(part), "{shown}");
    }
    // A new process goes on with the message of the last one.
    site.kill();
    site.serve();
    site.verdict("alice", &id, "deny", "no <!here> *no*");
    let ended = workspace.call("chat.update", |call| text(call).contains("DENIED"));
    assert_eq!(ended["arguments"]["ts"], posted["reply"]["ts"]);
    assert!(!ended.to_string().contains("\"actions\""), "{ended}");
    let told = workspace.call("chat.postMessage", |call| call["arguments"]["thread_ts"] == posted["reply"]["ts"]);
    assert!(text(&told).contains("deny by alice: \"no <!here> *no*\""), "{told}");
    assert_eq!(
        workspace.calls("chat.postMessage").iter().filter(|it| it["arguments"].get("thread_ts").is_none()).count(),
        1
    );
    call.kill();
}

#[test]
fn slack_is_asked_again_when_it_says_so() {
    let workspace = Workspace::start();
    workspace.refuse(
        "chat.postMessage",
        429,
        &json!({"retry-after": "2"}),
        &json!({"ok": false, "error": "ratelimited"}),
    );
    let (site, _upstream) = workspace.site_of_keys();
    let call = site.agent("bot", "olga").start(CREATE_KEY);
    let id = site.pending(1).remove(0);
    workspace.call("chat.postMessage", |call| call["status"] == 200);
    assert!(site.log().contains("wait_s=2"), "{}", site.log());
    site.decide("alice", &id, "allow");
    assert_eq!(call.wait(), "Active");
}

#[test]
fn what_an_agent_writes_stays_text_and_within_the_limits() {
    let workspace = Workspace::start();
    let rules =
        "rules:\n  - id: all\n    match: { action: ['aws:*'] }\n    decision: hold\n    approvers: [security]\n";
    let (site, _upstream) = workspace.site(rules, "map_by_email: true");
    let agent = site.agent("bot", "olga");
    let mut calls = Vec::new();
    for attack in [
        "<!channel> <@U1> <!subteam^S1> @here *bold* ~no~ `code` <https://evil.example|the page>",
        "x\\nDECIDE  may decide now: everyone\\u202etxt\\u200b\\u3164",
        "&lt;!channel&gt; & < > </pre> ```",
    ] {
        let snippet = format!("client('iam').tag_user(UserName='u', Tags=[{{'Key': 'k', 'Value': \"{attack}\"}}])");
        calls.push(agent.start(&snippet));
    }
    let long = "client('dynamodb').execute_statement(Statement='SELECT 1 -- ' + '<&>' * 70000)";
    let wide =
        "client('dynamodb').put_item(TableName='t', Item={f'key{n}': {'S': '<!channel>' * 4} for n in range(1000)})";
    calls.extend([long, wide].map(|snippet| agent.start(snippet)));
    let ids = site.pending(5);
    let messages: Vec<_> =
        ids.iter().map(|id| workspace.call("chat.postMessage", |call| text(call).contains(id.as_str()))).collect();
    assert_eq!(messages.iter().filter(|it| text(it).contains("shown in part")).count(), 2);
    for message in &messages {
        let labels = bold(message);
        let begins: Vec<_> = labels.iter().filter(|it| !it.starts_with('[')).map(|it| it.trim_end()).collect();
        assert_eq!(
            begins,
            ["WHO", "WHAT", "WHERE", "WHY", "REQUEST", "REACH", "DECIDE", "TIME", "DIGEST"],
            "{message}"
        );
        assert!(text(message).chars().all(|c| !"\u{202e}\u{200b}\u{3164}".contains(c)), "{message}");
    }
    calls.into_iter().for_each(|call| call.kill());
}

/// The texts in bold: what the message itself says.
fn bold(call: &Value) -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) if value["style"]["bold"] == true => {
                found.push(members["text"].as_str().unwrap().to_owned());
            }
            Value::Object(members) => members.values().for_each(|member| collect(member, found)),
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&call["arguments"]["blocks"], &mut found);
    found
}

#[test]
fn a_mistake_in_the_set_up_is_named() {
    let workspace = Workspace::start();
    let (site, _upstream) = workspace.site(HOLD_KEYS, "");
    let works = site.cli(&["notify", "test", "ops"]);
    assert_eq!(works.status.code(), Some(0), "{}", shown(&works));
    for (error, advice) in [
        ("not_in_channel", "invite the app"),
        ("invalid_auth", "put a new one in its place"),
        ("missing_scope", "lacks the scope `chat:write`"),
    ] {
        workspace.refuse(
            "chat.postMessage",
            200,
            &json!({}),
            &json!({"ok": false, "error": error, "needed": "chat:write"}),
        );
        let said = shown(&site.cli(&["notify", "test", "ops"]));
        assert!(said.contains(error) && said.contains(advice), "{said}");
    }
    std::fs::write(site.data().join("slack.token"), "xoxb-2-secret").unwrap();
    let said = shown(&site.cli(&["notify", "test", "ops"]));
    assert!(said.contains("invalid_auth") && !said.contains("xoxb-2"), "{said}");
}

#[test]
fn a_click_and_a_reason_release_a_held_call() {
    let workspace = Workspace::start();
    workspace.member("UALICE", "Alice@example.com", &json!({}));
    let (site, upstream) = workspace.site_of_keys();
    let call = site.agent("bot", "olga").start(CREATE_KEY);
    let id = site.pending(1).remove(0);
    let posted = workspace.call("chat.postMessage", |_| true);
    let ts = &posted["reply"]["ts"];
    let dialog = workspace.click(&site, ts, "allow", "UALICE");
    assert_eq!(workspace.submit(&site, &dialog, "UALICE", &json!({"reason": "as agreed"})), Value::Null);
    assert_eq!(call.wait(), "Active");
    assert_eq!(upstream.received().len(), 1);
    let vote = site.wait_for_record(&id, "approval.vote");
    assert!(vote.to_string().contains("T0HOME/UALICE") && vote.to_string().contains("\"slack\""), "{vote}");
    let ended = workspace.call("chat.update", |call| text(call).contains("EXECUTED"));
    assert!(!ended.to_string().contains("\"button\""), "{ended}");
    // The button of an old screen.
    let button = posted["arguments"]["blocks"].as_array().unwrap().last().unwrap()["elements"][0].clone();
    let order = json!({"do": "click", "ts": ts, "action": "allow", "user": "UALICE", "button": button});
    workspace.interact(&site, order);
    let told = workspace.call("chat.postEphemeral", |_| true);
    assert!(told["arguments"]["text"].as_str().unwrap().contains("not open any more: it is executed"), "{told}");
    site.verify();
}

#[test]
fn whoever_may_not_decide_is_told_why_and_nothing_happens() {
    let workspace = Workspace::start();
    let guest = json!({"is_restricted": true});
    for (user, email, more) in [
        ("UOLGA", "olga@example.com", json!({})),
        ("UCAROL", "carol@example.com", json!({})),
        ("UGUEST", "alice@example.com", guest),
        ("UGONE", "alice@example.com", json!({"deleted": true})),
        ("UAPP", "alice@example.com", json!({"is_bot": true})),
        ("UFAR", "alice@example.com", json!({"team_id": "T0FAR", "is_stranger": true})),
        ("UCLAIMS", "alice@example.com", json!({"is_email_confirmed": false})),
        ("UNOBODY", "nobody@example.com", json!({})),
    ] {
        workspace.member(user, email, &more);
    }
    let (site, upstream) = workspace.site_of_keys();
    let call = site.agent("bot", "olga").start(CREATE_KEY);
    let id = site.pending(1).remove(0);
    let ts = workspace.call("chat.postMessage", |_| true)["reply"]["ts"].clone();
    for (user, why) in [
        ("UOLGA", "being the request's owner"),
        ("UCAROL", "in none of the groups"),
        ("UGUEST", "guests decide nothing"),
        ("UGONE", "deactivated"),
        ("UAPP", "an app decides nothing"),
        ("UFAR", "only members of T0HOME"),
        ("UCLAIMS", "belongs to no person"),
        ("UNOBODY", "belongs to no person"),
        ("UUNKNOWN", "user_not_found"),
    ] {
        let dialog = workspace.click(&site, &ts, "allow", user);
        let wrong = workspace.submit(&site, &dialog, user, &json!({"reason": "please"}));
        assert!(wrong["reason"].as_str().is_some_and(|it| it.contains(why)), "{user}: {wrong}");
    }
    let dialog = workspace.click(&site, &ts, "modify", "UOLGA");
    let wrong = workspace.submit(&site, &dialog, "UOLGA", &json!({"reason": "x", "parameters": "{"}));
    assert!(wrong["parameters"].as_str().unwrap().contains("no JSON object"), "{wrong}");
    assert_eq!((site.hold(&id)["state"].as_str(), upstream.received().len()), (Some("pending"), 0));
    call.kill();
}

#[test]
fn what_slack_did_not_sign_just_now_is_refused() {
    let workspace = Workspace::start();
    workspace.member("UALICE", "alice@example.com", &json!({}));
    let (site, upstream) = workspace.site_of_keys();
    let call = site.agent("bot", "olga").start(CREATE_KEY);
    let id = site.pending(1).remove(0);
    let ts = workspace.call("chat.postMessage", |_| true)["reply"]["ts"].clone();
    let dialog = workspace.click(&site, &ts, "deny", "UALICE");
    let order = |more: Value| {
        let mut order = json!({"do": "submit", "view": dialog["reply"]["view"]["id"], "user": "UALICE", "values": {"reason": "no"}});
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order
    };
    for forged in [
        json!({"offset": -310}),
        json!({"offset": 310}),
        json!({"secret": "8f742231b10e8888abcd99yyyzzz85a6"}),
        json!({"tampered": "x=y&"}),
    ] {
        assert_eq!(workspace.interact(&site, order(forged.clone()))["statuses"], json!([401]), "{forged}");
    }
    assert_eq!(site.hold(&id)["state"], "pending");
    assert_eq!(workspace.interact(&site, order(json!({"times": 2})))["statuses"], json!([200, 401]));
    assert_eq!((site.hold(&id)["state"].as_str(), upstream.received().len()), (Some("denied"), 0));
    call.kill();
}

#[test]
fn two_who_decide_at_once_are_one_decision() {
    let workspace = Workspace::start();
    workspace.member("UALICE", "alice@example.com", &json!({}));
    // By the configured account, whatever the address.
    workspace.member("UBOB", "other@example.com", &json!({}));
    let (site, upstream) = workspace.site_of_keys();
    let call = site.agent("bot", "olga").start(CREATE_KEY);
    let id = site.pending(1).remove(0);
    let ts = workspace.call("chat.postMessage", |_| true)["reply"]["ts"].clone();
    let tags: Vec<_> = ["UALICE", "UBOB"]
        .map(|user| {
            let view = workspace.click(&site, &ts, "allow", user)["reply"]["view"]["id"].clone();
            json!({"do": "submit", "view": view, "user": user, "values": {"reason": "yes"}})
        })
        .into_iter()
        .map(|order| workspace.begin(&site, order))
        .collect();
    let said: Vec<_> = tags.iter().map(|tag| workspace.answer(tag)["said"].as_str().unwrap().to_owned()).collect();
    assert_eq!(said.iter().filter(|it| it.is_empty()).count(), 1, "{said:?}");
    assert_eq!(call.wait(), "Active");
    assert_eq!(upstream.received().len(), 1);
    assert_eq!(site.history(&id).iter().filter(|kind| *kind == "approval.vote").count(), 1);
}
