//! `countersign audit`: verifies and reads a log's files; writes nothing to them.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{Common, Exit};
use crate::audit::line::{Lines, parse_segment_name, segment_name};

mod open;
mod read;
mod verify;

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Prove what a record of a statement says: the text that it holds only a commitment of.
    Open(Open),
    /// Print one record, or all records of one action or hold (they are not verified here).
    Show(Show),
    /// Print the last records (they are not verified here).
    Tail(Tail),
    /// Prove that the log is whole, offline: exit code 0 whole, 1 tampered with or incomplete, 2 not read.
    Verify(Verify),
}

#[derive(Args, Debug)]
pub(crate) struct Open {
    /// The id of an action (`a_…`) or hold (`h_…`).
    what: String,
    /// Directory of the log (else that of the configuration).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Openings that were handed out, one a line (else those that were kept in the data directory).
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    opening: Option<PathBuf>,
    /// The statement, from elsewhere; the data directory's key makes the opening of it.
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Print the openings, to hand them out.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// A record's number, or the id of an action (`a_…`) or hold (`h_…`).
    what: String,
    /// Directory of the log (else that of the configuration).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the records as they stand in the log.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Tail {
    /// Directory of the log (else that of the configuration).
    dir: Option<PathBuf>,
    /// Wait for more records.
    #[arg(short, long)]
    follow: bool,
    /// Records to print.
    #[arg(short = 'n', long, value_name = "RECORDS", default_value_t = 10)]
    lines: usize,
    /// Print the records as they stand in the log.
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// Directory of the log (else that of the configuration).
    dir: Option<PathBuf>,
    /// The log's public key as it was handed out at `init`, or a file that holds it. Without it the
    /// directory's own `log.pub` is used, which whoever rewrote the log could have replaced.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// A checkpoint kept from earlier, to hold the log against; may be given more than once.
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: Arguments, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match arguments {
        Arguments::Open(open) => open::run(&log_dir(open.dir.as_deref(), common)?, &open, common, out),
        Arguments::Show(show) => read::show(&log_dir(show.dir.as_deref(), common)?, &show, out),
        Arguments::Tail(tail) => read::tail(&log_dir(tail.dir.as_deref(), common)?, &tail, out),
        Arguments::Verify(verify) => verify::run(&log_dir(verify.dir.as_deref(), common)?, &verify, out),
    }
}

/// The log's directory: the one named (or its `audit` when a data directory was named), else the configuration's.
fn log_dir(named: Option<&Path>, common: &Common) -> anyhow::Result<PathBuf> {
    let Some(dir) = named else { return Ok(common.load()?.journal.dir) };
    let inner = dir.join("audit");
    let is_log = dir.join("checkpoint").exists() || list_segments(dir).is_ok_and(|segments| !segments.is_empty());
    Ok(if !is_log && inner.is_dir() { inner } else { dir.to_owned() })
}

/// All segments by their first record, in order.
fn list_segments(dir: &Path) -> anyhow::Result<Vec<u64>> {
    let unreadable = || format!("cannot list `{}`", dir.display());
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(unreadable)? {
        segments.extend(entry.with_context(unreadable)?.file_name().to_str().and_then(parse_segment_name));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// A segment's lines from a place on.
fn open_segment(dir: &Path, first: u64, offset: u64) -> anyhow::Result<Lines<File>> {
    let path = dir.join(segment_name(first));
    let open = |offset| -> io::Result<Lines<File>> {
        let mut file = File::open(&path)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Lines::new(file))
    };
    open(offset).with_context(|| format!("cannot read `{}`", path.display()))
}
