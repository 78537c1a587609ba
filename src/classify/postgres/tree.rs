//! The parse tree as data: every node with its kind and fields, none left out.
//!
//! The grammar's own types are some 270 structs. They are turned into one kind of node by their
//! serialiser, which names each field, so that a walk over the tree cannot miss a place where an
//! expression may stand, nor one that a later grammar adds.

use std::fmt;

use serde::ser::{self, Impossible, Serialize};

/// A value of the tree. Fields that are absent, zero, false or empty are left out of their node.
#[derive(Debug, PartialEq)]
pub(super) enum Tree {
    Nothing,
    Flag(bool),
    Number(i64),
    Text(String),
    List(Vec<Tree>),
    Node(Box<Node>),
}

/// A node: `SelectStmt`, `FuncCall`, `AConst`.
#[derive(Debug, PartialEq)]
pub(super) struct Node {
    pub(super) kind: &'static str,
    fields: Vec<(&'static str, Tree)>,
}

impl Node {
    pub(super) fn field(&self, name: &str) -> &Tree {
        self.fields.iter().find(|(field, _)| *field == name).map_or(&Tree::Nothing, |(_, tree)| tree)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        *self.field(name) != Tree::Nothing
    }

    /// A text field; empty when absent.
    pub(super) fn text(&self, name: &str) -> &str {
        match self.field(name) {
            Tree::Text(text) => text,
            _ => "",
        }
    }

    /// A number or the number of an enum's member; 0 when absent.
    pub(super) fn number(&self, name: &str) -> i64 {
        match self.field(name) {
            Tree::Number(number) => *number,
            _ => 0,
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        *self.field(name) == Tree::Flag(true)
    }

    pub(super) fn node(&self, name: &str) -> Option<&Self> {
        self.field(name).node()
    }

    /// The nodes of a list field.
    pub(super) fn nodes(&self, name: &str) -> impl DoubleEndedIterator<Item = &Self> {
        self.field(name).items().iter().filter_map(Tree::node)
    }

    /// The members of a list of names: `pg_catalog`, `lower`.
    pub(super) fn names(&self, name: &str) -> Vec<&str> {
        self.nodes(name).map(|it| it.text("sval")).collect()
    }

    /// Every node directly below, lists entered.
    pub(super) fn children(&self) -> Vec<&Self> {
        let mut found = Vec::new();
        for (_, tree) in &self.fields {
            tree.gather(&mut found);
        }
        found
    }

    /// Every node directly below that stands in another field.
    pub(super) fn children_but(&self, names: &[&str]) -> Vec<&Self> {
        let mut found = Vec::new();
        for (field, tree) in &self.fields {
            if !names.contains(field) {
                tree.gather(&mut found);
            }
        }
        found
    }
}

impl Tree {
    pub(super) fn node(&self) -> Option<&Node> {
        match self {
            Self::Node(node) => Some(node),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    fn gather<'t>(&'t self, found: &mut Vec<&'t Node>) {
        match self {
            Self::Node(node) => found.push(node),
            Self::List(items) => items.iter().for_each(|item| item.gather(found)),
            Self::Nothing | Self::Flag(_) | Self::Number(_) | Self::Text(_) => {}
        }
    }
}

/// Reads any of the grammar's structs.
///
/// # Errors
/// When the struct holds a value that trees do not have, which no parse gives.
pub(super) fn read<T: Serialize>(value: &T) -> Result<Tree, Unreadable> {
    value.serialize(Reader)
}

/// A value that a parse tree cannot hold.
#[derive(Debug, thiserror::Error)]
#[error("the parse tree holds what none can: {0}")]
pub(super) struct Unreadable(String);

impl ser::Error for Unreadable {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

struct Reader;

/// A struct or list on the way; `name` is empty for a list.
struct Growing {
    kind: &'static str,
    fields: Vec<(&'static str, Tree)>,
    items: Vec<Tree>,
}

impl ser::SerializeStruct for Growing {
    type Ok = Tree;
    type Error = Unreadable;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unreadable> {
        match value.serialize(Reader)? {
            Tree::Nothing => {}
            tree => self.fields.push((name, tree)),
        }
        Ok(())
    }

