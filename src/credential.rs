//! Virtual credentials of agents, tokens of approvers, and the real credential of the upstream.
//!
//! Everything here lives in the data directory, readable by its owner alone:
//! `root.key` (every virtual secret is derived from it), `agents.json`, `approvers.json`. The files
//! are replaced whole by rename under a file lock, so that a running server reads either state.

pub(crate) mod agent;
pub(crate) mod approver;
pub(crate) mod real;

use std::path::PathBuf;

/// Why a credential file could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error("cannot read or write `{path}`")]
    Io { path: PathBuf, source: std::io::Error },
}
