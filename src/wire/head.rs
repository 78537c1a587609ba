//! One request head, parsed once. Verification, naming and forwarding all read this object, and
//! the upstream request is built from it: received bytes are never sent on.
//!
//! What has two readings is refused here, since some server behind us may take the other one:
//! two Host fields, field names that alias another through `_`, a `+` or a broken escape in the
//! query, bytes that a URL cannot hold. What depends on the service (dot segments, empty segments)
//! is left to `classify`, which knows it.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use percent_encoding::percent_decode_str;

pub(crate) mod fields;

/// A request head in which every part has exactly one reading.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) host: Host,
    /// The path as sent: starts with `/`, ASCII, every `%` followed by two hexadecimal digits.
    pub(crate) path: String,
    /// Query fields in the order sent, names and values decoded once.
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
}

/// Host name in lower case without trailing dot, and the port when one was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: Option<u16>,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Why a head has no single reading. The client gets 400 and its connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("header field `{0}` aliases another through an underscore")]
    Alias(String),
    #[error("header field `{0}` appears more than once")]
    Duplicate(String),
    #[error("the absolute request target names another host than the Host field")]
    HostDisagrees,
    #[error("the Host field is missing or malformed")]
    HostMalformed,
    #[error("method `{0}` is not served")]
    Method(String),
    #[error("the method must not be overridden by a header field")]
    MethodOverride,
    #[error("the path holds a character or escape that has more than one reading")]
    Path,
    #[error("the query holds a character or escape that has more than one reading")]
    Query,
    #[error("header field `{0}` is not visible ASCII")]
    Value(String),
}

impl Head {
    /// Builds the head from what the HTTP parser read.
    ///
    /// # Errors
    /// When any part of it has more than one reading.
    pub(crate) fn parse(method: Method, uri: &Uri, headers: HeaderMap) -> Result<Self, HeadError> {
        if !is_served(&method) {
            return Err(HeadError::Method(method.to_string()));
        }
        check_fields(&headers)?;
        let host = parse_host(uri, &headers)?;
        let path = uri.path();
        if !path.starts_with('/') || !is_unambiguous_path(path) {
            return Err(HeadError::Path);
        }
        let query = parse_query(uri.query().unwrap_or_default())?;
        Ok(Self { method, host, path: path.to_owned(), query, headers })
    }

    /// Copies the header values. Those of a parsed head are slices of the buffer it was read into,
    /// which they would keep for as long as the request is held.
    pub(crate) fn detach(&mut self) {
        for value in self.headers.values_mut() {
            if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
                *value = copy;
            }
        }
    }

    /// A header field as text; `None` when absent. [`Head::parse`] made sure that it is ASCII.
    ///
    /// Fields that every request is asked for are asked for by [`fields`]: a name that is text is
    /// read anew with each look-up.
    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(field_text)
    }

    /// The first query field of that exact name.
    pub(crate) fn query_value(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// The value of a header field as text; `None` where it is not ASCII that can be seen.
pub(crate) fn field_text(value: &HeaderValue) -> Option<&str> {
    if is_visible(value) { str::from_utf8(value.as_bytes()).ok() } else { None }
}

fn is_visible(value: &HeaderValue) -> bool {
    // Without a way out in its middle this loop runs on many bytes at a time.
    let mut is_visible = true;
    for byte in value.as_bytes() {
        is_visible &= matches!(byte, b'\t' | b' '..=b'~');
    }
    is_visible
}

/// True for the methods any AWS or GCP operation uses.
fn is_served(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE | Method::PATCH | Method::OPTIONS
    )
}

/// A field of this kind twice has two readings; so has a comma-joined list of them, which the
/// codecs refuse where they read it.
fn is_single(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "authorization"
            | "content-type"
            | "content-length"
            | "content-encoding"
            | "transfer-encoding"
            | "expect"
            | "date"
            | "smithy-protocol"
            | "range"
    ) || name.as_str().starts_with("x-amz-")
        || name.as_str().starts_with("x-amzn-")
        || name.as_str().starts_with("x-goog-")
        || name.as_str().starts_with("amz-sdk-")
        || name.as_str().starts_with("x-countersign-")
}

