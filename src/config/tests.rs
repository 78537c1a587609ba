use super::*;
use crate::net::upstream::Endpoint;

fn parse(text: &str) -> Result<Config, Vec<Diagnostic>> {
    Config::parse(&Source::new("countersign.yaml", text), Path::new("/etc/countersign"))
}

/// The options alone, without what is only for people.
fn options(text: &str) -> String {
    let config = parse(text).unwrap_or_else(|found| panic!("{}", crate::yaml::render(&found)));
    format!("{:?}", Config { shown: String::new(), warnings: Vec::new(), ..config })
}

/// Every key, and a value for it that is not the default. A new key without a line here fails
/// `each_key_changes_its_option`.
const CHANGED: &[(&str, &str)] = &[
    ("data", "elsewhere"),
    ("listen.agents", "none"),
    ("listen.agents_tls", "'[::1]:8743'"),
    ("listen.agents_socket", "agents.sock"),
    ("listen.proxy", "127.0.0.1:8703"),
    ("listen.transparent", "'[::]:443'"),
    ("listen.api", "127.0.0.1:0"),
    ("listen.api_tls", "true"),
    ("listen.api_url", "https://approve.example.com:8701"),
    ("listen.admin", "127.0.0.1:0"),
    ("listen.certificate", "tls/cert.pem"),
    ("listen.key", "tls/key.pem"),
    ("listen.postgres", "127.0.0.1:5433"),
    ("listen.postgres_tls", "required"),
    ("listen.postgres_client_ca", "agents.pem"),
    ("listen.postgres_login_timeout", "5s"),
    ("listen.connections", "100"),
    ("listen.connections_per_peer", "none"),
    ("interception.ca", "ca/agents.pem"),
    ("interception.key", "ca/agents.key"),
    ("interception.hosts", "['*.amazonaws.com']"),
    ("interception.leaf_lifetime", "1h"),
    ("interception.kept_leaves", "50"),
    ("proxy.tunnel", "[packages.example, '*.example.com:8443']"),
    ("proxy.private_addresses", "true"),
    ("proxy.credentials_required", "true"),
    ("proxy.connect_timeout", "1s"),
    ("proxy.idle_timeout", "1h"),
    ("endpoint_hosts", "[countersign.internal]"),
    ("upstream.aws.endpoint", "http://127.0.0.1:5000"),
    ("upstream.aws.endpoints", "{s3: 'http://127.0.0.1:9000'}"),
    ("upstream.aws.profile", "gate"),
    ("upstream.aws.region", "eu-west-1"),
    ("upstream.aws.sts_endpoint", "https://sts.eu-west-1.amazonaws.com"),
    ("upstream.aws.extra_ca", "corp.pem"),
    ("upstream.aws.assume.role", "'arn:aws:iam::123456789012:role/agents'"),
    ("upstream.aws.assume.external_id", "ours"),
    ("upstream.aws.assume.cut", "actions"),
    ("upstream.aws.assume.also", "['kms:Decrypt']"),
    ("upstream.aws.assume.cache", "5m"),
    ("upstream.aws.assume.unmatched", "true"),
    ("upstream.aws.read_before_hold", "false"),
    ("upstream.aws.connect_timeout", "3s"),
    ("upstream.aws.answer_timeout", "1h"),
    ("upstream.aws.stall_timeout", "1500ms"),
    ("upstream.aws.idle_timeout", "1s"),
    ("upstream.aws.idle_connections", "7"),
    ("upstream.postgres.hosts", "[db.internal, '[::1]:5433']"),
    ("upstream.postgres.target", "read-write"),
    ("upstream.postgres.database", "orders"),
    ("upstream.postgres.user", "gate"),
    ("upstream.postgres.password_file", "db.password"),
    ("upstream.postgres.password_env", "DB_PASSWORD"),
    ("upstream.postgres.password_command", "[vault, read, db]"),
    ("upstream.postgres.tls", "require"),
    ("upstream.postgres.ca", "db-ca.pem"),
    ("upstream.postgres.certificate", "role.pem"),
    ("upstream.postgres.key", "role.key"),
    ("upstream.postgres.cleartext_password", "true"),
    ("upstream.postgres.connect_timeout", "3s"),
    ("upstream.postgres.message_limit", "1MiB"),
    ("upstream.postgres.notice_every", "5s"),
    ("upstream.postgres.attribution.application_name", "true"),
    ("upstream.postgres.attribution.comment", "true"),
    ("upstream.postgres.catalogue_every", "2s"),
    ("upstream.postgres.tags", "{pii: [public.customers, orders/public.users.email]}"),
    (
        "people",
        "{alice: {emails: [Alice@Example.com], groups: [approvers], slack: [T01/U02], aliases: [Al], \
         teams: [00000000-0000-0000-0000-000000000001/00000000-0000-0000-0000-000000000002], \
         oidc: [{issuer: 'https://id.example.com', subject: 'x 9'}]}, bo: {}}",
    ),
    (
        "on_call",
        "{approvers: {timezone: Europe/Berlin, windows: [{who: alice, from: '22:00', to: '06:00'}, \
     {who: bo, since: '2026-12-01T08:00:00+01:00', until: 2026-12-02T00:00:00Z}]}}",
    ),
    (
        "stand_ins",
        "[{from: alice, to: bo, groups: [approvers], since: 2026-12-01T00:00:00Z, until: 2026-12-09T00:00:00Z}]",
    ),
    ("channels.extra_ca", "private.pem"),
    (
        "channels.webhooks",
        "{siem: {url: 'https://hooks.example.com/x?y=1', secret_file: siem.secret, groups: [security], remind: 5m}}",
    ),
    (
        "channels.slack",
        "{ops: {workspace: T0123ABCD, channel: C0123ABCD, token_file: slack.token, signing_secret_env: SLACK, map_by_email: true, api: 'https://slack-gov.com/api', remind: 5m}}",
    ),
    ("oidc.issuer", "https://id.example.com"),
    ("oidc.client_id", "countersign"),
    ("oidc.client_secret_file", "oidc.secret"),
    ("oidc.client_secret_env", "OIDC_SECRET"),
    ("oidc.client_secret_command", "[vault, read, oidc]"),
    ("oidc.audiences", "[api]"),
    ("oidc.clients", "[cli]"),
    ("oidc.scopes", "[openid]"),
    ("oidc.map_by", "verified_email"),
    ("oidc.clock_skew", "5s"),
    ("oidc.extra_ca", "private.pem"),
    ("oidc.session_idle", "5m"),
    ("oidc.session_lifetime", "1h"),
    ("oidc.decide_within", "10m"),
    ("bodies.inspect", "2MiB"),
    ("bodies.matched", "1GiB"),
    ("bodies.reply", "2MiB"),
    ("bodies.memory", "1MiB"),
    ("bodies.disk", "100B"),
    ("bodies.disk_per_agent", "2GiB"),
    ("bodies.disk_unproven", "1MiB"),
    ("holds.approvers", "[security]"),
    ("holds.quorum", "2"),
    ("holds.deniers", "[watch]"),
    ("holds.escalate", "[{after: 10m, approvers: [managers]}]"),
    ("holds.signed", "true"),
    ("holds.expires", "1d"),
    ("holds.in_transaction", "30s"),
    ("holds.withdraw_after", "90s"),
    ("holds.approval_ttl", "1m"),
    ("holds.retain", "1m"),
    ("holds.deny_memory", "1m"),
    ("holds.rejoin_window", "1m"),
    ("holds.limit_per_agent", "3"),
    ("holds.limit", "4"),
    ("holds.memory", "1GiB"),
    ("holds.memory_per_agent", "1MiB"),
    ("holds.presigned_per_agent", "7"),
    ("holds.interims.enabled", "false"),
    ("holds.interims.first", "2s"),
    ("holds.interims.every", "2s"),
    ("holds.interims.agents", "{deployer: silence}"),
    ("rules.directories", "[a, ../b]"),
    ("rules.ordinary", "hold"),
    ("rules.privileged", "deny"),
    ("rules.unknown", "deny"),
    ("audit.directory", "/var/log/countersign"),
    ("audit.key", "keys/log.key"),
    ("audit.statements", "full"),
    ("audit.openings", "none"),
    ("log.format", "json"),
    ("log.level", "debug"),
    ("drain", "5s"),
];

