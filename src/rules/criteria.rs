//! What a rule looks for in an action: the fields of `match` and `unless`.
//!
//! Every field that is given must match; within one field any of the listed values does. Where a
//! request holds several values for one field, or a value is not known, the [`Reach`] of the rule
//! decides, so that doubt never helps the request.

use std::borrow::Cow;

use serde_json::Value;

use super::{NO_REGION, Subject};
use crate::action::{Access, Action, Trait, Traits};
use crate::pattern::Glob;

/// How far a match reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// For what permits (an allow rule, the `unless` of a hold or deny rule): every resource and
    /// every value must match, nothing may be unknown. One allowed key must not smuggle another.
    Narrow,
    /// For what restricts (a hold or deny rule, the `unless` of an allow rule): any resource or
    /// value suffices, in upper or lower case, and what is not known counts as matching.
    Wide,
}

impl Reach {
    pub(super) const fn opposite(self) -> Self {
        match self {
            Self::Narrow => Self::Wide,
            Self::Wide => Self::Narrow,
        }
    }
}

/// One field of the criteria, in the order in which they are tried: cheap and telling ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Action,
    Access,
    Traits,
    Tags,
    Agent,
    Owner,
    Region,
    Account,
    Resource,
    Parameters,
}

impl Field {
    pub(super) const ALL: [Self; 10] = [
        Self::Action,
        Self::Access,
        Self::Traits,
        Self::Tags,
        Self::Agent,
        Self::Owner,
        Self::Region,
        Self::Account,
        Self::Resource,
        Self::Parameters,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Action => "action",
            Self::Access => "access",
            Self::Traits => "traits",
            Self::Tags => "tags",
            Self::Agent => "agent",
            Self::Owner => "owner",
            Self::Region => "region",
            Self::Account => "account",
            Self::Resource => "resource",
            Self::Parameters => "parameters",
        }
    }
}

/// The fields of `match` or `unless`. An empty list of globs stands for a field not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Criteria {
    pub(super) action: Vec<Glob>,
    pub(super) access: Vec<Access>,
    pub(super) traits: TraitTest,
    pub(super) tags: Vec<Glob>,
    pub(super) resource: Vec<Glob>,
    pub(super) agent: Vec<Glob>,
    pub(super) owner: Vec<Glob>,
    pub(super) region: Vec<Glob>,
    pub(super) account: Vec<Glob>,
    pub(super) parameters: Vec<ParameterTest>,
}

/// At least one of `any` (when given), each of `all`, none of `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TraitTest {
    pub(super) any: Traits,
    pub(super) all: Traits,
    pub(super) none: Traits,
}

/// A test of one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParameterTest {
    /// A top-level name, or a JSON pointer when it starts with `/`, in which `*` is any element.
    pub(super) name: String,
    pub(super) wanted: Wanted,
}

/// What a parameter must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Present(bool),
    Text(Vec<Glob>),
}

