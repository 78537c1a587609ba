//! The real credential of the upstream.

use std::sync::Arc;

use crate::time::Timestamp;
use crate::wire::sigv4::Key;

/// Where the real credential comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct RealOptions {
    /// Named profile of the shared config files; `None` for the chain's own choice.
    pub(crate) profile: Option<String>,
    /// Region to ask STS in for the account; `None` for the chain's own choice, then `us-east-1`.
    pub(crate) region: Option<String>,
    /// Endpoint of STS instead of the real one (a local AWS).
    pub(crate) sts_endpoint: Option<String>,
}

/// The real credential, renewed ahead of its expiry by a task of its own.
#[derive(Debug)]
pub(crate) struct RealCredentials;

impl RealCredentials {
    /// Resolves the credential by the standard chain and asks STS whose it is.
    ///
    /// # Errors
    /// When the chain gives none, STS refuses it, or it is one of our own virtual keys.
    pub(crate) async fn load(_options: RealOptions) -> Result<Self, RealError> {
        Err(RealError::Expired)
    }

    /// The credential to sign with now; takes no lock.
    ///
    /// # Errors
    /// When it has expired and could not be renewed: nothing can be forwarded then.
    pub(crate) fn current(&self, _now: Timestamp) -> Result<Arc<Key>, RealError> {
        Err(RealError::Expired)
    }

    /// The account of the credential; `None` when STS could not be asked.
    pub(crate) fn account(&self) -> Option<String> {
        None
    }
}

/// Why there is no real credential.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RealError {
    #[error("the real credential has expired and could not be renewed")]
    Expired,
}
