//! What became of holds, as the log says: the truth where the state database is older than the log.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use memchr::memmem;
use serde::Deserialize;

use super::recovery::list_segments;
use super::{OpenError, io_error};
use crate::audit::line::{Lines, segment_name};
use crate::hold::Ending;

/// Where the log leaves a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Ended(Ending),
    /// It was sent, and nobody knows whether it ran.
    MayHaveRun,
    /// It was opened, and may have been decided; nothing of it ran.
    Open,
    /// It ran.
    Ran,
}

/// The members of a record that tell of a hold.
#[derive(Deserialize)]
struct Told {
    #[serde(rename = "type")]
    kind: String,
    hold: Option<String>,
    ending: Option<String>,
    outcome: Option<String>,
    verdict: Option<String>,
}

/// The fates of those holds that the log in `dir` knows. Reads from the end to where the last of
/// them is found: in the common case the part that a start reads anyway.
pub(super) fn read(dir: &Path, holds: &HashSet<&str>) -> Result<HashMap<String, Fate>, OpenError> {
    let mut fates: HashMap<String, Fate> = HashMap::new();
    for first in list_segments(dir)?.into_iter().rev() {
        if fates.len() == holds.len() {
            break;
        }
        for (hold, fate) in of_segment(&dir.join(segment_name(first)), holds)? {
            // What a later segment says came later.
            fates.entry(hold).or_insert(fate);
        }
    }
    Ok(fates)
}

fn of_segment(path: &Path, holds: &HashSet<&str>) -> Result<HashMap<String, Fate>, OpenError> {
    let failed = |source| io_error("read", path, source);
    let mut lines = Lines::new(File::open(path).map_err(failed)?);
    let mut fates = HashMap::new();
    while let Some(line) = lines.peek().map_err(failed)? {
        if memmem::find(line, b"\"hold\":").is_some()
            && let Ok(told) = serde_json::from_slice::<Told>(line)
            && let Some(fate) = told.fate()
            && let Some(hold) = told.hold.filter(|hold| holds.contains(hold.as_str()))
        {
            fates.insert(hold, fate);
        }
        let length = line.len();
        lines.advance(length);
    }
    Ok(fates)
}

impl Told {
    /// `None` for what leaves the hold where it was.
    fn fate(&self) -> Option<Fate> {
        Some(match (self.kind.as_str(), self.outcome.as_deref().or(self.verdict.as_deref())) {
            // A forward of which certainly nothing left gives its approval back.
            ("action.held", _) | ("action.outcome", Some("not-sent")) => Fate::Open,
            ("action.forward", _) | ("action.outcome", Some("unknown")) => Fate::MayHaveRun,
            ("action.outcome", Some("unfit")) => Fate::Ended(Ending::Unfit),
            ("action.outcome", _) => Fate::Ran,
            // The record of the end itself follows, and nobody waits for it.
            ("approval.vote", Some("deny")) => Fate::Ended(Ending::Denied),
            ("approval.vote", Some("cancel")) => Fate::Ended(Ending::Cancelled),
            (_, _) => match Ending::parse(self.ending.as_deref()?)? {
                Ending::OutcomeUnknown => Fate::MayHaveRun,
                ending => Fate::Ended(ending),
            },
        })
    }
}

#[cfg(test)]
mod tests;
