//! Entries before and after a change.

use std::collections::{BTreeMap, BTreeSet};

use super::Entry;
use super::document::{Conditions, Element, Part, Statement};
use super::{listed, quoted};
use crate::action::{Before, Delta};
use crate::digest::{Digest, sha256};

/// Most lines of one kind, and longest line in characters; what is more is counted.
const MOST_LINES: usize = 40;
const LINE_LIMIT_CHARS: usize = 1_000;

/// What a change comes to. `present` is what was read, with the hash of its text where it is one.
pub(crate) fn compare(about: String, present: Result<(&[Entry], Option<Digest>), &str>, after: &[Entry]) -> Delta {
    let known = present.map_or(&[][..], |(entries, _)| entries);
    let keys = |entries: &[Entry]| entries.iter().map(|it| it.key.clone()).collect::<BTreeSet<_>>();
    let (old, new) = (keys(known), keys(after));
    let mut removed = fresh(known, &new);
    let added = fresh(after, &old);
    let mut delta = Delta { about, before: described(present), ..Delta::default() };
    let mut by_key: BTreeMap<(String, usize), usize> = BTreeMap::new();
    for (number, entry) in removed.iter().enumerate() {
        if let Some(statement) = entry.and_then(|it| it.statement.as_ref()) {
            for (part, it) in Part::ALL.into_iter().enumerate() {
                by_key.entry((statement.key_without(Some(it)), part)).or_insert(number);
            }
        }
    }
    for entry in added.into_iter().flatten() {
        delta.dangers.extend(entry.dangers.iter().cloned());
        let partner = entry.statement.as_ref().and_then(|statement| {
            let mut parts = Part::ALL.into_iter().enumerate();
            parts.find_map(|(part, it)| {
                let number = *by_key.get(&(statement.key_without(Some(it)), part))?;
                let old = removed.get_mut(number)?.take()?;
                Some((it, old.statement.as_ref()?, statement))
            })
        });
        match partner {
            Some((part, old, new)) => changed(part, old, new, &mut delta),
            None => delta.added.push(entry.text.clone()),
        }
    }
    for entry in removed.into_iter().flatten() {
        if entry.statement.as_ref().is_some_and(|it| !it.is_allow) {
            delta.dangers.push(format!("a Deny is gone: {}", entry.text));
        }
        delta.removed.push(entry.text.clone());
    }
    bounded(&mut delta);
    delta
}

/// Those that the others do not have, each once.
fn fresh<'e>(entries: &'e [Entry], others: &BTreeSet<String>) -> Vec<Option<&'e Entry>> {
    let mut seen = BTreeSet::new();
    entries.iter().filter(|it| !others.contains(&it.key) && seen.insert(&it.key)).map(Some).collect()
}

fn described(present: Result<(&[Entry], Option<Digest>), &str>) -> Before {
    match present {
        Ok(([], _)) => Before::Absent,
        Ok((_, Some(digest))) => Before::Read(digest),
        Ok((entries, None)) => {
            let mut texts: Vec<&str> = entries.iter().map(|it| it.text.as_str()).collect();
            texts.sort_unstable();
            Before::Read(sha256(texts.join("\n").as_bytes()))
        }
        Err(why) => Before::Unread(why.to_owned()),
    }
}

