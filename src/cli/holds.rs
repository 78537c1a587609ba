//! `countersign holds`: what waits, in a line, on a card, or as it comes.

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::{Client, Connection};
use super::{Common, Exit};
use crate::card::{escaped_json, visible};
use crate::time::{Clock, Timestamp};

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// List the holds that wait for a verdict.
    List(List),
    /// Show one hold's card.
    Show(Show),
    /// Print each change of a hold until interrupted.
    Watch(Watch),
}

#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    connection: Connection,
    /// Also those that are decided or ended, as long as they are kept.
    #[arg(long)]
    all: bool,
    /// Print ids alone, one a line.
    #[arg(long, conflicts_with = "json")]
    ids: bool,
    /// Print JSON, one hold a line.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    #[command(flatten)]
    connection: Connection,
    id: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Watch {
    #[command(flatten)]
    connection: Connection,
    /// Print JSON, one hold a line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: Arguments, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match arguments {
        Arguments::List(arguments) => {
            let client = Client::new(&arguments.connection, common)?;
            list(&client.get("/v1/holds")?, &arguments, out)?;
        }
        Arguments::Show(arguments) => {
            let client = Client::new(&arguments.connection, common)?;
            let hold = client.get(&path_of(&arguments.id)?)?;
            if arguments.json {
                let pretty = serde_json::to_string_pretty(&hold)?;
                writeln!(out, "{}", escaped_json(&pretty))?;
            } else {
                // The server made every hidden character of the card visible already.
                write!(out, "{}", text(&hold, "card"))?;
            }
        }
        Arguments::Watch(arguments) => {
            let client = Client::new(&arguments.connection, common)?;
            client.events("/v1/holds/watch", |hold| {
                if arguments.json {
                    writeln!(out, "{}", escaped_json(&hold.to_string()))?;
                } else {
                    writeln!(out, "{}", line(hold, Clock::default().now()))?;
                }
                Ok(out.flush()?)
            })?;
        }
    }
    Ok(Exit::Done)
}

fn list(answer: &Value, arguments: &List, out: &mut dyn Write) -> anyhow::Result<()> {
    let now = Clock::default().now();
    let holds = answer.get("holds").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for hold in holds.iter().filter(|hold| arguments.all || text(hold, "state") == "pending") {
        if arguments.ids {
            writeln!(out, "{}", visible(text(hold, "id")))?;
        } else if arguments.json {
            writeln!(out, "{}", escaped_json(&hold.to_string()))?;
        } else {
            writeln!(out, "{}", line(hold, now))?;
        }
    }
    Ok(())
}

/// `h_…  pending  14m59s  deployer  aws:iam:CreateAccessKey  arn:aws:…`
fn line(hold: &Value, now: Timestamp) -> String {
    let state = text(hold, "state");
    let left = match Timestamp::parse_rfc3339(text(hold, "expires")) {
        Some(expires) if state == "pending" => {
            let seconds = expires.since(now).as_secs();
            format!("{}m{:02}s", seconds / 60, seconds % 60)
        }
        _ => "-".to_owned(),
    };
    let action = hold.pointer("/actions/0/action").and_then(Value::as_str).unwrap_or("-");
    let resource = hold.pointer("/actions/0/resources/0").and_then(Value::as_str).unwrap_or("-");
    let agent = hold.pointer("/agent/id").and_then(Value::as_str).unwrap_or("-");
    let id = visible(text(hold, "id"));
    format!("{id}  {state:<10}  {left:>7}  {}  {}  {}", visible(agent), visible(action), visible(resource))
}

/// The path of a hold; an id of another form never reaches the server.
pub(super) fn path_of(id: &str) -> anyhow::Result<String> {
    let is_id = id.starts_with("h_") && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    anyhow::ensure!(
        is_id,
        "`{}` is no hold id: they look like `h_01j…`; `countersign holds list` shows them",
        visible(id)
    );
    Ok(format!("/v1/holds/{id}"))
}

pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}
