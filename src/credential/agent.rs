//! Agents and their virtual keys.

use std::path::Path;
use std::sync::Arc;

use super::CredentialError;
use crate::action::Agent;
use crate::time::Timestamp;
use crate::wire::sigv4::Key;

/// The agents of a data directory, for the running server. Look-ups take no lock; changes made by
/// the command line are seen within a second.
#[derive(Debug)]
pub(crate) struct Agents;

/// Whose key it is, and the key.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) agent: Arc<Agent>,
    pub(crate) key: Arc<Key>,
}

impl Agents {
    /// # Errors
    /// When a file of the data directory is damaged or cannot be read.
    pub(crate) fn open(_data: &Path) -> Result<Self, CredentialError> {
        Ok(Self)
    }

    /// The agent that holds `key_id`, and the key to verify its signature with.
    ///
    /// # Errors
    /// When the key is not one of ours or not valid now. The client is told one thing for all of
    /// these, or it could probe for keys; the log gets the difference.
    pub(crate) fn lookup(&self, _key_id: &str, _now: Timestamp) -> Result<Found, LookupError> {
        Err(LookupError::Unknown)
    }
}

/// Why a virtual key is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("the virtual key belongs to an agent that was revoked")]
    AgentRevoked,
    #[error("the virtual key has expired")]
    Expired,
    #[error("the virtual key was revoked")]
    Revoked,
    #[error("the virtual key is not one of ours")]
    Unknown,
}
