//! `countersign approver`.

use std::io::Write;

use clap::Subcommand;

use super::{Common, Exit};

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {}

pub(crate) fn run(arguments: Arguments, _common: &Common, _out: &mut dyn Write) -> anyhow::Result<Exit> {
    match arguments {}
}
