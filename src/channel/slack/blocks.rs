//! A card as a message of Slack (Block Kit).
//!
//! Nothing from outside stands where Slack reads marks: the message is `plain_text` and `rich_text`, whose text elements
//! are shown as they are. So `<!channel>`, `*bold*` and `<https://…|a link>` are those characters. What a channel shows
//! in its notifications (`text`) is read for mentions, and is escaped.
//!
//! Limits: <https://docs.slack.dev/reference/block-kit/blocks>. One that stands nowhere is kept, too: a message with
//! about 13,200 characters in its blocks is refused with `msg_blocks_too_long`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::card::{Card, Field, Part};
use crate::hold::HoldState;
use crate::id::HoldId;

/// What is posted, without the place where.
#[derive(Clone, Debug)]
pub(super) struct Message {
    text: String,
    blocks: Vec<Value>,
    /// Whether all of the card is in it.
    pub(super) is_whole: bool,
}

impl Message {
    /// What `chat.postMessage` and `chat.update` take alike; the latter looks for links unless it is told not to.
    pub(super) fn json(&self) -> Value {
        json!({ "text": self.text, "blocks": self.blocks, "parse": "none", "link_names": false })
    }

    /// What a new message takes. Links are never unfolded: what is behind one would look like part of the card.
    pub(super) fn fresh(&self) -> Value {
        let mut value = self.json();
        super::merge(&mut value, json!({ "mrkdwn": false, "unfurl_links": false, "unfurl_media": false }));
        value
    }
}

/// The message of a hold as its card is now, with buttons where it can be decided with them.
pub(super) fn message(card: &Card, has_buttons: bool) -> Message {
    let state = format!("{}  {}", card.hold, card.state.as_str().to_uppercase());
    let mut blocks = vec![json!({ "type": "header", "text": plain(&state) })];
    let fields = fields(card);
    let allowances = allowances(&fields);
    let mut is_whole = true;
    for (field, lines) in fields {
        let allowance = allowances.get(&field).copied().unwrap_or_default();
        let (lines, missing) = within(lines, allowance);
        is_whole &= missing == 0;
        let mut elements = elements(field, &lines);
        if missing > 0 {
            let note =
                format!("[shown in part: {missing} characters more; `countersign holds show {}` has all]", card.hold);
            elements.push(section(&[text(&note, true)]));
        }
        if !elements.is_empty() {
            blocks.push(json!({ "type": "rich_text", "elements": elements }));
        }
    }
    if !is_whole {
        let note = "This message shows the request in part. Read all of it before you allow it.";
        blocks.push(json!({ "type": "section", "text": plain(note) }));
    }
    if has_buttons && card.state == HoldState::Pending {
        blocks.push(buttons(card));
    }
    let title = format!("{}: {}", card.state.as_str().to_uppercase(), card.title);
    Message { text: escaped(&cut(&title, TEXT_LIMIT)), blocks, is_whole }
}

/// A button says which hold, and what of it the message showed: nothing of the request itself.
fn buttons(card: &Card) -> Value {
    let value = format!("{}.{}", card.hold, card.digest);
    let button =
        |word: &str, label: &str| json!({ "type": "button", "action_id": word, "text": plain(label), "value": value });
    let (mut allow, mut deny) = (button("allow", "Allow…"), button("deny", "Deny…"));
    super::merge(&mut allow, json!({ "style": "primary" }));
    super::merge(&mut deny, json!({ "style": "danger" }));
    json!({ "type": "actions", "elements": [allow, deny, button("modify", "Modify…")] })
}

/// The message of a hold that nobody knows any more.
pub(super) fn gone(hold: &HoldId) -> Message {
    let said = "This hold ended while countersign was not running, and is not kept any more. Nothing ran since.";
    let header = json!({ "type": "header", "text": plain(&format!("{hold}  OVER")) });
    let blocks = vec![header, json!({ "type": "section", "text": plain(said) })];
    Message { text: format!("OVER: {hold}"), blocks, is_whole: true }
}

/// A message in the thread of a hold.
pub(super) fn thread(lines: &[String]) -> Message {
    let whole = cut(&lines.join("\n"), THREAD_LIMIT);
    let said = json!({ "type": "rich_text_preformatted", "elements": [text(&whole, false)] });
    let blocks = vec![json!({ "type": "rich_text", "elements": [said] })];
    Message { text: escaped(&cut(&whole, TEXT_LIMIT)), blocks, is_whole: true }
}

/// Parts by field, in the order of the card.
fn fields(card: &Card) -> Vec<(Field, Vec<&Part>)> {
    let mut fields: Vec<(Field, Vec<&Part>)> = Vec::new();
    for part in &card.parts {
        match (part, fields.last_mut()) {
            (Part::Field(field, _), Some((last, parts))) if last == field => parts.push(part),
            (Part::Field(field, _), _) => fields.push((*field, vec![part])),
            (_, Some((_, parts))) => parts.push(part),
            (_, None) => {}
        }
    }
    fields
}

