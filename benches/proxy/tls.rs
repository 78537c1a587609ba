//! TLS of the benches: one certificate for all, which all of them trust. rustls and aws-lc-rs on
//! every side but nginx's, no session is resumed, so that a new connection is a whole handshake.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::generate_simple_self_signed;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// Makes `certificate.pem` and `key.pem` for the loopback address in that folder.
pub(crate) fn make(folder: &Path) {
    let made = generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    std::fs::write(certificate(folder), made.cert.pem()).unwrap();
    std::fs::write(key(folder), made.signing_key.serialize_pem()).unwrap();
}

pub(crate) fn certificate(folder: &Path) -> PathBuf {
    folder.join("certificate.pem")
}

pub(crate) fn key(folder: &Path) -> PathBuf {
    folder.join("key.pem")
}

pub(crate) fn server(folder: &Path) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(certificate(folder)).unwrap()];
    let key = PrivateKeyDer::from_pem_file(key(folder)).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

pub(crate) fn client(folder: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate(folder)).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The name everything here is asked by.
pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from("127.0.0.1").unwrap()
}
