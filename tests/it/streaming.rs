//! Large bodies pass both ways with flat memory.

use std::io::{Read, Write};
use std::net::TcpStream;

use aws_lc_rs::digest;

use crate::support::peer::Peer;
use crate::support::sign::{Draft, Keys, chunked};
use crate::support::site::{REAL_KEY, REAL_SECRET, Setup, Site};
use crate::support::upstream::{Reaction, Received, Upstream};

const MIB: u64 = 1 << 20;
/// What a body may add to the peak of resident memory, whatever its size.
const ALLOWANCE_KIB: u64 = 24 * 1024;

fn peak_kib(site: &Site) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.server_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn zeroes_sha256(bytes: u64) -> String {
    let (mut hash, block) = (digest::Context::new(&digest::SHA256), vec![0; 1 << 20]);
    for _ in 0..bytes / MIB {
        hash.update(&block);
    }
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends that many zeroes as one object and returns what the peak of memory grew by.
fn upload(bytes: u64, is_signed: bool) -> u64 {
    let upstream = Upstream::answering("");
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let draft = Draft::new("s3", "s3.us-east-1.amazonaws.com", "PUT", "/bucket/large");
    // One small object first, so that what any object costs is not counted.
    let mut small = draft.clone();
    small.body = vec![0; 1 << 20];
    assert_eq!(Peer::connect(site.proxy).ask(&small.signed(&keys)).status, 200);
    let before = peak_kib(&site);

    let sha256 = zeroes_sha256(bytes);
    let mut stream = TcpStream::connect(site.proxy).unwrap();
    stream.write_all(&draft.signed_head(&keys, bytes, is_signed.then_some(sha256.as_str()))).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(bytes), &mut stream).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");

    let received = upstream.received().remove(1);
    assert_eq!((received.body_bytes, received.body_sha256), (bytes, sha256));
    site.verify();
    peak_kib(&site) - before
}

#[test]
fn unsigned_upload_takes_no_memory() {
    let grown = upload(256 * MIB, false);
    assert!(grown < ALLOWANCE_KIB, "{grown} KiB");
}

#[test]
fn signed_upload_takes_no_memory() {
    let grown = upload(256 * MIB, true);
    assert!(grown < ALLOWANCE_KIB, "{grown} KiB");
}

#[test]
#[ignore = "minutes: `make soak-upload`"]
fn five_gibibytes() {
    let grown = upload(5 * 1024 * MIB, false);
    assert!(grown < ALLOWANCE_KIB, "{grown} KiB");
}

#[test]
fn download_takes_no_memory() {
    let upstream = Upstream::start(|received| match received.target.contains("large") {
        true => Reaction::Stream(256 * MIB),
        false => Reaction::Stream(MIB),
    });
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let fetch = |key: &str, bytes: u64| {
        let mut peer = Peer::connect(site.proxy);
        let target = format!("/bucket/{key}");
        peer.send(&Draft::new("s3", "s3.us-east-1.amazonaws.com", "GET", &target).signed(&keys));
        assert_eq!(peer.head().unwrap().0, 200);
        peer.skip(bytes);
    };
    fetch("small", MIB);
    let before = peak_kib(&site);
    fetch("large", 256 * MIB);
    let grown = peak_kib(&site) - before;
    assert!(grown < ALLOWANCE_KIB, "{grown} KiB");
}

#[test]
fn a_body_that_is_not_what_was_signed_does_not_pass_whole() {
    let upstream = Upstream::answering("");
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let draft = Draft::new("s3", "s3.us-east-1.amazonaws.com", "PUT", "/bucket/key");
    let head = draft.signed_head(&keys, 4 * MIB, Some(&zeroes_sha256(MIB)));
    let mut peer = Peer::connect(site.proxy);
    drop(peer.try_send(&[head, vec![0; 4 << 20]].concat()));
    if let Some(answer) = peer.read() {
        assert!((400..=403).contains(&answer.status), "{}", answer.text());
    }
    assert_eq!(upstream.received().len(), 0, "the upstream must not take it for whole");
    site.verify();
}

#[test]
fn expect_100_continue_is_honoured() {
    let upstream = Upstream::answering("");
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let draft = Draft::new("s3", "s3.us-east-1.amazonaws.com", "PUT", "/bucket/key").header("expect", "100-continue");
    let mut peer = Peer::connect(site.proxy);
    peer.send(&draft.signed_head(&keys, MIB, Some(&zeroes_sha256(MIB))));
    assert_eq!(peer.interim(), 100);
    peer.send(&vec![0; 1 << 20]);
    assert_eq!(peer.read().unwrap().status, 200);
    assert_eq!(upstream.received()[0].body_bytes, MIB);
}

