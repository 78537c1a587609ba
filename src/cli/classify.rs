//! `countersign classify`.

use std::io::Write;

use clap::Args;

use super::{Common, Exit};

#[derive(Args, Debug)]
pub(crate) struct Arguments {}

pub(crate) fn run(_arguments: Arguments, _common: &Common, _out: &mut dyn Write) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
