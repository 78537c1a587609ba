//! The action: resources, IAM actions, access and traits of an identified request.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::Front;
use super::identify::Candidate;
use super::mentions::{Mentions, account_of, is_account, leading_account};
use super::partiql;
use super::place::Place;
use super::rest::climbs_out;
use crate::action::{Access, Action, Trait, Traits};
use crate::catalog::aws::operation::{Conditional, Filler, Template};
use crate::wire::aws::Reading;
use crate::wire::head::Head;

/// Beyond this many the request is unknown: a list that rules do not see whole hides something.
const RESOURCE_LIMIT: usize = 5_000;

/// Builds the action.
pub(super) fn action(
    head: &Head,
    place: &Place<'_>,
    candidate: &Candidate<'_>,
    reading: Reading,
    front: &Front,
) -> Action {
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
    let mut resources = Vec::with_capacity(operation.resources.len() + operation.roles.len());
    let holder = Own { account: holder(own.prefix, &parameters).unwrap_or(own.account), ..own };
    if service.entry.prefix == "apigateway" {
        resources.push(format!("arn:{}:apigateway:{}::{}", own.partition, own.region, head.path));
    } else {
        for template in &operation.resources {
            holder.fill(template, &parameters, &mut resources);
        }
    }
    let statements = Statements::of(candidate, &parameters);
    if let Some(statements) = &statements {
        resources.extend(statements.tables.iter().map(|table| own.table(table)));
    }
    let before_roles = resources.len();
    let mentions = Mentions::of(&parameters, front.account.as_deref());
    add_roles(candidate, &parameters, &own, &mut resources);
    if takes_roles(candidate) {
        resources.extend(mentions.roles.iter().map(|role| own.role(role, true)));
    }
    let has_role = resources.len() > before_roles && operation.access() > Access::List;
    if resources.is_empty() {
        resources.push("*".to_owned());
    }
    drop_repeated(&mut resources);
    if resources.len() > RESOURCE_LIMIT {
        doubt = Some(format!("the request touches more than {RESOURCE_LIMIT} resources"));
    }
    if own.prefix == "s3" && member(&parameters, "CopySource").is_some_and(is_source_ambiguous) {
        doubt = Some("the copy source holds dot segments that lead out of its bucket".to_owned());
    }
    let conditional: SmallVec<[&Conditional; 4]> =
        operation.conditional_iam.iter().filter(|it| is_present(&parameters, &it.path)).collect();
    let iam_actions = iam_actions(head, candidate, &parameters, &conditional, statements.as_ref(), has_role);
    let is_private = is_private(&parameters);
    let mut traits = traits(candidate, &parameters, &iam_actions, has_role, is_private);
    let is_foreign =
        |arn: &String| account_of(arn).is_some_and(|it| front.account.as_deref().is_some_and(|own| it != own));
    if mentions.is_foreign || resources.iter().any(is_foreign) {
        traits = traits.with(Trait::CrossAccount);
    }
    if doubt.is_some() {
        traits = traits.with(Trait::Unknown);
    }
    let access = match &statements {
        Some(Statements { verbs, .. }) if verbs.as_slice() == ["Select"] => Access::Read,
        // An ACL that opens nothing takes its right, and gives nobody one.
        _ => conditional
            .iter()
            .filter(|it| !(is_private && is_acl(it.action)))
            .map(|it| it.access)
            .fold(operation.access(), Ord::max),
    };
    let sensitive = operation.row.sensitive.iter().filter(|name| member(&parameters, name).is_some());
    Action {
        name: Cow::Borrowed(&operation.action_name),
        access,
        traits,
        resources,
        sensitive: sensitive.map(|name| (*name).to_owned()).collect(),
        region,
        account: front.account.clone(),
        parameters,
        iam_actions,
        tags: Vec::new(),
        unknown: doubt,
    }
}

/// Region of the action: none for a service that has one endpoint for the whole partition.
fn region(place: &Place<'_>, candidate: &Candidate<'_>) -> Option<Cow<'static, str>> {
    let region = place.region.as_ref()?;
    let is_global = candidate.service.entry.is_global(place.partition.id);
    (!is_global).then(|| region.clone())
}