impl Criteria {
    pub(super) fn matches(&self, subject: &Subject<'_>, action: &Action, reach: Reach) -> bool {
        Field::ALL.into_iter().all(|field| self.field_matches(field, subject, action, reach))
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a field was given at all.
    pub(super) fn gives(&self, field: Field) -> bool {
        match field {
            Field::Action => !self.action.is_empty(),
            Field::Access => !self.access.is_empty(),
            Field::Traits => self.traits != TraitTest::default(),
            Field::Tags => !self.tags.is_empty(),
            Field::Agent => !self.agent.is_empty(),
            Field::Owner => !self.owner.is_empty(),
            Field::Region => !self.region.is_empty(),
            Field::Account => !self.account.is_empty(),
            Field::Resource => !self.resource.is_empty(),
            Field::Parameters => !self.parameters.is_empty(),
        }
    }

    /// What a field asks for, for people; empty when it was not given.
    pub(super) fn wanted(&self, field: Field) -> String {
        const SHOWN: usize = 8;
        let globs = |globs: &[Glob]| {
            let shown: Vec<&str> = globs.iter().take(SHOWN).map(Glob::as_str).collect();
            let more = globs.len().saturating_sub(SHOWN);
            if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
        };
        match field {
            Field::Action => globs(&self.action),
            Field::Access => self.access.iter().map(|access| access.as_str()).collect::<Vec<_>>().join(", "),
            Field::Traits => {
                let TraitTest { any, all, none } = self.traits;
                let part = |word: &str, traits: Traits| {
                    (traits != Traits::EMPTY).then(|| format!("{word} {}", traits.names().join(", ")))
                };
                [part("any of", any), part("all of", all), part("none of", none)]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join("; ")
            }
            Field::Tags => globs(&self.tags),
            Field::Agent => globs(&self.agent),
            Field::Owner => globs(&self.owner),
            Field::Region => globs(&self.region),
            Field::Account => globs(&self.account),
            Field::Resource => globs(&self.resource),
            Field::Parameters => {
                let tests = self.parameters.iter().map(|test| match &test.wanted {
                    Wanted::Present(true) => format!("{} present", test.name),
                    Wanted::Present(false) => format!("{} absent", test.name),
                    Wanted::Text(wanted) => format!("{} {}", test.name, globs(wanted)),
                });
                tests.collect::<Vec<_>>().join("; ")
            }
        }
    }

    pub(super) fn field_matches(&self, field: Field, subject: &Subject<'_>, action: &Action, reach: Reach) -> bool {
        match field {
            // Even criteria that say nothing about traits must not permit what has no certain name.
            Field::Traits => self.traits.matches(action.traits, reach),
            _ if !self.gives(field) => true,
            Field::Action => any(&self.action, &action.name),
            Field::Access => self.access.contains(&action.access),
            Field::Tags => tags_match(&self.tags, &action.tags, reach),
            Field::Agent => any(&self.agent, subject.agent.id.as_str()),
            Field::Owner => any(&self.owner, &subject.agent.owner.to_string()),
            Field::Region => any(&self.region, action.region.as_deref().unwrap_or(NO_REGION)),
            Field::Account => {
                action.account.as_ref().map_or(reach == Reach::Wide, |account| any(&self.account, account))
            }
            Field::Resource => resources_match(&self.resource, &action.resources, reach),
            Field::Parameters => self.parameters.iter().all(|test| test.matches(action, reach)),
        }
    }
}

impl TraitTest {
    fn matches(self, traits: Traits, reach: Reach) -> bool {
        if reach == Reach::Narrow && traits.contains(Trait::Unknown) && !self.names(Trait::Unknown) {
            return false;
        }
        (self.any == Traits::EMPTY || self.any.iter().any(|it| traits.contains(it)))
            && self.all.is_subset(traits)
            && !self.none.iter().any(|it| traits.contains(it))
    }

