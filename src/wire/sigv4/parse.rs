//! What a request presents: one credential, read strictly.
//!
//! A field that is absent, stands twice, is spelled in another case or has a second reading is
//! refused rather than interpreted: the upstream's reading of it need not be ours.

use http::{Method, header};
use memchr::memchr;
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use super::canonical::{ALGORITHM, is_s3_family};
use super::{ScopeRef, SigError};
use crate::digest::{Digest, sha256};
use crate::time::{AmzDate, Timestamp};
use crate::wire::head::{Head, fields};

/// Where the credential stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Header,
    /// A presigned URL.
    Query,
}

/// What the signature says about the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadClaim {
    /// Nothing is stated: the signature covers the SHA-256 of the body that follows.
    Body,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`, with `-TRAILER` when `trailer`: each chunk is signed.
    SignedChunks { trailer: bool },
    /// The body's SHA-256 stands in the head.
    Stated(Digest),
    /// `UNSIGNED-PAYLOAD`: the body is not covered at all.
    Unsigned,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`: aws-chunked, neither chunks nor trailer are signed.
    UnsignedChunks,
    /// `STREAMING-AWS4-HMAC-SHA256-EVENTS`: each event is signed.
    SignedEvents,
}

/// A signature as presented. Until [`Presented::verify`] nothing of it is proven.
#[derive(Clone, Debug)]
pub(crate) struct Presented {
    /// `KEY/DATE/REGION/SERVICE/aws4_request`, well-formed, and where three of its slashes are.
    credential: String,
    slashes: [usize; 3],
    pub(crate) source: Source,
    pub(crate) payload: PayloadClaim,
    /// The last moment at which this signature is accepted.
    pub(crate) not_after: Timestamp,
    pub(super) amz_date: AmzDate,
    /// Lower-case names, sorted, unique, joined by `;`.
    pub(super) signed_headers: String,
    pub(super) signature: Digest,
}

/// How far a date may lie from ours, either way.
pub(super) const SKEW_SECONDS: i64 = 5 * 60;
/// The longest life AWS allows a presigned URL: seven days.
const LONGEST_PRESIGNED_SECONDS: u32 = 7 * 24 * 60 * 60;

impl Presented {
    /// Reads the one credential of a request and checks everything that needs no key.
    ///
    /// # Errors
    /// When there is no credential, more than one, one of another kind, a malformed or stale one,
    /// or when a part of the request that AWS wants signed is outside the signature.
    pub(crate) fn parse(head: &Head, now: Timestamp) -> Result<Self, SigError> {
        let source = single_source(head)?;
        if [&fields::X_AMZ_SECURITY_TOKEN, &fields::X_AMZ_S3SESSION_TOKEN]
            .iter()
            .any(|field| head.headers.contains_key(*field))
        {
            return Err(SigError::Token);
        }
        let raw = match source {
            Source::Header => RawCredential::from_header(head.header(header::AUTHORIZATION).unwrap_or_default())?,
            Source::Query => RawCredential::from_query(head)?,
        };
        let malformed = |why| SigError::Malformed { place: source, why };
        let (key_id, scope) = parse_credential(raw.credential).map_err(malformed)?;
        let signature =
            Digest::parse(raw.signature).ok_or(malformed("the signature is not 64 lower-case hexadecimal digits"))?;
        if !is_s3_family(scope.service) && has_dot_segment(&head.path) {
            return Err(SigError::DotSegment);
        }
        let (signed_at, amz_date) = match source {
            Source::Header => header_date(head)?,
            Source::Query => parse_date(query_field(head, "X-Amz-Date")?).ok_or(malformed("X-Amz-Date"))?,
        };
        if amz_date.day() != scope.date {
            return Err(malformed("the scope names another day than the request's date"));
        }
        let not_after = match source {
            Source::Header => not_after_header(signed_at, now)?,
            Source::Query => not_after_query(signed_at, query_field(head, "X-Amz-Expires")?, now)?,
        };
        check_signed(head, source, raw.signed_headers, scope.service)?;
        let payload = payload_claim(head, source, scope.service)?;
        let after_date = key_id.len() + 1 + scope.date.len();
        let slashes = [key_id.len(), after_date, after_date + 1 + scope.region.len()];
        let (credential, signed_headers) = (raw.credential.to_owned(), raw.signed_headers.to_owned());
        Ok(Self { credential, slashes, source, payload, not_after, amz_date, signed_headers, signature })
    }

