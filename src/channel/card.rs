//! The text card: one hold, for a person who is to decide it.
//!
//! Everything on the card that came from outside goes through [`visible`] or through JSON's own
//! escapes, and every line this module did not begin itself starts with a gutter. So no value can
//! look like a field of the card, hide a character or reorder one. Nothing is left out without
//! saying how much, and what its SHA-256 is. The card never shows a secret: parameters are taken
//! in their redacted form only.
//!
//! The order of the parts is that of a decision: who, what, where, why, the exact request, how far
//! it reaches, who may decide, how long is left.

use std::fmt::Write;

use serde_json::Value;

use crate::action::{Access, Action, Before, Delta, Trait};
use crate::digest::sha256;
use crate::gate::HoldView;
use crate::hold::{HoldState, Vote};
use crate::time::Timestamp;

/// Renders the card as it stands at `now`. Ends with a line feed; no line is longer than
/// [`WIDTH`] columns.
pub(crate) fn render(hold: &HoldView, now: Timestamp) -> String {
    let mut card = Card::default();
    card.line("HOLD", &format!("{}  {}", hold.id, hold.state.as_str().to_uppercase()));
    if hold.state != HoldState::Pending {
        card.line("", "This hold is not open any more; a verdict on it is refused.");
    }
    who(&mut card, hold);
    what(&mut card, hold);
    place(&mut card, hold);
    why(&mut card, hold);
    request(&mut card, hold);
    for delta in &hold.shown.deltas {
        change(&mut card, delta);
    }
    blast_radius(&mut card, hold);
    deciders(&mut card, hold);
    time_left(&mut card, hold, now);
    card.text
}

/// Text in which each character can be seen and none moves another: control, format (also
/// bidirectional), unassigned, combining and blank-looking characters become `\u{…}`, and a
/// backslash becomes two, so that an escape cannot be faked.
pub(crate) fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        match character {
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if is_hidden(c) => push(&mut shown, format_args!("\\u{{{:x}}}", u32::from(c))),
            c => shown.push(c),
        }
        shown
    })
}

/// A name (of an action, a resource, a host…) in which also every letter outside ASCII is escaped:
/// `аdmin` with a Cyrillic first letter must not look like `admin`.
fn plain(name: &str) -> String {
    visible(name).chars().fold(String::with_capacity(name.len()), |mut shown, character| {
        if character.is_ascii() {
            shown.push(character);
        } else {
            push(&mut shown, format_args!("\\u{{{:x}}}", u32::from(character)));
        }
        shown
    })
}

fn is_hidden(character: char) -> bool {
    // The standard library's printability and grapheme tables say what `Debug` escapes; quotes and
    // the backslash are escaped there for another reason. The rest are letters and symbols by
    // category that show as nothing.
    const BLANK: [char; 5] = ['\u{115f}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{ffa0}'];
    BLANK.contains(&character)
        || (!matches!(character, '\'' | '"' | '\\') && character.escape_debug().next() == Some('\\'))
}

fn who(card: &mut Card, hold: &HoldView) {
    card.line("WHO", &format!("agent {}, owner {}, from {}", hold.agent.id, hold.agent.owner, hold.peer));
    let claims = [
        ("initiator", &hold.context.initiator),
        ("model", &hold.context.model),
        ("session", &hold.context.session),
        ("task", &hold.context.task),
        ("reason", &hold.context.reason),
        ("trace", &hold.context.trace),
    ];
    if claims.iter().all(|(_, claim)| claim.is_none()) {
        card.line("", "The agent says nothing about why it asks.");
        return;
    }
    card.line("", "The agent says (unverified, not to be trusted):");
    for (name, claim) in claims {
        if let Some(claim) = claim {
            let claim = visible(&elided(claim, CLAIM_LIMIT_BYTES, &mut card.elisions));
            card.fenced(&format!("{name}: \"{claim}\""));
        }
    }
}

