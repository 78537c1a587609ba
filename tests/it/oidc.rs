//! Bearer tokens of an OpenID provider at the API: which person a good one is, and every way to be a bad one.

use serde_json::{Value, json};

use crate::support::CREATED;
use crate::support::peer::Peer;
use crate::support::provider::{Provider, now};
use crate::support::sign::Draft;
use crate::support::site::{Setup, Site};
use crate::support::upstream::Upstream;

const PEOPLE: &str = "people:
  alice: { emails: [alice@example.com], groups: [security], oidc: [{ issuer: ISSUER, subject: sub-of-alice }] }
  bob: { emails: [bob@example.com], groups: [security] }
  carol: { emails: [carol@example.com], groups: [finance] }
  ida: { emails: [ida@example.com], groups: [security] }
  olga: { emails: [olga@example.com], groups: [security, platform], oidc: [{ issuer: ISSUER, subject: sub-of-olga }] }
";

fn site(provider: &Provider, upstream: &Upstream, more: &str) -> Site {
    let people = PEOPLE.replace("ISSUER", &provider.issuer);
    Setup::new(upstream.url()).people(&people).config(&provider.config(more)).start()
}

/// A client that waits at a hold of `bot`, which `olga` owns.
fn held(site: &Site) -> (Peer, String) {
    let keys = site.agent("bot", "olga").keys;
    let mut peer = Peer::connect(site.proxy);
    let form = "Action=CreateAccessKey&Version=2010-05-08&UserName=u";
    peer.send(&Draft::query("iam", "iam.amazonaws.com", form).signed(&keys));
    let id = site.pending(1).remove(0);
    (peer, id)
}

#[test]
fn a_token_of_the_provider_decides_as_its_person() {
    let (provider, upstream) = (Provider::start(&json!({})), Upstream::answering(CREATED));
    let site = site(&provider, &upstream, "");
    let (mut peer, id) = held(&site);
    let path = format!("/v1/holds/{id}/verdict");
    let body = json!({"verdict": "allow", "reason": "looked at it"});

    let owner = provider.sign(&provider.claims("sub-of-olga"), json!({"kid": "ec"}));
    let answer = site.api(&owner, "POST", &path, Some(&body));
    assert_eq!((answer.status, answer.text().contains("self_approval")), (403, true), "{}", answer.text());

    let alice = provider.sign(&provider.claims("sub-of-alice"), json!({"kid": "ed"}));
    let answer = site.api(&alice, "POST", &path, Some(&body));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(peer.read().unwrap().status, 200);
    let vote = site.wait_for_record(&id, "approval.vote");
    assert!(vote.to_string().contains(&format!("sub-of-alice of {}", provider.issuer)), "{vote}");
    // The token itself is nowhere.
    let signature = alice.rsplit('.').next().unwrap();
    assert!(!site.log().contains(signature));
    site.verify();
}

#[test]
fn every_bad_token_is_refused_and_said_to_be() {
    let (provider, upstream) = (Provider::start(&json!({})), Upstream::answering(CREATED));
    let mut site = site(&provider, &upstream, "  clients: [the-cli]\n");
    let good = provider.claims("sub-of-alice");
    let with = |changes: Value| {
        let mut claims = good.clone();
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    };
    let rsa = json!({"kid": "rsa"});
    let ask = |claims: &Value, how: &Value| site.api(&provider.sign(claims, how.clone()), "GET", "/v1/holds", None);

    let time = now();
    for (what, claims, how) in [
        ("RS256", with(json!({})), json!({"kid": "rsa"})),
        ("ES256", with(json!({})), json!({"kid": "ec"})),
        ("EdDSA", with(json!({})), json!({"kid": "ed"})),
        ("no key id, one key of the kind", with(json!({})), json!({"kid": "rsa", "header": {"kid": null}})),
        (
            "an access token",
            with(json!({"azp": null, "client_id": "the-cli"})),
            json!({"kid": "rsa", "header": {"typ": "at+jwt"}}),
        ),
        ("within the skew", with(json!({"exp": time - 5, "nbf": time + 5})), rsa.clone()),
        ("one of several audiences", with(json!({"aud": ["other", "countersign"]})), rsa.clone()),
        ("another client of ours", with(json!({"azp": "the-cli"})), rsa.clone()),
    ] {
        let answer = ask(&claims, &how);
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    }
    let bad = [
        ("no signature", with(json!({})), json!({"kind": "none"}), "signed"),
        (
            "an HMAC with the public key",
            with(json!({})),
            json!({"kind": "hmac-with-public-key"}),
            "RS256, ES256 or EdDSA",
        ),
        ("another algorithm", with(json!({})), json!({"kid": "p384"}), "RS256, ES256 or EdDSA"),
        ("a stranger's key by its own id", with(json!({})), json!({"kid": "stranger"}), "no key of that id"),
        (
            "a stranger's key by a known id",
            with(json!({})),
            json!({"kid": "stranger", "header": {"kid": "rsa"}}),
            "signature",
        ),
        ("a key of another kind", with(json!({})), json!({"kid": "rsa", "header": {"kid": "ec"}}), "no key of that id"),
        (
            "critical extension",
            with(json!({})),
            json!({"kid": "rsa", "header": {"crit": ["urn:example:odd"], "urn:example:odd": 1}}),
            "not understood",
        ),
        ("a logout token", with(json!({})), json!({"kid": "rsa", "header": {"typ": "logout+jwt"}}), "another kind"),
        ("another issuer", with(json!({"iss": "https://id.example.com"})), rsa.clone(), "issuer"),
        ("the issuer with a slash", with(json!({"iss": format!("{}/", provider.issuer)})), rsa.clone(), "issuer"),
        ("no issuer", with(json!({"iss": null})), rsa.clone(), "token"),
        ("another audience", with(json!({"aud": "other"})), rsa.clone(), "audience"),
        ("no audience", with(json!({"aud": null})), rsa.clone(), "token"),
        ("another client", with(json!({"azp": "other"})), rsa.clone(), "another client"),
        (
            "an access token of another client",
            with(json!({"azp": null, "client_id": "other"})),
            rsa.clone(),
            "another client",
        ),
        (
            "several audiences, nobody named",
            with(json!({"aud": ["other", "countersign"], "azp": null})),
            rsa.clone(),
            "several audiences",
        ),
        ("expired", with(json!({"exp": time - 120})), rsa.clone(), "expired"),
        ("no end", with(json!({"exp": null})), rsa.clone(), "token"),
        ("an end that is no time", with(json!({"exp": -1})), rsa.clone(), "token"),
        ("not yet", with(json!({"nbf": time + 120})), rsa.clone(), "not valid yet"),
        ("from the future", with(json!({"iat": time + 120})), rsa.clone(), "not valid yet"),
        ("no subject", with(json!({"sub": null})), rsa.clone(), "token"),
        ("a client's own", with(json!({"sub": "countersign"})), rsa.clone(), "client"),
        ("a client's own, at Auth0", with(json!({"gty": "client-credentials"})), rsa.clone(), "client"),
        ("a client's own, at Entra", with(json!({"idtyp": "app"})), rsa.clone(), "client"),
        ("exchanged for the agent", with(json!({"act": {"sub": "bot"}})), rsa.clone(), "exchanged"),
    ];
    for some in bad.chunks(15) {
        // After twenty failures in a minute a peer is told nothing else any more.
        site.kill();
        site.serve();
        for (what, claims, how, says) in some {
            let answer = site.api(&provider.sign(claims, how.clone()), "GET", "/v1/holds", None);
            assert_eq!(answer.status, 401, "{what}: {}", answer.text());
            assert!(
                answer.text().contains("invalid_token") && answer.text().contains(says),
                "{what}: {}",
                answer.text()
            );
        }
    }
    let ask = |claims: &Value, how: &Value| site.api(&provider.sign(claims, how.clone()), "GET", "/v1/holds", None);
    // A person whom nobody configured; e-mail addresses name nobody unless the operator says so.
    for subject in ["bob", "nobody", "Sub-Of-Alice"] {
        let answer = ask(&provider.claims(subject), &rsa);
        assert_eq!((answer.status, answer.text().contains("unknown_person")), (403, true), "{}", answer.text());
    }
    let mut cut = provider.sign(&good, rsa);
    cut.truncate(cut.len() - 3);
    let answers = [cut, "a.b.c".to_owned(), "..".to_owned(), "x".repeat(9000)]
        .map(|token| site.api(&token, "GET", "/v1/holds", None).status);
    assert!(answers.iter().all(|status| [401, 429].contains(status)), "{answers:?}");
}

