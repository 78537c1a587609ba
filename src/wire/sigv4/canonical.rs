//! The canonical request and the string to sign, as the SigV4 reference defines them.
//!
//! One spelling serves three readers: verification rebuilds what the agent signed, signing builds
//! what the upstream will rebuild, and [`Target`](super::Target) sends exactly that.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};
use memchr::memchr;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use smallvec::SmallVec;

use super::parse::{field_of, pieces};
use crate::digest::{Digest, sha256};

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The same, for a path that is encoded as a whole.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Services that sign the path as sent (encoded once, `//` and `..` are data). All others sign the
/// normalised path encoded a second time.
pub(super) fn is_s3_family(service: &str) -> bool {
    matches!(service, "s3" | "s3-object-lambda" | "s3-outposts" | "s3express")
}

/// The parts of a canonical request, each already in its canonical spelling.
pub(super) struct Canonical<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    /// Lower-case names, sorted, joined by `;`.
    pub(super) signed_headers: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) payload: &'a str,
}

impl Canonical<'_> {
    /// SHA-256 of the canonical request.
    pub(super) fn digest(&self) -> Digest {
        sha256(&self.bytes())
    }

    /// Bytes, since the values of fields are: to make text of them would read them once more.
    fn bytes(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(1024);
        for part in [self.method, self.path, self.query] {
            text.extend_from_slice(part.as_bytes());
            text.push(b'\n');
        }
        // Read side by side: a look-up in the map would read the name first. Values of one name follow each other.
        let fields: SmallVec<[(&str, &HeaderValue); 24]> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value)).collect();
        for name in pieces(self.signed_headers, b';') {
            text.extend_from_slice(name.as_bytes());
            text.push(b':');
            let name = field_of(name);
            let values = fields.iter().skip_while(|(field, _)| *field != name).take_while(|(field, _)| *field == name);
            for (index, (_, value)) in values.enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                push_value(value.as_bytes(), &mut text);
            }
            text.push(b'\n');
        }
        text.push(b'\n');
        text.extend_from_slice(self.signed_headers.as_bytes());
        text.push(b'\n');
        text.extend_from_slice(self.payload.as_bytes());
        text
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }
}

/// The text whose HMAC is the signature.
pub(super) fn string_to_sign(amz_date: &str, date: &str, region: &str, service: &str, request: Digest) -> String {
    let mut text = String::with_capacity(192);
    for part in [ALGORITHM, "\n", amz_date, "\n", date, "/", region, "/", service, "/aws4_request\n"] {
        text.push_str(part);
    }
    text.push_str(&request.digits());
    text
}

/// The canonical path of a path as sent.
pub(super) fn path<'s>(sent: &'s str, service: &str) -> Cow<'s, str> {
    if is_s3_family(service) {
        return Cow::Borrowed(sent);
    }
    match normalized(sent) {
        Cow::Borrowed(path) => percent_encode(path.as_bytes(), RESERVED_IN_PATH).into(),
        Cow::Owned(path) => percent_encode(path.as_bytes(), RESERVED_IN_PATH).collect(),
    }
}

/// The path as we send it: each segment decoded once and encoded once, so that it has no second
/// spelling left; an encoded slash stays data. Outside S3 empty segments go, as they do when signed.
pub(super) fn resent_path(received: &str, service: &str) -> String {
    let normalized = if is_s3_family(service) { Cow::Borrowed(received) } else { normalized(received) };
    let is_plain =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/');
    if normalized.bytes().all(is_plain) {
        return normalized.into_owned();
    }
    let mut path = String::with_capacity(received.len() + 8);
    for (index, segment) in normalized.split('/').enumerate() {
        if index > 0 {
            path.push('/');
        }
        if segment.contains('%') {
            let decoded: Vec<u8> = percent_decode_str(segment).collect();
            path.extend(percent_encode(&decoded, RESERVED));
        } else {
            path.extend(percent_encode(segment.as_bytes(), RESERVED));
        }
    }
    path
}

/// The canonical query: every name and value encoded once, sorted by name, then by value.
pub(super) fn query<'q>(fields: impl Iterator<Item = (&'q str, &'q str)>) -> String {
    let mut encoded: Vec<(Cow<'q, str>, Cow<'q, str>)> =
        fields.map(|(name, value)| (encode(name), encode(value))).collect();
    // Sorted as pairs: as joined text `a=` would come after `a1=`.
    encoded.sort_unstable();
    let mut query = String::with_capacity(encoded.iter().map(|(name, value)| name.len() + value.len() + 2).sum());
    for (name, value) in &encoded {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(name);
        query.push('=');
        query.push_str(value);
    }
    query
}

fn encode(text: &str) -> Cow<'_, str> {
    percent_encode(text.as_bytes(), RESERVED).into()
}

/// RFC 3986 section 5.2.4, and empty segments removed; a trailing slash stays.
fn normalized(path: &str) -> Cow<'_, str> {
    if !path.as_bytes().windows(2).any(|pair| matches!(pair, [b'/', b'/' | b'.'])) {
        return Cow::Borrowed(path);
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut normalized = String::with_capacity(path.len());
    for segment in &segments {
        normalized.push('/');
        normalized.push_str(segment);
    }
    if segments.is_empty() || path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..") {
        normalized.push('/');
    }
    Cow::Owned(normalized)
}

/// A header value without outer spaces, each run of inner spaces as one.
fn push_value(value: &[u8], text: &mut Vec<u8>) {
    if memchr(b' ', value).is_none() {
        text.extend_from_slice(value);
        return;
    }
    for (index, word) in value.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).enumerate() {
        if index > 0 {
            text.push(b' ');
        }
        text.extend_from_slice(word);
    }
}
