//! `countersign audit verify`.

use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{Exit, Verify, list_segments, open_segment};
use crate::audit::checkpoint::{MAX_NOTE, VerifyingKey};
use crate::audit::line::segment_name;
use crate::audit::verify::{Anchor, Finding, Verifier, Whole};
use crate::card::visible;

/// A log that grows while it is read can look broken: it is read again when its checkpoint moved.
const ATTEMPTS: usize = 3;

/// Where a log keeps earlier checkpoints.
const KEPT: &str = "checkpoints";

/// What the log is judged by.
struct Trust {
    key: VerifyingKey,
    /// The key was given from outside.
    pinned: bool,
}

/// The outcome of one reading of the log.
struct Reading {
    /// The log's checkpoint as it was when the reading began.
    note: Option<String>,
    /// Checkpoints the log was held against: source and size.
    anchors: Vec<(String, u64)>,
    result: Result<Whole, Finding>,
}

pub(super) fn run(dir: &Path, options: &Verify, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let trust = trust(dir, options)?;
    let mut reading = read(dir, options, &trust)?;
    for _ in 1..ATTEMPTS {
        if reading.result.is_ok() || reading.note == read_note(&dir.join("checkpoint"))? {
            break;
        }
        reading = read(dir, options, &trust)?;
    }
    if options.json {
        writeln!(out, "{}", as_json(&trust, &reading))?;
    } else {
        print(&trust, &reading, out)?;
    }
    Ok(if reading.result.is_ok() { Exit::Done } else { Exit::Finding })
}

fn trust(dir: &Path, options: &Verify) -> anyhow::Result<Trust> {
    let (text, source) = match &options.key {
        Some(key) if VerifyingKey::parse(key).is_ok() => (key.clone(), "--key".to_owned()),
        Some(file) => {
            (std::fs::read_to_string(file).with_context(|| format!("cannot read the key `{file}`"))?, file.clone())
        }
        None => {
            let path = dir.join("log.pub");
            let text = std::fs::read_to_string(&path);
            (text.with_context(|| format!("cannot read `{}`; give --key", path.display()))?, path.display().to_string())
        }
    };
    let key = VerifyingKey::parse(&text).with_context(|| format!("cannot use `{source}` as the log's key"))?;
    Ok(Trust { key, pinned: options.key.is_some() })
}

fn read(dir: &Path, options: &Verify, trust: &Trust) -> anyhow::Result<Reading> {
    let note = read_note(&dir.join("checkpoint"))?;
    let mut anchors = Vec::new();
    let own = match &note {
        Some(note) => anchor("checkpoint", note, trust),
        None => Err(finding("checkpoint", "it is missing: nothing says what the log must hold".to_owned())),
    };
    let result = match (own, other_anchors(dir, options, trust)?) {
        (Ok(own), Ok(more)) => {
            anchors.extend(std::iter::once(&own).chain(&more).map(|it| (it.source.clone(), it.checkpoint.size)));
            fold(dir, Verifier::new(own, more))?
        }
        (Err(finding), _) | (_, Err(finding)) => Err(finding),
    };
    Ok(Reading { note, anchors, result })
}

/// Reads every line of every segment.
fn fold(dir: &Path, mut verifier: Verifier) -> anyhow::Result<Result<Whole, Finding>> {
    let segments = list_segments(dir)?;
    for (index, first) in segments.iter().enumerate() {
        let unreadable = || format!("cannot read `{}`", dir.join(segment_name(*first)).display());
        if let Err(finding) = verifier.begin_segment(*first) {
            return Ok(Err(finding));
        }
        let mut lines = open_segment(dir, *first, 0)?;
        loop {
            let offset = lines.offset();
            let Some(line) = lines.peek().with_context(unreadable)? else { break };
            if let Err(finding) = verifier.line(offset, line) {
                return Ok(Err(finding));
            }
            let length = line.len();
            lines.advance(length);
        }
        let tail = lines.tail().with_context(unreadable)?;
        if let Err(finding) = verifier.end_segment(&tail, index + 1 == segments.len()) {
            return Ok(Err(finding));
        }
    }
    Ok(verifier.finish())
}

