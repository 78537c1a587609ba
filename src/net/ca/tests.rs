use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::net::tls;

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-20T12:00:00Z").unwrap()
}

#[test]
fn files_are_made_and_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["localhost", "127.0.0.1", "::1", "aws.example.test", "*.s3.example.test"].map(str::to_owned);
    let mut earlier = String::new();
    for _ in 0..2 {
        let files = create(dir.path(), &names, now()).unwrap();
        tls::server_config(&files.certificate, &files.key).unwrap();
        tls::client_config(Some(&files.ca)).unwrap();
        assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        let key = fs::read_to_string(&files.key).unwrap();
        assert_ne!(key, earlier);
        earlier = key;
    }
}

#[test]
fn names_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for bad in [
        "",
        " ",
        "a b",
        "a/b",
        "-a",
        "a-",
        "a..b",
        ".a",
        "a.",
        "*.",
        "a.*",
        "**.a",
        "é",
        "a_b",
        "http://a",
        "1.2.3.4:80",
        "[::1]",
    ] {
        assert!(
            matches!(create(dir.path(), &[bad.to_owned()], now()), Err(CaError::Name(name)) if name == bad),
            "{bad}"
        );
    }
    assert!(matches!(create(dir.path(), &[], now()), Err(CaError::NoName)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_does_not_fit_together_is_named() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let names = ["localhost".to_owned()];
    let files = create(one.path(), &names, now()).unwrap();
    let foreign = create(other.path(), &names, now()).unwrap();
    let pair = tls::server_config(&files.certificate, &foreign.key).unwrap_err();
    assert!(matches!(pair, tls::TlsError::Pair { .. }), "{pair}");
    let missing = tls::server_config(&one.path().join("none.pem"), &files.key).unwrap_err();
    assert!(missing.to_string().contains("none.pem"), "{missing}");
    let empty = tls::client_config(Some(&files.key)).unwrap_err();
    assert!(matches!(empty, tls::TlsError::NoCertificate { .. }), "{empty}");
}
