//! TLS settings: versions 1.2 and 1.3, aws-lc-rs; of HTTP 1.1 where the other side speaks it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};

use super::certificate::end_point;
use super::verify::{Check, Verifier};

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
    #[error("`{file}` cannot be used to check certificates of clients")]
    Clients { file: PathBuf, source: VerifierBuilderError },
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
    server(certificates(certificate)?, certificate, key, WebPkiClientVerifier::no_client_auth(), &HTTP).map(Arc::new)
}

/// The server side with a certificate for each name that `resolver` knows.
///
/// # Errors
/// When TLS cannot be set up.
pub(crate) fn resolving_server(resolver: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = HTTP.map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}

/// The server side towards clients of Postgres.
#[derive(Clone, Debug)]
pub(crate) struct PostgresServer {
    pub(crate) config: Arc<ServerConfig>,
    /// What a login over this can be bound to; `None` where the certificate has no such hash.
    pub(crate) end_point: Option<Vec<u8>>,
}

/// The server side for Postgres, from PEM files as [`server_config`]. A client may prove itself by a
/// certificate that an authority in `client_ca` gave it.
///
/// # Errors
/// When a file is missing or does not fit.
pub(crate) fn postgres_server(
    certificate: &Path,
    key: &Path,
    client_ca: Option<&Path>,
) -> Result<PostgresServer, TlsError> {
    let chain = certificates(certificate)?;
    let end_point = chain.first().and_then(end_point);
    let clients = match client_ca {
        Some(file) => {
            let roots = Arc::new(authorities(file)?.0);
            let builder = WebPkiClientVerifier::builder_with_provider(roots, provider()).allow_unauthenticated();
            builder.build().map_err(|source| TlsError::Clients { file: file.to_owned(), source })?
        }
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = server(chain, certificate, key, clients, &[POSTGRESQL])?;
    config.max_fragment_size = Some(POSTGRES_RECORD);
    Ok(PostgresServer { config: Arc::new(config), end_point })
}

/// The longest TLS record for a client of Postgres: 8 KiB, and the 5 bytes of a header that rustls counts in.
/// A server sends what its buffer of 8 KiB holds, and programs of libpq count on it: they may leave
/// the rest of a longer record in OpenSSL, and wait at the socket for what they have.
const POSTGRES_RECORD: usize = (8 << 10) + 5;

fn server(
    chain: Vec<CertificateDer<'static>>,
    certificate: &Path,
    key: &Path,
    clients: Arc<dyn ClientCertVerifier>,
    protocols: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, private_key(key)?)
        .map_err(|source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source })?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// The client side towards a Postgres server, which must show as much as `check` says. Trusted are the
/// authorities, and certificates, in `ca`, or the platform's roots without it; `identity` is a
/// certificate chain and its key, for servers that ask for one.
///
/// # Errors
/// When a file is missing or does not fit, or there is no root where one is needed.
pub(crate) fn postgres_client(
    check: Check,
    ca: Option<&Path>,
    identity: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let (roots, trusted) = match ca {
        Some(file) => authorities(file)?,
        None => (platform_roots(), Vec::new()),
    };
    if roots.is_empty() && check != Check::Nothing {
        return Err(TlsError::NoRoots);
    }
    let verifier = Arc::new(Verifier { check, roots, trusted, provider: provider() });
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some((certificate, key)) => {
            let pair = |source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source };
            builder.with_client_auth_cert(certificates(certificate)?, private_key(key)?).map_err(pair)?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![POSTGRESQL.to_vec()];
    Ok(Arc::new(config))
}

/// The client side towards HTTP servers: the platform's roots, and those in `extra_ca` as well.
///
/// # Errors
/// When `extra_ca` cannot be read, or there is no root at all.
pub(crate) fn client_config(extra_ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = platform_roots();
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

fn platform_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // What of the platform's store cannot be read is left out, as other clients do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// The certificates of a file as authorities, and as they are.
fn authorities(file: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let mut roots = RootCertStore::empty();
    let trusted = certificates(file)?;
    for root in &trusted {
        roots.add(root.clone()).map_err(|source| TlsError::Root { file: file.to_owned(), source })?;
    }
    Ok((roots, trusted))
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file).map_err(|source| TlsError::Read { file: file.to_owned(), source })
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
pub(super) const HTTP2: &[u8] = b"h2";

/// The first that the client offers too is spoken. HTTP/2 has no way to keep a waiting client that all
/// SDKs accept, so it is for those that speak nothing else.
const HTTP: [&[u8]; 2] = [HTTP11, HTTP2];

/// The protocol that clients name where TLS comes first (PostgreSQL docs, section 55.2.10).
pub(crate) const POSTGRESQL: &[u8] = b"postgresql";