/// The checkpoints the log kept, and those given by `--checkpoint`.
fn other_anchors(dir: &Path, options: &Verify, trust: &Trust) -> anyhow::Result<Result<Vec<Anchor>, Finding>> {
    let kept = dir.join(KEPT);
    let mut files = Vec::new();
    match std::fs::read_dir(&kept) {
        Ok(entries) => {
            for entry in entries {
                let name = entry.with_context(|| format!("cannot list `{}`", kept.display()))?.file_name();
                // Other names are temporary files of a write under way.
                if let Some(name) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
                    files.push((format!("{KEPT}/{name}"), kept.join(name)));
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot list `{}`", kept.display())),
    }
    files.sort();
    files.extend(options.checkpoints.iter().map(|path| (path.display().to_string(), path.clone())));
    let mut anchors = Vec::new();
    for (source, path) in files {
        let Some(note) = read_note(&path)? else { bail!("there is no `{}`", path.display()) };
        match anchor(&source, &note, trust) {
            Ok(anchor) => anchors.push(anchor),
            Err(finding) => return Ok(Err(finding)),
        }
    }
    Ok(Ok(anchors))
}

fn anchor(source: &str, note: &str, trust: &Trust) -> Result<Anchor, Finding> {
    match trust.key.open(note) {
        Ok(checkpoint) => Ok(Anchor { source: source.to_owned(), checkpoint }),
        Err(error) => Err(finding(source, error.to_string())),
    }
}

fn finding(file: &str, reason: String) -> Finding {
    Finding { file: file.to_owned(), seq: None, offset: None, reason }
}

/// A note, not yet verified; `None` when there is no such file.
fn read_note(path: &Path) -> anyhow::Result<Option<String>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(MAX_NOTE as u64 + 1).read_to_end(&mut bytes)) {
        // What is not UTF-8 is no note either.
        Ok(_) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

fn as_json(trust: &Trust, reading: &Reading) -> Value {
    let mut report = json!({
        "checkpoints": reading.anchors.iter().map(|(source, size)| json!({"size": size, "source": source})).collect::<Vec<_>>(),
        "key": trust.key.to_string(),
        "log": trust.key.name(),
        "trust": if trust.pinned { "pinned" } else { "directory" },
        "verdict": if reading.result.is_ok() { "whole" } else { "broken" },
    });
    let (name, detail) = match &reading.result {
        Ok(whole) => ("whole", json!(whole)),
        Err(finding) => ("finding", json!(finding)),
    };
    if let Some(report) = report.as_object_mut() {
        report.insert(name.to_owned(), detail);
    }
    report
}

fn print(trust: &Trust, reading: &Reading, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "log          {}", trust.key.name())?;
    writeln!(out, "key          {}", trust.key)?;
    if !trust.pinned {
        writeln!(
            out,
            "             taken from the directory itself: who rewrote the log could have replaced it; give --key"
        )?;
    }
    let (kept, named): (Vec<_>, Vec<_>) =
        reading.anchors.iter().partition(|(source, _)| source.starts_with(&format!("{KEPT}/")));
    for (source, size) in named {
        writeln!(out, "held against {} ({size} records)", visible(source))?;
    }
    if !kept.is_empty() {
        writeln!(out, "held against {} more in `{KEPT}`", kept.len())?;
    }
    match &reading.result {
        Ok(whole) => {
            let last = whole.last_ts.as_deref().unwrap_or("never");
            writeln!(out, "whole        {} records, the last at {}", whole.records, visible(last))?;
            writeln!(out, "covered      {} records by the signed checkpoint", whole.covered)?;
            if whole.records > whole.covered {
                let later = whole.records - whole.covered;
                writeln!(out, "             {later} later ones are chained, but not signed for yet")?;
            }
            if whole.torn_bytes > 0 {
                let torn = whole.torn_bytes;
                writeln!(
                    out,
                    "             {torn} bytes after them are no record: a write under way, or torn by a crash"
                )?;
            }
        }
        Err(finding) => {
            write!(out, "BROKEN       {}", visible(&finding.file))?;
            if let Some(seq) = finding.seq {
                write!(out, ", record {seq}")?;
            }
            if let Some(offset) = finding.offset {
                write!(out, ", byte {offset}")?;
            }
            writeln!(out, ": {}", visible(&finding.reason))?;
        }
    }
    Ok(())
}
