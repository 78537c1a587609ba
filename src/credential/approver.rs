//! Tokens by which people decide through the API and the command line.
//!
//! A token is 256 random bits. Only its SHA-256 is kept: with that much randomness a plain hash
//! gives nothing away, and the file alone lets nobody decide.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::CredentialError;
use super::file::{Lock, Watched, base32, read};
use crate::digest::{Digest, sha256};
use crate::id::{PersonId, random_bytes};
use crate::secret::{Secret, same};
use crate::time::Timestamp;

mod saved;

/// The approver tokens of a data directory, for the running server. Look-ups take no lock; changes
/// made by the command line are seen within a second, a new token at once.
#[derive(Debug)]
pub(crate) struct ApproverTokens(Watched<Vec<TokenEntry>>);

/// What a token lets its person do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Look at holds, and decide them.
    Decide,
    /// Look at holds.
    Read,
}

impl Scope {
    pub(crate) const ALL: [Self; 2] = [Self::Decide, Self::Read];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::Read => "read",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// Whom a presented token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenHolder {
    pub(crate) person: PersonId,
    pub(crate) scope: Scope,
    pub(crate) token_id: String,
}

/// A token just made. The secret is shown once and kept nowhere.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) token_id: String,
    pub(crate) token: Secret,
    pub(crate) expires: Timestamp,
}

/// One token as it is registered.
#[derive(Clone, Debug)]
pub(crate) struct TokenEntry {
    pub(crate) token_id: String,
    pub(crate) person: PersonId,
    pub(crate) scope: Scope,
    pub(crate) created: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) revoked: Option<Timestamp>,
    sha256: Digest,
}

impl TokenEntry {
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && now < self.expires
    }
}

impl ApproverTokens {
    /// # Errors
    /// When the file of tokens is damaged, open to everybody, or cannot be read.
    pub(crate) fn open(data: &Path) -> Result<Self, CredentialError> {
        Watched::open(tokens_path(data), parse).map(Self)
    }

    /// Whom the token stands for; `None` when it is unknown, expired or revoked.
    pub(crate) fn check(&self, token: &str, now: Timestamp) -> Option<TokenHolder> {
        if !token.starts_with(TOKEN_PREFIX) {
            return None;
        }
        let presented = sha256(token.as_bytes());
        let find = || find(&self.0.current(now).1, presented);
        let entry = find().or_else(|| {
            // It may have been made this very second.
            self.0.refresh();
            find()
        })?;
        entry.is_valid(now).then_some(TokenHolder {
            person: entry.person,
            scope: entry.scope,
            token_id: entry.token_id,
        })
    }

    /// True while the token of that id, which was presented before, is neither expired nor revoked.
    pub(crate) fn is_valid(&self, token_id: &str, now: Timestamp) -> bool {
        self.0.current(now).1.iter().any(|entry| entry.token_id == token_id && entry.is_valid(now))
    }
}

/// Compares with every token whole, so that the time taken tells nothing about any of them.
fn find(entries: &[TokenEntry], presented: Digest) -> Option<TokenEntry> {
    entries
        .iter()
        .fold(
            None,
            |found, entry| {
                if same(entry.sha256.as_bytes(), presented.as_bytes()) { Some(entry) } else { found }
            },
        )
        .cloned()
}

/// Makes a token for a person and adds it to the data directory.
///
/// # Errors
/// When the file of tokens cannot be read or written.
pub(crate) fn issue(
    data: &Path,
    person: &PersonId,
    scope: Scope,
    lifetime: Duration,
    now: Timestamp,
) -> Result<Issued, CredentialError> {
    // 35 bytes are seven whole groups of base32, and more than the 256 bits promised.
    let token = format!("{TOKEN_PREFIX}{}", base32(&random_bytes::<35>().map_err(CredentialError::Random)?));
    let number = base32(&random_bytes::<5>().map_err(CredentialError::Random)?);
    let token = Secret::new(token.to_ascii_lowercase());
    let entry = TokenEntry {
        token_id: format!("t_{}", number.to_ascii_lowercase()),
        person: person.clone(),
        scope,
        created: now,
        expires: now.plus(lifetime),
        revoked: None,
        sha256: sha256(token.expose().as_bytes()),
    };
    let issued = Issued { token_id: entry.token_id.clone(), token, expires: entry.expires };
    change(data, |entries| {
        entries.push(entry);
        Ok(issued)
    })
}

/// Revokes a token by its id, or every token of a person; says how many became invalid by that.
///
/// # Errors
/// When there is no such token, or the file cannot be read or written.
pub(crate) fn revoke(data: &Path, token_or_person: &str, now: Timestamp) -> Result<usize, CredentialError> {
    change(data, |entries| {
        let is_meant =
            |entry: &TokenEntry| entry.token_id == token_or_person || entry.person.as_str() == token_or_person;
        if !entries.iter().any(is_meant) {
            return Err(CredentialError::UnknownToken(token_or_person.to_owned()));
        }
        let mut count = 0;
        for entry in entries.iter_mut().filter(|entry| is_meant(entry) && entry.is_valid(now)) {
            entry.revoked = Some(now);
            count += 1;
        }
        Ok(count)
    })
}

/// Every token, in the order of their making.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn list(data: &Path) -> Result<Vec<TokenEntry>, CredentialError> {
    let path = tokens_path(data);
    let (_, bytes) = read(&path)?;
    parse(&path, bytes.as_deref())
}

pub(crate) const TOKEN_PREFIX: &str = "cst_";

fn tokens_path(data: &Path) -> PathBuf {
    data.join("approvers.json")
}

fn parse(path: &Path, bytes: Option<&[u8]>) -> Result<Vec<TokenEntry>, CredentialError> {
    let damaged = |why| CredentialError::Damaged { path: path.to_owned(), why };
    bytes.map_or(Ok(Vec::new()), saved::read).map_err(damaged)
}

fn change<T>(
    data: &Path,
    edit: impl FnOnce(&mut Vec<TokenEntry>) -> Result<T, CredentialError>,
) -> Result<T, CredentialError> {
    let lock = Lock::take(data)?;
    let mut entries = list(data)?;
    let answer = edit(&mut entries)?;
    let path = tokens_path(data);
    match saved::write(&entries) {
        Ok(text) => lock.replace(&path, &text).map(|()| answer),
        Err(why) => Err(CredentialError::Damaged { path, why }),
    }
}

#[cfg(test)]
mod tests;
