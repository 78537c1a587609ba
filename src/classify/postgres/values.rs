//! Values that Bind gives to a statement's parameters.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{BoundValue, Statement};
use crate::action::Action;

/// See [`super::with_values`].
pub(super) fn with_values(statement: &Statement, values: &[BoundValue<'_>]) -> Arc<[Action]> {
    if values.is_empty() {
        return Arc::clone(&statement.actions);
    }
    let shown = Value::Array(values.iter().map(shown).collect());
    let with = |action: &Action| {
        let mut action = action.clone();
        action.parameters.insert("params".to_owned(), shown.clone());
        action
    };
    statement.actions.iter().map(with).collect()
}

/// Text as it is, binary forms of the plain types as what they mean, others as `{"base64": …}`.
fn shown(value: &BoundValue<'_>) -> Value {
    let Some(bytes) = value.bytes else { return Value::Null };
    if !value.is_binary
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return Value::String(text.to_owned());
    }
    let plain = if value.is_binary { plain(value.type_oid, bytes) } else { None };
    plain.unwrap_or_else(|| json!({ "base64": STANDARD.encode(bytes) }))
}

/// The binary forms of `pg_type`'s plain types (oids of `pg_type.dat`).
fn plain(type_oid: u32, bytes: &[u8]) -> Option<Value> {
    Some(match type_oid {
        16 => json!(*bytes.first().filter(|_| bytes.len() == 1)? != 0),
        20 => json!(i64::from_be_bytes(bytes.try_into().ok()?)),
        21 => json!(i16::from_be_bytes(bytes.try_into().ok()?)),
        23 => json!(i32::from_be_bytes(bytes.try_into().ok()?)),
        26 => json!(u32::from_be_bytes(bytes.try_into().ok()?)),
        700 => json!(f32::from_be_bytes(bytes.try_into().ok()?)),
        701 => json!(f64::from_be_bytes(bytes.try_into().ok()?)),
        // text, varchar, bpchar, name, unknown, json, xml
        19 | 25 | 114 | 142 | 705 | 1042 | 1043 => json!(std::str::from_utf8(bytes).ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
