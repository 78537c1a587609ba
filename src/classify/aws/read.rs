//! Parameters of an identified request, by the names of the model.

use std::io::Read as _;

use http::{HeaderValue, header};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::identify::{Candidate, Identified, Protocol, is_credential, media_type};
use super::place::{Place, clip};
use super::rest::{hoisted, is_query_map};
use super::{Body, Trouble};
use crate::catalog::aws::operation::Payload;
use crate::catalog::aws::shape::{Location, Member, Shape};
use crate::wire::aws::{Reading, cbor, form, json, scalar, xml};
use crate::wire::head::{Head, field_text};

/// What a gzip body may grow to.
const INFLATED_LIMIT: u64 = 8 * 1024 * 1024;

/// Reads the parameters as the first candidate that leaves no doubt, else as the first.
///
/// # Errors
/// `Refused` when the body has two readings, or fits operations of different names.
pub(super) fn read<'i, 'h>(
    head: &Head,
    body: Body<'_>,
    place: &Place<'_>,
    identified: &'i Identified<'h>,
) -> Result<(&'i Candidate<'h>, Reading), Trouble> {
    let mut kept: Option<(&Candidate<'h>, Reading)> = None;
    for candidate in &identified.candidates {
        let reading = read_as(head, body, place, identified, candidate)?;
        match &kept {
            Some((other, read)) if read.doubt.is_none() => {
                if reading.doubt.is_none() && other.operation.action_name != candidate.operation.action_name {
                    return Err(Trouble::refused("the request fits operations of two services"));
                }
            }
            _ if reading.doubt.is_none() => kept = Some((candidate, reading)),
            None => kept = Some((candidate, reading)),
            Some(_) => {}
        }
    }
    kept.ok_or_else(|| Trouble::unknown("no operation is selected"))
}

fn read_as(
    head: &Head,
    body: Body<'_>,
    place: &Place<'_>,
    identified: &Identified<'_>,
    candidate: &Candidate<'_>,
) -> Result<Reading, Trouble> {
    let mut reading = Reading::default();
    match identified.protocol {
        Protocol::Form(flavour) => {
            check_charset(head)?;
            check_plain_encoding(head)?;
            read_form(candidate, flavour, identified, &mut reading);
        }
        Protocol::Json | Protocol::RpcJson | Protocol::Cbor => {
            read_rpc(head, body, identified.protocol, candidate, &mut reading)?;
        }
        Protocol::RestJson | Protocol::RestXml => {
            read_head(head, place, candidate, &mut reading);
            read_rest_body(head, body, identified.protocol, candidate, &mut reading)?;
        }
    }
    Ok(reading)
}

fn read_form(candidate: &Candidate<'_>, flavour: form::Flavour, identified: &Identified<'_>, reading: &mut Reading) {
    let fields = identified.fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
    match candidate.operation.row.input {
        Some(shape) => form::read(candidate.service, shape, flavour, fields, reading),
        None if identified.fields.is_empty() => {}
        None => reading.doubt("the form has fields, and the operation takes none"),
    }
}

fn read_rpc(
    head: &Head,
    body: Body<'_>,
    protocol: Protocol,
    candidate: &Candidate<'_>,
    reading: &mut Reading,
) -> Result<(), Trouble> {
    check_charset(head)?;
    let kind = media_type(head);
    let is_expected = match protocol {
        Protocol::Cbor => kind.eq_ignore_ascii_case("application/cbor"),
        Protocol::RpcJson => kind.eq_ignore_ascii_case("application/json"),
        _ => {
            ["application/x-amz-json-1.0", "application/x-amz-json-1.1"].iter().any(|it| it.eq_ignore_ascii_case(kind))
        }
    };
    let Some(body) = whole(head, body, candidate, reading)? else { return Ok(()) };
    if !is_expected && (!body.is_empty() || !kind.is_empty()) {
        reading.doubt(format_args!("the content type is not one of this protocol: `{}`", clip(kind)));
    }
    if body.is_empty() {
        return Ok(());
    }
    let service = candidate.service;
    let read = match (candidate.operation.row.input, protocol) {
        (Some(shape), Protocol::Cbor) => {
            cbor::parse(&body).and_then(|value| json::read_members(service, shape, value, reading))
        }
        (Some(shape), _) => json::read(service, shape, &body, reading),
        (None, _) => {
            let value = if protocol == Protocol::Cbor { cbor::parse(&body) } else { json::parse(&body) };
            value.map(|value| {
                if value.as_object().is_none_or(|object| !object.is_empty()) {
                    reading.doubt("the body has members, and the operation takes none");
                }
            })
        }
    };
    read.or_else(|error| note(error, reading))
}

/// Labels, query and header fields.
fn read_head(head: &Head, place: &Place<'_>, candidate: &Candidate<'_>, reading: &mut Reading) {
    let Candidate { service, operation, labels } = candidate;
    let members = operation.row.input.map_or(&[][..], |shape| service.shape(shape).members());
    // Comparing the few names of a request with each member's costs less than reading each member's as a field name.
    let sent: SmallVec<[(&str, &HeaderValue); 24]> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let lengths = sent.iter().fold(0_u64, |lengths, (name, _)| lengths | 1 << (name.len() % 64));
    let header = |name: &str| {
        let is_length = lengths & 1 << (name.len() % 64) != 0;
        let found = sent.iter().find(|(it, _)| is_length && it.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| field_text(value)).or_else(|| hoisted(head, name))
    };
    for member in members {
        let name = member.wire_name();
        let shape = service.shape(member.shape);
        let value = match member.location {
            Location::Label => match labels.iter().find(|(label, _)| *label == name) {
                Some((_, text)) => text_value(shape, text, reading),
                None => None,
            },
            Location::Header => match header(name) {
                Some(text) => header_value(service, shape, text, reading),
                None => None,
            },
            Location::HeaderPrefix => prefixed(head, name),
            Location::Query if is_query_map(service, member) => leftover(head, service, members, member),
            Location::Query => query_value(head, service, member, reading),
            Location::Body => None,
        };
        if let Some(value) = value {
            reading.parameters.insert(member.name.to_owned(), value);
        }
    }
    // A required field may have chosen this operation over another one; an empty one may not count upstream.
    let is_empty = |name: &&str| header(name).or_else(|| head.query_value(name)).is_some_and(str::is_empty);
    if let Some(name) = operation.required_headers.iter().chain(&operation.required_query).find(|name| is_empty(name)) {
        reading.doubt(format_args!("a required field is empty: `{}`", clip(name)));
    }
    let is_repeated =
        |it: &&Member| it.location == Location::Header && head.headers.get_all(it.wire_name()).iter().nth(1).is_some();
    if head.headers.len() > head.headers.keys_len()
        && let Some(member) = members.iter().find(is_repeated)
    {
        reading.doubt(format_args!("a header field that the operation reads stands twice: `{}`", member.wire_name()));
    }
    if service.entry.id == "s3" {
        check_storage_fields(head, place, members, reading);
    }
}

fn text_value(shape: &Shape, text: &str, reading: &mut Reading) -> Option<Value> {
    let value = scalar(shape, text);
    if value.is_none() {
        reading.doubt("a field of the head has another type than the model says");
    }
    value.or_else(|| Some(Value::String(text.to_owned())))
}

fn header_value(
    service: &crate::catalog::aws::Service,
    shape: &Shape,
    text: &str,
    reading: &mut Reading,
) -> Option<Value> {
    match shape {
        Shape::List { element, .. } => {
            let element = service.shape(*element);
            let items = text.split(',').filter_map(|item| text_value(element, item.trim(), reading)).collect();
            Some(Value::Array(items))
        }
        Shape::Document | Shape::Map { .. } | Shape::Structure(_) => Some(Value::String(text.to_owned())),
        shape => text_value(shape, text, reading),
    }
}

fn query_value(
    head: &Head,
    service: &crate::catalog::aws::Service,
    member: &Member,
    reading: &mut Reading,
) -> Option<Value> {
    let name = member.wire_name();
    let mut values = head.query.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).peekable();
    values.peek()?;
    match service.shape(member.shape) {
        Shape::List { element, .. } => {
            let element = service.shape(*element);
            Some(Value::Array(values.filter_map(|it| text_value(element, it, reading)).collect()))
        }
        shape => text_value(shape, values.next()?, reading),
    }
}

