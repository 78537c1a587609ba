//! Roles and accounts that a request mentions wherever it may, besides where the fact table looks for them.

use serde_json::{Map, Value};

/// What a walk through the parameters finds.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    /// Roles and instance profiles that are values of their own: whoever takes one does so to act as it.
    pub(super) roles: Vec<String>,
    /// An ARN or account id is of another account than ours.
    pub(super) is_foreign: bool,
}

/// Deeper parameters than this are not walked; the readers of the wire refuse them before.
const DEPTH: usize = 64;

impl Mentions {
    /// Walks the parameters. Without an account of our own nothing is foreign.
    pub(super) fn of(parameters: &Map<String, Value>, own: Option<&str>) -> Self {
        let mut found = Self::default();
        found.members(parameters, own, 0);
        found
    }

    fn members(&mut self, members: &Map<String, Value>, own: Option<&str>, depth: usize) {
        for (name, value) in members {
            self.value(name, value, own, depth);
        }
        // Elastic Beanstalk names its roles in options.
        if let (Some(Value::String(option)), Some(Value::String(value))) =
            (members.get("OptionName"), members.get("Value"))
            && ["IamInstanceProfile", "ServiceRole"].contains(&option.as_str())
            && !value.starts_with("arn:")
        {
            self.roles.push(value.clone());
        }
    }

    fn value(&mut self, name: &str, value: &Value, own: Option<&str>, depth: usize) {
        match value {
            Value::String(text) if text.starts_with("arn:") => {
                self.is_foreign |= own.is_some_and(|own| account_of(text).is_some_and(|it| it != own));
                if is_role(text) && !names_a_principal(name) {
                    self.roles.push(text.clone());
                }
            }
            Value::String(text) => {
                let is_other = |own| leading_account(text).is_some_and(|it| it != own);
                self.is_foreign |= own.is_some_and(is_other) && names_an_account(name);
            }
            _ if depth > DEPTH => {}
            Value::Array(items) => items.iter().for_each(|item| self.value(name, item, own, depth + 1)),
            Value::Object(members) => self.members(members, own, depth + 1),
            Value::Bool(_) | Value::Null | Value::Number(_) => {}
        }
    }
}

/// `arn:aws:iam::123456789012:role/x`, alone.
fn is_role(arn: &str) -> bool {
    let mut parts = arn.splitn(6, ':');
    parts.nth(2) == Some("iam")
        && parts.nth(2).is_some_and(|it| it.starts_with("role/") || it.starts_with("instance-profile/"))
}

/// Members that say to whom something is given, or about what a call is: such a role is not handed over.
fn names_a_principal(name: &str) -> bool {
    ["grantee", "principal", "resource", "user"].iter().any(|word| holds(name, word))
}

/// Members whose twelve digits are an account.
fn names_an_account(name: &str) -> bool {
    ["account", "owner", "catalogid", "registryid", "registries", "principal", "userid", "target", "member"]
        .iter()
        .any(|word| holds(name, word))
}

fn holds(name: &str, word: &str) -> bool {
    name.len() >= word.len() && name.as_bytes().windows(word.len()).any(|it| it.eq_ignore_ascii_case(word.as_bytes()))
}

/// The account in an ARN.
pub(super) fn account_of(arn: &str) -> Option<&str> {
    // A loop over bytes: every resource and every text that looks like one comes here.
    let field = arn.strip_prefix("arn:")?.as_bytes().split(|byte| *byte == b':').nth(3)?;
    std::str::from_utf8(field).ok().filter(|it| is_account(it))
}

/// The account of `123456789012`, or of a name within it: `123456789012:catalog`.
pub(super) fn leading_account(text: &str) -> Option<&str> {
    text.split(':').next().filter(|it| is_account(it))
}

pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}
