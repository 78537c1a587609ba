//! Which tags a statement touches. A column is touched when its name occurs anywhere in the statement or in
//! what the statement runs, and wherever all columns are meant or cannot be told apart.

use hashbrown::HashSet;

use super::super::tree::Node;
use super::{At, Namer};
use crate::pattern::Glob;

/// What of a statement matters to tags; empty where nothing is tagged.
#[derive(Debug, Default)]
pub(super) struct Tagging<'a> {
    /// Tags of columns, with the draft they are for.
    columns: Vec<(At, &'a str, &'a Glob)>,
    /// Every identifier.
    words: HashSet<String>,
    /// Names that stand alone as a value: of a column, or of a whole row.
    alone: HashSet<String>,
    /// Names of relations and their aliases.
    rows: HashSet<String>,
    takes_all: bool,
}

impl<'a> Namer<'a> {
    /// Notes the tags of a relation. `is_whole`: its columns cannot be told apart here.
    pub(super) fn tag(&mut self, at: At, schema: &str, name: &str, is_whole: bool) {
        let tags = self.catalogue.tags();
        if tags.is_empty() {
            return;
        }
        self.tagging.rows.insert(name.to_owned());
        for (tag, column) in tags.of(&self.settings.database, schema, name) {
            match column {
                Some(column) if !is_whole => self.tagging.columns.push((at, tag, column)),
                _ => self.put_tag(at, tag),
            }
        }
    }

    /// Every column of every relation of the statement is touched.
    pub(super) fn tag_all(&mut self) {
        self.tagging.takes_all = true;
    }

    /// Notes what a node says about columns.
    pub(super) fn tag_node(&mut self, node: &Node) {
        if self.catalogue.tags().is_empty() {
            return;
        }
        let tagging = &mut self.tagging;
        let mut word = |word: &str| {
            if !word.is_empty() {
                tagging.words.insert(word.to_owned());
            }
        };
        match node.kind {
            "String" => word(node.text("sval")),
            "ResTarget" | "IndexElem" => word(node.text("name")),
            "AStar" => tagging.takes_all = true,
            "ColumnRef" => {
                if let [name] = node.names("fields").as_slice() {
                    tagging.alone.insert((*name).to_owned());
                }
            }
            "Alias" => {
                tagging.rows.insert(node.text("aliasname").to_owned());
                // Columns with new names.
                tagging.takes_all |= node.has("colnames");
            }
            "JoinExpr" => tagging.takes_all |= node.flag("is_natural"),
            "InsertStmt" => tagging.takes_all |= !node.has("cols"),
            "CopyStmt" => tagging.takes_all |= !node.has("attlist") && !node.has("query"),
            _ => {}
        }
    }

    fn put_tag(&mut self, at: At, tag: &str) {
        if let Some(draft) = self.drafts.get_mut(at)
            && !draft.tags.iter().any(|it| it == tag)
        {
            draft.tags.push(tag.to_owned());
        }
    }

    /// Settles what was noted about columns.
    pub(super) fn settle_tags(&mut self) {
        let tagging = std::mem::take(&mut self.tagging);
        let takes_all = tagging.takes_all || tagging.alone.iter().any(|it| tagging.rows.contains(it));
        for (at, tag, column) in tagging.columns {
            let is_named = match column.literal() {
                Some(column) => tagging.words.contains(column),
                None => tagging.words.iter().any(|it| column.matches(it)),
            };
            if takes_all || is_named {
                self.put_tag(at, tag);
            }
        }
    }
}
