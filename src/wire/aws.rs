//! Bodies of AWS requests: form, JSON, XML and CBOR to parameters by the names of the service's
//! model, and form and JSON back.
//!
//! A reading that some other parser could take differently (a member twice, invalid UTF-8, a DTD) is
//! a contradiction. What is merely not in the model is kept where that is possible and reported as a
//! doubt, so that rules see it and the action is unknown.

use std::fmt::Display;

use serde_json::{Map, Number, Value};

use crate::catalog::aws::shape::Shape;

pub(crate) mod cbor;
pub(crate) mod chunks;
pub(crate) mod events;
pub(crate) mod form;
pub(crate) mod items;
pub(crate) mod json;
pub(crate) mod multipart;
pub(crate) mod xml;

/// Why a body has no single reading.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// Two parsers could read it differently.
    #[error("{0}")]
    Contradiction(String),
    /// It is not what the model says.
    #[error("{0}")]
    Doubt(String),
}

/// Parameters by the model's names, and the first thing about them that is not as modelled.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) parameters: Map<String, Value>,
    pub(crate) doubt: Option<String>,
}

impl Reading {
    /// Adds what stood in the body to what stood in the head.
    fn add(&mut self, parameters: Map<String, Value>) {
        if self.parameters.is_empty() {
            self.parameters = parameters;
        } else {
            self.parameters.extend(parameters);
        }
    }

    /// Notes a doubt; the first one stays.
    pub(crate) fn doubt(&mut self, doubt: impl Display) {
        if self.doubt.is_none() {
            self.doubt = Some(doubt.to_string());
        }
    }
}

/// Nesting beyond which no body is read; the deepest modelled input has less than 20 levels.
const DEPTH_LIMIT: usize = 64;

/// Values beyond which no body is read. A value of two bytes takes some hundred in memory, so a body
/// within the limit on bytes could take the whole process's.
const VALUE_LIMIT: usize = 400_000;

/// Reads text that stands for a scalar on a textual wire (form, XML, header, query, label).
pub(crate) fn scalar(shape: &Shape, text: &str) -> Option<Value> {
    Some(match shape {
        Shape::Boolean => Value::Bool(match text {
            "true" => true,
            "false" => false,
            _ => return None,
        }),
        Shape::Integer => Value::Number(integer(text)?),
        Shape::Float => match text.parse::<f64>().ok().and_then(Number::from_f64) {
            Some(_) if integer(text).is_some() => Value::Number(integer(text)?),
            Some(number) => Value::Number(number),
            None if matches!(text, "NaN" | "Infinity" | "-Infinity") => Value::String(text.to_owned()),
            None => return None,
        },
        Shape::Blob | Shape::Text | Shape::Timestamp => Value::String(text.to_owned()),
        Shape::Document | Shape::List { .. } | Shape::Map { .. } | Shape::Structure(_) => return None,
    })
}

/// A decimal integer in its one spelling: no plus sign, no leading zero.
fn integer(text: &str) -> Option<Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.bytes().all(|b| b.is_ascii_digit()) && !(digits.len() > 1 && digits.starts_with('0'));
    if !is_plain || text == "-0" {
        return None;
    }
    text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from)).ok()
}

/// Text of a scalar parameter for a textual wire.
fn scalar_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Null | Value::Object(_) => return None,
    })
}

#[cfg(test)]
mod tests;
