//! SHA-256 digests, lower-case hexadecimal, and canonical JSON (RFC 8785).
//!
//! Every hash in the product goes through here, so that there is one spelling of each.

use std::fmt;

use aws_lc_rs::digest;
use serde_json::{Map, Number, Value};

/// A SHA-256 digest; displays as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn hex(&self) -> String {
        hex(&self.0)
    }

    /// [`Digest::hex`] without a String of its own.
    pub(crate) fn digits(&self) -> Digits {
        let mut digits = [0; 64];
        write_hex(&self.0, &mut digits);
        Digits(digits)
    }

    /// Reads exactly 64 lower-case hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
        // Both loops run to their end, whatever the text holds, so that they run on many digits at a time.
        let mut nibbles = [0; 64];
        let mut is_hex = true;
        for (nibble, digit) in nibbles.iter_mut().zip(text) {
            is_hex &= matches!(digit, b'0'..=b'9' | b'a'..=b'f');
            // The digits follow 0x30, the letters 0x60.
            *nibble = (digit & 15) + if *digit >= b'a' { 9 } else { 0 };
        }
        let mut bytes = [0; 32];
        for (four, eight) in bytes.as_chunks_mut().0.iter_mut().zip(nibbles.as_chunks().0) {
            // Each second byte is now a nibble with the one after it.
            let joined = u64::from_le_bytes(*eight);
            let [a, _, b, _, c, _, d, _] = (joined << 4 | joined >> 8).to_le_bytes();
            *four = [a, b, c, d];
        }
        is_hex.then_some(Self(bytes))
    }
}

/// The 64 lower-case hexadecimal digits of a [`Digest`].
#[derive(Clone, Copy)]
pub(crate) struct Digits([u8; 64]);

impl std::ops::Deref for Digits {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digits())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digits())
    }
}

/// The SHA-256 of nothing: that of every body that is not there.
pub(crate) const EMPTY_SHA256: Digest = Digest([
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
]);

/// SHA-256 of one slice.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    finished(digest::digest(&digest::SHA256, bytes))
}

/// SHA-256 over several pieces as they arrive.
#[derive(Clone)]
pub(crate) struct Hasher(digest::Context);

impl Hasher {
    pub(crate) fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        finished(self.0.finish())
    }
}

/// Lower-case hexadecimal of any bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut digits = vec![0; bytes.len() * 2];
    write_hex(bytes, &mut digits);
    String::from_utf8(digits).unwrap_or_default()
}

/// Writes two digits for each byte.
fn write_hex(bytes: &[u8], digits: &mut [u8]) {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
    for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
}

/// The RFC 8785 form of a value that holds no floating-point number: members sorted by UTF-16
/// code units, no white space, the escapes of RFC 8785 section 3.2.2.2.
pub(crate) fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text, plain_number);
    text
}

/// Appends the RFC 8785 form of a value whose numbers are written by `number`.
pub(crate) fn write_canonical(value: &Value, text: &mut String, number: fn(&Number, &mut String)) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(value) => number(value, text),
        Value::String(string) => write_json_string(string, text),
        Value::Array(items) => write_array(items, text, |item, text| write_canonical(item, text, number)),
        Value::Object(members) => write_canonical_object(members, text, number),
    }
}

/// Appends the RFC 8785 form of an object; see [`write_canonical`].
pub(crate) fn write_canonical_object(
    members: &Map<String, Value>,
    text: &mut String,
    number: fn(&Number, &mut String),
) {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    write_object(sorted, text, |member, text| write_canonical(member, text, number));
}

/// Appends a JSON array; `write` appends one item.
pub(crate) fn write_array<T>(
    items: impl IntoIterator<Item = T>,
    text: &mut String,
    mut write: impl FnMut(T, &mut String),
) {
    text.push('[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write(item, text);
    }
    text.push(']');
}

/// Appends a JSON object; `write` appends one value. The members must come in the order of RFC 8785, none twice.
pub(crate) fn write_object<N: AsRef<str>, T>(
    members: impl IntoIterator<Item = (N, T)>,
    text: &mut String,
    mut write: impl FnMut(T, &mut String),
) {
    text.push('{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_json_string(name.as_ref(), text);
        text.push(':');
        write(value, text);
    }
    text.push('}');
}

/// Appends a JSON string literal in the RFC 8785 spelling.
pub(crate) fn write_json_string(value: &str, text: &mut String) {
    let is_escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    text.push('"');
    let mut rest = value;
    // Without a way out in its middle this loop runs on many bytes at a time; nearly all texts are plain.
    let mut is_plain = true;
    for byte in value.bytes() {
        is_plain &= !is_escaped(byte);
    }
    // Only ASCII characters are escaped: the text splits at them, and what is between is copied whole.
    while !is_plain && let Some(at) = rest.bytes().position(is_escaped) {
        let (plain, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        text.push_str(plain);
        let mut after = after.chars();
        match after.next() {
            Some('\u{8}') => text.push_str("\\b"),
            Some('\t') => text.push_str("\\t"),
            Some('\n') => text.push_str("\\n"),
            Some('\u{c}') => text.push_str("\\f"),
            Some('\r') => text.push_str("\\r"),
            Some(c) if c < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            Some(c) => text.extend(['\\', c]),
            None => {}
        }
        rest = after.as_str();
    }
    text.push_str(rest);
    text.push('"');
}

fn plain_number(number: &Number, text: &mut String) {
    text.push_str(&number.to_string());
}

fn finished(digest: digest::Digest) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    Digest(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn empty_digest_is_the_known_one() {
        let digest = sha256(b"");
        assert_eq!(digest, EMPTY_SHA256);
        assert_eq!(digest.hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(Digest::parse(&digest.hex()), Some(digest));
        assert_eq!(*digest.digits(), digest.hex());
        assert_eq!(Digest::parse(&digest.hex().to_uppercase()), None);
    }

    #[test]
    fn hexadecimal_is_two_digits_a_byte() {
        let all: Vec<u8> = (0..=255).collect();
        for end in 0..=all.len() {
            let expected: String = all[..end].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex(&all[..end]), expected);
        }
    }

    #[test]
    fn a_digest_is_read_from_hexadecimal_digits_only() {
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(Digest::parse(&text).unwrap().hex(), text);
        assert_eq!(Digest::parse(text.trim_start_matches('0')), None);
        for place in [0, 31, 63] {
            for byte in (0..128).map(char::from) {
                let mut bent = text.clone();
                bent.replace_range(place..=place, &byte.to_string());
                let is_digit = byte.is_ascii_digit() || ('a'..='f').contains(&byte);
                assert_eq!(Digest::parse(&bent).map(|digest| digest.hex()), is_digit.then_some(bent));
            }
        }
    }

    #[test]
    fn canonical_json_sorts_by_utf16() {
        let value = json!({"\u{fb33}": 1, "\u{1f600}": 2, "a": [true, null, "\u{7}\n\"é"], "": {}});
        assert_eq!(
            canonical_json(&value),
            "{\"\":{},\"a\":[true,null,\"\\u0007\\n\\\"é\"],\"\u{1f600}\":2,\"\u{fb33}\":1}"
        );
    }

    proptest! {
        #[test]
        fn canonical_json_agrees_with_a_foreign_implementation(name in ".*", text in ".*", number: i32) {
            let value = json!({ name: {"text": text, "number": number}, "z": [] });
            prop_assert_eq!(canonical_json(&value), serde_json_canonicalizer::to_string(&value).unwrap());
        }
    }
}
