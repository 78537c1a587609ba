//! The JSON form of a hold. Parameters go out in their redacted form only.

use serde_json::{Map, Value, json};
use similar::TextDiff;

use crate::action::{Action, Context, Delta};
use crate::card;
use crate::gate::{HoldView, Preview};
use crate::hold::Change;
use crate::people::Requirement;

/// The hold as `components.schemas.Hold` of the OpenAPI document says, without its card.
pub(crate) fn hold(hold: &HoldView) -> Value {
    let ids = |ids: &[crate::id::PersonId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "id": hold.id.as_str(),
        "action_id": hold.action_id.as_str(),
        "state": hold.state.as_str(),
        "open": !hold.state.is_over(),
        "digest": hold.digest.hex(),
        "opened": hold.opened.rfc3339(),
        "expires": hold.expires.rfc3339(),
        "agent": { "id": hold.agent.id.as_str(), "owner": hold.agent.owner.to_string() },
        "peer": hold.peer.to_string(),
        "claimed": claimed(&hold.context),
        "actions": hold.actions.iter().map(Action::shown_json).collect::<Vec<_>>(),
        "request": {
            "method": hold.shown.method,
            "url": hold.shown.url,
            "headers": hold.shown.headers,
            "body_bytes": hold.shown.body_bytes,
            "body_sha256": hold.shown.body_sha256,
        },
        "reach": hold.shown.reach.iter().map(|(about, says)| json!({ "about": about, "says": says })).collect::<Vec<_>>(),
        "deltas": hold.shown.deltas.iter().map(Delta::json).collect::<Vec<_>>(),
        "rules": hold.ruling.rules.iter().map(|rule| rule.as_str()).collect::<Vec<_>>(),
        "message": hold.ruling.message,
        "controls": hold.ruling.controls,
        "requirements": hold.ruling.requirements.iter().map(Requirement::json).collect::<Vec<_>>(),
        "progress": hold.progress.iter().map(|(stage, have)| json!({ "stage": stage, "have": have })).collect::<Vec<_>>(),
        "attached": hold.attached,
        "eligible": ids(&hold.eligible),
        "votes": hold.votes.iter().map(|vote| json!({
            "person": vote.person.as_str(),
            "verdict": vote.word.as_str(),
            "reason": vote.reason,
            "at": vote.at.rfc3339(),
            "void": vote.void,
        })).collect::<Vec<_>>(),
        "modified": hold.modified.iter().map(|change| json!({
            "pointer": change.pointer,
            "before": change.before,
            "after": change.after,
        })).collect::<Vec<_>>(),
        "upstream_status": hold.upstream_status,
    })
}

/// What a modification would come to, as `components.schemas.Preview` says.
pub(super) fn preview(preview: &Preview) -> Value {
    json!({
        "digest": preview.digest.hex(),
        "actions": preview.actions.iter().map(Action::shown_json).collect::<Vec<_>>(),
        "modified": preview.changes.iter().map(|change| json!({
            "pointer": change.pointer,
            "before": change.before,
            "after": change.after,
            "lines": lines(change),
        })).collect::<Vec<_>>(),
        "requirements": preview.requirements.iter().map(Requirement::json).collect::<Vec<_>>(),
        "asks": preview.requirements.iter().map(Requirement::describe).collect::<Vec<_>>(),
    })
}

/// The lines in which two values differ, with some around them, as people are to read them: each begins with `+`,
/// `-` or a space, and no character in it hides or moves another.
fn lines(change: &Change) -> Vec<String> {
    let text = |value: &Option<Value>| match value {
        None => String::new(),
        // A policy, say, is compared in lines, whoever wrote it in one.
        Some(Value::String(text)) => card::reindented(text).unwrap_or_else(|| text.clone()),
        Some(value) => serde_json::to_string_pretty(value).unwrap_or_default(),
    };
    let [before, after] = [&change.before, &change.after].map(text);
    let difference = TextDiff::from_lines(&before, &after);
    let mut lines = Vec::new();
    for group in difference.grouped_ops(CONTEXT_LINES) {
        for change in group.iter().flat_map(|operation| difference.iter_changes(operation)) {
            lines.push(format!("{}{}", change.tag(), card::visible(change.value().trim_end_matches('\n'))));
        }
    }
    lines
}

/// Lines without a difference that stand around each one.
const CONTEXT_LINES: usize = 3;

/// Only what the agent said; absent claims are absent here.
fn claimed(context: &Context) -> Map<String, Value> {
    [
        ("model", &context.model),
        ("session", &context.session),
        ("task", &context.task),
        ("reason", &context.reason),
        ("initiator", &context.initiator),
        ("trace", &context.trace),
    ]
    .into_iter()
    .filter_map(|(name, claim)| Some((name.to_owned(), Value::String(claim.clone()?))))
    .collect()
}
