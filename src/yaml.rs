//! YAML with places, and diagnostics that point into it.
//!
//! Rules and configuration are read with this module, so that every mistake in either is answered
//! with file, line, column, a caret and a remedy, all mistakes of a file at once. It reads a
//! subset on purpose: one document, mappings with plain keys, lists and scalars. Anchors, aliases,
//! tags, merge keys, duplicate keys and invisible characters are refused, because each lets a file
//! mean something else than a reviewer reads in it. Text stays as written: `yes`, `on` and `012`
//! are never turned into anything; the reader of a field decides which type it wants.
//!
//! The module never reads a file: names and texts come in as a [`Source`].

mod diagnostic;
mod parse;
mod read;

use std::sync::Arc;

use serde_json::Value;

pub(crate) use diagnostic::{Diagnostic, Severity, near_misses, nearest, render};
pub(crate) use parse::parse;
pub(crate) use read::{Fields, Problems};

/// A named text, cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    name: Arc<str>,
    text: Arc<str>,
}

impl Source {
    /// `name` is what diagnostics print, usually the path as the operator gave it.
    pub(crate) fn new(name: impl AsRef<str>, text: impl AsRef<str>) -> Self {
        Self { name: Arc::from(name.as_ref()), text: Arc::from(text.as_ref()) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte offset, both from 1, the column in characters.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        (line, before.get(line_start..).unwrap_or_default().chars().count() + 1)
    }

    /// The text a span covers.
    pub(crate) fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }
}

/// A range of bytes in a [`Source`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// One value of a document, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    List(Vec<Node>),
    Map(Vec<Entry>),
    Scalar { text: String, style: Style },
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `|` or `>`.
    Block,
    Plain,
    /// In single or double quotes.
    Quoted,
}

/// One member of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

impl Node {
    /// Nothing was written: an absent value, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, style: Style::Plain } if matches!(text.as_str(), "" | "~" | "null"))
    }

    /// An empty list or mapping, or nothing.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::List(items) => items.is_empty(),
            Kind::Map(entries) => entries.is_empty(),
            Kind::Scalar { .. } => self.is_null(),
        }
    }

    /// What the value is, for messages: `a list`, `a mapping`, `nothing`, `` `text` ``.
    pub(crate) fn noun(&self) -> String {
        match &self.kind {
            Kind::List(items) if items.is_empty() => "an empty list".to_owned(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
            Kind::Scalar { .. } if self.is_null() => "nothing".to_owned(),
            Kind::Scalar { text, style: Style::Quoted } => format!("`\"{}\"`", diagnostic::shortened(text)),
            Kind::Scalar { text, .. } => format!("`{}`", diagnostic::shortened(text)),
        }
    }

    /// The value as JSON. Only plain `true`, `false`, `null` and decimal integers are other than text.
    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Map(entries) => {
                Value::Object(entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect())
            }
            Kind::Scalar { .. } if self.is_null() => Value::Null,
            Kind::Scalar { text, style: Style::Plain } => match text.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                // A leading zero marks an identifier (an account id), not a number.
                digits if digits.starts_with('+') || (digits.starts_with('0') && digits.len() > 1) => {
                    text.as_str().into()
                }
                digits => digits.parse::<i64>().map_or_else(|_| text.as_str().into(), Value::from),
            },
            Kind::Scalar { text, .. } => Value::String(text.clone()),
        }
    }

    /// Where bytes `start..end` of a scalar's text stand in the source; the whole scalar where
    /// folding or escapes keep that from being told.
    pub(crate) fn span_within(&self, source: &Source, start: usize, end: usize) -> Span {
        let Kind::Scalar { text, style } = &self.kind else { return self.span };
        let raw = source.slice(self.span);
        let exact = match style {
            Style::Plain => (raw.trim_end() == text).then_some(self.span.start),
            Style::Quoted => (raw.get(1..raw.len().saturating_sub(1)) == Some(text)).then_some(self.span.start + 1),
            Style::Block => return self.span_within_block(source, text, start).unwrap_or(self.span),
        };
        match exact {
            Some(base) => Span { start: base + start.min(text.len()), end: base + end.clamp(start, text.len()) },
            None => self.span,
        }
    }

    /// The rest of the line of a literal block that holds byte `offset` of its text.
    fn span_within_block(&self, source: &Source, text: &str, offset: usize) -> Option<Span> {
        let before = text.get(..offset)?;
        let line_in_text = before.matches('\n').count();
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
        let wanted = text.lines().nth(line_in_text)?;
        let mut start = self.span.start;
        let mut lines = source.slice(self.span).split_inclusive('\n').peekable();
        if lines.peek().is_some_and(|first| first.trim_start().starts_with(['|', '>'])) {
            start += lines.next().map_or(0, str::len);
        }
        for _ in 0..line_in_text {
            start += lines.next()?.len();
        }
        let line = lines.next()?.trim_end();
        let indent = line.len().checked_sub(wanted.trim_end().len())?;
        (line.get(indent..)? == wanted.trim_end())
            .then_some(Span { start: start + indent + column, end: start + line.len() })
    }
}

#[cfg(test)]
mod tests;
