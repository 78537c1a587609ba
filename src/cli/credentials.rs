//! `countersign credentials` and `countersign env`: short-lived virtual keys where an SDK looks for them.
//!
//! Both make keys from the root key in the data directory: whoever can read that file can run them.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::agent::{Bound, duration};
use super::{Common, Exit};
use crate::config::Config;
use crate::credential::agent::issue_session;
use crate::time::{Clock, Timestamp};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Name of the agent.
    #[arg(long, value_name = "NAME")]
    agent: String,
    /// How long the key is valid; at most 36h.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    duration: Duration,
    #[command(flatten)]
    bound: Bound,
}

#[derive(Args, Debug)]
pub(crate) struct Env {
    /// Name of the agent.
    agent: String,
    /// How long the key is valid; at most 36h.
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = duration)]
    duration: Duration,
    #[command(flatten)]
    bound: Bound,
    /// URL at which the agent reaches countersign (else the address it listens on).
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Print a profile for ~/.aws/config instead, whose keys renew themselves.
    #[arg(long)]
    profile: bool,
}

pub(crate) fn run(arguments: Arguments, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let binding = arguments.bound.into_binding();
    let now = Clock::default().now();
    let key = issue_session(&common.data_dir()?, &arguments.agent, arguments.duration, binding, now)?;
    let answer = json!({
        "Version": 1,
        "AccessKeyId": key.key_id,
        "SecretAccessKey": key.secret.expose(),
        "Expiration": key.expires.map(Timestamp::rfc3339),
    });
    writeln!(out, "{answer}")?;
    Ok(Exit::Done)
}

pub(crate) fn env(arguments: Env, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let data = common.data_dir()?;
    let config = common.load().ok();
    let endpoint = match (&arguments.endpoint, &config) {
        (Some(endpoint), _) => endpoint.clone(),
        (None, Some(config)) => listening_at(&data, config)
            .context("no server runs here that agents could reach: start it, or give --endpoint URL")?,
        (None, None) => anyhow::bail!("there is no configuration to take the address from: give --endpoint URL"),
    };
    // Also makes sure that there is such an agent before a profile for it is printed.
    let binding = arguments.bound.into_binding();
    let from = binding.from.iter().map(|it| format!(" --from {it}"));
    let bound: String = from.chain(binding.task.iter().map(|it| format!(" --task {it}"))).collect();
    let key = issue_session(&data, &arguments.agent, arguments.duration, binding, Clock::default().now())?;
    let region = config.as_ref().and_then(|config| config.aws.credential.region.as_deref());
    // Trust in our own certificate is only needed where TLS is spoken to us.
    let ca = Some(data.join("ca.pem")).filter(|ca| endpoint.starts_with("https:") && ca.exists());
    let ca = ca.as_deref();
    if arguments.profile {
        print_profile((&arguments.agent, &bound), &data, &endpoint, region, ca, out)?;
        return Ok(Exit::Done);
    }
    // Any of these would win over the keys below in one SDK or another.
    writeln!(out, "unset AWS_PROFILE AWS_DEFAULT_PROFILE AWS_SESSION_TOKEN")?;
    writeln!(out, "export AWS_ENDPOINT_URL={}", quoted(&endpoint))?;
    writeln!(out, "export AWS_ACCESS_KEY_ID={}", key.key_id)?;
    writeln!(out, "export AWS_SECRET_ACCESS_KEY={}", key.secret.expose())?;
    if let Some(region) = region {
        writeln!(out, "export AWS_REGION={} AWS_DEFAULT_REGION={}", quoted(region), quoted(region))?;
    }
    if let Some(ca) = ca {
        let ca = absolute(ca);
        writeln!(out, "export AWS_CA_BUNDLE={} NODE_EXTRA_CA_CERTS={}", quoted(&ca), quoted(&ca))?;
    }
    Ok(Exit::Done)
}

fn print_profile(
    (agent, bound): (&str, &str),
    data: &Path,
    endpoint: &str,
    region: Option<&str>,
    ca: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot tell where this program lies")?;
    let (program, data) = (program.to_string_lossy(), absolute(data));
    writeln!(out, "[profile countersign-{agent}]")?;
    // SDKs split this at spaces and know double quotes only.
    writeln!(out, "credential_process = \"{program}\" credentials --agent {agent}{bound} --data \"{data}\"")?;
    writeln!(out, "endpoint_url = {endpoint}")?;
    if let Some(region) = region {
        writeln!(out, "region = {region}")?;
    }
    if let Some(ca) = ca {
        writeln!(out, "ca_bundle = {}", absolute(ca))?;
    }
    Ok(())
}

/// The URL of the agent plane, as an agent on this machine reaches it: of the running server, else
/// as configured. By address, not by `localhost`: SDKs would put bucket names before a host name.
fn listening_at(data: &Path, config: &Config) -> Option<String> {
    let running = crate::serve::running(data).unwrap_or_default();
    let url = |scheme: &str, address: SocketAddr| {
        (address.port() != 0 && !address.ip().is_unspecified()).then(|| format!("{scheme}://{address}"))
    };
    running
        .agents
        .or(running.agents_tls)
        .or_else(|| config.listen.agents.and_then(|address| url("http", address)))
        .or_else(|| config.listen.agents_tls.and_then(|address| url("https", address)))
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// A word that a POSIX shell reads back as it is.
fn quoted(text: &str) -> String {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte));
    if is_plain && !text.is_empty() { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
