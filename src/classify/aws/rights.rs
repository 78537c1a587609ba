//! The action: resources, IAM actions, access and traits of an identified request.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::Front;
use super::identify::Candidate;
use super::place::Place;
use crate::action::{Access, Action, Trait, Traits};
use crate::wire::aws::Reading;
use crate::wire::head::Head;

/// Beyond this many the request is unknown: a list that rules do not see whole hides something.
const RESOURCE_LIMIT: usize = 5_000;

/// Builds the action.
pub(super) fn action(head: &Head, place: &Place, candidate: &Candidate, reading: Reading, front: &Front) -> Action {
    let Candidate { service, operation, .. } = candidate;
    let Reading { parameters, mut doubt } = reading;
    let region = region(place, candidate);
    let own = Own {
        partition: place.partition.id,
        region: region.as_deref().unwrap_or("*"),
        account: front.account.as_deref().unwrap_or("*"),
        prefix: service.entry.prefix,
        creates: operation.row.name.starts_with("Create"),
    };
    let roles = roles(candidate, &parameters, &own);
    let mut resources = Vec::new();
    for template in &operation.row.resources {
        own.fill(template, &parameters, &mut resources);
    }
    if service.entry.prefix == "apigateway" {
        resources = vec![format!("arn:{}:apigateway:{}::{}", own.partition, own.region, head.path)];
    }
    resources.extend(roles.iter().cloned());
    if resources.is_empty() {
        resources.push("*".to_owned());
    }
    if resources.len() > 1 {
        let mut seen = std::collections::HashSet::new();
        resources.retain(|it| seen.insert(it.clone()));
    }
    if resources.len() > RESOURCE_LIMIT {
        doubt = Some(format!("the request touches more than {RESOURCE_LIMIT} resources"));
    }
    let iam_actions = iam_actions(head, candidate, &parameters, !roles.is_empty());
    let mut traits = traits(candidate, &parameters, &iam_actions, !roles.is_empty());
    if is_cross_account(&parameters, &resources, front) {
        traits = traits.with(Trait::CrossAccount);
    }
    if doubt.is_some() {
        traits = traits.with(Trait::Unknown);
    }
    let sensitive = operation.row.sensitive.iter().filter(|name| parameters.contains_key(**name));
    Action {
        name: operation.action_name.clone(),
        access: access(candidate, &parameters),
        traits,
        resources,
        sensitive: sensitive.map(|name| (*name).to_owned()).collect(),
        region,
        account: front.account.clone(),
        parameters,
        iam_actions,
        unknown: doubt,
    }
}

/// Region of the action: none for a service that has one endpoint for the whole partition.
fn region(place: &Place, candidate: &Candidate) -> Option<String> {
    let region = place.region.as_deref()?;
    let is_global = candidate.service.entry.is_global(place.partition.id);
    (!is_global).then(|| region.to_owned())
}

/// What fills the parts of an ARN that are not in the request.
struct Own<'a> {
    partition: &'a str,
    region: &'a str,
    account: &'a str,
    prefix: &'a str,
    creates: bool,
}

