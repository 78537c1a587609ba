//! Signing what goes to the upstream.
//!
//! Written by hand because the general signer costs six times as much; the tests hold it against
//! that signer on the public vectors and on random requests.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, header};
use smallvec::SmallVec;

use super::canonical::{self, ALGORITHM, Canonical, is_s3_family};
use super::key::ScopeRef;
use super::parse::{is_credential_field, is_hoisted_field};
use super::{Chain, EventChain, Key, PayloadClaim};
use crate::digest::Digest;
use crate::time::Timestamp;
use crate::wire::head::{Head, field_text, fields};

/// Path and query in the one spelling that is both signed and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// As the request line carries it.
    text: String,
    path_len: usize,
}

impl Target {
    /// The target for `head` at `service` (its signing name), without the fields of a presigned
    /// URL's credential and without those of [`Target::hoisted`].
    pub(crate) fn of(head: &Head, service: &str) -> Self {
        let fields = head
            .query
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| !is_credential_field(name) && !is_hoisted_field(name, service));
        let mut text = canonical::resent_path(&head.path, service);
        let path_len = text.len();
        let query = canonical::query(fields);
        if !query.is_empty() {
            text.push('?');
            text.push_str(&query);
        }
        Self { text, path_len }
    }

    /// The `x-amz-*` query fields of an S3 request: presigned URLs carry header fields that way.
    /// They are to be sent as header fields.
    pub(crate) fn hoisted<'h>(head: &'h Head, service: &str) -> impl Iterator<Item = (&'h str, &'h str)> {
        head.query
            .iter()
            .filter(move |(name, _)| !is_credential_field(name) && is_hoisted_field(name, service))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Path and query as the request line carries them.
    pub(crate) fn path_and_query(&self) -> String {
        self.text.clone()
    }

    /// [`Target::path_and_query`], borrowed.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    fn path(&self) -> &str {
        self.text.get(..self.path_len).unwrap_or_default()
    }

    fn query(&self) -> &str {
        self.text.get(self.path_len + 1..).unwrap_or_default()
    }
}

/// What the signature says about the body sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Sha256(Digest),
    Unsigned,
    UnsignedChunks,
    /// Each chunk is signed, and the trailer where there is one.
    SignedChunks {
        trailer: bool,
    },
    /// Each event is signed.
    SignedEvents,
}

/// What the parts of the body behind a signed head are signed in.
#[derive(Debug)]
pub(crate) enum Behind {
    Nothing,
    Chunks(Chain),
    Events(EventChain),
}

/// A request about to be sent. `headers` must hold `host` and everything else that will be sent.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) method: &'a Method,
    pub(crate) target: &'a Target,
    pub(crate) headers: &'a mut HeaderMap,
    /// Signing name and region of the route.
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) payload: Payload,
}

