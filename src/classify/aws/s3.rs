//! S3's host names and buckets.

use smallvec::SmallVec;

use super::Trouble;
use crate::catalog::aws::{Partition, Table};

/// What an S3 host names in front of the service's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bucket {
    /// A bucket's own name.
    Name(String),
    /// An access point, as ARN, known by its host.
    Arn(String),
}

impl Bucket {
    /// The bucket of a virtual-hosted request.
    pub(super) fn of_label(label: &str) -> Result<Self, Trouble> {
        if is_bucket_name(label) {
            Ok(Self::Name(label.to_owned()))
        } else {
            Err(Trouble::unknown("the host holds a bucket name that S3 does not allow"))
        }
    }

    /// Value of the `Bucket` parameter.
    pub(super) fn parameter(&self) -> &str {
        match self {
            Self::Arn(text) | Self::Name(text) => text,
        }
    }
}

/// What S3 allowed since 2006, so that old buckets are served: 3 to 255 of letters, digits, `.`, `-`, `_`.
pub(super) fn is_bucket_name(text: &str) -> bool {
    (3..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        && !text.starts_with('.')
        && !text.ends_with('.')
        && !text.contains("..")
}

pub(super) struct S3Host<'h> {
    pub(super) region: Option<&'h str>,
    pub(super) bucket: Option<Bucket>,
    /// The host also serves account-level operations (access points of directory buckets).
    pub(super) has_control: bool,
}

/// Reads an S3 host name; `None` when it is not one. The rightmost S3 label counts: a bucket's name
/// may hold dots and even look like one.
pub(super) fn s3_host<'h>(facts: &Table, host: &'h str, partition: &Partition<'_>) -> Option<S3Host<'h>> {
    let rest = host.strip_suffix(partition.suffix)?.strip_suffix('.')?;
    let labels: SmallVec<[&str; 8]> = rest.split('.').collect();
    let is_region = |label: &str| facts.partition_of(label).is_some();
    let (front, region, kind): (&[&str], Option<&str>, &str) = match labels.as_slice() {
        [front @ .., kind, "dualstack", region] if is_region(region) => (front, Some(region), kind),
        [front @ .., kind @ "s3-accelerate", "dualstack"] => (front, None, kind),
        [front @ .., kind, region] if is_region(region) => (front, Some(region), kind),
        [front @ .., "accesspoint", kind @ "s3-global"] => (front, None, kind),
        [front @ .., kind] => (front, legacy_region(facts, kind), kind),
        [] => return None,
    };
    let name = |front: &[&str]| {
        if front.is_empty() { Some(None) } else { Bucket::of_label(&front.join(".")).ok().map(Some) }
    };
    let bucket = match (kind, front) {
        ("s3" | "s3-fips" | "s3-accelerate" | "s3-external-1", front) => name(front)?,
        (kind, front) if legacy_region(facts, kind).is_some() && region == legacy_region(facts, kind) => name(front)?,
        (kind, []) if kind == "s3express-control" || kind == "s3express-control-fips" => None,
        (kind, front) if kind.starts_with("s3express-") => name(front)?,
        ("s3-global", [alias, "mrap"]) => {
            Some(Bucket::Arn(format!("arn:{}:s3:::accesspoint/{alias}.mrap", partition.id)))
        }
        ("s3-accesspoint" | "s3-accesspoint-fips", [point]) => Some(access_point("s3", point, region?, partition)?),
        ("s3-object-lambda" | "s3-object-lambda-fips", [point]) => {
            Some(access_point("s3-object-lambda", point, region?, partition)?)
        }
        ("s3-outposts" | "s3-outposts-fips", [alias, _]) if alias.ends_with("--op-s3") => name(&[*alias])?,
        ("s3-outposts" | "s3-outposts-fips", [point, outpost]) => {
            let (name, account) = split_point(point)?;
            let region = region?;
            Some(Bucket::Arn(format!(
                "arn:{}:s3-outposts:{region}:{account}:outpost/{outpost}/accesspoint/{name}",
                partition.id
            )))
        }
        _ => return None,
    };
    Some(S3Host { region, bucket, has_control: kind.starts_with("s3express-control") })
}

/// `s3-us-west-2`, the oldest regional form.
fn legacy_region<'h>(facts: &Table, kind: &'h str) -> Option<&'h str> {
    kind.strip_prefix("s3-").filter(|region| facts.partition_of(region).is_some())
}

fn access_point(service: &str, point: &str, region: &str, partition: &Partition<'_>) -> Option<Bucket> {
    let (name, account) = split_point(point)?;
    Some(Bucket::Arn(format!("arn:{}:{service}:{region}:{account}:accesspoint/{name}", partition.id)))
}

fn split_point(point: &str) -> Option<(&str, &str)> {
    let (name, account) = point.rsplit_once('-')?;
    (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty()).then_some((name, account))
}
