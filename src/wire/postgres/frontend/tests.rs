use postgres_protocol::IsNull;
use postgres_protocol::message::frontend as peer;
use proptest::prelude::*;

use super::*;

fn built(build: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    build(&mut out);
    out
}

fn only(bytes: &[u8]) -> Frame<'_> {
    let frame = Frame::split(bytes, LARGE_LIMIT).unwrap().unwrap();
    assert_eq!(frame.raw, bytes);
    frame
}

/// Builds a Bind as drivers do, with values in the formats given.
fn bind_of(formats: &[i16], values: &[Option<&[u8]>]) -> BytesMut {
    built(|out| {
        let put = |value: Option<&[u8]>, out: &mut BytesMut| match value {
            Some(value) => {
                out.extend_from_slice(value);
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        };
        let (formats, values) = (formats.iter().copied(), values.iter().copied());
        if peer::bind("portal", "statement", formats, values, put, [1], out).is_err() {
            panic!("no Bind");
        }
    })
}

#[test]
fn what_drivers_build_is_read() {
    let bytes = built(|out| peer::query("SELECT 1", out).unwrap());
    assert!(matches!(only(&bytes).read().unwrap(), Message::Query(b"SELECT 1")));

    let bytes = built(|out| peer::parse("s1", "SELECT $1", [23, 0], out).unwrap());
    let Message::Parse(parse) = only(&bytes).read().unwrap() else { panic!() };
    assert_eq!((parse.statement, parse.sql), (&b"s1"[..], &b"SELECT $1"[..]));
    assert_eq!(parse.types().collect::<Vec<_>>(), [23, 0]);

    let bytes = bind_of(&[0, 1], &[Some(b"text"), None]);
    let Message::Bind(bind) = only(&bytes).read().unwrap() else { panic!() };
    assert_eq!((bind.portal, bind.statement), (&b"portal"[..], &b"statement"[..]));
    assert_eq!(bind.parameters().collect::<Vec<_>>(), [(0, Some(&b"text"[..])), (1, None)]);
    assert_eq!((bind.result_formats.len(), bind.result_formats.of(0)), (1, 1));

    let bytes = built(|out| peer::execute("p", 7, out).unwrap());
    let Message::Execute(execute) = only(&bytes).read().unwrap() else { panic!() };
    assert_eq!(execute, Execute { portal: b"p", max_rows: 7 });

    let bytes = built(|out| peer::describe(b'S', "s", out).unwrap());
    assert!(matches!(only(&bytes).read().unwrap(), Message::Describe(Target::Statement(b"s"))));
    let bytes = built(|out| peer::close(b'P', "p", out).unwrap());
    assert!(matches!(only(&bytes).read().unwrap(), Message::Close(Target::Portal(b"p"))));
    let bytes = built(|out| peer::copy_fail("why", out).unwrap());
    assert!(matches!(only(&bytes).read().unwrap(), Message::CopyFail));
    let bytes = built(|out| peer::CopyData::new(&b"rows"[..]).unwrap().write(out));
    assert!(matches!(only(&bytes).read().unwrap(), Message::CopyData));
    let bytes = built(|out| peer::sasl_initial_response("SCRAM-SHA-256", b"n,,", out).unwrap());
    assert_eq!(read_sasl_initial_response(only(&bytes).body()).unwrap(), (&b"SCRAM-SHA-256"[..], Some(&b"n,,"[..])));
}

#[test]
fn what_is_built_is_what_drivers_build() {
    let pairs = [
        (built(|out| query(out, b"SELECT 1")), built(|out| peer::query("SELECT 1", out).unwrap())),
        (
            built(|out| parse(out, b"s", b"SELECT 1", &[23])),
            built(|out| peer::parse("s", "SELECT 1", [23], out).unwrap()),
        ),
        (built(|out| execute(out, b"p", 5)), built(|out| peer::execute("p", 5, out).unwrap())),
        (built(|out| describe(out, Target::Portal(b"p"))), built(|out| peer::describe(b'P', "p", out).unwrap())),
        (built(|out| close(out, Target::Statement(b"s"))), built(|out| peer::close(b'S', "s", out).unwrap())),
        (built(flush), built(peer::flush)),
        (built(sync), built(peer::sync)),
        (built(terminate), built(peer::terminate)),
        (built(|out| password(out, b"pw")), built(|out| peer::password_message(b"pw", out).unwrap())),
        (
            built(|out| sasl_initial_response(out, "SCRAM-SHA-256", b"n,,")),
            built(|out| peer::sasl_initial_response("SCRAM-SHA-256", b"n,,", out).unwrap()),
        ),
        (built(|out| sasl_response(out, b"c=")), built(|out| peer::sasl_response(b"c=", out).unwrap())),
    ];
    for (ours, theirs) in pairs {
        assert_eq!(ours, theirs);
    }
    let ours = built(|out| bind(out, b"", b"s", &[(false, Some(b"1")), (true, None)]));
    let Message::Bind(bound) = only(&ours).read().unwrap() else { panic!() };
    assert_eq!(bound.parameters().collect::<Vec<_>>(), [(0, Some(&b"1"[..])), (1, None)]);
}

#[test]
fn text_with_a_nul_cannot_become_two_texts() {
    let bytes = built(|out| query(out, b"SELECT 1\0DROP TABLE t"));
    assert!(matches!(only(&bytes).read().unwrap(), Message::Query(b"SELECT 1DROP TABLE t")));
}

#[test]
fn what_the_server_would_refuse_is_refused() {
    let unread = |bytes: &[u8]| Frame::split(bytes, LARGE_LIMIT).unwrap_err();
    assert_eq!(unread(b"\0\0\0\0\x08"), FrameError::Kind(0));
    assert_eq!(unread(b"Z"), FrameError::Kind(b'Z'));
    assert_eq!(unread(b"Q\0\0\0\x03"), FrameError::Length { kind: b'Q', length: 3 });
    assert_eq!(unread(b"Q\xff\xff\xff\xff"), FrameError::Length { kind: b'Q', length: u32::MAX });
    assert_eq!(unread(b"S\0\0\x27\x11"), FrameError::Length { kind: b'S', length: 10_001 });
    assert_eq!(Frame::split(b"Q\0\0\0\x0aSELE", LARGE_LIMIT), Ok(None));
    assert!(Header::read(b"Q\0\0\0\x0a", 9).is_err());
    let malformed: [&[u8]; 9] = [
        b"Q\0\0\0\x05a",
        b"Q\0\0\0\x06\0a",
        b"S\0\0\0\x05\0",
        b"D\0\0\0\x06X\0",
        b"E\0\0\0\x08\0\0\0\x01",
        // A value that is longer than the message, and one of length -2.
        b"B\0\0\0\x10\0\0\0\0\0\x01\0\0\0\x09aa",
        b"B\0\0\0\x10\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0",
        // Two formats, one value.
        b"B\0\0\0\x14\0\0\0\x02\0\0\0\0\0\x01\0\0\0\0\0\0",
        b"P\0\0\0\x08\0\0\xff\xff",
    ];
    for bytes in malformed {
        assert!(only(bytes).read().is_err(), "{bytes:?}");
    }
}

fn kind() -> impl Strategy<Value = u8> {
    prop_oneof![4 => proptest::sample::select(&b"BCDEFHPQSXcdfp"[..]), 1 => any::<u8>()]
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(kind in kind(), body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = built(|out| put_message(out, kind, |out| out.put_slice(&body)));
        bytes.extend_from_slice(b"rest");
        if let Ok(Some(frame)) = Frame::split(&bytes, LARGE_LIMIT) {
            prop_assert_eq!(frame.body(), &body[..]);
            match frame.read() {
                Ok(Message::Bind(bind)) => {
                    prop_assert_eq!(bind.values.iter().count(), bind.values.len());
                    prop_assert_eq!(bind.parameters().count(), bind.values.len());
                }
                Ok(Message::Parse(parse)) => prop_assert!(parse.types().len() * 4 <= body.len()),
                _ => {}
            }
        }
    }

    #[test]
    fn bound_values_come_back(values in proptest::collection::vec(any::<(bool, Option<Vec<u8>>)>(), 0..6)) {
        let values: Vec<_> = values.iter().map(|(is_binary, value)| (*is_binary, value.as_deref())).collect();
        let ours = built(|out| bind(out, b"p", b"s", &values));
        let Message::Bind(bound) = only(&ours).read().unwrap() else { panic!() };
        let back: Vec<_> = bound.parameters().map(|(format, value)| (format == 1, value)).collect();
        prop_assert_eq!(back, values);
    }
}
