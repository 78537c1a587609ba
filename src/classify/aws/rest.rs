//! Verb, path and query to operation, for rest-json and rest-xml.
//!
//! The raw path is split first and every segment decoded once, so that an encoded slash is data. A
//! query field that the operation does not model makes it unknown: a sub-resource younger than the
//! table must not be read as the plain operation under the same path.

use std::borrow::Cow;
use std::cmp::Reverse;

use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use super::Trouble;
use super::identify::{Candidate, Identified, Labels, Protocol, is_credential, prefix_of};
use super::place::{Place, clip};
use super::s3::is_bucket_name;
use crate::catalog::aws::Service;
use crate::catalog::aws::operation::{Operation, Segment};
use crate::catalog::aws::shape::{Location, Member, Shape};
use crate::wire::aws::form::Fields;
use crate::wire::head::Head;

/// More segments than any template can match sensibly; bounds the search of greedy labels.
const SEGMENT_LIMIT: usize = 128;

type Segments<'h> = SmallVec<[Cow<'h, str>; 8]>;

/// An operation whose verb and path fit, before its query and header fields were looked at.
type Reached = (&'static Service, &'static Operation);

/// Finds the operation by verb, path and query.
///
/// # Errors
/// `Unknown` when none fits, `Refused` when the path or query has two readings.
pub(super) fn by_path<'b>(head: &'b Head, place: &Place<'_>) -> Result<Identified<'b>, Trouble> {
    let paths = Paths::read(head, place)?;
    let mut fits: Candidates<'b> = SmallVec::new();
    let mut taken = Taken::new();
    // Nearly all of S3's operations ask for a query field, and most requests have none.
    paths.each_operation(head, place, head.query.is_empty(), |service, operation, path| {
        if demands_met(head, operation)
            && matches(&operation.path, path, &mut taken)
            && !is_of_other_host(head, place, service, operation)
            && unmodelled_field(head, service, operation).is_none()
        {
            fits.push(Candidate { service, operation, labels: labels(&operation.path, path, &taken) });
        }
    });
    let candidates = best(fits, head, place)?;
    let Some(first) = candidates.first() else { return Err(unmatched(head, place, &paths.reached(head, place))) };
    check_repeats(head, first)?;
    let protocol = if first.service.entry.speaks("rest-xml") { Protocol::RestXml } else { Protocol::RestJson };
    Ok(Identified { protocol, candidates, fields: Fields::new() })
}

/// The path as S3 reads it and as every other service does, where it can be one of theirs.
struct Paths<'h> {
    storage: Option<Segments<'h>>,
    plain: Option<Segments<'h>>,
}

impl<'h> Paths<'h> {
    fn read(head: &'h Head, place: &Place<'_>) -> Result<Self, Trouble> {
        let has_storage = place.services.iter().any(|it| place.is_s3(*it));
        let storage = if has_storage { Some(storage_segments(head, place)?) } else { None };
        let is_storage_alone = has_storage && place.services.iter().all(|it| place.is_s3(*it));
        let plain = match (!is_storage_alone).then(|| plain_segments(&head.path)) {
            None => None,
            Some(Ok(plain)) => Some(plain),
            // Dots are data in an object's key.
            Some(Err(_)) if has_storage => None,
            Some(Err(trouble)) => return Err(trouble),
        };
        Ok(Self { storage, plain })
    }

