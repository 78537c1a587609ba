//! The keys, their defaults and what may stand there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::page::{Page, spelled, spelled_duration};
use super::{Aws, Config, Listen, Log, Postgres, Rules, Spool, channels, doors, oidc, people, postgres};
use crate::credential::real::RealOptions;
use crate::gate::GateOptions;
use crate::id::{AgentId, GroupId, is_plain_name};
use crate::net::spool::DiskLimits;
use crate::net::upstream::{Endpoint, UpstreamOptions};
use crate::people::{People, Stage};
use crate::plane::aws::{self as plane, Endpoints, InterimOptions, Sign};
use crate::plane::postgres::login::Options as Door;
use crate::rules::{
    Assume, Cut, Decision, HoldTerms, InTransaction, read_cache, read_escalation, read_iam_action, read_role,
};
use crate::yaml::{Diagnostic, Node, Problems, Span, nearest};

/// Reads all of it; `None` where the people contradict each other (then it was reported).
pub(super) fn read(page: &mut Page<'_>) -> Option<Config> {
    let data = page.path("data", ".");
    let (listen, postgres_door, postgres_place) = page.section("listen", "`listen`", listen);
    let interception = page.section("interception", "`interception`", doors::interception);
    let proxy = page.section("proxy", "`proxy`", doors::proxy);
    let endpoint_hosts = page.list("endpoint_hosts", &[], host_name, str::to_owned);
    let (aws, (database, database_plane)) = page.section("upstream", "`upstream`", |page| {
        let aws = page.section("aws", "`upstream.aws`", aws);
        let read = |page: &mut Page<'_>| postgres::upstream(page, postgres_place);
        (aws, page.section("postgres", "`upstream.postgres`", read))
    });
    let api_url = listen.api_url.as_deref();
    let oidc = page.section("oidc", "`oidc`", |page| oidc::read(page, api_url));
    let (spool, limits) = page.section("bodies", "`bodies`", bodies);
    let people = match people::read(page) {
        Ok(people) => Arc::new(people),
        Err(error) => {
            page.problems().push(Diagnostic::file(page.problems().source().name(), format!("`people`: {error}")));
            return None;
        }
    };
    let channels = page.section("channels", "`channels`", channels::read);
    let (terms, gate, interims) = page.section("holds", "`holds`", |page| holds(page, &people));
    let rules = page.section("rules", "`rules`", |page| rules(page, terms, &people));
    let (journal, words) = page.section("audit", "`audit`", |page| {
        let journal =
            crate::journal::Options { dir: page.path("directory", "audit"), key_file: page.path("key", "log.key") };
        (journal, postgres::words(page))
    });
    let log = page.section("log", "`log`", log);
    let drain = page.duration("drain", Duration::from_secs(30));
    Some(Config {
        data,
        listen,
        aws: Aws { plane: plane::Options { endpoint_hosts, interims, ..with_limits(aws.plane, limits) }, ..aws },
        interception,
        proxy,
        postgres: Postgres { door: postgres_door, plane: database_plane, upstream: database, words },
        people,
        channels,
        oidc,
        rules,
        gate,
        spool,
        journal,
        log,
        drain,
        warnings: Vec::new(),
        shown: String::new(),
    })
}

/// Also what agents of Postgres find, and where their listener stands in the file.
fn listen(page: &mut Page<'_>) -> (Listen, Door, Option<Span>) {
    let localhost = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let spell_one = |address: &SocketAddr| spelled(&address.to_string());
    let defaults = crate::net::listen::Limits::default();
    let default_per_peer = Some(defaults.connections_per_peer);
    let (postgres, mut door) = postgres::listener(page);
    let (postgres, place) = postgres.unzip();
    let listen = Listen {
        agents: page.value("agents", Some(localhost(8700)), address_or_none, spelled_address),
        agents_tls: page.value("agents_tls", None, address_or_none, spelled_address),
        agents_socket: doors::socket(page),
        proxy: page.value("proxy", None, address_or_none, spelled_address),
        transparent: page.value("transparent", None, address_or_none, spelled_address),
        api: page.value("api", localhost(8701), address, spell_one),
        api_tls: page.boolean("api_tls", false),
        api_url: oidc::url(page),
        admin: page.value("admin", localhost(8702), address, spell_one),
        certificate: page.path("certificate", "server.pem"),
        key: page.path("key", "server.key"),
        connections: page.count("connections", defaults.connections, 1_000_000),
        connections_per_peer: page.value("connections_per_peer", default_per_peer, count_or_none, |count| {
            count.map_or_else(|| "none".to_owned(), |count| count.to_string())
        }),
        postgres,
    };
    (door.certificate, door.key) = (listen.certificate.clone(), listen.key.clone());
    let mut seen: Vec<SocketAddr> = Vec::new();
    let addresses = [
        ("agents", listen.agents),
        ("agents_tls", listen.agents_tls),
        ("proxy", listen.proxy),
        ("transparent", listen.transparent),
        ("postgres", listen.postgres),
        ("api", Some(listen.api)),
        ("admin", Some(listen.admin)),
    ];
    for (key, address) in addresses {
        let Some(address) = address.filter(|address| address.port() != 0) else { continue };
        if seen.contains(&address) {
            let message = format!("`listen.{key}` shares the address {address} with another listener");
            page.report(key, Diagnostic::error, &message, "give each listener its own port");
        }
        seen.push(address);
    }
    if !listen.api.ip().is_loopback() && !listen.api_tls {
        let message = "the API can be reached from other machines without TLS: approver tokens travel on it";
        page.report("api", Diagnostic::warning, message, "set `listen.api_tls: true`, or see to it that they cannot");
    }
    (listen, door, place)
}

