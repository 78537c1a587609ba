//! The gate's records: what goes into the log about each event of a request.
//!
//! Parameters are always the shown ones, so no secret reaches the log.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::book::Entry;
use super::permit::{Matched, Outcome, Passed};
use super::{Approver, Ask, Look, Modified, Passing, Refusal, Wording};
use crate::action::{Action, Context, Delta, Shown, Trait};
use crate::audit::record::{Kind, Record};
use crate::audit::spelling::{Members, write_decimal, write_map};
use crate::credential::assume::Session;
use crate::digest::{Digest, write_array, write_json_string, write_object};
use crate::hold::{Change, Ending, HoldState};
use crate::id::{ActionId, HoldId, RuleId};
use crate::people::{People, Person, Requirement};
use crate::rules::Ruling;

/// About what a matched request takes.
const MATCHED_BYTES: usize = 2048;

/// An unmatched request: as short as an auditor's count of the population allows.
pub(super) fn passed(request: &Passing<'_>) -> Record {
    let action = request.actions.first();
    let statement = request.wording.and_then(|it| it.text.as_ref()).map_or(0, |it| it.len());
    let record = Record::with_capacity(Kind::ActionPassed, 512 + statement)
        .text_if("access", action.map(|it| it.access.as_str()))
        .text_if("action", action.map(|it| &*it.name))
        .text("action_id", request.action_id.as_str())
        .text("agent", request.agent.id.as_str())
        .digest("facts", request.facts)
        .text("key_id", request.key_id)
        .address("peer", request.peer);
    let record = match action {
        Some(action) => record.text_if("region", action.region.as_deref()).texts("resources", action.resources.iter()),
        None => record,
    };
    match request.wording {
        Some(wording) => worded(record, wording),
        None => record,
    }
}

/// What a statement says, as far as a record says it.
fn worded(record: Record, wording: &Wording) -> Record {
    let size = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
    let record = record
        .text_if("statement", wording.text.as_deref())
        .integer("statement_bytes", size(wording.bytes))
        .digest("statement_commitment", wording.commitment);
    let Some(values) = &wording.values else { return record };
    let write_one = |(kind, bytes): &(u32, Option<usize>), text: &mut String| {
        Members::object(text, |members| {
            if let Some(bytes) = bytes {
                members.member("bytes", |text| write_decimal(*bytes as u64, 1, text));
            }
            members.member("type", |text| write_decimal(u64::from(*kind), 1, text));
        });
    };
    record
        .member("values", |text| write_array(&values.first, text, write_one))
        .digest("values_commitment", values.commitment)
        .integer("values_count", size(values.count))
}

/// Appends the actions as a record holds them.
fn write_actions(actions: &[Action], wording: Option<&Wording>, text: &mut String) {
    match wording.and_then(|wording| Some((wording, wording.redaction?))) {
        None => write_array(actions, text, write_action),
        Some((wording, redaction)) => write_array(actions, text, |action, text| {
            write_action(&(redaction.action)(action, wording.text.is_some()), text);
        }),
    }
}

/// A matched request with everything about it; `digest` is what its verdict or forward is bound to.
/// `deltas` are those that people were shown.
fn matched(
    kind: Kind,
    ask: &Ask,
    ruling: &Ruling,
    rule_set: Digest,
    digest: Option<Digest>,
    deltas: &[Delta],
) -> Record {
    let (shown, wording) = (&ask.shown, ask.wording.as_deref());
    let record = Record::with_capacity(kind, MATCHED_BYTES)
        .text("action_id", ask.action_id.as_str())
        .member("actions", |text| write_actions(&ask.actions, wording, text))
        .text("agent", ask.agent.id.as_str());
    // The plain hash of a statement would confirm a guess of its constants.
    let record = match wording {
        Some(wording) => worded(record, wording),
        None => record
            .integer("body_bytes", i64::try_from(shown.body_bytes).unwrap_or(i64::MAX))
            .text("body_sha256", shown.body_sha256.as_str()),
    };
    let record = record
        .member("claimed", |text| write_claims(&ask.context, text))
        .texts("controls", &ruling.controls)
        .text("decision", ruling.decision.as_str())
        .digest_if("digest", digest)
        .digest("facts", ask.facts)
        .member("headers", |text| write_object(&shown.headers, text, |value, text| write_json_string(value, text)))
        .text("key_id", ask.key_id.as_str())
        .text("method", shown.method.as_str())
        .text("owner", ask.agent.owner.to_string())
        .address("peer", ask.peer);
    let record = match shown.reach.is_empty() {
        true => record,
        false => record.texts("reach", shown.reach.iter().map(|(about, says)| format!("{about}: {says}"))),
    };
    let record = with_deltas(record, deltas);
    let record = record
        .digest("request_digest", ask.digest)
        .text_if("retry_id", ask.retry_id.as_deref())
        .digest("rule_set", rule_set)
        .texts("rules", ruling.rules.iter().map(RuleId::as_str));
    let record = match kind {
        Kind::ActionForward => {
            record.digest("signature", ask.signature).timestamp("signature_expires", ask.signature_expires)
        }
        _ => record,
    };
    let record = record.text("url", shown.url.as_str());
    let record = with_crossed(record, shown);
    if ruling.faults.is_empty() { record } else { record.texts("faults", &ruling.faults) }
}

