//! The dialogs behind the buttons of a message.

use serde_json::{Value, json};

use super::blocks::{cost, cut, plain};
use super::click::{Asked, CALLBACK, PARAMETERS, REASON, REASON_LIMIT_CHARS};
use crate::card::{Card, escaped_json};
use crate::gate::HoldView;

/// The dialog for the button that was clicked.
///
/// # Errors
/// What to say where there is none: Slack's fields are too short for these parameters, or that is no button of ours.
pub(super) fn dialog(asked: &Asked, card: &Card, hold: &HoldView) -> Result<Value, String> {
    let title = match asked.word.as_str() {
        "allow" => "Allow",
        "deny" => "Deny",
        "modify" => "Modify",
        _ => return Err("this button is not one of countersign's".to_owned()),
    };
    let digest = asked.digest.get(..12).unwrap_or_default();
    let mut blocks = vec![
        section(&cut(&card.title, 1_500)),
        section(&format!("{}, digest {digest}: exactly what the message shows, or nothing.", asked.hold)),
    ];
    if asked.word == "modify" {
        let parameters = hold.actions.first().map(|action| action.shown_parameters()).unwrap_or_default();
        let text = escaped_json(&serde_json::to_string_pretty(&parameters).unwrap_or_default());
        if cost(&text) > FIELD_LIMIT {
            return Err(format!(
                "these parameters are too long for Slack's fields; `countersign modify {}` changes them",
                asked.hold
            ));
        }
        let element = json!({
            "type": "plain_text_input", "action_id": PARAMETERS, "multiline": true, "initial_value": text,
            "max_length": FIELD_LIMIT,
        });
        blocks.push(input(PARAMETERS, "Parameters, as JSON", element));
    }
    let element = json!({
        "type": "plain_text_input", "action_id": REASON, "multiline": true, "min_length": 1,
        "max_length": REASON_LIMIT_CHARS,
    });
    blocks.push(input(REASON, "Reason, for the log and the agent", element));
    if asked.partly && asked.word != "deny" {
        let option = json!({ "text": plain("I have read all of it, outside of Slack"), "value": "read" });
        let element = json!({ "type": "checkboxes", "action_id": "read", "options": [option] });
        blocks.push(input("read", "The message shows the request in part", element));
    }
    Ok(json!({
        "type": "modal",
        "callback_id": CALLBACK,
        "title": plain(title),
        "submit": plain(title),
        "close": plain("Back"),
        "private_metadata": serde_json::to_string(asked).unwrap_or_default(),
        "blocks": blocks,
    }))
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": plain(text) })
}

fn input(id: &str, label: &str, element: Value) -> Value {
    json!({ "type": "input", "block_id": id, "label": plain(label), "element": element })
}

/// Longest text of an input.
const FIELD_LIMIT: usize = 3_000;