fn aws(page: &mut Page<'_>) -> Aws {
    let defaults = UpstreamOptions::default();
    let written = page.optional("endpoint", |node, problems| {
        let text = node.text(problems)?;
        Some((endpoint(node, problems)?, text.to_owned()))
    });
    let (all, endpoint_text) = written.unzip();
    let services = page.pairs("endpoints", endpoint).into_iter().map(|(key, it)| (key.to_owned(), it)).collect();
    let text = |node: &Node, problems: &Problems| node.text(problems).map(str::to_owned);
    let profile = page.optional("profile", text);
    let region = page.optional("region", text);
    let sts_endpoint = page
        .optional("sts_endpoint", |node, problems| self::endpoint(node, problems).and_then(|_| text(node, problems)));
    let extra_ca = page.optional("extra_ca", text).map(|file| page.resolve(&file));
    let (assume, assumes_unmatched) = page.section("assume", "`upstream.aws.assume`", assume);
    let endpoints = Endpoints { all, services };
    let reads_before_hold = page.boolean("read_before_hold", true);
    Aws {
        plane: plane::Options { endpoints, assume, assumes_unmatched, reads_before_hold, ..plane::Options::default() },
        credential: RealOptions { profile, region, sts_endpoint: sts_endpoint.or(endpoint_text) },
        pool: UpstreamOptions {
            connect_timeout: page.duration("connect_timeout", defaults.connect_timeout),
            answer_timeout: page.duration("answer_timeout", defaults.answer_timeout),
            stall_timeout: page.duration("stall_timeout", defaults.stall_timeout),
            idle_timeout: page.duration("idle_timeout", defaults.idle_timeout),
            idle_connections: page.count("idle_connections", defaults.idle_connections, 100_000),
            extra_ca,
        },
    }
}

/// The role that requests are sent in, and whether those are that no rule matched.
fn assume(page: &mut Page<'_>) -> (Option<Arc<Assume>>, bool) {
    let role = page.optional("role", read_role);
    let external_id = page.optional("external_id", |node, problems| node.text(problems).map(str::to_owned));
    let cut = page.value(
        "cut",
        Cut::default(),
        |node, problems| node.one_of(problems, "cut", &Cut::ALL),
        |it| it.as_str().to_owned(),
    );
    let also = page.list("also", &[], |node, problems, _| read_iam_action(node, problems), str::to_owned);
    let cache_or_none = |node: &Node, problems: &Problems| match node.text(problems)? {
        "none" => Some(None),
        _ => read_cache(node, problems).map(Some),
    };
    let cache = page.value("cache", None, cache_or_none, |it| it.map_or_else(|| "none".to_owned(), spelled_duration));
    let unmatched = page.boolean("unmatched", false);
    if role.is_none() && (external_id.is_some() || !also.is_empty() || cache.is_some() || unmatched) {
        let message = "`upstream.aws.assume` says how to assume a role, and names none";
        page.report("role", Diagnostic::error, message, "`role: arn:aws:iam::123456789012:role/agents`");
    }
    (role.map(|role| Arc::new(Assume { role, external_id, cut, also, cache })), unmatched)
}

