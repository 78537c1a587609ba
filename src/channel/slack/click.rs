//! Clicks and what follows them: a dialog for the reason, and then the verdict.
//!
//! A button names its hold and the digest that the message showed, nothing else; its dialog carries both on. So a
//! verdict is on what was on the screen, and the gate refuses it when that is not what would run.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::dialog::dialog;
use super::{Slack, blocks};
use crate::card::Card;
use crate::digest::Digest;
use crate::gate::{Approver, DecideError, Gate, HoldView, Verdict};
use crate::hold::{HoldState, Word};
use crate::id::HoldId;

/// What is behind the buttons of one channel.
pub(super) struct Clicks {
    pub(super) slack: Arc<Slack>,
    pub(super) gate: Arc<Gate>,
}

/// What a dialog remembers until it is sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub(super) word: String,
    pub(super) hold: String,
    pub(super) digest: String,
    pub(super) channel: String,
    /// Whether the message showed less than all.
    pub(super) partly: bool,
}

/// A field of a dialog and what is wrong with it.
type Wrong = (&'static str, String);

impl Clicks {
    /// Takes an interaction; what to answer it with, if anything.
    pub(super) async fn take(&self, payload: &Value) -> Option<Value> {
        match text(payload, "/type") {
            "block_actions" => {
                if let Err(why) = self.clicked(payload).await {
                    self.tell(text(payload, "/channel/id"), text(payload, "/user/id"), &why).await;
                }
                None
            }
            "view_submission" => {
                let (field, why) = self.submitted(payload).await.err()?;
                Some(json!({ "response_action": "errors", "errors": { field: why } }))
            }
            _ => None,
        }
    }

    /// Says in the channel what a dialog that is closed by now can no longer say.
    pub(super) async fn tell_late(&self, payload: &Value, reply: &Value) {
        let why = reply.pointer("/errors").and_then(Value::as_object).and_then(|errors| errors.values().next());
        if let (Some(asked), Some(why)) = (asked(payload), why.and_then(Value::as_str)) {
            self.tell(&asked.channel, text(payload, "/user/id"), why).await;
        }
    }

    /// Opens the dialog for a button. At once: Slack lets it be opened within three seconds alone.
    async fn clicked(&self, payload: &Value) -> Result<(), String> {
        let word = text(payload, "/actions/0/action_id");
        let (hold, digest) = text(payload, "/actions/0/value").split_once('.').ok_or(NO_BUTTON)?;
        let hold = self.gate.hold(&HoldId::new(hold)).ok_or_else(|| DecideError::NotFound.to_string())?;
        if hold.digest.hex() != digest {
            return Err(DecideError::DigestChanged.to_string());
        }
        if !matches!(hold.state, HoldState::Pending) {
            return Err(DecideError::NotOpen(hold.state.as_str()).to_string());
        }
        let card = Card::of(&hold, self.slack.clock.now());
        let asked = Asked {
            word: word.to_owned(),
            hold: hold.id.to_string(),
            digest: digest.to_owned(),
            channel: text(payload, "/channel/id").to_owned(),
            partly: !blocks::message(&card, true).is_whole,
        };
        let view = dialog(&asked, &card, &hold)?;
        let body = json!({ "trigger_id": text(payload, "/trigger_id"), "view": view });
        self.slack.web.call("views.open", &body).await.map(drop).map_err(|error| error.to_string())
    }

    /// Takes the verdict of a dialog.
    async fn submitted(&self, payload: &Value) -> Result<(), Wrong> {
        let of_reason = |why: String| (REASON, why);
        let asked = asked(payload).ok_or_else(|| of_reason(NO_BUTTON.to_owned()))?;
        let value = |field: &str| text(payload, &format!("/view/state/values/{field}/{field}/value"));
        let reason = value(REASON).trim();
        if reason.is_empty() || reason.chars().count() > REASON_LIMIT_CHARS {
            return Err(of_reason(format!("a reason is required, of at most {REASON_LIMIT_CHARS} characters")));
        }
        let read = payload.pointer("/view/state/values/read/read/selected_options").and_then(Value::as_array);
        if asked.partly && asked.word != Word::Deny.as_str() && read.is_none_or(Vec::is_empty) {
            return Err(("read", "read all of the request first".to_owned()));
        }
        let (person, credential) = self.slack.person(payload, &self.gate.people()).await.map_err(of_reason)?;
        let approver = Approver { person, method: "slack", credential };
        let digest = Digest::parse(&asked.digest).ok_or_else(|| of_reason(NO_BUTTON.to_owned()))?;
        let hold = HoldId::new(&asked.hold);
        let verdict = match asked.word.as_str() {
            "allow" => Verdict::Allow,
            "deny" => Verdict::Deny,
            "modify" => {
                let shown = self.gate.hold(&hold).ok_or_else(|| of_reason(DecideError::NotFound.to_string()))?;
                Verdict::Modify(edited(&shown, value(PARAMETERS)).map_err(|why| (PARAMETERS, why))?)
            }
            _ => return Err(of_reason(NO_BUTTON.to_owned())),
        };
        match self.gate.decide(&hold, Some(digest), &approver, verdict, reason).await {
            Ok(_) => Ok(()),
            Err(error @ DecideError::NotModifiable(_)) => Err((PARAMETERS, error.to_string())),
            Err(error) => Err(of_reason(error.to_string())),
        }
    }

    async fn tell(&self, channel: &str, user: &str, why: &str) {
        let message = json!({ "channel": channel, "user": user, "text": blocks::escaped(why), "parse": "none" });
        if let Err(error) = self.slack.web.call("chat.postEphemeral", &message).await {
            tracing::warn!(channel, %error, why, "a person could not be told why nothing was decided");
        }
    }
}

/// The members that a person changed in the parameters as they are shown; `null` for one that was taken out.
/// What stands for a secret stays as it is: the gate refuses a new one.
fn edited(hold: &HoldView, text: &str) -> Result<Map<String, Value>, String> {
    let after: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("this is no JSON object: {error}"))?;
    let before = hold.actions.first().map(|action| action.shown_parameters()).unwrap_or_default();
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let gone: Vec<_> = gone.collect();
    let changed = after.into_iter().filter(|(name, value)| before.get(name) != Some(value));
    Ok(changed.chain(gone).collect())
}

fn asked(payload: &Value) -> Option<Asked> {
    (text(payload, "/view/callback_id") == CALLBACK)
        .then(|| serde_json::from_str(text(payload, "/view/private_metadata")).ok())
        .flatten()
}

fn text<'a>(payload: &'a Value, pointer: &str) -> &'a str {
    payload.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// By which a dialog is known to be one for a verdict.
pub(super) const CALLBACK: &str = "verdict";
pub(super) const PARAMETERS: &str = "parameters";
pub(super) const REASON: &str = "reason";
/// As long as that of a verdict by the REST API.
pub(super) const REASON_LIMIT_CHARS: usize = 2_000;
const NO_BUTTON: &str = "this button is not one of countersign's";
