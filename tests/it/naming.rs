//! `countersign classify` and live traffic give a request the same name.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::peer::Peer;
use crate::support::sign::Draft;
use crate::support::site::Setup;
use crate::support::upstream::{CALLER, Upstream};
use crate::support::{CREATED, wait_for};

fn drafts() -> Vec<(Draft, &'static str)> {
    let s3 = |method: &str, target: &str| Draft::new("s3", "s3.us-east-1.amazonaws.com", method, target);
    let query = |service: &str, form: &str| Draft::query(service, &format!("{service}.us-east-1.amazonaws.com"), form);
    let json = |service: &str, target: &str, body: &str| {
        Draft::json(service, &format!("{service}.us-east-1.amazonaws.com"), target, body)
    };
    vec![
        (Draft::query("iam", "iam.amazonaws.com", "Action=ListUsers&Version=2010-05-08"), "aws:iam:ListUsers"),
        (query("sts", "Action=GetCallerIdentity&Version=2011-06-15"), "aws:sts:GetCallerIdentity"),
        (query("ec2", "Action=DescribeInstances&Version=2016-11-15"), "aws:ec2:DescribeInstances"),
        (query("rds", "Action=DescribeDBInstances&Version=2014-10-31"), "aws:rds:DescribeDBInstances"),
        (query("cloudformation", "Action=ListStacks&Version=2010-05-15"), "aws:cloudformation:ListStacks"),
        (s3("GET", "/"), "aws:s3:ListBuckets"),
        (s3("GET", "/bucket?list-type=2&prefix=a"), "aws:s3:ListObjectsV2"),
        (s3("GET", "/bucket/key%20with%2Fslash"), "aws:s3:GetObject"),
        (s3("HEAD", "/bucket/key"), "aws:s3:HeadObject"),
        (s3("GET", "/bucket?location"), "aws:s3:GetBucketLocation"),
        (
            json("dynamodb", "DynamoDB_20120810.GetItem", r#"{"TableName":"t","Key":{"id":{"S":"1"}}}"#),
            "aws:dynamodb:GetItem",
        ),
        (json("kms", "TrentService.ListKeys", "{}"), "aws:kms:ListKeys"),
        (json("sqs", "AmazonSQS.ListQueues", "{}"), "aws:sqs:ListQueues"),
        (json("secretsmanager", "secretsmanager.ListSecrets", "{}"), "aws:secretsmanager:ListSecrets"),
        (
            json("cloudtrail", "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.DescribeTrails", "{}"),
            "aws:cloudtrail:DescribeTrails",
        ),
        (
            Draft::new("lambda", "lambda.us-east-1.amazonaws.com", "GET", "/2015-03-31/functions/"),
            "aws:lambda:ListFunctions",
        ),
    ]
}

#[test]
fn classify_says_what_live_traffic_is_recorded_as() {
    let upstream = Upstream::answering("{}");
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let mut lines = String::new();
    for (index, (draft, _)) in drafts().iter().enumerate() {
        let bytes = draft.signed(&keys);
        let text = String::from_utf8(bytes.clone()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let headers: Vec<Value> = head
            .lines()
            .skip(1)
            .map(|line| json!([line.split_once(": ").unwrap().0, line.split_once(": ").unwrap().1]))
            .collect();
        let line = json!({
            "id": index.to_string(),
            "method": draft.method,
            "url": format!("https://{}{}", draft.host, draft.target),
            "headers": headers,
            "body_base64": base64::engine::general_purpose::STANDARD.encode(body),
        });
        lines.push_str(&format!("{line}\n"));
        let mut peer = Peer::connect(site.proxy);
        peer.send(&bytes);
        if draft.method != "HEAD" {
            let answer = peer.read().unwrap();
            assert_eq!(answer.status, 200, "{}{}: {}", draft.host, draft.target, answer.text());
        } else {
            assert_eq!(peer.head().unwrap().0, 200);
        }
    }
    let mut child =
        site.command(&["classify", "--plane", "aws"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let offline: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["actions"][0]["action"].as_str().unwrap().to_owned())
        .collect();
    let expected: Vec<&str> = drafts().iter().map(|(_, name)| *name).collect();
    assert_eq!(offline, expected);
    let live = crate::support::wait_for("the records of passed requests", || {
        let records = site.records();
        let passed = records.iter().filter(|record| record["type"] == "action.passed");
        let names: Vec<String> = passed.map(|record| record["action"].as_str().unwrap().to_owned()).collect();
        (names.len() == expected.len()).then_some(names)
    });
    assert_eq!(live, expected);
    site.verify();
}

/// The requests of the table, each signed by an agent: none arrives, whatever the pool has of connections and
/// whatever they are in classify's eyes.
#[test]
fn what_has_two_readings_does_not_arrive() {
    let upstream = Upstream::answering("{}");
    let config = "rules: { unknown: deny }\nendpoint_hosts: [proxy.corp]\n";
    let site = Setup::new(upstream.url()).config(config).start();
    let keys = site.agent("bot", "olga").keys;
    let table = include_str!("../data/aws-ambiguous.jsonl");
    let (mut count, mut denied) = (0, 0);
    for line in table.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| row[name].as_str().unwrap_or_default();
        let (region, service) = text("scope").split_once('/').unwrap_or(("us-east-1", "iam"));
        let rest = text("url").split_once("://").unwrap().1;
        let (host, target) = rest.split_at(rest.find('/').unwrap());
        let mut draft = Draft::new(service, host, text("method"), target);
        draft.region = region.to_owned();
        for field in row["headers"].as_array().unwrap() {
            draft = draft.header(field[0].as_str().unwrap(), field[1].as_str().unwrap());
        }
        draft.body = match row["base64"].as_str() {
            Some(body) => base64::engine::general_purpose::STANDARD.decode(body).unwrap(),
            None => text("body").as_bytes().to_vec(),
        };
        // What AWS's own signer cannot write has no valid signature either.
        let signed = std::panic::catch_unwind(|| draft.signed(&keys));
        let bytes = signed.unwrap_or_else(|_| draft.unsigned());
        let mut peer = Peer::connect(site.proxy);
        peer.send(&bytes);
        let (status, _) = peer.head().unwrap_or_else(|| panic!("no answer: {line}"));
        assert!((400..500).contains(&status), "{status}: {line}");
        count += 1;
    }
    for record in site.records() {
        assert_ne!(record["type"], "action.passed", "{record}");
        denied += usize::from(record["type"] == "action.denied");
    }
    assert_eq!(upstream.received().len(), 0);
    assert!(count >= 150 && denied >= 50, "{denied} of {count} were named unknown and denied");
    site.verify();
}

#[test]
fn what_cannot_be_named_does_not_pass() {
    let upstream = Upstream::answering("{}");
    let rules = "rules:\n  - id: nothing\n    match: { action: [aws:iam:DeleteUser] }\n    decision: deny\n";
    let site = Setup::new(upstream.url()).rules(rules).config("rules: { unknown: deny }\n").start();
    let keys = site.agent("bot", "olga").keys;
    let iam = |form: &str| Draft::query("iam", "iam.amazonaws.com", form);
    for (name, draft) in [
        ("operation nobody knows", iam("Action=GrantEverything&Version=2010-05-08")),
        ("two operations", iam("Action=ListUsers&Action=DeleteUser&Version=2010-05-08")),
        ("operation in query and body", {
            let mut draft = iam("Action=ListUsers&Version=2010-05-08");
            draft.target = "/?Action=DeleteUser".to_owned();
            draft
        }),
        ("unknown query key", Draft::new("s3", "s3.us-east-1.amazonaws.com", "DELETE", "/bucket/key?annotation")),
        ("two subresources", Draft::new("s3", "s3.us-east-1.amazonaws.com", "GET", "/bucket?acl&policy")),
        ("unknown host", Draft::query("iam", "iam.example.com", "Action=ListUsers&Version=2010-05-08")),
        (
            "unknown target",
            Draft::json("dynamodb", "dynamodb.us-east-1.amazonaws.com", "DynamoDB_20990101.GetItem", "{}"),
        ),
        ("no JSON", Draft::json("dynamodb", "dynamodb.us-east-1.amazonaws.com", "DynamoDB_20120810.GetItem", "{]")),
        (
            "duplicate member",
            Draft::json(
                "dynamodb",
                "dynamodb.us-east-1.amazonaws.com",
                "DynamoDB_20120810.GetItem",
                r#"{"TableName":"a","TableName":"b"}"#,
            ),
        ),
    ] {
        let answer = Peer::connect(site.proxy).ask(&draft.signed(&keys));
        assert!((400..=403).contains(&answer.status), "{name}: {} {}", answer.status, answer.text());
        assert_eq!(upstream.received().len(), 0, "{name} passed");
    }
    site.verify();
}

/// An STS that resets every connection until it is switched on.
fn sts() -> (String, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let is_on = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_on);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if is_on.load(Ordering::SeqCst) {
                // One read takes the whole of so small a request, or its client asks again.
                drop(stream.read(&mut [0; 16384]));
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\nconnection: close\r\n";
                drop(write!(stream, "{head}content-length: {}\r\n\r\n{CALLER}", CALLER.len()));
            }
        }
    });
    (url, switch)
}

