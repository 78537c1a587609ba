//! `countersign facts`: the table of facts about AWS by which requests are named.
//!
//! A table is data: it is replaced without a new program. The server takes a new one up within a
//! second; what is under way then keeps the one it was named by.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::{Common, Exit};
use crate::catalog::aws::operation::Operation;
use crate::catalog::aws::{self as catalog, Table, file};
use crate::catalog::postgres;
use crate::config::facts::{bytes_of, load_from, path_in};

#[derive(Debug, Subcommand)]
pub(crate) enum Arguments {
    /// Print versions, digests and sizes of the facts in force.
    Show(Show),
    /// Check a table of AWS facts and use it in place of the one before.
    Update(Update),
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// List the actions of which no IAM action, or no resource, is known.
    #[arg(long)]
    gaps: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Update {
    /// The table: of a release, or made by `make facts`.
    #[arg(value_name = "FILE", required_unless_present = "built_in")]
    file: Option<PathBuf>,
    /// Go back to the table that is built into the program.
    #[arg(long, conflicts_with = "file")]
    built_in: bool,
}

pub(crate) fn run(arguments: Arguments, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match arguments {
        Arguments::Show(Show { gaps }) => {
            common.use_facts()?;
            if gaps { list_gaps(out) } else { show(out) }
        }
        Arguments::Update(Update { file, .. }) => update(file.as_deref(), &common.data_dir()?, out),
    }
}

fn show(out: &mut dyn Write) -> anyhow::Result<Exit> {
    let (table, built_in) = (catalog::in_force(), catalog::built_in());
    writeln!(out, "AWS         {}", table.version())?;
    writeln!(out, "  digest    {}", table.digest)?;
    writeln!(out, "  from      {}", table.origin)?;
    writeln!(out, "  holds     {}", size(table))?;
    let (without_verb, without_resource) = (gaps(table, has_no_verb).count(), gaps(table, has_no_resource).count());
    writeln!(out, "  gaps      {without_verb} without an IAM action, {without_resource} without a resource (--gaps)")?;
    if !std::ptr::eq(table, built_in) {
        writeln!(out, "  built in  {}, digest {}", built_in.version(), built_in.digest)?;
    }
    if table.is_older_than(built_in) {
        writeln!(
            out,
            "  note      older than the built-in one; `countersign facts update --built-in` goes back to that"
        )?;
    }
    writeln!(out, "PostgreSQL  {}", postgres::facts_version().trim_start_matches("PostgreSQL "))?;
    writeln!(out, "  digest    {}", postgres::facts_digest())?;
    writeln!(out, "  from      built-in")?;
    Ok(Exit::Done)
}

/// The actions of a table of which something is not known.
fn gaps(table: &'static Table, is_gap: fn(&Operation) -> bool) -> impl Iterator<Item = &'static str> {
    let is_gap = move |name: &&str| table.operation_named(name).is_some_and(is_gap);
    table.action_names().iter().copied().filter(is_gap)
}

/// API Gateway's IAM actions are the methods, and stand in no table.
fn has_no_verb(operation: &Operation) -> bool {
    operation.row.iam_actions.is_empty() && !operation.action_name.starts_with("aws:apigateway:")
}

fn has_no_resource(operation: &Operation) -> bool {
    operation.resources.is_empty() && !operation.action_name.starts_with("aws:apigateway:")
}

fn list_gaps(out: &mut dyn Write) -> anyhow::Result<Exit> {
    let table = catalog::in_force();
    for name in gaps(table, |it| has_no_verb(it) || has_no_resource(it)) {
        let Some(operation) = table.operation_named(name) else { continue };
        let verb = if has_no_verb(operation) { "no IAM action" } else { "" };
        let resource = if has_no_resource(operation) { "no resource" } else { "" };
        writeln!(out, "{name:<64} {verb:<14} {resource}")?;
    }
    Ok(Exit::Done)
}

fn size(table: &Table) -> String {
    format!("{} services, {} action names", table.services().len(), table.action_names().len())
}

fn update(new: Option<&Path>, data: &Path, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let place = path_in(data);
    let before = load_from(data).ok().flatten().unwrap_or_else(catalog::built_in);
    let Some(new) = new else {
        match std::fs::remove_file(&place) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot remove `{}`", place.display())),
        }
        writeln!(out, "the built-in table: {}, digest {}", catalog::built_in().version(), catalog::built_in().digest)?;
        return Ok(Exit::Done);
    };
    if !data.is_dir() {
        bail!("`{}` is no data directory; `countersign init` makes one", data.display());
    }
    let bytes = bytes_of(new)?;
    let table = file::read(bytes.clone(), &new.to_string_lossy())?;
    put(&place, &bytes).with_context(|| format!("cannot write `{}`", place.display()))?;
    writeln!(out, "before: {}, {}, digest {}", before.version(), size(before), before.digest)?;
    writeln!(out, "now:    {}, {}, digest {}", table.version(), size(table), table.digest)?;
    if table.is_older_than(before) {
        writeln!(out, "note: the new table is the older one; what it does not know is `unknown`")?;
    }
    writeln!(out, "a running server takes it up within a second, unless its rules name actions that are not in it")?;
    Ok(Exit::Done)
}

/// Writes a file whole or not at all.
fn put(place: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = place.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(place).map_err(|error| error.error)?;
    Ok(())
}
