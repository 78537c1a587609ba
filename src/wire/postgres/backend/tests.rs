use postgres_protocol::message::backend::Message;
use proptest::prelude::*;

use super::*;

fn built(build: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    build(&mut out);
    out
}

fn only(bytes: &[u8]) -> Frame<'_> {
    let frame = Frame::split(bytes).unwrap().unwrap();
    assert_eq!(frame.raw, bytes);
    frame
}

/// The message as a driver reads it.
fn theirs(build: impl FnOnce(&mut BytesMut)) -> Message {
    let mut bytes = built(build);
    let message = Message::parse(&mut bytes).unwrap().unwrap();
    assert!(bytes.is_empty());
    message
}

const REFUSED: Report<'_> =
    Report { severity: Severity::Fatal, code: "28P01", message: "no\0t you", detail: Some("a detail"), hint: None };

#[test]
fn reports_are_read_by_drivers_and_by_us() {
    assert!(matches!(theirs(|out| REFUSED.write(out)), Message::ErrorResponse(_)));
    let bytes = built(|out| REFUSED.write(out));
    let said = only(&bytes).said().unwrap();
    let fields: Vec<_> = said.fields().map(|(code, text)| (code, std::str::from_utf8(text).unwrap())).collect();
    let expected = [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', "28P01"), (b'M', "not you"), (b'D', "a detail")];
    assert_eq!(fields, expected);
    assert_eq!(said.severity().as_deref(), Some("FATAL"));
    assert_eq!(said.sqlstate().as_deref(), Some("28P01"));
    assert_eq!(said.message().as_deref(), Some("not you"));
    assert_eq!(said.field(b'H'), None);

    let notice = Report { severity: Severity::Notice, ..REFUSED };
    assert!(matches!(theirs(|out| notice.write(out)), Message::NoticeResponse(_)));
    let words = [Severity::Error, Severity::Fatal, Severity::Notice].map(Severity::as_str);
    assert_eq!(words, ["ERROR", "FATAL", "NOTICE"]);
}

#[test]
fn what_is_built_is_read_back() {
    for transaction in [Transaction::None, Transaction::Open, Transaction::Failed] {
        let bytes = built(|out| ready_for_query(out, transaction));
        assert_eq!(only(&bytes).transaction(), Ok(transaction));
        assert!(matches!(theirs(|out| ready_for_query(out, transaction)), Message::ReadyForQuery(_)));
    }
    let bytes = built(|out| parameter_status(out, b"client_encoding", b"UTF8"));
    assert_eq!(only(&bytes).parameter(), Ok((&b"client_encoding"[..], &b"UTF8"[..])));
    let bytes = built(|out| backend_key_data(out, 7, &[9; 32]));
    assert_eq!(only(&bytes).key(), Ok((7, &[9; 32][..])));
    assert_eq!(only(b"C\0\0\0\x0dSELECT 5\0").tag(), Ok(&b"SELECT 5"[..]));
    let bytes = built(|out| negotiate_protocol_version(out, Version::V3_2, &[b"_pq_.x"]));
    assert_eq!(&bytes[..], b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
    assert!(matches!(theirs(authentication_ok), Message::AuthenticationOk));
    assert!(matches!(theirs(|out| authentication_sasl(out, &["A"])), Message::AuthenticationSasl(_)));
}

#[test]
fn steps_of_authentication_are_read() {
    let step = |bytes: &[u8]| format!("{:?}", only(bytes).authentication().unwrap());
    assert_eq!(step(b"R\0\0\0\x08\0\0\0\0"), "Ok");
    assert_eq!(step(b"R\0\0\0\x08\0\0\0\x03"), "Password");
    assert_eq!(step(b"R\0\0\0\x0c\0\0\0\x05abcd"), "Md5([97, 98, 99, 100])");
    assert_eq!(step(b"R\0\0\0\x08\0\0\0\x07"), "Other");
    let bytes = built(|out| authentication_sasl(out, &["A", "B"]));
    let Authentication::Sasl(mechanisms) = only(&bytes).authentication().unwrap() else { panic!() };
    assert_eq!(mechanisms.iter().collect::<Vec<_>>(), [b"A", b"B"]);
    let bytes = built(|out| authentication_sasl_continue(out, b"r="));
    assert!(matches!(only(&bytes).authentication(), Ok(Authentication::SaslContinue(b"r="))));
    let bytes = built(|out| authentication_sasl_final(out, b"v="));
    assert!(matches!(only(&bytes).authentication(), Ok(Authentication::SaslFinal(b"v="))));
}

#[test]
fn columns_and_copies_are_read() {
    let bytes = built(|out| {
        put_message(out, kind::ROW_DESCRIPTION, |out| {
            out.put_u16(1);
            put_text(out, b"id");
            out.put_u32(16_384);
            out.put_i16(1);
            out.put_u32(23);
            out.put_i16(4);
            out.put_i32(-1);
            out.put_i16(1);
        });
    });
    let columns = only(&bytes).columns().unwrap();
    let id = Column { name: b"id", table: 16_384, number: 1, type_oid: 23, size: 4, modifier: -1, format: 1 };
    assert_eq!(columns.iter().collect::<Vec<_>>(), [id]);
}

#[test]
fn malformed_messages_are_refused() {
    assert_eq!(Frame::split(b"Y\0\0\0\x04"), Err(FrameError::Kind(b'Y')));
    assert_eq!(Frame::split(b"D\x40\0\0\0"), Err(FrameError::Length { kind: b'D', length: 1 << 30 }));
    assert_eq!(Frame::split(b"D\0\0\0\x03"), Err(FrameError::Length { kind: b'D', length: 3 }));
    assert_eq!(Frame::split(b"D\0\0\0"), Ok(None));
    assert!(only(b"Z\0\0\0\x05X").transaction().is_err());
    assert!(only(b"Z\0\0\0\x06II").transaction().is_err());
    assert!(only(b"E\0\0\0\x07Sa\0").said().is_err());
    assert!(only(b"K\0\0\0\x0a\0\0\0\x01ab").key().is_err());
    assert!(only(b"T\0\0\0\x06\xff\xff").columns().is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(kind in proptest::sample::select(&b"123ACDEGHIKNRSTVWZcdnstv"[..]),
                                        body in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..48)) {
        prop_assert!(is_kind(kind));
        let bytes = built(|out| put_message(out, kind, |out| out.put_slice(&body)));
        let frame = only(&bytes);
        if let Ok(columns) = frame.columns() {
            prop_assert_eq!(columns.iter().count(), usize::from(columns.count));
        }
        if let Ok(said) = frame.said() {
            prop_assert!(said.fields().map(|(_, text)| text.len() + 2).sum::<usize>() < body.len());
        }
        if let Ok(Authentication::Sasl(mechanisms)) = frame.authentication() {
            prop_assert!(mechanisms.iter().count() <= body.len());
        }
        let texts = [frame.tag().is_ok(), frame.parameter().is_ok()];
        let numbers = [frame.transaction().is_ok(), frame.key().is_ok()];
        for read in [&texts[..], &numbers] {
            prop_assert!(read.iter().filter(|is_ok| **is_ok).count() < read.len(), "one message, all layouts");
        }
    }
}