fn holds(page: &mut Page<'_>, people: &People) -> (HoldTerms, GateOptions, InterimOptions) {
    let defaults = crate::rules::Options::default().hold;
    let known: Vec<&str> = people.persons().flat_map(|person| &person.groups).map(GroupId::as_str).collect();
    let known_group = |node: &Node, problems: &Problems, text: &str| {
        let group = group(node, problems, text)?;
        if !known.contains(&text) {
            let source = problems.source();
            let mut finding = Diagnostic::warning(source, node.span, format!("nobody is in group `{text}`"))
                .help("a hold that asks it ends at once, since nobody can approve it");
            if let Some(near) = nearest(text, known.iter().copied()) {
                finding = finding.label(format!("did you mean `{near}`?"));
            }
            problems.push(finding);
        }
        Some(group)
    };
    let only = defaults.stages.iter().flat_map(|stage| &stage.approvers);
    let default_groups: Vec<&str> = only.map(GroupId::as_str).collect();
    let approvers = page.list("approvers", &default_groups, known_group, |text| GroupId::new(text));
    let quorum = u32::try_from(page.count("quorum", 1, 100)).unwrap_or(u32::MAX);
    let groups = |node: &Node, problems: &Problems| {
        node.list_of(problems, |item, problems| item.text(problems).and_then(|text| known_group(item, problems, text)))
    };
    let terms = HoldTerms {
        stages: vec![Stage { approvers, quorum }],
        deniers: page.list("deniers", &[], known_group, |text| GroupId::new(text)),
        escalations: page.items(
            "escalate",
            |item, problems| read_escalation(item, problems, &groups),
            people::spell_escalation,
        ),
        signed: page.boolean("signed", defaults.signed),
        expires: page.duration("expires", defaults.expires),
        in_transaction: page.value(
            "in_transaction",
            None,
            |node, problems| Some(crate::rules::read_in_transaction(node, problems)),
            |it| match it {
                None => "null".to_owned(),
                Some(InTransaction::Refuse) => InTransaction::REFUSE.to_owned(),
                Some(InTransaction::Wait(time)) => spelled_duration(*time),
            },
        ),
    };
    let defaults = GateOptions::default();
    let gate = GateOptions {
        withdraw_after: page.duration("withdraw_after", defaults.withdraw_after),
        approval_ttl: page.duration("approval_ttl", defaults.approval_ttl),
        retain: page.duration("retain", defaults.retain),
        deny_memory: page.duration("deny_memory", defaults.deny_memory),
        rejoin_window: page.duration("rejoin_window", defaults.rejoin_window),
        max_holds: page.count("limit", defaults.max_holds, 1_000_000),
        max_holds_per_agent: page.count("limit_per_agent", defaults.max_holds_per_agent, 1_000_000),
        max_held_bytes: held_bytes(page, "memory", defaults.max_held_bytes),
        max_held_bytes_per_agent: held_bytes(page, "memory_per_agent", defaults.max_held_bytes_per_agent),
        max_presigned_per_agent: page.count("presigned_per_agent", defaults.max_presigned_per_agent, 10_000_000),
    };
    (terms, gate, page.section("interims", "`holds.interims`", interims))
}

fn held_bytes(page: &mut Page<'_>, key: &'static str, default: usize) -> usize {
    usize::try_from(page.size(key, default as u64)).unwrap_or(usize::MAX)
}

fn rules(page: &mut Page<'_>, terms: HoldTerms, people: &Arc<People>) -> Rules {
    let defaults = crate::rules::Options::default();
    let text = |_: &Node, _: &Problems, text: &str| Some(text.to_owned());
    let directories = page.list("directories", &["rules"], text, str::to_owned);
    Rules {
        directories: directories.iter().map(|directory| page.resolve(directory)).collect(),
        options: crate::rules::Options {
            ordinary: page.value("ordinary", defaults.ordinary, decision, |d| d.as_str().to_owned()),
            privileged: page.value("privileged", defaults.privileged, decision, |d| d.as_str().to_owned()),
            unknown: page.value("unknown", defaults.unknown, decision, |d| d.as_str().to_owned()),
            hold: terms,
            facts: defaults.facts,
            people: Some(Arc::clone(people)),
        },
    }
}

/// How much of a body is looked at, and how much is kept; in bytes.
struct Limits {
    inspect: u64,
    matched: u64,
    reply: u64,
}

fn bodies(page: &mut Page<'_>) -> (Spool, Limits) {
    let defaults = plane::Options::default();
    let limits = Limits {
        inspect: page.size("inspect", defaults.look_limit_bytes),
        matched: page.size("matched", defaults.spool_limit_bytes),
        reply: page.size("reply", defaults.reply_limit_bytes as u64),
    };
    let memory = page.size("memory", 64 << 20);
    let total = page.size("disk", 4 << 30);
    let disk = DiskLimits {
        total,
        per_agent: page.size("disk_per_agent", total / 4),
        unproven: page.size("disk_unproven", total / 16),
    };
    (Spool { memory, disk }, limits)
}