impl Own<'_> {
    /// Fills one template into as many resources as its members name; none when one is absent.
    fn fill(&self, template: &str, parameters: &Map<String, Value>, resources: &mut Vec<String>) {
        let mut filled: SmallVec<[Partial; 4]> = SmallVec::new();
        filled.push(Partial::default());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { return };
            rest = after;
            match name {
                "P" => push(&mut filled, before, self.partition),
                "R" => push(&mut filled, before, self.region),
                "A" => push(&mut filled, before, self.account),
                path => {
                    let path = path.strip_prefix('=').unwrap_or(path);
                    let values = values_at(parameters, path);
                    if values.is_empty() || filled.len().saturating_mul(values.len()) > RESOURCE_LIMIT * 2 {
                        return;
                    }
                    let mut next = SmallVec::new();
                    for partial in &filled {
                        for value in &values {
                            self.extend(partial, before, path, value, parameters, &mut next);
                        }
                    }
                    filled = next;
                }
            }
        }
        for mut partial in filled {
            partial.text.push_str(rest);
            resources.push(partial.text);
        }
    }

    fn extend(
        &self,
        partial: &Partial,
        before: &str,
        path: &str,
        value: &str,
        parameters: &Map<String, Value>,
        next: &mut SmallVec<[Partial; 4]>,
    ) {
        if partial.text.is_empty() && before.is_empty() && !value.starts_with("arn:") {
            // The template is the member alone, and it holds no ARN: show it as sent.
            next.push(Partial { text: value.to_owned(), is_arn: false });
            return;
        }
        if value.starts_with("arn:") && !partial.is_arn {
            next.push(Partial { text: value.to_owned(), is_arn: true });
            return;
        }
        let mut text = partial.text.clone();
        if partial.is_arn && self.prefix == "s3" && before == "/" {
            // An object behind an access point.
            text.push_str("/object");
        }
        text.push_str(before);
        match (self.prefix, path) {
            ("sqs", "QueueUrl") => self.queue(&mut text, value),
            ("s3", "CopySource") => copy_source(&mut text, value),
            ("kms", _) if value.starts_with("alias/") && text.ends_with("key/") => {
                text.truncate(text.len() - "key/".len());
                text.push_str(value);
            }
            ("ec2", "Resources") => text.push_str(&ec2_resource(value)),
            ("lambda", "FunctionName" | "functionName") => {
                let (account, name, qualifier) = lambda_function(value);
                if let Some(account) = account {
                    text = format!("arn:{}:lambda:{}:{account}:function:", self.partition, self.region);
                }
                if let Some(qualifier) = qualifier {
                    // Rules on the function must see it under any of its qualifiers.
                    next.push(Partial { text: format!("{text}{name}:{qualifier}"), is_arn: false });
                }
                text.push_str(name);
            }
            ("iam", _) if self.creates && matches!(parameters.get("Path"), Some(Value::String(_))) => {
                let prefix = parameters.get("Path").and_then(Value::as_str).unwrap_or_default();
                text.push_str(prefix.trim_start_matches('/'));
                text.push_str(value);
            }
            _ => push_once(&mut text, value),
        }
        next.push(Partial { text, is_arn: partial.is_arn });
    }

    /// `https://sqs.us-east-1.amazonaws.com/123456789012/name` or its path.
    fn queue(&self, text: &mut String, url: &str) {
        let mut parts = url.trim_end_matches('/').rsplit('/');
        let name = parts.next().unwrap_or_default();
        let account = parts.next().filter(|it| is_account(it)).unwrap_or(self.account);
        *text = format!("arn:{}:sqs:{}:{account}:{name}", self.partition, self.region);
    }
}

#[derive(Clone, Debug, Default)]
struct Partial {
    text: String,
    /// A member held a whole ARN, which stands for everything before it.
    is_arn: bool,
}

fn push(filled: &mut SmallVec<[Partial; 4]>, before: &str, value: &str) {
    for partial in filled {
        partial.text.push_str(before);
        partial.text.push_str(value);
    }
}

/// Appends a value whose own first part may repeat what precedes it: `alias/` + `alias/x`, `parameter/` + `/x`.
fn push_once(text: &mut String, value: &str) {
    let kind = text.rsplit(':').next().unwrap_or_default();
    let value = if !kind.is_empty() && kind.ends_with('/') {
        value.strip_prefix(kind).or_else(|| value.strip_prefix('/')).unwrap_or(value)
    } else {
        value
    };
    text.push_str(value);
}

/// `/bucket/key?versionId=…`, percent-encoded, or an access point's ARN.
fn copy_source(text: &mut String, source: &str) {
    let source = source.split("?versionId=").next().unwrap_or_default();
    let source = percent_decode_str(source).decode_utf8_lossy();
    if source.starts_with("arn:") {
        text.clear();
    }
    text.push_str(source.strip_prefix('/').unwrap_or(&source));
}

/// Account, name and qualifier of `name`, `name:qualifier` or `account:function:name`.
fn lambda_function(value: &str) -> (Option<&str>, &str, Option<&str>) {
    let parts: SmallVec<[&str; 4]> = value.split(':').collect();
    match parts.as_slice() {
        [account, "function", name] if is_account(account) => (Some(account), name, None),
        [account, "function", name, qualifier] if is_account(account) => (Some(account), name, Some(qualifier)),
        [account, name] if is_account(account) => (Some(account), name, None),
        [name, qualifier] => (None, name, Some(qualifier)),
        _ => (None, value, None),
    }
}

