use super::*;

#[test]
fn base32_reads_back_what_it_wrote_and_nothing_else() {
    for bytes in [&b""[..], b"\0\0\0\0\0", b"\xff\xff\xff\xff\xff", b"countersig"] {
        assert_eq!(from_base32(&base32(bytes)).as_deref(), Some(bytes));
    }
    assert_eq!(base32(b"fooba"), "MZXW6YTB", "RFC 4648 section 10");
    for bad in ["A", "AAAAAAA", "aaaaaaaa", "AAAAAAA=", "AAAAAAA1", "AAAAAAAAA"] {
        assert_eq!(from_base32(bad), None, "{bad}");
    }
}

#[test]
fn a_root_key_is_made_once_and_only_for_its_owner() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("root.key");
    let one = RootKey::open(data.path()).unwrap();
    let two = RootKey::open(data.path()).unwrap();
    assert_eq!(one.secret_of("AKCSX"), two.secret_of("AKCSX"));
    assert_ne!(one.secret_of("AKCSX"), one.secret_of("AKCSY"));
    assert_eq!(one.secret_of("AKCSX").expose().len(), 40);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    assert!(matches!(RootKey::open(data.path()), Err(CredentialError::TooOpen { .. })));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "abc").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(RootKey::open(data.path()), Err(CredentialError::Damaged { .. })));
}

#[test]
fn writers_at_once_make_one_root_key() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path();
    let secrets: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| RootKey::open(path).unwrap().secret_of("x").expose().to_owned())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(secrets.iter().all(|secret| *secret == secrets[0]));
}

#[test]
fn a_damaged_replacement_leaves_the_last_good_state() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("text");
    let lock = Lock::take(data.path()).unwrap();
    let parse: fn(&Path, Option<&[u8]>) -> Result<String, CredentialError> = |path, bytes| match bytes {
        Some(b"bad") => Err(CredentialError::Damaged { path: path.to_owned(), why: String::new() }),
        Some(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        None => Ok("absent".to_owned()),
    };
    let watched = Watched::open(path.clone(), parse).unwrap();
    let second = |number: i64| Timestamp::from_micros(number * 1_000_000);
    assert_eq!(watched.current(second(1)).1, "absent");
    lock.replace(&path, b"one").unwrap();
    assert_eq!(watched.current(second(1)).1, "absent", "looked at once a second");
    assert_eq!(watched.current(second(2)).1, "one");
    lock.replace(&path, b"bad").unwrap();
    assert_eq!(watched.current(second(3)).1, "one");
    lock.replace(&path, b"two").unwrap();
    assert_eq!(watched.current(second(4)).1, "two");
    fs::remove_file(&path).unwrap();
    assert_eq!(watched.current(second(5)).1, "absent");
}
