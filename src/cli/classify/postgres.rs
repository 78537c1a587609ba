//! `countersign classify --plane postgres`: SQL in, one action per statement and per hidden part out.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::action::Action;
use crate::classify::postgres::tags::Tags;
use crate::classify::postgres::{
    BoundValue, Catalogue, Effect, Settings, function_call, parse, parse_replication, with_values,
};

/// What a line may say of the session that the SQL belongs to; what it leaves out is as a new session has it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Session {
    search_path: Option<Vec<String>>,
    standard_conforming_strings: Option<bool>,
    client_encoding: Option<String>,
    user: Option<String>,
    database: Option<String>,
    /// Prepared statements by name.
    prepared: BTreeMap<String, String>,
    /// The connection takes replication commands.
    replication: bool,
    /// What is sensitive, as `upstream.postgres.tags` says it.
    tags: BTreeMap<String, Vec<String>>,
}

/// Names the SQL of one line.
///
/// # Errors
/// What of the line cannot be read.
pub(super) fn name(request: &Map<String, Value>) -> Result<Vec<Action>, String> {
    let session = request.get("session").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let session: Session = serde_json::from_value(session).map_err(|error| format!("`session`: {error}"))?;
    let settings = settings(&session);
    let mut tags = Tags::default();
    for (tag, place) in session.tags.iter().flat_map(|(tag, places)| places.iter().map(move |it| (tag, it))) {
        tags.add(tag, place).map_err(|why| format!("`tags`: `{place}`: {why}"))?;
    }
    let catalogue = Catalogue::builtin().with_tags(Arc::new(tags));
    if let Some(oid) = request.get("function") {
        let oid = oid.as_u64().and_then(|oid| u32::try_from(oid).ok()).ok_or("`function` is not an oid")?;
        return Ok(function_call(oid, &settings, &catalogue).actions.to_vec());
    }
    let sql = sql(request)?;
    let values = values(request)?;
    let bound: Vec<BoundValue<'_>> =
        values.iter().map(|value| BoundValue { bytes: value.as_deref(), is_binary: false, type_oid: 0 }).collect();
    let parsed = if session.replication {
        parse_replication(&sql, &settings, &catalogue)
    } else {
        parse(&sql, &settings, &catalogue)
    };
    let mut actions: Vec<Action> = Vec::new();
    let mut prepared = session.prepared;
    for statement in &parsed.statements {
        actions.extend(with_values(statement, &bound).iter().cloned());
        match &statement.effect {
            Effect::Prepare { name, body, .. } => drop(prepared.insert(name.clone(), body.clone())),
            Effect::Execute { name, .. } => {
                let body = prepared.get(name).map(|body| parse(body.as_bytes(), &settings, &catalogue));
                actions.extend(body.iter().flat_map(|it| &it.statements).flat_map(|it| it.actions.to_vec()));
            }
            _ => {}
        }
    }
    Ok(actions)
}

fn settings(session: &Session) -> Settings {
    let usual = Settings::default();
    Settings {
        standard_conforming_strings: session.standard_conforming_strings.unwrap_or(usual.standard_conforming_strings),
        client_encoding: session.client_encoding.clone().unwrap_or(usual.client_encoding),
        search_path: session.search_path.clone().unwrap_or(usual.search_path),
        user: session.user.clone().unwrap_or(usual.user),
        database: session.database.clone().unwrap_or(usual.database),
    }
}

fn sql(request: &Map<String, Value>) -> Result<Arc<[u8]>, String> {
    match (request.get("sql"), request.get("sql_base64")) {
        (Some(Value::String(sql)), None) => Ok(sql.as_bytes().into()),
        (None, Some(Value::String(text))) => {
            let bytes = STANDARD.decode(text).map_err(|error| format!("`sql_base64` is malformed: {error}"))?;
            Ok(bytes.into())
        }
        (None, None) => Err("there is no `sql`".to_owned()),
        _ => Err("`sql` is not a text".to_owned()),
    }
}

/// Values of parameters: texts, numbers and booleans as their text, null.
fn values(request: &Map<String, Value>) -> Result<Vec<Option<Vec<u8>>>, String> {
    let read = |value: &Value| match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone().into_bytes())),
        Value::Number(number) => Ok(Some(number.to_string().into_bytes())),
        Value::Bool(value) => Ok(Some(value.to_string().into_bytes())),
        _ => Err("`params` has a value that is no text, number or boolean".to_owned()),
    };
    match request.get("params") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(read).collect(),
        Some(_) => Err("`params` is not a list".to_owned()),
    }
}

#[cfg(test)]
mod tests;
