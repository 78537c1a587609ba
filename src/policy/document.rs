//! Policy documents (IAM user guide, grammar of the JSON policy language) as statements in normal form.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Entry, Kind, danger, listed, quoted};
use crate::wire::aws::{BodyError, json};

/// Longest document that is compared; AWS takes none above 32 KiB.
const LIMIT_BYTES: usize = 256 << 10;

/// By what they mean: how they were written.
pub(super) type Set = BTreeMap<String, String>;

/// A list of an element and whether it is the one with `Not`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) is_not: bool,
    pub(super) set: Set,
}

impl Element {
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.set.values().map(String::as_str)
    }

    fn key(&self) -> String {
        let keys: Vec<&str> = self.set.keys().map(String::as_str).collect();
        format!("{}{}", if self.is_not { "not " } else { "" }, Value::from(keys))
    }
}

/// Operator and key of a condition, in lower case: how they were written, and the values.
pub(super) type Conditions = BTreeMap<(String, String), (String, Set)>;

/// One statement.
#[derive(Clone, Debug, Default)]
pub(super) struct Statement {
    pub(super) is_allow: bool,
    pub(super) principal: Option<Element>,
    pub(super) action: Element,
    /// Absent in trust policies.
    pub(super) resource: Option<Element>,
    pub(super) conditions: Conditions,
}

/// Why a document says nothing certain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("it is larger than the {LIMIT_BYTES} bytes that are looked at")]
    TooLarge,
    #[error("{0}")]
    Text(String),
    #[error("it is no policy: {0}")]
    Form(&'static str),
}

impl From<BodyError> for DocumentError {
    fn from(error: BodyError) -> Self {
        Self::Text(error.to_string())
    }
}

/// Reads a document.
///
/// # Errors
/// When it is too large, has more than one reading or is no policy.
pub(crate) fn read(text: &[u8], kind: Kind, own_account: Option<&str>) -> Result<Vec<Entry>, DocumentError> {
    if text.len() > LIMIT_BYTES {
        return Err(DocumentError::TooLarge);
    }
    of_value(&json::parse(text)?, kind, own_account)
}

/// Reads a document that was parsed.
///
/// # Errors
/// As [`read`].
pub(crate) fn of_value(value: &Value, kind: Kind, own_account: Option<&str>) -> Result<Vec<Entry>, DocumentError> {
    let members = Members::new(value.as_object().ok_or(DocumentError::Form("it is no object"))?)?;
    let mut entries = Vec::new();
    let version = members.get("version").map_or(Some("2008-10-17"), Value::as_str);
    let version = version.ok_or(DocumentError::Form("its Version is no text"))?;
    entries.push(Entry::plain(format!("Version {}", quoted(version)), Vec::new()));
    let statements = match members.get("statement") {
        Some(Value::Array(statements)) => statements.as_slice(),
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        _ => return Err(DocumentError::Form("it has no Statement")),
    };
    members.only(&["version", "id", "statement"])?;
    for statement in statements {
        entries.push(entry(statement, kind, own_account)?);
    }
    Ok(entries)
}

fn entry(value: &Value, kind: Kind, own_account: Option<&str>) -> Result<Entry, DocumentError> {
    let members = Members::new(value.as_object().ok_or(DocumentError::Form("a statement is no object"))?)?;
    members.only(&[
        "sid",
        "effect",
        "principal",
        "notprincipal",
        "action",
        "notaction",
        "resource",
        "notresource",
        "condition",
    ])?;
    let effect = members.get("effect").and_then(Value::as_str).unwrap_or_default();
    let is_allow = match effect.to_ascii_lowercase().as_str() {
        "allow" => true,
        "deny" => false,
        _ => return Err(DocumentError::Form("the Effect of a statement is neither Allow nor Deny")),
    };
    let sid = members.get("sid").and_then(Value::as_str).map(str::to_owned);
    let statement = Statement {
        is_allow,
        principal: members.either("principal", "notprincipal", principals)?,
        action: members
            .either("action", "notaction", |value| words(value, str::to_ascii_lowercase))?
            .ok_or(DocumentError::Form("a statement has no Action"))?,
        resource: members.either("resource", "notresource", |value| words(value, str::to_owned))?,
        conditions: members.get("condition").map_or(Ok(Conditions::new()), conditions)?,
    };
    let dangers = danger::of_statement(&statement, kind, own_account);
    Ok(Entry { key: statement.key(), text: statement.spoken(), dangers, sid, statement: Some(statement) })
}

/// Members by their names in lower case: AWS does not tell cases apart, so no name may stand twice.
struct Members<'v>(BTreeMap<String, &'v Value>);

impl<'v> Members<'v> {
    fn new(object: &'v Map<String, Value>) -> Result<Self, DocumentError> {
        let members: BTreeMap<_, _> = object.iter().map(|(name, it)| (name.to_ascii_lowercase(), it)).collect();
        match members.len() == object.len() {
            true => Ok(Self(members)),
            false => Err(DocumentError::Form("a member stands twice in it, in another case")),
        }
    }

