//! The canonical request and the string to sign, as the SigV4 reference defines them.
//!
//! One spelling serves three readers: verification rebuilds what the agent signed, signing builds
//! what the upstream will rebuild, and [`Target`](super::Target) sends exactly that.

use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

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
        sha256(self.text().as_bytes())
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(1024);
        for part in [self.method, self.path, self.query] {
            text.push_str(part);
            text.push('\n');
        }
        for name in self.signed_headers.split(';') {
            text.push_str(name);
            text.push(':');
            for (index, value) in self.headers.get_all(name).iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                // `Head` admits visible ASCII only, so nothing is lost here.
                push_value(value.to_str().unwrap_or_default(), &mut text);
            }
            text.push('\n');
        }
        text.push('\n');
        text.push_str(self.signed_headers);
        text.push('\n');
        text.push_str(self.payload);
        text
    }
}

/// The text whose HMAC is the signature.
pub(super) fn string_to_sign(amz_date: &str, date: &str, region: &str, service: &str, request: Digest) -> String {
    let mut text = String::with_capacity(192);
    for part in [ALGORITHM, "\n", amz_date, "\n", date, "/", region, "/", service, "/aws4_request\n"] {
        text.push_str(part);
    }
    request.push_hex(&mut text);
    text
}

/// The canonical path of a path as sent.
pub(super) fn path(sent: &str, service: &str) -> String {
    if is_s3_family(service) { sent.to_owned() } else { percent_encode_path(&normalized(sent)) }
}

/// The path as we send it: each segment decoded once and encoded once, so that it has no second
/// spelling left; an encoded slash stays data. Outside S3 empty segments go, as they do when signed.
pub(super) fn resent_path(received: &str, service: &str) -> String {
    let mut path = String::with_capacity(received.len() + 8);
    let normalized = if is_s3_family(service) { received.to_owned() } else { normalized(received) };
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
    let mut encoded: Vec<(String, String)> = fields.map(|(name, value)| (encode(name), encode(value))).collect();
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

fn encode(text: &str) -> String {
    percent_encode(text.as_bytes(), RESERVED).collect()
}

fn percent_encode_path(path: &str) -> String {
    percent_encode(path.as_bytes(), RESERVED_IN_PATH).collect()
}

/// RFC 3986 section 5.2.4, and empty segments removed; a trailing slash stays.
fn normalized(path: &str) -> String {
    if !path.contains("//") && !path.contains("/.") {
        return path.to_owned();
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
    normalized
}

/// A header value without outer spaces, each run of inner spaces as one.
fn push_value(value: &str, text: &mut String) {
    let value = value.trim_matches(' ');
    if !value.contains("  ") {
        text.push_str(value);
        return;
    }
    for (index, word) in value.split(' ').filter(|word| !word.is_empty()).enumerate() {
        if index > 0 {
            text.push(' ');
        }
        text.push_str(word);
    }
}
