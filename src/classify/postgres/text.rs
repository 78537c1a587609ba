//! Whether a query string means here what it means to the server, and whether it may be parsed at all.

use std::borrow::Cow;

use pg_query::protobuf::Token;

use super::{Settings, grammar};

/// Longest string that is parsed.
const LONGEST_BYTES: usize = 32 * 1024 * 1024;
/// Most tokens that are parsed: a tree takes some hundred bytes for each.
const MOST_TOKENS: usize = 400_000;
/// The grammar's C code stops at 10,000 levels of messages or 2 MiB of stack, whichever comes first.
const DEEPEST: usize = 20_000;
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
}

impl Checked<'_> {
    /// A place in the text as a place in the bytes that were given.
    pub(super) fn original(&self, place: usize) -> usize {
        match &self.sql {
            Cow::Borrowed(_) => place,
            // One byte of the original is one character.
            Cow::Owned(text) => text.char_indices().take_while(|(at, _)| *at < place).count(),
        }
    }
}

/// Passes a query string on, or says why it is not known how the server will read it.
pub(super) fn check<'s>(sql: &'s [u8], settings: &Settings) -> Result<Checked<'s>, String> {
    if sql.len() > LONGEST_BYTES {
        return Err(format!("the text has {} bytes; more than {LONGEST_BYTES} are not parsed", sql.len()));
    }
    if memchr::memchr(0, sql).is_some() {
        return Err("the text has a NUL byte".to_owned());
    }
    if !settings.standard_conforming_strings && memchr::memchr(b'\\', sql).is_some() {
        return Err("the text has a backslash, and `standard_conforming_strings` is off".to_owned());
    }
    let sql = decode(sql, &settings.client_encoding)?;
    let is_deep = sql.len() > SHALLOW_BYTES && is_deep(&sql)?;
    Ok(Checked { sql, is_deep })
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
fn is_deep(sql: &str) -> Result<bool, String> {
    let tokens = grammar::scan(sql)?;
    if tokens.len() > MOST_TOKENS {
        return Err(format!("the text has {} words; more than {MOST_TOKENS} are not parsed", tokens.len()));
    }
    let (union, intersect, except) = (Token::Union as i32, Token::Intersect as i32, Token::Except as i32);
    // Of each open bracket: words since its last comma, and its set operations.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let (mut run, mut chain, mut outside, mut deepest) = (0_usize, 0_usize, 0_usize, 0_usize);
    for token in &tokens {
        match u8::try_from(token.token) {
            Ok(b'(' | b'[') => {
                open.push((run, chain));
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
    if open.len() > DEEPEST {
        return Err("the text is nested too deeply".to_owned());
    }
    Ok(deepest > SHALLOW_LEVELS)
}