/// Keeps the first of equal names.
fn drop_repeated(resources: &mut Vec<String>) {
    match resources.len() {
        0 | 1 => {}
        2..=8 => {
            let mut kept: Vec<String> = Vec::with_capacity(resources.len());
            for resource in resources.drain(..) {
                if !kept.contains(&resource) {
                    kept.push(resource);
                }
            }
            *resources = kept;
        }
        _ => {
            let mut seen = std::collections::HashSet::with_capacity(resources.len());
            resources.retain(|it| seen.insert(it.clone()));
        }
    }
}

/// The account that the request says holds what it is about, where a service lets it say so.
fn holder<'v>(prefix: &str, parameters: &'v Map<String, Value>) -> Option<&'v str> {
    let name = match prefix {
        "ecr" => "registryId",
        "glue" | "lakeformation" => "CatalogId",
        "s3" => "AccountId",
        "sqs" => "QueueOwnerAWSAccountId",
        _ => return None,
    };
    member(parameters, name).and_then(Value::as_str).and_then(leading_account)
}

/// What fills the parts of an ARN that are not in the request.
#[derive(Clone, Copy)]
struct Own<'a> {
    partition: &'a str,
    region: &'a str,
    account: &'a str,
    prefix: &'a str,
    creates: bool,
}

impl Own<'_> {
    /// Fills one template into as many resources as its members name; none when one is absent.
    fn fill(&self, template: &Template, parameters: &Map<String, Value>, resources: &mut Vec<String>) {
        let mut filled = Partials::new();
        filled.push(Partial { text: String::with_capacity(ARN_CAPACITY), is_arn: false });
        for (before, filler) in &template.holes {
            let value = match filler {
                Filler::Partition => self.partition,
                Filler::Region => self.region,
                Filler::Account => self.account,
                Filler::Member(path) => {
                    filled = self.filled_with(filled, before, path, parameters);
                    continue;
                }
            };
            for partial in &mut filled {
                partial.text.push_str(before);
                partial.text.push_str(value);
            }
        }
        for mut partial in filled {
            partial.text.push_str(template.rest);
            resources.push(partial.text);
        }
    }

    /// Each of the partial names with each value of a member: none where the member is absent or has too many.
    fn filled_with(&self, filled: Partials, before: &str, path: &[&str], parameters: &Map<String, Value>) -> Partials {
        let values = values_at(parameters, path);
        let mut next = Partials::new();
        let Some((last, others)) = values.split_last() else { return next };
        if filled.len().saturating_mul(values.len()) > RESOURCE_LIMIT * 2 {
            return next;
        }
        for partial in filled {
            for value in others {
                self.extend(partial.clone(), before, path, value, parameters, &mut next);
            }
            self.extend(partial, before, path, last, parameters, &mut next);
        }
        next
    }

    fn extend(
        &self,
        partial: Partial,
        before: &str,
        path: &[&str],
        value: &str,
        parameters: &Map<String, Value>,
        next: &mut Partials,
    ) {
        let Partial { mut text, is_arn } = partial;
        let is_whole = value.starts_with("arn:") && !is_arn;
        // Alone in the template and no ARN, the member is shown as sent.
        if is_whole || text.is_empty() && before.is_empty() && !value.starts_with("arn:") {
            next.push(Partial { text: value.to_owned(), is_arn: is_whole });
            return;
        }
        if is_arn && self.prefix == "s3" && before == "/" {
            // An object behind an access point.
            text.push_str("/object");
        }
        text.push_str(before);
        match (self.prefix, path) {
            ("sqs", ["QueueUrl"]) => self.queue(&mut text, value),
            ("s3", ["CopySource"]) => copy_source(&mut text, value),
            ("kms", _) if value.starts_with("alias/") && text.ends_with("key/") => {
                text.truncate(text.len() - "key/".len());
                text.push_str(value);
            }
            ("ec2", ["Resources"]) => text.push_str(&ec2_resource(value)),
            ("lambda", ["FunctionName" | "functionName"]) => {
                let Function { region, account, name, qualifier } = lambda_function(value);
                if region.is_some() || account.is_some() {
                    let (region, account) = (region.unwrap_or(self.region), account.unwrap_or(self.account));
                    text = format!("arn:{}:lambda:{region}:{account}:function:", self.partition);
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
            // Their names may hold slashes, so that nothing in them is a repetition.
            ("ecr" | "ecr-public" | "iot" | "s3", _) => text.push_str(value),
            _ => push_once(&mut text, before, value),
        }
        next.push(Partial { text, is_arn });
    }

    fn table(&self, name: &str) -> String {
        if name.starts_with("arn:") {
            return name.to_owned();
        }
        format!("arn:{}:dynamodb:{}:{}:table/{name}", self.partition, self.region, self.account)
    }

    fn role(&self, name: &str, is_profile: bool) -> String {
        if name.starts_with("arn:") {
            return name.to_owned();
        }
        let kind = if is_profile { "instance-profile" } else { "role" };
        format!("arn:{}:iam::{}:{kind}/{}", self.partition, self.account, name.trim_start_matches('/'))
    }

    /// `https://sqs.us-east-1.amazonaws.com/123456789012/name` or its path.
    fn queue(&self, text: &mut String, url: &str) {
        let mut parts = url.rsplit('/').filter(|it| !it.is_empty());
        let name = parts.next().unwrap_or_default();
        let account = parts.next().filter(|it| is_account(it)).unwrap_or(self.account);
        *text = format!("arn:{}:sqs:{}:{account}:{name}", self.partition, self.region);
    }
}

/// What most ARNs have room in.
const ARN_CAPACITY: usize = 96;

#[derive(Clone, Debug)]
struct Partial {
    text: String,
    /// A member held a whole ARN, which stands for everything before it.
    is_arn: bool,
}

type Partials = SmallVec<[Partial; 2]>;

/// Appends a value that may repeat the kind which the template spells before it: `alias/` + `alias/x`, `parameter/` + `/x`.
fn push_once(text: &mut String, before: &str, value: &str) {
    let kind = if before.ends_with('/') { before.rsplit(':').next().unwrap_or_default() } else { "" };
    // Behind another member's value a slash separates, and what follows is the value as it is.
    let is_kind = !kind.is_empty() && text.strip_suffix(kind).is_some_and(|rest| rest.ends_with(':'));
    let value =
        if is_kind { value.strip_prefix(kind).or_else(|| value.strip_prefix('/')).unwrap_or(value) } else { value };
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

fn is_source_ambiguous(source: &Value) -> bool {
    let mut text = String::new();
    copy_source(&mut text, source.as_str().unwrap_or_default());
    text.split_once('/').is_some_and(|(_, key)| climbs_out(key))
}

/// A function as a request may name it, short of an ARN.
struct Function<'v> {
    region: Option<&'v str>,
    account: Option<&'v str>,
    name: &'v str,
    qualifier: Option<&'v str>,
}

/// Reads `[region:][account:][function:]name[:qualifier]` (Lambda API reference, pattern of FunctionName).
fn lambda_function(value: &str) -> Function<'_> {
    let is_region = |text: &str| text.contains('-') && text.ends_with(|c: char| c.is_ascii_digit());
    let parts: SmallVec<[&str; 5]> = value.split(':').collect();
    let (region, rest) = match parts.as_slice() {
        [region, rest @ ..]
            if is_region(region)
                && rest.len() > 1
                && matches!(rest, [it, ..] if is_account(it) || *it == "function") =>
        {
            (Some(*region), rest)
        }
        rest => (None, rest),
    };
    let (account, rest) = match rest {
        [account, rest @ ..] if is_account(account) && !rest.is_empty() => (Some(*account), rest),
        rest => (None, rest),
    };
    let rest = match rest {
        ["function", rest @ ..] if !rest.is_empty() => rest,
        rest => rest,
    };
    match rest {
        [name] => Function { region, account, name, qualifier: None },
        [name, qualifier] => Function { region, account, name, qualifier: Some(qualifier) },
        _ => Function { region: None, account: None, name: value, qualifier: None },
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

/// A parameter; most requests have so few that hashing the name costs more than comparing it.
fn member<'v>(parameters: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    if parameters.len() <= 8 {
        parameters.iter().find(|(it, _)| *it == name).map(|(_, value)| value)
    } else {
        parameters.get(name)
    }
}

