//! Two requests on one connection: the upstream sees as many as were answered, whatever stands between them.

use serde_json::json;

use crate::support::peer::Peer;
use crate::support::sign::{Draft, Keys};
use crate::support::site::Setup;
use crate::support::upstream::Upstream;
use crate::support::wait_for;

/// A signed upload of this body, framed by these lines in place of its Content-Length.
fn upload(keys: &Keys, lines: &str, body: &str) -> Vec<u8> {
    let draft = Draft::new("s3", "s3.us-east-1.amazonaws.com", "PUT", "/bucket/first");
    let head = String::from_utf8(draft.signed_head(keys, 0, None)).unwrap();
    assert!(head.contains("content-length: 0\r\n"), "{head}");
    format!("{}{body}", head.replacen("content-length: 0\r\n", lines, 1)).into_bytes()
}

#[test]
fn the_upstream_sees_as_many_requests_as_were_answered() {
    let upstream = Upstream::answering("");
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let second = Draft::new("s3", "s3.us-east-1.amazonaws.com", "GET", "/bucket/second").signed(&keys);
    let hidden = String::from_utf8(second.clone()).unwrap();
    let (mut answered, mut refused) = (0, 0);
    for (name, lines, body) in [
        ("length", "content-length: 5\r\n", "hello"),
        ("chunks", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ("both", "content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ("both, the other way", "transfer-encoding: chunked\r\ncontent-length: 5\r\n", "0\r\n\r\n"),
        ("two lengths", "content-length: 0\r\ncontent-length: 5\r\n", "hello"),
        ("signed length", "content-length: +5\r\n", "hello"),
        ("coding with a tab", "transfer-encoding\t: chunked\r\n", "0\r\n\r\n"),
        ("folded coding", "x: y\r\n transfer-encoding: chunked\r\n", "0\r\n\r\n"),
        ("alias of the length", "content_length: 5\r\n", "hello"),
        ("coding that is none", "transfer-encoding: xchunked\r\ncontent-length: 5\r\n", "hello"),
        ("bare CR", "x: y\rcontent-length: 5\r\n", "hello"),
        ("bare LF", "x: y\ncontent-length: 5\r\n", "hello"),
        ("two hosts", "host: iam.amazonaws.com\r\ncontent-length: 0\r\n", ""),
        ("hop-by-hop", "connection: x-amz-date\r\ncontent-length: 0\r\n", ""),
        ("chunk extension", "transfer-encoding: chunked\r\n", "5;a=\n\r\nhello\r\n0\r\n\r\n"),
        ("chunk size", "transfer-encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("trailer", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\nx-amz-target: y\r\n\r\n"),
    ] {
        let mut bytes = upload(&keys, lines, body);
        bytes.extend_from_slice(&second);
        let mut peer = Peer::connect(site.proxy);
        peer.send(&bytes);
        let first = peer.read().unwrap();
        if matches!(name, "length" | "chunks") {
            assert_eq!(first.status, 200, "{name}");
            assert_eq!(peer.read().unwrap().status, 200, "{name}");
            answered += 2;
        } else {
            assert_eq!(first.status, 400, "{name}: {}", first.text());
            assert!(peer.is_closed(), "{name}");
            refused += 1;
        }
    }
    // A request that is the body of another is nobody's request.
    let len = hidden.len();
    let status = Peer::connect(site.proxy).ask(&upload(&keys, &format!("content-length: {len}\r\n"), &hidden)).status;
    assert_eq!(status, 200);
    answered += 1;
    let received: Vec<_> = upstream.received().iter().map(|one| (one.target.clone(), one.body_bytes)).collect();
    // A streamed body may break off at the upstream; it never arrives whole.
    let whole = received.iter().filter(|(target, bytes)| target == "/bucket/second" || *bytes > 0).count();
    assert_eq!(whole, answered, "{received:?}");
    assert_eq!(site.metric("countersign_refused_total"), refused);
    let records = wait_for("every refusal in the log", || {
        let mut records = site.records();
        records.retain(|record| record["type"] == "action.refused");
        let left_out: i64 = records.iter().filter_map(|record| record["suppressed"].as_i64()).sum();
        (i64::try_from(records.len()).unwrap() + left_out == refused).then_some(records)
    });
    for record in &records {
        assert_eq!((&record["code"], &record["peer"]), (&json!("400 Bad Request"), &json!("127.0.0.1")), "{record}");
        assert!(!record["message"].as_str().unwrap().is_empty(), "{record}");
        assert!(!record.to_string().contains("/bucket/first"), "none of the bytes: {record}");
    }
    site.verify();
}
