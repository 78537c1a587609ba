//! The stored form of `approvers.json`, version 1.

use serde::{Deserialize, Serialize};

use super::{Scope, TokenEntry};
use crate::digest::Digest;
use crate::id::{PersonId, is_plain_name};
use crate::time::Timestamp;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedTokens {
    version: u32,
    tokens: Vec<SavedToken>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedToken {
    id: String,
    person: String,
    sha256: String,
    created: String,
    expires: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
    /// Absent where it is `decide`, as before there were others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

pub(super) fn read(bytes: &[u8]) -> Result<Vec<TokenEntry>, String> {
    let saved: SavedTokens = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if saved.version != VERSION {
        return Err(format!("it has version {}, this program reads version {VERSION}", saved.version));
    }
    saved.tokens.into_iter().map(read_token).collect()
}

fn read_token(saved: SavedToken) -> Result<TokenEntry, String> {
    let moment = |text: &str| Timestamp::parse_rfc3339(text).ok_or_else(|| format!("`{text}` is no RFC 3339 moment"));
    if !is_plain_name(&saved.person) {
        return Err(format!("`{}` is no name for a person", saved.person));
    }
    Ok(TokenEntry {
        sha256: Digest::parse(&saved.sha256).ok_or_else(|| format!("token `{}` has no SHA-256", saved.id))?,
        created: moment(&saved.created)?,
        expires: moment(&saved.expires)?,
        revoked: saved.revoked.as_deref().map(moment).transpose()?,
        scope: match saved.scope.as_deref() {
            None => Scope::Decide,
            Some(text) => Scope::parse(text).ok_or_else(|| format!("`{text}` is no scope"))?,
        },
        person: PersonId::new(saved.person),
        token_id: saved.id,
    })
}

pub(super) fn write(entries: &[TokenEntry]) -> Result<Vec<u8>, String> {
    let tokens = entries
        .iter()
        .map(|entry| SavedToken {
            id: entry.token_id.clone(),
            person: entry.person.to_string(),
            sha256: entry.sha256.hex(),
            created: entry.created.rfc3339(),
            expires: entry.expires.rfc3339(),
            revoked: entry.revoked.map(Timestamp::rfc3339),
            scope: (entry.scope != Scope::Decide).then(|| entry.scope.as_str().to_owned()),
        })
        .collect();
    serde_json::to_vec_pretty(&SavedTokens { version: VERSION, tokens }).map_err(|error| error.to_string())
}