    /// Every operation of the place that has the request's verb and may have its path; with `is_alone` those that ask
    /// for no query field.
    fn each_operation(
        &self,
        head: &Head,
        place: &Place<'_>,
        is_alone: bool,
        mut tell: impl FnMut(&'static Service, &'static Operation, &[Cow<'h, str>]),
    ) {
        for number in &place.services {
            let path = if place.is_s3(*number) { self.storage.as_deref() } else { self.plain.as_deref() };
            let is_rest = place.facts.entry(*number).is_some_and(|it| it.speaks_rest);
            let (Some(path), true, Some(service)) = (path, is_rest, place.facts.service(*number)) else { continue };
            for operation in service.operations_under(head.method.as_str(), path.first().map_or("", |it| it), is_alone)
            {
                let is_open = place.is_signed || !place.is_endpoint || operation.needs_no_signature();
                if is_open && operation.path.len() <= path.len() {
                    tell(service, operation, path);
                }
            }
        }
    }

    /// The operations that have the request's verb and path, to say why none of them is meant.
    fn reached(&self, head: &Head, place: &Place<'_>) -> SmallVec<[Reached; 8]> {
        let mut reached = SmallVec::new();
        let mut taken = Taken::new();
        self.each_operation(head, place, false, |service, operation, path| {
            if matches(&operation.path, path, &mut taken) && !is_of_other_host(head, place, service, operation) {
                reached.push((service, operation));
            }
        });
        reached
    }
}

type Candidates<'h> = SmallVec<[Candidate<'h>; 2]>;

/// `GET /` lists buckets, or directory buckets where those are controlled; there are no objects.
fn is_of_other_host(head: &Head, place: &Place<'_>, service: &Service, operation: &Operation) -> bool {
    if service.entry.id != "s3" {
        return false;
    }
    let is_control = || !place.is_endpoint && place.bucket.is_none() && head.host.name.starts_with("s3express-control");
    let is_directory = || is_control() || place.is_endpoint && place.signing_name.as_deref() == Some("s3express");
    match operation.row.name {
        "ListBuckets" => is_directory(),
        "ListDirectoryBuckets" => !is_directory(),
        _ => operation.path.len() > 1 && is_control(),
    }
}

/// Decoded segments of a path of any service but S3. Dots are refused; so are empty segments but for the first and the
/// last, since servers differ in whether they drop them.
fn plain_segments(path: &str) -> Result<Segments<'_>, Trouble> {
    let mut segments = Segments::new();
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    for raw in inner.split('/').filter(|_| !inner.is_empty()) {
        if raw.is_empty() {
            return Err(Trouble::refused("the path holds an empty segment"));
        }
        let segment = decoded(raw)?;
        if segment == "." || segment == ".." {
            return Err(Trouble::refused("the path holds a dot segment"));
        }
        segments.push(segment);
    }
    if segments.len() > SEGMENT_LIMIT {
        return Err(Trouble::unknown("the path has more segments than are looked at"));
    }
    Ok(segments)
}

/// Bucket and key as two segments; the key keeps every slash and dot.
fn storage_segments<'h>(head: &'h Head, place: &Place<'_>) -> Result<Segments<'h>, Trouble> {
    let path = head.path.strip_prefix('/').unwrap_or(&head.path);
    let (bucket, key) = match &place.bucket {
        Some(bucket) => (Cow::Owned(bucket.parameter().to_owned()), path),
        None => {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            let bucket = decoded(bucket)?;
            if bucket == "." || bucket == ".." {
                return Err(Trouble::refused("the path holds a dot segment in place of a bucket"));
            }
            if !bucket.is_empty() && !is_bucket_name(&bucket) {
                return Err(Trouble::unknown("the path names a bucket that S3 does not allow"));
            }
            if bucket.is_empty() && !key.is_empty() {
                return Err(Trouble::unknown("the path names a key without a bucket"));
            }
            (bucket, key)
        }
    };
    let mut segments = Segments::new();
    if !bucket.is_empty() {
        segments.push(bucket);
        if !key.is_empty() {
            let key = decoded(key)?;
            let is_in_host = place.bucket.is_some();
            if if is_in_host { key.split('/').any(|it| it == "..") } else { climbs_out(&key) } {
                return Err(Trouble::refused("the key holds dot segments, which may lead out of its bucket"));
            }
            segments.push(key);
        }
    }
    Ok(segments)
}

/// Whether a path leads above where it starts, for one who resolves its dot segments (RFC 3986, section 5.2.4).
/// S3 does not, but answers such keys with an error; what stands before it may.
pub(super) fn climbs_out(path: &str) -> bool {
    let mut depth = 0_usize;
    path.split('/').any(|segment| match segment {
        "" | "." => false,
        ".." if depth == 0 => true,
        ".." => {
            depth -= 1;
            false
        }
        _ => {
            depth += 1;
            false
        }
    })
}

fn decoded(raw: &str) -> Result<Cow<'_, str>, Trouble> {
    percent_decode_str(raw).decode_utf8().map_err(|_| Trouble::unknown("the path is not valid UTF-8"))
}

/// How literal each segment's match is: 0 literal, 1 label, 2 greedy, 3 the end, so that a template that
/// says more behind the same start fits better.
type Kinds = SmallVec<[u8; 8]>;

/// How well an operation fits; the least wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    kinds: Kinds,
    constants: Reverse<usize>,
    required: Reverse<usize>,
    is_slash_wrong: bool,
}

