//! What a PartiQL statement of DynamoDB does, and to which table.
//!
//! DynamoDB's dialect has four statements, each about one table. Only their plain forms are read; of
//! anything else (comments, functions in front, nested queries) every verb and every table counts.

use smallvec::SmallVec;

/// The verbs, as the IAM actions spell them behind `dynamodb:PartiQL`.
pub(super) const VERBS: [&str; 4] = ["Select", "Insert", "Update", "Delete"];

/// Verb and table of a statement; `None` when it is not of a plain form.
pub(super) fn read(statement: &str) -> Option<(&'static str, String)> {
    let words = words(statement)?;
    let (Word::Bare(first), rest) = words.split_first()? else { return None };
    let verb = VERBS.into_iter().find(|verb| verb.eq_ignore_ascii_case(first))?;
    // A second verb, or a second table, makes the statement one that is not read here.
    let is_keyword =
        |word: &Word<'_>, keyword: &str| matches!(word, Word::Bare(it) if it.eq_ignore_ascii_case(keyword));
    let is_nested = |word: &Word<'_>| ["select", "exists"].iter().any(|it| is_keyword(word, it));
    let behind = |keyword: &str| {
        let mut places = rest.iter().enumerate().filter(|(_, word)| is_keyword(word, keyword));
        let (at, _) = places.next()?;
        if places.next().is_some() { None } else { rest.get(at + 1) }
    };
    let table = match verb {
        "Select" | "Delete" => behind("from")?,
        "Insert" => behind("into")?,
        _ => rest.first()?,
    };
    match table {
        Word::Bare(name) | Word::Quoted(name) if !name.is_empty() && !rest.iter().any(is_nested) => {
            Some((verb, (*name).to_owned()))
        }
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Word<'t> {
    /// A run of name characters outside of quotes.
    Bare(&'t str),
    /// A name in double quotes.
    Quoted(&'t str),
    /// A text in single quotes, or any other character.
    Other,
}

/// The words of a statement; `None` where a quote is not closed or doubled in a name, or there is a comment.
fn words(mut text: &str) -> Option<SmallVec<[Word<'_>; 16]>> {
    let mut words = SmallVec::new();
    loop {
        text = text.trim_start();
        let Some(first) = text.chars().next() else { return Some(words) };
        if text.starts_with("--") || text.starts_with("/*") || first == '`' {
            return None;
        }
        let inner = text.get(first.len_utf8()..)?;
        match first {
            '\'' => {
                text = inner.split_once('\'')?.1;
                words.push(Word::Other);
            }
            '"' => {
                let (name, rest) = inner.split_once('"')?;
                if rest.starts_with('"') {
                    return None;
                }
                text = rest;
                words.push(Word::Quoted(name));
            }
            _ => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
                if end == 0 {
                    text = inner;
                    words.push(Word::Other);
                } else {
                    let (name, rest) = text.split_at(end);
                    if name.contains("--") {
                        return None;
                    }
                    text = rest;
                    words.push(Word::Bare(name));
                }
            }
        }
    }
}
