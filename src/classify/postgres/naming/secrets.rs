//! Passwords in SQL: replaced before the text reaches a card, a record or a log.

use std::borrow::Cow;
use std::sync::LazyLock;

use pg_query::protobuf::Token;
use regex::{Captures, Regex};

use super::super::grammar;

const SHOWN: &str = "[redacted]";

/// `password=…` of a connection string, `scheme://user:…@`.
static INSIDE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?i)(\b(?:ssl)?(?:password|passfile|passwd|pwd)\s*=\s*)([^\s'";&$]+)|(\bpassword\s+)(E?'[^']*')|(://[^:/\s'@]*:)([^@\s']+)(@)"#,
    )
    .ok()
});

/// What SQL without white space is made of, and a password hardly ever.
const CODE: [&str; 5] = ["/*", "*/", "--", "(", ")"];
/// Texts within texts that are looked into.
const MOST_DEEP: usize = 4;

/// The text with every password in it replaced.
///
/// INVARIANT (nothing that runs is hidden): of SQL only whole constants are replaced, and of a text within one,
/// which may be SQL as well, only whole constants and single words. So no condition or command can be
/// written to look like a password to those who are shown the statement.
pub(in super::super) fn redact(sql: &str) -> Cow<'_, str> {
    if !may_have(sql) {
        return Cow::Borrowed(sql);
    }
    Cow::Owned(level(sql, 0))
}

/// The same for a value, which may be a connection string.
pub(super) fn redact_value(text: &str) -> Cow<'_, str> {
    if !may_have(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(level(text, 1))
}

fn may_have(text: &str) -> bool {
    [b"passw".as_slice(), b"passfile", b"pwd", b"://"].iter().any(|word| contains(text.as_bytes(), word))
}

/// `depth`: in how many constants it stands; at 0 it is SQL.
fn level(text: &str, depth: usize) -> String {
    const COMMENTS: [i32; 2] = [Token::SqlComment as i32, Token::CComment as i32];
    const TEXTS: [i32; 2] = [Token::Sconst as i32, Token::Usconst as i32];
    let tokens = match grammar::scan(text) {
        Ok(tokens) if depth < MOST_DEEP => tokens,
        // Nobody knows where its constants are.
        _ => return by_word(text),
    };
    let mut shown = String::with_capacity(text.len());
    let mut copied = 0;
    let (mut before, mut last) = ("", "");
    for token in &tokens {
        let (Ok(start), Ok(end)) = (usize::try_from(token.start), usize::try_from(token.end)) else { continue };
        let part = text.get(start..end).unwrap_or_default();
        let is_comment = COMMENTS.contains(&token.token);
        if is_comment || TEXTS.contains(&token.token) {
            shown.push_str(text.get(copied..start).unwrap_or_default());
            copied = end;
            if is_comment {
                shown.push_str(&by_word(part));
            } else if is_named(last) || (last == "=" && is_named(before)) {
                shown.push_str(&format!("'{SHOWN}'"));
            } else {
                shown.push_str(&constant(part, depth));
            }
        }
        if !is_comment {
            before = std::mem::replace(&mut last, part);
        }
    }
    shown.push_str(text.get(copied..).unwrap_or_default());
    if depth == 0 { shown } else { by_word(&shown) }
}

/// Whether what follows such a word is a password.
fn is_named(word: &str) -> bool {
    const NAMES: [&str; 6] = ["password", "passwd", "pwd", "passfile", "sslpassword", "sslpasswd"];
    let word = word.trim_matches('"');
    NAMES.iter().any(|name| word.eq_ignore_ascii_case(name))
}

/// A constant, with the passwords in its text replaced.
fn constant(part: &str, depth: usize) -> Cow<'_, str> {
    if !may_have(part) {
        return Cow::Borrowed(part);
    }
    if let Some((tag, rest)) = part.strip_prefix('$').and_then(|it| it.split_once('$')) {
        let end = format!("${tag}$");
        let inner = rest.strip_suffix(&end).unwrap_or(rest);
        return Cow::Owned(format!("{end}{}{end}", level(inner, depth + 1)));
    }
    let Some((prefix, rest)) = part.split_once('\'') else { return Cow::Owned(by_word(part)) };
    let mut inner = rest.strip_suffix('\'').unwrap_or(rest).replace("''", "'");
    if prefix.eq_ignore_ascii_case("e") {
        inner = inner.replace("\\'", "'");
    }
    let shown = level(&inner, depth + 1);
    match shown == inner {
        true => Cow::Borrowed(part),
        false => Cow::Owned(format!("{prefix}'{}'", shown.replace('\'', "''"))),
    }
}

/// Replaces single words, and what stands between two quotes behind the word PASSWORD.
fn by_word(text: &str) -> String {
    let Some(inside) = &*INSIDE else { return SHOWN.to_owned() };
    let replaced = inside.replace_all(text, |found: &Captures<'_>| {
        let part = |index| found.get(index).map_or("", |it| it.as_str());
        let code = |value: &str| CODE.iter().filter_map(|it| value.find(it)).min();
        if found.get(1).is_some() {
            match code(part(2)) {
                Some(0) => part(0).to_owned(),
                Some(at) => format!("{}{SHOWN}{}", part(1), part(2).get(at..).unwrap_or_default()),
                None => format!("{}{SHOWN}", part(1)),
            }
        } else if found.get(3).is_some() {
            format!("{}'{SHOWN}'", part(3))
        } else if code(part(6)).is_some() {
            part(0).to_owned()
        } else {
            format!("{}{SHOWN}{}", part(5), part(7))
        }
    });
    replaced.into_owned()
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    let Some(first) = word.first() else { return false };
    let upper = first.to_ascii_uppercase();
    memchr::memchr2_iter(*first, upper, text)
        .any(|at| text.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word)))
}