const ROLE: &str = "      role: arn:aws:iam::123456789012:role/agents\n";

const PROVIDER: &str = "  issuer: https://id.example.com\n";
const CLIENT: &str = "  issuer: https://id.example.com\n  client_id: c\n";

/// Keys that mean nothing alone, and the lines they need below them.
const NEEDS: &[(&str, &str)] = &[
    ("listen.postgres", "upstream: {postgres: {hosts: [db], user: gate}}\n"),
    ("oidc.issuer", "  client_id: c\n"),
    ("oidc.client_id", PROVIDER),
    ("oidc.client_secret_file", CLIENT),
    ("oidc.client_secret_env", CLIENT),
    ("oidc.client_secret_command", CLIENT),
    ("oidc.audiences", CLIENT),
    ("oidc.clients", CLIENT),
    ("oidc.scopes", CLIENT),
    ("oidc.map_by", CLIENT),
    ("oidc.clock_skew", CLIENT),
    ("oidc.extra_ca", CLIENT),
    ("oidc.session_idle", CLIENT),
    ("oidc.session_lifetime", CLIENT),
    ("oidc.decide_within", CLIENT),
    ("on_call", "people: {alice: {}, bo: {}}\n"),
    ("stand_ins", "people: {alice: {}, bo: {}}\n"),
    ("upstream.aws.assume.external_id", ROLE),
    ("upstream.aws.assume.cut", ROLE),
    ("upstream.aws.assume.also", ROLE),
    ("upstream.aws.assume.cache", ROLE),
    ("upstream.aws.assume.unmatched", ROLE),
    ("upstream.postgres.certificate", "    key: role.key\n"),
    ("upstream.postgres.key", "    certificate: role.pem\n"),
];

