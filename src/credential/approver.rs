//! Tokens by which people decide through the API and the command line.

use std::path::Path;
use std::time::Duration;

use super::CredentialError;
use crate::id::PersonId;
use crate::secret::Secret;
use crate::time::Timestamp;

/// The approver tokens of a data directory, for the running server.
#[derive(Debug)]
pub(crate) struct ApproverTokens;

/// Whom a presented token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenHolder {
    pub(crate) person: PersonId,
    pub(crate) token_id: String,
}

/// A token just made. The secret is shown once and kept nowhere.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) token_id: String,
    pub(crate) token: Secret,
    pub(crate) expires: Timestamp,
}

impl ApproverTokens {
    /// # Errors
    /// When the file of tokens is damaged or cannot be read.
    pub(crate) fn open(_data: &Path) -> Result<Self, CredentialError> {
        Ok(Self)
    }

    /// Whom the token stands for; `None` when it is unknown, expired or revoked.
    pub(crate) fn check(&self, _token: &str, _now: Timestamp) -> Option<TokenHolder> {
        None
    }
}

/// Makes a token for a person and adds it to the data directory.
///
/// # Errors
/// When the file of tokens cannot be read or written.
pub(crate) fn issue(
    _data: &Path,
    person: &PersonId,
    lifetime: Duration,
    now: Timestamp,
) -> Result<Issued, CredentialError> {
    Ok(Issued { token_id: person.to_string(), token: Secret::new(""), expires: now.plus(lifetime) })
}
