//! A local certificate authority and one server certificate from it, for agents to trust.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

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
    #[error("at least one name is needed: that by which agents reach this listener")]
    NoName,
    #[error("cannot write `{file}`")]
    Write { file: PathBuf, source: io::Error },
    #[error("the certificate cannot be made")]
    Make(#[source] rcgen::Error),
}

/// Makes a CA and a server certificate for `names` (DNS names and IP addresses) in `dir`, which exists.
/// Files that are there already are replaced. The CA's private key is forgotten: whoever gets hold
/// of the directory cannot make other certificates that agents would trust.
///
/// # Errors
/// When a name is malformed or a file cannot be written.
pub(crate) fn create(dir: &Path, names: &[String], now: Timestamp) -> Result<Files, CaError> {
    if names.is_empty() {
        return Err(CaError::NoName);
    }
    if let Some(bad) = names.iter().find(|name| !is_name(name)) {
        return Err(CaError::Name(bad.clone()));
    }
    let (authority, certificate, key) = make(names, now).map_err(CaError::Make)?;
    let files = Files { ca: dir.join("ca.pem"), certificate: dir.join("server.pem"), key: dir.join("server.key") };
    // The key first: a certificate without its key would be a listener that does not start.
    write(&files.key, &key, 0o600)?;
    write(&files.certificate, &certificate, 0o644)?;
    write(&files.ca, &authority, 0o644)?;
    Ok(files)
}

/// PEM texts of the CA certificate, the server certificate and the server key.
fn make(names: &[String], now: Timestamp) -> Result<(String, String, String), rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, format!("countersign local CA {}", now.amz_date()));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut authority, now);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut server = CertificateParams::new(names)?;
    server.distinguished_name.push(DnType::CommonName, "countersign");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    set_validity(&mut server, now);
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &authority)?;
    Ok((authority.pem(), certificate.pem(), key.serialize_pem()))
}

/// From yesterday, for clients whose clock is slow.
fn set_validity(params: &mut CertificateParams, now: Timestamp) {
    let now = u64::try_from(now.as_seconds()).unwrap_or(0);
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(DAY_SECONDS));
    params.not_after = epoch + Duration::from_secs(now.saturating_add(VALID_DAYS * DAY_SECONDS));
}

fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host = text.strip_prefix("*.").unwrap_or(text);
    text.parse::<IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(is_label))
}

/// Puts a file in place at once, with its mode from the start.
fn write(file: &Path, text: &str, mode: u32) -> Result<(), CaError> {
    let put = || {
        let fresh = file.with_extension("new");
        if fresh.exists() {
            fs::remove_file(&fresh)?;
        }
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?.write_all(text.as_bytes())?;
        fs::rename(&fresh, file)
    };
    put().map_err(|source| CaError::Write { file: file.to_owned(), source })
}

const DAY_SECONDS: u64 = 24 * 60 * 60;
/// The longest that the strictest platforms accept from a CA that the user added.
const VALID_DAYS: u64 = 825;

#[cfg(test)]
mod tests;
