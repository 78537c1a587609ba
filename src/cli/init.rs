//! `countersign init`: a data directory with everything a first start needs, and the first person.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::{CONFIG_FILE, Common, Exit};
use crate::config::Config;
use crate::credential::approver;
use crate::digest::hex;
use crate::id::{PersonId, is_plain_name, random_bytes};
use crate::journal;
use crate::net::ca;
use crate::time::Clock;
use crate::yaml::Source;

mod pack;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Id of the first person who may approve, who gets a token; without it nobody can yet.
    #[arg(long, value_name = "ID")]
    approver: Option<String>,
    /// That person's e-mail address; may be given more than once.
    #[arg(long, value_name = "ADDRESS", requires = "approver")]
    email: Vec<String>,
    /// Name of the audit log for ever, best under a domain of yours: `example.com/countersign/1`.
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// Host name or IP address by which agents reach the server; may be given more than once.
    #[arg(long = "host", value_name = "NAME", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])]
    hosts: Vec<String>,
    /// Send everything to this URL instead of the real AWS: a local AWS for a trial.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Let the system choose the ports: `run.json` and the output of `serve` tell them.
    #[arg(long)]
    any_port: bool,
    /// Write the approver token to this new file instead of printing it.
    #[arg(long, value_name = "FILE", requires = "approver")]
    token_file: Option<PathBuf>,
    /// Days until the approver token expires.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=366))]
    token_days: u64,
}

pub(crate) fn run(arguments: Arguments, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let data = common.data.clone().context("say where: --data DIR")?;
    let config_file = common.config.clone().unwrap_or_else(|| data.join(CONFIG_FILE));
    let text = arguments.configuration(&data, &config_file)?;
    let directory = config_file.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let config = Config::parse(&Source::new(config_file.to_string_lossy(), &text), &directory)
        .map_err(|found| anyhow::anyhow!("{}", crate::yaml::render(&found)))?;
    refuse_to_overwrite(&config, &config_file)?;

    let clock = Clock::default();
    make_private_directory(&data)?;
    let origin = match &arguments.origin {
        Some(origin) => origin.clone(),
        None => format!("localhost/countersign/{}", hex(&random_bytes::<4>()?)),
    };
    let public_key = journal::create(&config.journal, &origin)?;
    let files = ca::create(&data, &arguments.hosts, clock.now())?;
    write_rules(&data.join("rules"))?;
    let approver = match &arguments.approver {
        Some(approver) => Some(arguments.issue_token(&data, &PersonId::new(approver), &clock)?),
        None => None,
    };
    // Last, so that a directory with a configuration is a whole one.
    write_new(&config_file, &text, 0o644)?;

    writeln!(out, "data directory:  {}", data.display())?;
    writeln!(out, "configuration:   {}", config_file.display())?;
    writeln!(out, "audit log key:   {public_key}")?;
    writeln!(out, "CA for agents:   {}", files.ca.display())?;
    if let Some(approver) = approver {
        writeln!(out, "{approver}")?;
    }
    let named = match &common.config {
        Some(config) => format!("--config {}", config.display()),
        None => format!("--data {}", data.display()),
    };
    write!(
        out,
        "\nNext:\n  1. Keep the audit log key where this machine cannot change it; auditors verify with it.\n  \
         2. countersign {named} agent add NAME --owner PERSON\n  3. countersign {named} serve\n"
    )?;
    Ok(Exit::Done)
}

impl Arguments {
    /// Makes the person's token and says where it is.
    fn issue_token(&self, data: &Path, person: &PersonId, clock: &Clock) -> anyhow::Result<String> {
        let lifetime = Duration::from_secs(self.token_days * 24 * 3600);
        let issued = approver::issue(data, person, approver::Scope::Decide, lifetime, clock.now())?;
        let token = match &self.token_file {
            Some(file) => {
                write_new(file, &format!("{}\n", issued.token.expose()), 0o600)?;
                format!("in {}", file.display())
            }
            None => format!("{}   (shown this once)", issued.token.expose()),
        };
        let expires = issued.expires.rfc3339();
        Ok(format!("approver:        {person}, until {expires}\napprover token:  {token}"))
    }

    /// The text of the configuration. What it is made of was checked, so that nothing but a value
    /// can stand where a value is meant.
    fn configuration(&self, data: &Path, config_file: &Path) -> anyhow::Result<String> {
        if let Some(approver) = &self.approver {
            let name = approver.escape_debug();
            let form = "1 to 64 letters, digits or `._@+-`, a letter or digit first";
            ensure!(is_plain_name(approver), "`{name}` is no id for a person: {form}");
        }
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        // Beside the data directory's own file paths are short; elsewhere they must be whole.
        let base = if config_file.parent() == Some(data) { PathBuf::new() } else { std::path::absolute(data)? };
        let path = |name: &str| quoted(&base.join(name).to_string_lossy());
        let home = if base.as_os_str().is_empty() { Path::new(".") } else { &base };
        let mut text =
            String::from("# countersign: `countersign config show` prints every key, docs/config.md explains them.\n");
        text.push_str(&format!("data: {}\n", quoted(&home.to_string_lossy())));
        text.push_str("listen:\n");
        for (key, port) in [("agents", 8700), ("api", 8701), ("admin", 8702)] {
            text.push_str(&format!("  {key}: 127.0.0.1:{}\n", if self.any_port { 0 } else { port }));
        }
        text.push_str(&format!("  certificate: {}\n  key: {}\n", path("server.pem"), path("server.key")));
        let hosts: Vec<_> = self.hosts.iter().filter(|host| host.parse::<std::net::IpAddr>().is_err()).collect();
        let hosts: Vec<_> = hosts.into_iter().filter(|host| *host != "localhost").map(|host| quoted(host)).collect();
        if !hosts.is_empty() {
            text.push_str(&format!("endpoint_hosts: [{}]\n", hosts.join(", ")));
        }
        if let Some(upstream) = &self.upstream {
            text.push_str(&format!("upstream:\n  aws:\n    endpoint: {}\n", quoted(upstream)));
        }
        if let Some(approver) = &self.approver {
            let emails: Vec<_> = self.email.iter().map(|email| quoted(email)).collect();
            let (person, emails) = (quoted(approver), emails.join(", "));
            text.push_str(&format!("people:\n  {person}:\n    emails: [{emails}]\n    groups: [approvers]\n"));
        }
        text.push_str(&format!("rules:\n  directories: [{}]\n", path("rules")));
        text.push_str(&format!("audit:\n  directory: {}\n  key: {}\n", path("audit"), path("log.key")));
        Ok(text)
    }
}

fn refuse_to_overwrite(config: &Config, config_file: &Path) -> anyhow::Result<()> {
    let rules = config.data.join("rules");
    for file in [config_file, &config.journal.key_file, &config.journal.dir, &rules, &config.data.join("root.key")] {
        if file.exists() {
            bail!(
                "`{}` exists already; init overwrites nothing: name another directory, or move it away",
                file.display()
            );
        }
    }
    Ok(())
}

fn make_private_directory(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make `{}`", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot keep others out of `{}`", path.display()))
}

/// The default pack goes where its operators own, read and change it.
fn write_rules(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir(directory).with_context(|| format!("cannot make `{}`", directory.display()))?;
    for (name, text) in pack::FILES {
        write_new(&directory.join(name), text, 0o644)?;
    }
    Ok(())
}

fn write_new(file: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let failed = || format!("cannot write `{}`", file.display());
    let mut opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file).with_context(failed)?;
    opened.write_all(text.as_bytes()).and_then(|()| opened.sync_all()).with_context(failed)
}
