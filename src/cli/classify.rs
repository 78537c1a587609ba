//! `countersign classify`: names requests on the same code path as live traffic.
//!
//! One JSON object a line in, one a line out, in the same order. Input is whatever somebody captured
//! or made up: a line that cannot be read gives a refused line, never an end. Secret parameters are
//! shown by their size only, as on a card.

use std::io::{BufRead, Read, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use serde_json::{Map, Value, json};

use super::{Common, Exit};
use crate::action::Action;
use crate::catalog::aws::in_force;
use crate::classify::aws::{Body, Classified, Front, classify};
use crate::wire::head::Head;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// The plane the requests belong to.
    #[arg(long, value_enum)]
    plane: Plane,
    /// Host name that counts as an endpoint of ours; IP addresses and localhost always do.
    #[arg(long = "endpoint-host", value_name = "HOST")]
    endpoint_hosts: Vec<String>,
    /// Account of the upstream identity, for resource names.
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Table of AWS facts to name by (else that of the data directory, or the built-in one).
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,
    /// Requests, one JSON object a line (else standard input).
    #[arg(value_name = "FILE")]
    input: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Plane {
    Aws,
    Postgres,
}

mod postgres;

pub(crate) fn run(arguments: Arguments, common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let plane = arguments.plane;
    let hosts = arguments.endpoint_hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect();
    let facts = match &arguments.facts {
        Some(file) => crate::config::facts::load(file)?,
        None => {
            common.use_facts()?;
            in_force()
        }
    };
    let front = Front { facts, endpoint_hosts: hosts, account: arguments.account };
    match arguments.input {
        Some(path) => {
            let file = std::fs::File::open(&path).with_context(|| format!("cannot open `{}`", path.display()))?;
            name_lines(std::io::BufReader::new(file), out, plane, &front)?;
        }
        None => name_lines(std::io::stdin().lock(), out, plane, &front)?,
    }
    Ok(Exit::Done)
}

/// Longest line read; a longer one is refused and skipped.
const LINE_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

fn name_lines(mut input: impl BufRead, out: &mut dyn Write, plane: Plane, front: &Front) -> std::io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(LINE_LIMIT_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let is_cut = line.len() as u64 == LINE_LIMIT_BYTES && line.last() != Some(&b'\n');
        let answer = if is_cut {
            input.skip_until(b'\n')?;
            refusal(None, "the line is longer than 64 MiB")
        } else if line.trim_ascii().is_empty() {
            continue;
        } else {
            answer(&line, plane, front)
        };
        serde_json::to_writer(&mut *out, &answer)?;
        out.write_all(b"\n")?;
    }
}

/// The answer to one line.
fn answer(line: &[u8], plane: Plane, front: &Front) -> Value {
    let request: Map<String, Value> = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return refusal(None, &format!("the line is not a JSON object: {error}")),
    };
    let id = request.get("id");
    if matches!(plane, Plane::Postgres) {
        return postgres::name(&request).map_or_else(|why| refusal(id, &why), |actions| shown_actions(id, &actions));
    }
    let (head, body) = match parse(&request) {
        Ok(parsed) => parsed,
        Err(why) => return refusal(id, &why),
    };
    let body = body.as_deref().map_or(Body::TooLarge, Body::Whole);
    shown(id, &classify(&head, body, front))
}

fn shown(id: Option<&Value>, classified: &Classified) -> Value {
    if let Some(why) = &classified.refused {
        return refusal(id, why);
    }
    shown_actions(id, &classified.actions)
}

fn shown_actions(id: Option<&Value>, actions: &[Action]) -> Value {
    let unknown = actions.iter().find_map(|it| it.unknown.as_deref());
    let actions: Vec<Value> = actions.iter().map(shown_action).collect();
    with_id(id, json!({ "actions": actions, "unknown": unknown, "refused": false }))
}

fn shown_action(action: &Action) -> Value {
    let mut shown = json!({
        "action": action.name,
        "access": action.access.as_str(),
        "traits": action.traits.names(),
        "resources": action.resources,
        "region": action.region,
        "account": action.account,
        "parameters": action.shown_parameters(),
        "iam_actions": action.iam_actions,
    });
    if let (false, Some(members)) = (action.tags.is_empty(), shown.as_object_mut()) {
        members.insert("tags".to_owned(), json!(action.tags));
    }
    shown
}

fn refusal(id: Option<&Value>, why: &str) -> Value {
    with_id(id, json!({ "actions": [], "unknown": why, "refused": true }))
}

fn with_id(id: Option<&Value>, rest: Value) -> Value {
    let mut object = Map::new();
    if let Some(id) = id {
        object.insert("id".to_owned(), id.clone());
    }
    if let Value::Object(rest) = rest {
        object.extend(rest);
    }
    Value::Object(object)
}

