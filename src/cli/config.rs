//! `countersign config`: what the configuration says, and whether it may say it.

use std::io::Write;

use clap::Subcommand;

use super::{Common, Exit};
use crate::config::ConfigError;

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Report every mistake in the configuration; exit 1 when there is one.
    Check,
    /// Print every key with its value and where that came from.
    Show,
}

pub(crate) fn run(arguments: Arguments, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let config = match common.load() {
        Ok(config) => config,
        Err(error @ ConfigError::Invalid(_)) => {
            writeln!(std::io::stderr().lock(), "{error}")?;
            return Ok(Exit::Finding);
        }
        Err(error) => return Err(error.into()),
    };
    if !config.warnings.is_empty() {
        writeln!(std::io::stderr().lock(), "{}", crate::yaml::render(&config.warnings))?;
    }
    match arguments {
        Arguments::Check => writeln!(out, "{}: good", common.config_file().display())?,
        Arguments::Show => out.write_all(config.show().as_bytes())?,
    }
    Ok(Exit::Done)
}
