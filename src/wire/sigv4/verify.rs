//! Whether a presented signature holds.

use super::canonical::{self, Canonical};
use super::parse::SIGNATURE_FIELD;
use super::{Key, PayloadClaim, Presented, SigError, Source};
use crate::digest::Digest;
use crate::wire::head::Head;

/// Proof that the head is the one that the holder of the key signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The body's SHA-256 that the signature covers; `None` when it covers none.
    covered: Option<Digest>,
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
    pub(crate) fn verify(&self, head: &Head, body: Option<Digest>, key: &Key) -> Result<Verified, SigError> {
        // The caller finds the key by this id; another key would prove another agent.
        if key.id != self.key_id() {
            return Err(SigError::UnknownKey);
        }
        let scope = self.scope();
        let covered = match self.payload {
            PayloadClaim::Body => body,
            PayloadClaim::Stated(digest) => Some(digest),
            PayloadClaim::SignedChunks { .. }
            | PayloadClaim::SignedEvents
            | PayloadClaim::Unsigned
            | PayloadClaim::UnsignedChunks => None,
        };
        let digits;
        let payload = match (self.payload.literal(), covered) {
            (Some(literal), _) => literal,
            (None, Some(digest)) => {
                digits = digest.digits();
                &*digits
            }
            (None, None) => return Err(SigError::BodyNeeded),
        };
        let fields = head
            .query
            .iter()
            .filter(|(name, _)| self.source == Source::Header || name != SIGNATURE_FIELD)
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let request = Canonical {
            method: head.method.as_str(),
            path: &canonical::path(&head.path, scope.service),
            query: &canonical::query(fields),
            signed_headers: &self.signed_headers,
            headers: &head.headers,
            payload,
        };
        let string_to_sign = canonical::string_to_sign(
            self.amz_date.as_str(),
            scope.date,
            scope.region,
            scope.service,
            request.digest(),
        );
        let signing_key = key.signing_key(scope);
        if !signing_key.accepts(&string_to_sign, self.signature.as_bytes()) {
            return Err(SigError::SignatureDiffers);
        }
        key.keep(scope, &signing_key);
        let verified = Verified { covered };
        body.map_or(Ok(()), |body| verified.check_body(body))?;
        Ok(verified)
    }
}

impl Verified {
    /// Holds the body that arrived against the one that was signed. An unsigned or chunked payload
    /// has no hash to compare and passes: whether it may is the plane's decision by [`Presented::payload`].
    ///
    /// # Errors
    /// When the body is another one.
    pub(crate) fn check_body(&self, body: Digest) -> Result<(), SigError> {
        if self.covered.is_none_or(|covered| covered == body) { Ok(()) } else { Err(SigError::BodyDiffers) }
    }
}
