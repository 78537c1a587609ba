//! `countersign serve`: runs the proxy until it is told to stop.

use std::io::Write;

use clap::Args;

use super::{Common, Exit};

#[derive(Args, Debug)]
pub(crate) struct Arguments {}

pub(crate) fn run(_arguments: Arguments, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let config = common.load()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(crate::serve::run(config, common.config_file(), out))?;
    Ok(Exit::Done)
}
