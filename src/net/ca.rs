//! A local certificate authority and one server certificate from it, for agents to trust.

use std::path::{Path, PathBuf};

use crate::time::Timestamp;

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// What agents trust: `ca.pem`.
    pub(crate) ca: PathBuf,
    /// Server certificate, leaf first: `server.pem`.
    pub(crate) certificate: PathBuf,
    /// Its private key, mode 0600: `server.key`.
    pub(crate) key: PathBuf,
}

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaError {
    #[error("`{0}` is not a DNS name or IP address")]
    Name(String),
    #[error("cannot write `{file}`")]
    Write { file: PathBuf, source: std::io::Error },
    #[error("the certificate cannot be made")]
    Make(#[source] rcgen::Error),
}

/// Makes a CA and a server certificate for `names` (DNS names and IP addresses) in `dir`, which exists.
/// Files that are there already are replaced. The CA's private key is forgotten: a leak of the
/// directory then cannot make other certificates.
///
/// # Errors
/// When a name is malformed or a file cannot be written.
pub(crate) fn create(_dir: &Path, _names: &[String], _now: Timestamp) -> Result<Files, CaError> {
    unreachable!("being built")
}