fn prefixed(head: &Head, prefix: &str) -> Option<Value> {
    let map: Map<String, Value> = head
        .headers
        .iter()
        .filter_map(|(name, value)| {
            let name = name.as_str();
            let rest = name.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix));
            rest.and_then(|_| name.get(prefix.len()..))
                .map(|rest| (rest.to_owned(), Value::String(value.to_str().unwrap_or_default().to_owned())))
        })
        .collect();
    (!map.is_empty()).then_some(Value::Object(map))
}

/// The query fields that no other member models.
fn leftover(head: &Head, service: &crate::catalog::aws::Service, members: &[Member], taker: &Member) -> Option<Value> {
    let Shape::Map { value: shape, .. } = service.shape(taker.shape) else { return None };
    let takes_lists = matches!(service.shape(*shape), Shape::List { .. });
    let mut map = Map::new();
    for (name, value) in &head.query {
        let is_other = members
            .iter()
            .any(|it| it.location == Location::Query && !is_query_map(service, it) && it.wire_name() == name);
        if is_other || is_credential(name) || name == "x-id" {
            continue;
        }
        match map.get_mut(name) {
            Some(Value::Array(items)) => items.push(Value::String(value.clone())),
            _ => {
                let value = Value::String(value.clone());
                map.insert(name.clone(), if takes_lists { Value::Array(vec![value]) } else { value });
            }
        }
    }
    (!map.is_empty()).then_some(Value::Object(map))
}

