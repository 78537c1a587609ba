//! What a request presents: one credential, read strictly.

use super::SigError;
use crate::digest::Digest;
use crate::time::Timestamp;
use crate::wire::head::Head;

/// The credential scope: which day, region and service a signature is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// `20261120`
    pub(crate) date: String,
    pub(crate) region: String,
    pub(crate) service: String,
}

/// Where the credential stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Header,
    /// A presigned URL.
    Query,
}

/// What the signature says about the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadClaim {
    /// Nothing is stated: the signature covers the SHA-256 of the body that follows.
    Body,
    /// `STREAMING-AWS4-HMAC-SHA256-PAYLOAD`, with `-TRAILER` when `trailer`: each chunk is signed.
    SignedChunks { trailer: bool },
    /// The body's SHA-256 stands in the head.
    Stated(Digest),
    /// `UNSIGNED-PAYLOAD`: the body is not covered at all.
    Unsigned,
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`: aws-chunked, neither chunks nor trailer are signed.
    UnsignedChunks,
}

/// A signature as presented; nothing of it is proven yet.
#[derive(Clone, Debug)]
pub(crate) struct Presented {
    pub(crate) key_id: String,
    pub(crate) scope: Scope,
    pub(crate) source: Source,
    pub(crate) payload: PayloadClaim,
    pub(crate) signed_at: Timestamp,
    /// The last moment at which this signature is accepted.
    pub(crate) not_after: Timestamp,
}

impl Presented {
    /// Reads the one credential of a request and checks everything that needs no key.
    ///
    /// # Errors
    /// When there is no credential, more than one, one of another kind, a malformed or stale one,
    /// or when a part of the request that bears meaning is outside the signature.
    pub(crate) fn parse(_head: &Head, _now: Timestamp) -> Result<Self, SigError> {
        Err(SigError::Missing)
    }

    /// SHA-256 of the signature, for `gate::Ask::signature`; it is spent until [`Presented::not_after`].
    pub(crate) fn replay_key(&self) -> Digest {
        crate::digest::sha256(&[])
    }
}

/// The credential scope a request claims, for naming; nothing is verified. `None` without a SigV4 credential.
pub(crate) fn claimed_scope(_head: &Head) -> Option<Scope> {
    None
}
