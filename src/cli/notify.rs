//! `countersign notify`: tries a channel without a hold.

use std::io::Write;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::{Common, Exit};
use crate::card::sample;
use crate::net::reach::Own;
use crate::notice::{Failure, News, Notice};
use crate::serve::notify::board;
use crate::time::Clock;

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Send the card of a made-up hold to a channel; nobody can decide it.
    Test(Test),
}

#[derive(Args, Debug)]
pub(crate) struct Test {
    /// The name of a channel of the configuration.
    channel: String,
}

pub(crate) fn run(
    Arguments::Test(Test { channel }): Arguments,
    common: &Common,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let config = common.load()?;
    let channels = &config.channels;
    let Some(found) = channels.list.iter().find(|it| it.notice.name == channel) else {
        let names: Vec<&str> = channels.list.iter().map(|it| it.notice.name.as_str()).collect();
        let known =
            if names.is_empty() { "none is configured".to_owned() } else { format!("there are: {}", names.join(", ")) };
        bail!("there is no channel `{channel}`; {known}");
    };
    let clock = Clock::default();
    let board = board(channels, found, &clock, &Own::default())?;
    let hold = sample::hold(clock.now());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(board.show(Notice::Hold(&hold, News::State), None)) {
        Ok(_) => {
            writeln!(out, "{channel} took the card of hold {}", hold.id)?;
            Ok(Exit::Done)
        }
        Err(Failure::Later { why, .. } | Failure::Never { why }) => {
            writeln!(out, "{channel} did not take it: {why}")?;
            Ok(Exit::Finding)
        }
    }
}
