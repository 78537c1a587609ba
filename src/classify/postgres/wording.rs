//! A query string as a record holds it: without its constants and comments. And what its comments claim.
//!
//! INVARIANT (no constant by mistake): only tokens that are known to be names, words or signs are copied,
//! never what stands between two of them.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use pg_query::protobuf::{ScanToken, Token};
use serde_json::{Value, json};

use super::grammar;
use super::naming::secrets;
use crate::action::{Action, Context, claimed, trace_id};

/// What there is to say about a query string's text; computed once for each that is parsed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wording {
    /// Without constants and comments: `SELECT a FROM t WHERE b = $1`. `None`: it could not be read, so nobody
    /// knows where its constants are.
    pub(crate) redacted: Option<Arc<str>>,
    /// As people are shown it, where that is not what was sent: it has passwords, or is no UTF-8.
    pub(crate) shown: Option<Arc<str>>,
    /// What the agent says of itself in comments of the form of sqlcommenter.
    pub(crate) claims: Option<Arc<Context>>,
}

/// Longest text of a record, in bytes; how much more there is, is said.
const RECORDED_BYTES: usize = 8 * 1024;
/// Longest comment that is looked into.
const COMMENT_BYTES: usize = 8 * 1024;

impl Wording {
    /// Of a string that the grammar has read as `text`. `tokens` are those of the text, where they are known.
    pub(super) fn of(sent: &[u8], text: &str, tokens: Option<Vec<ScanToken>>) -> Self {
        let tokens = match tokens {
            Some(tokens) => tokens,
            None => match grammar::scan(text) {
                Ok(tokens) => tokens,
                Err(_) => return Self::unread(sent),
            },
        };
        let shown = match secrets::redact(text) {
            Cow::Owned(shown) => Some(shown),
            Cow::Borrowed(text) => (text.as_bytes() != sent).then(|| text.to_owned()),
        };
        let claims = claims(text, &tokens).map(Arc::new);
        Self { redacted: Some(without_constants(text, &tokens).into()), shown: shown.map(Arc::from), claims }
    }

    /// Of a string that cannot be read.
    pub(super) fn unread(sent: &[u8]) -> Self {
        let shown = match secrets::redact(&String::from_utf8_lossy(sent)) {
            Cow::Owned(shown) => Some(Arc::from(shown)),
            Cow::Borrowed(_) => None,
        };
        Self { redacted: None, shown, claims: None }
    }
}

/// An action as a record holds it. `is_read`: where the constants of its texts are is known.
pub(crate) fn recorded(action: &Action, is_read: bool) -> Action {
    let record = |name: &str, value: &Value| match (name, is_read) {
        ("sql", false) => sized(value),
        (name, _) => recorded_value(name, value),
    };
    let parameters = action.parameters.iter().map(|(name, value)| (name.clone(), record(name, value))).collect();
    let unknown = action.unknown.as_deref().map(|why| recorded_reason(why).into_owned());
    Action { parameters, unknown, ..action.clone() }
}

/// One parameter as a record holds it.
pub(crate) fn recorded_value(name: &str, value: &Value) -> Value {
    match (name, value) {
        ("sql", Value::String(text)) => match grammar::scan(text) {
            Ok(tokens) => Value::String(without_constants(text, &tokens)),
            Err(_) => sized(value),
        },
        ("params", Value::Array(values)) => values.iter().map(sized).collect(),
        // What has a name is named.
        ("function" | "language" | "name" | "runs_as" | "setting", value) => value.clone(),
        (_, Value::Null | Value::Bool(_) | Value::Number(_)) => value.clone(),
        (_, value) => sized(value),
    }
}

/// The grammar's complaints quote the text.
fn recorded_reason(why: &str) -> Cow<'_, str> {
    const QUOTES: &str = "at or near \"";
    match why.split_once(QUOTES) {
        Some((before, _)) => Cow::Owned(format!("{before}at or near […]")),
        None => Cow::Borrowed(why),
    }
}