    pub(crate) fn key_id(&self) -> &str {
        let [key_end, ..] = self.slashes;
        self.credential.get(..key_end).unwrap_or_default()
    }

    pub(crate) fn scope(&self) -> ScopeRef<'_> {
        let [key_end, date_end, region_end] = self.slashes;
        let part = |start: usize, end: usize| self.credential.get(start + 1..end).unwrap_or_default();
        let service_end = self.credential.len() - SCOPE_END.len();
        ScopeRef {
            date: part(key_end, date_end),
            region: part(date_end, region_end),
            service: part(region_end, service_end),
        }
    }

    /// SHA-256 of the signature, for `gate::Ask::signature`; it is spent until [`Presented::not_after`].
    pub(crate) fn replay_key(&self) -> Digest {
        sha256(self.signature.as_bytes())
    }
}

impl PayloadClaim {
    /// The text that stands for this claim, where it is not a hash.
    pub(super) const fn literal(self) -> Option<&'static str> {
        match self {
            Self::Body | Self::Stated(_) => None,
            Self::SignedChunks { trailer: false } => Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
            Self::SignedChunks { trailer: true } => Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
            Self::Unsigned => Some("UNSIGNED-PAYLOAD"),
            Self::UnsignedChunks => Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            Self::SignedEvents => Some("STREAMING-AWS4-HMAC-SHA256-EVENTS"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        const LITERAL: [PayloadClaim; 5] = [
            PayloadClaim::SignedChunks { trailer: false },
            PayloadClaim::SignedChunks { trailer: true },
            PayloadClaim::Unsigned,
            PayloadClaim::UnsignedChunks,
            PayloadClaim::SignedEvents,
        ];
        Digest::parse(text)
            .map(Self::Stated)
            .or_else(|| LITERAL.into_iter().find(|claim| claim.literal() == Some(text)))
    }
}

/// The credential scope a request claims, for naming; nothing is verified. `None` without exactly
/// one well-formed SigV4 credential.
pub(crate) fn claimed_scope(head: &Head) -> Option<ScopeRef<'_>> {
    let raw = match single_source(head).ok()? {
        Source::Header => RawCredential::from_header(head.header(header::AUTHORIZATION)?),
        Source::Query => RawCredential::from_query(head),
    };
    parse_credential(raw.ok()?.credential).ok().map(|(_, scope)| scope)
}

/// True for the query fields that make up a presigned URL's credential, in any case.
pub(super) fn is_credential_field(name: &str) -> bool {
    QUERY_FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name)) || name.eq_ignore_ascii_case(PAYLOAD_FIELD)
}

/// True for query fields that S3 reads as header fields.
pub(super) fn is_hoisted_field(name: &str, service: &str) -> bool {
    is_s3_family(service) && starts_with_ignore_case(name, "x-amz-")
}

pub(super) const SIGNATURE_FIELD: &str = "X-Amz-Signature";
const QUERY_FIELDS: [&str; 8] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    SIGNATURE_FIELD,
    "X-Amz-SignedHeaders",
    "X-Amz-S3session-Token",
];
/// The payload claim of a presigned URL; the header field has the same name.
const PAYLOAD_FIELD: &str = "x-amz-content-sha256";
/// Virtual keys have no session token. One that arrives was issued by somebody else.
const TOKEN_FIELDS: [&str; 2] = ["x-amz-security-token", "x-amz-s3session-token"];

/// The parts of a credential as they stand in the request.
struct RawCredential<'h> {
    credential: &'h str,
    signed_headers: &'h str,
    signature: &'h str,
}

impl<'h> RawCredential<'h> {
    fn from_header(authorization: &'h str) -> Result<Self, SigError> {
        let malformed = |why| SigError::Malformed { place: Source::Header, why };
        let fields = match authorization.strip_prefix(ALGORITHM) {
            Some(fields) if fields.is_empty() || fields.starts_with(' ') => fields,
            _ => return Err(SigError::Unsupported(name_scheme(authorization.split(' ').next().unwrap_or_default()))),
        };
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in pieces(fields, b',') {
            // Of white space a field value holds spaces and tabs only.
            let field = field.trim_ascii();
            let (slot, value) = if let Some(value) = field.strip_prefix("Credential=") {
                (&mut credential, value)
            } else if let Some(value) = field.strip_prefix("SignedHeaders=") {
                (&mut signed_headers, value)
            } else if let Some(value) = field.strip_prefix("Signature=") {
                (&mut signature, value)
            } else if field.contains('=') {
                return Err(malformed("there is an unknown field"));
            } else {
                return Err(malformed("a field has no value"));
            };
            if slot.replace(value).is_some() {
                return Err(malformed("a field stands twice"));
            }
        }
        Ok(Self {
            credential: credential.ok_or(malformed("`Credential` is missing"))?,
            signed_headers: signed_headers.ok_or(malformed("`SignedHeaders` is missing"))?,
            signature: signature.ok_or(malformed("`Signature` is missing"))?,
        })
    }