fn what(card: &mut Card, hold: &HoldView) {
    for action in &hold.actions {
        card.line("WHAT", &sentence(hold, action));
        if let Some(doubt) = &action.unknown {
            card.line("", &format!("It could not be named without doubt: {}", visible(doubt)));
        }
        let traits = action.traits.names();
        if !traits.is_empty() {
            card.line("", &format!("traits: {}", traits.join(", ")));
        }
        if !action.tags.is_empty() {
            card.line("", &format!("touches what is tagged {}", plain(&action.tags.join(", "))));
        }
    }
    if !hold.modified.is_empty() {
        card.line("", "An approver changed the request; what follows is the changed one:");
        for change in &hold.modified {
            let [before, after] = [&change.before, &change.after]
                .map(|value| value.as_ref().map_or_else(|| "(absent)".to_owned(), |value| card.json_line(value)));
            card.fenced(&format!("{}: {before} -> {after}", visible(&change.pointer)));
        }
    }
}

/// One plain sentence: `deployer asks to create access key (aws:iam:CreateAccessKey, changes
/// permissions) on arn:aws:iam::123456789012:user/bob.`
fn sentence(hold: &HoldView, action: &Action) -> String {
    let effect = match action.access {
        Access::List => "lists",
        Access::Read => "reads",
        Access::Tagging => "changes tags",
        Access::Write => "writes",
        Access::Permissions => "changes permissions",
    };
    let object = match action.resources.as_slice() {
        [] => "no named resource".to_owned(),
        [only] if only == "*" => "no single resource (*)".to_owned(),
        [only] => plain(only),
        [first, rest @ ..] => format!("{} and {} more", plain(first), rest.len()),
    };
    let operation = action.name.rsplit(':').next().unwrap_or(&action.name);
    format!("{} asks to {} ({}, {effect}) on {object}.", hold.agent.id, spoken(operation), plain(&action.name))
}

/// `CreateDBInstance` → `create db instance`, `copy_out` → `copy out`.
fn spoken(operation: &str) -> String {
    let characters: Vec<char> = operation
        .chars()
        .map(|character| if character == '_' { ' ' } else { character })
        .filter(|character| character.is_ascii_alphanumeric() || *character == ' ')
        .collect();
    let mut words = String::with_capacity(operation.len() + 8);
    for (index, &character) in characters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|index| characters.get(index));
        let starts_word = character.is_ascii_uppercase()
            && before.is_some_and(|before| {
                !before.is_ascii_uppercase() || characters.get(index + 1).is_some_and(char::is_ascii_lowercase)
            });
        if starts_word {
            words.push(' ');
        }
        words.push(character.to_ascii_lowercase());
    }
    words
}

fn place(card: &mut Card, hold: &HoldView) {
    for action in &hold.actions {
        let names = format!(
            "{}, region {}, account {}",
            plain(action.name.split(':').next().unwrap_or_default()),
            action.region.as_deref().map_or_else(|| "none (global)".to_owned(), plain),
            action.account.as_deref().map_or_else(|| "not known".to_owned(), plain),
        );
        card.line("WHERE", &names);
    }
}

fn why(card: &mut Card, hold: &HoldView) {
    let rules: Vec<_> = hold.ruling.requirements.iter().map(|requirement| requirement.rule.as_str()).collect();
    card.line("WHY", &format!("held by {}", plain(&rules.join(", "))));
    if let Some(message) = &hold.ruling.message {
        card.line("", &visible(message));
    }
    if !hold.ruling.controls.is_empty() {
        card.line("", &format!("serves {}", visible(&hold.ruling.controls.join(", "))));
    }
}

