//! Texts that differ by constants alone on which no name depends: what names one of them names all.
//!
//! A *hole* is a decimal number of one to nine digits (the server's `integer`, whatever its value), or a text in
//! plain quotes, right behind an equals sign and before a separator. [`Shape::of`] looks at bytes only and may take
//! what stands in a comment or a longer text for a hole. That is settled once for each shape: [`Shape::is_open`]
//! finds each hole again in the tree that the grammar made of one text of the shape, as the whole of a constant.
//!
//! Why the tree of every other text of the shape is the same but for these constants:
//!
//! - The texts are equal outside the holes. The scanner reads from the front; at the first hole it stands between
//!   two tokens, since in the one text a constant begins there. No rule for numbers goes on over a separator, and
//!   none for plain quotes sees anything in a text without quotes and backslashes; so the hole's token ends where it
//!   ends in the one text, is of the same kind, and the scanner comes in the same state to the same bytes.
//! - The grammar looks at kinds of tokens, and at the values of numbers in none of the places that are open.
//!
//! Why no name depends on them: an open constant is the right side of `column = constant`, reached from its
//! statement through conditions and sub-queries only, or what an UPDATE sets a column to. The walk takes a constant
//! for what it is and does not look into it; LIMIT, arguments and casts, which are looked into, are no such
//! places; and two expressions are compared for being written alike ([`super::naming`]'s `is_same`) only where an
//! operator stands above them, which an open constant has only its own of, with a column on the other side.
//! What a record or a card says of the text comes from the text itself ([`filled`]).

use std::borrow::Cow;
use std::ops::Range;

use smallvec::SmallVec;

use super::grammar::Raw;
use super::naming::secrets;
use super::tree::Node;
use super::{Effect, Parsed, Statement};
use serde_json::Value;

/// Longest text that has a shape; far below the length at which a record cuts a text.
const LONGEST_BYTES: usize = 1024;
/// Most digits of which every number is an `integer`.
const MOST_DIGITS: usize = 9;

/// What stands for a hole. Neither is in a text that has a shape.
const NUMBER: u8 = 0;
const TEXT: u8 = 1;

/// A text without what its holes hold.
#[derive(Debug)]
pub(super) struct Shape {
    key: SmallVec<[u8; 256]>,
    /// In the text, with quotes; in rising order.
    holes: SmallVec<[Range<usize>; 4]>,
    has_text: bool,
}