/// Names the request of a test case or an explanation: the JSON form in, its actions out.
///
/// # Errors
/// Why the request would be refused, or cannot be read.
pub(super) fn name(request: &Map<String, Value>, front: &Front) -> Result<Vec<Action>, String> {
    // No HTTP request has these.
    if ["sql", "sql_base64", "function"].iter().any(|field| request.contains_key(*field)) {
        return postgres::name(request);
    }
    let (head, body) = parse(request)?;
    let classified = classify(&head, body.as_deref().map_or(Body::TooLarge, Body::Whole), front);
    classified.refused.map_or(Ok(classified.actions), Err)
}

/// Head and body of a request; no body where the line says that there is one and does not give it.
fn parse(request: &Map<String, Value>) -> Result<(Head, Option<Vec<u8>>), String> {
    let text = |name: &str| request.get(name).and_then(Value::as_str).ok_or(format!("`{name}` is not a text"));
    let method = Method::from_bytes(text("method")?.as_bytes()).map_err(|_| "`method` is malformed".to_owned())?;
    let url = text("url")?;
    // The URI parser drops a fragment without a word, and a server may not.
    if url.contains('#') {
        return Err("`url` has a fragment".to_owned());
    }
    let uri: Uri = url.parse().map_err(|error| format!("`url` is malformed: {error}"))?;
    let mut headers = headers(request.get("headers"))?;
    set_host(&uri, &mut headers)?;
    let body = body(request, &headers)?;
    let target = uri.path_and_query().map_or("/", |it| it.as_str());
    let target: Uri = target.parse().map_err(|error| format!("`url` is malformed: {error}"))?;
    let head = Head::parse(method, &target, headers).map_err(|error| error.to_string())?;
    Ok((head, body))
}

fn headers(value: Option<&Value>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &Value| {
        let value = value.as_str().ok_or(format!("header field `{name}` is not a text"))?;
        let parsed: HeaderName = name.parse().map_err(|_| format!("header field name `{name}` is malformed"))?;
        let value = HeaderValue::from_str(value).map_err(|_| format!("header field `{name}` is malformed"))?;
        headers.try_append(parsed, value).map_err(|_| "there are too many header fields".to_owned())?;
        Ok::<_, String>(())
    };
    match value {
        None | Some(Value::Null) => {}
        Some(Value::Object(fields)) => {
            for (name, value) in fields {
                match value {
                    Value::Array(values) => values.iter().try_for_each(|value| add(name, value))?,
                    value => add(name, value)?,
                }
            }
        }
        Some(Value::Array(fields)) => {
            for field in fields {
                match field.as_array().map(Vec::as_slice) {
                    Some([Value::String(name), value]) => add(name, value)?,
                    _ => return Err("a header field is not a pair of name and value".to_owned()),
                }
            }
        }
        Some(_) => return Err("`headers` is neither an object nor a list of pairs".to_owned()),
    }
    Ok(headers)
}

/// Takes the host from the URL where no header field gives it; both must agree.
fn set_host(uri: &Uri, headers: &mut HeaderMap) -> Result<(), String> {
    let default_port = match uri.scheme_str() {
        None => None,
        Some("https") => Some(":443"),
        Some("http") => Some(":80"),
        Some(scheme) => return Err(format!("`url` has the scheme `{scheme}`, not http or https")),
    };
    let Some(authority) = uri.authority().map(http::uri::Authority::as_str) else { return Ok(()) };
    let without_port = |text: &str| {
        let text = default_port.and_then(|port| text.strip_suffix(port)).unwrap_or(text);
        text.to_ascii_lowercase()
    };
    match headers.get(header::HOST) {
        Some(host) if host.to_str().is_ok_and(|host| without_port(host) == without_port(authority)) => Ok(()),
        Some(_) => Err("`url` and the Host field name different hosts".to_owned()),
        None => {
            let host = HeaderValue::from_str(authority).map_err(|_| "`url` has a malformed host".to_owned())?;
            headers.insert(header::HOST, host);
            Ok(())
        }
    }
}

fn body(request: &Map<String, Value>, headers: &HeaderMap) -> Result<Option<Vec<u8>>, String> {
    let body = match request.get("body_base64") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => {
            Some(STANDARD.decode(text).map_err(|error| format!("`body_base64` is malformed: {error}"))?)
        }
        Some(_) => return Err("`body_base64` is not a text".to_owned()),
    };
    let stated = match headers.get(header::CONTENT_LENGTH) {
        None => None,
        Some(_) if headers.contains_key(header::TRANSFER_ENCODING) => {
            return Err("the request has both Content-Length and Transfer-Encoding".to_owned());
        }
        Some(value) => {
            let text = value.to_str().unwrap_or_default();
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            Some(text.parse::<u64>().ok().filter(|_| digits).ok_or("Content-Length is malformed")?)
        }
    };
    match (body, stated) {
        (Some(body), Some(stated)) if stated != body.len() as u64 => {
            Err("Content-Length is not the length of the body".to_owned())
        }
        (Some(body), _) => Ok(Some(body)),
        (None, Some(1..)) => Ok(None),
        (None, _) => Ok(Some(Vec::new())),
    }
}

#[cfg(test)]
mod tests;
