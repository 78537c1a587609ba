//! An approver's parameters in place of a request's own.

use http::{HeaderValue, header};
use serde_json::{Map, Value};

use super::identify::{Candidate, Protocol, identify, is_credential};
use super::{Body, Front, place, read};
use crate::catalog::aws::shape::{Location, Member};
use crate::wire::aws::{form, json};
use crate::wire::head::Head;

pub(super) fn narrow(
    head: &Head,
    body: &[u8],
    front: &Front,
    parameters: &Map<String, Value>,
) -> Result<(Head, Vec<u8>), String> {
    let original = Body::Whole(body);
    let place = place::locate(head, front).map_err(|it| it.to_string())?;
    let identified = identify(head, original, &place).map_err(|it| it.to_string())?;
    let (candidate, reading) = read::read(head, original, &place, &identified).map_err(|it| it.to_string())?;
    if let Some(doubt) = reading.doubt {
        return Err(format!("the request is not understood well enough to be changed: {doubt}"));
    }
    let mut head = head.clone();
    let body = match identified.protocol {
        Protocol::Form(flavour) => write_form(&mut head, body, candidate, flavour, parameters)?,
        Protocol::Json | Protocol::RpcJson => {
            let object = json::write_members(candidate.service, members(candidate), parameters)?;
            Value::Object(object).to_string().into_bytes()
        }
        Protocol::RestJson => write_rest(candidate, &reading.parameters, parameters)?,
        Protocol::Cbor => return Err("a CBOR request cannot be changed".to_owned()),
        Protocol::RestXml => return Err("an XML request cannot be changed".to_owned()),
    };
    // What stated the old body's encoding or digest would contradict the new one.
    head.headers.remove(header::CONTENT_ENCODING);
    head.headers.remove("content-md5");
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Ok((head, body))
}

fn members(candidate: &Candidate<'_>) -> &'static [Member] {
    candidate.operation.row.input.map_or(&[][..], |shape| candidate.service.shape(shape).members())
}

/// Writes the form where it came from, body or query, with its `Action` and `Version`.
fn write_form(
    head: &mut Head,
    body: &[u8],
    candidate: &Candidate<'_>,
    flavour: form::Flavour,
    parameters: &Map<String, Value>,
) -> Result<Vec<u8>, String> {
    let written = match candidate.operation.row.input {
        Some(shape) => form::write(candidate.service, shape, flavour, parameters)?,
        None if parameters.is_empty() => Vec::new(),
        None => return Err("the operation takes no parameters".to_owned()),
    };
    if body.is_empty() {
        let mut query: Vec<_> = std::mem::take(&mut head.query);
        query.retain(|(name, _)| name == "Action" || name == "Version" || is_credential(name));
        query.extend(written);
        head.query = query;
        return Ok(Vec::new());
    }
    let fields = form::parse(body).map_err(|it| it.to_string())?;
    let selectors = fields.iter().filter(|(name, _)| name == "Action" || name == "Version");
    let all = selectors
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
        .chain(written.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    Ok(form::encode(all).into_bytes())
}

/// Only what travels in the body can be changed.
fn write_rest(
    candidate: &Candidate<'_>,
    original: &Map<String, Value>,
    parameters: &Map<String, Value>,
) -> Result<Vec<u8>, String> {
    let members = members(candidate);
    let payload = candidate.operation.row.payload;
    let in_body = |name: &str| {
        members.iter().any(|it| it.name == name && it.location == Location::Body) && payload.is_none_or(|it| it == name)
    };
    for name in original.keys().chain(parameters.keys()).filter(|name| !in_body(name)) {
        if original.get(name) != parameters.get(name) {
            return Err(format!("`{name}` does not travel in the body and cannot be changed"));
        }
    }
    let changed: Map<String, Value> = parameters
        .iter()
        .filter(|(name, _)| in_body(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let object = json::write_members(candidate.service, members, &changed)?;
    match payload {
        None if !candidate.operation.has_body => Ok(Vec::new()),
        None => Ok(Value::Object(object).to_string().into_bytes()),
        Some(_) if candidate.operation.payload() == Some(crate::catalog::aws::operation::Payload::Data) => {
            Err("the body of this operation is data and cannot be changed".to_owned())
        }
        Some(_) => Ok(object.into_iter().next().map(|(_, value)| value.to_string().into_bytes()).unwrap_or_default()),
    }
}