    fn end(mut self) -> Result<Tree, Unreadable> {
        // Wrappers around one of many kinds are not nodes of their own.
        if self.kind == "Node" {
            return Ok(self.fields.pop().map_or(Tree::Nothing, |(_, tree)| tree));
        }
        Ok(Tree::Node(Box::new(Node { kind: self.kind, fields: self.fields })))
    }
}

impl ser::SerializeSeq for Growing {
    type Ok = Tree;
    type Error = Unreadable;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unreadable> {
        self.items.push(value.serialize(Reader)?);
        Ok(())
    }

    fn end(self) -> Result<Tree, Unreadable> {
        Ok(if self.items.is_empty() { Tree::Nothing } else { Tree::List(self.items) })
    }
}

type No = Impossible<Tree, Unreadable>;

fn number(value: impl TryInto<i64>) -> Result<Tree, Unreadable> {
    Ok(match value.try_into().unwrap_or(i64::MAX) {
        0 => Tree::Nothing,
        number => Tree::Number(number),
    })
}

fn none<T>(what: &str) -> Result<T, Unreadable> {
    Err(Unreadable(what.to_owned()))
}

impl ser::Serializer for Reader {
    type Ok = Tree;
    type Error = Unreadable;
    type SerializeSeq = Growing;
    type SerializeTuple = No;
    type SerializeTupleStruct = No;
    type SerializeTupleVariant = No;
    type SerializeMap = No;
    type SerializeStruct = Growing;
    type SerializeStructVariant = No;

    fn serialize_bool(self, value: bool) -> Result<Tree, Unreadable> {
        Ok(if value { Tree::Flag(true) } else { Tree::Nothing })
    }
    fn serialize_i8(self, value: i8) -> Result<Tree, Unreadable> {
        number(value)
    }
    fn serialize_i16(self, value: i16) -> Result<Tree, Unreadable> {
        number(value)
    }
    fn serialize_i32(self, value: i32) -> Result<Tree, Unreadable> {
        number(value)
    }
    fn serialize_i64(self, value: i64) -> Result<Tree, Unreadable> {
        number(value)
    }
    fn serialize_u8(self, value: u8) -> Result<Tree, Unreadable> {
        number(value)
    }
    fn serialize_u16(self, value: u16) -> Result<Tree, Unreadable> {
        number(value)
    }
    fn serialize_u32(self, value: u32) -> Result<Tree, Unreadable> {
        number(value)
    }
    fn serialize_u64(self, value: u64) -> Result<Tree, Unreadable> {
        number(value)
    }
    fn serialize_f32(self, _: f32) -> Result<Tree, Unreadable> {
        Ok(Tree::Nothing)
    }
    fn serialize_f64(self, _: f64) -> Result<Tree, Unreadable> {
        // Planner costs; constants are texts.
        Ok(Tree::Nothing)
    }
    fn serialize_char(self, _: char) -> Result<Tree, Unreadable> {
        none("a character")
    }
    fn serialize_str(self, value: &str) -> Result<Tree, Unreadable> {
        Ok(if value.is_empty() { Tree::Nothing } else { Tree::Text(value.to_owned()) })
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<Tree, Unreadable> {
        none("bytes")
    }
    fn serialize_none(self) -> Result<Tree, Unreadable> {
        Ok(Tree::Nothing)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Tree, Unreadable> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Tree, Unreadable> {
        Ok(Tree::Nothing)
    }
    fn serialize_unit_struct(self, name: &'static str) -> Result<Tree, Unreadable> {
        none(name)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Tree, Unreadable> {
        none(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Tree, Unreadable> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Tree, Unreadable> {
        value.serialize(self)
    }
    fn serialize_seq(self, length: Option<usize>) -> Result<Growing, Unreadable> {
        Ok(Growing { kind: "", fields: Vec::new(), items: Vec::with_capacity(length.unwrap_or(0).min(1024)) })
    }
    fn serialize_tuple(self, _: usize) -> Result<No, Unreadable> {
        none("a tuple")
    }
    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<No, Unreadable> {
        none(name)
    }
    fn serialize_tuple_variant(self, _: &'static str, _: u32, name: &'static str, _: usize) -> Result<No, Unreadable> {
        none(name)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<No, Unreadable> {
        none("a map")
    }
    fn serialize_struct(self, kind: &'static str, _: usize) -> Result<Growing, Unreadable> {
        Ok(Growing { kind, fields: Vec::new(), items: Vec::new() })
    }
    fn serialize_struct_variant(self, _: &'static str, _: u32, name: &'static str, _: usize) -> Result<No, Unreadable> {
        none(name)
    }
}
