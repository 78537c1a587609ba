//! `countersign audit tail | show`: records as they stand in the files, for people and for pipes.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Map, Value};

use super::{Exit, Show, Tail, list_segments, open_segment};
use crate::card::visible;

/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Where reading stopped: a segment and a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) first: u64,
    pub(super) offset: u64,
}

pub(super) fn tail(dir: &Path, options: &Tail, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let segments = list_segments(dir)?;
    let Some(last) = segments.last().copied() else { bail!("there is no log in `{}`", dir.display()) };
    let mut records = VecDeque::new();
    let mut end = Position { first: last, offset: 0 };
    for first in segments.iter().rev().copied() {
        let mut segment = VecDeque::new();
        let position = each_line(dir, Position { first, offset: 0 }, |line| {
            segment.push_back(line.to_vec());
            if segment.len() > options.lines {
                segment.pop_front();
            }
            Ok(())
        })?;
        if first == last {
            end = position;
        }
        segment.append(&mut records);
        records = segment;
        if records.len() >= options.lines {
            break;
        }
    }
    let surplus = records.len().saturating_sub(options.lines);
    for line in records.iter().skip(surplus) {
        write_line(line, options.json, out)?;
    }
    if options.follow {
        follow(dir, end, options.json, out)?;
    }
    Ok(Exit::Done)
}

/// Prints what comes after a place, until the program is ended or its reader goes away.
fn follow(dir: &Path, mut end: Position, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    loop {
        out.flush()?;
        std::thread::sleep(POLL);
        // Listed before reading on: a segment that follows was begun after this one's last record.
        let next = list_segments(dir)?.into_iter().find(|first| *first > end.first);
        end = each_line(dir, end, |line| write_line(line, json, out))?;
        if let Some(first) = next {
            end = Position { first, offset: 0 };
        }
    }
}

pub(super) fn show(dir: &Path, options: &Show, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let mut segments = list_segments(dir)?;
    let seq: Option<u64> = options.what.parse().ok();
    if let Some(seq) = seq {
        segments.retain(|first| *first <= seq);
        segments.drain(..segments.len().saturating_sub(1));
    }
    let mut found = false;
    for first in segments {
        let mut at = first;
        each_line(dir, Position { first, offset: 0 }, |line| {
            if seq.map_or_else(|| mentions(line, &options.what), |seq| seq == at) {
                found = true;
                write_whole(line, options.json, out)?;
            }
            at += 1;
            Ok(())
        })?;
    }
    if !found {
        writeln!(out, "no record of `{}`", visible(&options.what))?;
    }
    Ok(if found { Exit::Done } else { Exit::Finding })
}

/// Hands on each record from a place on, and gives the place where it stopped.
pub(super) fn each_line(
    dir: &Path,
    from: Position,
    mut line: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<Position> {
    let mut lines = open_segment(dir, from.first, from.offset)?;
    while let Some(bytes) = lines.peek().with_context(|| format!("cannot read the log in `{}`", dir.display()))? {
        line(bytes)?;
        let length = bytes.len();
        lines.advance(length);
    }
    Ok(Position { first: from.first, offset: from.offset + lines.offset() })
}

/// True when one of the record's members is this id.
pub(super) fn mentions(line: &[u8], id: &str) -> bool {
    if id.is_empty() || memchr::memmem::find(line, id.as_bytes()).is_none() {
        return false;
    }
    let record: Option<Map<String, Value>> = serde_json::from_slice(line).ok();
    record.is_some_and(|record| record.values().any(|value| value.as_str() == Some(id)))
}

/// One record on one line.
fn write_line(line: &[u8], json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let Some((head, record)) = parse(line).filter(|_| !json) else { return write_raw(line, json, out) };
    write!(out, "{head}")?;
    for (name, value) in &record {
        write!(out, "  {name}={}", spelled(value))?;
    }
    Ok(writeln!(out)?)
}

/// One record on a line for each member.
fn write_whole(line: &[u8], json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let Some((head, record)) = parse(line).filter(|_| !json) else { return write_raw(line, json, out) };
    writeln!(out, "{head}")?;
    for (name, value) in &record {
        writeln!(out, "  {name:<20} {}", spelled(value))?;
    }
    Ok(writeln!(out)?)
}

/// As it stands in the log; for people, what is no record is shown with its hidden characters.
fn write_raw(line: &[u8], json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if json {
        out.write_all(line)?;
    } else {
        write!(out, "not a record: {}", visible(&String::from_utf8_lossy(line)))?;
    }
    Ok(writeln!(out)?)
}

/// Number, moment and type as text, and the members that say more.
fn parse(line: &[u8]) -> Option<(String, Map<String, Value>)> {
    let mut record: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let head = format!(
        "{:>8}  {}  {}",
        record.get("seq")?.as_u64()?,
        visible(record.get("ts")?.as_str()?),
        visible(record.get("type")?.as_str()?)
    );
    record.retain(|name, _| !["log", "prev", "seq", "ts", "type", "v"].contains(&name.as_str()));
    Some((head, record))
}

fn spelled(value: &Value) -> String {
    match value {
        Value::String(text) => visible(text),
        other => visible(&other.to_string()),
    }
}
