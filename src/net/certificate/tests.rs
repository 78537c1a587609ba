use rcgen::{CertificateParams, DnType, KeyPair, SanType, SignatureAlgorithm};

use super::*;

fn made(algorithm: &'static SignatureAlgorithm, params: CertificateParams) -> CertificateDer<'static> {
    params.self_signed(&KeyPair::generate_for(algorithm).unwrap()).unwrap().der().clone()
}

#[test]
fn the_hash_is_by_the_function_of_the_signature() {
    for (algorithm, function) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, &digest::SHA256),
        (&rcgen::PKCS_ECDSA_P384_SHA384, &digest::SHA384),
        (&rcgen::PKCS_ECDSA_P521_SHA512, &digest::SHA512),
    ] {
        let certificate = made(algorithm, CertificateParams::default());
        assert_eq!(end_point(&certificate).unwrap(), digest::digest(function, &certificate).as_ref());
    }
    assert_eq!(end_point(&made(&rcgen::PKCS_ED25519, CertificateParams::default())), None);
    assert_eq!(end_point(&CertificateDer::from(vec![0x30, 0x03, 2, 1, 1])), None);
}

#[test]
fn a_certificate_is_of_those_it_names() {
    let mut params = CertificateParams::new(vec!["agent.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "etl");
    params.subject_alt_names.push(SanType::Rfc822Name("etl@example.com".try_into().unwrap()));
    let certificate = made(&rcgen::PKCS_ECDSA_P256_SHA256, params);
    for name in ["etl", "agent.example", "etl@example.com"] {
        assert!(is_of(&certificate, name), "{name}");
    }
    for name in ["", "et", "etl2", "ETL", "example"] {
        assert!(!is_of(&certificate, name), "{name}");
    }
}

#[test]
fn validity_has_two_ends() {
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = made(&rcgen::PKCS_ECDSA_P256_SHA256, params);
    let at = |seconds| is_valid_at(&certificate, UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)));
    assert_eq!(
        [at(1_577_836_799), at(1_577_836_800), at(1_609_459_200), at(1_609_459_201)],
        [false, true, true, false]
    );
}
