//! Virtual credentials of agents, tokens of approvers, and the real credential of the upstream.
//!
//! The data directory holds, readable by its owner alone:
//!
//! | file | what |
//! |---|---|
//! | `root.key` | 256 random bits; every virtual secret is derived from it by the key's id, and the key of commitments |
//! | `agents.json` | agents, the ids of their keys, revocations; no secret |
//! | `approvers.json` | SHA-256 of each approver token; no secret |
//!
//! Whoever reads `root.key` can act as any agent, so whoever may run `countersign credentials` is
//! whoever may read it: the operating system decides that, not this program.
//!
//! INVARIANT (a reader sees one state): a file is replaced whole, by rename, under the directory's
//! lock. A running server notices within a second, or at once when it meets a key it does not know.

pub(crate) mod agent;
pub(crate) mod approver;
pub(crate) mod assume;
pub(crate) mod binding;
mod file;
pub(crate) mod real;
mod session;
pub(crate) mod source;

use std::path::{Path, PathBuf};

use crate::audit::commitment;
use crate::id::{AgentId, RandomError};

/// True for the id of a virtual key, of any countersign.
pub(crate) fn is_virtual_key_id(key_id: &str) -> bool {
    [agent::KEY_PREFIX, session::KEY_PREFIX].iter().any(|prefix| key_id.starts_with(prefix))
}

/// The key of the commitments in a data directory's records.
///
/// # Errors
/// When the root key cannot be read or made.
pub(crate) fn commitment_key(data: &Path) -> Result<commitment::Key, CredentialError> {
    Ok(file::RootKey::open(data)?.commitment_key())
}

/// Why credentials could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error("there is an agent `{0}` already; `countersign agent rotate {0}` gives it a new key")]
    AgentExists(AgentId),
    #[error(
        "the task and the networks of a short-lived key take {0} bytes, {1} at most; bind it to less, or make a long-lived one"
    )]
    BindingTooLong(usize, usize),
    #[error("agent `{0}` is revoked; `countersign agent add {0} --owner ...` brings it back with a new key")]
    AgentRevoked(AgentId),
    #[error("`{}` is damaged: {why}; restore it from a backup", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("cannot {doing} `{}`", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Random(RandomError),
    #[error("a lifetime of at most {0} hours can be given")]
    TooLong(u64),
    #[error("`{}` can be read by every user of this machine: run `chmod 600` on it", path.display())]
    TooOpen { path: PathBuf },
    #[error("there is no agent `{0}`; `countersign agent list` shows all")]
    UnknownAgent(String),
    #[error("there is neither an agent nor a key `{0}`; `countersign agent list` shows all")]
    UnknownAgentOrKey(String),
    #[error("there is no token `{0}`; `countersign approver list` shows all")]
    UnknownToken(String),
}
