//! Operations: verb, path template and what the reference says about rights.

use serde::Deserialize;

use super::shape::{Location, Shape};
use crate::action::{Access, Trait, Traits};

/// One operation.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) row: OperationRow<'static>,
    /// `aws:iam:CreateAccessKey`
    pub(crate) action_name: String,
    /// The path template; empty for `/`.
    pub(crate) path: Vec<Segment>,
    pub(crate) ends_with_slash: bool,
    /// Query fields that the template demands, with their values.
    pub(crate) constants: Vec<(&'static str, &'static str)>,
    /// Wire names of the query fields and header fields that every request of this operation carries.
    pub(crate) required_query: Vec<&'static str>,
    pub(crate) required_headers: Vec<&'static str>,
    /// True when some member travels in the body.
    pub(crate) has_body: bool,
    pub(crate) traits: Traits,
    /// The traits that a member's presence adds.
    pub(crate) conditional_traits: Vec<(Path, Traits)>,
    pub(crate) resources: Vec<Template>,
    /// Members that hand over a role.
    pub(crate) roles: Vec<Role>,
    pub(crate) conditional_iam: Vec<Conditional>,
    /// A text member, and the words that make the operation an export.
    pub(crate) export_words: Option<(Path, Vec<&'static str>)>,
}

/// Names that lead to a member: lists are entered, `#` takes a map's keys, `*` its values.
pub(crate) type Path = Vec<&'static str>;

/// A resource's name with holes for what the request says.
#[derive(Debug)]
pub(crate) struct Template {
    /// What stands before each hole, and what fills it.
    pub(crate) holes: Vec<(&'static str, Filler)>,
    pub(crate) rest: &'static str,
}

/// What fills a hole of a [`Template`].
#[derive(Debug)]
pub(crate) enum Filler {
    Account,
    Member(Path),
    Partition,
    Region,
}

/// A member that hands over a role.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) path: Path,
    /// It names an instance profile, which holds the role.
    pub(crate) is_profile: bool,
}

/// An IAM action that a member's presence adds.
#[derive(Debug)]
pub(crate) struct Conditional {
    pub(crate) path: Path,
    pub(crate) action: &'static str,
    /// What the reference says of that action.
    pub(crate) access: Access,
    /// It comes instead of the main one.
    pub(crate) is_instead: bool,
}

/// One segment of a path template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Segment {
    Literal(&'static str),
    /// Any day, `2020-05-31`: CloudFront serves each path under many.
    Date,
    /// One segment; the wire name of the member.
    Label(&'static str),
    /// One segment or more.
    Greedy(&'static str),
}

/// How the body carries the member that is the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Bytes, text or an event stream: data, not parameters.
    Data,
    /// The structure itself.
    Structure,
}

/// The operation as the table holds it.
#[derive(Debug, Deserialize)]
pub(crate) struct OperationRow<'t> {
    #[serde(rename = "n")]
    pub(crate) name: &'t str,
    #[serde(rename = "v")]
    pub(crate) method: &'t str,
    #[serde(rename = "u")]
    uri: &'t str,
    #[serde(rename = "i", default)]
    pub(crate) input: Option<usize>,
    #[serde(rename = "rq", default, borrow)]
    required: Vec<&'t str>,
    #[serde(rename = "pl", default, borrow)]
    pub(crate) payload: Option<&'t str>,
    #[serde(rename = "pk", default)]
    payload_kind: Option<char>,
    /// Name of the XML element that wraps the body members.
    #[serde(rename = "xr", default, borrow)]
    pub(crate) xml_root: Option<&'t str>,
    /// What precedes the service's host name, `{AccountId}.`.
    #[serde(rename = "hp", default, borrow)]
    pub(crate) host_prefix: Option<&'t str>,
    #[serde(rename = "fl", default)]
    flags: &'t str,
    #[serde(rename = "a")]
    access: usize,
    /// IAM actions, the main one first.
    #[serde(rename = "ia", default, borrow)]
    pub(crate) iam_actions: Vec<&'t str>,
    /// Member path, the IAM action its presence adds (`=` in front: instead of the main one), and that one's level.
    #[serde(rename = "ci", default, borrow)]
    conditional_iam: Vec<(&'t str, &'t str, usize)>,
    #[serde(rename = "t", default)]
    traits: u16,
    /// Member path and the traits its presence adds.
    #[serde(rename = "tm", default, borrow)]
    conditional_traits: Vec<(&'t str, u16)>,
    /// A text member, and the words that make the operation an export.
    #[serde(rename = "tx", default, borrow)]
    export_words: Vec<&'t str>,
    /// Paths of members that hand over a role.
    #[serde(rename = "pr", default, borrow)]
    roles: Vec<&'t str>,
    #[serde(rename = "r", default, borrow)]
    resources: Vec<&'t str>,
    #[serde(rename = "se", default, borrow)]
    pub(crate) sensitive: Vec<&'t str>,
}

impl OperationRow<'_> {
    /// What would make requests be read wrongly, or not at all; the input must be a structure.
    pub(super) fn mistake(&self, is_structure: impl Fn(usize) -> bool) -> Option<&'static str> {
        let is_name =
            (1..=128).contains(&self.name.len()) && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match () {
            () if !is_name => Some("the name is malformed"),
            () if !METHODS.contains(&self.method) => Some("the method is none that is served"),
            () if !self.uri.starts_with('/') => Some("the path does not begin with a slash"),
            () if self.input.is_some_and(|number| !is_structure(number)) => {
                Some("its input is no structure of the block")
            }
            () if self.access >= LEVELS.len() || self.conditional_iam.iter().any(|it| it.2 >= LEVELS.len()) => {
                Some("the access is none of the five")
            }
            () => None,
        }
    }
}

