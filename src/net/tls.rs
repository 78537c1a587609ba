//! TLS settings: versions 1.2 and 1.3, HTTP/1.1 only, aws-lc-rs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a certificate, key or CA file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read `{file}`")]
    Read { file: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("`{file}` holds no certificate")]
    NoCertificate { file: PathBuf },
    #[error("`{certificate}` and `{key}` do not make a usable pair")]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("this machine has no trusted root certificates; name a CA file")]
    NoRoots,
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// The server side, from PEM files: the certificate chain, leaf first, and its private key.
///
/// # Errors
/// When a file is missing or the pair does not fit.
pub(crate) fn server_config(_certificate: &Path, _key: &Path) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    unreachable!("being built")
}

/// The client side: the platform's roots, and those in `extra_ca` as well.
///
/// # Errors
/// When `extra_ca` cannot be read, or there is no root at all.
pub(crate) fn client_config(_extra_ca: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    unreachable!("being built")
}