    fn from_query(head: &'h Head) -> Result<Self, SigError> {
        let malformed = |why| SigError::Malformed { place: Source::Query, why };
        for (name, _) in &head.query {
            let misspelled = QUERY_FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name) && field != name);
            if misspelled {
                return Err(malformed("a field of the credential is spelled in another case"));
            }
        }
        if head.query.iter().any(|(name, _)| is_token_field(name)) {
            return Err(SigError::Token);
        }
        match query_field(head, "X-Amz-Algorithm")? {
            ALGORITHM => {}
            scheme => return Err(SigError::Unsupported(name_scheme(scheme))),
        }
        Ok(Self {
            credential: query_field(head, "X-Amz-Credential")?,
            signed_headers: query_field(head, "X-Amz-SignedHeaders")?,
            signature: query_field(head, SIGNATURE_FIELD)?,
        })
    }
}

/// Finds the one place a credential stands in. Two credentials are two readings: one of them may
/// be checked here and the other one believed upstream.
fn single_source(head: &Head) -> Result<Source, SigError> {
    let in_header = head.headers.contains_key(header::AUTHORIZATION);
    let in_query = head.query.iter().any(|(name, _)| QUERY_FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name)));
    let in_old_query = head.query.iter().any(|(name, _)| name.eq_ignore_ascii_case("AWSAccessKeyId"));
    match (in_header, in_query, in_old_query) {
        (true, false, false) => Ok(Source::Header),
        (false, true, false) => Ok(Source::Query),
        (false, false, true) => Err(SigError::Unsupported("Signature Version 2")),
        (false, false, false) => {
            Err(if is_post_form(head) { SigError::Unsupported("a POST form with a policy") } else { SigError::Missing })
        }
        _ => Err(SigError::Several),
    }
}

fn is_post_form(head: &Head) -> bool {
    head.method == Method::POST
        && head.header(header::CONTENT_TYPE).is_some_and(|kind| starts_with_ignore_case(kind, "multipart/form-data"))
}

fn name_scheme(scheme: &str) -> &'static str {
    if scheme.eq_ignore_ascii_case("AWS4-ECDSA-P256-SHA256") {
        "Signature Version 4A"
    } else if scheme.eq_ignore_ascii_case("AWS") || scheme.eq_ignore_ascii_case("AWS3-HTTPS") {
        "Signature Version 2"
    } else if scheme.eq_ignore_ascii_case("Bearer") {
        "a bearer token"
    } else if scheme.eq_ignore_ascii_case("Basic") {
        "a password"
    } else {
        "this authorization scheme"
    }
}

/// `KEY/DATE/REGION/SERVICE/aws4_request`
fn parse_credential(credential: &str) -> Result<(&str, ScopeRef<'_>), &'static str> {
    let (key_id, scope) =
        split_credential(credential).ok_or("`Credential` is not KEY/DATE/REGION/SERVICE/aws4_request")?;
    let ScopeRef { date, region, service } = scope;
    // A part holds no slash, so that all of them can be read at once; see `head::is_visible`.
    let mut is_words = true;
    for byte in credential.bytes() {
        is_words &= byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'/');
    }
    let is_word = |text: &str, limit: usize| is_words && (1..=limit).contains(&text.len());
    // AWS allows access key ids of up to 128 characters; no region or service name comes near 64.
    if !is_word(key_id, 128) || !is_word(region, 64) || !is_word(service, 64) {
        return Err("a part of `Credential` holds characters that none of its kind has");
    }
    if date.len() != 8 || !date.bytes().all(|b| b.is_ascii_digit()) {
        return Err("the date of `Credential` is not eight digits");
    }
    Ok((key_id, scope))
}

fn split_credential(credential: &str) -> Option<(&str, ScopeRef<'_>)> {
    let (key_id, rest) = cut(credential, b'/')?;
    let (date, rest) = cut(rest, b'/')?;
    let (region, rest) = cut(rest, b'/')?;
    // What follows the service is the end: no further slash can be in it.
    let (service, end) = cut(rest, b'/')?;
    (end == "aws4_request").then_some((key_id, ScopeRef { date, region, service }))
}