/// Two statements that differ in one part.
fn changed(part: Part, old: &Statement, new: &Statement, delta: &mut Delta) {
    if part == Part::Condition {
        return changed_conditions(old, new, delta);
    }
    let none = Element::default();
    let of = |statement: &'_ Statement| match part {
        Part::Principal => statement.principal.clone().unwrap_or_else(|| none.clone()),
        Part::Resource => statement.resource.clone().unwrap_or_else(|| none.clone()),
        Part::Action | Part::Condition => statement.action.clone(),
    };
    let (before, after) = (of(old), of(new));
    if before.is_not != after.is_not {
        delta.removed.push(old.spoken());
        delta.added.push(new.spoken());
        if !new.is_allow {
            delta.dangers.push(format!("a Deny is another one: {}", old.spoken()));
        }
        return;
    }
    let only = |one: &Element, other: &Element| {
        let words: Vec<&str> =
            one.set.iter().filter(|(key, _)| !other.set.contains_key(*key)).map(|(_, it)| it.as_str()).collect();
        listed(words)
    };
    let (more, less) = (only(&after, &before), only(&before, &after));
    let name = match (part, after.is_not) {
        (Part::Principal, false) => "Principal",
        (Part::Principal, true) => "NotPrincipal",
        (Part::Resource, false) => "Resource",
        (Part::Resource, true) => "NotResource",
        (_, false) => "Action",
        (_, true) => "NotAction",
    };
    let mut says = Vec::new();
    if !more.is_empty() {
        says.push(format!("now also {more}"));
    }
    if !less.is_empty() {
        says.push(format!("no more {less}"));
    }
    // Fewer words of a Deny, or more of what it leaves out, deny less.
    let denies_less = !new.is_allow && if after.is_not { !more.is_empty() } else { !less.is_empty() };
    if denies_less {
        delta.dangers.push(format!("a Deny got narrower: {name} {}", says.join(", ")));
    }
    delta.changed.push(format!("{name} {} in: {}", says.join(", "), new.spoken()));
}

fn changed_conditions(old: &Statement, new: &Statement, delta: &mut Delta) {
    let effect = new.effect();
    let mut says = Vec::new();
    for (place, (spelled, values)) in &old.conditions {
        match new.conditions.get(place) {
            None => says.push((true, format!("no more {spelled} [{}]", words(values)))),
            Some((_, now)) if values.keys().ne(now.keys()) => {
                says.push((true, format!("{spelled} was [{}] and is now [{}]", words(values), words(now))));
            }
            Some(_) => {}
        }
    }
    let is_new = |conditions: &Conditions, place: &(String, String)| !conditions.contains_key(place);
    for (place, (spelled, values)) in &new.conditions {
        if is_new(&old.conditions, place) {
            says.push((false, format!("now {spelled} [{}]", words(values))));
        }
    }
    for (is_lost, text) in &says {
        match (new.is_allow, is_lost) {
            (true, true) => delta.dangers.push(format!("a condition of an {effect} is gone or another one: {text}")),
            (false, _) => delta.dangers.push(format!("a Deny has another condition: {text}")),
            (true, false) => {}
        }
    }
    let says: Vec<String> = says.into_iter().map(|(_, text)| text).collect();
    delta.changed.push(format!("Condition {} in: {}", says.join(", "), new.spoken()));
}

fn words(values: &super::document::Set) -> String {
    listed(values.values().map(String::as_str))
}

/// Cuts what is too long, and says so.
pub(crate) fn bounded(delta: &mut Delta) {
    delta.about = clipped(&delta.about);
    if let Before::Unread(why) = &mut delta.before {
        *why = clipped(why);
    }
    let mut seen = BTreeSet::new();
    delta.dangers.retain(|it| seen.insert(it.clone()));
    for lines in [&mut delta.added, &mut delta.removed, &mut delta.changed, &mut delta.dangers] {
        let more = lines.len().saturating_sub(MOST_LINES);
        lines.truncate(MOST_LINES);
        for line in lines.iter_mut() {
            *line = clipped(line);
        }
        if more > 0 {
            lines.push(format!("and {more} more that are not shown"));
        }
    }
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(LINE_LIMIT_CHARS) {
        None => text.to_owned(),
        Some((at, _)) => {
            format!("{}[... {} bytes in all]", text.get(..at).unwrap_or_default(), text.len())
        }
    }
}

/// A name for what is changed, of words from outside.
pub(crate) fn about(what: &str, name: &str) -> String {
    format!("{what} {}", quoted(name))
}
