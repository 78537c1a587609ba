//! Which operation a request selects, whatever protocol its service declares: SDKs send JSON to
//! services that now prefer CBOR, and old ones still send forms.
//!
//! There are four selectors: an RPC path, `X-Amz-Target`, `Action`, and verb with path. Two of them
//! in one request are two readings, and refused.

use std::borrow::Cow;

use http::{Method, header};
use smallvec::SmallVec;

use super::place::{Place, clip};
use super::{Body, Trouble};
use crate::catalog::aws::operation::Operation;
use crate::catalog::aws::{Service, ServiceNumber, Table};
use crate::wire::aws::form::{self, Fields, Flavour};
use crate::wire::head::{Head, fields};

/// How the request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Cbor,
    Form(Flavour),
    Json,
    RestJson,
    RestXml,
    /// `rpc-v2-json`
    RpcJson,
}

/// One operation the request may select. Several remain only where services share one wire request.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'h> {
    pub(super) service: &'static Service,
    pub(super) operation: &'static Operation,
    /// Wire names and decoded values of the path's labels.
    pub(super) labels: Labels<'h>,
}

pub(super) type Labels<'h> = SmallVec<[(&'static str, Cow<'h, str>); 2]>;

/// The outcome of identification: at least one candidate.
#[derive(Debug)]
pub(super) struct Identified<'b> {
    pub(super) protocol: Protocol,
    pub(super) candidates: SmallVec<[Candidate<'b>; 2]>,
    /// The form's fields without the selectors, for the form protocols.
    pub(super) fields: Fields<'b>,
}

/// What can be known of the selector without the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selector<'h> {
    Form,
    Rest,
    Rpc { service: &'h str, operation: &'h str, is_cbor: bool },
    Target(&'h str),
}

/// Finds the one selector of a request.
///
/// # Errors
/// When there is more than one.
pub(super) fn selector<'h>(head: &'h Head, place: &Place<'_>) -> Result<Selector<'h>, Trouble> {
    let target = head.header(&fields::X_AMZ_TARGET);
    let smithy = head.header(&fields::SMITHY_PROTOCOL);
    let speaks_forms = place.entries().any(|it| it.speaks_forms);
    let has_action = head.query.iter().any(|(name, _)| name == "Action");
    let has_form = is_form(head);
    if speaks_forms && has_action || has_form && (speaks_forms && head.method == Method::POST || target.is_some()) {
        if target.is_some() || smithy.is_some() {
            return Err(Trouble::refused("the request selects its operation in two ways: a form and a header field"));
        }
        return Ok(Selector::Form);
    }
    match (target, smithy) {
        (Some(_), Some(_)) => Err(Trouble::refused("X-Amz-Target and Smithy-Protocol select in two ways")),
        (Some(target), None) => Ok(Selector::Target(target)),
        (None, Some(protocol)) => {
            let parts: SmallVec<[&str; 6]> = head.path.split('/').collect();
            match (parts.as_slice(), protocol) {
                (["", "service", service, "operation", operation], "rpc-v2-cbor" | "rpc-v2-json") => {
                    Ok(Selector::Rpc { service, operation, is_cbor: protocol == "rpc-v2-cbor" })
                }
                _ => Err(Trouble::refused("Smithy-Protocol does not fit the path")),
            }
        }
        (None, None) => Ok(Selector::Rest),
    }
}

/// Identifies the operation.
///
/// # Errors
/// `Unknown` when no operation of the table is selected, `Refused` when several readings exist.
pub(super) fn identify<'b>(head: &'b Head, body: Body<'b>, place: &Place<'_>) -> Result<Identified<'b>, Trouble> {
    match selector(head, place)? {
        Selector::Form => by_action(head, body, place),
        Selector::Rest => super::rest::by_path(head, place),
        Selector::Rpc { service, operation, is_cbor } => by_rpc(head, place, (service, operation), is_cbor),
        Selector::Target(target) => by_target(head, place, target),
    }
}

