//! Answers of AWS that come to more than rules let pass: what unmodified boto3 gets, what the upstream
//! sees, and what stands in the log.

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::cloud::cloud;
use crate::support::peer::Peer;
use crate::support::sign::{Draft, Keys};
use crate::support::site::{Setup, Site};
use crate::support::upstream::{Reaction, Upstream};
use crate::support::wait_for;

const RULES: &str = "\
rules:
  - id: objects
    match: { action: ['aws:s3:*'], agent: bot }
    volume: { rows: 3, window: 1h }
    decision: hold
    approvers: [security]
  - id: large
    match: { action: ['aws:s3:*'], agent: sip }
    volume: { bytes: 1MiB }
    decision: hold
    approvers: [security]
  - id: items
    match: { action: ['aws:dynamodb:*'], agent: bot }
    volume: { rows: 6, window: 1h }
    decision: hold
    approvers: [security]
  - id: no-more
    match: { action: ['aws:s3:*'], agent: strict }
    volume: { rows: 2, window: 1h }
    decision: deny
    message: Two and no more.
  - id: asked-first
    match: { action: ['aws:s3:GetObject'], agent: sip, resource: ['*asked*'] }
    decision: hold
    approvers: [security]
";

fn site(upstream: &str) -> Site {
    // What exports data is held by default; here only its volume counts.
    Setup::new(upstream).rules(RULES).config("rules: { privileged: allow }\n").start()
}

/// Runs the snippet at the cloud itself.
#[track_caller]
fn prepare(snippet: &str) -> Value {
    let keys = Keys { id: "AKIAADMINADMINADMINA".to_owned(), secret: "secret".to_owned() };
    let result = Agent { endpoint: cloud().url.clone(), keys, extra: Vec::new() }.run(snippet);
    assert!(result.get("error").is_none(), "{result}");
    result
}

/// A bucket with one large object and several small ones; the SHA-256 of the large one.
#[track_caller]
fn bucket(name: &str) -> Value {
    prepare(&format!(
        "import hashlib, os
s3, large = client('s3'), os.urandom(5 << 20)
s3.create_bucket(Bucket='{name}')
for key in range(6): s3.put_object(Bucket='{name}', Key=str(key), Body=b'x' * 1000)
s3.put_object(Bucket='{name}', Key='large', Body=large)
s3.put_object(Bucket='{name}', Key='asked', Body=large)
result = dict(sha256=hashlib.sha256(large).hexdigest())"
    ))
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer}: {value}"))
}

#[test]
fn the_call_after_a_full_window_is_held() {
    bucket("volume-a");
    let site = site(&cloud().url);
    let call = site.agent("bot", "olga").start(
        "s3 = client('s3')
result = [len(s3.get_object(Bucket='volume-a', Key=str(key))['Body'].read()) for key in range(5)]",
    );
    let id = site.pending(1).remove(0);
    let hold = site.hold(&id);
    assert_eq!(text(&hold, "/request/headers/volume limit"), "objects: 3 rows of the agent in 3600 s");
    assert!(text(&hold, "/request/url").ends_with("/volume-a/3"), "{hold}");
    site.decide("alice", &id, "allow");
    // The window begins anew with the one that was allowed.
    assert_eq!(call.wait(), serde_json::json!([1000, 1000, 1000, 1000, 1000]));
    let history = site.history(&id);
    assert_eq!(history, ["action.held", "approval.vote", "action.approved", "action.forward", "action.outcome"]);
    assert_eq!(site.wait_for_record(&id, "action.outcome")["status"], 200);
    assert_eq!(site.holds().len(), 1);
    site.verify();
}

/// It is not sent, and its client hears of the denial in its own dialect.
#[test]
fn a_denied_call_after_a_full_window_is_not_sent() {
    let upstream = Upstream::start(|_| Reaction::Stream(1000));
    let site = site(&upstream.url());
    let code = "s3 = client('s3', retries={'total_max_attempts': 1})
result = [len(s3.get_object(Bucket='bucket', Key=str(key))['Body'].read()) for key in range(5)]";
    let call = site.agent("bot", "olga").start(code);
    let id = site.pending(1).remove(0);
    assert_eq!(upstream.received().len(), 3);
    site.decide("alice", &id, "deny");
    let told = call.wait();
    assert_eq!((text(&told, "/error"), &told["status"]), ("AccessDenied", &Value::from(403)), "{told}");
    assert!(text(&told, "/message").contains(&id), "{told}");
    assert_eq!(upstream.received().len(), 3);
    let told = site.agent("strict", "olga").run(code);
    assert!(text(&told, "/message").contains("Two and no more."), "{told}");
    assert_eq!(upstream.received().len(), 5);
    site.verify();
}

#[test]
fn a_large_object_pauses_and_arrives_whole() {
    let sha256 = bucket("volume-b");
    let site = site(&cloud().url);
    let code = |key: &str| {
        format!(
            "import hashlib
body = client('s3').get_object(Bucket='volume-b', Key='{key}')['Body'].read()
result = dict(sha256=hashlib.sha256(body).hexdigest())"
        )
    };
    let agent = site.agent("sip", "olga");
    let call = agent.start(&code("large"));
    let id = site.pending(1).remove(0);
    let held = site.wait_for_record(&id, "action.held");
    assert_eq!(held["passed"]["bytes"], 1 << 20, "{held}");
    let card = String::from_utf8(site.cli_as("alice", &["holds", "show", &id]).stdout).unwrap();
    assert!(card.contains("1048576 bytes") && card.contains("large: 1048576 bytes of one"), "{card}");
    site.decide("alice", &id, "allow");
    assert_eq!(call.wait(), sha256);
    assert_eq!(site.wait_for_state(&id, "executed")["upstream_status"], 200);

    // What people let run is not stopped once more.
    let call = agent.start(&code("asked"));
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "allow");
    assert_eq!(call.wait(), sha256);
    assert_eq!(site.holds().len(), 2);
    site.verify();
}