/// The right to send is about to be given: durable before the first byte leaves.
pub(super) fn forward(ask: &Ask, ruling: &Ruling, rule_set: Digest, effective: Digest, hold: Option<&Entry>) -> Record {
    let deltas = hold.map_or(&ask.shown.deltas, |entry| &entry.about.shown.deltas);
    let mut record = matched(Kind::ActionForward, ask, ruling, rule_set, Some(effective), deltas);
    if let Some(entry) = hold {
        record = record
            .text("hold", entry.about.id.as_str())
            .digest("approved_digest", entry.bound_digest())
            .texts("approved_by", entry.hold.allowed().iter().map(|said| said.person.as_str()));
        if !entry.about.changes.is_empty() {
            let wording = ask.wording.as_deref();
            record = record.json("modified", &changes(&entry.about.changes, &entry.about.actions, wording));
        }
    }
    record
}

pub(super) fn held(ask: &Ask, entry: &Entry) -> Record {
    let ruling = &entry.about.ruling;
    let deltas = &entry.about.shown.deltas;
    matched(Kind::ActionHeld, ask, ruling, entry.about.rule_set, Some(entry.bound_digest()), deltas)
        .text("hold", entry.about.id.as_str())
        .timestamp("expires", entry.hold.deadline())
        .json("requirements", &Value::Array(ruling.requirements.iter().map(Requirement::json).collect()))
}

/// What a hold's request would change is not what was shown; it is now what stands here, under that digest.
pub(super) fn outdated(entry: &Entry, deltas: &[Delta], digest: Digest) -> Record {
    let record = about_hold(Kind::ApprovalOutdated, entry)
        .texts("allowed_by", entry.hold.allowed().iter().map(|said| said.person.as_str()))
        .digest("before", entry.bound_digest())
        .digest("digest", digest);
    with_deltas(record, deltas)
}

/// A question about what a request would change.
pub(super) fn look(look: &Look<'_>) -> Record {
    let (bytes, sha256) = look.body;
    Record::new(Kind::ActionLook)
        .text("action_id", look.action_id.as_str())
        .member("actions", |text| write_actions(look.actions, None, text))
        .text("agent", look.agent.as_str())
        .integer("body_bytes", i64::try_from(bytes).unwrap_or(i64::MAX))
        .digest("body_sha256", sha256)
        .text_if("hold", look.hold.map(HoldId::as_str))
        .text("method", look.method)
        .text("reason", if look.hold.is_some() { "release" } else { "hold" })
        .text("upstream_key_id", look.upstream_key_id)
        .text("url", look.url)
}

fn with_deltas(record: Record, deltas: &[Delta]) -> Record {
    match deltas.is_empty() {
        true => record,
        false => record.json("deltas", &deltas.iter().map(Delta::json).collect()),
    }
}

/// A later attempt of the same call attached to its hold.
pub(super) fn joined(ask: &Ask, hold: &HoldId) -> Record {
    Record::new(Kind::ActionJoined)
        .text("action_id", ask.action_id.as_str())
        .text("agent", ask.agent.id.as_str())
        .text("hold", hold.as_str())
        .address("peer", ask.peer)
        .text_if("retry_id", ask.retry_id.as_deref())
}