/// Keys that exclude another of the list.
const EXCLUDED: [&str; 4] = [
    "upstream.postgres.password_env",
    "upstream.postgres.password_command",
    "oidc.client_secret_env",
    "oidc.client_secret_command",
];

/// `a.b: value` as nested YAML.
fn nested(key: &str, value: &str) -> String {
    let parts: Vec<_> = key.split('.').collect();
    let mut text = String::new();
    for (depth, part) in parts.iter().enumerate() {
        let end = if depth + 1 == parts.len() { format!(" {value}") } else { String::new() };
        text.push_str(&format!("{:1$}{part}:{end}\n", "", depth * 2));
    }
    text
}

/// The keys of `config show` that hold a value, as paths.
fn keys(shown: &str) -> Vec<String> {
    let mut path: Vec<&str> = Vec::new();
    let mut keys = Vec::new();
    for line in shown.lines() {
        let depth = (line.len() - line.trim_start().len()) / 2;
        let (key, rest) = line.trim_start().split_once(':').unwrap();
        path.truncate(depth);
        path.push(key);
        if !rest.is_empty() {
            keys.push(path.join("."));
        }
    }
    keys
}

#[test]
fn each_key_changes_its_option() {
    let default = options("");
    for (key, value) in CHANGED {
        let needs = NEEDS.iter().find(|(it, _)| it == key).map(|(_, lines)| *lines).unwrap_or_default();
        assert_ne!(options(&(nested(key, value) + needs)), default, "{key}: {value} changes nothing");
    }
    let shown = parse("").unwrap();
    let mut known: Vec<_> = CHANGED.iter().map(|(key, _)| (*key).to_owned()).collect();
    let mut all = keys(shown.show());
    known.sort();
    all.sort();
    assert_eq!(all, known);
}

/// Key and value of each line of `config show`.
fn values(shown: &str) -> Vec<(String, &str)> {
    let values = shown.lines().filter_map(|line| line.split("  # ").next()?.split_once(": "));
    keys(shown).into_iter().zip(values.map(|(_, value)| value)).collect()
}

#[test]
fn each_key_is_documented_with_its_default() {
    let documented = include_str!("../../docs/config.md");
    let config = parse("").unwrap();
    for (key, default) in values(config.show()) {
        let row = documented.lines().find_map(|line| line.strip_prefix(&format!("| `{key}` | ")));
        let Some(row) = row else {
            assert!(documented.contains(&format!("`{key}`")), "docs/config.md lacks `{key}`");
            continue;
        };
        let said = row.split(" | ").next().unwrap();
        let is_absent = default == "null" && !said.chars().any(|c| c.is_ascii_digit());
        assert!(is_absent || said == format!("`{default}`"), "docs/config.md says {said} for `{key}`, not {default}");
    }
}

