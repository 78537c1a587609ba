//! Whoever wants to speak through somebody else's browser, or write on the page.

use serde_json::{Value, json};

use super::Desk;
use crate::support::peer::{Answer, Peer};
use crate::support::sign::Draft;
use crate::support::site::HOLD_KEYS;

/// What a request holds, and an agent says, is text: whatever it looks like.
#[test]
fn what_comes_from_outside_is_text_and_every_character_of_it_shows() {
    let rules = HOLD_KEYS.replace("CreateAccessKey", "PutUserPolicy");
    let mut desk = Desk::new(&rules, "");
    let evil =
        "</textarea></script><script>alert(1)</script><img src=x onerror=alert(2)><a href='javascript:alert(3)'>";
    let mut peer = Peer::connect(desk.site.proxy);
    let document =
        json!({"Statement": [{"Effect": "Allow", "Sid": evil, "Action": "s3:\u{202e}teG", "Resource": "*"}]});
    let form: String = form(&[
        ("Action", "PutUserPolicy"),
        ("Version", "2010-05-08"),
        ("UserName", "u\u{200b}ser"),
        ("PolicyName", evil),
        ("PolicyDocument", &document.to_string()),
    ]);
    let draft =
        Draft::query("iam", "iam.amazonaws.com", &form).header("x-countersign-reason", "<b>urgent</b> APPROVED");
    peer.send(&draft.signed(&desk.keys));
    let id = desk.site.pending(1).remove(0);
    desk.enter("a", "alice", &format!("/holds/{id}"), json!({}));
    let browser = &mut desk.browser;
    let text = browser.text("a", "#card");
    for part in ["<script>alert(1)</script>", "\\u202e", "\\u200b", "<b>urgent</b> APPROVED", "javascript:alert(3)"] {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
    assert!(!text.contains(['\u{202e}', '\u{200b}']));
    assert_eq!(browser.count("a", "main img, main script, main b, #card a"), 0);
    let fence =
        browser.act("a", "eval", json!({"script": "document.querySelector('blockquote').getAttribute('aria-label')"}));
    assert_eq!(fence, "said by the agent, not verified");
    // The same in the fields to change it by, and in the difference.
    browser.click("a", "#modify summary");
    let name = browser.act("a", "value", json!({"of": "textarea[name=PolicyName]"}));
    assert_eq!(name, evil);
    let user = browser.act("a", "value", json!({"of": "textarea[name=UserName]"}));
    assert_eq!(user, "\"u\\u200bser\"", "in a field nothing hides either");
    browser.fill("a", "textarea[name=PolicyName]", &format!("{evil}<svg onload=alert(4)>"));
    browser.click("a", "#preview");
    browser.see("a", "#difference", "<svg onload=alert(4)>");
    assert_eq!(browser.count("a", "main svg, main img"), 0);
    browser.shot("a", "hostile");
    // The inbox shows it too.
    browser.act("a", "goto", json!({"url": format!("{}/holds", desk.url)}));
    browser.see("a", "main", "put user policy");
    browser.no_noise(&[]);
}

fn form(pairs: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect()
    };
    pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&")
}