type Texts<'v> = SmallVec<[Cow<'v, str>; 2]>;

/// The texts at a path.
fn values_at<'v>(parameters: &'v Map<String, Value>, path: &[&str]) -> Texts<'v> {
    let mut found = Texts::new();
    if let Some((first, rest)) = path.split_first()
        && let Some(value) = member(parameters, first)
    {
        collect(value, rest, &mut found);
    }
    found
}

fn collect<'v>(value: &'v Value, path: &[&str], found: &mut Texts<'v>) {
    match (value, path) {
        (Value::Array(items), path) => items.iter().for_each(|item| collect(item, path, found)),
        (Value::String(text), []) => found.push(Cow::Borrowed(text)),
        (Value::Number(number), []) => found.push(Cow::Owned(number.to_string())),
        (Value::Object(object), ["#"]) => found.extend(object.keys().map(|key| Cow::Borrowed(key.as_str()))),
        (Value::Object(object), ["*", rest @ ..]) => object.values().for_each(|value| collect(value, rest, found)),
        (Value::Object(object), [first, rest @ ..]) => {
            if let Some(value) = member(object, first) {
                collect(value, rest, found);
            }
        }
        _ => {}
    }
}

/// True when something stands at the path, whatever it is.
fn is_present(parameters: &Map<String, Value>, path: &[&str]) -> bool {
    fn within(value: &Value, path: &[&str]) -> bool {
        match (value, path) {
            (_, []) => true,
            (Value::Array(items), path) => items.iter().any(|item| within(item, path)),
            (Value::Object(object), [first, rest @ ..]) => {
                member(object, first).is_some_and(|value| within(value, rest))
            }
            _ => false,
        }
    }
    let Some((first, rest)) = path.split_first() else { return false };
    member(parameters, first).is_some_and(|value| within(value, rest))
}