/// S3 reads much of a request from `x-amz-*` fields; one that is not modelled may change what it does.
fn check_storage_fields(head: &Head, place: &Place<'_>, members: &[Member], reading: &mut Reading) {
    for name in head.headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with("x-amz-")) {
        let is_modelled = is_outside_the_model(name)
            || name.starts_with("x-amz-checksum-")
            || members.iter().any(|it| match it.location {
                Location::Header => it.wire_name().eq_ignore_ascii_case(name),
                Location::HeaderPrefix => {
                    name.get(..it.wire_name().len()).is_some_and(|start| start.eq_ignore_ascii_case(it.wire_name()))
                }
                Location::Body | Location::Label | Location::Query => false,
            });
        if !is_modelled {
            reading.doubt(format_args!("S3 may read a header field that is not modelled here: `{}`", clip(name)));
        }
        if hoisted(head, name).is_some_and(|value| Some(value) != head.header(name)) && !is_credential(name) {
            reading.doubt(format_args!("header and query give different values of `{}`", clip(name)));
        }
    }
    // Hoisted fields are sent on as header fields; user metadata among them was read above only from the header.
    if let Some(member) = members.iter().find(|it| it.location == Location::HeaderPrefix) {
        let has_hoisted = head.query.iter().any(|(name, _)| {
            name.get(..member.wire_name().len()).is_some_and(|start| start.eq_ignore_ascii_case(member.wire_name()))
        });
        if has_hoisted && place.is_signed {
            let map: Map<String, Value> = head
                .query
                .iter()
                .filter_map(|(name, value)| {
                    let rest =
                        name.to_ascii_lowercase().strip_prefix(&member.wire_name().to_ascii_lowercase())?.to_owned();
                    Some((rest, Value::String(value.clone())))
                })
                .collect();
            reading.parameters.insert(member.name.to_owned(), Value::Object(map));
        }
    }
}

/// Fields that every S3 operation reads, or none does.
fn is_outside_the_model(name: &str) -> bool {
    matches!(
        name,
        "x-amz-date"
            | "x-amz-content-sha256"
            | "x-amz-security-token"
            | "x-amz-user-agent"
            | "x-amz-decoded-content-length"
            | "x-amz-trailer"
            | "x-amz-s3session-token"
            | "x-amz-region-set"
            | "x-amz-te"
            | "x-amz-sdk-checksum-algorithm"
            | "x-amz-request-payer"
            | "x-amz-expected-bucket-owner"
    )
}

fn read_rest_body(
    head: &Head,
    body: Body<'_>,
    protocol: Protocol,
    candidate: &Candidate<'_>,
    reading: &mut Reading,
) -> Result<(), Trouble> {
    let operation = candidate.operation;
    if operation.payload() == Some(Payload::Data) {
        return Ok(());
    }
    let Some(body) = whole(head, body, candidate, reading)? else { return Ok(()) };
    if !operation.has_body {
        if !matches!(body.trim_ascii(), b"" | b"{}") {
            reading.doubt("the request has a body, and the operation takes none");
        }
        return Ok(());
    }
    if body.is_empty() {
        return Ok(());
    }
    check_charset(head)?;
    if protocol == Protocol::RestXml {
        read_xml(&body, candidate, reading)
    } else {
        read_json(head, &body, candidate, reading)
    }
}

fn read_json(head: &Head, body: &[u8], candidate: &Candidate<'_>, reading: &mut Reading) -> Result<(), Trouble> {
    let kind = media_type(head);
    const KINDS: [&str; 6] = [
        "",
        "application/json",
        "application/x-amz-json-1.0",
        "application/x-amz-json-1.1",
        "application/octet-stream",
        "binary/octet-stream",
    ];
    if !KINDS.iter().any(|it| it.eq_ignore_ascii_case(kind)) {
        reading.doubt(format_args!("the content type is not one of this protocol: `{}`", clip(kind)));
    }
    let Candidate { service, operation, .. } = candidate;
    let read = match (operation.row.input, operation.row.payload) {
        (Some(input), None) => json::read(service, input, body, reading),
        (Some(input), Some(payload)) => match service.shape(input).members().iter().find(|it| it.name == payload) {
            Some(member) => json::read_payload(service, member.shape, body, reading).map(|value| {
                reading.parameters.extend(value.map(|value| (member.name.to_owned(), value)));
            }),
            None => json::parse(body).map(drop),
        },
        (None, _) => json::parse(body).map(drop),
    };
    read.or_else(|error| note(error, reading))
}

