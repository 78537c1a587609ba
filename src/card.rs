//! The card of a hold: what a person who is to decide it must see, once for all channels.
//!
//! A card is a list of parts in the order of a decision: who, what, where, why, the exact request, how far it
//! reaches, who may decide, how long is left. Each channel draws the parts in its own way; none leaves one out
//! without saying so. Everything that came from outside went through [`visible`] or through JSON's own escapes and
//! is a part of its own kind, so that no value can look like a field of the card, hide a character or reorder one.
//! Nothing is shortened without saying how much, and what its SHA-256 is. The card never shows a secret: parameters
//! are taken in their redacted form only.

use serde_json::Value;

use crate::action::{Access, Action, Before, Delta, Trait};
use crate::digest::{Digest, sha256};
use crate::gate::HoldView;
use crate::hold::{Ending, HoldState, Vote, Word};
use crate::id::HoldId;
use crate::time::Timestamp;

pub(crate) mod sample;
mod shown;
mod text;

use shown::{elided, plain, push};
pub(crate) use shown::{escaped_json, visible};
pub(crate) use text::render;

/// One hold as it is shown to people at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) hold: HoldId,
    pub(crate) state: HoldState,
    /// One plain sentence: who asks for what.
    pub(crate) title: String,
    /// What a verdict on this card is bound to.
    pub(crate) digest: Digest,
    pub(crate) parts: Vec<Part>,
    /// Values that are shortened in it.
    pub(crate) elisions: usize,
}

/// One line of a card, or more where it is wrapped. None holds a line feed or a character that cannot be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Begins a field: its name and what the card says there.
    Field(Field, String),
    /// More of what the card says in that field.
    Said(String),
    /// Text from outside: of the request, of a policy, of a person.
    Quoted(String),
    /// What the agent says of itself: unverified, not to be trusted.
    Claimed(String),
}

/// The fields of a card, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Field {
    Hold,
    Who,
    What,
    Where,
    Why,
    Request,
    Change,
    Reach,
    Decide,
    Time,
    Ended,
    Digest,
}

impl Field {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Who => "who",
            Self::What => "what",
            Self::Where => "where",
            Self::Why => "why",
            Self::Request => "request",
            Self::Change => "change",
            Self::Reach => "reach",
            Self::Decide => "decide",
            Self::Time => "time",
            Self::Ended => "ended",
            Self::Digest => "digest",
        }
    }
}

impl Card {
    /// The card of a hold as it stands at `now`.
    pub(crate) fn of(hold: &HoldView, now: Timestamp) -> Self {
        let title = hold.actions.first().map_or_else(|| "a request without a name".to_owned(), |it| sentence(hold, it));
        let (id, state, digest) = (hold.id.clone(), hold.state, hold.digest);
        let mut card = Self { hold: id, state, title, digest, parts: Vec::new(), elisions: 0 };
        card.field(Field::Hold, &format!("{}  {}", hold.id, hold.state.as_str().to_uppercase()));
        if hold.state != HoldState::Pending {
            card.said("This hold is not open any more; a verdict on it is refused.");
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
        ended(&mut card, hold);
        let digest = hold.digest.hex();
        card.field(Field::Digest, digest.get(..12).unwrap_or_default());
        card.said(&digest);
        card
    }

    fn field(&mut self, field: Field, text: &str) {
        self.parts.push(Part::Field(field, text.to_owned()));
    }

    fn said(&mut self, text: &str) {
        self.parts.push(Part::Said(text.to_owned()));
    }

    fn quoted(&mut self, text: &str) {
        self.parts.push(Part::Quoted(text.to_owned()));
    }

    /// A value as indented JSON, hidden characters as JSON escapes: what is shown is still the same JSON value,
    /// unless something was shortened.
    fn json(&mut self, value: &Value) {
        let shortened = self.shortened(value);
        let text = escaped_json(&serde_json::to_string_pretty(&shortened).unwrap_or_default());
        let mut bytes = 0;
        for line in text.lines() {
            bytes += line.len();
            if bytes > JSON_LIMIT_BYTES {
                self.elisions += 1;
                let digest = sha256(text.as_bytes());
                self.quoted(&format!("[... the rest is left out: {} bytes in all, sha256 {digest}]", text.len()));
                return;
            }
            self.quoted(line);
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

    /// What became of the hold, once that is decided.
    pub(crate) fn ended(&self) -> Option<&str> {
        let ended = self.parts.iter().find(|part| matches!(part, Part::Field(Field::Ended, _)));
        ended.map(Part::text)
    }

    /// Bytes of text in it so far.
    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.text().len()).sum()
    }
}

impl Part {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Field(_, text) | Self::Said(text) | Self::Quoted(text) | Self::Claimed(text) => text,
        }
    }
}

