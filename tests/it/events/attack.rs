//! Streams that are not what their agent signed, sent by hand over HTTP/1.1.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::event_stream::{SigningParams, sign_empty_message, sign_message};
use aws_sigv4::sign::v4;
use aws_smithy_eventstream::frame::{read_message_from, write_message_to};
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};

use super::*;
use crate::support::sign::now;

fn draft(mode: &str) -> Draft {
    Draft::new("transcribe", "transcribestreaming.us-east-1.amazonaws.com", "POST", "/stream-transcription")
        .header("content-type", "application/vnd.amazon.eventstream")
        .header("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-EVENTS")
        .header("x-amzn-transcribe-language-code", "en-US")
        .header("x-amzn-transcribe-media-encoding", "pcm")
        .header("x-amzn-transcribe-sample-rate", "16000")
        .header("x-amzn-transcribe-vocabulary-name", mode)
}

fn bytes(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_message_to(message, &mut bytes).unwrap();
    bytes
}

fn speech(text: &str) -> Message {
    let header = |name: &'static str, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
    Message::new(text.to_owned())
        .add_header(header(":message-type", "event"))
        .add_header(header(":event-type", "AudioEvent"))
        .add_header(header(":content-type", "application/octet-stream"))
}

/// Signs events by AWS's own crate, one after the other.
struct Signer {
    keys: Keys,
    before: String,
    at: SystemTime,
}

impl Signer {
    fn next(&mut self, event: Option<&Message>) -> Vec<u8> {
        let identity = Credentials::new(&self.keys.id, &self.keys.secret, None, None, "tests").into();
        let parameters: SigningParams<'_> = v4::SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("transcribe")
            .time(self.at)
            .settings(())
            .build()
            .unwrap();
        let signed = match event {
            Some(event) => sign_message(event, &self.before, &parameters).unwrap(),
            None => sign_empty_message(&self.before, &parameters).unwrap(),
        };
        let (message, signature) = signed.into_parts();
        self.before = signature;
        bytes(&message)
    }

    /// Two events and the end.
    fn three(&mut self) -> [Vec<u8>; 3] {
        [self.next(Some(&speech("one"))), self.next(Some(&speech("two"))), self.next(None)]
    }
}

/// A connection on which a stream has begun.
fn begun(site: &Site, keys: &Keys, mode: &str) -> (Peer, Signer) {
    let draft = draft(mode);
    let (head, seed) = draft.signed_stream(keys, "STREAMING-AWS4-HMAC-SHA256-EVENTS");
    let mut peer = Peer::connect(site.proxy);
    peer.send(&head);
    (peer, Signer { keys: keys.clone(), before: seed, at: draft.at })
}

fn refused(site: &Site) -> Vec<Value> {
    site.records().into_iter().filter(|it| it["type"] == "action.refused").collect()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// The message with one header, or its payload, changed and its checksums right.
fn bent(event: &[u8], bend: impl Fn(Message) -> Message) -> Vec<u8> {
    bytes(&bend(read_message_from(event).unwrap()))
}

fn without(message: &Message, name: &str) -> Message {
    let kept = message.headers().iter().filter(|header| header.name().as_str() != name).cloned().collect();
    Message::new_from_parts(kept, message.payload().clone())
}

#[test]
fn what_was_signed_passes() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let (mut peer, mut signer) = begun(&site, &keys, "fine");
    let [one, two, end] = signer.three();
    // However it is cut.
    let all = [one, two, end].concat();
    for piece in all.chunks(7) {
        peer.send(&chunk(piece));
    }
    peer.send(b"0\r\n\r\n");
    let answer = peer.read().unwrap();
    assert_eq!(answer.status, 200);
    check_whole(&talker.next(0), 2, 6);
}