/// A request that ends here without having been held.
pub(super) fn stopped(ask: &Ask, ruling: &Ruling, rule_set: Digest, ending: Ending, message: &str) -> Record {
    let kind = if ending == Ending::RuleDenied { Kind::ActionDenied } else { Kind::ActionRefused };
    matched(kind, ask, ruling, rule_set, None, &ask.shown.deltas)
        .text("ending", ending.as_str())
        .text("message", message)
}

/// A request refused before it could be judged, after `suppressed` ones that were not recorded.
pub(super) fn refused(refusal: &Refusal, suppressed: i64) -> Record {
    let record = Record::new(Kind::ActionRefused)
        .text_if("agent", refusal.agent.as_ref().map(|agent| agent.id.as_str()))
        .text("code", refusal.code)
        .text("message", refusal.reason.as_str())
        .address("peer", refusal.peer);
    if suppressed > 0 { record.integer("suppressed", suppressed) } else { record }
}

/// A verdict, as given.
pub(super) fn vote(entry: &Entry, approver: &Approver, word: &str, reason: &str) -> Record {
    about_hold(Kind::ApprovalVote, entry)
        .text("verdict", word)
        .text("person", approver.person.as_str())
        .text("method", approver.method)
        .text("credential", approver.credential.as_str())
        .text("reason", reason)
        .digest("digest", entry.bound_digest())
}

/// A verdict that was not taken.
pub(super) fn vote_refused(hold: &HoldId, approver: &Approver, word: &str, why: &str) -> Record {
    Record::new(Kind::ApprovalRefused)
        .text("hold", hold.as_str())
        .text("verdict", word)
        .text("person", approver.person.as_str())
        .text("method", approver.method)
        .text("credential", approver.credential.as_str())
        .text("message", why)
}

/// An approver's modification: what changed, and what it is now.
pub(super) fn modified(
    entry: &Entry,
    approver: &Approver,
    modified: &Modified,
    difference: &[Change],
    digest: Digest,
) -> Record {
    let (actions, wording) = (&*modified.actions, modified.wording.as_deref());
    let record = about_hold(Kind::ApprovalModified, entry)
        .text("person", approver.person.as_str())
        .json("modified", &changes(difference, actions, wording))
        .member("actions", |text| write_actions(actions, wording, text))
        .digest("digest", digest);
    match wording {
        Some(wording) => worded(record, wording),
        None => record,
    }
}

/// The hold came to a state without a forward being reported.
pub(super) fn ended(entry: &Entry, by: Option<&str>) -> Option<Record> {
    let kind = match entry.hold.state() {
        HoldState::Approved => Kind::ActionApproved,
        HoldState::Ended(Ending::Denied) => Kind::ActionDenied,
        HoldState::Ended(Ending::Expired | Ending::TransactionLimit | Ending::UpstreamLimit) => Kind::ActionExpired,
        HoldState::Ended(Ending::Withdrawn) => Kind::ActionWithdrawn,
        HoldState::Ended(Ending::Cancelled) => Kind::ActionCancelled,
        HoldState::Ended(Ending::Superseded) => Kind::ActionSuperseded,
        HoldState::Ended(Ending::OutcomeUnknown) => Kind::ActionOutcomeUnknown,
        HoldState::Ended(_) => Kind::ActionRefused,
        _ => return None,
    };
    Some(
        about_hold(kind, entry)
            .text("ending", entry.hold.state().as_str())
            .text_if("by", by)
            .texts("allowed_by", entry.hold.allowed().iter().map(|said| said.person.as_str())),
    )
}

/// How a forwarded request ended that no rule matched: its one record, or when that is written already another.
pub(super) fn passed_outcome(
    action_id: &ActionId,
    passed: Passed,
    session: Option<&Session>,
    outcome: &Outcome,
) -> Record {
    let late = || Record::new(Kind::ActionOutcome).text("action_id", action_id.as_str());
    with_outcome(passed.record.unwrap_or_else(late), None, session, outcome)
}

/// How a forwarded request ended that a rule matched.
pub(super) fn matched_outcome(
    action_id: &ActionId,
    matched: &Matched,
    session: Option<&Session>,
    outcome: &Outcome,
) -> Record {
    let record = Record::new(Kind::ActionOutcome).text("action_id", action_id.as_str());
    with_outcome(record, Some(matched), session, outcome)
}

