//! The JSON form of a hold. Parameters go out in their redacted form only.

use serde_json::{Map, Value, json};

use crate::action::{Action, Context, Delta};
use crate::gate::HoldView;
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