fn who(card: &mut Card, hold: &HoldView) {
    card.field(Field::Who, &format!("agent {}, owner {}, from {}", hold.agent.id, hold.agent.owner, hold.peer));
    let claims = [
        ("initiator", &hold.context.initiator),
        ("model", &hold.context.model),
        ("session", &hold.context.session),
        ("task", &hold.context.task),
        ("reason", &hold.context.reason),
        ("trace", &hold.context.trace),
    ];
    if claims.iter().all(|(_, claim)| claim.is_none()) {
        card.said("The agent says nothing about why it asks.");
        return;
    }
    card.said("The agent says (unverified, not to be trusted):");
    for (name, claim) in claims {
        if let Some(claim) = claim {
            let claim = visible(&elided(claim, CLAIM_LIMIT_BYTES, &mut card.elisions));
            card.parts.push(Part::Claimed(format!("{name}: \"{claim}\"")));
        }
    }
}

fn what(card: &mut Card, hold: &HoldView) {
    for action in &hold.actions {
        card.field(Field::What, &sentence(hold, action));
        if let Some(doubt) = &action.unknown {
            card.said(&format!("It could not be named without doubt: {}", visible(doubt)));
        }
        let traits = action.traits.names();
        if !traits.is_empty() {
            card.said(&format!("traits: {}", traits.join(", ")));
        }
        if !action.tags.is_empty() {
            card.said(&format!("touches what is tagged {}", plain(&action.tags.join(", "))));
        }
    }
    if !hold.modified.is_empty() {
        card.said("An approver changed the request; what follows is the changed one:");
        for change in &hold.modified {
            let [before, after] = [&change.before, &change.after]
                .map(|value| value.as_ref().map_or_else(|| "(absent)".to_owned(), |value| card.json_line(value)));
            card.quoted(&format!("{}: {before} -> {after}", visible(&change.pointer)));
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
        card.field(Field::Where, &names);
    }
}

fn why(card: &mut Card, hold: &HoldView) {
    let rules: Vec<_> = hold.ruling.requirements.iter().map(|requirement| requirement.rule.as_str()).collect();
    card.field(Field::Why, &format!("held by {}", plain(&rules.join(", "))));
    if let Some(message) = &hold.ruling.message {
        card.said(&visible(message));
    }
    if !hold.ruling.controls.is_empty() {
        card.said(&format!("serves {}", visible(&hold.ruling.controls.join(", "))));
    }
}

fn request(card: &mut Card, hold: &HoldView) {
    let shown = &hold.shown;
    card.field(Field::Request, "exactly this would run, secrets replaced:");
    card.quoted(&format!("{} {}", plain(&shown.method), plain(&shown.url)));
    for (name, value) in &shown.headers {
        let value = elided(value, VALUE_LIMIT_BYTES, &mut card.elisions);
        card.quoted(&format!("{}: {}", plain(name), visible(&value)));
    }
    if shown.body_sha256.is_empty() {
        card.said("The body comes after the decision, as a stream of events; nobody has seen it.");
    } else {
        card.quoted(&format!("body: {} bytes", shown.body_bytes));
        card.quoted(&format!("sha256 {}", plain(&shown.body_sha256)));
    }
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
        card.said(&note);
    }
}