/// What follows the service.
const SCOPE_END: &str = "/aws4_request";

/// The parts before and after the first `separator`, which is ASCII.
fn cut(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = memchr(separator, text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// What stands before, between and after each `separator`, which is ASCII.
pub(super) fn pieces(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (piece, after) = cut(text, separator).map_or((text, None), |(piece, after)| (piece, Some(after)));
        rest = after;
        Some(piece)
    })
}

/// The value of a query field that must stand exactly once.
fn query_field<'h>(head: &'h Head, name: &'static str) -> Result<&'h str, SigError> {
    let mut values = head.query.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str());
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        (None, _) => Err(SigError::Malformed { place: Source::Query, why: "a field of the credential is missing" }),
        (Some(_), Some(_)) => {
            Err(SigError::Malformed { place: Source::Query, why: "a field of the credential stands twice" })
        }
    }
}

/// The date a header signature is made with: `x-amz-date`, else `date`. Both together must agree
/// within the skew, or a server that reads the other one sees another request.
fn header_date(head: &Head) -> Result<(Timestamp, AmzDate), SigError> {
    let malformed = |why| SigError::Malformed { place: Source::Header, why };
    let date = head.header(header::DATE).map(|text| parse_any_date(text).ok_or(malformed("the Date field")));
    let Some(amz_date) = head.header(&fields::X_AMZ_DATE) else {
        return date.unwrap_or(Err(malformed("there is neither an x-amz-date nor a Date field")));
    };
    let found = parse_date(amz_date).ok_or(malformed("x-amz-date is not of the form 20261120T112555Z"))?;
    if let Some(date) = date
        && (found.0.as_seconds() - date?.0.as_seconds()).abs() > SKEW_SECONDS
    {
        return Err(malformed("the x-amz-date and Date fields disagree"));
    }
    Ok(found)
}

fn parse_any_date(text: &str) -> Option<(Timestamp, AmzDate)> {
    parse_date(text).or_else(|| {
        let moment = Timestamp::parse_http_date(text)?;
        Some((moment, moment.amz_date()))
    })
}

fn parse_date(text: &str) -> Option<(Timestamp, AmzDate)> {
    // The form is strict: a moment has no second spelling.
    Timestamp::parse_amz_date(text).map(|moment| (moment, moment.amz_date()))
}

fn not_after_header(signed_at: Timestamp, now: Timestamp) -> Result<Timestamp, SigError> {
    if (now.as_seconds() - signed_at.as_seconds()).abs() > SKEW_SECONDS {
        return Err(SigError::Skewed);
    }
    Ok(later(signed_at, SKEW_SECONDS + 1))
}

fn not_after_query(signed_at: Timestamp, expires: &str, now: Timestamp) -> Result<Timestamp, SigError> {
    let is_number = (1..=6).contains(&expires.len()) && expires.bytes().all(|b| b.is_ascii_digit());
    let seconds: u32 = expires.parse().unwrap_or(0);
    if !is_number || expires.starts_with('0') || !(1..=LONGEST_PRESIGNED_SECONDS).contains(&seconds) {
        let why = "X-Amz-Expires is not a number of seconds from 1 to 604800";
        return Err(SigError::Malformed { place: Source::Query, why });
    }
    if signed_at.as_seconds() - now.as_seconds() > SKEW_SECONDS {
        return Err(SigError::Skewed);
    }
    if now.as_seconds() - signed_at.as_seconds() > i64::from(seconds) {
        return Err(SigError::Expired);
    }
    Ok(later(signed_at, i64::from(seconds) + 1))
}

/// A second later than the last one accepted: the moments compared above are whole seconds.
fn later(moment: Timestamp, seconds: i64) -> Timestamp {
    moment.plus(std::time::Duration::from_secs(seconds.unsigned_abs()))
}