/// Adds the ARNs of the roles that the request hands to the service.
fn add_roles(candidate: &Candidate<'_>, parameters: &Map<String, Value>, own: &Own<'_>, resources: &mut Vec<String>) {
    for role in &candidate.operation.roles {
        let values = values_at(parameters, &role.path);
        resources.extend(values.iter().filter(|it| !it.is_empty()).map(|it| own.role(it, role.is_profile)));
    }
}

/// Whether a role that a parameter names outright is one that the service gets: not where roles themselves are the
/// matter, nor where something is looked up or taken away.
fn takes_roles(candidate: &Candidate<'_>) -> bool {
    const OTHERS: [&str; 8] =
        ["access-analyzer", "account", "account-access", "iam", "securityhub", "sso", "sts", "tag"];
    let Candidate { service, operation, .. } = candidate;
    operation.access() > Access::Read
        && !OTHERS.contains(&service.entry.prefix)
        && !["Delete", "Disassociate", "Remove", "Revoke", "Tag", "Untag"]
            .iter()
            .any(|it| operation.row.name.starts_with(it))
}

fn iam_actions(
    head: &Head,
    candidate: &Candidate<'_>,
    parameters: &Map<String, Value>,
    conditional: &[&Conditional],
    statements: Option<&Statements>,
    has_role: bool,
) -> Vec<Cow<'static, str>> {
    let Candidate { service, operation, .. } = candidate;
    let mut actions: Vec<Cow<'static, str>> = match statements {
        Some(statements) => statements.verbs.iter().map(|verb| format!("dynamodb:PartiQL{verb}").into()).collect(),
        None => operation.row.iam_actions.iter().map(|it| Cow::Borrowed(*it)).collect(),
    };
    if actions.is_empty() && service.entry.prefix == "apigateway" {
        actions.push(format!("apigateway:{}", head.method).into());
    }
    if operation.action_name == "aws:dynamodb:TransactWriteItems" {
        const KINDS: [(&str, &str); 4] = [
            ("ConditionCheck", "dynamodb:ConditionCheckItem"),
            ("Delete", "dynamodb:DeleteItem"),
            ("Put", "dynamodb:PutItem"),
            ("Update", "dynamodb:UpdateItem"),
        ];
        actions.retain(|it| {
            KINDS.iter().any(|(kind, action)| it == action && is_present(parameters, &["TransactItems", kind]))
        });
    }
    let copies_version = |source: &Value| source.as_str().is_some_and(|it| it.contains("?versionId="));
    if service.entry.prefix == "s3" && member(parameters, "CopySource").is_some_and(copies_version) {
        actions.iter_mut().filter(|it| *it == "s3:GetObject").for_each(|it| *it = "s3:GetObjectVersion".into());
    }
    for it in conditional {
        match actions.first_mut() {
            Some(main) if it.is_instead => *main = Cow::Borrowed(it.action),
            _ => add(&mut actions, it.action),
        }
    }
    if has_role {
        add(&mut actions, "iam:PassRole");
    }
    actions
}

