//! The keys of the Postgres plane: what agents find there, and the real database behind it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::page::{Page, spelled};
use super::schema::{address_or_none, spelled_address};
use super::secret;
use crate::classify::postgres::tags::Tags;
use crate::plane::postgres::login::{Offer, Options as Door};
use crate::plane::postgres::upstream::{Host, Options as Upstream, Target, TlsMode};
use crate::plane::postgres::wording::{Kept, Options as Words, Statements};
use crate::plane::postgres::{Attribution, Options as Plane};
use crate::yaml::{Diagnostic, Node, Problems, Span};

/// The part under `listen`: the address with its place in the file, and what agents find there.
pub(super) fn listener(page: &mut Page<'_>) -> (Option<(SocketAddr, Span)>, Door) {
    let place = Cell::new(Span::default());
    let read = |node: &Node, problems: &Problems| {
        place.set(node.span);
        address_or_none(node, problems)
    };
    let address = page.value("postgres", None, read, spelled_address);
    let offers = [("none", Offer::None), ("offered", Offer::Offered), ("required", Offer::Required)];
    let door = Door {
        tls: choice(page, "postgres_tls", "way to offer TLS", Offer::Offered, &offers),
        // Those of all listeners, which are read with them.
        certificate: PathBuf::new(),
        key: PathBuf::new(),
        client_ca: path(page, "postgres_client_ca"),
        timeout: page.duration("postgres_login_timeout", Duration::from_secs(60)),
    };
    if address.is_some_and(|address| !address.ip().is_loopback()) && door.tls != Offer::Required {
        let message = "Postgres agents on other machines may come without TLS: their statements and results can be read \
                       on the way";
        let help = "set `listen.postgres_tls: required`, or see to it that nobody listens";
        page.report("postgres", Diagnostic::warning, message, help);
    }
    (address.map(|address| (address, place.get())), door)
}

/// The part under `upstream.postgres`. `listening` is where the file opens the listener that needs it.
pub(super) fn upstream(page: &mut Page<'_>, listening: Option<Span>) -> (Upstream, Plane) {
    let text = |node: &Node, problems: &Problems| node.text(problems).map(str::to_owned);
    let are_hosts_named = Cell::new(false);
    let read_host = |node: &Node, problems: &Problems, text: &str| {
        are_hosts_named.set(true);
        host(node, problems, text)
    };
    let hosts = page.list("hosts", &[], read_host, |_| Host { name: String::new(), port: DEFAULT_PORT });
    let targets = [("any", Target::Any), ("primary", Target::Primary), ("read-write", Target::ReadWrite)];
    let target = choice(page, "target", "target", Target::Any, &targets);
    let database = page.optional("database", text);
    let user = page.optional("user", text);
    let password = secret::source(page, ["password_file", "password_env", "password_command"]);
    let modes = [
        ("disable", TlsMode::Disable),
        ("allow", TlsMode::Allow),
        ("prefer", TlsMode::Prefer),
        ("require", TlsMode::Require),
        ("verify-ca", TlsMode::VerifyCa),
        ("verify-full", TlsMode::VerifyFull),
    ];
    let tls = choice(page, "tls", "TLS mode", TlsMode::VerifyFull, &modes);
    let ca = path(page, "ca");
    let identity = match (path(page, "certificate"), path(page, "key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            let help = "name the certificate's private key too";
            page.report("certificate", Diagnostic::error, "`upstream.postgres.certificate` has no `key`", help);
            None
        }
        (None, Some(_)) => {
            let help = "name the key's certificate too";
            page.report("key", Diagnostic::error, "`upstream.postgres.key` has no `certificate`", help);
            None
        }
    };
    let is_cleartext_allowed = page.boolean("cleartext_password", false);
    let connect_timeout = page.duration("connect_timeout", Duration::from_secs(10));
    let defaults = Plane::default();
    let message_limit = page.size("message_limit", defaults.message_limit_bytes as u64);
    let plane = Plane {
        attribution: page.section("attribution", "`attribution`", |page| Attribution {
            application_name: page.boolean("application_name", false),
            comment: page.boolean("comment", false),
        }),
        message_limit_bytes: usize::try_from(message_limit).unwrap_or(usize::MAX),
        notice_every: page.duration("notice_every", defaults.notice_every),
        catalogue_every: page.duration("catalogue_every", defaults.catalogue_every),
        tags: Arc::new(tags(page)),
    };
    if let Some(place) = listening {
        let lack = |message: &str, help: &str| {
            let source = page.problems().source();
            page.problems().push(Diagnostic::error(source, place, message.to_owned()).help(help));
        };
        if !are_hosts_named.get() {
            lack(
                "this listener is open, but `upstream.postgres.hosts` names no server",
                "such as `hosts: [db.internal:5432]`",
            );
        }
        if user.is_none() {
            lack(
                "this listener is open, but `upstream.postgres.user` names no role",
                "the real role that agents' sessions run as",
            );
        }
    }
    if tls == TlsMode::Disable && ca.is_some() {
        let message = "`upstream.postgres.ca` is of no use: TLS is disabled";
        page.report("ca", Diagnostic::warning, message, "remove `tls: disable`");
    }
    let upstream = Upstream {
        hosts,
        target,
        database,
        user: user.unwrap_or_default(),
        password,
        tls,
        ca,
        identity,
        is_cleartext_allowed,
        connect_timeout,
    };
    (upstream, plane)
}

