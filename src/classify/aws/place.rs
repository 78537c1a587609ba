//! Where a request arrived: the services that may be meant, partition, region, and what the host
//! name says besides (bucket, account).
//!
//! On AWS's own hosts the host decides and the credential scope must agree. Where agents reach us by
//! an endpoint of ours, the scope decides. INVARIANT (one place): host and scope never name
//! different services, regions or partitions in a place that is returned.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use http::header;
use smallvec::SmallVec;

use super::s3::{Bucket, s3_host};
use super::upload::is_upload;
use super::{Front, Trouble};
use crate::catalog::aws::{Partition, ServiceEntry, ServiceNumber, Table};
use crate::wire::head::{Head, fields};
use crate::wire::sigv4::{ScopeRef, claimed_scope};

/// What host and credential scope say.
#[derive(Debug)]
pub(super) struct Place<'h> {
    /// By what the request is named, from its host to its parameters.
    pub(super) facts: &'static Table,
    pub(super) is_endpoint: bool,
    pub(super) services: SmallVec<[ServiceNumber; 8]>,
    pub(super) partition: &'static Partition<'static>,
    /// Region of the scope, or of the host where nothing is signed.
    pub(super) region: Option<Cow<'static, str>>,
    /// Signing name of the scope.
    pub(super) signing_name: Option<Cow<'static, str>>,
    /// Labels in front of the endpoint's or the service's host name: account or resource.
    pub(super) label: Option<&'h str>,
    pub(super) bucket: Option<Bucket>,
    pub(super) is_signed: bool,
}

impl Place<'_> {
    /// What the index says about the services that may be meant.
    pub(super) fn entries(&self) -> impl Iterator<Item = &'static ServiceEntry<'static>> {
        let facts = self.facts;
        self.services.iter().filter_map(move |it| facts.entry(*it))
    }

    pub(super) fn is_s3(&self, number: ServiceNumber) -> bool {
        is_s3(self.facts, number)
    }
}

/// Finds the place of a request.
///
/// # Errors
/// When host and scope contradict each other, or one of them is not known.
pub(super) fn locate<'h>(head: &'h Head, front: &Front) -> Result<Place<'h>, Trouble> {
    let scope = scope(head, front.facts)?;
    match endpoint(&head.host.name, front) {
        Some(label) => at_endpoint(head, front.facts, scope, label),
        None => at_aws(&head.host.name, front.facts, scope),
    }
}

/// For an endpoint of ours: what stands in front of its name, with the dot or hyphen it ends in.
fn endpoint<'h>(host: &'h str, front: &Front) -> Option<Option<&'h str>> {
    if host.starts_with('[') {
        return Some(None);
    }
    if host.ends_with(|c: char| c.is_ascii_digit()) {
        if host.parse::<IpAddr>().is_ok() {
            return Some(None);
        }
        // Some SDKs put an account in front of any endpoint, an address too.
        let start = host.rfind(|c: char| c != '.' && !c.is_ascii_digit()).map_or(0, |at| at + 1);
        let digits = host.get(start..).unwrap_or_default();
        for (at, _) in std::iter::once((0, ".")).chain(digits.match_indices('.').map(|(at, dot)| (at + 1, dot))) {
            if digits.get(at..).is_some_and(|rest| rest.parse::<Ipv4Addr>().is_ok()) {
                return Some(host.get(..start + at));
            }
        }
    }
    std::iter::once("localhost").chain(front.endpoint_hosts.iter().map(String::as_str)).find_map(|name| {
        let label = host.strip_suffix(name)?;
        if label.is_empty() { Some(None) } else { label.ends_with(['.', '-']).then_some(Some(label)) }
    })
}