impl Shape {
    /// `None` where there is nothing that could be a hole, or the text has more than printable ASCII: then only
    /// the text itself is its shape.
    pub(super) fn of(sql: &[u8]) -> Option<Self> {
        if sql.len() > LONGEST_BYTES || memchr::memchr(b'=', sql).is_none() {
            return None;
        }
        // What a backslash does depends on settings.
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r') && *byte != b'\\';
        if !sql.iter().all(is_plain) {
            return None;
        }
        let mut shape = Self { key: SmallVec::new(), holes: SmallVec::new(), has_text: false };
        let mut copied = 0;
        for equals in memchr::memchr_iter(b'=', sql) {
            // An equals sign within a hole.
            if equals < copied {
                continue;
            }
            let Some((hole, mark)) = hole(sql, equals + 1) else { continue };
            shape.key.extend_from_slice(sql.get(copied..hole.start)?);
            shape.key.push(mark);
            shape.has_text |= mark == TEXT;
            copied = hole.end;
            shape.holes.push(hole);
        }
        shape.key.extend_from_slice(sql.get(copied..)?);
        (!shape.holes.is_empty()).then_some(shape)
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether what names this text, whose tree is given, names every text of its shape.
    pub(super) fn is_open(&self, statements: &[Raw]) -> bool {
        let [only] = statements else { return false };
        let Some(root) = only.tree.node() else { return false };
        let mut open = Vec::new();
        gather(root, &mut open);
        self.holes.iter().all(|hole| i64::try_from(hole.start).is_ok_and(|start| open.contains(&start)))
    }
}

/// What may be a hole at that place, blanks before it left out.
fn hole(sql: &[u8], at: usize) -> Option<(Range<usize>, u8)> {
    let rest = sql.get(at..)?;
    let start = at + rest.iter().position(|byte| *byte != b' ')?;
    let rest = sql.get(start..)?;
    let (length, mark) = match rest.first()? {
        b'0'..=b'9' => {
            let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
            (Some(digits).filter(|it| *it <= MOST_DIGITS)?, NUMBER)
        }
        b'\'' => (memchr::memchr(b'\'', rest.get(1..)?)? + 2, TEXT),
        _ => return None,
    };
    let is_whole =
        rest.get(length).is_none_or(|next| matches!(next, b' ' | b'\t' | b'\n' | b'\r' | b',' | b';' | b')'));
    is_whole.then_some((start..start + length, mark))
}

/// Notes where in the text the open constants of a statement begin.
fn gather(node: &Node, open: &mut Vec<i64>) {
    match node.kind {
        "SelectStmt" | "InsertStmt" | "DeleteStmt" | "WithClause" | "CommonTableExpr" | "RangeSubselect"
        | "JoinExpr" | "BoolExpr" | "SubLink" => {}
        "UpdateStmt" => {
            let set = node.nodes("target_list").filter(|it| it.kind == "ResTarget").filter_map(|it| it.node("val"));
            open.extend(set.filter_map(constant));
        }
        // AEXPR_OP
        "AExpr" if node.number("kind") == 1 && node.names("name") == ["="] => {
            let is_column = node.node("lexpr").is_some_and(|it| it.kind == "ColumnRef");
            open.extend(node.node("rexpr").filter(|_| is_column).and_then(constant));
            return;
        }
        _ => return,
    }
    for child in node.children() {
        gather(child, open);
    }
}

/// The place of a constant that is a number or a text.
fn constant(node: &Node) -> Option<i64> {
    let is_plain = || node.node("val").is_some_and(|it| matches!(it.kind, "Integer" | "String"));
    (node.kind == "AConst" && is_plain()).then(|| node.number("location"))
}

/// Whether all that was said of a text, one of an open shape, is said of the shape, but for the text itself.
pub(super) fn is_template(parsed: &Parsed, sql: &[u8]) -> bool {
    let [only] = parsed.statements.as_slice() else { return false };
    let text = sql.get(only.text.clone());
    let is_of_text = |statement: &Statement| {
        let mut texts = statement.actions.iter().map(|it| it.parameters.get("sql"));
        texts.all(|it| it.is_none_or(|it| it.as_str().map(str::as_bytes) == text))
    };
    text.is_some()
        && is_of_text(only)
        && only.effect == Effect::None
        && !only.is_dynamic
        && parsed.wording.redacted.is_some()
        && parsed.wording.shown.is_none()
}

/// What was said of `before`, said of another text of its shape. `None`: the text is to be shown otherwise than it is.
pub(super) fn filled(template: &Parsed, before: &[u8], sql: &[u8], shape: &Shape) -> Option<Parsed> {
    let text = std::str::from_utf8(sql).ok()?;
    if shape.has_text && matches!(secrets::redact(text), Cow::Owned(_)) {
        return None;
    }
    let mut statement = template.statements.first()?.clone();
    // All holes are within the statement.
    let behind = before.len().checked_sub(statement.text.end)?;
    statement.text.end = sql.len().checked_sub(behind)?;
    let own = text.get(statement.text.clone())?;
    let actions = statement.actions.iter().cloned().map(|mut action| {
        if let Some(text) = action.parameters.get_mut("sql") {
            *text = Value::String(own.to_owned());
        }
        action
    });
    statement.actions = actions.collect();
    Some(Parsed { statements: vec![statement], wording: template.wording.clone() })
}

#[cfg(test)]
mod tests;
