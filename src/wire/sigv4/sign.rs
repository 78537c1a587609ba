//! Signing what goes to the upstream.

use http::{HeaderMap, Method};

use super::Key;
use crate::digest::Digest;
use crate::time::Timestamp;
use crate::wire::head::Head;

/// Path and query in the one spelling that is both signed and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    path: String,
    query: String,
}

impl Target {
    /// The target for `head` at `service` (its signing name), without the fields of a presigned
    /// URL's credential. `x-amz-*` query fields of a presigned S3 URL are left out too: see [`hoisted`](Target::hoisted).
    pub(crate) fn of(_head: &Head, _service: &str) -> Self {
        Self { path: "/".to_owned(), query: String::new() }
    }

    /// The `x-amz-*` query fields of a presigned S3 URL, to be sent as header fields.
    pub(crate) fn hoisted<'h>(_head: &'h Head, _service: &str) -> impl Iterator<Item = (&'h str, &'h str)> {
        std::iter::empty()
    }

    /// Path and query as the request line carries them.
    pub(crate) fn path_and_query(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }
}

/// What the signature says about the body sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Sha256(Digest),
    Unsigned,
    UnsignedChunks,
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
    /// Replaces every credential field in the headers by a signature with `key`.
    ///
    /// # Errors
    /// When `host` is missing or the key cannot stand in a header field.
    pub(crate) fn sign(self, _key: &Key, _now: Timestamp) -> Result<(), SignError> {
        Err(SignError::HostMissing)
    }
}

/// Why a request cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignError {
    #[error("the request to the upstream has no host field")]
    HostMissing,
    #[error("the real credential holds characters that cannot stand in a header field")]
    KeyMalformed,
}
