//! What a certificate says: the hash that binds a login to it, and whose it is.

use aws_lc_rs::digest;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use x509_parser::signature_algorithm::RsaSsaPssParams;

/// The `tls-server-end-point` of a server certificate (RFC 5929, section 4): its hash by the function
/// it is signed with, or by SHA-256 where that is older. `None` where it is signed without such a
/// function (Ed25519): nobody has agreed what to bind to then.
pub(crate) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let signed = &parsed.signature_algorithm;
    let function = match signed.algorithm.to_id_string().as_str() {
        // RSASSA-PSS names its function among its parameters.
        "1.2.840.113549.1.1.10" => {
            let parameters = RsaSsaPssParams::try_from(signed.parameters.as_ref()?).ok()?;
            match parameters.hash_algorithm_oid().to_id_string().as_str() {
                "2.16.840.1.101.3.4.2.2" => &digest::SHA384,
                "2.16.840.1.101.3.4.2.3" => &digest::SHA512,
                "2.16.840.1.101.3.4.2.1" | "1.3.14.3.2.26" => &digest::SHA256,
                _ => return None,
            }
        }
        // RSA with MD5, SHA-1 and SHA-256; ECDSA with SHA-1 and SHA-256.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => &digest::SHA256,
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        "1.2.840.113549.1.1.14" | "1.2.840.10045.4.3.1" => &digest::SHA224,
        _ => return None,
    };
    Some(digest::digest(function, certificate).as_ref().to_vec())
}

/// Whether it names `holder`: as its common name, or as a DNS name, e-mail address or URI.
pub(crate) fn is_of(certificate: &CertificateDer<'_>, holder: &str) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let common = parsed.subject().iter_common_name().any(|name| name.as_str() == Ok(holder));
    let others = parsed.subject_alternative_name().ok().flatten();
    let mut others = others.iter().flat_map(|extension| &extension.value.general_names);
    let is_it = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => *text == holder,
        _ => false,
    };
    common || others.any(is_it)
}

/// Whether it is in force at that time.
pub(super) fn is_valid_at(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&seconds)
}

#[cfg(test)]
mod tests;
