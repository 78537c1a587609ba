//! The approval page in Chromium, with people who sign in at an OpenID provider.

mod attacks;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::support::CREATED;
use crate::support::browser::Browser;
use crate::support::peer::Peer;
use crate::support::provider::Provider;
use crate::support::sign::{Draft, Keys};
use crate::support::site::{HOLD_KEYS, Setup, Site};
use crate::support::upstream::Upstream;

/// A site with its page, a provider, and a browser.
struct Desk {
    site: Site,
    browser: Browser,
    upstream: Upstream,
    keys: Keys,
    /// Where browsers find it.
    url: String,
    _provider: Provider,
}

const PEOPLE: &str = "people:
  alice: { emails: [alice@example.com], groups: [security], oidc: [{ issuer: ISSUER, subject: alice }] }
  bob: { emails: [bob@example.com], groups: [security], oidc: [{ issuer: ISSUER, subject: bob }] }
  carol: { emails: [carol@example.com], groups: [finance], oidc: [{ issuer: ISSUER, subject: carol }] }
  ida: { emails: [ida@example.com], groups: [security] }
  olga: { emails: [olga@example.com], groups: [security, platform], oidc: [{ issuer: ISSUER, subject: olga }] }
";

impl Desk {
    #[track_caller]
    fn new(rules: &str, oidc: &str) -> Self {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
        let url = format!("http://localhost:{}", address.port());
        let provider = Provider::start(&json!({"redirect_uris": [format!("{url}/signin/callback")]}));
        let upstream = Upstream::answering(CREATED);
        let site = Setup::new(upstream.url())
            .rules(rules)
            .api(address)
            .listen_config(&format!("api_url: {url}"))
            .people(&PEOPLE.replace("ISSUER", &provider.issuer))
            .config(&provider.config(oidc))
            .start();
        let keys = site.agent("bot", "olga").keys;
        Self { site, browser: Browser::start(), upstream, keys, url, _provider: provider }
    }

    /// A client that waits, and its hold.
    #[track_caller]
    fn hold(&self, user: &str, more: &[(&str, &str)]) -> (Peer, String) {
        let mut peer = Peer::connect(self.site.proxy);
        let form = format!("Action=CreateAccessKey&Version=2010-05-08&UserName={user}");
        let known = self.ids();
        let mut draft = Draft::query("iam", "iam.amazonaws.com", &form);
        for (name, value) in more {
            draft = draft.header(name, value);
        }
        peer.send(&draft.signed(&self.keys));
        let ids = self.site.pending(known.len() + 1);
        (peer, ids.into_iter().find(|id| !known.contains(id)).unwrap())
    }

    fn ids(&self) -> Vec<String> {
        let pending = |hold: &&Value| hold["state"] == "pending";
        self.site.holds().iter().filter(pending).map(|hold| hold["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Opens a page as somebody who is not signed in yet, by way of the provider.
    #[track_caller]
    fn enter(&mut self, tab: &str, person: &str, path: &str, how: Value) {
        let mut order = how;
        order["profile"] = person.into();
        order["url"] = format!("{}{path}", self.url).into();
        self.browser.act(tab, "goto", order);
        let landed = self.browser.act(tab, "sign_in", json!({"login": person}));
        assert_eq!(landed, format!("{}{path}", self.url), "the sign-in leads back");
    }
}

#[test]
fn a_person_signs_in_reads_and_allows_and_sees_what_ran() {
    let mut desk = Desk::new(HOLD_KEYS, "");
    let (mut peer, id) = desk.hold("admin", &[("x-countersign-reason", "rotate the key")]);
    let path = format!("/holds/{id}");
    desk.enter("a", "alice", &path, json!({}));
    let browser = &mut desk.browser;
    let page = browser.text("a", "main");
    for part in ["Pending", "create access key", "aws:iam:CreateAccessKey", "rotate the key", "Keys that leave", "left"]
    {
        assert!(page.contains(part), "`{part}` is missing:\n{page}");
    }
    let digest = desk.site.hold(&id)["digest"].as_str().unwrap().to_owned();
    assert!(page.contains(&digest));
    browser.no_barrier("a");
    browser.shot("a", "pending");

    browser.click("a", "#allow");
    browser.see("a", "#alert", "A reason is required");
    browser.fill("a", "#reason", "looked at it");
    browser.click("a", "#allow");
    assert_eq!(peer.read().unwrap().status, 200);
    browser.see("a", "#state", "It ran; the upstream answered with 200");
    browser.act("a", "lose", json!({"of": "#form"}));
    assert_eq!(browser.count("a", "button:not(.plain), #left *"), 0, "nothing is left to press, and no time");
    let page = browser.text("a", "main");
    assert!(page.contains("alice allowed it") && page.contains("looked at it"), "{page}");
    browser.no_barrier("a");
    browser.shot("a", "executed");
    browser.no_noise(&[]);

    let vote = desk.site.wait_for_record(&id, "approval.vote");
    assert!(vote.to_string().contains("\"page\""), "{vote}");
    assert_eq!(desk.upstream.count("UserName=admin"), 1);
    desk.site.verify();
}

#[test]
fn two_people_decide_live_and_the_owner_never() {
    let rules = HOLD_KEYS.replace("approvers: [security]", "approvers: [security]\n    quorum: 2");
    let mut desk = Desk::new(&rules, "");
    let (mut peer, id) = desk.hold("u", &[]);
    let path = format!("/holds/{id}");
    desk.enter("alice", "alice", &path, json!({}));
    desk.enter("bob", "bob", &path, json!({}));
    desk.enter("olga", "olga", &path, json!({}));
    let browser = &mut desk.browser;
    browser.see("olga", "#decide", "You cannot allow it: this person may not decide it, being the request's owner.");
    assert_eq!(browser.count("olga", "#form"), 0);
    browser.shot("olga", "owner");
    // Not by the page, and not past it either.
    let sent = format!(
        "fetch('/v1/holds/{id}/verdict', {{method: 'POST', headers: {{'content-type': 'application/json'}},
          body: JSON.stringify({{verdict: 'allow', reason: 'me'}})}}).then((answer) => answer.status)"
    );
    assert_eq!(browser.act("olga", "eval", json!({"script": sent})), 403);