const HELD: &str = "\
rules:
  - id: uploads
    match: { action: [aws:s3:PutObject], resource: ['*/held*'] }
    decision: hold
    approvers: [security]
";

fn put(key: &str) -> Draft {
    Draft::new("s3", "s3.us-east-1.amazonaws.com", "PUT", &format!("/bucket/{key}"))
}

/// Whether what the upstream got is signed with the real credential, chunk by chunk.
#[track_caller]
fn is_signed_anew(received: &Received, chunks: &[&[u8]], trailer: Option<(&str, &str)>) {
    let seed = received.header("authorization").unwrap().rsplit_once("Signature=").unwrap().1;
    let date = received.header("x-amz-date").unwrap();
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).unwrap();
    let at = at.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().into();
    let keys = Keys { id: REAL_KEY.to_owned(), secret: REAL_SECRET.to_owned() };
    let expected = chunked(&keys, at, "us-east-1", seed, chunks, trailer);
    assert_eq!((received.body_bytes, &received.body_sha256), (expected.len() as u64, &sha256(&expected)));
    assert_eq!(received.header("content-encoding"), Some("aws-chunked"));
}

#[test]
fn signed_chunks_are_checked_and_signed_again() {
    let upstream = Upstream::answering("");
    let site = Setup::new(upstream.url()).rules(HELD).start();
    let keys = site.agent("bot", "olga").keys;
    let chunks: [&[u8]; 2] = [&[b'a'; 70_000], b"the end"];
    let trailer = Some(("x-amz-checksum-crc32c", "sOO8/Q=="));
    for (key, trailer) in [("plain", None), ("trailed", trailer), ("held", None), ("held-trailed", trailer)] {
        let mut peer = Peer::connect(site.proxy);
        peer.send(&put(key).signed_chunks(&keys, &chunks, trailer));
        if key.starts_with("held") {
            let id = site.pending(1).remove(0);
            site.decide("alice", &id, "allow");
        }
        assert_eq!(peer.read().unwrap().status, 200, "{key}");
        is_signed_anew(upstream.received().last().unwrap(), &chunks, trailer);
    }
    // An empty object has bytes, too.
    assert_eq!(Peer::connect(site.proxy).ask(&put("empty").signed_chunks(&keys, &[], None)).status, 200);
    is_signed_anew(upstream.received().last().unwrap(), &[], None);
    site.verify();
}

#[test]
fn a_retry_in_signed_chunks_joins_its_hold() {
    let upstream = Upstream::answering("");
    let site = Setup::new(upstream.url()).rules(HELD).start();
    let keys = site.agent("bot", "olga").keys;
    let mut draft = put("held").retry_id("one");
    let mut first = Peer::connect(site.proxy);
    first.send(&draft.signed_chunks(&keys, &[b"hello"], None));
    let id = site.pending(1).remove(0);
    drop(first);
    draft.at += std::time::Duration::from_secs(2);
    let mut second = Peer::connect(site.proxy);
    second.send(&draft.signed_chunks(&keys, &[b"hello"], None));
    site.wait_for_record(&id, "action.joined");
    site.decide("alice", &id, "allow");
    assert_eq!(second.read().unwrap().status, 200);
    assert_eq!(upstream.received().len(), 1);
    is_signed_anew(&upstream.received()[0], &[b"hello"], None);
    site.verify();
}

#[test]
fn a_chunk_that_was_bent_does_not_pass() {
    let upstream = Upstream::answering("");
    let site = Setup::new(upstream.url()).rules(HELD).start();
    let keys = site.agent("bot", "olga").keys;
    for key in ["held", "plain"] {
        for (from, to) in
            [("hello", "jello"), ("5;chunk", "5;other"), ("5;chunk", "6;chunk"), ("length: 5", "length: 6")]
        {
            let text = String::from_utf8(put(key).signed_chunks(&keys, &[b"hello"], None)).unwrap();
            assert!(text.contains(from));
            let answer = Peer::connect(site.proxy).ask(text.replace(from, to).as_bytes());
            assert!((400..500).contains(&answer.status), "{key} {from}: {}", answer.text());
            assert!(site.holds().iter().all(|hold| hold["state"] != "pending"), "{key} {from}");
        }
    }
    // The chunks of another request do not fit, though all of them are the agent's own.
    let (one, two) = (put("plain"), put("other"));
    let head = one.signed_chunks(&keys, &[b"hello"], None);
    let body = two.signed_chunks(&keys, &[b"hello"], None);
    let end = |bytes: &[u8]| bytes.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
    let mixed = [&head[..end(&head)], &body[end(&body)..]].concat();
    assert_eq!(Peer::connect(site.proxy).ask(&mixed).status, 403);
    assert!(upstream.received().is_empty(), "nothing arrived whole");
    site.verify();
}
