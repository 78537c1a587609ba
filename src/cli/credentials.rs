//! `countersign credentials`: short-lived virtual keys where an SDK looks for them.
//!
//! As `countersign env` it makes keys from the root key in the data directory: whoever can read that file can run it.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::agent::{Bound, duration};
use super::{Common, Exit};
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
