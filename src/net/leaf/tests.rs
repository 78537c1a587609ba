use std::sync::Barrier;

use rcgen::{BasicConstraints, CertifiedIssuer, GeneralSubtree, IsCa, NameConstraints};

use super::*;

/// A CA in files of its own; `change` sees its certificate before it is signed.
struct Authority {
    dir: tempfile::TempDir,
    clock: Clock,
}

impl Authority {
    fn new(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let permitted_subtrees = vec![GeneralSubtree::DnsName("amazonaws.com".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let pem = key.serialize_pem();
        let ca = CertifiedIssuer::self_signed(params, key).unwrap();
        fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        fs::write(dir.path().join("ca.key"), pem).unwrap();
        let it = Self { dir, clock: Clock::manual(Timestamp::parse_rfc3339("2026-11-20T12:00:00Z").unwrap()) };
        it.set_mode(0o600);
        it
    }

    fn set_mode(&self, mode: u32) {
        fs::set_permissions(self.dir.path().join("ca.key"), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn options(&self, hosts: &[&str]) -> Options {
        Options {
            ca: self.dir.path().join("ca.pem"),
            key: self.dir.path().join("ca.key"),
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            lifetime: Duration::from_secs(24 * 3600),
            kept: 100,
        }
    }

    fn open(&self, hosts: &[&str]) -> Result<Interception, LeafError> {
        Interception::open(&self.options(hosts), self.clock.clone())
    }

    fn mint(&self) -> Mint {
        Mint::open(&self.options(&[]), self.clock.clone()).unwrap()
    }
}

fn says(result: Result<Interception, LeafError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_ca_that_clients_would_not_accept_ends_the_start_with_a_remedy() {
    let good = Authority::new(|_| {});
    good.open(&["*.amazonaws.com", "s3.amazonaws.com"]).unwrap();
    let elsewhere = says(good.open(&["*.amazonaws.com", "*.example.com"]));
    assert!(elsewhere.contains("makes no certificate for `countersign.example.com`"), "{elsewhere}");

    for mode in [0o640, 0o604, 0o620] {
        good.set_mode(mode);
        let open = says(good.open(&["*.amazonaws.com"]));
        assert!(open.contains(&format!("mode {mode:o}")) && open.contains("chmod 600"), "{open}");
    }
    good.set_mode(0o600);
    fs::write(good.dir.path().join("ca.key"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        .unwrap();
    let damaged = says(good.open(&["*.amazonaws.com"]));
    assert!(damaged.contains("no private key in PEM that can sign"), "{damaged}");
    fs::write(good.dir.path().join("ca.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let other = says(good.open(&["*.amazonaws.com"]));
    assert!(other.contains("clients would accept"), "{other}");
    fs::remove_file(good.dir.path().join("ca.key")).unwrap();
    let missing = says(good.open(&["*.amazonaws.com"]));
    assert!(missing.contains("certs/make-ca"), "{missing}");

    let leaf = says(Authority::new(|params| params.is_ca = IsCa::NoCa).open(&["*.amazonaws.com"]));
    assert!(leaf.contains("no certificate of a CA"), "{leaf}");
    let mute =
        says(Authority::new(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]).open(&["*.amazonaws.com"]));
    assert!(mute.contains("key usage"), "{mute}");
    let old = says(Authority::new(|params| params.not_after = date_time_ymd(2026, 11, 1)).open(&["*.amazonaws.com"]));
    assert!(old.contains("has expired"), "{old}");
}

#[test]
fn a_leaf_is_kept_until_half_of_its_life_is_over_and_never_outlives_the_ca() {
    let ca = Authority::new(|params| params.not_after = date_time_ymd(2026, 11, 22));
    let mint = ca.mint();
    let end = |key: &CertifiedKey| {
        let certificate = key.end_entity_cert().unwrap();
        X509Certificate::from_der(certificate).unwrap().1.validity().not_after.timestamp()
    };
    let first = mint.leaf("iam.amazonaws.com").unwrap();
    assert_eq!(end(&first), ca.clock.now().as_seconds() + 24 * 3600);
    assert!(Arc::ptr_eq(&first, &mint.leaf("iam.amazonaws.com").unwrap()));
    ca.clock.advance(Duration::from_secs(12 * 3600 - 1));
    assert!(Arc::ptr_eq(&first, &mint.leaf("iam.amazonaws.com").unwrap()));
    ca.clock.advance(Duration::from_secs(1));
    let second = mint.leaf("iam.amazonaws.com").unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(end(&second), end(&first) + 12 * 3600);
    ca.clock.advance(Duration::from_secs(12 * 3600));
    assert_eq!(end(&mint.leaf("iam.amazonaws.com").unwrap()), end(&second), "the CA's own end comes first now");
}

#[test]
fn leaves_have_serials_of_their_own() {
    let ca = Authority::new(|_| {});
    let mint = ca.mint();
    let serial = |name: &str| {
        let leaf = mint.leaf(name).unwrap();
        X509Certificate::from_der(leaf.end_entity_cert().unwrap()).unwrap().1.raw_serial().to_vec()
    };
    assert_ne!(serial("a.amazonaws.com"), serial("b.amazonaws.com"));
}

#[test]
fn a_name_is_minted_once_however_many_ask_at_once() {
    let ca = Authority::new(|_| {});
    let mint = ca.mint();
    let together = Barrier::new(8);
    let leaves: Vec<_> = std::thread::scope(|scope| {
        let ask = || {
            together.wait();
            mint.leaf("iam.amazonaws.com").unwrap()
        };
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(leaves.iter().all(|leaf| Arc::ptr_eq(leaf, &leaves[0])));
}

#[test]
fn ten_thousand_names_leave_a_hundred() {
    let ca = Authority::new(|_| {});
    let mint = ca.mint();
    let often = mint.leaf("iam.amazonaws.com").unwrap();
    for number in 0..10_000 {
        let leaf = mint.leaf(&format!("bucket-{number}.s3.amazonaws.com")).unwrap();
        assert!(Arc::ptr_eq(&leaf.key, &often.key), "a key for each would cost far more than a signature");
        if number % 40 == 0 {
            assert!(Arc::ptr_eq(&often, &mint.leaf("iam.amazonaws.com").unwrap()), "what is in use stays");
        }
    }
    let kept = mint.kept();
    assert!(kept.young.len() + kept.old.len() <= 100);
}

#[test]
fn no_name_outside_of_the_listed_hosts_is_covered() {
    let ca = Authority::new(|_| {});
    let interception = ca.open(&["*.amazonaws.com"]).unwrap();
    let covers = |name: &str| interception.covers(&HostName::parse(name).unwrap());
    assert!(covers("iam.amazonaws.com") && covers("b.s3.eu-west-1.amazonaws.com"));
    assert!(!covers("amazonaws.com") && !covers("iam.amazonaws.com.evil.example") && !covers("192.0.2.1"));
}
