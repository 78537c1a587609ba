use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use proptest::prelude::*;

use super::*;

const AT: Timestamp = Timestamp::from_micros(1_795_173_955_123_000);

fn message(headers: &[(&'static str, HeaderValue)], payload: &[u8]) -> Bytes {
    let headers = headers.iter().map(|(name, value)| Header::new(*name, value.clone())).collect();
    write(&Message::new_from_parts(headers, Bytes::copy_from_slice(payload))).unwrap()
}

fn date() -> (&'static str, HeaderValue) {
    (DATE, HeaderValue::Timestamp(DateTime::from_millis(AT.as_micros() / 1000)))
}

fn signature(len: usize) -> (&'static str, HeaderValue) {
    (SIGNATURE, HeaderValue::ByteArray(Bytes::from(vec![7; len])))
}

fn inner() -> Bytes {
    message(&[(":event-type", HeaderValue::String("AudioEvent".to_owned().into()))], b"sound")
}

fn taken(bytes: &[u8]) -> Result<Option<SignedEvent>, EventError> {
    SignedEvent::take(&mut BytesMut::from(bytes))
}

#[test]
fn events_are_taken_however_they_arrive_and_written_the_same() {
    let event = || SignedEvent { at: AT, signature: [7; 32], payload: inner() };
    let end = SignedEvent { payload: Bytes::new(), ..event() }.write().unwrap();
    let all = [event().write().unwrap(), event().write().unwrap(), end.clone()].concat();
    for step in [1, 3, 50, 4096] {
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for piece in all.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(event) = SignedEvent::take(&mut buffer).unwrap() {
                assert_eq!((event.at, event.signature), (AT, [7; 32]));
                found.push(event);
            }
        }
        assert!(buffer.is_empty());
        assert_eq!(found.iter().map(SignedEvent::is_last).collect::<Vec<_>>(), [false, false, true]);
        assert!(found[..2].iter().all(|event| event.payload == inner()));
    }
    // The other order of headers is read, too.
    let turned = message(&[signature(32), date()], &inner());
    assert_eq!(taken(&turned).unwrap().unwrap().write().unwrap().len(), turned.len());
}

#[test]
fn another_form_is_refused() {
    let more = HeaderValue::Bool(true);
    let twice = message(&[date(), signature(32)], &message(&[date(), signature(32)], &inner()));
    let many = vec![(":x", HeaderValue::Bool(true)); 20_000];
    for (name, bytes) in [
        ("no signature", message(&[date()], &inner())),
        ("no date", message(&[signature(32)], &inner())),
        ("two dates", message(&[date(), date()], &inner())),
        ("a short signature", message(&[date(), signature(31)], &inner())),
        (
            "a text for a date",
            message(&[(DATE, HeaderValue::String("now".to_owned().into())), signature(32)], &inner()),
        ),
        ("one more", message(&[date(), signature(32), ("x", more)], &inner())),
        ("signed twice", twice),
        ("two in one", message(&[date(), signature(32)], &[inner(), inner()].concat())),
        ("no event", message(&[date(), signature(32)], b"sound")),
        ("half an event", message(&[date(), signature(32)], &inner()[..20])),
        ("many headers", message(&[date(), signature(32)], &message(&many, b""))),
        ("a megabyte", message(&[date(), signature(32)], &message(&[], &vec![0; EVENT_LIMIT_BYTES]))),
        ("nothing of a length", Bytes::from_static(&[0; 16])),
        ("headers alone", Bytes::from_static(&[0, 0, 0, 16, 0, 0, 0, 67])),
    ] {
        assert!(taken(&bytes).is_err(), "{name}");
    }
    let good = SignedEvent { at: AT, signature: [7; 32], payload: inner() }.write().unwrap();
    for at in 0..good.len() {
        let mut bent = good.to_vec();
        bent[at] ^= 1;
        let still_good = matches!(taken(&bent), Ok(Some(_)));
        assert!(!still_good, "byte {at}");
    }
}

#[test]
fn an_end_is_known_where_one_is() {
    let all = [inner(), inner()].concat();
    for step in [1, 5, 200] {
        let (mut boundary, mut seen) = (Boundary::default(), 0);
        assert!(boundary.is_between());
        for piece in all.chunks(step) {
            boundary.follow(piece);
            seen += piece.len();
            assert_eq!(boundary.is_between(), seen % inner().len() == 0, "{seen}");
        }
    }
    let mut boundary = Boundary::default();
    boundary.follow(&[0, 0, 0, 3, 1, 2, 3]);
    assert!(!boundary.is_between(), "what is no message has no end");
}

#[test]
fn an_error_is_one_that_sdks_know() {
    let bytes = error_message("ValidationException", "it is wrong.").unwrap();
    let message = read(bytes).unwrap();
    let text = |name: &str| {
        let header = message.headers().iter().find(|header| header.name().as_str() == name).unwrap();
        header.value().as_string().unwrap().as_str().to_owned()
    };
    let all = [":message-type", ":error-code", ":error-message"].map(text);
    assert_eq!(all, ["error", "ValidationException", "it is wrong."]);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..200, value: u8) {
        drop(taken(&bytes));
        let mut event = SignedEvent { at: AT, signature: [7; 32], payload: inner() }.write().unwrap().to_vec();
        let place = at % event.len();
        event[place] = value;
        drop(taken(&event));
        let mut boundary = Boundary::default();
        boundary.follow(&bytes);
    }
}
