//! Values in their RFC 8785 spelling, written straight into one text.
//!
//! A record is made for every request, so none of its values is first built as a tree of JSON.

use std::net::IpAddr;

use serde_json::{Map, Number, Value};

use crate::digest::{Digest, write_array, write_canonical, write_canonical_object, write_json_string};

/// Integers of JSON are exact up to here (RFC 8785 numbers are doubles); larger ones become text.
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Writes the members of one object. They come in the order of their names.
pub(crate) struct Members<'t> {
    text: &'t mut String,
    last: &'static str,
}

impl Members<'_> {
    /// Appends an object with the members that `write` gives it.
    pub(crate) fn object(text: &mut String, write: impl FnOnce(&mut Members<'_>)) {
        text.push('{');
        write(&mut Members { text, last: "" });
        if text.ends_with(',') {
            text.pop();
        }
        text.push('}');
    }

    /// A member of any kind; `write` appends its value.
    pub(crate) fn member(&mut self, name: &'static str, write: impl FnOnce(&mut String)) -> &mut Self {
        debug_assert!(self.last < name, "`{name}` comes before `{}`", self.last);
        self.last = name;
        write_member(name, self.text, write);
        self
    }

    pub(crate) fn text(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.member(name, |text| write_json_string(value, text))
    }

    /// A member that is left out when there is no value.
    pub(crate) fn text_if(&mut self, name: &'static str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// A member that is `null` when there is no value.
    pub(crate) fn text_or_null(&mut self, name: &'static str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self.member(name, |text| text.push_str("null")),
        }
    }

    pub(crate) fn texts<T: AsRef<str>>(&mut self, name: &'static str, texts: impl IntoIterator<Item = T>) -> &mut Self {
        self.member(name, |text| write_texts(texts, text))
    }
}

/// Appends `"name":value,`. The name needs no escapes.
pub(super) fn write_member(name: &str, text: &mut String, write: impl FnOnce(&mut String)) {
    text.push('"');
    text.push_str(name);
    text.push_str("\":");
    write(text);
    text.push(',');
}

pub(super) fn write_texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>, text: &mut String) {
    write_array(texts, text, |item, text| write_json_string(item.as_ref(), text));
}

pub(super) fn write_digest(digest: Digest, text: &mut String) {
    text.push('"');
    text.push_str(&digest.digits());
    text.push('"');
}

pub(super) fn write_address(address: IpAddr, text: &mut String) {
    text.push('"');
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    text.push('.');
                }
                write_decimal(u64::from(octet), 1, text);
            }
        }
        IpAddr::V6(address) => text.push_str(&address.to_string()),
    }
    text.push('"');
}

/// An integer; as text when a reader might round it.
pub(super) fn write_integer(value: i64, text: &mut String) {
    let quote = if value.unsigned_abs() > MAX_SAFE_INTEGER { "\"" } else { "" };
    text.push_str(quote);
    if value < 0 {
        text.push('-');
    }
    write_decimal(value.unsigned_abs(), 1, text);
    text.push_str(quote);
}

/// Appends a number in decimal, with zeros in front to at least `width` digits.
pub(crate) fn write_decimal(value: u64, width: usize, text: &mut String) {
    let (mut digits, mut rest, mut written) = ([b'0'; 20], value, 0);
    for digit in digits.iter_mut().rev() {
        if rest == 0 && written >= width {
            break;
        }
        // A remainder of ten is a digit.
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        written += 1;
    }
    let digits = digits.get(digits.len() - written..).unwrap_or_default();
    text.push_str(str::from_utf8(digits).unwrap_or_default());
}

/// Any JSON. Numbers that are no exact integers become text.
pub(super) fn write_value(value: &Value, text: &mut String) {
    write_canonical(value, text, write_number);
}

/// An object; see [`write_value`].
pub(crate) fn write_map(members: &Map<String, Value>, text: &mut String) {
    write_canonical_object(members, text, write_number);
}

fn write_number(number: &Number, text: &mut String) {
    match number.as_i64() {
        Some(integer) => write_integer(integer, text),
        None => write_json_string(&number.to_string(), text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_as_the_standard_library_writes_them() {
        for value in [0, 1, 9, 10, 99, 100, 123_456, u64::MAX] {
            let mut text = String::new();
            write_decimal(value, 1, &mut text);
            assert_eq!(text, value.to_string());
            text.clear();
            write_decimal(value, 6, &mut text);
            assert_eq!(text, format!("{value:06}"));
        }
    }

    #[test]
    fn addresses_are_as_the_standard_library_writes_them() {
        for address in ["0.0.0.0", "127.0.0.1", "255.10.100.9", "::1", "2001:db8::7"] {
            let mut text = String::new();
            write_address(address.parse().unwrap(), &mut text);
            assert_eq!(text, format!("\"{address}\""));
        }
    }

    #[test]
    fn an_object_without_members_is_empty() {
        let mut text = String::new();
        Members::object(&mut text, |members| {
            members.text_if("absent", None);
        });
        Members::object(&mut text, |members| {
            members.text_or_null("absent", None).texts("b", ["c", "d"]);
        });
        assert_eq!(text, r#"{}{"absent":null,"b":["c","d"]}"#);
    }
}