fn at_endpoint<'h>(
    head: &Head,
    facts: &'static Table,
    scope: Claim,
    label: Option<&'h str>,
) -> Result<Place<'h>, Trouble> {
    let mut services: SmallVec<[ServiceNumber; 8]> = SmallVec::new();
    let mut region = None;
    let signing_name = scope.signing_name();
    match &scope {
        Claim::Scope(scope) => {
            services.extend(signed_as(facts, &scope.service));
            if services.is_empty() {
                return Err(Trouble::unknown(format_args!(
                    "no service known to the table signs as `{}`",
                    clip(&scope.service)
                )));
            }
            region.clone_from(&scope.region);
        }
        Claim::SigV2 if is_storage_v2(head) => services.extend(signed_as(facts, "s3")),
        Claim::SigV2 | Claim::None => {
            let target = head.header(&fields::X_AMZ_TARGET).and_then(|target| target.rsplit_once('.'));
            match target {
                Some((prefix, _)) => services.extend_from_slice(facts.services_with_target(prefix)),
                None if is_upload(head) => services.extend(signed_as(facts, "s3")),
                None if is_form(head) => services.extend_from_slice(facts.services_with_forms()),
                None => services.extend_from_slice(facts.services_without_signature()),
            }
        }
    }
    let partition = match &region {
        Some(region) => partition(facts, region)?,
        None => default_partition(facts)?,
    };
    let is_storage = services.iter().any(|it| is_s3(facts, *it));
    let bucket = match label {
        Some(label) if is_storage && !is_response(head) => {
            let name = label.strip_suffix('.').unwrap_or_default();
            Some(Bucket::of_label(name)?)
        }
        _ => None,
    };
    Ok(Place {
        facts,
        is_endpoint: true,
        services,
        partition,
        region,
        signing_name,
        label,
        bucket,
        is_signed: scope.is_signed(),
    })
}

fn at_aws<'h>(host: &'h str, facts: &'static Table, scope: Claim) -> Result<Place<'h>, Trouble> {
    let Found { services, region, partition, label, bucket } = find_host(facts, host)
        .ok_or_else(|| Trouble::unknown("the host is no endpoint of ours and not an AWS host the table knows"))?;
    let mut services = services;
    let mut region = region.map(|region| facts.region_name(region));
    if let Claim::Scope(scope) = &scope {
        let scoped = signed_as(facts, &scope.service);
        services.retain(|number| scoped.contains(number));
        if services.is_empty() {
            return Err(Trouble::refused("the host and the credential scope name different services"));
        }
        match (&region, &scope.region) {
            (Some(host), Some(scope))
                if host != scope && !signs_elsewhere(facts, &services, partition, host, scope) =>
            {
                return Err(Trouble::refused("the host and the credential scope name different regions"));
            }
            // Where the host names the region, some services have one suffix for all partitions.
            (None, Some(scope)) if self::partition(facts, scope)?.suffix != partition.suffix => {
                return Err(Trouble::refused("the host and the credential scope name different partitions"));
            }
            (None, Some(scope)) if is_of_another_partition(facts, &services, self::partition(facts, scope)?, host) => {
                return Err(Trouble::refused("the host is one of another partition than the credential scope names"));
            }
            (None, scope) => region.clone_from(scope),
            _ => {}
        }
    }
    let partition = match &region {
        Some(region) => self::partition(facts, region)?,
        None => partition,
    };
    Ok(Place {
        facts,
        is_endpoint: false,
        services,
        partition,
        region,
        signing_name: scope.signing_name(),
        label,
        bucket,
        is_signed: scope.is_signed(),
    })
}

/// Some global services have regional hosts and sign for one region all the same.
fn signs_elsewhere(
    facts: &Table,
    services: &[ServiceNumber],
    partition: &Partition<'_>,
    host: &str,
    scope: &str,
) -> bool {
    let mut entries = services.iter().filter_map(|it| facts.entry(*it));
    entries.any(|it| it.endpoint(partition.id, host).is_some_and(|endpoint| endpoint.2 == scope))
}