fn check_fields(headers: &HeaderMap) -> Result<(), HeadError> {
    let mut previous: Option<&HeaderName> = None;
    for name in headers.iter().map(|(name, _)| name) {
        // The map gives the values of one name after each other.
        if previous == Some(name) {
            if is_single(name) {
                return Err(HeadError::Duplicate(name.to_string()));
            }
            continue;
        }
        previous = Some(name);
        // Servers of the CGI family map `-` and `_` to one name, so `x_amz_target` is a second X-Amz-Target to them.
        // One modelled AWS field has one (the SSO portal's bearer token); it aliases no field that anyone reads.
        if name.as_str().contains('_') && name.as_str() != "x-amz-sso_bearer_token" {
            return Err(HeadError::Alias(name.to_string()));
        }
        if matches!(name.as_str(), "x-http-method-override" | "x-http-method" | "x-method-override") {
            return Err(HeadError::MethodOverride);
        }
    }
    for (name, value) in headers {
        // S3 user metadata may be UTF-8 by RFC 2047 escapes only; raw bytes above ASCII sign differently per SDK.
        if !is_visible(value) {
            return Err(HeadError::Value(name.to_string()));
        }
    }
    Ok(())
}

fn parse_host(uri: &Uri, headers: &HeaderMap) -> Result<Host, HeadError> {
    let field = headers.get(header::HOST).and_then(field_text).ok_or(HeadError::HostMalformed)?;
    if field.is_empty() || field.contains('@') {
        return Err(HeadError::HostMalformed);
    }
    if let Some(target) = uri.authority()
        && !target.as_str().eq_ignore_ascii_case(field)
    {
        return Err(HeadError::HostDisagrees);
    }
    if is_plain_host(field) {
        return Ok(Host { name: field.to_owned(), port: None });
    }
    let authority: http::uri::Authority = field.parse().map_err(|_| HeadError::HostMalformed)?;
    let name = authority.host().strip_suffix('.').unwrap_or(authority.host()).to_ascii_lowercase();
    let is_address = name.starts_with('[') && name.ends_with(']');
    let is_name = !name.is_empty()
        && name
            .split('.')
            .all(|label| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    if !is_address && !is_name {
        return Err(HeadError::HostMalformed);
    }
    let port = match authority.port() {
        Some(port) => Some(port.as_str().parse().map_err(|_| HeadError::HostMalformed)?),
        None if field.contains(':') && !is_address => return Err(HeadError::HostMalformed),
        None => None,
    };
    Ok(Host { name, port })
}

/// True for what nearly all clients send: a name in its one spelling, without a port.
fn is_plain_host(field: &str) -> bool {
    // As if a dot stood before it: no label may be empty.
    let mut previous = b'.';
    let is_name = field.bytes().all(|byte| {
        let is_fit = match byte {
            b'.' => previous != b'.',
            byte => matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'),
        };
        previous = byte;
        is_fit
    });
    is_name && previous != b'.' && field.len() <= LONGEST_PLAIN_HOST
}

/// The longest name DNS knows.
const LONGEST_PLAIN_HOST: usize = 253;

fn is_unambiguous_path(path: &str) -> bool {
    path.bytes().all(|b| {
        b.is_ascii_graphic() && !matches!(b, b'\\' | b'#' | b'<' | b'>' | b'"' | b'^' | b'`' | b'{' | b'|' | b'}')
    }) && (!path.contains('%') || escapes_are_whole(path) && !path.contains("%00"))
}

fn parse_query(raw: &str) -> Result<Vec<(String, String)>, HeadError> {
    // `+` is a space to form decoders and a plus to RFC 3986: SDKs send %20 and %2B, so nobody needs it.
    if raw.bytes().any(|b| !b.is_ascii_graphic() || matches!(b, b'+' | b'#' | b'\\')) || !escapes_are_whole(raw) {
        return Err(HeadError::Query);
    }
    raw.split('&')
        .filter(|field| !field.is_empty())
        .map(|field| {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let decode = |text: &str| {
                percent_decode_str(text).decode_utf8().map(|t| t.into_owned()).map_err(|_| HeadError::Query)
            };
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// True when every `%` starts a two-digit escape.
fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| rest.as_bytes().iter().take(2).filter(|b| b.is_ascii_hexdigit()).count() == 2)
}

#[cfg(test)]
mod tests;
