//! Whether a query string means here what it means to the server, and whether it may be parsed at all.

use std::borrow::Cow;

use pg_query::protobuf::{ScanToken, Token};

use super::{Settings, grammar};

/// Longest string that is parsed.
const LONGEST_BYTES: usize = 32 * 1024 * 1024;
/// Most tokens that are parsed: a tree takes some hundred bytes for each.
const MOST_TOKENS: usize = 400_000;
/// Most brackets that may be open at once; the grammar's own stack ends there too.
const DEEPEST: usize = 10_000;
/// The server's scanner reads a row of operator characters again from each of them.
const MOST_OPERATOR_STEPS: usize = 20_000_000;
/// Up to that length no tree is deep enough to matter; each level takes a byte or more.
const SHALLOW_BYTES: usize = 160;
/// Levels that fit an ordinary stack with room to spare.
const SHALLOW_LEVELS: usize = 160;

/// A text that may be parsed.
#[derive(Debug)]
pub(super) struct Checked<'s> {
    /// As the grammar is given it: UTF-8.
    pub(super) sql: Cow<'s, str>,
    /// Its tree may be too deep for an ordinary stack.
    pub(super) is_deep: bool,
    /// Where they had to be looked at.
    pub(super) tokens: Option<Vec<ScanToken>>,
}

/// Places in a text as places in the bytes that were given; asked in rising order.
pub(super) struct Places<'t> {
    /// `None` where they are the same.
    text: Option<&'t str>,
    at: usize,
    original: usize,
}

impl Checked<'_> {
    pub(super) fn places(&self) -> Places<'_> {
        let text = match &self.sql {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => Some(text.as_str()),
        };
        Places { text, at: 0, original: 0 }
    }
}

impl Places<'_> {
    pub(super) fn original(&mut self, place: usize) -> usize {
        let Some(text) = self.text else { return place };
        // One byte of the original is one character.
        self.original += text.get(self.at..place).map_or(0, |it| it.chars().count());
        self.at = place;
        self.original
    }
}

/// Passes a query string on, or says why it is not known how the server will read it.
pub(super) fn check<'s>(sql: &'s [u8], settings: &Settings) -> Result<Checked<'s>, String> {
    if sql.len() > LONGEST_BYTES {
        return Err(format!("the text has {} bytes; more than {LONGEST_BYTES} are not parsed", sql.len()));
    }
    let sql = decode(sql, &settings.client_encoding)?;
    check_text(sql, settings.standard_conforming_strings)
}

/// The same for a text that is characters already.
pub(super) fn check_text(sql: Cow<'_, str>, standard_conforming_strings: bool) -> Result<Checked<'_>, String> {
    if memchr::memchr(0, sql.as_bytes()).is_some() {
        return Err("the text has a NUL byte".to_owned());
    }
    if !standard_conforming_strings && memchr::memchr(b'\\', sql.as_bytes()).is_some() {
        return Err("the text has a backslash, and `standard_conforming_strings` is off".to_owned());
    }
    if sql.len() > SHALLOW_BYTES && operator_steps(sql.as_bytes()) > MOST_OPERATOR_STEPS {
        return Err("the text has too long a row of operator characters".to_owned());
    }
    let tokens = if sql.len() > SHALLOW_BYTES { Some(grammar::scan(&sql)?) } else { None };
    let is_deep = match &tokens {
        Some(tokens) => is_deep(tokens)?,
        None => false,
    };
    Ok(Checked { sql, is_deep, tokens })
}

/// About how often the scanner looks at operator characters: the square of each row's length.
fn operator_steps(sql: &[u8]) -> usize {
    let (mut steps, mut row) = (0_usize, 0_usize);
    for byte in sql {
        if b"~!@#^&|`?+-*/%<>=".contains(byte) {
            row += 1;
        } else if row > 0 {
            steps = steps.saturating_add(row * row);
            row = 0;
        }
    }
    steps.saturating_add(row * row)
}

fn decode<'s>(sql: &'s [u8], client_encoding: &str) -> Result<Cow<'s, str>, String> {
    let mut name: String = client_encoding.chars().filter(char::is_ascii_alphanumeric).collect();
    name.make_ascii_uppercase();
    if sql.is_ascii() || matches!(name.as_str(), "UTF8" | "UNICODE" | "SQLASCII") {
        let text = std::str::from_utf8(sql).map(Cow::Borrowed);
        return text.map_err(|_| format!("the text is not UTF-8 (client_encoding is {client_encoding})"));
    }
    if matches!(name.as_str(), "LATIN1" | "ISO88591") {
        return Ok(Cow::Owned(sql.iter().map(|byte| char::from(*byte)).collect()));
    }
    Err(format!("the text has more than ASCII, and client_encoding is {client_encoding}"))
}

/// Bounds the depth of the tree from the tokens.
///
/// A level of the tree takes at least one token, and what stands behind a comma is not deeper for what
/// stands before it, except in chains of set operations and inside open brackets.
fn is_deep(tokens: &[ScanToken]) -> Result<bool, String> {
    if tokens.len() > MOST_TOKENS {
        return Err(format!("the text has {} words; more than {MOST_TOKENS} are not parsed", tokens.len()));
    }
    let (union, intersect, except) = (Token::Union as i32, Token::Intersect as i32, Token::Except as i32);
    let mut most_open = 0;
    // Of each open bracket: words since its last comma, and its set operations.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let (mut run, mut chain, mut outside, mut deepest) = (0_usize, 0_usize, 0_usize, 0_usize);
    for token in tokens {
        match u8::try_from(token.token) {
            Ok(b'(' | b'[') => {
                open.push((run, chain));
                most_open = most_open.max(open.len());
                outside += run + chain + 1;
                (run, chain) = (0, 0);
            }
            Ok(b')' | b']') => {
                if let Some((before, before_chain)) = open.pop() {
                    outside -= before + before_chain + 1;
                    (run, chain) = (before + 1, before_chain);
                }
            }
            Ok(b',') => run = 0,
            Ok(b';') => (run, chain) = (0, 0),
            _ if token.token == union || token.token == intersect || token.token == except => chain += 2,
            _ => run += 1,
        }
        deepest = deepest.max(outside + run + chain);
    }
    if most_open > DEEPEST {
        return Err("the text is nested too deeply".to_owned());
    }
    Ok(deepest > SHALLOW_LEVELS)
}