impl Fit {
    fn new(operation: &Operation, path: &str) -> Self {
        let kinds = operation.path.iter().map(|segment| match segment {
            Segment::Date | Segment::Literal(_) => 0,
            Segment::Label(_) => 1,
            Segment::Greedy(_) => 2,
        });
        Self {
            kinds: kinds.chain([3]).collect(),
            constants: Reverse(operation.constants.len()),
            required: Reverse(operation.required_query.len() + operation.required_headers.len()),
            is_slash_wrong: operation.ends_with_slash != (path.len() > 1 && path.ends_with('/')),
        }
    }
}

/// Fills in how many segments of the path each segment of the template takes; `false` when it does not match.
fn matches(template: &[Segment], path: &[Cow<'_, str>], taken: &mut Taken) -> bool {
    taken.clear();
    matches_from(template, path, taken)
}

fn matches_from(template: &[Segment], path: &[Cow<'_, str>], taken: &mut Taken) -> bool {
    let (Some((segment, template)), Some((first, rest))) = (template.split_first(), path.split_first()) else {
        return template.is_empty() && path.is_empty();
    };
    let is_one = match segment {
        Segment::Date => is_date(first),
        Segment::Greedy(_) => {
            let so_far = taken.len();
            return (1..=path.len()).rev().any(|count| {
                taken.truncate(so_far);
                taken.push(count);
                path.get(count..).is_some_and(|rest| matches_from(template, rest, taken))
            });
        }
        Segment::Label(_) => true,
        Segment::Literal(text) => text == first,
    };
    if is_one {
        taken.push(1);
    }
    is_one && matches_from(template, rest, taken)
}

type Taken = SmallVec<[usize; 8]>;

fn labels<'h>(template: &[Segment], path: &[Cow<'h, str>], taken: &Taken) -> Labels<'h> {
    let mut path = path;
    let mut labels = Labels::new();
    for (segment, count) in template.iter().zip(taken) {
        let Some((here, rest)) = path.split_at_checked(*count) else { break };
        path = rest;
        if let Segment::Greedy(name) | Segment::Label(name) = segment {
            let text = match here {
                [one] => one.clone(),
                several => Cow::Owned(several.join("/")),
            };
            labels.push((name, text));
        }
    }
    labels
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, b)| if matches!(at, 4 | 7) { b == b'-' } else { b.is_ascii_digit() })
}

/// True when the query constants of the template and all required fields are there.
fn demands_met(head: &Head, operation: &Operation) -> bool {
    let has = |name: &str| head.query.iter().any(|(field, _)| field == name);
    operation
        .constants
        .iter()
        .all(|(name, value)| head.query.iter().any(|(field, sent)| field == name && sent == value))
        && operation.required_query.iter().all(|name| has(name))
        && operation.required_headers.iter().all(|name| has_field(head, name) || hoisted(head, name).is_some())
}

/// Whether a header field is there; comparing the few names of a request costs less than reading this one.
fn has_field(head: &Head, name: &str) -> bool {
    head.headers.keys().any(|it| it.as_str().eq_ignore_ascii_case(name))
}

/// A header field that a presigned URL carries in its query.
pub(super) fn hoisted<'h>(head: &'h Head, name: &str) -> Option<&'h str> {
    if head.query.is_empty() {
        return None;
    }
    let is_hoistable = name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-"));
    if !is_hoistable {
        return None;
    }
    head.query.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// The first query field that the operation does not model.
fn unmodelled_field<'h>(head: &'h Head, service: &Service, operation: &Operation) -> Option<&'h str> {
    if head.query.is_empty() {
        return None;
    }
    let members = operation.row.input.map_or(&[][..], |shape| service.shape(shape).members());
    let takes_any = members.iter().any(|it| is_query_map(service, it));
    let is_storage = service.entry.id == "s3";
    let is_old_url = is_storage && head.query_value("AWSAccessKeyId").is_some();
    head.query.iter().map(|(name, _)| name.as_str()).find(|name| {
        let is_modelled = takes_any
            || is_credential(name)
            || operation.constants.iter().any(|(constant, _)| constant == name)
            || members.iter().any(|it| match it.location {
                Location::Query => it.wire_name() == *name,
                Location::Header => is_storage && is_hoist(name, it.wire_name()),
                Location::HeaderPrefix => {
                    is_storage && name.get(..it.wire_name().len()).is_some_and(|start| is_hoist(start, it.wire_name()))
                }
                Location::Body | Location::Label => false,
            })
            || *name == "x-id" && head.query_value("x-id") == Some(operation.row.name)
            || is_storage && matches!(*name, "AWSAccessKeyId" | "Signature" | "Expires")
            // Old presigned URLs repeat the two header fields that their signature covers.
            || is_storage && is_old_url && matches!(*name, "content-md5" | "content-type")
            || is_storage && name.eq_ignore_ascii_case("x-amz-user-agent");
        !is_modelled
    })
}