/// Nobody takes the part that passed for the object.
#[test]
fn a_denied_object_is_an_error_and_no_short_file() {
    bucket("volume-c");
    let site = site(&cloud().url);
    let agent = site.agent("sip", "olga");
    let call = agent.start("result = len(client('s3').get_object(Bucket='volume-c', Key='large')['Body'].read())");
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "deny");
    let told = call.wait();
    assert!(told["error"].is_string(), "{told}");
    assert_eq!(site.wait_for_record(&id, "action.denied")["passed"]["bytes"], 1 << 20);
    // The tools that fetch anew are told the same, and leave nothing behind.
    let file = site.folder.path().join("fetched");
    let code = format!(
        "from boto3.exceptions import *
import os
try:
    client('s3').download_file('volume-c', 'large', '{0}')
    result = 'whole'
except Exception as error:
    result = [type(error).__name__, os.path.exists('{0}')]",
        file.display()
    );
    let call = agent.start(&code);
    let told = call.wait();
    assert_eq!(told[1], false, "{told}");
    let outcomes = site.records().iter().filter(|it| it["type"] == "action.held").count();
    assert_eq!(outcomes, 1, "the same question is not asked again");
    site.verify();
}

const ITEMS: &str = "dynamo = client('dynamodb')
pages = []
for page in dynamo.get_paginator('scan').paginate(TableName='$', PaginationConfig=dict(PageSize=4)):
    pages.append(len(page['Items']))
result = pages";

/// Without a stated length, what passed must not look whole either: its last chunk never comes.
#[test]
fn a_denied_answer_in_chunks_has_no_end() {
    let upstream = Upstream::start(|_| Reaction::Chunks(48));
    let site = site(&upstream.url());
    let keys = site.agent("sip", "olga").keys;
    let get =
        |key: &str| Draft::new("s3", "s3.us-east-1.amazonaws.com", "GET", &format!("/bucket/{key}")).signed(&keys);
    for (key, word, length) in [("one", "allow", Some(48 << 16)), ("two", "deny", None)] {
        let mut peer = Peer::connect(site.proxy);
        peer.send(&get(key));
        let id = site.pending(1).remove(0);
        site.decide("alice", &id, word);
        assert_eq!(peer.read().map(|answer| answer.body.len()), length, "{word}");
        assert!(length.is_some() || peer.is_closed());
    }
    site.verify();
}

fn table(name: &str) {
    prepare(&format!(
        "dynamo = client('dynamodb')
dynamo.create_table(TableName='{name}', KeySchema=[dict(AttributeName='id', KeyType='HASH')], BillingMode='PAY_PER_REQUEST',
    AttributeDefinitions=[dict(AttributeName='id', AttributeType='S')])
for number in range(10):
    dynamo.put_item(TableName='{name}', Item=dict(id=dict(S=str(number)), Items=dict(L=[dict(S='not one'), dict(S='nor this')])))
result = {{}}"
    ));
}

#[test]
fn pages_of_a_scan_are_counted_by_their_items() {
    table("volume-d");
    let site = site(&cloud().url);
    let call = site.agent("bot", "olga").start(&ITEMS.replace('$', "volume-d"));
    let id = site.pending(1).remove(0);
    let held = site.wait_for_record(&id, "action.held");
    // Four of the first page, two of the second.
    assert_eq!(held["passed"]["rows"], 2, "{held}");
    site.decide("alice", &id, "allow");
    let pages = call.wait();
    let sum: u64 = pages.as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).sum();
    assert_eq!(sum, 10, "{pages}");
    assert_eq!(site.holds().len(), 1);
    site.verify();
}

/// The answer breaks off, the SDK calls again, and then hears of the denial.
#[test]
fn a_denied_page_is_an_error_in_the_clients_dialect() {
    table("volume-e");
    let site = site(&cloud().url);
    let call = site.agent("bot", "olga").start(&ITEMS.replace('$', "volume-e"));
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "deny");
    let told = call.wait();
    assert!(text(&told, "/error").contains("AccessDenied"), "{told}");
    assert!(text(&told, "/message").contains(&id), "{told}");
    assert_eq!(site.holds().len(), 1);
    site.verify();
}

/// A query that is answered in another form than JSON cannot be counted: it waits as one past the limit.
#[test]
fn what_cannot_be_counted_is_asked_about() {
    let upstream = Upstream::answering("<SelectResult/>");
    let site = site(&upstream.url());
    let call = site.agent("bot", "olga").start(
        "payload = client('s3').select_object_content(Bucket='bucket', Key='k', ExpressionType='SQL', Expression='SELECT 1',
    InputSerialization=dict(CSV={}), OutputSerialization=dict(CSV={}))['Payload']
try:
    result = [str(event) for event in payload]
except Exception as error:
    result = 'no events'",
    );
    let id = site.pending(1).remove(0);
    assert_eq!(site.wait_for_record(&id, "action.held")["passed"]["bytes"], 0);
    site.decide("alice", &id, "allow");
    assert_eq!(call.wait(), "no events");
}

#[test]
fn a_client_that_leaves_a_paused_answer_leaves_its_hold() {
    bucket("volume-f");
    let site = site(&cloud().url);
    let call = site
        .agent("sip", "olga")
        .start("result = len(client('s3').get_object(Bucket='volume-f', Key='large')['Body'].read())");
    let id = site.pending(1).remove(0);
    call.kill();
    wait_for("its client to be gone", || (site.hold(&id)["attached"] == 0).then_some(()));
    site.verify();
}