fn request(card: &mut Card, hold: &HoldView) {
    let shown = &hold.shown;
    card.line("REQUEST", "exactly this would run, secrets replaced:");
    card.fenced(&format!("{} {}", plain(&shown.method), plain(&shown.url)));
    for (name, value) in &shown.headers {
        let value = elided(value, VALUE_LIMIT_BYTES, &mut card.elisions);
        card.fenced(&format!("{}: {}", plain(name), visible(&value)));
    }
    card.fenced(&format!("body: {} bytes", shown.body_bytes));
    card.fenced(&format!("sha256 {}", plain(&shown.body_sha256)));
    for action in &hold.actions {
        let parameters = Value::Object(action.shown_parameters());
        card.json(&parameters);
        documents(card, "", &parameters);
    }
    if card.elisions > 0 {
        let note = format!(
            "{} place(s) are shortened above, each with its length and SHA-256; `countersign holds show {} --json` \
             prints them whole",
            card.elisions, hold.id
        );
        card.line("", &note);
    }
}

/// Texts that hold JSON themselves, policies above all, once more in lines that can be read.
fn documents(card: &mut Card, pointer: &str, value: &Value) {
    match value {
        Value::String(text) => {
            // It stands above in any case; this is a service, and a bounded one.
            let is_small = text.len() <= VALUE_LIMIT_BYTES && card.text.len() <= 2 * JSON_LIMIT_BYTES;
            if let Some(lines) = is_small.then(|| reindented(text)).flatten() {
                card.line("", &format!("the JSON in {}, in lines:", visible(pointer)));
                for line in lines.lines() {
                    card.fenced(&escaped_json(line));
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                documents(card, &format!("{pointer}/{index}"), item);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                documents(card, &format!("{pointer}/{name}"), member);
            }
        }
        _ => {}
    }
}

/// A JSON object or array laid out in lines, token for token: nothing is parsed away, so that a
/// member that stands there twice shows twice. `None` for any other text, and beyond [`DEEPEST`].
fn reindented(text: &str) -> Option<String> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let (mut lines, mut depth, mut in_string, mut escaped) = (String::new(), 0, false, false);
    for character in text.chars() {
        if in_string {
            lines.push(character);
            in_string = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        match character {
            '{' | '[' => {
                depth += 1;
                if depth > DEEPEST {
                    return None;
                }
                push(&mut lines, format_args!("{character}\n{:1$}", "", depth * 2));
            }
            '}' | ']' => {
                depth = usize::saturating_sub(depth, 1);
                push(&mut lines, format_args!("\n{:1$}{character}", "", depth * 2));
            }
            ',' => push(&mut lines, format_args!(",\n{:1$}", "", depth * 2)),
            ':' => lines.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => {
                lines.push(c);
                in_string = c == '"';
            }
        }
    }
    Some(lines)
}

/// The dangers first: whoever reads no further has read these.
fn change(card: &mut Card, delta: &Delta) {
    card.line("CHANGE", &plain(&delta.about));
    for danger in &delta.dangers {
        card.fenced(&format!("! {}", plain(danger)));
    }
    if let Some(doubt) = &delta.doubt {
        card.line("", "What it comes to could not be made out; read all of the request above:");
        card.fenced(&format!("! {}", plain(doubt)));
    }
    match &delta.before {
        Before::Absent => card.line("", "There is none at present."),
        Before::Read(digest) => {
            card.line("", &format!("Against the present one, read just before the hold; sha256 {digest}"))
        }
        Before::Unread(why) => {
            card.line("", "The present one could not be read, so that what is removed is not known:");
            card.fenced(&plain(why));
        }
    }
    for (sign, lines) in [('+', &delta.added), ('-', &delta.removed), ('~', &delta.changed)] {
        for line in lines {
            card.fenced(&format!("{sign} {}", plain(line)));
        }
    }
    if delta.doubt.is_none() && [&delta.added, &delta.removed, &delta.changed].into_iter().all(Vec::is_empty) {
        card.line("", "It adds nothing and removes nothing.");
    }
}

fn blast_radius(card: &mut Card, hold: &HoldView) {
    let resources: Vec<_> = hold.actions.iter().flat_map(|action| &action.resources).collect();
    let unbounded = resources.iter().filter(|name| name.contains('*')).count();
    let mut reach = format!("{} resource(s) named", resources.len());
    if unbounded > 0 {
        push(&mut reach, format_args!(", {unbounded} of them with a wildcard: how many they are is not known"));
    }
    card.line("REACH", &reach);
    for name in resources.iter().take(RESOURCES_SHOWN) {
        card.fenced(&plain(name));
    }
    if let Some(more) = resources.len().checked_sub(RESOURCES_SHOWN).filter(|more| *more > 0) {
        card.fenced(&format!("and {more} more, all in the request above"));
    }
    if !hold.shown.reach.is_empty() {
        card.line("", "Estimated without running it:");
    }
    for (about, says) in &hold.shown.reach {
        card.fenced(&format!("{}: {}", plain(about), visible(says)));
    }
    let has = |it: Trait| hold.actions.iter().any(|action| action.traits.contains(it));
    for (it, words) in [
        (Trait::CrossAccount, "Touches an account other than the one countersign works in."),
        (Trait::Credential, "Its answer holds a credential that works without countersign."),
        (Trait::Destructive, "What it destroys may not come back."),
        (Trait::Sharing, "Opens something to others."),
    ] {
        if has(it) {
            card.line("", words);
        }
    }
}

fn deciders(card: &mut Card, hold: &HoldView) {
    for requirement in &hold.ruling.requirements {
        let need = format!("rule {} needs {}", requirement.rule, requirement.describe());
        card.line("DECIDE", &plain(&need));
    }
    let eligible: Vec<_> = hold.eligible.iter().map(|person| person.as_str()).collect();
    let names = if eligible.is_empty() { "nobody".to_owned() } else { plain(&eligible.join(", ")) };
    card.line("", &format!("may decide now: {names}"));
    for vote in &hold.votes {
        card.fenced(&vote_line(vote));
    }
}

fn vote_line(vote: &Vote) -> String {
    let void = if vote.void { " (void: the request was changed afterwards)" } else { "" };
    format!("{} {} by {}: \"{}\"{void}", moment(vote.at), vote.word.as_str(), vote.person, visible(&vote.reason))
}

fn time_left(card: &mut Card, hold: &HoldView, now: Timestamp) {
    if hold.state == HoldState::Pending {
        let left = hold.expires.since(now).as_secs();
        let waiting = match hold.attached {
            0 => "the agent is not connected now; an approval waits for its retry",
            _ => "the agent is waiting on its connection",
        };
        let spelled = format!("{} min {:02} s left, until {}; {waiting}", left / 60, left % 60, moment(hold.expires));
        card.line("TIME", &spelled);
        card.line("", "If nobody decides, it expires and does not run.");
    }
    let digest = hold.digest.hex();
    card.line("DIGEST", digest.get(..12).unwrap_or_default());
    card.line("", &digest);
}

/// Text under construction. `fenced` and the wrapped part of each line start with a gutter that
/// no line of the card's own has.
#[derive(Default)]
struct Card {
    text: String,
    /// Values that were shortened so far.
    elisions: usize,
}

impl Card {
    /// A line of the card's own; an empty label continues the part above.
    fn line(&mut self, label: &str, text: &str) {
        self.wrapped(&format!("{label:<9}"), "         ~ ", text);
    }

    /// Text from outside, on its own line behind a gutter.
    fn fenced(&mut self, text: &str) {
        self.wrapped("         | ", "         ~ ", text);
    }

    /// A value as indented JSON behind the gutter, hidden characters as JSON escapes: what is
    /// shown is still the same JSON value, unless something was shortened.
    fn json(&mut self, value: &Value) {
        let shortened = self.shortened(value);
        let text = escaped_json(&serde_json::to_string_pretty(&shortened).unwrap_or_default());
        let mut bytes = 0;
        for line in text.lines() {
            bytes += line.len();
            if bytes > JSON_LIMIT_BYTES {
                self.elisions += 1;
                let digest = sha256(text.as_bytes());
                self.fenced(&format!("[... the rest is left out: {} bytes in all, sha256 {digest}]", text.len()));
                return;
            }
            self.fenced(line);
        }
    }

    fn json_line(&mut self, value: &Value) -> String {
        escaped_json(&self.shortened(value).to_string())
    }

    fn shortened(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(elided(text, VALUE_LIMIT_BYTES, &mut self.elisions)),
            Value::Array(items) => items.iter().map(|item| self.shortened(item)).collect(),
            Value::Object(members) => {
                Value::Object(members.iter().map(|(name, member)| (name.clone(), self.shortened(member))).collect())
            }
            other => other.clone(),
        }
    }

    /// Breaks `text` so that no line passes [`WIDTH`] columns, at a space where one is near. A
    /// character outside ASCII counts as two: right for wide ones, harmless for others.
    fn wrapped(&mut self, first: &str, next: &str, text: &str) {
        let mut gutter = first;
        let mut rest = text;
        loop {
            let (line, after) = rest.split_at(line_end(rest, WIDTH - gutter.len()));
            self.text.push_str(gutter);
            self.text.push_str(line);
            let trimmed = self.text.trim_end_matches(' ').len();
            self.text.truncate(trimmed);
            self.text.push('\n');
            if after.is_empty() {
                return;
            }
            rest = after;
            gutter = next;
        }
    }
}