/// Some partitions share a suffix: then a host without a region is of those that have it as an endpoint, if any has.
fn is_of_another_partition(facts: &Table, services: &[ServiceNumber], partition: &Partition<'_>, host: &str) -> bool {
    let mut entries = services.iter().filter_map(|it| facts.entry(*it));
    let others = || facts.partitions().iter().filter(|it| it.id != partition.id);
    entries.any(|it| !it.has_host(partition.id, host) && others().any(|other| it.has_host(other.id, host)))
}

/// What an AWS host name says.
struct Found<'h> {
    services: SmallVec<[ServiceNumber; 8]>,
    region: Option<&'h str>,
    partition: &'static Partition<'static>,
    label: Option<&'h str>,
    bucket: Option<Bucket>,
}

fn find_host<'h>(facts: &'static Table, host: &'h str) -> Option<Found<'h>> {
    let known = facts.partitions().iter().find(|it| ends_with_label(host, it.suffix) || ends_with_label(host, it.dual));
    // Some hosts stand under a suffix of their own; then the table has them whole.
    let partition = known.or_else(|| facts.partitions().first())?;
    if let Some(found) = known.and_then(|_| s3_host(facts, host, partition)) {
        return Some(Found {
            services: signed_as(facts, "s3").into_iter().filter(|it| found.has_control || is_s3(facts, *it)).collect(),
            region: found.region,
            partition,
            label: None,
            bucket: found.bucket,
        });
    }
    // What stands in front of the host name, if anything, is one label or two.
    let dots = memchr::memchr_iter(b'.', host.as_bytes()).map(|at| at + 1);
    for (skipped, start) in std::iter::once(0).chain(dots).take(3).enumerate() {
        let rest = host.get(start..)?;
        let label = host.get(..start).filter(|label| !label.is_empty());
        let found = |services: &[ServiceNumber], region| {
            Some(Found { services: services.into(), region, partition, label, bucket: None })
        };
        if let Some(services) = facts.services_at(skipped, rest) {
            return found(services, None);
        }
        // The region label, if any, is the one around which the table knows a service.
        let mut at = 0;
        for region in rest.split('.') {
            let (before, behind) = (rest.get(..at)?, rest.get(at + region.len()..)?);
            at += region.len() + 1;
            if facts.partition_of(region).is_some()
                && let Some(services) = facts.services_around(skipped, before, behind)
            {
                return found(services, Some(region));
            }
        }
    }
    None
}

/// The credential a request claims to be signed with.
enum Claim {
    None,
    Scope(ClaimedScope),
    SigV2,
}

struct ClaimedScope {
    service: Cow<'static, str>,
    region: Option<Cow<'static, str>>,
}

impl Claim {
    fn signing_name(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Scope(scope) => Some(scope.service.clone()),
            Self::None | Self::SigV2 => None,
        }
    }

    fn is_signed(&self) -> bool {
        !matches!(self, Self::None)
    }
}

fn scope(head: &Head, facts: &Table) -> Result<Claim, Trouble> {
    if let Some(ScopeRef { region, service, .. }) = claimed_scope(head) {
        if head.headers.get(header::AUTHORIZATION).is_none() {
            check_signed_fields(head)?;
        }
        return Ok(Claim::Scope(ClaimedScope {
            service: facts.signing_name(service),
            region: Some(facts.region_name(region)),
        }));
    }
    let authorization = head.header(header::AUTHORIZATION);
    let in_query = head.query.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-amz-credential")).count();
    let in_old_query = head.query.iter().filter(|(name, _)| name == "AWSAccessKeyId").count();
    match (authorization, in_query, in_old_query) {
        (None, 0, 0) => Ok(Claim::None),
        (None, 0, 1) => Ok(Claim::SigV2),
        (None, 1, 0) => {
            check_signed_fields(head)?;
            let is_asymmetric = head.query_value("X-Amz-Algorithm") == Some(ASYMMETRIC);
            asymmetric_or_token(head, facts, head.query_value("X-Amz-Credential").unwrap_or_default(), is_asymmetric)
        }
        (Some(text), 0, 0) => {
            let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
            match scheme {
                "AWS" => Ok(Claim::SigV2),
                // A bearer token says nothing about service and region.
                "Bearer" => Ok(Claim::None),
                ASYMMETRIC => {
                    let mut fields = rest.split(',').filter_map(|field| field.trim().strip_prefix("Credential="));
                    match (fields.next(), fields.next()) {
                        (Some(credential), None) => asymmetric_or_token(head, facts, credential, true),
                        _ => Err(Trouble::refused("the credential is malformed")),
                    }
                }
                _ => Err(Trouble::refused("the credential is malformed or of an unknown kind")),
            }
        }
        _ => Err(Trouble::refused("the request carries more than one credential")),
    }
}

