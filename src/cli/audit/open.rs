//! `countersign audit open`: proves what a record of a statement says, with the text and its salt.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Map, Value};

use super::read::{Position, each_line, mentions};
use super::{Common, Exit, Open, list_segments};
use crate::audit::commitment::{Opening, What};
use crate::audit::record::Kind;
use crate::card::visible;
use crate::credential::commitment_key;
use crate::digest::Digest;
use crate::journal::openings::OPENINGS_FILE;

/// A commitment as it stands in a record.
struct Committed {
    seq: u64,
    action_id: String,
    what: What,
    commitment: Digest,
}

pub(super) fn run(dir: &Path, options: &Open, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let committed = committed(dir, &options.what)?;
    let mut is_proven = false;
    for opening in openings(options, common, &committed)? {
        let proven = committed.iter().filter(|it| {
            it.action_id == opening.action_id && it.what == opening.what && it.commitment == opening.commitment()
        });
        let records: Vec<String> = proven.map(|it| it.seq.to_string()).collect();
        if records.is_empty() {
            writeln!(out, "WRONG        the {} of {} is another", opening.what.as_str(), visible(&opening.action_id))?;
            return Ok(Exit::Finding);
        }
        is_proven = true;
        if options.json {
            writeln!(out, "{}", opening.to_line())?;
            continue;
        }
        let text = match std::str::from_utf8(&opening.text) {
            Ok(text) => visible(text),
            Err(_) => format!("{} bytes, see --json", opening.text.len()),
        };
        writeln!(out, "proven       the {} in record {}: {text}", opening.what.as_str(), records.join(", "))?;
    }
    if !is_proven {
        let what = visible(&options.what);
        let why = if committed.is_empty() { "no record of it commits to a text" } else { "there is no opening of it" };
        writeln!(out, "not proven   {what}: {why}")?;
    }
    Ok(if is_proven { Exit::Done } else { Exit::Finding })
}

/// The commitments in the records that mention an id.
fn committed(dir: &Path, id: &str) -> anyhow::Result<Vec<Committed>> {
    let mut found = Vec::new();
    for first in list_segments(dir)? {
        each_line(dir, Position { first, offset: 0 }, |line| {
            if mentions(line, id)
                && let Ok(record) = serde_json::from_slice::<Map<String, Value>>(line)
            {
                found.extend(of_record(&record));
            }
            Ok(())
        })?;
    }
    Ok(found)
}

fn of_record(record: &Map<String, Value>) -> Vec<Committed> {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let (Some(seq), Some(action_id)) = (record.get("seq").and_then(Value::as_u64), text("action_id")) else {
        return Vec::new();
    };
    let is_modified = text("type") == Some(Kind::ApprovalModified.as_str());
    let statement = if is_modified { What::Modified } else { What::Statement };
    let members = [("statement_commitment", statement), ("values_commitment", What::Values)];
    let of = |(name, what): (&str, What)| {
        let commitment = Digest::parse(text(name)?)?;
        Some(Committed { seq, action_id: action_id.to_owned(), what, commitment })
    };
    members.into_iter().filter_map(of).collect()
}

/// The openings that are there for what is committed to.
fn openings(options: &Open, common: &Common, committed: &[Committed]) -> anyhow::Result<Vec<Opening>> {
    let ids: BTreeSet<&str> = committed.iter().map(|it| it.action_id.as_str()).collect();
    if let Some(file) = &options.text {
        let text = std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        let key = commitment_key(&common.load()?.data)?;
        let open = |action_id: &str, what| Opening {
            action_id: action_id.to_owned(),
            what,
            salt: key.salt(action_id, what),
            text: text.clone(),
        };
        let of_any = ids.iter().flat_map(|id| [open(id, What::Statement), open(id, What::Modified)]);
        let is_right = |opening: &Opening| committed.iter().any(|it| it.commitment == opening.commitment());
        let (right, wrong): (Vec<_>, Vec<_>) = of_any.partition(is_right);
        return Ok(if right.is_empty() { wrong } else { right });
    }
    let kept = match &options.opening {
        Some(file) => file.clone(),
        None => common.load()?.data.join(OPENINGS_FILE),
    };
    let unreadable = || format!("cannot read `{}`", kept.display());
    let mut found = Vec::new();
    let mut lines = BufReader::new(File::open(&kept).with_context(unreadable)?);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).with_context(unreadable)? > 0 {
        match Opening::parse(&line) {
            Some(opening) if ids.contains(opening.action_id.as_str()) => found.push(opening),
            // A line that a crash tore proves nothing.
            None if options.opening.is_some() => bail!("`{}` has a line that is no opening", kept.display()),
            _ => {}
        }
        line.clear();
    }
    Ok(found)
}