const METHODS: [&str; 6] = ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"];

/// The generator numbers the levels in this order.
const LEVELS: [Access; 5] = [Access::List, Access::Read, Access::Tagging, Access::Write, Access::Permissions];

impl Operation {
    pub(super) fn new(row: OperationRow<'static>, prefix: &str, shapes: &[Shape]) -> Self {
        let (path, query) = row.uri.split_once('?').unwrap_or((row.uri, ""));
        let members = row.input.and_then(|number| shapes.get(number)).map_or(&[][..], Shape::members);
        let required = |location| {
            let is_required = |name: &str| row.required.contains(&name);
            members
                .iter()
                .filter(move |it| it.location == location && is_required(it.name))
                .map(|it| it.wire_name())
                .collect()
        };
        Self {
            action_name: format!("aws:{prefix}:{}", row.name),
            path: path.split('/').filter(|segment| !segment.is_empty()).map(segment).collect(),
            ends_with_slash: path.len() > 1 && path.ends_with('/'),
            constants: query
                .split('&')
                .filter(|field| !field.is_empty())
                .map(|field| field.split_once('=').unwrap_or((field, "")))
                .collect(),
            required_query: required(Location::Query),
            required_headers: required(Location::Header),
            has_body: row.payload.is_some() || members.iter().any(|it| it.location == Location::Body),
            traits: if is_unmapped(&row, prefix) {
                traits(row.traits).with(Trait::Unmapped)
            } else {
                traits(row.traits)
            },
            conditional_traits: row
                .conditional_traits
                .iter()
                .map(|(path, bits)| (self::path(path), traits(*bits)))
                .collect(),
            resources: row.resources.iter().filter_map(|text| Template::read(text)).collect(),
            roles: row
                .roles
                .iter()
                .map(|text| Role { path: self::path(text), is_profile: text.contains("nstanceProfile") })
                .collect(),
            conditional_iam: row
                .conditional_iam
                .iter()
                .map(|(path, action, access)| {
                    let instead = action.strip_prefix('=');
                    Conditional {
                        path: self::path(path),
                        action: instead.unwrap_or(action),
                        access: level(*access),
                        is_instead: instead.is_some(),
                    }
                })
                .collect(),
            export_words: row.export_words.split_first().map(|(text, words)| (self::path(text), words.to_vec())),
            row,
        }
    }

    pub(crate) fn access(&self) -> Access {
        level(self.row.access)
    }

    pub(crate) fn payload(&self) -> Option<Payload> {
        let kind = self.row.payload_kind?;
        Some(if matches!(kind, 'x' | 't' | 'e') { Payload::Data } else { Payload::Structure })
    }

    pub(crate) fn needs_no_signature(&self) -> bool {
        self.row.flags.contains('u')
    }

    /// True for a name that another operation with the same request has replaced, or may have.
    pub(crate) fn is_deprecated(&self) -> bool {
        self.row.flags.contains('d')
    }

    /// True where the service takes a gzip body.
    pub(crate) fn takes_gzip(&self) -> bool {
        self.row.flags.contains('z')
    }
}

impl Template {
    /// `arn:{P}:s3:::{Bucket}`; `None` when a brace is not closed.
    fn read(text: &'static str) -> Option<Self> {
        let mut holes = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}')?;
            rest = after;
            let filler = match name {
                "A" => Filler::Account,
                "P" => Filler::Partition,
                "R" => Filler::Region,
                name => Filler::Member(path(name.strip_prefix('=').unwrap_or(name))),
            };
            holes.push((before, filler));
        }
        Some(Self { holes, rest })
    }
}

fn level(number: usize) -> Access {
    LEVELS.get(number).copied().unwrap_or(Access::Permissions)
}

/// Without an IAM action the level is a guess by the name; it is trusted only where it says that nothing changes.
fn is_unmapped(row: &OperationRow<'_>, prefix: &str) -> bool {
    // API Gateway's IAM actions are the methods.
    row.iam_actions.is_empty() && prefix != "apigateway" && level(row.access) > Access::Read
}

fn path(text: &'static str) -> Path {
    text.split('.').collect()
}

fn segment(text: &'static str) -> Segment {
    match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(":date") => Segment::Date,
        Some(label) => label.strip_suffix('+').map_or(Segment::Label(label), Segment::Greedy),
        None => Segment::Literal(text),
    }
}

/// The generator numbers the traits in this order.
const TRAITS: [Trait; 9] = [
    Trait::Credential,
    Trait::CrossAccount,
    Trait::Destructive,
    Trait::Exec,
    Trait::Export,
    Trait::Privilege,
    Trait::Schema,
    Trait::Sharing,
    Trait::Unknown,
];

fn traits(bits: u16) -> Traits {
    TRAITS.into_iter().enumerate().filter(|(bit, _)| bits & 1 << bit != 0).map(|(_, it)| it).collect()
}
