//! Bodies of functions and blocks in SQL.

use std::borrow::Cow;

use super::super::tree::Node;
use super::super::{grammar, text};
use super::{At, Namer, Scope};

impl Namer<'_> {
    /// Names each statement of a text of SQL as a part of `at`.
    pub(super) fn sql_text(&mut self, at: At, source: &str) {
        // A body that stands as a tree, as the server deparses it, is no statement by itself.
        if source.starts_with("BEGIN ATOMIC") || source.starts_with("RETURN ") {
            let whole = format!("CREATE FUNCTION f() RETURNS int LANGUAGE sql {source}");
            return self.with_statements(at, &whole, |namer, node| match node.node("sql_body") {
                Some(body) => namer.visit(at, body, &Scope::ROOT),
                None => namer.inner(at, node),
            });
        }
        self.with_statements(at, source, |namer, node| namer.inner(at, node));
    }

    /// Walks an expression of PL/pgSQL: what stands behind SELECT.
    pub(super) fn expression(&mut self, at: At, source: &str) {
        if source.trim().is_empty() {
            return;
        }
        self.with_statements(at, &format!("SELECT {source}"), |namer, node| namer.visit(at, node, &Scope::ROOT));
    }

    fn with_statements(&mut self, at: At, source: &str, mut each: impl FnMut(&mut Self, &Node) + Send) {
        let checked = match text::check_text(Cow::Borrowed(source), self.settings.standard_conforming_strings) {
            Ok(checked) => checked,
            Err(why) => return self.doubt(at, format!("a body cannot be read: {why}")),
        };
        let mut read = || -> Result<(), String> {
            for raw in grammar::parse(&checked.sql)? {
                match raw.tree.node() {
                    Some(node) => each(self, node),
                    None => self.doubt(at, "a statement has no tree"),
                }
            }
            Ok(())
        };
        let read = if checked.is_deep { super::on_a_deep_stack(read) } else { read() };
        if let Err(why) = read {
            self.doubt(at, format!("a body cannot be read: {why}"));
        }
    }
}
