//! TLS settings: versions 1.2 and 1.3, HTTP/1.1 only, aws-lc-rs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};

/// Why a certificate, key or CA file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read `{file}` as PEM; name a readable file with the right content")]
    Read { file: PathBuf, source: pem::Error },
    #[error("`{file}` holds no certificate")]
    NoCertificate { file: PathBuf },
    #[error("`{file}` holds a certificate that cannot be trusted")]
    Root { file: PathBuf, source: rustls::Error },
    #[error("`{certificate}` and `{key}` do not make a usable pair")]
    Pair { certificate: PathBuf, key: PathBuf, source: rustls::Error },
    #[error("this machine has no trusted root certificates; install them or name a CA file")]
    NoRoots,
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// The server side, from PEM files: the certificate chain, leaf first, and its private key.
///
/// # Errors
/// When a file is missing or the pair does not fit.
pub(crate) fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(certificate)?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::Read { file: key.to_owned(), source })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source })?;
    // HTTP/2 has no way to keep a waiting client that all SDKs accept; each of them speaks 1.1.
    config.alpn_protocols = vec![HTTP11.to_vec()];
    Ok(Arc::new(config))
}

/// The client side: the platform's roots, and those in `extra_ca` as well.
///
/// # Errors
/// When `extra_ca` cannot be read, or there is no root at all.
pub(crate) fn client_config(extra_ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    // What of the platform's store cannot be read is left out, as other clients do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = extra_ca {
        for root in certificates(file)? {
            roots.add(root).map_err(|source| TlsError::Root { file: file.to_owned(), source })?;
        }
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![HTTP11.to_vec()];
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Read { file: file.to_owned(), source };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { file: file.to_owned() });
    }
    Ok(chain)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

const HTTP11: &[u8] = b"http/1.1";