    /// Whether the test asks for that trait.
    pub(super) fn names(self, it: Trait) -> bool {
        self.any.union(self.all).contains(it)
    }
}

impl ParameterTest {
    fn matches(&self, action: &Action, reach: Reach) -> bool {
        let mut found = Vec::new();
        let top = match self.name.strip_prefix('/') {
            None => {
                found.extend(action.parameters.get(&self.name));
                self.name.as_str()
            }
            Some(pointer) => {
                let mut steps = pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
                let top = steps.next().unwrap_or_default();
                found.extend(action.parameters.get(&top));
                for step in steps {
                    found = found.into_iter().flat_map(|value| elements(value, &step)).collect();
                }
                pointer.split('/').next().unwrap_or_default()
            }
        };
        match &self.wanted {
            Wanted::Present(wanted) => *wanted != found.is_empty(),
            // A secret value is never compared, so it cannot be guessed by way of decisions.
            Wanted::Text(_) if action.sensitive.iter().any(|name| name == top) => {
                reach == Reach::Wide && !found.is_empty()
            }
            Wanted::Text(globs) => {
                let mut values = found.into_iter().flat_map(flat);
                match reach {
                    Reach::Wide => values.any(|value| value_matches(globs, value, Glob::matches_any_case)),
                    Reach::Narrow => {
                        let mut values = values.peekable();
                        values.peek().is_some() && values.all(|value| value_matches(globs, value, Glob::matches))
                    }
                }
            }
        }
    }
}

fn any(globs: &[Glob], text: &str) -> bool {
    globs.iter().any(|glob| glob.matches(text))
}

/// A permission must mean each tag of what it lets through.
fn tags_match(globs: &[Glob], tags: &[String], reach: Reach) -> bool {
    match reach {
        Reach::Wide => tags.iter().any(|tag| any(globs, tag)),
        Reach::Narrow => !tags.is_empty() && tags.iter().all(|tag| any(globs, tag)),
    }
}

fn resources_match(globs: &[Glob], resources: &[String], reach: Reach) -> bool {
    match reach {
        Reach::Wide => resources.iter().any(|resource| globs.iter().any(|glob| may_be(glob, resource))),
        Reach::Narrow => {
            !resources.is_empty() && resources.iter().all(|resource| globs.iter().any(|glob| must_be(glob, resource)))
        }
    }
}

/// Whether a resource may be one that the glob means. A name that holds a `*` of its own (a
/// template, where the request does not say all of it) may be any that it matches; `*` alone says
/// that the action is about no one thing, and only a glob that matches `*` means it.
///
/// Case is no difference here: RDS and other services take `PROD-DB` for `prod-db`.
fn may_be(glob: &Glob, resource: &str) -> bool {
    glob.matches_any_case(resource)
        || (resource.contains('*')
            && resource != "*"
            && may_meet(&glob.as_str().to_ascii_lowercase(), &resource.to_ascii_lowercase()))
}

/// Whether some text is matched by a glob and by a template in which only `*` is special. Names too
/// long for that to be found out may always meet.
fn may_meet(glob: &str, template: &str) -> bool {
    const LARGEST_TABLE: usize = 64 << 10;
    // `?` takes a whole character, of which a byte-wise table knows nothing.
    let is_bytewise = template.is_ascii() || !glob.contains('?');
    let (glob, template) = (glob.as_bytes(), template.as_bytes());
    if !is_bytewise || glob.len().saturating_mul(template.len()) > LARGEST_TABLE {
        return true;
    }
    // `meets[t]`: the part of the glob seen so far can match what the first `t` of the template can be.
    let mut meets: Vec<bool> = Vec::with_capacity(template.len() + 1);
    meets.push(true);
    for &byte in template {
        meets.push(byte == b'*' && meets.last() == Some(&true));
    }
    for &wanted in glob {
        let mut next = Vec::with_capacity(meets.len());
        next.push(wanted == b'*' && meets.first() == Some(&true));
        for ((&byte, &before), &above) in template.iter().zip(&meets).zip(meets.iter().skip(1)) {
            let left = next.last() == Some(&true);
            next.push(match (wanted, byte) {
                (b'*', _) | (_, b'*') => above || left,
                (b'?', _) => before,
                _ => before && wanted == byte,
            });
        }
        meets = next;
    }
    meets.last() == Some(&true)
}

/// Whether a resource is certainly one that the glob means: `?` must not stand for a `*` in its name.
fn must_be(glob: &Glob, resource: &str) -> bool {
    glob.matches(resource) && !(resource.contains('*') && glob.as_str().contains('?'))
}

/// The part of a glob before its first wildcard.
pub(super) fn literal_prefix(glob: &str) -> &str {
    glob.split(['*', '?']).next().unwrap_or_default()
}

/// The members that one step of a pointer leads to.
fn elements<'a>(value: &'a Value, step: &str) -> Vec<&'a Value> {
    match value {
        Value::Object(members) if step == "*" => members.values().collect(),
        Value::Object(members) => members.get(step).into_iter().collect(),
        Value::Array(items) if step == "*" => items.iter().collect(),
        Value::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// A list stands for its elements.
fn flat(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    }
}

/// Text is compared as it is, anything else by its JSON.
fn value_matches(globs: &[Glob], value: &Value, matches: fn(&Glob, &str) -> bool) -> bool {
    let text = match value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        other => Cow::Owned(other.to_string()),
    };
    globs.iter().any(|glob| matches(glob, &text))
}