    fn get(&self, name: &str) -> Option<&'v Value> {
        self.0.get(name).copied()
    }

    fn only(&self, names: &[&str]) -> Result<(), DocumentError> {
        match self.0.keys().all(|name| names.contains(&name.as_str())) {
            true => Ok(()),
            false => Err(DocumentError::Form("it has a member that policies do not have")),
        }
    }

    fn either(
        &self,
        plain: &str,
        not: &str,
        read: impl Fn(&Value) -> Result<Set, DocumentError>,
    ) -> Result<Option<Element>, DocumentError> {
        match (self.get(plain), self.get(not)) {
            (Some(_), Some(_)) => Err(DocumentError::Form("a statement has an element with and without Not")),
            (Some(value), None) => Ok(Some(Element { is_not: false, set: read(value)? })),
            (None, Some(value)) => Ok(Some(Element { is_not: true, set: read(value)? })),
            (None, None) => Ok(None),
        }
    }
}

/// One value or a list of them.
fn words(value: &Value, key: impl Fn(&str) -> String) -> Result<Set, DocumentError> {
    let word = |value: &Value| match value {
        Value::String(text) => Ok((key(text), text.clone())),
        Value::Bool(_) | Value::Number(_) => Ok((value.to_string(), value.to_string())),
        _ => Err(DocumentError::Form("an element holds neither text nor a list of it")),
    };
    match value {
        Value::Array(values) => values.iter().map(word).collect(),
        value => Ok([word(value)?].into()),
    }
}

/// `"*"`, or principals by their type.
fn principals(value: &Value) -> Result<Set, DocumentError> {
    let Value::Object(types) = value else { return words(value, str::to_owned) };
    let mut set = Set::new();
    for (kind, values) in types {
        for (_, text) in words(values, str::to_owned)? {
            let kind = kind.to_ascii_lowercase();
            let (key, shown) = match kind.as_str() {
                // The two forms of everybody, and the three of an account, mean the same.
                "aws" if text == "*" => ("*".to_owned(), text),
                "aws" => match root_of(&text) {
                    Some(account) => (format!("account {account}"), text),
                    None => (format!("aws {text}"), text),
                },
                _ => (format!("{kind} {text}"), format!("{kind} {text}")),
            };
            set.insert(key, shown);
        }
    }
    Ok(set)
}

/// The account that a principal means as a whole.
fn root_of(principal: &str) -> Option<&str> {
    let account = match principal.strip_prefix("arn:") {
        None => principal,
        Some(rest) => {
            let (_, rest) = rest.split_once(":iam::")?;
            rest.strip_suffix(":root")?
        }
    };
    (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())).then_some(account)
}

fn conditions(value: &Value) -> Result<Conditions, DocumentError> {
    let no_object = DocumentError::Form("a Condition is no object of objects");
    let mut conditions = Conditions::new();
    for (operator, keys) in value.as_object().ok_or(no_object.clone())? {
        for (key, values) in keys.as_object().ok_or(no_object.clone())? {
            let place = (operator.to_ascii_lowercase(), key.to_ascii_lowercase());
            let spelled = format!("{} {}", quoted(operator), quoted(key));
            let (_, set) = conditions.entry(place).or_insert_with(|| (spelled, Set::new()));
            set.extend(words(values, str::to_owned)?);
        }
    }
    Ok(conditions)
}

impl Statement {
    /// Without one of its parts: what it has in common with another one.
    pub(super) fn key_without(&self, part: Option<Part>) -> String {
        let skipped = |it: Part| part == Some(it);
        let element = |it: Part, element: Option<&Element>| match element {
            Some(element) if !skipped(it) => element.key(),
            _ => String::new(),
        };
        let conditions: Vec<Value> = match skipped(Part::Condition) {
            true => Vec::new(),
            false => self
                .conditions
                .iter()
                .map(|((operator, key), (_, set))| serde_json::json!([operator, key, set.keys().collect::<Vec<_>>()]))
                .collect(),
        };
        let has = |it: &Option<Element>| it.is_some();
        serde_json::json!([
            self.is_allow,
            has(&self.principal),
            has(&self.resource),
            element(Part::Principal, self.principal.as_ref()),
            element(Part::Action, Some(&self.action)),
            element(Part::Resource, self.resource.as_ref()),
            conditions,
        ])
        .to_string()
    }

    fn key(&self) -> String {
        self.key_without(None)
    }

    pub(super) fn spoken(&self) -> String {
        let named = |element: &Element, but: &str| match element.is_not {
            true => format!("{but} {}", listed(element.words())),
            false => listed(element.words()),
        };
        let mut text = format!("{} {}", self.effect(), named(&self.action, "all actions but"));
        if let Some(resource) = &self.resource {
            text.push_str(&format!(" on {}", named(resource, "all but")));
        }
        if let Some(principal) = &self.principal {
            text.push_str(&format!(" for {}", named(principal, "all but")));
        }
        for (number, (spelled, values)) in self.conditions.values().enumerate() {
            let joint = if number == 0 { "if" } else { "and" };
            text.push_str(&format!(" {joint} {spelled} [{}]", listed(values.values().map(String::as_str))));
        }
        text
    }

    pub(super) fn effect(&self) -> &'static str {
        if self.is_allow { "Allow" } else { "Deny" }
    }
}

/// A part in which two statements may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Action,
    Condition,
    Principal,
    Resource,
}

impl Part {
    pub(super) const ALL: [Self; 4] = [Self::Action, Self::Condition, Self::Principal, Self::Resource];
}
