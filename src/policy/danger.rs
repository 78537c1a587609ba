//! What a statement opens, in words.

use std::collections::BTreeSet;

use super::document::{Element, Statement};
use super::{Kind, listed, quoted};
use crate::pattern::Glob;

/// Actions that reach from one identity to another: worth their names also where a wildcard holds them.
const ESCALATING: [&str; 2] = ["iam:passrole", "sts:assumerole"];

/// What a statement that allows something opens; nothing for one that denies.
pub(super) fn of_statement(statement: &Statement, kind: Kind, own_account: Option<&str>) -> Vec<String> {
    if !statement.is_allow {
        return Vec::new();
    }
    let mut dangers = Vec::new();
    if let Some(principal) = &statement.principal {
        principals(statement, principal, kind, own_account, &mut dangers);
    }
    actions(statement, kind, &mut dangers);
    if let Some(resource) = &statement.resource {
        resources(resource, &mut dangers);
    }
    conditions(statement, own_account, &mut dangers);
    dangers
}

fn actions(statement: &Statement, kind: Kind, dangers: &mut Vec<String>) {
    let action = &statement.action;
    if action.is_not {
        dangers.push(format!("allows all actions but {} (NotAction)", listed(action.words())));
    } else if action.set.keys().any(|it| is_any(it)) {
        let is_everywhere =
            statement.resource.as_ref().is_none_or(|it| it.is_not || it.set.keys().any(|it| is_any(it)));
        dangers.push(match kind {
            Kind::Identity if is_everywhere => "admin: every action on every resource".to_owned(),
            _ => "every action (wildcard in Action)".to_owned(),
        });
    } else {
        let wild: Vec<&str> = action.words().filter(|it| it.contains(['*', '?'])).collect();
        if !wild.is_empty() {
            dangers.push(format!("wildcard in Action: {}", listed(wild)));
        }
    }
    if kind != Kind::Identity {
        return;
    }
    for name in ESCALATING {
        let is_meant = action.set.keys().any(|it| Glob::new(it).matches(name)) != action.is_not;
        if is_meant {
            let place = statement.resource.as_ref().map_or("*".to_owned(), |it| {
                format!("{}{}", if it.is_not { "all but " } else { "" }, listed(it.words()))
            });
            let spelled = if name == "iam:passrole" { "iam:PassRole" } else { "sts:AssumeRole" };
            dangers.push(format!("{spelled} on {place}"));
        }
    }
}

/// `*`, also spelled longer.
fn is_any(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| matches!(b, b'*' | b':')) && word.contains('*')
}

fn resources(resource: &Element, dangers: &mut Vec<String>) {
    if resource.is_not {
        dangers.push(format!("allows it on all resources but {} (NotResource)", listed(resource.words())));
    } else if resource.set.keys().any(|it| is_any(it)) {
        dangers.push("every resource (wildcard in Resource)".to_owned());
    } else {
        let wild: Vec<&str> = resource.words().filter(|it| it.contains(['*', '?'])).collect();
        if !wild.is_empty() {
            dangers.push(format!("wildcard in Resource: {}", listed(wild)));
        }
    }
}

