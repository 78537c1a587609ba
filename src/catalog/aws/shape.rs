//! Input shapes: how members are called in the model and on the wire.

use serde::Deserialize;

/// One input shape. Shapes refer to each other by number, so they may be recursive.
#[derive(Debug)]
pub(crate) enum Shape {
    Blob,
    Boolean,
    /// Free-form JSON.
    Document,
    Float,
    Integer,
    List {
        element: usize,
        element_name: Option<&'static str>,
        is_flat: bool,
    },
    Map {
        value: usize,
        key_name: Option<&'static str>,
        value_name: Option<&'static str>,
        is_flat: bool,
    },
    Structure(Vec<Member>),
    Text,
    Timestamp,
}

impl Shape {
    /// The members of a structure; none for any other shape.
    pub(crate) fn members(&self) -> &[Member] {
        match self {
            Self::Structure(members) => members,
            _ => &[],
        }
    }
}

/// Where a member travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Body,
    Header,
    /// All header fields that start with the wire name.
    HeaderPrefix,
    Label,
    Query,
}

/// One member of a structure.
#[derive(Debug)]
pub(crate) struct Member {
    /// The model's name, by which rules and cards know it.
    pub(crate) name: &'static str,
    pub(crate) shape: usize,
    wire: Option<&'static str>,
    query: Option<&'static str>,
    pub(crate) location: Location,
    pub(crate) is_flat: bool,
}

impl Member {
    /// Name in JSON and XML, or of the header field, query field or label.
    pub(crate) fn wire_name(&self) -> &'static str {
        self.wire.unwrap_or(self.name)
    }

    /// Name in a form by the model of today, where old clients use another one.
    pub(crate) fn newer_form_name(&self) -> Option<&'static str> {
        self.query.map(|_| self.wire_name())
    }

    /// Name in a form.
    pub(crate) fn form_name(&self) -> &'static str {
        self.query.unwrap_or_else(|| self.wire_name())
    }
}

#[derive(Deserialize)]
pub(super) struct ShapeRow<'t> {
    #[serde(rename = "k")]
    kind: char,
    #[serde(rename = "m", default, borrow)]
    members: Vec<MemberRow<'t>>,
    #[serde(rename = "e", default)]
    element: usize,
    #[serde(rename = "n", default, borrow)]
    name: Option<&'t str>,
    #[serde(rename = "v", default, borrow)]
    value_name: Option<&'t str>,
    #[serde(rename = "f", default)]
    flat: u8,
}

#[derive(Deserialize)]
struct MemberRow<'t> {
    #[serde(rename = "n")]
    name: &'t str,
    #[serde(rename = "s")]
    shape: usize,
    #[serde(rename = "w", default, borrow)]
    wire: Option<&'t str>,
    #[serde(rename = "q", default, borrow)]
    query: Option<&'t str>,
    #[serde(rename = "l", default)]
    location: Option<char>,
    #[serde(rename = "f", default)]
    flat: u8,
}

impl ShapeRow<'_> {
    /// Whether it is of a known kind and refers to shapes that are there.
    pub(super) fn is_sound(&self, count: usize) -> bool {
        "bdfilmostx".contains(self.kind) && self.element < count && self.members.iter().all(|it| it.shape < count)
    }

    pub(super) fn is_structure(&self) -> bool {
        self.kind == 's'
    }
}

impl From<ShapeRow<'static>> for Shape {
    fn from(row: ShapeRow<'static>) -> Self {
        match row.kind {
            'b' => Self::Boolean,
            'd' => Self::Timestamp,
            'f' => Self::Float,
            'i' => Self::Integer,
            'l' => Self::List { element: row.element, element_name: row.name, is_flat: row.flat == 1 },
            'm' => {
                Self::Map { value: row.element, key_name: row.name, value_name: row.value_name, is_flat: row.flat == 1 }
            }
            's' => Self::Structure(row.members.into_iter().map(Member::from).collect()),
            't' => Self::Text,
            'x' => Self::Blob,
            _ => Self::Document,
        }
    }
}

impl From<MemberRow<'static>> for Member {
    fn from(row: MemberRow<'static>) -> Self {
        Self {
            name: row.name,
            shape: row.shape,
            wire: row.wire,
            query: row.query,
            location: match row.location {
                Some('h') => Location::Header,
                Some('H') => Location::HeaderPrefix,
                Some('q') => Location::Query,
                Some('u') => Location::Label,
                _ => Location::Body,
            },
            is_flat: row.flat == 1,
        }
    }
}
