use proptest::prelude::*;
use serde_json::json;

use super::*;

fn contradiction<T: std::fmt::Debug>(result: Result<T, BodyError>) -> bool {
    matches!(result, Err(BodyError::Contradiction(_)))
}

#[test]
fn json_members_stand_once() {
    assert_eq!(
        json::parse(br#"{"a":{"b":[1,-2,1.5,null,true,"x"]}}"#),
        Ok(json!({"a": {"b": [1, -2, 1.5, null, true, "x"]}}))
    );
    for text in [&br#"{"a":1,"a":1}"#[..], br#"[{"b":{"a":1,"\u0061":2}}]"#, b"\"\xff\""] {
        assert!(contradiction(json::parse(text)), "{}", String::from_utf8_lossy(text));
    }
    for text in ["", "{", "{}x", "{a:1}", "{\"a\":01}", "[1,]", "\"\\ud800\"", "\u{feff}{}"] {
        assert!(matches!(json::parse(text.as_bytes()), Err(BodyError::Doubt(_))), "{text}");
    }
}

#[test]
fn forms_decode_once() {
    let fields = form::parse(b"a=b+c&d=%2B%25&e&=f&&g=h=i").unwrap();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(fields, [("a", "b c"), ("d", "+%"), ("e", ""), ("", "f"), ("g", "h=i")]);
    for text in [&b"a=1&a=1"[..], b"a=%2", b"a=%gg", b"a=%ff", b"a=\xff", b"a=1&%61=2", b"a=\n"] {
        assert!(contradiction(form::parse(text)), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn numbers_have_one_spelling() {
    for (text, value) in [
        ("1", Some(json!(1))),
        ("-1", Some(json!(-1))),
        ("18446744073709551615", Some(json!(u64::MAX))),
        ("0", Some(json!(0))),
        ("-0", None),
        ("01", None),
        ("+1", None),
        ("1.0", None),
        (" 1", None),
        ("", None),
        ("99999999999999999999", None),
    ] {
        assert_eq!(scalar(&Shape::Integer, text), value, "{text}");
    }
    assert_eq!(scalar(&Shape::Boolean, "True"), None);
    assert_eq!(scalar(&Shape::Float, "1.5"), Some(json!(1.5)));
}

#[test]
fn xml_is_read_without_a_dtd() {
    assert_eq!(xml::parse(b"<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<a><b>x</b></a>\n").unwrap().name, "a");
    for text in ["<!DOCTYPE a><a/>", "<?xml version=\"1.0\" encoding=\"latin1\"?><a/>", "<a x='1' x='2'/>"] {
        assert!(contradiction(xml::parse(text.as_bytes())), "{text}");
    }
    for text in ["", "<a>", "<a></b>", "<a/><b/>", "x<a/>", "<a>&e;</a>", "<a><!--x--></a>", "<a><?p?></a>"] {
        assert!(matches!(xml::parse(text.as_bytes()), Err(BodyError::Doubt(_))), "{text}");
    }
    let deep = format!("{}{}", "<a>".repeat(200), "</a>".repeat(200));
    assert!(xml::parse(deep.as_bytes()).is_err());
}

#[test]
fn cbor_is_the_json_it_stands_for() {
    // {"a": [1, -2, 1.5, h'00ff', 1(1700000000), null], "b": true}
    let bytes = b"\xa2\x61a\x86\x01\x21\xf9\x3e\x00\x42\x00\xff\xc1\x1a\x65\x53\xf1\x00\xf6\x61b\xf5";
    assert_eq!(cbor::parse(bytes), Ok(json!({"a": [1, -2, 1.5, "AP8=", 1_700_000_000, null], "b": true})));
    assert!(contradiction(cbor::parse(b"\xa2\x61a\x01\x61a\x02")));
    assert!(contradiction(cbor::parse(b"\x61\xff")));
    for bytes in [
        &b""[..],
        b"\xa1",
        b"\xa1\x01\x02",
        b"\x01\x01",
        b"\x9f",
        b"\xff",
        b"\xc2\x41\x00",
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert!(matches!(cbor::parse(bytes), Err(BodyError::Doubt(_))), "{bytes:?}");
    }
    assert!(cbor::parse(&[0x81].repeat(10_000)).is_err());
    assert!(cbor::parse(&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        drop(json::parse(&bytes));
        drop(form::parse(&bytes));
        drop(xml::parse(&bytes));
        drop(cbor::parse(&bytes));
    }

    #[test]
    fn no_markup_panics(text in "[<>/!?a&;'\" =\\[\\]-]{0,40}") {
        drop(xml::parse(text.as_bytes()));
    }
}