#[test]
fn what_is_shown_reads_as_the_same_configuration() {
    let changed: String = {
        // One file with every key changed: sections with several keys are merged by hand.
        let mut text = String::new();
        let mut open: Vec<&str> = Vec::new();
        for (key, value) in CHANGED.iter().filter(|(key, _)| !EXCLUDED.contains(key)) {
            let parts: Vec<_> = key.split('.').collect();
            let (last, sections) = parts.split_last().unwrap();
            for (depth, section) in sections.iter().enumerate() {
                if open.get(depth) != Some(section) {
                    open.truncate(depth);
                    open.push(section);
                    text.push_str(&format!("{:1$}{section}:\n", "", depth * 2));
                }
            }
            open.truncate(sections.len());
            text.push_str(&format!("{:1$}{last}: {value}\n", "", sections.len() * 2));
        }
        text
    };
    for text in ["", &changed] {
        let shown = parse(text).unwrap().show().to_owned();
        assert_eq!(options(&shown), options(text), "{shown}");
        let uncommented = |shown: &str| -> Vec<String> {
            shown.lines().map(|line| line.split("  #").next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(uncommented(parse(&shown).unwrap().show()), uncommented(&shown));
    }
}

#[test]
fn origin_of_each_value_is_shown() {
    let config = parse("drain: 5s\nlisten:\n  api: 127.0.0.1:1\n").unwrap();
    assert!(config.show().contains("drain: 5s  # countersign.yaml:1\n"), "{}", config.show());
    assert!(config.show().contains("  api: 127.0.0.1:1  # countersign.yaml:3\n"), "{}", config.show());
    assert!(config.show().contains("  admin: 127.0.0.1:8702  # default\n"), "{}", config.show());
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = parse("data: var\nrules: {directories: [a, /b]}").unwrap();
    assert_eq!(config.data, Path::new("/etc/countersign/var"));
    assert_eq!(config.rules.directories, [Path::new("/etc/countersign/a"), Path::new("/b")]);
}

#[test]
fn local_aws_answers_for_the_account_too() {
    let config = parse("upstream: {aws: {endpoint: 'http://127.0.0.1:5000'}}").unwrap();
    assert_eq!(config.aws.credential.sts_endpoint.as_deref(), Some("http://127.0.0.1:5000"));
    assert_eq!(config.aws.plane.endpoints.all, Some(Endpoint { host: "127.0.0.1".to_owned(), port: 5000, tls: false }));
}

#[test]
fn postgres_hosts_are_read_with_and_without_port() {
    let config =
        parse("upstream: {postgres: {hosts: [DB.internal, 'db:6432', 10.0.0.1, '::1', '[::1]:5433']}}").unwrap();
    let hosts: Vec<_> = config.postgres.upstream.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["db.internal:5432", "db:6432", "10.0.0.1:5432", "[::1]:5432", "[::1]:5433"]);
}

#[test]
fn all_mistakes_are_reported_at_once_with_their_places() {
    let text = "\
listen:
  agents: localhost
  apii: 127.0.0.1:1
  admin: 127.0.0.1:8701
  postgres: 127.0.0.1:5432
upstream:
  aws:
    endpoint: https://user@host/path
    connect_timeout: 10
  postgres:
    hosts: [db:0, 'a b']
    target: primry
    password_file: a
    password_env: not a name
    password_command: [b]
    tls: verify_full
    certificate: role.pem
people:
  alice:
    emails: [alice]
    grups: [approvers]
  'bob x': {}
holds:
  approvers: [approver]
  quorum: 0
rules:
  unknown: ask
interception:
  hosts: ['*.*.example.com']
proxy:
  tunnel: ['https://packages.example']
log: text
colour: blue
";
    let found = crate::yaml::render(&parse(text).unwrap_err());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/mistakes.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(path).unwrap(), "\n{found}");
}

#[test]
fn a_provider_is_named_whole_and_with_tls() {
    let found = |text: &str| crate::yaml::render(&parse(text).unwrap_err());
    for (text, says) in [
        ("oidc: {issuer: 'https://id.example.com'}", "no `client_id`"),
        ("oidc: {client_id: c}", "no issuer"),
        ("oidc: {issuer: 'http://id.example.com', client_id: c}", "is no issuer"),
        ("oidc: {issuer: 'https://id.example.com/?x', client_id: c}", "is no issuer"),
        ("oidc: {issuer: 'https://id.example.com', client_id: c, clock_skew: 61s}", "longer than a minute"),
        ("listen: {api_url: 'http://approve.example.com'}", "is no place for a page"),
        ("listen: {api_url: 'https://approve.example.com/'}", "is no place for a page"),
        ("listen: {api_url: 'https://Approve.example.com'}", "is no place for a page"),
        ("listen: {api_url: 'https://u@approve.example.com'}", "is no place for a page"),
    ] {
        assert!(found(text).contains(says), "{text}: {}", found(text));
    }
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let warn = |text: &str| crate::yaml::render(&parse(text).unwrap().warnings);
    assert_eq!(warn(""), "");
    assert!(warn("listen: {api: '0.0.0.0:8701'}").contains("without TLS"));
    assert_eq!(warn("listen: {api: '0.0.0.0:8701', api_tls: true}"), "");
    let upstream = "upstream: {postgres: {hosts: [db], user: gate}}\n";
    assert!(warn(&format!("{upstream}listen: {{postgres: '0.0.0.0:5432'}}")).contains("may come without TLS"));
    assert_eq!(warn(&format!("{upstream}listen: {{postgres: '0.0.0.0:5432', postgres_tls: required}}")), "");
    assert!(warn("upstream: {postgres: {tls: disable, ca: ca.pem}}").contains("of no use"));
    let people = "people: {alice: {groups: [security]}}\n";
    assert!(warn(&format!("{people}holds: {{approvers: secrity}}")).contains("did you mean `security`?"));
}

#[test]
fn one_human_is_one_person() {
    let found = parse("people: {a: {emails: [x@example.com]}, b: {emails: [X@example.com]}}").unwrap_err();
    assert!(crate::yaml::render(&found).contains("one human would count as two"));
}