fn ec2_resource(id: &str) -> String {
    const KINDS: [(&str, &str); 18] = [
        ("i", "instance"),
        ("vol", "volume"),
        ("snap", "snapshot"),
        ("ami", "image"),
        ("sg", "security-group"),
        ("sgr", "security-group-rule"),
        ("subnet", "subnet"),
        ("vpc", "vpc"),
        ("eni", "network-interface"),
        ("rtb", "route-table"),
        ("igw", "internet-gateway"),
        ("nat", "natgateway"),
        ("eipalloc", "elastic-ip"),
        ("acl", "network-acl"),
        ("lt", "launch-template"),
        ("key", "key-pair"),
        ("vpce", "vpc-endpoint"),
        ("tgw", "transit-gateway"),
    ];
    let prefix = id.split('-').next().unwrap_or_default();
    let kind = KINDS.iter().find(|(it, _)| *it == prefix).map_or("*", |(_, kind)| kind);
    format!("{kind}/{id}")
}

/// The texts at a path of names joined by dots; lists are entered, `#` takes a map's keys, `*` its values.
fn values_at<'v>(parameters: &'v Map<String, Value>, path: &str) -> Vec<Cow<'v, str>> {
    let mut found = Vec::new();
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    if let Some(value) = parameters.get(first) {
        collect(value, rest, &mut found);
    }
    found
}

fn collect<'v>(value: &'v Value, path: Option<&str>, found: &mut Vec<Cow<'v, str>>) {
    match (value, path) {
        (Value::Array(items), path) => items.iter().for_each(|item| collect(item, path, found)),
        (Value::String(text), None) => found.push(Cow::Borrowed(text)),
        (Value::Number(number), None) => found.push(Cow::Owned(number.to_string())),
        (Value::Object(object), Some("#")) => found.extend(object.keys().map(|key| Cow::Borrowed(key.as_str()))),
        (Value::Object(object), Some(path)) => {
            let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
            if first == "*" {
                object.values().for_each(|value| collect(value, rest, found));
            } else if let Some(value) = object.get(first) {
                collect(value, rest, found);
            }
        }
        _ => {}
    }
}

/// True when something stands at the path, whatever it is.
fn is_present(parameters: &Map<String, Value>, path: &str) -> bool {
    fn within(value: &Value, path: &str) -> bool {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        match value {
            Value::Array(items) => items.iter().any(|item| within(item, path)),
            Value::Object(object) => object.get(first).is_some_and(|value| rest.is_none_or(|rest| within(value, rest))),
            _ => false,
        }
    }
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    parameters.get(first).is_some_and(|value| rest.is_none_or(|rest| within(value, rest)))
}

/// ARNs of the roles that the request hands to the service.
fn roles(candidate: &Candidate, parameters: &Map<String, Value>, own: &Own<'_>) -> Vec<String> {
    let paths = candidate.operation.row.roles.iter();
    let named = paths.flat_map(|path| values_at(parameters, path).into_iter().map(move |value| (path, value)));
    named
        .filter(|(_, value)| !value.is_empty())
        .map(|(path, value)| {
            if value.starts_with("arn:") {
                return value.into_owned();
            }
            let kind = if path.contains("nstanceProfile") { "instance-profile" } else { "role" };
            format!("arn:{}:iam::{}:{kind}/{}", own.partition, own.account, value.trim_start_matches('/'))
        })
        .collect()
}

fn iam_actions(head: &Head, candidate: &Candidate, parameters: &Map<String, Value>, has_role: bool) -> Vec<String> {
    let row = &candidate.operation.row;
    let mut actions: Vec<String> = row.iam_actions.iter().map(|it| (*it).to_owned()).collect();
    if let Some(verbs) = partiql_verbs(candidate, parameters) {
        actions = verbs.iter().map(|verb| format!("dynamodb:PartiQL{verb}")).collect();
    }
    if actions.is_empty() && candidate.service.entry.prefix == "apigateway" {
        actions.push(format!("apigateway:{}", head.method));
    }
    let mut add = |action: &str, instead: bool| {
        if instead && !actions.is_empty() {
            actions.remove(0);
            actions.insert(0, action.to_owned());
        } else if !actions.iter().any(|it| it == action) {
            actions.push(action.to_owned());
        }
    };
    for (_, action) in row.conditional_iam.iter().filter(|(path, _)| is_present(parameters, path)) {
        match action.strip_prefix('=') {
            Some(action) => add(action, true),
            None => add(action, false),
        }
    }
    if has_role {
        add("iam:PassRole", false);
    }
    actions
}

