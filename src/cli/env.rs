//! `countersign env`: what an agent's shell needs for each door, ready to be evaluated.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};

use super::agent::{Bound, duration};
use super::{Common, Exit};
use crate::config::Config;
use crate::credential::agent::{IssuedKey, issue_session};
use crate::time::Clock;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Name of the agent.
    agent: String,
    /// How the agent comes to countersign.
    #[arg(long, value_enum, default_value_t = Door::Endpoint)]
    door: Door,
    /// Whose language to write.
    #[arg(long, value_enum, default_value_t = Shell::Sh)]
    shell: Shell,
    /// How long the key is valid; at most 36h.
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = duration)]
    duration: Duration,
    #[command(flatten)]
    bound: Bound,
    /// URL at which the agent reaches the endpoint or the proxy (else the address countersign listens on).
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Print a profile for ~/.aws/config instead, whose keys renew themselves.
    #[arg(long, conflicts_with = "shell")]
    profile: bool,
}

/// The ways in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Door {
    /// SDKs send to countersign's own address.
    Endpoint,
    /// SDKs send to AWS through countersign as their HTTPS proxy.
    Proxy,
    /// SDKs send to AWS, whose names lead to countersign.
    Transparent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    /// POSIX shells: `eval "$(countersign env …)"`.
    Sh,
    /// `countersign env … | source`
    Fish,
    /// `countersign env … | Out-String | Invoke-Expression`
    Powershell,
    /// A file of NAME="value", for docker, systemd and dotenv libraries.
    Dotenv,
}

/// What the lines are made of.
struct Place {
    /// URL of the endpoint or the proxy; none where names lead to us.
    url: Option<String>,
    /// What the agent has to trust.
    ca: Option<PathBuf>,
    region: Option<String>,
}

pub(crate) fn run(arguments: Arguments, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let data = common.data_dir()?;
    let config = common.load().ok();
    let place = arguments.place(&data, config.as_ref())?;
    // Also makes sure that there is such an agent before a profile for it is printed.
    let binding = arguments.bound.into_binding();
    let from = binding.from.iter().map(|it| format!(" --from {it}"));
    let bound: String = from.chain(binding.task.iter().map(|it| format!(" --task {it}"))).collect();
    let key = issue_session(&data, &arguments.agent, arguments.duration, binding, Clock::default().now())?;
    if arguments.profile {
        ensure!(arguments.door != Door::Proxy, "a profile cannot name a proxy: use the lines for a shell");
        print_profile((&arguments.agent, &bound), &data, &place, out)?;
        return Ok(Exit::Done);
    }
    let (unset, set) = variables(arguments.door, &place, &key)?;
    for name in unset {
        arguments.shell.unset(name, out)?;
    }
    for (name, value) in set {
        arguments.shell.set(name, &value, out)?;
    }
    Ok(Exit::Done)
}

impl Arguments {
    fn place(&self, data: &Path, config: Option<&Config>) -> anyhow::Result<Place> {
        let running = crate::serve::running(data).unwrap_or_default();
        let configured = |scheme: &str, address: Option<SocketAddr>| {
            let is_reachable = |address: &SocketAddr| address.port() != 0 && !address.ip().is_unspecified();
            address.filter(is_reachable).map(|address| format!("{scheme}://{address}"))
        };
        let listen = config.map(|config| &config.listen);
        let found = match self.door {
            Door::Endpoint => running
                .agents
                .or(running.agents_tls)
                // By address, not by `localhost`: SDKs would put bucket names before a host name.
                .or_else(|| configured("http", listen?.agents))
                .or_else(|| configured("https", listen?.agents_tls)),
            Door::Proxy => running.proxy.or_else(|| configured("http", listen?.proxy)),
            Door::Transparent => running.transparent.or_else(|| configured("https", listen?.transparent)),
        };
        let url = match (self.door, &self.endpoint) {
            (Door::Transparent, _) => None,
            (_, Some(url)) => Some(url.clone()),
            (_, None) if config.is_none() && found.is_none() => {
                bail!("there is no configuration to take the address from: give --endpoint URL")
            }
            (Door::Endpoint, None) => {
                Some(found.context("no server runs here that agents could reach: start it, or give --endpoint URL")?)
            }
            (Door::Proxy, None) => {
                Some(found.context("nobody listens as a proxy: set `listen.proxy`, or give --endpoint URL")?)
            }
        };
        let ca = match self.door {
            // Trust in our own certificate is only needed where TLS is spoken to us.
            Door::Endpoint => {
                let is_tls = url.as_deref().is_some_and(|url| url.starts_with("https:"));
                Some(data.join("ca.pem")).filter(|ca| is_tls && ca.exists())
            }
            Door::Proxy | Door::Transparent => {
                let config =
                    config.context("the configuration names the CA that agents have to trust: give --config")?;
                let ca = config.interception.ca.clone();
                ensure!(ca.exists(), "`{}` is missing: `certs/make-ca` makes a CA for interception", ca.display());
                Some(ca)
            }
        };
        let region = config.and_then(|config| config.aws.credential.region.clone());
        Ok(Place { url, ca, region })
    }
}