fn is_hoist(name: &str, header: &str) -> bool {
    name.eq_ignore_ascii_case(header) && header.get(..6).is_some_and(|it| it.eq_ignore_ascii_case("x-amz-"))
}

/// A member that takes every query field nobody else models.
pub(super) fn is_query_map(service: &Service, member: &Member) -> bool {
    member.location == Location::Query && matches!(service.shape(member.shape), Shape::Map { .. })
}

/// The fits no other fit beats: one action, but for services that are told apart by hosts we do not
/// see at an endpoint of ours. Those stay side by side for the body to settle.
fn best<'h>(mut candidates: Candidates<'h>, head: &Head, place: &Place<'_>) -> Result<Candidates<'h>, Trouble> {
    if candidates.len() < 2 {
        return Ok(candidates);
    }
    let fits: SmallVec<[Fit; 4]> = candidates.iter().map(|it| Fit::new(it.operation, &head.path)).collect();
    let least = fits.iter().min();
    let mut are_least = fits.iter().map(|fit| Some(fit) == least);
    candidates.retain(|_| are_least.next().unwrap_or(false));
    let replaced: SmallVec<[bool; 4]> = candidates
        .iter()
        .map(|old| {
            let is_newer = |it: &Candidate<'_>| std::ptr::eq(it.service, old.service) && !it.operation.is_deprecated();
            old.operation.is_deprecated() && candidates.iter().any(is_newer)
        })
        .collect();
    let mut replaced = replaced.into_iter();
    candidates.retain(|_| !replaced.next().unwrap_or(false));
    let is_ambiguous = candidates.iter().enumerate().any(|(index, one)| {
        candidates.iter().skip(index + 1).any(|other| {
            one.operation.action_name != other.operation.action_name
                && (!place.is_endpoint || std::ptr::eq(one.service, other.service))
        })
    });
    if is_ambiguous {
        return Err(Trouble::refused("the verb and path select more than one operation"));
    }
    candidates.sort_by_key(|it| Reverse(it.service.operations.len()));
    Ok(candidates)
}

/// A query field may stand twice only where the model has a list or map of it.
fn check_repeats(head: &Head, candidate: &Candidate<'_>) -> Result<(), Trouble> {
    if head.query.len() < 2 {
        return Ok(());
    }
    let members = candidate.operation.row.input.map_or(&[][..], |shape| candidate.service.shape(shape).members());
    for (index, (name, _)) in head.query.iter().enumerate() {
        let is_repeated = head.query.iter().skip(index + 1).any(|(other, _)| other.eq_ignore_ascii_case(name));
        let takes_many = members.iter().any(|it| {
            let shape = candidate.service.shape(it.shape);
            it.location == Location::Query
                && match shape {
                    Shape::List { .. } => it.wire_name() == name,
                    Shape::Map { value, .. } => matches!(candidate.service.shape(*value), Shape::List { .. }),
                    _ => false,
                }
        });
        if is_repeated && !takes_many {
            return Err(Trouble::refused(format_args!("the query has the same field twice: `{}`", clip(name))));
        }
    }
    Ok(())
}

/// Says why nothing fits, as closely as it is known.
fn unmatched(head: &Head, place: &Place<'_>, reached: &[Reached]) -> Trouble {
    let prefix = prefix_of(place);
    let field = reached.iter().find_map(|(service, operation)| {
        if demands_met(head, operation) { unmodelled_field(head, service, operation) } else { None }
    });
    let mut selectors: SmallVec<[&str; 4]> = SmallVec::new();
    for (name, value) in &head.query {
        let selects =
            reached.iter().any(|(_, it)| it.constants.iter().any(|(n, v)| n == name && (v == value || v.is_empty())));
        if selects && !selectors.contains(&name.as_str()) {
            selectors.push(name);
        }
    }
    match (selectors.as_slice(), field) {
        ([first, second, ..], _) if place.services.iter().any(|it| place.is_s3(*it)) => Trouble::refused(format_args!(
            "the query selects two sub-resources: `{}` and `{}`",
            clip(first),
            clip(second)
        )),
        (_, Some(field)) => Trouble::unknown(format_args!(
            "no operation of this service and path takes the query field `{}`",
            clip(field)
        ))
        .named(prefix, ""),
        _ => Trouble::unknown(format_args!(
            "no operation of this service is known for {} on this path with these fields",
            head.method
        ))
        .named(prefix, ""),
    }
}
