//! `countersign agent`: who may call, with which virtual keys.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::{Common, Exit};
use crate::action::{Agent, Owner};
use crate::credential::agent::{self, AgentEntry, IssuedKey, KeyEntry, LookupError, Revoked};
use crate::credential::binding::Binding;
use crate::credential::is_virtual_key_id;
use crate::id::{AgentId, is_plain_name};
use crate::time::{Clock, Timestamp, parse_duration};

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Register an agent and print its first key. The key is shown this once.
    Add(Add),
    /// List agents and the state of their keys.
    List(List),
    /// Revoke an agent with all its keys, or one key. Running servers see it within a second.
    Revoke(Revoke),
    /// Give an agent a new key and print it. The old ones stay valid for a while.
    Rotate(Rotate),
}

#[derive(Args, Debug)]
pub(crate) struct Add {
    /// Name of the agent.
    id: String,
    /// Who answers for it: a person of the configuration, or `group:NAME`. They cannot approve what it asks for.
    #[arg(long, value_name = "PERSON")]
    owner: String,
    #[command(flatten)]
    terms: Terms,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Terms {
    /// The key expires after this time; without it, never.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    lifetime: Option<Duration>,
    #[command(flatten)]
    bound: Bound,
}

impl Terms {
    fn into_terms(self) -> agent::Terms {
        agent::Terms { lifetime: self.lifetime, binding: self.bound.into_binding() }
    }
}

/// What a key is bound to.
#[derive(Args, Debug)]
pub(super) struct Bound {
    /// The key is good from this address or network alone; may be given again.
    #[arg(long, value_name = "NETWORK", value_parser = Binding::network)]
    from: Vec<IpNet>,
    /// The task that its requests are for, whatever they say themselves.
    #[arg(long, value_name = "TASK", value_parser = task)]
    task: Option<String>,
}

impl Bound {
    pub(super) fn into_binding(self) -> Binding {
        Binding { from: self.from, task: self.task }
    }
}

fn task(text: &str) -> Result<String, String> {
    match is_plain_name(text) {
        true => Ok(text.to_owned()),
        false => Err("give 1 to 64 letters, digits and . _ @ + -, starting with a letter or digit".to_owned()),
    }
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// Name of an agent, or id of a key.
    agent_or_key: String,
}

#[derive(Args, Debug)]
pub(crate) struct Rotate {
    /// Name of the agent.
    id: String,
    /// How long its other keys stay valid.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    overlap: Duration,
    #[command(flatten)]
    terms: Terms,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: Arguments, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let data = common.data_dir()?;
    let now = Clock::default().now();
    match arguments {
        Arguments::Add(add) => {
            let owner = checked_owner(&add.owner, common)?;
            anyhow::ensure!(
                is_plain_name(&add.id) && !is_virtual_key_id(&add.id),
                "`{}` cannot be the name of an agent: use up to 64 letters, digits and . _ @ + -, not the form of a key id",
                add.id
            );
            let agent = Agent { id: AgentId::new(&add.id), owner };
            let key = agent::add(&data, agent, add.terms.into_terms(), now)?;
            print_key(&add.id, &key, add.json, out)?;
        }
        Arguments::List(list) => print_list(&agent::list(&data)?, list.json, now, out)?,
        Arguments::Revoke(revoke) => print_revoked(&data, &revoke.agent_or_key, now, out)?,
        Arguments::Rotate(rotate) => {
            let key = agent::rotate(&data, &rotate.id, rotate.overlap, rotate.terms.into_terms(), now)?;
            print_key(&rotate.id, &key, rotate.json, out)?;
        }
    }
    Ok(Exit::Done)
}

/// Reads a duration of the command line.
///
/// # Errors
/// When it has another form; the text says which is wanted.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "give a whole number with a unit: 90s, 15m, 2h, 7d".to_owned())
}

/// The owner, held against the persons and groups of the configuration: a misspelled owner would
/// be nobody, and the real one could approve what the agent asks for.
fn checked_owner(text: &str, common: &Common) -> anyhow::Result<Owner> {
    let owner = agent::parse_owner(text);
    let owner = owner.ok_or_else(|| anyhow::anyhow!("`{text}` is no owner: give a person's id or `group:NAME`"))?;
    let people = common.load()?.people;
    match owner {
        Owner::Group(group) => {
            anyhow::ensure!(people.has_group(&group), "the configuration has no group `{group}`");
            Ok(Owner::Group(group))
        }
        Owner::Person(person) => match people.find(person.as_str()) {
            Some(person) => Ok(Owner::Person(person.id.clone())),
            None => anyhow::bail!("the configuration has no person `{person}`; for a group write `group:NAME`"),
        },
    }
}