fn principals(
    statement: &Statement,
    principal: &Element,
    kind: Kind,
    own_account: Option<&str>,
    dangers: &mut Vec<String>,
) {
    let what = listed(statement.action.words());
    let but = if statement.action.is_not { "all but " } else { "" };
    let bounds = match statement.conditions.is_empty() {
        true => "without a condition".to_owned(),
        false => format!("if {}", keys(statement)),
    };
    if principal.is_not {
        dangers.push(format!(
            "public: everybody but {} may {but}{what}, {bounds} (NotPrincipal)",
            listed(principal.words())
        ));
        return;
    }
    if principal.set.keys().any(|it| is_any(it)) {
        dangers.push(match kind {
            Kind::Trust => format!("everybody may assume the role ({what}), {bounds}"),
            _ => format!("public: anybody may {but}{what}, {bounds}"),
        });
    }
    let wild: Vec<&str> =
        principal.set.iter().filter(|(key, it)| !is_any(key) && it.contains('*')).map(|(_, it)| it.as_str()).collect();
    if !wild.is_empty() {
        dangers.push(format!("wildcard in Principal: {}", listed(wild)));
    }
    others(principal.words(), own_account, &format!("may {but}{what}, {bounds}"), dangers);
    let canonical: Vec<&str> = principal.set.keys().filter_map(|it| it.strip_prefix("canonicaluser ")).collect();
    if !canonical.is_empty() {
        dangers.push(format!("an account by its canonical id, {}: may {but}{what}, {bounds}", listed(canonical)));
    }
    let federated: Vec<&str> = principal.set.keys().filter_map(|it| it.strip_prefix("federated ")).collect();
    if federated.is_empty() {
        return;
    }
    let has_subject = statement.conditions.keys().any(|(_, key)| key.ends_with(":sub"));
    if statement.conditions.is_empty() {
        dangers.push(format!("anybody whom {} vouches for may {what}: no condition", listed(federated)));
    } else if federated.iter().any(|it| it.contains("oidc-provider/")) && !has_subject {
        dangers.push(format!("any subject of {} may {what}: no condition on `sub`", listed(federated)));
    }
}

/// The accounts in texts that are not our own.
fn others<'a>(texts: impl Iterator<Item = &'a str>, own_account: Option<&str>, what: &str, dangers: &mut Vec<String>) {
    let accounts: BTreeSet<&str> = texts.filter_map(account).filter(|it| Some(*it) != own_account).collect();
    if accounts.is_empty() {
        return;
    }
    let (whose, unsure) = match (accounts.len(), own_account) {
        (1, Some(_)) => ("another account", ""),
        (_, Some(_)) => ("other accounts", ""),
        (_, None) => ("an account", " (which one is countersign's own is not known)"),
    };
    dangers.push(format!("{whose}, {}{unsure}: {what}", listed(accounts)));
}

/// The account of an ARN, or a text that is one.
pub(super) fn account(text: &str) -> Option<&str> {
    let account = match text.starts_with("arn:") {
        true => text.split(':').nth(4)?,
        false => text,
    };
    (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit())).then_some(account)
}

fn conditions(statement: &Statement, own_account: Option<&str>, dangers: &mut Vec<String>) {
    // A principal alone names whom a policy of a resource lets in; a condition may let in more.
    let is_positive = |operator: &str| !operator.contains("not");
    let texts = statement
        .conditions
        .iter()
        .filter(|((operator, _), _)| is_positive(operator))
        .flat_map(|(_, (_, values))| values.values().map(String::as_str));
    others(texts, own_account, "named in a condition that lets it in", dangers);
    for ((operator, _), (spelled, values)) in &statement.conditions {
        let is_any_value = values.keys().any(|it| is_any(it));
        if is_any_value && operator.contains("like") && is_positive(operator) {
            dangers.push(format!("a condition that holds for every value: {spelled}"));
        }
        if operator.ends_with("ifexists") {
            dangers.push(format!("a condition that also holds where its key is absent: {spelled}"));
        }
    }
}

/// The keys of the conditions.
fn keys(statement: &Statement) -> String {
    let mut spelled: Vec<&str> = statement.conditions.values().map(|(spelled, _)| spelled.as_str()).collect();
    spelled.truncate(5);
    spelled.join(" and ")
}

/// What a policy of AWS's own gives, as its name says it.
pub(crate) fn of_managed(arn: &str) -> Vec<String> {
    let Some(name) = arn.strip_prefix("arn:").and_then(|it| it.split_once(":iam::aws:policy/")).map(|it| it.1) else {
        return Vec::new();
    };
    let name = name.rsplit('/').next().unwrap_or(name);
    match name {
        "AdministratorAccess" => vec!["admin: every action on every resource (AdministratorAccess)".to_owned()],
        "IAMFullAccess" => vec!["iam:* on every resource: whoever has it can become admin (IAMFullAccess)".to_owned()],
        "PowerUserAccess" => vec!["nearly every action on every resource (PowerUserAccess)".to_owned()],
        _ if name.contains("FullAccess") || name.starts_with("Administrator") => {
            vec![format!("all of a service ({})", quoted(name))]
        }
        _ => Vec::new(),
    }
}
