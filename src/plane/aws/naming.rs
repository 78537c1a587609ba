//! From a head and what is known of its body to the actions and the call they stand for; and from
//! an approver's modification to the same again, over new bytes.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::before::Found;
use super::call::{BodyIdentity, Call, Endpoints};
use super::dialect::{Cause, Fault, Shape};
use crate::action::{Action, Shown, Trait};
use crate::classify::aws::{Body, Front, NarrowError, Route, classify, narrow};
use crate::digest::{Digest, sha256};
use crate::gate::{Modified, NarrowFn};
use crate::wire::head::Head;

/// What naming needs besides the request; one for the plane until it learns more.
#[derive(Debug)]
pub(super) struct Naming {
    pub(super) front: Front,
    pub(super) endpoints: Endpoints,
}

/// A request with a name and a place to go to.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) actions: Vec<Action>,
    pub(super) route: Route,
    pub(super) shape: Shape,
}

/// A modified request, ready to be sent.
#[derive(Debug)]
pub(super) struct Narrowed {
    pub(super) actions: Vec<Action>,
    pub(super) call: Call,
    pub(super) body: Bytes,
}

impl Naming {
    /// The digest of that call, run by the upstream identity this names by.
    pub(super) fn digest(&self, call: &Call, body: BodyIdentity) -> Digest {
        call.digest(body, self.front.account.as_deref())
    }

    /// # Errors
    /// When the request contradicts itself, or names no place it could be sent to.
    pub(super) fn name(&self, head: &Head, body: Body<'_>) -> Result<Named, Fault> {
        let classified = classify(head, body, &self.front);
        let malformed = |text: String| Fault::new(Cause::Malformed, text);
        if let Some(reason) = classified.refused {
            return Err(malformed(format!("the request has more than one reading: {reason}.")));
        }
        let Some(route) = classified.route else {
            let why = classified.actions.iter().find_map(|action| action.unknown.as_deref()).unwrap_or("unknown host");
            return Err(malformed(format!("the request cannot be sent anywhere: {why}.")));
        };
        if classified.actions.is_empty() {
            return Err(malformed("the request names no action.".to_owned()));
        }
        Call::check(head, &route).map_err(|error| malformed(format!("{error}.")))?;
        let shape = Shape::of(classified.dialect, &route.signing_name, head);
        Ok(Named { actions: classified.actions, route, shape })
    }

    /// The request as it would be sent.
    ///
    /// # Errors
    /// When a field of a presigned URL contradicts a header field.
    pub(super) fn call(&self, head: Head, route: Route) -> Result<Call, Fault> {
        Call::new(head, route, &self.endpoints).map_err(|error| Fault::new(Cause::Malformed, format!("{error}.")))
    }
}

/// The parts of a request from which a modified one can be made.
#[derive(Debug)]
pub(super) struct Original {
    pub(super) naming: Arc<Naming>,
    pub(super) head: Head,
    pub(super) body: Bytes,
}

impl Original {
    /// The request with `parameters` in place of its own, named anew.
    ///
    /// # Errors
    /// When it cannot be written anew, or the result is not clearly the same operation at the same place.
    pub(super) fn narrow(&self, parameters: &Map<String, Value>) -> Result<Narrowed, NarrowError> {
        if let Some(name) = self.head.headers.keys().find(|name| is_bound_to_bytes(name.as_str())) {
            return Err(NarrowError(format!("its field `{name}` vouches for the exact bytes of the body")));
        }
        let (head, body) = narrow(&self.head, &self.body, &self.naming.front, parameters)?;
        let refused = |fault: Fault| NarrowError(format!("the result is refused: {}", fault.message()));
        let Named { actions, route, .. } = self.naming.name(&head, Body::Whole(&body)).map_err(refused)?;
        let call = self.naming.call(head, route).map_err(refused)?;
        Ok(Narrowed { actions, call, body: Bytes::from(body) })
    }

    /// As the gate needs it, to judge a modification while its approver waits.
    pub(super) fn narrow_fn(self: Arc<Self>, found: Found) -> NarrowFn {
        Arc::new(move |parameters| {
            let Narrowed { actions, call, body } = self.narrow(parameters).map_err(|e| e.to_string())?;
            let identity = BodyIdentity::of(&body);
            Ok(Modified {
                digest: self.naming.digest(&call, identity),
                shown: Arc::new(Shown {
                    deltas: found.deltas(&actions, Some(&body)),
                    ..call.shown(identity, &actions)
                }),
                actions: actions.into(),
                wording: None,
            })
        })
    }

    /// What the modification changes, for the client: the top-level members that differ, new values
    /// in, secrets and long texts left out. ASCII, short enough for a header field.
    pub(super) fn difference(&self, narrowed: &Narrowed) -> String {
        let before = self.naming.name(&self.head, Body::Whole(&self.body)).ok();
        let before = before.as_ref().and_then(|named| named.actions.first());
        let after = narrowed.actions.first();
        let (Some(before), Some(after)) = (before, after) else { return "{}".to_owned() };
        let (old, new) = (before.shown_parameters(), after.shown_parameters());
        let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
        let changed = names.filter(|name| before.parameters.get(*name) != after.parameters.get(*name));
        let members: Map<String, Value> =
            changed.map(|name| (name.clone(), new.get(name).cloned().unwrap_or(Value::Null))).collect();
        let text = ascii_json(&Value::Object(members.clone()));
        if text.len() <= DIFFERENCE_LIMIT_BYTES {
            return text;
        }
        let names = Value::Array(members.keys().take(20).map(|name| Value::String(name.clone())).collect());
        let text = ascii_json(&serde_json::json!({ "changed": names }));
        if text.len() <= DIFFERENCE_LIMIT_BYTES { text } else { "{\"changed\":[]}".to_owned() }
    }
}

impl BodyIdentity {
    pub(super) fn of(body: &[u8]) -> Self {
        Self { size: Some(body.len() as u64), sha256: Some(sha256(body)) }
    }
}

/// The same actions as what they are when their body cannot be seen.
pub(super) fn unseen(actions: &[Action], limit_bytes: u64) -> Vec<Action> {
    let reason = format!("the body is larger than the {limit_bytes} bytes that are looked at");
    let unseen = |action: &Action| Action {
        traits: action.traits.with(Trait::Unknown),
        unknown: Some(action.unknown.clone().unwrap_or_else(|| reason.clone())),
        ..action.clone()
    };
    actions.iter().map(unseen).collect()
}

fn is_bound_to_bytes(name: &str) -> bool {
    matches!(name, "content-md5" | "content-encoding" | "digest" | "content-digest")
        || name.starts_with("x-amz-checksum-")
        || name == "x-amz-trailer"
}

/// JSON with everything outside printable ASCII as `\u` escapes, so that it can stand in a header.
fn ascii_json(value: &Value) -> String {
    let mut text = String::new();
    for character in value.to_string().chars() {
        if character == ' ' || character.is_ascii_graphic() {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

const DIFFERENCE_LIMIT_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_json_can_stand_in_a_header_and_means_the_same() {
        let value = serde_json::json!({"a": "é\u{202e}\u{1f600}\r\n\u{7f}", "b": [1, null]});
        let text = ascii_json(&value);
        assert!(text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}

#[cfg(test)]
mod places;
