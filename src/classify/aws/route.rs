//! Where a named request goes: the service's real host, and what to sign for.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::identify::{self, Candidate};
use super::place::Place;
use super::s3::Bucket;
use super::{Route, Trouble};
use crate::catalog::aws::ServiceEntry;
use crate::wire::head::Head;

/// The route of an identified request.
pub(super) fn of_operation(
    head: &Head,
    place: &Place<'_>,
    candidate: &Candidate<'_>,
    parameters: &Map<String, Value>,
) -> Option<Route> {
    let entry = candidate.service.entry;
    if !place.is_endpoint {
        return at_aws(head, place, entry);
    }
    if entry.id == "s3" {
        return at_s3(place, candidate, parameters);
    }
    let prefix = match candidate.operation.row.host_prefix {
        Some(template) => expanded(template, candidate, parameters)?,
        None => String::new(),
    };
    at_endpoint(head, place, entry, &prefix)
}

/// The route of a request whose operation is not known; `None` when that leaves the host open.
pub(super) fn of_service(head: &Head, place: &Place<'_>) -> Option<Route> {
    let entry = place.facts.entry(*place.services.first()?)?;
    if !place.is_endpoint {
        return at_aws(head, place, entry);
    }
    let is_form = matches!(identify::selector(head, place), Ok(identify::Selector::Form));
    let mut routes =
        place.entries().filter(|it| !is_form || it.speaks_forms).map(|it| at_endpoint(head, place, it, ""));
    let first = routes.next()??;
    let is_storage = place.services.iter().any(|it| place.is_s3(*it));
    (!is_storage && routes.all(|route| route.as_ref() == Some(&first))).then_some(first)
}

/// What stands in front of the host must be what the operation's parameters say.
///
/// # Errors
/// `Refused` when the host names another account or resource than the parameters.
pub(super) fn check_label(
    place: &Place<'_>,
    candidate: &Candidate<'_>,
    parameters: &Map<String, Value>,
) -> Result<(), Trouble> {
    let Some(label) = &place.label else { return Ok(()) };
    if place.bucket.is_some() && candidate.service.entry.id == "s3" {
        return Ok(());
    }
    match candidate.operation.row.host_prefix {
        Some(template) if template.contains('{') || place.is_endpoint => {
            let expected = expanded(template, candidate, parameters);
            if expected.as_deref() == Some(*label) {
                Ok(())
            } else {
                Err(Trouble::refused("the host names another account or resource than the parameters"))
            }
        }
        _ if place.is_endpoint => {
            Err(Trouble::refused("the operation takes no prefix in front of the endpoint's host"))
        }
        _ => Ok(()),
    }
}

/// A request that came to the real host stays on it.
fn at_aws(head: &Head, place: &Place<'_>, entry: &ServiceEntry<'static>) -> Option<Route> {
    let signing_name = place.signing_name.clone().unwrap_or(Cow::Borrowed(entry.signing_name));
    let region = place.region.clone().unwrap_or(Cow::Borrowed(place.partition.global));
    let signing_region = match entry.endpoint(place.partition.id, &region) {
        Some(endpoint) if !endpoint.2.is_empty() && endpoint.0 == head.host.name => Cow::Borrowed(endpoint.2),
        _ => region,
    };
    Some(Route { signing_name, signing_region, host: head.host.name.clone() })
}

fn at_endpoint(head: &Head, place: &Place<'_>, entry: &ServiceEntry<'static>, prefix: &str) -> Option<Route> {
    let region = place.region.as_ref()?;
    let endpoint = entry.endpoint(place.partition.id, region)?;
    // The endpoint's own path would have to be put in front, and agents on our endpoint leave it out.
    if !endpoint.1.is_empty() && !head.path.starts_with(&format!("/{}/", endpoint.1)) {
        return None;
    }
    Some(Route {
        signing_name: place.signing_name.clone().unwrap_or(Cow::Borrowed(entry.signing_name)),
        signing_region: if endpoint.2.is_empty() { region.clone() } else { Cow::Borrowed(endpoint.2) },
        host: format!("{prefix}{}", endpoint.0.replace("{r}", region)),
    })
}

fn at_s3(place: &Place<'_>, candidate: &Candidate<'_>, parameters: &Map<String, Value>) -> Option<Route> {
    let region = place.region.as_ref()?;
    let suffix = place.partition.suffix;
    let signing_name = place.signing_name.clone().unwrap_or(Cow::Borrowed("s3"));
    let bucket = parameters.get("Bucket").and_then(Value::as_str).unwrap_or_default();
    let host = if candidate.operation.row.name == "WriteGetObjectResponse" {
        let prefix = expanded(candidate.operation.row.host_prefix?, candidate, parameters)?;
        format!("{prefix}s3-object-lambda.{region}.{suffix}")
    } else if let Some(zone) = directory_zone(bucket) {
        let is_data = parameters.contains_key("Key")
            || matches!(
                candidate.operation.row.name,
                "CreateSession" | "DeleteObjects" | "HeadBucket" | "ListMultipartUploads" | "ListObjectsV2"
            );
        if is_data {
            format!("s3express-{zone}.{region}.{suffix}")
        } else {
            format!("s3express-control.{region}.{suffix}")
        }
    } else if candidate.operation.row.name == "ListDirectoryBuckets" {
        format!("s3express-control.{region}.{suffix}")
    } else {
        match &place.bucket {
            Some(Bucket::Name(name)) => format!("{name}.s3.{region}.{suffix}"),
            Some(Bucket::Arn(_)) => return None,
            None => format!("s3.{region}.{suffix}"),
        }
    };
    Some(Route { signing_name, signing_region: region.clone(), host })
}

/// The zone of a directory bucket, `name--usw2-az1--x-s3`.
fn directory_zone(bucket: &str) -> Option<&str> {
    bucket.strip_suffix("--x-s3")?.rsplit_once("--").map(|(_, zone)| zone)
}

/// Fills the labels of a host prefix; `None` when one is absent or could not stand in a host name.
fn expanded(template: &str, candidate: &Candidate<'_>, parameters: &Map<String, Value>) -> Option<String> {
    let members = candidate.operation.row.input.map_or(&[][..], |it| candidate.service.shape(it).members());
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        let member = members.iter().find(|it| it.name == name || it.wire_name() == name)?;
        let value = parameters.get(member.name)?.as_str()?;
        let is_label = (1..=63).contains(&value.len())
            && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !is_label {
            return None;
        }
        text.push_str(before);
        text.push_str(value);
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}