#[test]
fn an_address_names_a_person_only_when_it_is_verified() {
    let (provider, upstream) = (Provider::start(&json!({})), Upstream::answering(CREATED));
    let site = site(&provider, &upstream, "  map_by: verified_email\n");
    let ask = |subject: &str, verified: Value| {
        let mut claims = provider.claims(subject);
        claims["email_verified"] = verified;
        claims["email"] = "Bob@example.com".into();
        site.api(&provider.sign(&claims, json!({"kid": "rsa"})), "GET", "/v1/holds", None).status
    };
    assert_eq!(ask("bob", json!(true)), 200);
    for verified in [json!(false), json!("true"), json!(1), json!(null)] {
        assert_eq!(ask("bob", verified.clone()), 403, "{verified}");
    }
}

/// Signing in long ago, or at a time nobody knows, is not enough to decide where the operator says so.
#[test]
fn to_decide_takes_a_recent_sign_in_where_it_is_asked_for() {
    let (provider, upstream) = (Provider::start(&json!({})), Upstream::answering(CREATED));
    let site = site(&provider, &upstream, "  decide_within: 5m\n");
    let (_peer, id) = held(&site);
    let decide = |age: Option<u64>| {
        let mut claims = provider.claims("sub-of-alice");
        claims["auth_time"] = age.map_or(Value::Null, |age| (now() - age).into());
        if age.is_none() {
            claims.as_object_mut().unwrap().remove("auth_time");
        }
        let token = provider.sign(&claims, json!({"kid": "rsa"}));
        let body = json!({"verdict": "allow", "reason": "r"});
        assert_eq!(site.api(&token, "GET", "/v1/holds", None).status, 200, "to look takes none");
        site.api(&token, "POST", &format!("/v1/holds/{id}/verdict"), Some(&body))
    };
    for age in [Some(600), None] {
        let answer = decide(age);
        assert_eq!(answer.status, 401);
        assert!(answer.text().contains("insufficient_user_authentication"), "{}", answer.text());
        assert!(answer.header("www-authenticate").unwrap().contains("insufficient_user_authentication"));
    }
    assert_eq!(site.hold(&id)["state"], "pending");
    assert_eq!(decide(Some(60)).status, 200);
}

/// What cannot be checked is nobody's word; approver tokens go on.
#[test]
fn a_provider_that_is_away_lets_nobody_in() {
    let (provider, upstream) = (Provider::start(&json!({})), Upstream::answering(CREATED));
    let site = site(&provider, &upstream, "");
    let token = provider.sign(&provider.claims("sub-of-alice"), json!({"kid": "rsa"}));
    drop(provider);
    let answer = site.api(&token, "GET", "/v1/holds", None);
    assert_eq!((answer.status, answer.text().contains("provider_unavailable")), (503, true), "{}", answer.text());
    assert_eq!(site.api(site.token("alice"), "GET", "/v1/holds", None).status, 200);
}