/// The part under `audit`: what records hold of statements.
pub(super) fn words(page: &mut Page<'_>) -> Words {
    let forms = [("redacted", Statements::Redacted), ("full", Statements::Full)];
    let kept = [("matched", Kept::Matched), ("all", Kept::All), ("none", Kept::None)];
    Words {
        statements: choice(page, "statements", "form of statements in records", Statements::default(), &forms),
        openings: choice(page, "openings", "choice of openings", Kept::default(), &kept),
    }
}

fn tags(page: &mut Page<'_>) -> Tags {
    let mut tags = Tags::default();
    page.lists("tags", |tag, node, problems, place| {
        if let Err(why) = tags.add(tag, place) {
            let finding = Diagnostic::error(problems.source(), node.span, why);
            problems.push(finding.help("such as `public.customers`, `public.users.email` or `orders/billing.*`"));
        }
    });
    tags
}

/// `name`, `name:port`, `[address]:port`.
fn host(node: &Node, problems: &Problems, text: &str) -> Option<Host> {
    let parsed = parse_host(text);
    if parsed.is_none() {
        let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no host"));
        problems
            .push(finding.help("a name or address with or without port, such as `db.internal:5432` or `[::1]:5432`"));
    }
    parsed
}

fn parse_host(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then(|| Host { name: address.ip().to_string(), port: address.port() });
    }
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Some(Host { name: address.to_string(), port: DEFAULT_PORT });
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, port.parse().ok().filter(|port| *port != 0)?),
        None => (text, DEFAULT_PORT),
    };
    let is_name = rustls_pki_types::DnsName::try_from(name).is_ok();
    is_name.then(|| Host { name: name.to_ascii_lowercase(), port })
}

/// One of several words that mean a value each.
fn choice<T: Copy + PartialEq>(
    page: &mut Page<'_>,
    key: &'static str,
    what: &'static str,
    default: T,
    choices: &[(&'static str, T)],
) -> T {
    let spell =
        |value: &T| choices.iter().find(|(_, it)| it == value).map_or_else(String::new, |(name, _)| spelled(name));
    page.value(key, default, |node, problems| node.one_of(problems, what, choices), spell)
}

fn path(page: &mut Page<'_>, key: &'static str) -> Option<PathBuf> {
    page.optional(key, |node, problems| node.text(problems).map(str::to_owned)).map(|file| page.resolve(&file))
}

const DEFAULT_PORT: u16 = 5432;