fn with_outcome(record: Record, matched: Option<&Matched>, session: Option<&Session>, outcome: &Outcome) -> Record {
    let integer = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    let (bytes, sha256) = match outcome {
        Outcome::Answered { body_bytes, body_sha256, .. } => (*body_bytes, *body_sha256),
        Outcome::Finished(finished) => (Some(finished.bytes), None),
        Outcome::NotSent { .. } | Outcome::Unfit { .. } | Outcome::Unknown { .. } => (None, None),
    };
    // In the order of their names.
    let told = Record::with_capacity(record.kind(), 256)
        .integer_if("answer_bytes", bytes.map(integer))
        .digest_if("answer_sha256", sha256)
        .integer_if("forward_seq", matched.map(|it| integer(it.forward.seq())))
        .integer_if("held_us", matched.and_then(|it| it.held).map(micros))
        .text_if("hold", matched.and_then(|it| it.hold.as_ref()).map(HoldId::as_str));
    let told = match session {
        None => told,
        Some(Session { key, role, name }) => {
            told.text("upstream_key_id", key.id.as_str()).text("upstream_role", role).text("upstream_session", name)
        }
    };
    let told = match outcome {
        Outcome::Answered { status, upstream_request_id, .. } => told
            .text("outcome", "answered")
            .integer("status", i64::from(*status))
            .text_if("upstream_request_id", upstream_request_id.as_deref()),
        Outcome::Finished(it) => told
            .integer("duration_us", micros(it.duration))
            .text("outcome", "answered")
            .integer("rows", integer(it.rows))
            .text_if("sqlstate", it.sqlstate.as_deref())
            .text_if("tag", it.tag.as_deref()),
        Outcome::NotSent { reason } => told.text("message", reason.as_str()).text("outcome", "not-sent"),
        Outcome::Unfit { reason } => told.text("message", reason.as_str()).text("outcome", "unfit"),
        Outcome::Unknown { reason } => told.text("message", reason.as_str()).text("outcome", "unknown"),
    };
    record.with(&told)
}

/// A forward without an outcome that a start found in the log.
pub(super) fn outcome_unknown(action_id: &str, hold: Option<&str>) -> Record {
    Record::new(Kind::ActionOutcomeUnknown)
        .text("action_id", action_id)
        .text_if("hold", hold)
        .text("ending", Ending::OutcomeUnknown.as_str())
        .text(
            "message",
            "the process ended between forward and outcome; the action may have run and is never sent again",
        )
}

/// The rules in force, after a change or (`before` is then absent) at the start.
pub(super) fn rules_changed(before: Option<Digest>, after: Digest, superseded: usize) -> Record {
    Record::new(Kind::PolicyChange)
        .text_if("before", before.map(|digest| digest.hex()))
        .text("after", after.hex())
        .integer("superseded", i64::try_from(superseded).unwrap_or(i64::MAX))
}

/// The persons in force with their groups, after a change or at the start.
pub(super) fn people_changed(people: &People) -> Record {
    let one = |person: &Person| {
        let groups: Vec<_> = person.groups.iter().map(ToString::to_string).collect();
        let accounts: Vec<_> = person.accounts.iter().map(ToString::to_string).collect();
        json!({ "groups": groups, "emails": person.emails, "accounts": accounts })
    };
    let persons: BTreeMap<_, _> = people.persons().map(|person| (person.id.to_string(), one(person))).collect();
    let record = Record::new(Kind::ConfigChange).text("what", "people").json("people", &json!(persons));
    record.json("rota", &people.rota().json())
}

/// The table of facts by which requests are named, after a change or at the start.
pub(super) fn facts_changed(digest: Digest, version: &str) -> Record {
    Record::new(Kind::ConfigChange).text("what", "facts").digest("facts", digest).text("version", version)
}

