//! The Postgres plane's keys.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::page::{Page, spelled};
use crate::plane::postgres::Options;
use crate::plane::postgres::upstream::{self, Host, PasswordSource, Target, TlsMode};
use crate::yaml::{Diagnostic, Node, Problems};

/// The Postgres plane, its listener and the real database behind it.
#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    pub(crate) listen: SocketAddr,
    pub(crate) tls: AgentTls,
    /// Whose client certificates let agents in.
    pub(crate) client_ca: Option<PathBuf>,
    pub(crate) plane: Options,
    pub(crate) upstream: upstream::Options,
}

/// Whether agents speak TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AgentTls {
    None,
    Offered,
    Required,
}

/// What stands under `listen`.
pub(super) struct Door {
    pub(super) address: Option<SocketAddr>,
    tls: AgentTls,
    client_ca: Option<PathBuf>,
}

pub(super) fn door(page: &mut Page<'_>, address: Option<SocketAddr>) -> Door {
    let tls = [("none", AgentTls::None), ("offered", AgentTls::Offered), ("required", AgentTls::Required)];
    Door {
        address,
        tls: page.value(
            "postgres_tls",
            AgentTls::Offered,
            |node, problems| node.one_of(problems, "use of TLS", &tls),
            |value| name_of(&tls, *value),
        ),
        client_ca: page.optional("postgres_client_ca", text).map(|file| page.resolve(&file)),
    }
}

/// What stands under `upstream.postgres`; `None` while nobody listens for it.
pub(super) fn upstream(page: &mut Page<'_>, door: Door) -> Option<Postgres> {
    let modes = [
        ("disable", TlsMode::Disable),
        ("allow", TlsMode::Allow),
        ("prefer", TlsMode::Prefer),
        ("require", TlsMode::Require),
        ("verify-ca", TlsMode::VerifyCa),
        ("verify-full", TlsMode::VerifyFull),
    ];
    let targets = [("any", Target::Any), ("primary", Target::Primary), ("read-write", Target::ReadWrite)];
    let hosts = page.list("hosts", &[], host, |name| Host { name: name.to_owned(), port: 5432 });
    let target = page.value(
        "target",
        Target::Any,
        |node, problems| node.one_of(problems, "kind of host", &targets),
        |value| name_of(&targets, *value),
    );
    let database = page.optional("database", text);
    let user = page.value("user", "countersign".to_owned(), text, |user| spelled(user));
    let password = password(page);
    let tls = page.value(
        "tls",
        TlsMode::VerifyFull,
        |node, problems| node.one_of(problems, "TLS mode", &modes),
        |value| name_of(&modes, *value),
    );
    let ca = page.optional("ca", text).map(|file| page.resolve(&file));
    let certificate = page.optional("certificate", text).map(|file| page.resolve(&file));
    let key = page.optional("key", text).map(|file| page.resolve(&file));
    if certificate.is_some() != key.is_some() {
        let message = "a certificate for the upstream needs its key, and a key its certificate";
        page.report("certificate", Diagnostic::error, message, "give both `certificate` and `key`, or neither");
    }
    let is_cleartext_allowed = page.boolean("cleartext_password", false);
    let connect_timeout = page.duration("connect_timeout", Duration::from_secs(10));
    let defaults = Options::default();
    let message_limit = page.size("message_limit", defaults.message_limit_bytes as u64);
    let notice_every = page.duration("notice_every", defaults.notice_every);
    let listen = door.address?;
    if hosts.is_empty() {
        let message = "`listen.postgres` is open, and there is no database behind it";
        page.report("hosts", Diagnostic::error, message, "name at least one host: `hosts: [db.internal:5432]`");
    }
    Some(Postgres {
        listen,
        tls: door.tls,
        client_ca: door.client_ca,
        plane: Options { message_limit_bytes: usize::try_from(message_limit).unwrap_or(usize::MAX), notice_every },
        upstream: upstream::Options {
            hosts,
            target,
            database,
            user,
            password,
            tls,
            ca,
            identity: certificate.zip(key),
            is_cleartext_allowed,
            connect_timeout,
        },
    })
}

fn password(page: &mut Page<'_>) -> PasswordSource {
    let file = page.optional("password_file", text).map(|file| PasswordSource::File(page.resolve(&file)));
    let environment = page.optional("password_env", text).map(PasswordSource::Environment);
    let words = page.list("password_command", &[], |_, _, word| Some(word.to_owned()), str::to_owned);
    let command = (!words.is_empty()).then_some(PasswordSource::Command(words));
    let mut given = [file, environment, command].into_iter().flatten();
    let first = given.next();
    if given.next().is_some() {
        let message = "the password comes from more than one place";
        let remedy = "keep one of `password_file`, `password_env` and `password_command`";
        page.report("password_file", Diagnostic::error, message, remedy);
    }
    first.unwrap_or(PasswordSource::None)
}

fn text(node: &Node, problems: &Problems) -> Option<String> {
    node.text(problems).map(str::to_owned)
}

/// `name`, `name:port`, `192.0.2.1:port` or `[2001:db8::1]:port`.
fn host(node: &Node, problems: &Problems, text: &str) -> Option<Host> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':').or(port.is_empty().then_some("5432"))),
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, Some("5432")),
        },
    };
    let port = port.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    match port {
        Some(port) if !name.is_empty() => Some(Host { name: name.to_owned(), port }),
        _ => {
            let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no host"));
            problems.push(finding.help("a name or an address, and a port after a colon: `db.internal:5432`"));
            None
        }
    }
}

fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: T) -> String {
    names.iter().find(|(_, it)| *it == value).map_or_else(String::new, |(name, _)| (*name).to_owned())
}