fn sized(value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        Value::String(text) => json!({ "bytes": text.len() }),
        other => json!({ "bytes": other.to_string().len() }),
    }
}

const CONSTANTS: [i32; 6] = [
    Token::Sconst as i32,
    Token::Usconst as i32,
    Token::Bconst as i32,
    Token::Xconst as i32,
    Token::Fconst as i32,
    Token::Iconst as i32,
];
const COMMENTS: [i32; 2] = [Token::SqlComment as i32, Token::CComment as i32];

fn part<'t>(text: &'t str, token: &ScanToken) -> Option<&'t str> {
    text.get(usize::try_from(token.start).ok()?..usize::try_from(token.end).ok()?)
}

/// The text with each constant replaced by a parameter that it does not have yet, comments left out.
fn without_constants(text: &str, tokens: &[ScanToken]) -> String {
    const PARAMETER: i32 = Token::Param as i32;
    let parameters = tokens.iter().filter(|token| token.token == PARAMETER);
    let numbers = parameters.filter_map(|token| part(text, token)?.strip_prefix('$')?.parse::<u64>().ok());
    let mut number = numbers.max().unwrap_or(0);
    let mut recorded = String::with_capacity(text.len().min(RECORDED_BYTES));
    let mut end = 0;
    for token in tokens.iter().filter(|token| !COMMENTS.contains(&token.token)) {
        if recorded.len() >= RECORDED_BYTES {
            let more = text.len().saturating_sub(usize::try_from(end).unwrap_or(0));
            recorded.push_str(&format!(" … [{more} bytes more]"));
            break;
        }
        if token.start > end && !recorded.is_empty() {
            recorded.push(' ');
        }
        if CONSTANTS.contains(&token.token) {
            number += 1;
            recorded.push_str(&format!("${number}"));
        } else {
            // A name may be as long as the text.
            let word = part(text, token).unwrap_or_default();
            let room = word.floor_char_boundary(RECORDED_BYTES.saturating_sub(recorded.len()));
            recorded.push_str(word.get(..room).unwrap_or_default());
        }
        end = token.end;
    }
    recorded
}

/// What comments of the form `/*key='value',key='value'*/` say of the agent; of two of one name the first counts.
fn claims(text: &str, tokens: &[ScanToken]) -> Option<Context> {
    const COMMENT: i32 = Token::CComment as i32;
    let mut context = Context::default();
    for token in tokens.iter().filter(|token| token.token == COMMENT) {
        let comment = part(text, token).filter(|comment| comment.len() <= COMMENT_BYTES);
        let Some(comment) = comment.and_then(|it| it.strip_prefix("/*")?.strip_suffix("*/")) else { continue };
        let Some(pairs) = pairs(comment.trim()) else { continue };
        for (key, value) in pairs {
            let (slot, value) = match &*decoded(key) {
                "traceparent" => (&mut context.trace, trace_id(&decoded(&value))),
                key => match context.slot(key) {
                    Some(slot) => (slot, claimed(&decoded(&value))),
                    None => continue,
                },
            };
            if slot.is_none() {
                *slot = value;
            }
        }
    }
    (context != Context::default()).then_some(context)
}

/// Keys and values, their quotes taken off; `None` when the comment is none of this form.
fn pairs(comment: &str) -> Option<Vec<(&str, String)>> {
    let mut pairs = Vec::new();
    let mut rest = comment;
    loop {
        let (key, after) = rest.split_once("='")?;
        let mut value = String::new();
        let mut characters = after.chars();
        loop {
            match characters.next()? {
                '\\' => value.push(characters.next()?),
                '\'' => break,
                other => value.push(other),
            }
        }
        pairs.push((key.trim(), value));
        let after = characters.as_str().trim_start();
        if after.is_empty() {
            return Some(pairs);
        }
        rest = after.strip_prefix(',')?;
    }
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests;
