//! `countersign approve`, `deny`, `modify` and `cancel`: one person's word on one hold.
//!
//! The hold is fetched first and its digest sent along, so that a verdict never falls on anything
//! but what was there when it was given.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::client::{Client, Connection, Refused};
use super::holds::{path_of, text};
use super::{Common, Exit};
use crate::card::{escaped_json, visible};

#[derive(Args, Debug)]
pub(crate) struct Approve {
    #[command(flatten)]
    word: Word,
}

#[derive(Args, Debug)]
pub(crate) struct Cancel {
    #[command(flatten)]
    word: Word,
}

#[derive(Args, Debug)]
pub(crate) struct Deny {
    #[command(flatten)]
    word: Word,
}

#[derive(Args, Debug)]
pub(crate) struct Modify {
    #[command(flatten)]
    word: Word,
    /// Give a top-level parameter another value; read as JSON where the present value is no text.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Take a top-level parameter out.
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// JSON object of top-level parameters to replace; `null` takes one out.
    #[arg(long, value_name = "FILE")]
    parameters: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Word {
    #[command(flatten)]
    connection: Connection,
    /// The hold's id.
    id: String,
    /// Why; goes into the audit log and to the agent.
    #[arg(long)]
    reason: String,
    /// The digest that was shown, or its beginning; nothing happens when the hold is another by now.
    #[arg(long)]
    digest: Option<String>,
}

pub(crate) fn approve(arguments: Approve, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    decide(&arguments.word, common, out, "verdict", |_| Ok(json!({ "verdict": "allow" })))
}

pub(crate) fn deny(arguments: Deny, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    decide(&arguments.word, common, out, "verdict", |_| Ok(json!({ "verdict": "deny" })))
}

pub(crate) fn cancel(arguments: Cancel, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    decide(&arguments.word, common, out, "cancel", |_| Ok(json!({})))
}

pub(crate) fn modify(arguments: Modify, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    decide(&arguments.word, common, out, "verdict", |hold| {
        let parameters = arguments.parameters(hold)?;
        Ok(json!({ "verdict": "modify", "parameters": parameters }))
    })
}

fn decide(
    word: &Word,
    common: &Common,
    out: &mut dyn Write,
    route: &str,
    body: impl FnOnce(&Value) -> anyhow::Result<Value>,
) -> anyhow::Result<Exit> {
    let client = Client::new(&word.connection, common)?;
    let path = path_of(&word.id)?;
    let hold = client.get(&path)?;
    let digest = text(&hold, "digest");
    if let Some(shown) = &word.digest
        && (shown.len() < 12 || !digest.starts_with(shown.as_str()))
    {
        let shown = visible(shown);
        let message = format!("the hold is not the one with digest `{shown}` (at least 12 digits): look at it again");
        return Err(Refused { message }.into());
    }
    let mut body = body(&hold)?;
    if let Value::Object(members) = &mut body {
        members.insert("reason".to_owned(), word.reason.clone().into());
        members.insert("digest".to_owned(), digest.into());
    }
    let after = client.post(&format!("{path}/{route}"), &body)?;
    report(&after, out)?;
    Ok(Exit::Done)
}

fn report(hold: &Value, out: &mut dyn Write) -> anyhow::Result<()> {
    let state = text(hold, "state");
    writeln!(out, "{} is {state}", text(hold, "id"))?;
    let members = |name: &str| hold.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    for change in members("modified") {
        let value = |name: &str| change.get(name).map(|value| escaped_json(&value.to_string())).unwrap_or_default();
        writeln!(out, "  {}: {} -> {}", visible(text(&change, "pointer")), value("before"), value("after"))?;
    }
    if state == "pending" {
        let eligible: Vec<_> = members("eligible").iter().filter_map(Value::as_str).map(visible).collect();
        writeln!(out, "  it still needs a verdict of: {}", eligible.join(", "))?;
    }
    Ok(())
}

impl Modify {
    fn parameters(&self, hold: &Value) -> anyhow::Result<Map<String, Value>> {
        let mut parameters = match &self.parameters {
            Some(file) => {
                let text =
                    std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
                serde_json::from_str(&text).with_context(|| format!("`{}` is no JSON object", file.display()))?
            }
            None => Map::new(),
        };
        for pair in &self.set {
            let Some((name, value)) = pair.split_once('=') else { bail!("`--set {pair}` needs a `=`") };
            let present = hold.pointer("/actions/0/parameters").and_then(|parameters| parameters.get(name));
            let value = match present {
                Some(Value::String(_)) => Value::from(value),
                _ => serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)),
            };
            parameters.insert(name.to_owned(), value);
        }
        parameters.extend(self.unset.iter().map(|name| (name.clone(), Value::Null)));
        if parameters.is_empty() {
            bail!("nothing to modify: give --set, --unset or --parameters");
        }
        Ok(parameters)
    }
}