fn with_limits(options: plane::Options, limits: Limits) -> plane::Options {
    plane::Options {
        look_limit_bytes: limits.inspect,
        spool_limit_bytes: limits.matched,
        reply_limit_bytes: usize::try_from(limits.reply).unwrap_or(usize::MAX),
        ..options
    }
}

fn interims(page: &mut Page<'_>) -> InterimOptions {
    let defaults = InterimOptions::default();
    let signs = [("continue", Sign::Continue), ("processing", Sign::Processing), ("silence", Sign::Silence)];
    let sign = |node: &Node, problems: &Problems| node.one_of(problems, "sign of life", &signs);
    InterimOptions {
        enabled: page.boolean("enabled", defaults.enabled),
        first: page.optional("first", Node::duration),
        every: page.optional("every", Node::duration),
        agents: page.pairs("agents", sign).into_iter().map(|(agent, sign)| (AgentId::new(agent), sign)).collect(),
    }
}

fn log(page: &mut Page<'_>) -> Log {
    let formats = [("json", true), ("text", false)];
    let levels = [
        ("error", tracing::Level::ERROR),
        ("warn", tracing::Level::WARN),
        ("info", tracing::Level::INFO),
        ("debug", tracing::Level::DEBUG),
        ("trace", tracing::Level::TRACE),
    ];
    Log {
        json: page.value(
            "format",
            false,
            |node, problems| node.one_of(problems, "log format", &formats),
            |json| if *json { "json".to_owned() } else { "text".to_owned() },
        ),
        level: page.value(
            "level",
            tracing::Level::INFO,
            |node, problems| node.one_of(problems, "log level", &levels),
            |level| level.to_string().to_ascii_lowercase(),
        ),
    }
}

fn address(node: &Node, problems: &Problems) -> Option<SocketAddr> {
    let text = node.text(problems)?;
    let address = text.parse().ok();
    if address.is_none() {
        let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no address to listen on"));
        problems.push(finding.help("an IP address and a port, such as `127.0.0.1:8700` or `[::]:8700`"));
    }
    address
}

pub(super) fn spelled_address(address: &Option<SocketAddr>) -> String {
    address.map_or_else(|| "none".to_owned(), |address| spelled(&address.to_string()))
}

pub(super) fn address_or_none(node: &Node, problems: &Problems) -> Option<Option<SocketAddr>> {
    if node.text(problems)? == "none" { Some(None) } else { address(node, problems).map(Some) }
}

fn count_or_none(node: &Node, problems: &Problems) -> Option<Option<usize>> {
    match node.text(problems)? {
        "none" => Some(None),
        _ => node.integer(problems, 1, 1_000_000).and_then(|count| usize::try_from(count).ok()).map(Some),
    }
}

/// `http://host:port` or `https://host`, nothing behind it.
fn endpoint(node: &Node, problems: &Problems) -> Option<Endpoint> {
    let text = node.text(problems)?;
    let parsed = Endpoints::parse(text);
    if parsed.is_none() {
        let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no endpoint"));
        problems.push(finding.help("a URL without path, such as `https://sts.example.com` or `http://127.0.0.1:5000`"));
    }
    parsed
}

fn host_name(node: &Node, problems: &Problems, text: &str) -> Option<String> {
    let is_name = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        && !text.starts_with('.')
        && !text.ends_with('.');
    if !is_name {
        let finding = Diagnostic::error(problems.source(), node.span, format!("`{text}` is no host name"));
        problems.push(finding.help("a name without scheme and port, such as `countersign.internal`"));
    }
    is_name.then(|| text.to_ascii_lowercase())
}

pub(super) fn group(node: &Node, problems: &Problems, text: &str) -> Option<GroupId> {
    if !is_plain_name(text) {
        problems.error(node.span, format!("`{text}` is no name for a group: {PLAIN_NAME}"));
    }
    is_plain_name(text).then(|| GroupId::new(text))
}

fn decision(node: &Node, problems: &Problems) -> Option<Decision> {
    let choices = [("allow", Decision::Allow), ("deny", Decision::Deny), ("hold", Decision::Hold)];
    node.one_of(problems, "decision", &choices)
}

pub(super) const PLAIN_NAME: &str = "1 to 64 letters, digits or `._@+-`, a letter or digit first";