fn print_key(agent: &str, key: &IssuedKey, as_json: bool, out: &mut dyn Write) -> std::io::Result<()> {
    if as_json {
        let answer = json!({
            "agent": agent,
            "access_key_id": key.key_id,
            "secret_access_key": key.secret.expose(),
            "expires": key.expires.map(Timestamp::rfc3339),
        });
        return writeln!(out, "{answer}");
    }
    writeln!(out, "AWS_ACCESS_KEY_ID={}", key.key_id)?;
    writeln!(out, "AWS_SECRET_ACCESS_KEY={}", key.secret.expose())?;
    match key.expires {
        Some(expires) => writeln!(out, "\nThe key of agent `{agent}` is valid until {}.", expires.rfc3339())?,
        None => writeln!(out, "\nThe key of agent `{agent}` is valid until it is rotated or revoked.")?,
    }
    writeln!(
        out,
        "Only countersign accepts it. `countersign env {agent}` prints a short-lived one with all an SDK needs."
    )
}

fn print_revoked(data: &Path, agent_or_key: &str, now: Timestamp, out: &mut dyn Write) -> anyhow::Result<()> {
    match agent::revoke(data, agent_or_key, now)? {
        Revoked::Agent(id) => writeln!(out, "Agent `{id}` and all its keys are revoked.")?,
        Revoked::Key(id) => writeln!(out, "Key `{agent_or_key}` of agent `{id}` is revoked.")?,
        Revoked::ShortLived(id) => {
            writeln!(out, "All short-lived keys of agent `{id}` are revoked; one alone cannot be.")?;
        }
    }
    Ok(())
}

fn print_list(agents: &[AgentEntry], as_json: bool, now: Timestamp, out: &mut dyn Write) -> std::io::Result<()> {
    if as_json {
        let agents: Vec<Value> = agents.iter().map(|entry| agent_json(entry, now)).collect();
        return writeln!(out, "{}", Value::Array(agents));
    }
    if agents.is_empty() {
        return writeln!(out, "There are no agents. `countersign agent add NAME --owner PERSON` makes one.");
    }
    writeln!(out, "{:<24} {:<24} {:<22} STATE", "AGENT", "OWNER", "KEY")?;
    for entry in agents {
        let (id, owner) = (entry.agent.id.as_str(), entry.agent.owner.to_string());
        if entry.keys.is_empty() {
            writeln!(out, "{id:<24} {owner:<24} {:<22} {}", "-", if entry.is_revoked { "revoked" } else { "no key" })?;
        }
        for key in &entry.keys {
            let state = match (key_state(entry, key, now), key.expires) {
                ("valid", Some(expires)) => format!("valid until {}", expires.rfc3339()),
                (state, _) => state.to_owned(),
            };
            let binding = &key.binding;
            let from = binding.from.iter().map(|it| format!(", from {it}"));
            let bound: String = from.chain(binding.task.iter().map(|it| format!(", for {it}"))).collect();
            writeln!(out, "{id:<24} {owner:<24} {:<22} {state}{bound}", key.key_id)?;
        }
    }
    Ok(())
}

fn agent_json(entry: &AgentEntry, now: Timestamp) -> Value {
    let keys: Vec<Value> = entry
        .keys
        .iter()
        .map(|key| {
            json!({
                "access_key_id": key.key_id,
                "state": key_state(entry, key, now),
                "created": key.created.rfc3339(),
                "expires": key.expires.map(Timestamp::rfc3339),
                "revoked": key.revoked.map(Timestamp::rfc3339),
                "from": key.binding.from.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "task": key.binding.task,
            })
        })
        .collect();
    json!({
        "agent": entry.agent.id.as_str(),
        "owner": entry.agent.owner.to_string(),
        "revoked": entry.is_revoked,
        "created": entry.created.rfc3339(),
        "keys": keys,
    })
}

fn key_state(entry: &AgentEntry, key: &KeyEntry, now: Timestamp) -> &'static str {
    match key.check(now) {
        _ if entry.is_revoked => "revoked",
        Err(LookupError::Expired) => "expired",
        Err(_) => "revoked",
        Ok(()) => "valid",
    }
}
