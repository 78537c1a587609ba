//! What is said about signing people in by an OpenID provider.

use std::time::Duration;

use super::page::{Page, spelled_duration};
use super::secret;
use crate::net::courier::endpoint;
use crate::signin::{Lifetimes, Options, Terms};
use crate::yaml::{Diagnostic, Node, Problems};

/// How people sign in.
#[derive(Clone, Debug)]
pub(crate) struct Oidc {
    pub(crate) provider: Options,
    pub(crate) terms: Terms,
    pub(crate) lifetimes: Lifetimes,
}

/// `None` where no provider is named. `url` is where people reach the API.
pub(super) fn read(page: &mut Page<'_>, url: Option<&str>) -> Option<Oidc> {
    let text = |node: &Node, problems: &Problems| node.text(problems).map(str::to_owned);
    let issuer = page.optional("issuer", issuer);
    let client_id = page.optional("client_id", text);
    let client_secret = secret::source(page, ["client_secret_file", "client_secret_env", "client_secret_command"]);
    let word = |_: &Node, _: &Problems, text: &str| Some(text.to_owned());
    let audiences = page.list("audiences", &[], word, str::to_owned);
    let clients = page.list("clients", &[], word, str::to_owned);
    let scopes = page.list("scopes", &["openid", "email"], word, str::to_owned);
    let choices = [("subject", false), ("verified_email", true)];
    let by_verified_email = page.value(
        "map_by",
        false,
        |node, problems| node.one_of(problems, "way to find a person", &choices),
        |by_email| if *by_email { "verified_email" } else { "subject" }.to_owned(),
    );
    let clock_skew = page.duration("clock_skew", Duration::from_secs(30));
    if clock_skew > LONGEST_SKEW {
        let message = "`oidc.clock_skew` is longer than a minute: tokens would live on after their end";
        page.report("clock_skew", Diagnostic::error, message, "at most `1m`; set the clocks by NTP");
    }
    let extra_ca = page.optional("extra_ca", text).map(|file| page.resolve(&file));
    let lifetimes = Lifetimes {
        idle: page.duration("session_idle", Duration::from_secs(1800)),
        whole: page.duration("session_lifetime", Duration::from_secs(12 * 3600)),
    };
    let decide_within = page.value(
        "decide_within",
        None,
        |node, problems| if node.text(problems)? == "any" { Some(None) } else { node.duration(problems).map(Some) },
        |within| within.map_or_else(|| "any".to_owned(), spelled_duration),
    );
    let (issuer, client_id) = match (issuer, client_id) {
        (Some(issuer), Some(client_id)) => (issuer, client_id),
        (None, None) => return None,
        (None, Some(_)) => {
            page.report("issuer", Diagnostic::error, "`oidc` names a client and no issuer", "`issuer: https://…`");
            return None;
        }
        (Some(_), None) => {
            let help = "the id under which countersign is registered there";
            page.report("client_id", Diagnostic::error, "`oidc` names an issuer and no `client_id`", help);
            return None;
        }
    };
    let audiences = if audiences.is_empty() { vec![client_id.clone()] } else { audiences };
    let provider = Options { issuer, client_id, client_secret, audiences, clients, scopes, clock_skew, extra_ca };
    let terms = Terms { by_verified_email, decide_within, url: url.map(str::to_owned) };
    Some(Oidc { provider, terms, lifetimes })
}

/// `listen.api_url`: scheme, host and port, nothing behind it, as browsers spell an origin.
pub(super) fn url(page: &mut Page<'_>) -> Option<String> {
    page.optional("api_url", |node, problems| {
        let text = node.text(problems)?;
        let is_origin = is_safe_url(text)
            && text.parse::<http::Uri>().is_ok_and(|uri| {
                let port = uri.port_u16().map_or_else(String::new, |port| format!(":{port}"));
                let origin = format!("{}://{}{port}", uri.scheme_str().unwrap_or(""), uri.host().unwrap_or(""));
                text == origin.to_ascii_lowercase()
            });
        if !is_origin {
            let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no place for a page"));
            problems.push(finding.help(
                "`https://`, a host in lower case and maybe a port, no slash at the end: `https://approve.example.com`; \
                 `http://` on this machine alone",
            ));
        }
        is_origin.then(|| text.to_owned())
    })
}

fn issuer(node: &Node, problems: &Problems) -> Option<String> {
    let text = node.text(problems)?;
    let is_issuer = is_safe_url(text) && !text.contains(['?', '#']);
    if !is_issuer {
        let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no issuer"));
        problems.push(finding.help("a URL with TLS, spelled as the provider's discovery document spells it"));
    }
    is_issuer.then(|| text.to_owned())
}

/// With TLS, or on this machine.
fn is_safe_url(text: &str) -> bool {
    text.parse().is_ok_and(|uri| endpoint(&uri).is_some())
}

const LONGEST_SKEW: Duration = Duration::from_secs(60);