fn by_target<'b>(head: &Head, place: &Place<'_>, target: &str) -> Result<Identified<'b>, Trouble> {
    let (prefix, name) = target
        .rsplit_once('.')
        .filter(|_| !target.contains([',', ' ', ';']))
        .ok_or_else(|| Trouble::refused("X-Amz-Target is malformed"))?;
    let known = place.facts.services_with_target(prefix);
    let services: SmallVec<[_; 2]> = known.iter().copied().filter(|it| place.services.contains(it)).collect();
    if services.is_empty() {
        return Err(if known.is_empty() {
            Trouble::unknown(format_args!("no service has the X-Amz-Target prefix `{}`", clip(prefix)))
                .named(prefix_of(place), name)
        } else {
            Trouble::refused("X-Amz-Target names another service than host and credential scope")
        });
    }
    check_rpc_shape(head, "X-Amz-Target")?;
    let candidates = with_operation(place.facts, &services, name);
    if candidates.is_empty() {
        return Err(no_operation(prefix_of(place), name));
    }
    Ok(Identified { protocol: Protocol::Json, candidates, fields: Fields::new() })
}

fn by_rpc<'b>(
    head: &Head,
    place: &Place<'_>,
    (prefix, name): (&str, &str),
    is_cbor: bool,
) -> Result<Identified<'b>, Trouble> {
    let services: SmallVec<[_; 2]> =
        place.facts.services_with_target(prefix).iter().copied().filter(|it| place.services.contains(it)).collect();
    if services.is_empty() {
        return Err(Trouble::refused("the RPC path names another service than host and credential scope"));
    }
    if head.method != Method::POST || has_query(head) {
        return Err(Trouble::refused("an RPC request is a POST without query"));
    }
    let candidates = with_operation(place.facts, &services, name);
    if candidates.is_empty() {
        return Err(no_operation(prefix_of(place), name));
    }
    let protocol = if is_cbor { Protocol::Cbor } else { Protocol::RpcJson };
    Ok(Identified { protocol, candidates, fields: Fields::new() })
}

fn by_action<'b>(head: &'b Head, body: Body<'b>, place: &Place<'_>) -> Result<Identified<'b>, Trouble> {
    let body = match (body, &head.method) {
        (Body::Whole(body), &Method::POST) if is_form(head) || body.is_empty() => body,
        (Body::Whole([]), &Method::GET) => &[],
        (Body::Whole(_), _) => {
            return Err(Trouble::refused("a form request is a GET without body or a POST of a form"));
        }
        (Body::Data | Body::TooLarge, _) => return Err(Trouble::unknown("the body is larger than what is looked at")),
    };
    let in_query = head.query.iter().filter(|(name, _)| !is_credential(name));
    let mut fields: Fields<'b> =
        in_query.map(|(name, value)| (Cow::Borrowed(name.as_str()), Cow::Borrowed(value.as_str()))).collect();
    let in_body = form::parse(body)?;
    let selects = |fields: &Fields<'_>| fields.iter().any(|(name, _)| name == "Action" || name == "Version");
    if selects(&fields) && selects(&in_body) {
        return Err(Trouble::refused("both the query and the body select an operation"));
    }
    let is_split = !fields.is_empty() && !in_body.is_empty();
    let mut constants = Fields::new();
    if is_split {
        constants = std::mem::take(&mut fields);
    }
    if fields.is_empty() {
        fields = in_body;
    } else {
        fields.extend(in_body);
        form::check_unique(&fields)?;
    }
    let action = take(&mut fields, "Action").ok_or_else(|| Trouble::unknown("the form has no `Action`"))?;
    let Some(version) = take(&mut fields, "Version") else {
        return Err(Trouble::unknown("the form has no `Version`").named(prefix_of(place), &action));
    };
    if !place.is_signed || place.signing_name.is_none() {
        fields.retain(|(name, _)| !OLD_SIGNATURE_FIELDS.contains(&&**name));
    }
    let mut candidates = form_candidates(place, &action, &version);
    // The constants of a path template are the only query fields that a form in the body may have beside it.
    candidates.retain(|it| {
        let template = &it.operation.constants;
        constants.iter().all(|(name, value)| template.iter().any(|(n, v)| n == name && v == value))
    });
    let Some(first) = candidates.first() else {
        return Err(if is_split {
            Trouble::refused("parameters stand both in the query and in the body")
        } else {
            no_operation(prefix_of(place), &action)
        });
    };
    let flavour = if first.service.entry.speaks("ec2") { Flavour::Ec2 } else { Flavour::Query };
    queue_path(head, &candidates, &mut fields)?;
    Ok(Identified { protocol: Protocol::Form(flavour), candidates, fields })
}

