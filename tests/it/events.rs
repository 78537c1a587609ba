//! Streams of signed events, both ways at once: the SDK for JavaScript before an upstream that speaks HTTP/2 alone
//! and has each event checked by the SDK's own signer.

use serde_json::{Value, json};

use crate::support::agent::{Agent, Call};
use crate::support::peak_bytes;
use crate::support::peer::Peer;
use crate::support::sign::{Draft, Keys};
use crate::support::site::{HOLD_KEYS, REAL_KEY, REAL_SECRET, Setup, Site};
use crate::support::talker::Talker;
use crate::support::wait_for;

mod attack;

const HELD: &str = "\
rules:
  - id: speech
    match: { action: [aws:transcribe:StartStreamTranscription] }
    decision: hold
    approvers: [security]
";

fn talk(agent: &Agent, mode: &str) -> Call {
    agent.start_js("talk", &json!({ "mode": mode }).to_string())
}

/// That the upstream had every event, each signed with the real credential, and the end.
#[track_caller]
fn check_whole(stream: &Value, events: u64, bytes: u64) {
    let of = |name: &str| stream[name].clone();
    assert_eq!((of("head"), of("fault"), of("closed")), (json!(true), Value::Null, json!(true)), "{stream}");
    assert_eq!((of("events"), of("bytes")), (json!(events), json!(bytes)), "{stream}");
    assert_eq!(of("claim"), "STREAMING-AWS4-HMAC-SHA256-EVENTS");
}

#[test]
fn both_sides_talk_at_once_through_every_door() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).rules(HOLD_KEYS).with_doors().start();
    let bot = site.agent("bot", "olga");
    for (index, door) in ["endpoint", "tls", "proxy", "transparent"].into_iter().enumerate() {
        let agent = match door {
            "endpoint" => bot.clone(),
            "tls" => {
                let agent = Agent { endpoint: site.tls.clone().unwrap(), ..bot.clone() };
                agent.with("NODE_EXTRA_CA_CERTS", site.data().join("ca.pem").to_str().unwrap())
            }
            door => {
                let script = crate::support::root().join("tests/js/doors.cjs");
                let agent = site.at_door("bot", door);
                if door == "proxy" {
                    agent.with("NODE_OPTIONS", &format!("--require={}", script.display()))
                } else {
                    agent
                }
            }
        };
        let result = talk(&agent, "fine").wait();
        assert_eq!(result["results"], json!([1, 2, 3]), "{door}: {result}");
        check_whole(&talker.next(index), 3, 9600);
    }
    let named = |record: &&Value| record["action"] == "aws:transcribe:StartStreamTranscription";
    assert_eq!(site.records().iter().filter(named).count(), 4);
    assert_eq!(site.metric("countersign_unknown_total"), 0);
    site.verify();
}

#[test]
fn an_upstream_with_tls_is_asked_for_http2() {
    let folder = tempfile::TempDir::new().unwrap();
    let (certificate, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let talker = Talker::with_tls(&certificate, &key);
    let site = Setup::new(talker.url()).upstream_config(&format!("extra_ca: {}", certificate.display())).start();
    let result = talk(&site.agent("bot", "olga"), "late").wait();
    assert_eq!(result["results"], json!([1, 2, 3]), "{result}");
    check_whole(&talker.next(0), 3, 9600);
}

#[test]
fn a_held_stream_waits_and_flows_once_it_is_approved() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).rules(HELD).start();
    let agent = site.agent("bot", "olga");
    let mut call = talk(&agent, "fine");
    let id = site.pending(1).remove(0);
    assert!(call.is_running());
    assert_eq!(talker.ended().len(), 0);
    let card = String::from_utf8(site.cli_as("alice", &["holds", "show", &id]).stdout).unwrap();
    assert!(card.contains("a stream of events; nobody has seen it"), "{card}");
    site.decide("alice", &id, "allow");
    let result = call.wait();
    assert_eq!(result["results"], json!([1, 2, 3]), "{result}");
    check_whole(&talker.next(0), 3, 9600);
    assert!(site.history(&id).contains(&"action.outcome".to_owned()), "{:?}", site.history(&id));

    let call = talk(&agent, "fine");
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "deny");
    let result = call.wait();
    assert_eq!((&result["error"], &result["status"]), (&json!("AccessDeniedException"), &json!(403)), "{result}");
    assert!(result["message"].as_str().unwrap().contains(&id), "{result}");
    assert_eq!(talker.ended().len(), 1, "nothing was sent");
    site.verify();
}

#[test]
fn what_an_agent_says_before_the_decision_is_bounded() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).rules(HELD).start();
    let agent = site.agent("bot", "olga");
    let before = peak_bytes(site.server_id());
    let argument = json!({ "mode": "deaf", "events": 2000, "size": 32_000, "waits": false });
    let call = agent.start_js("talk", &argument.to_string());
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "allow");
    call.wait();
    check_whole(&talker.next(0), 2000, 64_000_000);
    let grown = peak_bytes(site.server_id()) - before;
    assert!(grown < 24 << 20, "{grown} bytes");
}