#[test]
fn what_was_not_signed_at_its_place_ends_the_stream_and_is_recorded() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let other = site.agent("other", "olga").keys;
    type Bend<'a> = Box<dyn Fn(&mut Signer) -> Vec<Vec<u8>> + 'a>;
    let cases: Vec<(&str, &str, u64, Bend<'_>)> = vec![
        (
            "altered",
            "InvalidSignatureException",
            1,
            Box::new(|signer| {
                let [one, two, end] = signer.three();
                let two = bent(&two, |it| Message::new_from_parts(it.headers().to_vec(), bytes(&speech("too"))));
                vec![one, two, end]
            }),
        ),
        (
            "dropped",
            "InvalidSignatureException",
            0,
            Box::new(|signer| {
                let [_, two, end] = signer.three();
                vec![two, end]
            }),
        ),
        (
            "reordered",
            "InvalidSignatureException",
            0,
            Box::new(|signer| {
                let [one, two, end] = signer.three();
                vec![two, one, end]
            }),
        ),
        (
            "repeated",
            "InvalidSignatureException",
            1,
            Box::new(|signer| {
                let [one, _, end] = signer.three();
                vec![one.clone(), one, end]
            }),
        ),
        (
            "from another stream",
            "InvalidSignatureException",
            0,
            Box::new(|signer| {
                let mut elsewhere = Signer { keys: signer.keys.clone(), before: "0".repeat(64), at: signer.at };
                elsewhere.three().to_vec()
            }),
        ),
        (
            "by another agent",
            "InvalidSignatureException",
            0,
            Box::new(|signer| {
                signer.keys = other.clone();
                signer.three().to_vec()
            }),
        ),
        (
            "another date",
            "InvalidSignatureException",
            0,
            Box::new(|signer| {
                let [one, two, end] = signer.three();
                let later = (signer.at + Duration::from_secs(1)).into();
                let one = bent(&one, |it| {
                    without(&it, ":date").add_header(Header::new(":date", HeaderValue::Timestamp(later)))
                });
                vec![one, two, end]
            }),
        ),
        (
            "from the past",
            "InvalidSignatureException",
            0,
            Box::new(|signer| {
                signer.at = now() - Duration::from_secs(700);
                signer.three().to_vec()
            }),
        ),
        (
            "from the future",
            "InvalidSignatureException",
            0,
            Box::new(|signer| {
                signer.at = now() + Duration::from_secs(700);
                signer.three().to_vec()
            }),
        ),
        (
            "no signature",
            "ValidationException",
            0,
            Box::new(|signer| {
                let [one, two, end] = signer.three();
                vec![bent(&one, |it| without(&it, ":chunk-signature")), two, end]
            }),
        ),
        (
            "not signed at all",
            "ValidationException",
            1,
            Box::new(|signer| {
                let [one, ..] = signer.three();
                vec![one, bytes(&speech("two"))]
            }),
        ),
        (
            "one more header",
            "ValidationException",
            0,
            Box::new(|signer| {
                let [one, two, end] = signer.three();
                let more = |it: Message| it.add_header(Header::new("x", HeaderValue::Bool(true)));
                vec![bent(&one, more), two, end]
            }),
        ),
        (
            "huge headers",
            "ValidationException",
            0,
            Box::new(|signer| {
                let mut event = speech("one");
                for _ in 0..40_000 {
                    event = event.add_header(Header::new("x", HeaderValue::Bool(true)));
                }
                vec![signer.next(Some(&event))]
            }),
        ),
        ("huge", "ValidationException", 0, Box::new(|signer| vec![signer.next(Some(&speech(&"a".repeat(1 << 20))))])),
        ("a length without an end", "ValidationException", 0, Box::new(|_| vec![vec![0xff; 64]])),
        (
            "checksum",
            "ValidationException",
            0,
            Box::new(|signer| {
                let mut one = signer.next(Some(&speech("one")));
                *one.last_mut().unwrap() ^= 1;
                vec![one]
            }),
        ),
        (
            "checksum of the lengths",
            "ValidationException",
            0,
            Box::new(|signer| {
                let mut one = signer.next(Some(&speech("one")));
                one[11] ^= 1;
                vec![one]
            }),
        ),
        (
            "signed twice",
            "ValidationException",
            0,
            Box::new(|signer| {
                let inner = signer.next(Some(&speech("one")));
                vec![signer.next(Some(&read_message_from(inner.as_slice()).unwrap()))]
            }),
        ),
        (
            "behind the end",
            "ValidationException",
            2,
            Box::new(|signer| {
                let [one, two, end] = signer.three();
                vec![one, two, end, signer.next(Some(&speech("three")))]
            }),
        ),
        (
            "no end",
            "ValidationException",
            2,
            Box::new(|signer| {
                let [one, two, _] = signer.three();
                vec![one, two]
            }),
        ),
        (
            "half an event",
            "ValidationException",
            1,
            Box::new(|signer| {
                let [one, two, _] = signer.three();
                vec![one, two[..40].to_vec()]
            }),
        ),
    ];
    for (index, (name, code, passed, bend)) in cases.into_iter().enumerate() {
        let (mut peer, mut signer) = begun(&site, &keys, "fine");
        // The answer has begun before anything is wrong.
        assert_eq!(peer.head().unwrap().0, 200, "{name}");
        let mut heard = Vec::new();
        for (place, event) in bend(&mut signer).into_iter().enumerate() {
            // It may be refused already.
            drop(peer.try_send(&chunk(&event)));
            if (place as u64) < passed {
                heard.extend(peer.chunk().unwrap_or_else(|| panic!("{name}: no answer to {place}")));
            }
        }
        drop(peer.try_send(b"0\r\n\r\n"));
        while let Some(piece) = peer.chunk().filter(|piece| !piece.is_empty()) {
            heard.extend(piece);
        }
        let said = String::from_utf8_lossy(&heard).into_owned();
        assert!(said.contains(":error-code") && said.contains(code), "{name}: {said}");
        let stream = talker.next(index);
        assert_eq!((&stream["head"], &stream["fault"]), (&json!(true), &Value::Null), "{name}: {stream}");
        assert_eq!(stream["events"], passed, "{name}: {stream}");
        assert!(name == "behind the end" || stream["closed"] == false, "{name}: {stream}");
        assert_ne!(stream["reset"], 0, "{name}: the upstream must not take it for whole: {stream}");
        let refused =
            wait_for("a record", || refused(&site).get(index..).filter(|it| !it.is_empty()).map(<[Value]>::to_vec));
        assert_eq!(refused.len(), 1, "{name}: {refused:?}");
        let last = refused.last().unwrap().to_string();
        assert!(last.contains(code) && last.contains("\"bot\""), "{name}: {last}");
    }
    site.verify();
}