/// Where the line that `text` begins ends when it has that many columns; behind a space when one
/// is in the last third of the line.
fn line_end(text: &str, columns: usize) -> usize {
    let mut used = 0;
    let mut space = None;
    for (index, character) in text.char_indices() {
        used += if character.is_ascii() { 1 } else { 2 };
        if used > columns {
            return space.unwrap_or(index);
        }
        if character == ' ' && used > columns * 2 / 3 {
            space = Some(index + 1);
        }
    }
    text.len()
}

/// A moment to the second.
fn moment(timestamp: Timestamp) -> String {
    timestamp.rfc3339().get(..19).map(|text| format!("{text}Z")).unwrap_or_default()
}

/// Escapes what [`visible`] would hide, in JSON's own spelling (`\u202e`); line feeds stay.
pub(crate) fn escaped_json(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        if character != '\n' && is_hidden(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                push(&mut shown, format_args!("\\u{unit:04x}"));
            }
        } else {
            shown.push(character);
        }
        shown
    })
}

/// The beginning and the end of a text over `limit_bytes`, and between them what is missing.
fn elided(text: &str, limit_bytes: usize, elisions: &mut usize) -> String {
    if text.len() <= limit_bytes {
        return text.to_owned();
    }
    *elisions += 1;
    let head = text.get(..text.floor_char_boundary(limit_bytes / 2)).unwrap_or_default();
    let tail = text.get(text.ceil_char_boundary(text.len() - limit_bytes / 4)..).unwrap_or_default();
    let digest = sha256(text.as_bytes());
    format!("{head} [... shortened: {} bytes, sha256 {digest} ...] {tail}", text.len())
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).unwrap_or(()); // Writing to a String cannot fail.
}

/// Columns of the widest line: a digest behind the gutter and its name.
const WIDTH: usize = 90;
/// Longest value that is shown whole. An IAM policy document has at most 10,240 characters.
const VALUE_LIMIT_BYTES: usize = 12 * 1024;
/// Longest claim of an agent that is shown whole.
const CLAIM_LIMIT_BYTES: usize = 300;
/// Longest parameters, as indented JSON, that are shown whole.
const JSON_LIMIT_BYTES: usize = 64 * 1024;
/// Deepest nesting that is laid out; policies have seven levels.
const DEEPEST: usize = 16;
/// Resources listed under REACH.
const RESOURCES_SHOWN: usize = 10;

#[cfg(test)]
mod tests;