/// A browser sends its cookie with whatever any site makes it send.
#[test]
fn no_other_site_speaks_through_a_signed_in_browser() {
    let mut desk = Desk::new(HOLD_KEYS, "");
    let (_peer, id) = desk.hold("u", &[]);
    desk.enter("a", "alice", &format!("/holds/{id}"), json!({}));
    let cookies = desk.browser.act("a", "cookies", json!({}));
    let cookie = cookies.as_array().unwrap().iter().find(|it| it["name"] == "__Host-countersign").unwrap();
    assert_eq!(
        (&cookie["secure"], &cookie["httpOnly"], &cookie["sameSite"]),
        (&json!(true), &json!(true), &json!("Lax"))
    );
    let cookie = format!("__Host-countersign={}", cookie["value"].as_str().unwrap());

    let path = format!("/v1/holds/{id}/verdict");
    let body = json!({"verdict": "allow", "reason": "forged"});
    let send = |method: &str, path: &str, fields: &[(&str, &str)], body: Option<&Value>| -> Answer {
        let mut draft = Draft::new("api", &desk.site.api.to_string(), method, path).header("cookie", &cookie);
        for (name, value) in fields {
            draft = draft.header(name, value);
        }
        if let Some(body) = body {
            draft.body = body.to_string().into_bytes();
        }
        Peer::connect(desk.site.api).ask(&draft.unsigned())
    };
    let json = ("content-type", "application/json");
    let own = ("origin", desk.url.as_str());
    let other_port = format!("{}1", desk.url);
    for fields in [
        &[json][..],
        &[json, ("origin", "null")],
        &[json, ("origin", "https://evil.example")],
        &[json, ("origin", &other_port)],
        &[json, own, ("origin", "https://evil.example")],
        &[json, own, ("sec-fetch-site", "cross-site")],
        &[json, own, ("sec-fetch-site", "same-site")],
        &[json, own, ("sec-fetch-site", "none")],
    ] {
        let answer = send("POST", &path, fields, Some(&body));
        assert_eq!((answer.status, answer.text().contains("cross_site")), (403, true), "{fields:?} {}", answer.text());
    }
    // What a form of another site could send without asking.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let answer = send("POST", &path, &[("content-type", kind), own], Some(&body));
        assert_eq!(answer.status, 415, "{kind}");
    }
    assert_eq!(send("GET", "/v1/holds", &[("sec-fetch-site", "cross-site")], None).status, 403);
    assert_eq!(send("POST", "/signout", &[("origin", "https://evil.example")], None).status, 403);
    assert_eq!(desk.site.hold(&id)["state"], "pending");
    // Two cookies of that name are nobody's.
    let twice = [("cookie", "__Host-countersign=x")];
    assert_eq!(send("GET", "/v1/holds", &twice, None).status, 401);

    // A real page of another origin, in the very browser: a form, a fetch, a frame.
    let script = format!(
        "(async () => {{
          const tries = [
            fetch('{0}{path}', {{method: 'POST', mode: 'no-cors', credentials: 'include', body: '{body}'}}),
            fetch('{0}{path}', {{method: 'POST', credentials: 'include', headers: {{'content-type': 'application/json'}}, body: '{body}'}}),
            fetch('{0}/v1/holds', {{credentials: 'include'}}),
          ];
          return (await Promise.allSettled(tries)).map((it) => it.value?.type ?? it.status);
        }})()",
        desk.url
    );
    desk.browser.act("evil", "goto", json!({"profile": "alice", "url": format!("{}/healthz", admin(&desk))}));
    let came = desk.browser.act("evil", "eval", json!({"script": script}));
    assert_eq!(came, json!(["opaque", "rejected", "rejected"]));
    assert_eq!(desk.site.hold(&id)["state"], "pending");
    // Signed in, at its own address, it goes through.
    let answer = send("POST", &path, &[json, own, ("sec-fetch-site", "same-origin")], Some(&body));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A page of another origin on the same machine.
fn admin(desk: &Desk) -> String {
    format!("http://{}", desk.site.admin)
}

/// Nobody is signed in by a link that somebody else began, and none leads away.
#[test]
fn a_sign_in_belongs_to_the_browser_that_began_it() {
    let mut desk = Desk::new(HOLD_KEYS, "");
    let ask = |path: &str, cookie: &str| {
        let draft = Draft::new("api", &desk.site.api.to_string(), "GET", path).header("cookie", cookie);
        Peer::connect(desk.site.api).ask(&draft.unsigned())
    };
    let begun = ask("/signin?to=//evil.example/", "");
    assert_eq!(begun.status, 303);
    let location = begun.header("location").unwrap().to_owned();
    for part in ["response_type=code", "code_challenge_method=S256", "nonce=", "scope=openid+email"] {
        assert!(location.contains(part), "{location}");
    }
    let set = begun.header("set-cookie").unwrap().to_owned();
    for part in ["__Host-countersign-signin=", "; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    let state = set.split(['=', ';']).nth(1).unwrap();
    let back = format!("/signin/callback?code=stolen&state={state}");
    assert_eq!(ask(&back, "").status, 400, "another browser");
    assert_eq!(ask(&back, "__Host-countersign-signin=x").status, 400);
    assert_eq!(ask(&format!("{back}&state={state}"), &format!("__Host-countersign-signin={state}")).status, 400);
    let own = format!("__Host-countersign-signin={state}");
    let answer = ask(&back, &own);
    assert_eq!(answer.status, 502, "the provider knows no such code: {}", answer.text());
    assert!(answer.header("set-cookie").is_none());
    assert_eq!(ask(&back, &own).status, 400, "a sign-in is tried once");

    // Each page says what it may load and who may frame it.
    let page = ask("/signed-out", "");
    let policy = page.header("content-security-policy").unwrap();
    for part in
        ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("referrer-policy", "same-origin"), ("cache-control", "no-store")]
    {
        assert_eq!(page.header(name), Some(value));
    }
    // And the sign-in of a person who stays where they wanted to be.
    desk.enter("a", "alice", "/holds", json!({}));
}