/// Every field that bears meaning must be named as signed, and every name must stand for a field:
/// a name without a field would let somebody add the field later.
fn check_signed(head: &Head, source: Source, names: &str, service: &str) -> Result<(), SigError> {
    let malformed = |why| SigError::Malformed { place: source, why };
    let mut unsigned: SmallVec<[Option<&str>; 24]> = head.headers.keys().map(|name| Some(name.as_str())).collect();
    let mut previous = "";
    for signed in pieces(names, b';') {
        let name = field_of(signed);
        // Read side by side: a look-up in the map would read the name first. Names of fields are lower-case.
        let field = unsigned.iter_mut().find(|field| **field == Some(name));
        if field.is_none() && (name.is_empty() || name.bytes().any(|b| b.is_ascii_uppercase())) {
            return Err(malformed("`SignedHeaders` is not a list of lower-case names"));
        }
        if signed <= previous {
            return Err(malformed("`SignedHeaders` is not sorted, or names a field twice"));
        }
        previous = signed;
        *field.ok_or(malformed("`SignedHeaders` names a field that the request does not have"))? = None;
    }
    if let Some(name) = unsigned.iter().flatten().find(|name| must_be_signed(name, source, service)) {
        return Err(SigError::Unsigned((*name).to_owned()));
    }
    let is_date = |field: &Option<&str>| *field == Some("date");
    if source == Source::Header && unsigned.iter().any(is_date) && !head.headers.contains_key(&fields::X_AMZ_DATE) {
        return Err(SigError::Unsigned("date".to_owned()));
    }
    Ok(())
}

/// The field that a signed name stands for. Over HTTP/2 the SDK for JavaScript signs what is `Host` elsewhere under
/// its name there.
pub(super) fn field_of(signed: &str) -> &str {
    if signed == ":authority" { "host" } else { signed }
}

fn must_be_signed(name: &str, source: Source, service: &str) -> bool {
    match name {
        "host" => true,
        // HTTP clients add a content type to what they upload to a presigned URL, and S3 accepts that.
        "content-type" => source == Source::Header || !is_s3_family(service),
        name => name.starts_with("x-amz-"),
    }
}

fn payload_claim(head: &Head, source: Source, service: &str) -> Result<PayloadClaim, SigError> {
    let is_s3 = is_s3_family(service);
    let mut in_query = head.query.iter().filter(|(name, _)| name.eq_ignore_ascii_case(PAYLOAD_FIELD));
    let in_query = match (in_query.next(), in_query.next(), source) {
        (None, ..) => None,
        (Some((_, value)), None, Source::Query) => Some(value.as_str()),
        // Twice, or in the query of a request that is signed in its header.
        _ => return Err(SigError::PayloadUnknown),
    };
    check_hoisted(head, source, service)?;
    let text = match (head.header(&fields::X_AMZ_CONTENT_SHA256), in_query) {
        (Some(in_header), Some(in_query)) if in_header != in_query => return Err(SigError::PayloadUnknown),
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) => {
            return match source {
                Source::Header if is_s3 => Err(SigError::PayloadMissing),
                Source::Query if is_s3 => Ok(PayloadClaim::Unsigned),
                Source::Header | Source::Query => Ok(PayloadClaim::Body),
            };
        }
    };
    let claim = PayloadClaim::parse(text).ok_or(SigError::PayloadUnknown)?;
    // Only S3 uploads are cut into signed chunks, and never those of presigned URLs. S3 takes no events.
    let fits = match claim {
        PayloadClaim::SignedChunks { .. } | PayloadClaim::UnsignedChunks => is_s3 && source == Source::Header,
        PayloadClaim::SignedEvents => !is_s3 && source == Source::Header,
        PayloadClaim::Body | PayloadClaim::Stated(_) | PayloadClaim::Unsigned => true,
    };
    if fits { Ok(claim) } else { Err(SigError::PayloadUnknown) }
}

/// A presigned S3 URL may carry header fields in its query. In both places, in the query twice, or
/// in the query of a request that is signed in its header, such a field has two readings.
fn check_hoisted(head: &Head, source: Source, service: &str) -> Result<(), SigError> {
    let is_hoisted = |name: &str| is_hoisted_field(name, service) && !is_credential_field(name);
    for (index, (name, _)) in head.query.iter().enumerate().filter(|(_, (name, _))| is_hoisted(name)) {
        let again = head.query.iter().skip(index + 1).any(|(other, _)| other.eq_ignore_ascii_case(name));
        if again || source == Source::Header || head.headers.contains_key(name.as_str()) {
            let why = "an x-amz field in the query has two readings: send it in the header, once";
            return Err(SigError::Malformed { place: source, why });
        }
    }
    Ok(())
}

fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(|segment| {
        (segment.starts_with('.') || segment.starts_with('%'))
            && matches!(percent_decode_str(segment).collect::<Vec<u8>>().as_slice(), b"." | b"..")
    })
}

fn is_token_field(name: &str) -> bool {
    TOKEN_FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name))
}

fn starts_with_ignore_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