/// An STS that could not be reached at the start is asked again: names have the account as soon as
/// it is known, and what was asked before that still runs as it was asked.
#[test]
fn the_account_is_learned_when_sts_comes_back() {
    let upstream = Upstream::answering(CREATED);
    let (sts, switch) = sts();
    let site = Setup::new(upstream.url()).upstream_config(&format!("sts_endpoint: {sts}")).start();
    let keys = site.agent("bot", "olga").keys;
    let send = |form: &str| {
        let mut peer = Peer::connect(site.proxy);
        peer.send(&Draft::query("iam", "iam.amazonaws.com", form).signed(&keys));
        peer
    };
    let mut held = send("Action=CreateAccessKey&Version=2010-05-08&UserName=early");
    let id = site.pending(1).remove(0);
    assert_eq!(site.hold(&id)["actions"][0]["resources"], json!(["arn:aws:iam::*:user/early"]));
    switch.store(true, Ordering::SeqCst);
    wait_for("names with the account", || {
        send("Action=GetUser&Version=2010-05-08&UserName=later").read().unwrap();
        let named = json!(["arn:aws:iam::123456789012:user/later"]);
        site.records().iter().any(|record| record["resources"] == named).then_some(())
    });
    site.decide("alice", &id, "allow");
    let answer = held.read().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.count("UserName=early"), 1);
}