    // What bob is typing outlives what alice does.
    browser.fill("bob", "#reason", "second pair of eyes");
    browser.fill("alice", "#reason", "first");
    browser.click("alice", "#allow");
    browser.see("alice", "#decide", "You have allowed it; it takes more people.");
    browser.see("bob", "#decide", "alice allowed it");
    assert_eq!(browser.act("bob", "value", json!({"of": "#reason"})), "second pair of eyes");
    browser.shot("bob", "second");
    // Alice's other tab is alice.
    browser.act("alice-2", "goto", json!({"profile": "alice", "url": format!("{}{path}", desk.url)}));
    browser.see("alice-2", "#decide", "You have allowed it; it takes more people.");
    browser.click("bob", "#allow");
    assert_eq!(peer.read().unwrap().status, 200);
    for tab in ["alice", "alice-2", "bob", "olga"] {
        browser.see(tab, "#state", "It ran");
        assert_eq!(browser.count(tab, "#form"), 0, "{tab}");
    }
    browser.no_noise(&["403"]);
    desk.site.verify();
}

#[test]
fn a_no_reaches_the_agent_with_its_reason() {
    let mut desk = Desk::new(HOLD_KEYS, "");
    let (mut peer, id) = desk.hold("u", &[]);
    // A phone, in the dark.
    let phone = json!({"viewport": {"width": 390, "height": 844}, "scheme": "dark"});
    desk.enter("a", "alice", &format!("/holds/{id}"), phone);
    let browser = &mut desk.browser;
    browser.no_barrier("a");
    browser.shot("a", "phone");
    let widths = browser.act("a", "scroll_width", json!({}));
    assert!(widths[0].as_u64() <= widths[1].as_u64(), "nothing sticks out: {widths}");
    browser.fill("a", "#reason", "use the role instead");
    browser.click("a", "#deny");
    let answer = peer.read().unwrap();
    assert!(answer.status == 403 && answer.text().contains("use the role instead"), "{}", answer.text());
    browser.see("a", "#state", "Denied by alice; nothing ran");
    browser.shot("a", "phone-denied");
    browser.no_noise(&[]);
    assert_eq!(desk.upstream.received().len(), 0);
}

#[test]
fn time_runs_out_while_a_person_looks() {
    let rules = HOLD_KEYS.replace("approvers: [security]", "approvers: [security]\n    expires: 12s");
    let mut desk = Desk::new(&rules, "");
    let (mut peer, id) = desk.hold("u", &[]);
    desk.enter("a", "alice", &format!("/holds/{id}"), json!({}));
    let browser = &mut desk.browser;
    browser.fill("a", "#reason", "still reading");
    assert_eq!(peer.read().unwrap().status, 403);
    browser.see("a", "#state", "Expired");
    browser.act("a", "lose", json!({"of": "#form"}));
    browser.shot("a", "expired");
    browser.no_noise(&[]);
}