/// The verbs of a PartiQL request's statements; `None` for any other request.
fn partiql_verbs(candidate: &Candidate, parameters: &Map<String, Value>) -> Option<Vec<&'static str>> {
    const ALL: [&str; 4] = ["Select", "Insert", "Update", "Delete"];
    let path = match candidate.operation.action_name.as_str() {
        "aws:dynamodb:ExecuteStatement" => "Statement",
        "aws:dynamodb:BatchExecuteStatement" => "Statements.Statement",
        "aws:dynamodb:ExecuteTransaction" => "TransactStatements.Statement",
        _ => return None,
    };
    let mut verbs = Vec::new();
    for statement in values_at(parameters, path) {
        let word = statement.split_whitespace().next().unwrap_or_default();
        match ALL.iter().find(|verb| verb.eq_ignore_ascii_case(word)) {
            Some(verb) if verbs.contains(verb) => {}
            Some(verb) => verbs.push(*verb),
            None => return Some(ALL.to_vec()),
        }
    }
    Some(if verbs.is_empty() { ALL.to_vec() } else { verbs })
}

fn access(candidate: &Candidate, parameters: &Map<String, Value>) -> Access {
    match partiql_verbs(candidate, parameters).as_deref() {
        Some(["Select"]) => Access::Read,
        _ => candidate.operation.access(),
    }
}

fn traits(candidate: &Candidate, parameters: &Map<String, Value>, iam_actions: &[String], has_role: bool) -> Traits {
    let operation = candidate.operation;
    let mut traits = operation.traits();
    if has_role {
        traits = traits.union(operation.traits_with_role());
    }
    if let Some((path, words)) = operation.row.export_words.split_first() {
        let texts = values_at(parameters, path);
        let is_export = texts.iter().any(|text| {
            let text = text.to_ascii_lowercase();
            words.iter().any(|word| text.contains(word))
        });
        if is_export {
            traits = traits.with(Trait::Export);
        }
    }
    let gives_acl = iam_actions.iter().any(|it| it == "s3:PutObjectAcl" || it == "s3:PutBucketAcl");
    let is_private =
        matches!(parameters.get("ACL").and_then(Value::as_str), Some("private" | "bucket-owner-full-control"))
            && !parameters.keys().any(|name| name.starts_with("Grant"));
    if gives_acl && !is_private {
        traits = traits.with(Trait::Sharing);
    }
    traits
}

/// True when an ARN or an account id among parameters or resources names another account than ours.
fn is_cross_account(parameters: &Map<String, Value>, resources: &[String], front: &Front) -> bool {
    let Some(own) = front.account.as_deref() else { return false };
    let is_foreign = |arn: &str| account_of(arn).is_some_and(|it| it != own);
    resources.iter().any(|it| is_foreign(it))
        || parameters.iter().any(|(name, value)| names_other_account(name, value, own, 0))
}

fn names_other_account(name: &str, value: &Value, own: &str, depth: usize) -> bool {
    const ACCOUNT_MEMBERS: [&str; 13] = [
        "account",
        "accountid",
        "accountids",
        "accounts",
        "awsaccountid",
        "awsaccountids",
        "expectedbucketowner",
        "expectedsourcebucketowner",
        "ownerids",
        "principal",
        "sourceaccount",
        "userid",
        "userids",
    ];
    match value {
        Value::String(text) if text.starts_with("arn:") => account_of(text).is_some_and(|it| it != own),
        Value::String(text) => {
            is_account(text) && text != own && ACCOUNT_MEMBERS.iter().any(|it| it.eq_ignore_ascii_case(name))
        }
        _ if depth > 64 => false,
        Value::Array(items) => items.iter().any(|item| names_other_account(name, item, own, depth + 1)),
        Value::Object(object) => object.iter().any(|(name, item)| names_other_account(name, item, own, depth + 1)),
        Value::Bool(_) | Value::Null | Value::Number(_) => false,
    }
}

fn account_of(arn: &str) -> Option<&str> {
    arn.strip_prefix("arn:")?.split(':').nth(3).filter(|it| is_account(it))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}