fn add(actions: &mut Vec<Cow<'static, str>>, action: &'static str) {
    if !actions.iter().any(|it| it == action) {
        actions.push(Cow::Borrowed(action));
    }
}

/// What the statements of a PartiQL request do, and to which tables.
struct Statements {
    verbs: SmallVec<[&'static str; 4]>,
    /// `*` for one that could not be read.
    tables: Vec<String>,
}

impl Statements {
    /// `None` for any other request.
    fn of(candidate: &Candidate<'_>, parameters: &Map<String, Value>) -> Option<Self> {
        let path: &[&str] = match candidate.operation.action_name.as_str() {
            "aws:dynamodb:ExecuteStatement" => &["Statement"],
            "aws:dynamodb:BatchExecuteStatement" => &["Statements", "Statement"],
            "aws:dynamodb:ExecuteTransaction" => &["TransactStatements", "Statement"],
            _ => return None,
        };
        let statements = values_at(parameters, path);
        let read: Option<Vec<_>> = statements.iter().map(|it| partiql::read(it)).collect();
        let Some(read) = read.filter(|it| !it.is_empty()) else {
            return Some(Self { verbs: partiql::VERBS.into(), tables: vec!["*".to_owned()] });
        };
        let verbs = partiql::VERBS.into_iter().filter(|verb| read.iter().any(|(it, _)| it == verb)).collect();
        Some(Self { verbs, tables: read.into_iter().map(|(_, table)| table).collect() })
    }
}

/// Whether the canned ACL of the request, if any, opens nothing.
fn is_private(parameters: &Map<String, Value>) -> bool {
    matches!(member(parameters, "ACL").and_then(Value::as_str), Some("private" | "bucket-owner-full-control"))
        && !parameters.keys().any(|name| name.starts_with("Grant"))
}

fn is_acl(iam_action: &str) -> bool {
    matches!(iam_action, "s3:PutObjectAcl" | "s3:PutBucketAcl")
}

fn traits(
    candidate: &Candidate<'_>,
    parameters: &Map<String, Value>,
    iam_actions: &[Cow<'_, str>],
    has_role: bool,
    is_private: bool,
) -> Traits {
    let operation = candidate.operation;
    let mut traits = operation.traits;
    if has_role {
        traits = traits.with(Trait::Privilege);
    }
    for (_, more) in operation.conditional_traits.iter().filter(|(path, _)| is_present(parameters, path)) {
        traits = traits.union(*more);
    }
    if let Some((path, words)) = &operation.export_words {
        let texts = values_at(parameters, path);
        let is_export = texts.iter().any(|text| {
            let text = text.to_ascii_lowercase();
            words.iter().any(|word| text.contains(word))
        });
        if is_export {
            traits = traits.with(Trait::Export);
        }
    }
    if !is_private && iam_actions.iter().any(|it| is_acl(it)) {
        traits = traits.with(Trait::Sharing);
    }
    traits
}
