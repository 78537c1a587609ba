use super::*;
use crate::id::PersonId;

const HOUR: Duration = Duration::from_secs(3600);

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn start() -> Timestamp {
    Timestamp::parse_amz_date("20261120T112555Z").unwrap()
}

fn agent(id: &str) -> Agent {
    Agent { id: AgentId::new(id), owner: Owner::Person(PersonId::new("alice")) }
}

fn found(agents: &Agents, key_id: &str, now: Timestamp) -> Result<String, LookupError> {
    agents.lookup(key_id, PEER, now).map(|found| found.agent.id.to_string())
}

#[test]
fn a_key_lives_from_its_making_to_its_revocation() {
    let data = tempfile::tempdir().unwrap();
    let (data, now) = (data.path(), start());
    let agents = Agents::open(data).unwrap();
    let bot = add(data, agent("bot"), Terms::default(), now).unwrap();
    let other = add(data, agent("other"), Terms { lifetime: Some(HOUR), ..Terms::default() }, now).unwrap();
    assert!(bot.key_id.len() == 20 && bot.key_id.starts_with(KEY_PREFIX));
    assert_eq!(found(&agents, &bot.key_id, now), Ok("bot".into()), "seen at once");
    let key = agents.lookup(&bot.key_id, PEER, now).unwrap().key;
    assert_eq!((&key.id, &key.secret), (&bot.key_id, &bot.secret));
    assert_eq!(found(&agents, &other.key_id, now), Ok("other".into()));
    assert_eq!(found(&agents, &other.key_id, now.plus(HOUR)), Err(LookupError::Expired));
    assert_eq!(found(&agents, "AKCSAAAAAAAAAAAAAAAA", now), Err(LookupError::Unknown));
    assert_eq!(found(&agents, "AKIAAAAAAAAAAAAAAAAA", now), Err(LookupError::Unknown));

    assert_eq!(revoke(data, &bot.key_id, now).unwrap(), Revoked::Key(AgentId::new("bot")));
    let later = now.plus(Duration::from_secs(1));
    assert_eq!(found(&agents, &bot.key_id, later), Err(LookupError::Revoked));
    assert!(matches!(add(data, agent("bot"), Terms::default(), now), Err(CredentialError::AgentExists(_))));

    revoke(data, "other", now).unwrap();
    assert_eq!(found(&agents, &other.key_id, later.plus(HOUR)), Err(LookupError::AgentRevoked));
    assert!(matches!(rotate(data, "other", HOUR, Terms::default(), now), Err(CredentialError::AgentRevoked(_))));
    assert!(matches!(
        issue_session(data, "other", HOUR, Binding::default(), now),
        Err(CredentialError::AgentRevoked(_))
    ));
    let back = add(data, agent("other"), Terms::default(), now).unwrap();
    assert_eq!(found(&agents, &back.key_id, later.plus(HOUR)), Ok("other".into()));
    assert_eq!(found(&agents, &other.key_id, later.plus(HOUR)), Err(LookupError::Revoked), "old keys stay dead");
}

#[test]
fn rotation_leaves_an_overlap() {
    let data = tempfile::tempdir().unwrap();
    let (data, now) = (data.path(), start());
    let agents = Agents::open(data).unwrap();
    let old = add(data, agent("bot"), Terms::default(), now).unwrap();
    let new = rotate(data, "bot", HOUR, Terms::default(), now).unwrap();
    assert_eq!(found(&agents, &new.key_id, now), Ok("bot".into()));
    assert_eq!(found(&agents, &old.key_id, now.plus(HOUR - Duration::from_secs(1))), Ok("bot".into()));
    assert_eq!(found(&agents, &old.key_id, now.plus(HOUR)), Err(LookupError::Expired));
    // A second rotation does not lengthen what the first one cut short.
    rotate(data, "bot", 10 * HOUR, Terms::default(), now).unwrap();
    assert_eq!(found(&agents, &old.key_id, now.plus(HOUR)), Err(LookupError::Expired));
    assert!(matches!(rotate(data, "nobody", HOUR, Terms::default(), now), Err(CredentialError::UnknownAgent(_))));
}

#[test]
fn a_short_lived_key_needs_no_file_and_dies_with_its_agent() {
    let data = tempfile::tempdir().unwrap();
    let (data, now) = (data.path(), start());
    let agents = Agents::open(data).unwrap();
    add(data, agent("bot"), Terms::default(), now).unwrap();
    let before = std::fs::read(agents_path(data)).unwrap();
    let key = issue_session(data, "bot", HOUR, Binding::default(), now).unwrap();
    assert_eq!(std::fs::read(agents_path(data)).unwrap(), before);
    assert_eq!(key.expires, Some(now.plus(HOUR)));
    assert!(key.key_id.len() <= 128 && key.key_id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()));
    assert_eq!(found(&agents, &key.key_id, now), Ok("bot".into()));
    assert_eq!(agents.lookup(&key.key_id, PEER, now).unwrap().key.secret, key.secret);
    assert_eq!(found(&agents, &key.key_id, now.plus(HOUR)), Err(LookupError::Expired));
    assert_ne!(issue_session(data, "bot", HOUR, Binding::default(), now).unwrap().key_id, key.key_id);

    assert_eq!(revoke(data, &key.key_id, now).unwrap(), Revoked::ShortLived(AgentId::new("bot")));
    let later = now.plus(Duration::from_secs(1));
    assert_eq!(found(&agents, &key.key_id, later), Err(LookupError::Revoked));
    let fresh = issue_session(data, "bot", HOUR, Binding::default(), now).unwrap();
    assert_eq!(found(&agents, &fresh.key_id, later), Ok("bot".into()));
    revoke(data, "bot", now).unwrap();
    let later = later.plus(Duration::from_secs(1));
    assert_eq!(found(&agents, &fresh.key_id, later), Err(LookupError::AgentRevoked));
    assert!(matches!(
        issue_session(data, "bot", 37 * HOUR, Binding::default(), now),
        Err(CredentialError::TooLong(36))
    ));
}