/// Texts that hold JSON themselves, policies above all, once more in lines that can be read.
fn documents(card: &mut Card, pointer: &str, value: &Value) {
    match value {
        Value::String(text) => {
            // It stands above in any case; this is a service, and a bounded one.
            let is_small = text.len() <= VALUE_LIMIT_BYTES && card.len() <= 2 * JSON_LIMIT_BYTES;
            if let Some(lines) = is_small.then(|| reindented(text)).flatten() {
                card.said(&format!("the JSON in {}, in lines:", visible(pointer)));
                for line in lines.lines() {
                    card.quoted(&escaped_json(line));
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
pub(crate) fn reindented(text: &str) -> Option<String> {
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
    card.field(Field::Change, &plain(&delta.about));
    for danger in &delta.dangers {
        card.quoted(&format!("! {}", plain(danger)));
    }
    if let Some(doubt) = &delta.doubt {
        card.said("What it comes to could not be made out; read all of the request above:");
        card.quoted(&format!("! {}", plain(doubt)));
    }
    match &delta.before {
        Before::Absent => card.said("There is none at present."),
        Before::Read(digest) => {
            card.said(&format!("Against the present one, which countersign has read; sha256 {digest}"))
        }
        Before::Unread(why) => {
            card.said("The present one could not be read, so that what is removed is not known:");
            card.quoted(&plain(why));
        }
    }
    for (sign, lines) in [('+', &delta.added), ('-', &delta.removed), ('~', &delta.changed)] {
        for line in lines {
            card.quoted(&format!("{sign} {}", plain(line)));
        }
    }
    if delta.doubt.is_none() && [&delta.added, &delta.removed, &delta.changed].into_iter().all(Vec::is_empty) {
        card.said("It adds nothing and removes nothing.");
    }
}

fn blast_radius(card: &mut Card, hold: &HoldView) {
    let resources: Vec<_> = hold.actions.iter().flat_map(|action| &action.resources).collect();
    let unbounded = resources.iter().filter(|name| name.contains('*')).count();
    let mut reach = format!("{} resource(s) named", resources.len());
    if unbounded > 0 {
        push(&mut reach, format_args!(", {unbounded} of them with a wildcard: how many they are is not known"));
    }
    card.field(Field::Reach, &reach);
    for name in resources.iter().take(RESOURCES_SHOWN) {
        card.quoted(&plain(name));
    }
    if let Some(more) = resources.len().checked_sub(RESOURCES_SHOWN).filter(|more| *more > 0) {
        card.quoted(&format!("and {more} more, all in the request above"));
    }
    if !hold.shown.reach.is_empty() {
        card.said("Estimated without running it:");
    }
    for (about, says) in &hold.shown.reach {
        card.quoted(&format!("{}: {}", plain(about), visible(says)));
    }
    let has = |it: Trait| hold.actions.iter().any(|action| action.traits.contains(it));
    for (it, words) in [
        (Trait::CrossAccount, "Touches an account other than the one countersign works in."),
        (Trait::Credential, "Its answer holds a credential that works without countersign."),
        (Trait::Destructive, "What it destroys may not come back."),
        (Trait::Sharing, "Opens something to others."),
    ] {
        if has(it) {
            card.said(words);
        }
    }
}

fn deciders(card: &mut Card, hold: &HoldView) {
    for requirement in &hold.ruling.requirements {
        let need = format!("rule {} needs {}", requirement.rule, requirement.describe());
        card.field(Field::Decide, &plain(&need));
    }
    let eligible: Vec<_> = hold.eligible.iter().map(|person| person.as_str()).collect();
    let names = if eligible.is_empty() { "nobody".to_owned() } else { plain(&eligible.join(", ")) };
    card.said(&format!("may decide now: {names}"));
    for vote in &hold.votes {
        card.quoted(&vote_line(vote));
    }
}

/// What somebody said, when and why.
pub(crate) fn vote_line(vote: &Vote) -> String {
    let void = if vote.void { " (void: the request, or what it changes, is another one since)" } else { "" };
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
        card.field(Field::Time, &spelled);
        card.said("If nobody decides, it expires and does not run.");
    }
}

/// What became of it, once it is over.
fn ended(card: &mut Card, hold: &HoldView) {
    let by = |word: Word| hold.votes.iter().rev().find(|vote| vote.word == word && !vote.void);
    let what = match hold.state {
        HoldState::Pending => return,
        HoldState::Approved => "approved; it runs as soon as its client is back".to_owned(),
        HoldState::Forwarding => "approved, and sent to the upstream".to_owned(),
        HoldState::Executed => match hold.upstream_status {
            Some(status) => format!("it ran; the upstream answered {status}"),
            None => "it ran".to_owned(),
        },
        HoldState::Ended(Ending::Denied) => {
            let who = by(Word::Deny).map_or_else(|| "a person".to_owned(), |vote| vote.person.to_string());
            format!("denied by {who}; nothing ran")
        }
        HoldState::Ended(ending) => ended_sentence(ending).to_owned(),
    };
    card.field(Field::Ended, &plain(&what));
}

const fn ended_sentence(ending: Ending) -> &'static str {
    match ending {
        Ending::AnswerLost => "it ran; its answer can no longer be given",
        Ending::Cancelled => "taken back by a person; nothing ran",
        Ending::Expired => "nobody decided in time; nothing ran",
        Ending::FailedUpstream => "approved, but the upstream could not be reached; nothing ran",
        Ending::OutcomeUnknown => "approved and sent; no answer is known: it may have run",
        Ending::Superseded => "the rules, or what it is about, changed meanwhile; nothing ran",
        Ending::TransactionLimit => {
            "nobody decided in the time that a statement may wait in a transaction; nothing ran"
        }
        Ending::Unfit => "the changed request does not fit what its client was told; nothing ran",
        Ending::UpstreamLeft => "the upstream ended its session meanwhile; nothing ran",
        Ending::UpstreamLimit => "nobody decided before the upstream's own time-out; nothing ran",
        Ending::Withdrawn => "the agent went away; nothing ran",
        Ending::NoApprover => "nobody is left who may decide it; nothing ran",
        // Ends of requests that were never held, and that of a hold a person denied.
        Ending::Denied
        | Ending::LogUnavailable
        | Ending::Overloaded
        | Ending::Replayed
        | Ending::Restarted
        | Ending::RuleDenied => "nothing ran",
    }
}

/// A moment to the second.
fn moment(timestamp: Timestamp) -> String {
    timestamp.rfc3339().get(..19).map(|text| format!("{text}Z")).unwrap_or_default()
}

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
