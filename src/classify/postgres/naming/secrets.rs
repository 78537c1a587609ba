//! Passwords in SQL: replaced before the text reaches a card, a record or a log.

use std::borrow::Cow;
use std::sync::LazyLock;

use pg_query::protobuf::Token;
use regex::{Captures, Regex};

use super::super::grammar;

const SHOWN: &str = "[redacted]";

/// `password=…` of a connection string, `PASSWORD '…'` inside a body, `scheme://user:…@`.
static INSIDE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?i)(\b(?:ssl)?(?:password|passfile|passwd|pwd)\s*=\s*)('{1,2}(?:[^'\\]|\\.)*'{0,2}|[^\s'";&$]+)|(\bpassword\s+)(E?'(?:[^']|'')*')|(://[^:/\s'@]*:)([^@\s']+)(@)"#,
    )
    .ok()
});

/// The text with every password in it replaced.
pub(in super::super) fn redact(sql: &str) -> Cow<'_, str> {
    let has = |words: &[&[u8]]| words.iter().any(|word| contains(sql.as_bytes(), word));
    if !has(&[b"passw", b"passfile", b"pwd", b"://"]) {
        return Cow::Borrowed(sql);
    }
    let by_token = by_token(sql);
    let Some(inside) = &*INSIDE else { return Cow::Borrowed(SHOWN) };
    let replaced = inside.replace_all(&by_token, |found: &Captures<'_>| {
        let part = |index| found.get(index).map_or("", |it| it.as_str());
        if found.get(1).is_some() {
            let quote = if part(2).starts_with('\'') { "'" } else { "" };
            format!("{}{quote}{SHOWN}{quote}", part(1))
        } else if found.get(3).is_some() {
            format!("{}'{SHOWN}'", part(3))
        } else {
            format!("{}{SHOWN}{}", part(5), part(7))
        }
    });
    Cow::Owned(replaced.into_owned())
}

/// Replaces the constant behind the word PASSWORD, whatever stands between them and however it is written.
fn by_token(sql: &str) -> String {
    const COMMENTS: [i32; 2] = [Token::SqlComment as i32, Token::CComment as i32];
    const TEXTS: [i32; 2] = [Token::Sconst as i32, Token::Usconst as i32];
    let Ok(tokens) = grammar::scan(sql) else { return sql.to_owned() };
    let mut shown = String::with_capacity(sql.len());
    let (mut copied, mut is_next) = (0, false);
    for token in tokens.iter().filter(|it| !COMMENTS.contains(&it.token)) {
        let (Ok(start), Ok(end)) = (usize::try_from(token.start), usize::try_from(token.end)) else { continue };
        let text = sql.get(start..end).unwrap_or_default();
        if is_next && TEXTS.contains(&token.token) {
            shown.push_str(sql.get(copied..start).unwrap_or_default());
            shown.push_str(&format!("'{SHOWN}'"));
            copied = end;
        }
        let word = text.trim_matches('"');
        is_next = word.eq_ignore_ascii_case("password") || word.eq_ignore_ascii_case("passwd");
    }
    shown.push_str(sql.get(copied..).unwrap_or_default());
    shown
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    let Some(first) = word.first() else { return false };
    let upper = first.to_ascii_uppercase();
    memchr::memchr2_iter(*first, upper, text)
        .any(|at| text.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word)))
}
