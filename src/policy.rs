//! AWS policies and access lists: what a call adds to one and removes from it, and what of that is dangerous.
//!
//! The way of one change: [`document`] or [`lists`] (a text or a structure → entries in normal form) →
//! [`danger`] (what an entry opens) → [`compare`] (entries before and after →
//! [`Delta`](crate::action::Delta)). No IO.
//! INVARIANT (equal is equal): two documents that AWS reads alike give the same keys, whatever the order,
//! the case and the form of their members. What cannot be read is an error, never an empty document.

pub(crate) mod compare;
mod danger;
pub(crate) mod document;
pub(crate) mod lists;

use document::Statement;

/// What a policy says whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What its holder may do.
    Identity,
    /// Who may use a resource.
    Resource,
    /// Who may become a role.
    Trust,
}

/// One thing that a policy or list says.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Equal for entries that mean the same.
    key: String,
    /// For people. Holds text from outside.
    text: String,
    /// What it opens.
    dangers: Vec<String>,
    /// What it is called, where it has a name.
    pub(crate) sid: Option<String>,
    statement: Option<Statement>,
}

impl Entry {
    /// An entry that means what it says.
    fn plain(text: String, dangers: Vec<String>) -> Self {
        Self { key: text.clone(), text, dangers, sid: None, statement: None }
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }
}

/// Longest text from outside within a line, in characters.
const WORD_LIMIT_CHARS: usize = 300;

/// A text from outside as it stands within a line: as it is where it cannot be mistaken, else as a JSON string.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, ':' | '*' | '?' | '/' | '_' | '.' | '@' | '+' | '=' | '-' | '$' | '{' | '}')
    };
    let clipped: String = text.chars().take(WORD_LIMIT_CHARS).collect();
    let shown = match !clipped.is_empty() && clipped.chars().all(is_plain) {
        true => clipped.clone(),
        false => serde_json::Value::String(clipped.clone()).to_string(),
    };
    if clipped.len() < text.len() { format!("{shown}[... {} bytes in all]", text.len()) } else { shown }
}

/// Several texts from outside, and how many more there are.
fn listed<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 12;
    let mut texts = texts.into_iter();
    let shown: Vec<String> = texts.by_ref().take(MOST).map(quoted).collect();
    match texts.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
#[cfg(test)]
mod tests;
