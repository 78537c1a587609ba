//! Whether a presented signature holds.

use super::{Key, PayloadClaim, Presented, SigError};
use crate::digest::Digest;
use crate::wire::head::Head;

/// Proof that the head is the one the holder of the key signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    claim: PayloadClaim,
}

impl Presented {
    /// True when the signature can only be judged with the body's SHA-256 at hand
    /// ([`PayloadClaim::Body`]); else the head suffices and [`Verified::check_body`] follows.
    pub(crate) fn needs_body(&self) -> bool {
        self.payload == PayloadClaim::Body
    }

    /// Checks the signature over `head`; `body` is the SHA-256 of the body where already known.
    ///
    /// # Errors
    /// When the signature does not match, the body is not the one stated, or it is needed and absent.
    pub(crate) fn verify(&self, _head: &Head, _body: Option<Digest>, _key: &Key) -> Result<Verified, SigError> {
        Err(SigError::Missing)
    }
}

impl Verified {
    pub(crate) fn claim(&self) -> PayloadClaim {
        self.claim
    }

    /// Holds the body that arrived against the one that was signed. An unsigned or chunked payload
    /// has no hash to compare and passes: whether it may is the plane's decision by [`Verified::claim`].
    ///
    /// # Errors
    /// When the body is another one.
    pub(crate) fn check_body(&self, _body: Digest) -> Result<(), SigError> {
        Err(SigError::Missing)
    }
}