fn read_xml(body: &[u8], candidate: &Candidate<'_>, reading: &mut Reading) -> Result<(), Trouble> {
    let root = match xml::parse(body) {
        Ok(root) => root,
        Err(error) => return note(error, reading),
    };
    let Candidate { service, operation, .. } = candidate;
    let Some(input) = operation.row.input else { return Ok(()) };
    let members = service.shape(input).members();
    let member = operation.row.payload.and_then(|name| members.iter().find(|it| it.name == name));
    let expected = member.map(Member::wire_name).or(operation.row.xml_root);
    if expected.is_some_and(|name| name != root.name) {
        reading.doubt(format_args!("the root of the XML body is not the modelled one: `{}`", clip(&root.name)));
    }
    match member {
        Some(member) => {
            if let Some(value) = xml::read_value(service, member.shape, root, reading) {
                reading.parameters.insert(member.name.to_owned(), value);
            }
        }
        None => xml::read_members(service, members, root, reading),
    }
    Ok(())
}

/// The body as bytes to parse, unpacked where the service takes gzip; `None` when it cannot be looked at.
fn whole<'b>(
    head: &Head,
    body: Body<'b>,
    candidate: &Candidate<'_>,
    reading: &mut Reading,
) -> Result<Option<std::borrow::Cow<'b, [u8]>>, Trouble> {
    let body = match body {
        Body::Whole(body) => body,
        Body::TooLarge => {
            reading.doubt("the body is larger than what is looked at");
            return Ok(None);
        }
        Body::Data => {
            reading.doubt("the body was not looked at");
            return Ok(None);
        }
    };
    match head.header(header::CONTENT_ENCODING).map(str::trim) {
        None | Some("" | "identity") => Ok(Some(body.into())),
        // Without a body it is the encoding of an object to come.
        Some(_) if body.is_empty() => Ok(Some(body.into())),
        Some(encoding) if encoding.eq_ignore_ascii_case("gzip") && candidate.operation.takes_gzip() => {
            let mut inflated = Vec::new();
            let mut decoder = flate2::bufread::GzDecoder::new(body);
            let read = decoder.by_ref().take(INFLATED_LIMIT + 1).read_to_end(&mut inflated);
            if inflated.len() as u64 > INFLATED_LIMIT {
                reading.doubt("the gzip body is larger than what is looked at");
                return Ok(None);
            }
            if read.is_err() || !decoder.into_inner().is_empty() {
                return Err(Trouble::refused("the gzip body is broken or has something behind it"));
            }
            Ok(Some(inflated.into()))
        }
        Some(encoding) => {
            Err(Trouble::refused(format_args!("the operation does not take bodies encoded as `{}`", clip(encoding))))
        }
    }
}

fn check_plain_encoding(head: &Head) -> Result<(), Trouble> {
    match head.header(header::CONTENT_ENCODING).map(str::trim) {
        None | Some("" | "identity") => Ok(()),
        Some(encoding) => Err(Trouble::refused(format_args!("a form must not be encoded as `{}`", clip(encoding)))),
    }
}

/// Every AWS text body is UTF-8; one that says otherwise has two readings.
fn check_charset(head: &Head) -> Result<(), Trouble> {
    let kind = head.header(header::CONTENT_TYPE).unwrap_or_default();
    if memchr::memchr2(b';', b',', kind.as_bytes()).is_none() {
        return Ok(());
    }
    for parameter in kind.split(';').skip(1) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        if is_charset && !value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8") {
            return Err(Trouble::refused("the content type names a charset other than UTF-8"));
        }
    }
    if kind.contains(',') {
        return Err(Trouble::refused("the content type is a list"));
    }
    Ok(())
}

fn note(error: crate::wire::aws::BodyError, reading: &mut Reading) -> Result<(), Trouble> {
    match error {
        crate::wire::aws::BodyError::Contradiction(why) => Err(Trouble::refused(why)),
        crate::wire::aws::BodyError::Doubt(why) => {
            reading.doubt(why);
            Ok(())
        }
    }
}