impl Outgoing<'_> {
    /// Replaces every credential field in the headers by a signature with `key`. Gives the chain that the parts
    /// of the body are to be signed in, where they are.
    ///
    /// # Errors
    /// When `host` is missing, or a field or the key cannot stand in a header.
    pub(crate) fn sign(mut self, key: &Arc<Key>, now: Timestamp) -> Result<Behind, SignError> {
        let amz_date = now.amz_date();
        let digits;
        let payload = match self.payload {
            Payload::Sha256(digest) => {
                digits = digest.digits();
                &*digits
            }
            Payload::Unsigned => PayloadClaim::Unsigned.literal().unwrap_or_default(),
            Payload::UnsignedChunks => PayloadClaim::UnsignedChunks.literal().unwrap_or_default(),
            Payload::SignedChunks { trailer } => PayloadClaim::SignedChunks { trailer }.literal().unwrap_or_default(),
            Payload::SignedEvents => PayloadClaim::SignedEvents.literal().unwrap_or_default(),
        };
        self.put_fields(key, amz_date.as_str(), payload)?;
        let signed_headers = signed_headers(self.headers)?;
        let request = Canonical {
            method: self.method.as_str(),
            path: &canonical::path(self.target.path(), self.service),
            query: self.target.query(),
            signed_headers: &signed_headers,
            headers: self.headers,
            payload,
        };
        let scope = ScopeRef { date: amz_date.day(), region: self.region, service: self.service };
        let string_to_sign =
            canonical::string_to_sign(amz_date.as_str(), scope.date, scope.region, scope.service, request.digest());
        let signing_key = key.signing_key(scope);
        key.keep(scope, &signing_key);
        let mut authorization = String::with_capacity(512);
        for part in [ALGORITHM, " Credential=", &key.id, "/", scope.date, "/", scope.region, "/", scope.service] {
            authorization.push_str(part);
        }
        let signature = signing_key.sign(&string_to_sign);
        for part in ["/aws4_request, SignedHeaders=", &signed_headers, ", Signature=", &signature] {
            authorization.push_str(part);
        }
        self.headers.insert(header::AUTHORIZATION, sensitive(&authorization)?);
        Ok(match self.payload {
            Payload::SignedChunks { .. } => Behind::Chunks(Chain::new(key, amz_date.as_str(), scope, &signature)),
            Payload::SignedEvents => Behind::Events(EventChain::new(key, scope, &signature)),
            Payload::Sha256(_) | Payload::Unsigned | Payload::UnsignedChunks => Behind::Nothing,
        })
    }

    fn put_fields(&mut self, key: &Key, amz_date: &str, payload: &str) -> Result<(), SignError> {
        let headers = &mut *self.headers;
        headers.remove(header::AUTHORIZATION);
        // Two dates could disagree; x-amz-date is the one that is signed.
        headers.remove(header::DATE);
        headers.insert(&fields::X_AMZ_DATE, HeaderValue::from_str(amz_date).map_err(|_| SignError::KeyMalformed)?);
        let states_payload = is_s3_family(self.service) || !matches!(self.payload, Payload::Sha256(_));
        if states_payload || headers.contains_key(&fields::X_AMZ_CONTENT_SHA256) {
            headers.insert(
                &fields::X_AMZ_CONTENT_SHA256,
                HeaderValue::from_str(payload).map_err(|_| SignError::KeyMalformed)?,
            );
        }
        headers.remove(&fields::X_AMZ_S3SESSION_TOKEN);
        headers.remove(&fields::X_AMZ_SECURITY_TOKEN);
        if let Some(token) = &key.token {
            headers.insert(&fields::X_AMZ_SECURITY_TOKEN, sensitive(token.expose())?);
        }
        Ok(())
    }
}

/// Why a request cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignError {
    #[error("a header field to be signed holds characters beyond ASCII")]
    FieldMalformed,
    #[error("the request to the upstream has no host field")]
    HostMissing,
    #[error("the real credential holds characters that cannot stand in a header field")]
    KeyMalformed,
}

/// The sorted names of the fields to sign: what AWS demands, and what changes the meaning of a
/// request most. Fields that a proxy on the way may touch stay out.
fn signed_headers(headers: &HeaderMap) -> Result<String, SignError> {
    if !headers.contains_key(header::HOST) {
        return Err(SignError::HostMissing);
    }
    let mut names: SmallVec<[&str; 24]> = SmallVec::new();
    for (name, value) in headers.iter().filter(|(name, _)| is_signed(name.as_str())) {
        // What is no ASCII is signed differently by every reader.
        if field_text(value).is_none() {
            return Err(SignError::FieldMalformed);
        }
        names.push(name.as_str());
    }
    names.sort_unstable();
    names.dedup();
    let mut signed_headers = String::with_capacity(128);
    for name in names {
        if !signed_headers.is_empty() {
            signed_headers.push(';');
        }
        signed_headers.push_str(name);
    }
    Ok(signed_headers)
}

fn is_signed(name: &str) -> bool {
    matches!(name, "content-encoding" | "content-md5" | "content-type" | "host" | "range") || name.starts_with("x-amz-")
}

fn sensitive(text: &str) -> Result<HeaderValue, SignError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| SignError::KeyMalformed)?;
    value.set_sensitive(true);
    Ok(value)
}