/// How much of each field is shown: all of it where there is room, else at least a share of its own.
fn allowances(fields: &[(Field, Vec<&Part>)]) -> BTreeMap<Field, usize> {
    let mut wanted = BTreeMap::<Field, usize>::new();
    for (field, parts) in fields {
        *wanted.entry(*field).or_default() += parts.iter().map(|part| cost(part.text())).sum::<usize>();
    }
    let mut given: BTreeMap<Field, usize> =
        wanted.iter().map(|(field, wanted)| (*field, (*wanted).min(share(*field)))).collect();
    let mut left = MESSAGE_LIMIT.saturating_sub(given.values().sum());
    for field in BY_WORTH {
        if let (Some(given), Some(wanted)) = (given.get_mut(&field), wanted.get(&field)) {
            let more = (wanted - *given).min(left);
            *given += more;
            left -= more;
        }
    }
    given
}

/// What a field is shown of in any case; together no more than [`MESSAGE_LIMIT`].
const fn share(field: Field) -> usize {
    match field {
        Field::What | Field::Change | Field::Request => 1_000,
        Field::Who => 900,
        Field::Why | Field::Reach | Field::Decide => 500,
        Field::Where | Field::Time | Field::Ended => 250,
        Field::Hold | Field::Digest => 150,
    }
}

/// Who gets what is left, in turn.
const BY_WORTH: [Field; 8] =
    [Field::What, Field::Change, Field::Request, Field::Reach, Field::Who, Field::Decide, Field::Why, Field::Where];

/// The parts that fit into an allowance, the last of them cut, and the characters that are missing.
fn within(parts: Vec<&Part>, allowance: usize) -> (Vec<Part>, usize) {
    let (mut left, mut missing, mut shown) = (allowance, 0, Vec::new());
    for part in parts {
        let cost = cost(part.text());
        if cost <= left && missing == 0 {
            left -= cost;
            shown.push(part.clone());
            continue;
        }
        let is_first_missing = missing == 0;
        missing += part.text().chars().count();
        if is_first_missing {
            let kept = cut(part.text(), left);
            missing -= kept.chars().count().saturating_sub(CUT.chars().count());
            shown.push(match part {
                Part::Field(field, _) => Part::Field(*field, kept),
                Part::Said(_) => Part::Said(kept),
                Part::Quoted(_) => Part::Quoted(kept),
                Part::Claimed(_) => Part::Claimed(kept),
            });
        }
    }
    (shown, missing)
}

/// What the card says as sections, what it quotes in boxes between them.
fn elements(field: Field, parts: &[Part]) -> Vec<Value> {
    let (mut elements, mut said, mut quoted) = (Vec::new(), Vec::new(), String::new());
    let begin = |elements: &mut Vec<Value>, quoted: &mut String, said: &mut Vec<Value>, is_said: bool| {
        if is_said && !quoted.is_empty() {
            let lines = std::mem::take(quoted);
            elements.push(json!({ "type": "rich_text_preformatted", "elements": [text(&lines, false)] }));
        } else if !is_said && !said.is_empty() {
            elements.push(section(&std::mem::take(said)));
        }
    };
    for part in parts {
        match part {
            // It is the header.
            Part::Field(Field::Hold, _) => {}
            Part::Field(_, line) => {
                begin(&mut elements, &mut quoted, &mut said, true);
                let label = format!("{}  ", field.as_str().to_uppercase());
                said.extend([text(&label, true), text(&format!("{line}\n"), false)]);
            }
            Part::Said(line) => {
                begin(&mut elements, &mut quoted, &mut said, true);
                said.push(text(&format!("{line}\n"), false));
            }
            Part::Quoted(line) | Part::Claimed(line) => {
                begin(&mut elements, &mut quoted, &mut said, false);
                if !quoted.is_empty() {
                    quoted.push('\n');
                }
                quoted.push_str(line);
            }
        }
    }
    begin(&mut elements, &mut quoted, &mut said, true);
    begin(&mut elements, &mut quoted, &mut said, false);
    elements
}

fn section(texts: &[Value]) -> Value {
    json!({ "type": "rich_text_section", "elements": texts })
}

fn text(text: &str, is_bold: bool) -> Value {
    match is_bold {
        true => json!({ "type": "text", "text": text, "style": { "bold": true } }),
        false => json!({ "type": "text", "text": text }),
    }
}

pub(super) fn plain(text: &str) -> Value {
    json!({ "type": "plain_text", "text": text, "emoji": false })
}

/// What a line takes of a limit: characters as Slack may count them, in UTF-16 and with `&<>` as entities.
pub(super) fn cost(text: &str) -> usize {
    text.chars().map(character_cost).sum::<usize>() + 1
}

fn character_cost(character: char) -> usize {
    character.len_utf16() + if matches!(character, '&' | '<' | '>') { 4 } else { 0 }
}

/// The beginning of a text that is longer than that.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if cost(text) <= limit {
        return text.to_owned();
    }
    let mut left = limit.saturating_sub(CUT.len() + 1);
    let fits = |character: &char| {
        let cost = character_cost(*character);
        let is_room = cost <= left;
        left = left.saturating_sub(cost);
        is_room
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    kept.push_str(CUT);
    kept
}

/// As <https://docs.slack.dev/messaging/formatting-message-text#escaping> says.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const CUT: &str = " [cut here]";
/// For the text of a card in one message, marks for what is cut not counted.
const MESSAGE_LIMIT: usize = 6_500;
/// For a message in a thread: the longest reason of a person, and more.
const THREAD_LIMIT: usize = 3_500;
/// For what stands in a notification.
const TEXT_LIMIT: usize = 400;

#[cfg(test)]
mod tests;
