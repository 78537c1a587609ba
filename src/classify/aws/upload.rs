//! Uploads by a browser's form: `POST` to a bucket with the object's key, its policy and the signature
//! among the fields. One is a `PutObject` whose parameters stand in the body.

use http::{Method, header};
use serde_json::{Map, Value};

use super::identify::{Candidate, Labels, media_type};
use super::place::{Place, clip};
use super::s3::is_bucket_name;
use super::{Body, Trouble};
use crate::catalog::aws::shape::{Location, Member};
use crate::wire::aws::{Reading, multipart};
use crate::wire::head::Head;

/// True for what S3 takes as an upload, wherever it arrives.
pub(super) fn is_upload(head: &Head) -> bool {
    head.method == Method::POST && media_type(head).eq_ignore_ascii_case("multipart/form-data")
}

/// Names an upload and reads its parameters.
///
/// # Errors
/// When it is none, or has two readings.
pub(super) fn read(head: &Head, body: Body<'_>, place: &Place<'_>) -> Result<(Candidate<'static>, Reading), Trouble> {
    let Body::Whole(body) = body else {
        return Err(Trouble::unknown("the form of an upload is larger than what is looked at"));
    };
    let service = place.services.iter().find(|it| place.is_s3(**it)).and_then(|it| place.facts.service(*it));
    let (Some(service), Some(operation)) = (service, service.and_then(|it| it.operation("PutObject"))) else {
        return Err(Trouble::unknown("the facts have no S3"));
    };
    if !head.query.is_empty() || place.is_signed {
        return Err(Trouble::unknown("an upload by form has no query, and its signature in the form"));
    }
    let form = multipart::parse(head.header(header::CONTENT_TYPE).unwrap_or_default(), body)?;
    let mut reading = Reading::default();
    reading.parameters.insert("Bucket".to_owned(), Value::String(bucket(head, place)?));
    let members = operation.row.input.map_or(&[][..], |shape| service.shape(shape).members());
    let mut fields = Fields { place, members, file_name: form.file_name, metadata: Map::new(), reading };
    for (name, value) in form.fields {
        fields.read(name, value)?;
    }
    let Fields { metadata, mut reading, .. } = fields;
    if !metadata.is_empty() {
        reading.parameters.insert("Metadata".to_owned(), Value::Object(metadata));
    }
    if !reading.parameters.contains_key("Key") {
        return Err(Trouble::unknown("the upload has no key").named(Some("s3"), "PutObject"));
    }
    Ok((Candidate { service, operation, labels: Labels::new() }, reading))
}

/// The bucket of host or path; the key stands in the form.
fn bucket(head: &Head, place: &Place<'_>) -> Result<String, Trouble> {
    let path = head.path.strip_prefix('/').unwrap_or(&head.path);
    match &place.bucket {
        Some(bucket) if path.is_empty() => Ok(bucket.parameter().to_owned()),
        None if is_bucket_name(path.strip_suffix('/').unwrap_or(path)) => {
            Ok(path.strip_suffix('/').unwrap_or(path).to_owned())
        }
        _ => Err(Trouble::unknown("an upload by form goes to a bucket, not to a key")),
    }
}

struct Fields<'f, 'h> {
    place: &'f Place<'h>,
    members: &'static [Member],
    file_name: Option<&'f str>,
    metadata: Map<String, Value>,
    reading: Reading,
}

impl Fields<'_, '_> {
    fn read(&mut self, name: &str, value: &str) -> Result<(), Trouble> {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "key" => self.key(value),
            "x-amz-credential" => self.scope(value)?,
            name if PLAIN.contains(&name) || name.starts_with("x-ignore-") => {}
            "acl" => self.set("ACL", value),
            "tagging" => self.set("Tagging", value),
            "bucket" => {
                if self.reading.parameters.get("Bucket").and_then(Value::as_str) != Some(value) {
                    return Err(Trouble::refused("the form and its target name different buckets"));
                }
            }
            name => match name.strip_prefix("x-amz-meta-") {
                Some(name) => drop(self.metadata.insert(name.to_owned(), Value::String(value.to_owned()))),
                None => self.member(name, value),
            },
        }
        Ok(())
    }

    /// A field that is a header field of the operation.
    fn member(&mut self, name: &str, value: &str) {
        let is_named = |it: &&Member| it.location == Location::Header && it.wire_name().eq_ignore_ascii_case(name);
        match self.members.iter().find(is_named) {
            Some(member) => self.set(member.name, value),
            None => self.reading.doubt(format_args!("the form has a field that is not modelled: `{}`", clip(name))),
        }
    }

    fn set(&mut self, member: &str, value: &str) {
        if self.reading.parameters.insert(member.to_owned(), Value::String(value.to_owned())).is_some() {
            self.reading.doubt(format_args!("the form has two spellings of `{member}`"));
        }
    }

    fn key(&mut self, value: &str) {
        if value.contains("${filename}") && self.file_name.is_none() {
            self.reading.doubt("the key is to hold the file's name, which the form does not say");
        }
        let key = value.replace("${filename}", self.file_name.unwrap_or_default());
        if key.is_empty() {
            self.reading.doubt("the key is empty");
        }
        self.set("Key", &key);
    }

    /// The credential must be for the place that the request came to.
    fn scope(&self, credential: &str) -> Result<(), Trouble> {
        let mut parts = credential.rsplit('/');
        let (end, service, region) = (parts.next(), parts.next(), parts.next());
        if end != Some("aws4_request") || service != Some("s3") {
            return Err(Trouble::refused("the form's credential is malformed or for another service"));
        }
        match (&self.place.region, region) {
            (Some(host), Some(scope)) if host != scope => {
                Err(Trouble::refused("the host and the form's credential name different regions"))
            }
            _ => Ok(()),
        }
    }
}

/// Fields that are about the signature or the answer.
const PLAIN: [&str; 11] = [
    "awsaccesskeyid",
    "policy",
    "redirect",
    "signature",
    "submit",
    "success_action_redirect",
    "success_action_status",
    "x-amz-algorithm",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-signature",
];