#[test]
fn what_is_changed_is_judged_before_it_is_sent() {
    let mut desk = Desk::new(HOLD_KEYS, "");
    let (mut peer, id) = desk.hold("admin", &[]);
    let path = format!("/holds/{id}");
    desk.enter("alice", "alice", &path, json!({}));
    desk.enter("bob", "bob", &path, json!({}));
    let browser = &mut desk.browser;
    browser.click("alice", "#modify summary");
    browser.click("alice", "#preview");
    browser.see("alice", "#alert", "Nothing is changed yet");
    let field = "textarea[name=UserName]";
    browser.fill("alice", field, "in\u{202e}tern");
    browser.click("alice", "#preview");
    browser.see("alice", "#difference", "+in\\u{202e}tern");
    browser.see("alice", "#difference", "-admin");
    browser.see("alice", "#difference", "It takes: 2 people of security");
    browser.no_barrier("alice");
    browser.shot("alice", "difference");
    assert!(desk.site.hold(&id)["modified"].as_array().unwrap().is_empty(), "a look changes nothing");
    // What was looked at is what is sent: one more letter, and there is nothing to send.
    browser.fill("alice", field, "intern");
    assert_eq!(browser.count("alice", "#send"), 0);
    browser.click("alice", "#preview");
    browser.see("alice", "#difference", "+intern");
    browser.fill("alice", "#reason", "the intern's is enough");
    browser.fill("bob", "#reason", "as it was");
    browser.click("alice", "#send");
    browser.see("alice", "#decide", "You have allowed it");
    browser.see("bob", "#alert", "The request was changed while you looked");
    browser.see("bob", "#card", "/UserName: \"admin\" -> \"intern\"");
    browser.see("bob", "h1", "user/intern");
    assert_eq!(browser.act("bob", "value", json!({"of": "#reason"})), "as it was");
    browser.shot("bob", "changed");
    browser.click("bob", "#allow");
    assert_eq!(peer.read().unwrap().status, 200);
    assert_eq!((desk.upstream.count("UserName=intern"), desk.upstream.count("admin")), (1, 0));
    browser.see("bob", "#state", "It ran");
    browser.no_noise(&[]);
    desk.site.verify();
}

#[test]
fn a_sign_in_that_ends_loses_nothing_that_was_typed() {
    let mut desk = Desk::new(HOLD_KEYS, "");
    let (mut peer, id) = desk.hold("u", &[]);
    desk.enter("a", "alice", &format!("/holds/{id}"), json!({}));
    let browser = &mut desk.browser;
    browser.fill("a", "#reason", "a long thought");
    browser.act("a", "forget", json!({}));
    browser.click("a", "#allow");
    browser.see("a", "#alert", "Your sign-in has expired. What you typed is kept.");
    assert_eq!(desk.site.hold(&id)["state"], "pending");
    browser.shot("a", "sign-in-expired");
    // The provider still knows her: one click, and she goes on where she was.
    browser.click("a", "#alert a");
    browser.see("a", "#state", "Pending");
    assert_eq!(browser.act("a", "value", json!({"of": "#reason"})), "a long thought");
    browser.click("a", "#allow");
    assert_eq!(peer.read().unwrap().status, 200);
    browser.see("a", "#state", "It ran");
    browser.no_noise(&["401"]);
}

#[test]
fn the_inbox_is_live_and_a_keyboard_is_enough() {
    let mut desk = Desk::new(HOLD_KEYS, "");
    desk.enter("a", "alice", "/holds", json!({}));
    desk.browser.see("a", "main", "Nothing waits for you.");
    let (mut peer, _) = desk.hold("first", &[]);
    desk.browser.see("a", "main", "bot asks to create access key");
    let (_other, _) = desk.hold("second", &[]);
    desk.browser.act(
        "a",
        "eval",
        json!({"script": "new Promise((done) => setInterval(() =>
      document.querySelectorAll('.holds a').length === 2 && done(true), 20))"}),
    );
    let browser = &mut desk.browser;
    browser.no_barrier("a");
    browser.shot("a", "inbox");
    // By keys alone: the first link, the reason, the button.
    browser.act("a", "eval", json!({"script": "document.querySelector('.site button').focus()"}));
    browser.act("a", "press", json!({"keys": ["Tab", "Enter"]}));
    browser.see("a", "#state", "Pending");
    for _ in 0..40 {
        browser.act("a", "press", json!({"keys": ["Tab"]}));
        if browser.act("a", "focused", json!({})) == "reason" {
            break;
        }
    }
    assert_eq!(browser.act("a", "focused", json!({})), "reason");
    browser.act("a", "type", json!({"text": "by keys"}));
    browser.act("a", "press", json!({"keys": ["Tab"]}));
    assert_eq!(browser.act("a", "focused", json!({})), "allow");
    browser.act("a", "press", json!({"keys": ["Enter"]}));
    assert_eq!(peer.read().unwrap().status, 200);
    browser.see("a", "#state", "It ran");
    browser.act("a", "goto", json!({"url": format!("{}/holds", desk.url)}));
    browser.see("a", "main", "It ran; the upstream answered with 200");
    // A stranger at the same provider sees nothing but who they are.
    desk.enter("x", "mallory", "/holds", json!({}));
    let text = desk.browser.text("x", "main");
    assert!(text.contains("subject: mallory") && !text.contains("access key"), "{text}");
    desk.browser.shot("x", "stranger");
    // Out is out.
    desk.browser.click("a", ".site button");
    desk.browser.see("a", "main", "You are signed out");
    desk.browser.no_noise(&["403"]);
}