#[test]
fn a_bent_short_lived_key_id_has_another_secret_or_no_agent() {
    let data = tempfile::tempdir().unwrap();
    let (data, now) = (data.path(), start());
    let agents = Agents::open(data).unwrap();
    add(data, agent("bot"), Terms::default(), now).unwrap();
    let key = issue_session(data, "bot", HOUR, Binding::default(), now).unwrap();
    for index in KEY_PREFIX.len()..key.key_id.len() {
        for digit in ["A", "7", "a", "1"] {
            let mut bent = key.key_id.clone();
            bent.replace_range(index..=index, digit);
            if bent != key.key_id
                && let Ok(found) = agents.lookup(&bent, PEER, now)
            {
                assert_ne!(found.key.secret, key.secret, "{bent}");
            }
        }
    }
    let mut short = key.key_id.clone();
    short.pop();
    for bent in [&short, &format!("{}AAAAAAAA", key.key_id), KEY_PREFIX, "AKCT", ""] {
        assert_eq!(found(&agents, bent, now), Err(LookupError::Unknown));
    }
}

#[test]
fn writers_at_once_lose_nothing() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path();
    std::thread::scope(|scope| {
        for number in 0..16 {
            scope.spawn(move || add(path, agent(&format!("bot-{number}")), Terms::default(), start()).unwrap());
        }
    });
    assert_eq!(list(path).unwrap().len(), 16);
}

#[test]
fn a_registry_that_is_not_of_this_form_is_refused() {
    let data = tempfile::tempdir().unwrap();
    add(data.path(), agent("bot"), Terms::default(), start()).unwrap();
    let path = agents_path(data.path());
    let good = std::fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"version\": 1", "\"version\": 2"),
        ("\"epoch\"", "\"epochs\""),
        ("\"owner\": \"alice\"", "\"owner\": \"a b\""),
        ("\"id\": \"bot\"", "\"id\": \"b ot\""),
        ("\"created\": \"2026", "\"created\": \"26"),
        ("\"agents\"", "\"comment\": 1, \"agents\""),
        ("}", ""),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
        assert!(matches!(Agents::open(data.path()), Err(CredentialError::Damaged { .. })), "{to}");
    }
}

#[test]
fn no_secret_is_stored_or_shown() {
    let data = tempfile::tempdir().unwrap();
    let key = add(data.path(), agent("bot"), Terms::default(), start()).unwrap();
    let session = issue_session(data.path(), "bot", HOUR, Binding::default(), start()).unwrap();
    let agents = Agents::open(data.path()).unwrap();
    let found = agents.lookup(&key.key_id, PEER, start()).unwrap();
    let shown = format!("{key:?} {session:?} {agents:?} {found:?}");
    let stored: String = std::fs::read_dir(data.path())
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    for secret in [&key.secret, &session.secret] {
        assert!(!shown.contains(secret.expose()) && !stored.contains(secret.expose()));
    }
}

#[test]
fn the_cache_of_keys_stays_bounded() {
    let data = tempfile::tempdir().unwrap();
    let root = RootKey::open(data.path()).unwrap();
    let cache = KeyCache::default();
    for number in 0..KEPT_KEYS + 10 {
        let _key = cache.key(&format!("AKCT{number}"), &root);
    }
    assert!(cache.keys.len() <= KEPT_KEYS);
    assert!(Arc::ptr_eq(&cache.key("AKCTX", &root), &cache.key("AKCTX", &root)));
}

#[test]
fn a_key_is_good_where_and_for_what_it_is_bound_to() {
    let folder = tempfile::tempdir().unwrap();
    let (data, now) = (folder.path(), start());
    let bound = Binding { from: vec![Binding::network("10.0.0.0/8").unwrap()], task: Some("build-42".to_owned()) };
    let terms = Terms { lifetime: None, binding: bound.clone() };
    let long = add(data, agent("bot"), terms, now).unwrap().key_id;
    let short = issue_session(data, "bot", HOUR, bound, now).unwrap().key_id;
    let agents = Agents::open(data).unwrap();
    let inside: IpAddr = "10.1.2.3".parse().unwrap();
    for key_id in [&long, &short] {
        assert_eq!(agents.lookup(key_id, inside, now).unwrap().task.as_deref(), Some("build-42"));
        assert_eq!(agents.lookup(key_id, PEER, now).unwrap_err(), LookupError::Elsewhere);
    }
    let from = (0..4).map(|it| Binding::network(&format!("fd00::{it}")).unwrap()).collect();
    let too_much = issue_session(data, "bot", HOUR, Binding { from, task: None }, now);
    assert!(matches!(too_much, Err(CredentialError::BindingTooLong(73, 55))), "{too_much:?}");
}
