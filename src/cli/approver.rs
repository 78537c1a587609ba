//! `countersign approver`: the tokens by which people decide.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::agent::duration;
use super::{Common, Exit};
use crate::credential::approver::{self, Issued, Scope, TokenEntry};
use crate::id::PersonId;
use crate::time::{Clock, Timestamp};

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Make a token for a person and print it. The token is shown this once and kept nowhere.
    Add(Add),
    /// List tokens and their state.
    List(List),
    /// Revoke a token, or every token of a person. Running servers see it within a second.
    Revoke(Revoke),
}

#[derive(Args, Debug)]
pub(crate) struct Add {
    /// A person of the configuration, by id or e-mail address.
    person: String,
    /// How long the token is valid.
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = duration)]
    lifetime: Duration,
    /// What it is good for: `decide`, or `read`, to look at holds and nothing else.
    #[arg(long, value_name = "SCOPE", default_value = "decide", value_parser = scope)]
    scope: Scope,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// Id of a token, or of a person.
    token_or_person: String,
}

pub(crate) fn run(arguments: Arguments, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let data = common.data_dir()?;
    let now = Clock::default().now();
    match arguments {
        Arguments::Add(add) => {
            let person = checked_person(&add.person, common)?;
            let issued = approver::issue(&data, &person, add.scope, add.lifetime, now)?;
            print_token(&person, &issued, &add, out)?;
        }
        Arguments::List(list) => print_list(&approver::list(&data)?, list.json, now, out)?,
        Arguments::Revoke(revoke) => {
            let count = approver::revoke(&data, &revoke.token_or_person, now)?;
            let tokens = if count == 1 { "1 token is" } else { &format!("{count} tokens are") };
            writeln!(out, "{tokens} now revoked.")?;
        }
    }
    Ok(Exit::Done)
}

/// The id of a person of the configuration: a token for anybody else would decide nothing.
fn checked_person(text: &str, common: &Common) -> anyhow::Result<PersonId> {
    let people = common.load()?.people;
    match people.find(text) {
        Some(person) => Ok(person.id.clone()),
        None => anyhow::bail!("the configuration has no person `{text}`: add them under `people` first"),
    }
}

fn print_token(person: &PersonId, issued: &Issued, add: &Add, out: &mut dyn Write) -> std::io::Result<()> {
    if add.json {
        let answer = json!({
            "person": person.as_str(),
            "id": issued.token_id,
            "token": issued.token.expose(),
            "scope": add.scope.as_str(),
            "expires": issued.expires.rfc3339(),
        });
        return writeln!(out, "{answer}");
    }
    writeln!(out, "COUNTERSIGN_TOKEN={}", issued.token.expose())?;
    let (id, until) = (&issued.token_id, issued.expires.rfc3339());
    if add.scope == Scope::Read {
        return writeln!(out, "\nToken `{id}` lets `{person}` look at holds until {until}; it decides nothing.");
    }
    writeln!(out, "\nToken `{id}` lets `{person}` decide until {until}.")?;
    writeln!(out, "Whoever holds it decides as `{person}`: give it to nobody else, least of all to an agent.")
}

fn print_list(tokens: &[TokenEntry], as_json: bool, now: Timestamp, out: &mut dyn Write) -> std::io::Result<()> {
    if as_json {
        let tokens: Vec<Value> = tokens
            .iter()
            .map(|token| {
                json!({
                    "id": token.token_id,
                    "person": token.person.as_str(),
                    "scope": token.scope.as_str(),
                    "state": token_state(token, now),
                    "created": token.created.rfc3339(),
                    "expires": token.expires.rfc3339(),
                    "revoked": token.revoked.map(Timestamp::rfc3339),
                })
            })
            .collect();
        return writeln!(out, "{}", Value::Array(tokens));
    }
    if tokens.is_empty() {
        return writeln!(out, "There are no tokens. `countersign approver add PERSON` makes one.");
    }
    writeln!(out, "{:<12} {:<24} {:<8} {:<8} EXPIRES", "TOKEN", "PERSON", "SCOPE", "STATE")?;
    for token in tokens {
        let (id, person) = (&token.token_id, token.person.as_str());
        let (scope, state) = (token.scope.as_str(), token_state(token, now));
        writeln!(out, "{id:<12} {person:<24} {scope:<8} {state:<8} {}", token.expires.rfc3339())?;
    }
    Ok(())
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| "it is `decide` or `read`".to_owned())
}

fn token_state(token: &TokenEntry, now: Timestamp) -> &'static str {
    match token.revoked {
        Some(_) => "revoked",
        None if token.is_valid(now) => "valid",
        None => "expired",
    }
}