type Variable = (&'static str, String);

/// What to unset, since it would win over what is set in one SDK or another, and what to set.
fn variables(door: Door, place: &Place, key: &IssuedKey) -> anyhow::Result<(Vec<&'static str>, Vec<Variable>)> {
    let mut unset = vec!["AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"];
    let mut set: Vec<Variable> = Vec::new();
    match (door, &place.url) {
        (Door::Endpoint, Some(url)) => set.push(("AWS_ENDPOINT_URL", url.clone())),
        (Door::Endpoint, None) => bail!("there is no endpoint to name"),
        (Door::Proxy, url) => {
            let url = url.as_deref().context("there is no proxy to name")?;
            let (scheme, rest) = url.split_once("://").context("the URL of a proxy starts with http://")?;
            ensure!(!rest.contains('@'), "the URL of the proxy names a user already: leave that to countersign");
            // Neither part has a character that a URL would want escaped.
            let with_key = format!("{scheme}://{}:{}@{rest}", key.key_id, key.secret.expose());
            unset.extend(["AWS_ENDPOINT_URL", "NO_PROXY", "no_proxy"]);
            set.push(("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true".to_owned()));
            // Some programs read one spelling, some the other.
            set.extend(["HTTPS_PROXY", "https_proxy"].map(|name| (name, with_key.clone())));
        }
        (Door::Transparent, _) => {
            unset.extend(["AWS_ENDPOINT_URL", "HTTPS_PROXY", "https_proxy"]);
            set.push(("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true".to_owned()));
        }
    }
    set.push(("AWS_ACCESS_KEY_ID", key.key_id.clone()));
    set.push(("AWS_SECRET_ACCESS_KEY", key.secret.expose().to_owned()));
    if let Some(region) = &place.region {
        set.extend(["AWS_REGION", "AWS_DEFAULT_REGION"].map(|name| (name, region.clone())));
    }
    if let Some(ca) = &place.ca {
        set.extend(["AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"].map(|name| (name, absolute(ca))));
    }
    Ok((unset, set))
}

impl Shell {
    fn unset(self, name: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Sh => writeln!(out, "unset {name}")?,
            Self::Fish => writeln!(out, "set -e {name}")?,
            Self::Powershell => writeln!(out, "Remove-Item Env:{name} -ErrorAction SilentlyContinue")?,
            // Such a file can only set.
            Self::Dotenv => {}
        }
        Ok(())
    }

    fn set(self, name: &str, value: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        ensure!(!value.contains(['\n', '\r', '\0']), "the value of {name} cannot stand in one line");
        match self {
            Self::Sh => writeln!(out, "export {name}={}", posix(value))?,
            Self::Fish => writeln!(out, "set -gx {name} {}", fish(value))?,
            Self::Powershell => writeln!(out, "$Env:{name} = {}", powershell(value))?,
            Self::Dotenv => writeln!(out, "{name}={}", dotenv(name, value)?)?,
        }
        Ok(())
    }
}

/// A word that a POSIX shell reads back as it is.
fn posix(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The same for fish, where a backslash in single quotes escapes itself and the quote.
fn fish(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")) }
}

/// The same for PowerShell, which takes a typographic quote for one, and doubles what it means.
fn powershell(text: &str) -> String {
    let mut quoted = String::from("'");
    for character in text.chars() {
        if matches!(character, '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}') {
            quoted.push(character);
        }
        quoted.push(character);
    }
    quoted.push('\'');
    quoted
}

/// The same for files whose readers agree on little: no quotes where none are needed, single ones else.
fn dotenv(name: &str, text: &str) -> anyhow::Result<String> {
    if is_plain(text) {
        return Ok(text.to_owned());
    }
    ensure!(!text.contains(['\'', '\\']), "readers of such files disagree on the quotes in the value of {name}");
    Ok(format!("'{text}'"))
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte))
}

fn print_profile((agent, bound): (&str, &str), data: &Path, place: &Place, out: &mut dyn Write) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot tell where this program lies")?;
    let (program, data) = (program.to_string_lossy(), absolute(data));
    writeln!(out, "[profile countersign-{agent}]")?;
    // SDKs split this at spaces and know double quotes only.
    writeln!(out, "credential_process = \"{program}\" credentials --agent {agent}{bound} --data \"{data}\"")?;
    match &place.url {
        Some(url) => writeln!(out, "endpoint_url = {url}")?,
        None => writeln!(out, "ignore_configured_endpoint_urls = true")?,
    }
    if let Some(region) = &place.region {
        writeln!(out, "region = {region}")?;
    }
    if let Some(ca) = &place.ca {
        writeln!(out, "ca_bundle = {}", absolute(ca))?;
    }
    Ok(())
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const ODD: [&str; 6] =
        ["plain", "a b", "it's", "$(touch x) `id` \"q\"", "back\\slash\\'", "\u{2019}; calc; \u{2018}"];

    #[test]
    fn a_posix_shell_reads_back_what_was_meant() {
        for value in ODD {
            let mut line = Vec::new();
            Shell::Sh.set("VALUE", value, &mut line).unwrap();
            let script = format!("{}printf %s \"$VALUE\"", String::from_utf8(line).unwrap());
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
    }

    #[test]
    fn other_shells_get_their_own_quotes() {
        let line = |shell: Shell, value: &str| {
            let mut line = Vec::new();
            shell.set("V", value, &mut line).map(|()| String::from_utf8(line).unwrap()).ok()
        };
        assert_eq!(line(Shell::Fish, "it's \\ $x").as_deref(), Some("set -gx V 'it\\'s \\\\ $x'\n"));
        assert_eq!(line(Shell::Powershell, "it's $x").as_deref(), Some("$Env:V = 'it''s $x'\n"));
        assert_eq!(line(Shell::Powershell, "a\u{2019}b").as_deref(), Some("$Env:V = 'a\u{2019}\u{2019}b'\n"));
        assert_eq!(line(Shell::Dotenv, "a b $x").as_deref(), Some("V='a b $x'\n"));
        assert_eq!(line(Shell::Dotenv, "it's"), None, "no two readers agree on it");
        for shell in [Shell::Sh, Shell::Fish, Shell::Powershell, Shell::Dotenv] {
            assert_eq!(line(shell, "two\nlines"), None);
        }
    }
}