#[test]
fn a_hundred_megabytes_of_events_take_no_memory() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).start();
    let agent = site.agent("bot", "olga");
    assert_eq!(talk(&agent, "fine").wait()["results"], json!([1, 2, 3]));
    let before = peak_bytes(site.server_id());
    let argument = json!({ "mode": "fine", "events": 3200, "size": 32_000, "waits": false });
    let result = agent.start_js("talk", &argument.to_string()).wait();
    assert_eq!(result["results"], 3200, "{result}");
    check_whole(&talker.next(1), 3200, 102_400_000);
    let grown = peak_bytes(site.server_id()) - before;
    assert!(grown < 24 << 20, "{grown} bytes");
    site.verify();
}

#[test]
fn an_answer_that_ends_otherwise_says_so() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).start();
    let agent = site.agent("bot", "olga");
    let mut count = 0;
    let mut ask = |mode: &str| {
        let result = talk(&agent, mode).wait();
        count += 1;
        (result, talker.next(count - 1))
    };
    let (result, _) = ask("refuses");
    assert_eq!((&result["error"], &result["status"]), (&json!("BadRequestException"), &json!(400)), "{result}");
    let (result, _) = ask("ends");
    assert_eq!(result["results"], json!([1]), "{result}");
    // A reset without events is no error to this SDK; it is told no less than without countersign.
    let keys = Keys { id: REAL_KEY.to_owned(), secret: REAL_SECRET.to_owned() };
    let direct = Agent { endpoint: talker.url(), keys, extra: Vec::new() };
    for mode in ["resets", "goes away"] {
        let (result, expected) = (talk(&agent, mode).wait(), talk(&direct, mode).wait());
        for member in ["results", "heard", "error", "status"] {
            assert_eq!(result[member], expected[member], "{mode}: {result} {expected}");
        }
    }
    site.verify();
}

#[test]
fn an_agent_that_leaves_takes_its_stream_along() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).start();
    let agent = site.agent("bot", "olga");
    let argument = json!({ "mode": "deaf" });
    let call = agent.start_js("talk", &argument.to_string());
    wait_for("the stream to begin", || site.records().iter().any(|it| it["type"] == "action.passed").then_some(()));
    call.kill();
    let stream = talker.next(0);
    assert_eq!((&stream["closed"], &stream["events"]), (&json!(false), &json!(1)), "{stream}");
}

#[test]
fn answers_as_events_pass_before_they_end() {
    use crate::support::upstream::{Reaction, Upstream};
    let upstream = Upstream::start(|_| Reaction::Trickle("application/vnd.amazon.eventstream"));
    for rules in [HOLD_KEYS, ALLOWED] {
        let site = Setup::new(upstream.url()).rules(rules).start();
        let keys = site.agent("bot", "olga").keys;
        for (service, host, target) in [
            ("bedrock", "bedrock-runtime.us-east-1.amazonaws.com", "/model/m/invoke-with-response-stream"),
            ("lambda", "lambda.us-east-1.amazonaws.com", "/2021-11-15/functions/f/response-streaming-invocations"),
        ] {
            let mut draft = Draft::new(service, host, "POST", target).header("content-type", "application/json");
            draft.body = b"{}".to_vec();
            let mut peer = Peer::connect(site.proxy);
            peer.send(&draft.signed(&keys));
            assert_eq!(peer.head().unwrap().0, 200);
            assert_eq!(peer.chunk().unwrap(), b"first", "{service} while the upstream has more to say");
            upstream.open();
            assert_eq!(peer.chunk().unwrap(), b"last");
            assert_eq!(peer.chunk().unwrap(), b"");
            upstream.close();
        }
        site.verify();
    }
}

const ALLOWED: &str = "\
rules:
  - id: streams
    match: { action: ['aws:bedrock:*', 'aws:lambda:*'] }
    decision: allow
";

#[test]
fn websockets_are_refused_by_name() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let host = "transcribestreaming.us-east-1.amazonaws.com:8443";
    let target = "/stream-transcription-websocket?language-code=en-US&media-encoding=pcm&sample-rate=16000";
    let mut draft = Draft::new("transcribe", host, "GET", target);
    draft.target = draft.presigned(&keys, std::time::Duration::from_secs(300));
    let draft =
        draft.header("connection", "Upgrade").header("upgrade", "WebSocket").header("sec-websocket-version", "13");
    let answer = Peer::connect(site.proxy).ask(&draft.unsigned());
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("WebSocket"), "{}", answer.text());
    let refused = wait_for("a record", || site.records().into_iter().find(|it| it["type"] == "action.refused"));
    assert!(refused.to_string().contains("WebSocket"), "{refused}");
}