/// A presigned URL may stand for one operation with the header fields it was signed with, and for another without.
fn check_signed_fields(head: &Head) -> Result<(), Trouble> {
    let names = head.query_value("X-Amz-SignedHeaders").unwrap_or_default();
    match names.split(';').find(|name| !name.is_empty() && !head.headers.contains_key(*name)) {
        Some(name) => Err(Trouble::refused(format_args!(
            "the URL was signed with a header field that the request does not have: `{}`",
            clip(name)
        ))),
        None => Ok(()),
    }
}

const ASYMMETRIC: &str = "AWS4-ECDSA-P256-SHA256";

/// `key/date/region/service/aws4_request`, without the region for SigV4A.
fn asymmetric_or_token(head: &Head, facts: &Table, credential: &str, is_asymmetric: bool) -> Result<Claim, Trouble> {
    let parts: SmallVec<[&str; 8]> = credential.rsplitn(if is_asymmetric { 4 } else { 5 }, '/').collect();
    match (parts.as_slice(), is_asymmetric) {
        (["aws4_request", service, region, _, _], false) => Ok(Claim::Scope(ClaimedScope {
            service: facts.signing_name(service),
            region: Some(facts.region_name(region)),
        })),
        (["aws4_request", service, _, _], true) => {
            let set = head.header("x-amz-region-set").or_else(|| head.query_value("X-Amz-Region-Set"));
            let region = set.filter(|set| !set.contains([',', '*'])).map(|region| facts.region_name(region));
            Ok(Claim::Scope(ClaimedScope { service: facts.signing_name(service), region }))
        }
        _ => Err(Trouble::refused("the credential is malformed")),
    }
}

/// The services that accept a scope of that name; S3's special scopes lead back to S3.
fn signed_as(facts: &Table, signing_name: &str) -> SmallVec<[ServiceNumber; 8]> {
    let mut services: SmallVec<[ServiceNumber; 8]> = facts.services_signed_as(signing_name).into();
    if matches!(signing_name, "s3express" | "s3-object-lambda" | "s3-outposts") {
        services.extend_from_slice(facts.services_signed_as("s3"));
    }
    services
}

fn is_s3(facts: &Table, number: ServiceNumber) -> bool {
    facts.entry(number).is_some_and(|it| it.id == "s3")
}

fn partition(facts: &'static Table, region: &str) -> Result<&'static Partition<'static>, Trouble> {
    facts
        .partition_of(region)
        .ok_or_else(|| Trouble::unknown(format_args!("`{}` is not a region of any partition", clip(region))))
}

fn default_partition(facts: &'static Table) -> Result<&'static Partition<'static>, Trouble> {
    facts.partitions().first().ok_or_else(|| Trouble::unknown("the fact table is empty"))
}

/// What an object lambda answers has a route in front of the host, no bucket.
fn is_response(head: &Head) -> bool {
    head.path == "/WriteGetObjectResponse"
}

fn is_storage_v2(head: &Head) -> bool {
    !is_form(head)
}

fn is_form(head: &Head) -> bool {
    head.header(header::CONTENT_TYPE).is_some_and(|it| it.starts_with("application/x-www-form-urlencoded"))
        || head.query_value("Action").is_some()
}

fn ends_with_label(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
}

pub(super) fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}