fn form_candidates<'h>(place: &Place<'_>, action: &str, version: &str) -> SmallVec<[Candidate<'h>; 2]> {
    let services: SmallVec<[_; 8]> = place
        .services
        .iter()
        .copied()
        .filter(|it| place.facts.entry(*it).is_some_and(|it| it.speaks_forms && it.versions.contains(&version)))
        .collect();
    with_operation(place.facts, &services, action)
}

/// Old SQS clients send to the queue's own URL; every other form goes to `/`.
fn queue_path(head: &Head, candidates: &[Candidate<'_>], fields: &mut Fields<'_>) -> Result<(), Trouble> {
    if head.path == "/" {
        return Ok(());
    }
    let is_queue = candidates.iter().all(|it| it.service.entry.id == "sqs");
    let parts: SmallVec<[&str; 4]> = head.path.split('/').collect();
    match parts.as_slice() {
        ["", account, queue]
            if is_queue
                && account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit())
                && !queue.is_empty()
                && queue.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) =>
        {
            let suffix = &head.path;
            match fields.iter().find(|(name, _)| name == "QueueUrl") {
                Some((_, url)) if !url.ends_with(suffix.as_str()) => {
                    Err(Trouble::refused("the path and `QueueUrl` name different queues"))
                }
                Some(_) => Ok(()),
                None => {
                    fields.push((Cow::Borrowed("QueueUrl"), Cow::Owned(suffix.clone())));
                    Ok(())
                }
            }
        }
        _ => Err(Trouble::refused("a form that selects an operation must go to `/`")),
    }
}

/// `X-Amz-Target` requests are a POST to `/` without query.
fn check_rpc_shape(head: &Head, selector: &str) -> Result<(), Trouble> {
    if head.method != Method::POST || head.path != "/" || has_query(head) {
        return Err(Trouble::refused(format_args!("{selector} is only read on a POST to `/` without query")));
    }
    Ok(())
}

fn with_operation<'h>(facts: &'static Table, services: &[ServiceNumber], name: &str) -> SmallVec<[Candidate<'h>; 2]> {
    let mut candidates: SmallVec<[Candidate<'h>; 2]> = services
        .iter()
        .filter_map(|number| facts.service(*number))
        .filter_map(|service| {
            let operation = service.operation(name)?;
            Some(Candidate { service, operation, labels: Labels::new() })
        })
        .collect();
    // The service that has most of the shared operations knows them best.
    candidates.sort_by_key(|it| std::cmp::Reverse(it.service.operations.len()));
    candidates
}

/// The IAM prefix when all candidates share one.
pub(super) fn prefix_of(place: &Place<'_>) -> Option<&'static str> {
    let mut prefixes = place.entries().map(|it| it.prefix);
    let first = prefixes.next()?;
    prefixes.all(|it| it == first).then_some(first)
}

pub(super) fn no_operation(prefix: Option<&'static str>, name: &str) -> Trouble {
    Trouble::unknown(format_args!("no operation `{}` is known of this service and version", clip(name)))
        .named(prefix, name)
}

pub(super) fn is_form(head: &Head) -> bool {
    media_type(head).eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The media type without parameters; empty when there is none.
pub(super) fn media_type(head: &Head) -> &str {
    let kind = head.header(header::CONTENT_TYPE).unwrap_or_default();
    let end = memchr::memchr(b';', kind.as_bytes()).unwrap_or(kind.len());
    kind.get(..end).unwrap_or_default().trim_ascii()
}

fn take(fields: &mut Fields<'_>, name: &str) -> Option<String> {
    let index = fields.iter().position(|(field, _)| field == name)?;
    Some(fields.remove(index).1.into_owned())
}

fn has_query(head: &Head) -> bool {
    head.query.iter().any(|(name, _)| !is_credential(name))
}

/// Query fields that belong to a signature, not to an operation.
pub(super) fn is_credential(name: &str) -> bool {
    const FIELDS: [&str; 10] = [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
        "X-Amz-S3session-Token",
        "X-Amz-Content-Sha256",
        "X-Amz-Region-Set",
    ];
    FIELDS.iter().any(|field| field.eq_ignore_ascii_case(name))
}

/// Fields of Signature Version 2, which stands among the form's own.
const OLD_SIGNATURE_FIELDS: [&str; 7] =
    ["AWSAccessKeyId", "Expires", "SecurityToken", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp"];