#[test]
fn a_fault_before_the_answer_is_answered() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let (mut peer, mut signer) = begun(&site, &keys, "late");
    let [_, two, _] = signer.three();
    peer.send(&chunk(&two));
    let answer = peer.read().unwrap();
    assert_eq!((answer.status, answer.header("x-amzn-errortype")), (403, Some("InvalidSignatureException")));
    assert_eq!(talker.next(0)["events"], 0);
    let refused = wait_for("a record", || Some(refused(&site)).filter(|it| !it.is_empty()));
    assert_eq!(refused.len(), 1, "once");
}

#[test]
fn an_answer_in_the_middle_of_an_event_is_broken_off() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let (mut peer, mut signer) = begun(&site, &keys, "half");
    assert_eq!(peer.head().unwrap().0, 200);
    let [one, _, end] = signer.three();
    peer.send(&chunk(&one));
    assert_eq!(peer.chunk().unwrap().len(), 9);
    peer.send(&chunk(&end));
    assert_eq!(peer.chunk(), None, "no event can be put in there");
}

#[test]
fn an_agent_that_does_not_listen_takes_no_memory() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let (mut peer, mut signer) = begun(&site, &keys, "floods");
    let before = peak_bytes(site.server_id());
    for _ in 0..1000 {
        let event = signer.next(Some(&speech("more")));
        peer.send(&chunk(&event));
    }
    let grown = peak_bytes(site.server_id()) - before;
    assert!(grown < 24 << 20, "{grown} bytes");
    drop(peer);
    assert_eq!(talker.next(0)["closed"], false);
}

#[test]
fn events_are_for_operations_that_take_them() {
    let talker = Talker::start();
    let site = Setup::new(talker.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let literal = "STREAMING-AWS4-HMAC-SHA256-EVENTS";
    let s3 = Draft::new("s3", "s3.us-east-1.amazonaws.com", "PUT", "/bucket/key");
    let (head, _) = s3.signed_stream(&keys, literal);
    assert_eq!(Peer::connect(site.proxy).ask(&head).status, 400);
    let form = Draft::query("iam", "iam.amazonaws.com", "").header("x-amz-content-sha256", literal);
    let answer = Peer::connect(site.proxy).ask(&form.signed_stream(&keys, literal).0);
    assert!((400..=403).contains(&answer.status), "{}", answer.text());
    assert_eq!(talker.ended().len(), 0);
}
