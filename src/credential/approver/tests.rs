use super::*;

const DAY: Duration = Duration::from_secs(86400);

fn start() -> Timestamp {
    Timestamp::parse_amz_date("20261120T112555Z").unwrap()
}

#[test]
fn a_token_stands_for_its_person_until_it_expires_or_is_revoked() {
    let data = tempfile::tempdir().unwrap();
    let (data, now) = (data.path(), start());
    let tokens = ApproverTokens::open(data).unwrap();
    let alice = issue(data, &PersonId::new("alice"), Scope::Decide, DAY, now).unwrap();
    let bob = issue(data, &PersonId::new("bob"), Scope::Decide, DAY, now).unwrap();
    let person = |token: &str, now| tokens.check(token, now).map(|holder| holder.person.to_string());
    assert_eq!(person(alice.token.expose(), now).as_deref(), Some("alice"), "seen at once");
    assert_eq!(person(bob.token.expose(), now).as_deref(), Some("bob"));
    assert_eq!(person(alice.token.expose(), now.plus(DAY)), None);

    assert_eq!(revoke(data, &alice.token_id, now).unwrap(), 1);
    let later = now.plus(Duration::from_secs(1));
    assert_eq!(person(alice.token.expose(), later), None);
    assert_eq!(person(bob.token.expose(), later).as_deref(), Some("bob"));
    issue(data, &PersonId::new("bob"), Scope::Decide, DAY, now).unwrap();
    assert_eq!(revoke(data, "bob", now).unwrap(), 2);
    assert_eq!(revoke(data, "bob", now).unwrap(), 0);
    assert!(matches!(revoke(data, "carol", now), Err(CredentialError::UnknownToken(_))));
    let later = later.plus(Duration::from_secs(1));
    assert_eq!(person(bob.token.expose(), later), None);
}

#[test]
fn only_the_whole_token_counts() {
    let data = tempfile::tempdir().unwrap();
    let issued = issue(data.path(), &PersonId::new("alice"), Scope::Decide, DAY, start()).unwrap();
    let token = issued.token.expose();
    let tokens = ApproverTokens::open(data.path()).unwrap();
    assert!(token.starts_with("cst_") && token.len() == 60);
    let sha256 = crate::digest::sha256(token.as_bytes()).hex();
    for bad in [
        "",
        "cst_",
        token.strip_suffix(|_: char| true).unwrap(),
        &format!("{token}a"),
        &format!(" {token}"),
        &token.to_uppercase(),
        &token.replacen("cst_", "CST_", 1),
        &sha256,
        &format!("cst_{sha256}"),
        &issued.token_id,
    ] {
        assert_eq!(tokens.check(bad, start()), None, "{bad}");
    }
    assert!(tokens.check(token, start()).is_some());
    let stored = std::fs::read_to_string(tokens_path(data.path())).unwrap();
    assert!(stored.contains(&sha256) && !stored.contains(token));
    assert!(!format!("{issued:?}").contains(token));
}
