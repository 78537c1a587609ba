//! The command line: arguments, output, exit codes. One file per subcommand.
//!
//! A subcommand is an `Arguments` struct and a `run(arguments, &common, out) -> Result<Exit>`; it
//! writes its answer to `out` (a locked, buffered stdout) and nothing else to stdout. An error is
//! printed here, once, with its whole chain, and ends with [`Exit::Usage`]. A reader that goes away
//! (`| head`) is no error.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError};

mod agent;
mod approver;
mod audit;
mod classify;
mod client;
mod config;
mod credentials;
mod decide;
mod demo;
mod env;
mod facts;
mod holds;
mod init;
mod notify;
mod rules;
mod serve;

/// How a run of the program ends. The numbers are part of the interface: scripts read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was done, or nothing was found: 0.
    Done,
    /// A check found something, or what was asked was refused: 1.
    Finding,
    /// The arguments, a file or the server could not be read: 2.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Finding => Self::from(1),
            Exit::Usage => Self::from(2),
        }
    }
}

/// Suspends an agent's privileged calls until an entitled person decides.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Options of every subcommand.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE", env = "COUNTERSIGN_CONFIG")]
    config: Option<PathBuf>,
    /// Data directory (else the configuration's `data`).
    #[arg(long, global = true, value_name = "DIR", env = "COUNTERSIGN_DATA")]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make, list, rotate and revoke agents and their virtual credentials.
    #[command(subcommand)]
    Agent(agent::Arguments),
    /// Allow one hold.
    Approve(decide::Approve),
    /// Make, list and revoke the tokens by which people decide.
    #[command(subcommand)]
    Approver(approver::Arguments),
    /// Verify and read the audit log.
    #[command(subcommand)]
    Audit(audit::Arguments),
    /// Take one hold back without deciding it.
    Cancel(decide::Cancel),
    /// Name requests: JSON lines in, JSON lines out.
    Classify(classify::Arguments),
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(config::Arguments),
    /// Give short-lived virtual keys, as an AWS `credential_process`.
    Credentials(credentials::Arguments),
    /// Hold and decide a real request on this machine, interactively.
    Demo(demo::Arguments),
    /// Deny one hold.
    Deny(decide::Deny),
    /// Print the environment an agent needs.
    Env(env::Arguments),
    /// Show and replace the facts about AWS by which requests are named.
    #[command(subcommand)]
    Facts(facts::Arguments),
    /// List, show and watch holds.
    #[command(subcommand)]
    Holds(holds::Arguments),
    /// Make a data directory, keys, a configuration and the first approver.
    Init(init::Arguments),
    /// Allow one hold with changed parameters.
    Modify(decide::Modify),
    /// Try a channel by which people hear of holds.
    #[command(subcommand)]
    Notify(notify::Arguments),
    /// Check, test and explain rules.
    #[command(subcommand)]
    Rules(rules::Arguments),
    /// Run the proxy.
    Serve(serve::Arguments),
}

/// Runs the program with the process's arguments.
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            return if error.print().is_ok() { exit } else { Exit::Usage }.into();
        }
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let result = dispatch(arguments, &mut out).and_then(|exit| out.flush().map(|()| exit).map_err(Into::into));
    match result {
        Ok(exit) => exit.into(),
        Err(error) if is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            complain(&error);
            if error.is::<client::Refused>() { Exit::Finding } else { Exit::Usage }.into()
        }
    }
}

fn dispatch(arguments: Arguments, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let common = &arguments.common;
    match arguments.command {
        Command::Agent(arguments) => agent::run(arguments, common, out),
        Command::Approve(arguments) => decide::approve(arguments, common, out),
        Command::Approver(arguments) => approver::run(arguments, common, out),
        Command::Audit(arguments) => audit::run(arguments, common, out),
        Command::Cancel(arguments) => decide::cancel(arguments, common, out),
        Command::Classify(arguments) => classify::run(arguments, common, out),
        Command::Config(arguments) => config::run(arguments, common, out),
        Command::Credentials(arguments) => credentials::run(arguments, common, out),
        Command::Demo(arguments) => demo::run(arguments, common, out),
        Command::Deny(arguments) => decide::deny(arguments, common, out),
        Command::Env(arguments) => env::run(arguments, common, out),
        Command::Facts(arguments) => facts::run(arguments, common, out),
        Command::Holds(arguments) => holds::run(arguments, common, out),
        Command::Init(arguments) => init::run(arguments, common, out),
        Command::Modify(arguments) => decide::modify(arguments, common, out),
        Command::Notify(arguments) => notify::run(arguments, common, out),
        Command::Rules(arguments) => rules::run(arguments, common, out),
        Command::Serve(arguments) => serve::run(arguments, common, out),
    }
}

impl Common {
    /// The configuration file: as named, else in the data directory, else in the current one.
    pub(crate) fn config_file(&self) -> PathBuf {
        match (&self.config, &self.data) {
            (Some(config), _) => config.clone(),
            (None, Some(data)) => data.join(CONFIG_FILE),
            (None, None) => PathBuf::from(CONFIG_FILE),
        }
    }

    /// The configuration, with the options of the command line in it.
    ///
    /// # Errors
    /// When it cannot be read or anything in it is wrong.
    pub(crate) fn load(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(&self.config_file())?;
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        Ok(config)
    }

    /// Puts the facts of the data directory in force, where there is one: what the server names by, too.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn use_facts(&self) -> anyhow::Result<()> {
        let data = match &self.data {
            Some(data) => data.clone(),
            None if self.config_file().exists() => self.load()?.data,
            None => return Ok(()),
        };
        if let Some(table) = crate::config::facts::load_from(&data)? {
            crate::catalog::aws::put_in_force(table);
        }
        Ok(())
    }

    /// The data directory: `--data`, else the configuration's.
    ///
    /// # Errors
    /// When neither is there.
    pub(crate) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        match &self.data {
            Some(data) => Ok(data.clone()),
            None => Ok(self.load().context("no data directory: give --data DIR or --config FILE")?.data),
        }
    }
}

/// The configuration's name where only a directory is given.
pub(crate) const CONFIG_FILE: &str = "countersign.yaml";

/// Writes an error and its causes to stderr, each once.
fn complain(error: &anyhow::Error) {
    let mut stderr = std::io::stderr().lock();
    // There is nowhere left to report that stderr is closed.
    drop(writeln!(stderr, "countersign: {error:#}"));
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