/// Holds that a start found open in the state database, with what the log says they are.
pub(super) fn holds_corrected(holds: Vec<(String, &'static str)>) -> Record {
    let holds: BTreeMap<String, &str> = holds.into_iter().collect();
    Record::new(Kind::ConfigChange).text("what", "holds").json("holds", &json!(holds))
}

/// The action with every secret replaced.
pub(super) fn shown_action(action: &Action) -> Action {
    Action { parameters: action.shown_parameters(), ..action.clone() }
}

/// The difference with secret values replaced.
pub(super) fn shown_changes(difference: &[Change], actions: &[Action]) -> Vec<Change> {
    let is_secret = |pointer: &str| {
        let member = pointer.trim_start_matches('/').split('/').next().unwrap_or_default();
        actions.iter().any(|action| action.sensitive.iter().any(|name| name == member))
    };
    difference
        .iter()
        .map(|change| {
            if is_secret(&change.pointer) {
                let hidden = |value: &Option<Value>| value.as_ref().map(|_| Value::from("[redacted]"));
                Change { pointer: change.pointer.clone(), before: hidden(&change.before), after: hidden(&change.after) }
            } else {
                change.clone()
            }
        })
        .collect()
}

/// What had passed of an answer that crossed limits.
fn with_crossed(record: Record, shown: &Shown) -> Record {
    let Some(crossed) = &shown.crossed else { return record };
    let value = json!({
        "answer_of": crossed.action_id.as_str(),
        "bytes": crossed.bytes,
        "rows": crossed.rows,
    });
    record.json("passed", &value)
}

fn about_hold(kind: Kind, entry: &Entry) -> Record {
    let record = Record::new(kind)
        .text("action_id", entry.about.action_id.as_str())
        .text("hold", entry.about.id.as_str())
        .text("agent", entry.about.agent.id.as_str())
        .texts("action", entry.about.actions.iter().map(|action| &*action.name));
    with_crossed(record, &entry.about.shown)
}

/// What the agent says about itself; what it does not say is left out.
fn write_claims(context: &Context, text: &mut String) {
    Members::object(text, |claims| {
        claims
            .text_if("initiator", context.initiator.as_deref())
            .text_if("model", context.model.as_deref())
            .text_if("reason", context.reason.as_deref())
            .text_if("session", context.session.as_deref())
            .text_if("task", context.task.as_deref())
            .text_if("trace", context.trace.as_deref());
    });
}

/// What [`Action::shown_json`] says.
fn write_action(action: &Action, text: &mut String) {
    let parameters = match action.sensitive.as_slice() {
        [] => Cow::Borrowed(&action.parameters),
        _ => Cow::Owned(action.shown_parameters()),
    };
    Members::object(text, |members| {
        let members = members
            .text("access", action.access.as_str())
            .text_or_null("account", action.account.as_deref())
            .text("action", &action.name)
            .texts("iam_actions", &action.iam_actions)
            .member("parameters", |text| write_map(&parameters, text))
            .text_or_null("region", action.region.as_deref())
            .texts("resources", &action.resources);
        let members = if action.tags.is_empty() { members } else { members.texts("tags", &action.tags) };
        members
            .texts("traits", action.traits.iter().map(Trait::as_str))
            .text_or_null("unknown", action.unknown.as_deref());
    });
}

fn changes(difference: &[Change], actions: &[Action], wording: Option<&Wording>) -> Value {
    let redaction = wording.and_then(|it| it.redaction);
    let recorded = |pointer: &str, value: Option<Value>| match redaction {
        Some(redaction) => value.map(|value| (redaction.value)(pointer.trim_start_matches('/'), &value)),
        None => value,
    };
    shown_changes(difference, actions)
        .into_iter()
        .map(|Change { pointer, before, after }| {
            json!({ "before": recorded(&pointer, before), "after": recorded(&pointer, after), "pointer": pointer })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::action::{Access, Traits};
    use crate::digest::canonical_json;

    proptest! {
        /// Records and people are given an action in the same words.
        #[test]
        fn an_action_is_written_as_it_is_shown(
            name in ".*", region: Option<String>, resources: Vec<String>, value in ".*", number: u32, hidden: bool,
        ) {
            let parameters = json!({"UserName": value, "b": {"\u{fb33}": number, "\u{1f600}": [value]}, "a": null});
            let action = Action {
                unknown: region.clone(),
                name: name.into(),
                access: Access::Write,
                traits: Traits::EMPTY.with(Trait::Exec).with(Trait::Privilege),
                account: region.as_ref().map(|_| value.clone()),
                region: region.map(Into::into),
                resources,
                parameters: parameters.as_object().unwrap().clone(),
                sensitive: hidden.then(|| "UserName".to_owned()).into_iter().collect(),
                tags: hidden.then(|| value.clone()).into_iter().collect(),
                iam_actions: vec![value.into()],
            };
            let mut text = String::new();
            write_action(&action, &mut text);
            prop_assert_eq!(text, canonical_json(&action.shown_json()));
        }
    }
}
