use proptest::prelude::*;
use serde_json::{Value, json};

use super::compare::compare;
use super::document::read;
use super::*;
use crate::action::{Before, Delta};

const OWN: Option<&str> = Some("123456789012");

fn entries(document: &Value, kind: Kind) -> Vec<Entry> {
    read(document.to_string().as_bytes(), kind, OWN).unwrap()
}

fn delta(before: &Value, after: &Value, kind: Kind) -> Delta {
    compare("p".to_owned(), Ok((&entries(before, kind), None)), &entries(after, kind))
}

fn is_silent(delta: &Delta) -> bool {
    [&delta.added, &delta.removed, &delta.changed, &delta.dangers].into_iter().all(Vec::is_empty)
}

fn policy(statement: Value) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statement })
}

#[track_caller]
fn brings(statement: Value, kind: Kind, danger: &str) {
    let found = compare("p".to_owned(), Ok((&[], None)), &entries(&policy(statement.clone()), kind));
    assert!(found.dangers.iter().any(|it| it.contains(danger)), "{statement}: {:?}", found.dangers);
}

#[test]
fn equal_documents_are_equal_however_they_are_written() {
    let one = json!({ "Version": "2012-10-17", "Id": "x", "Statement": [
        { "Sid": "a", "Effect": "Allow", "Principal": { "AWS": ["123456789012", "arn:aws:iam::222222222222:root"] },
          "Action": ["s3:Get*", "s3:PUTObject"], "Resource": "arn:aws:s3:::b/*",
          "Condition": { "StringEquals": { "aws:SourceVpc": ["b", "a"] }, "Bool": { "aws:SecureTransport": true } } },
        { "Effect": "Deny", "Principal": "*", "NotAction": "s3:x", "Resource": ["a", "b"] },
        { "Effect": "Deny", "Principal": "*", "NotAction": "s3:x", "Resource": ["b", "a"] } ] });
    let other = json!({ "version": "2012-10-17", "statement": [
        { "resource": ["b", "a", "a"], "NOTACTION": ["S3:X"], "principal": { "AWS": "*" }, "effect": "DENY" },
        { "Condition": { "bool": { "AWS:SECURETRANSPORT": "true" }, "StringEquals": { "aws:sourcevpc": ["a", "b"] } },
          "Effect": "allow", "Resource": ["arn:aws:s3:::b/*"], "Action": ["s3:putobject", "s3:get*"],
          "Principal": { "aws": ["222222222222", "arn:aws:iam::123456789012:root"] } } ] });
    assert!(is_silent(&delta(&one, &other, Kind::Resource)));
    assert!(is_silent(&delta(&other, &one, Kind::Resource)));
}

#[test]
fn what_differs_is_told() {
    let allow = |what: Value| policy(json!({ "Effect": "Allow", "Action": what, "Resource": "a" }));
    let found = delta(&allow(json!(["x:A", "x:B"])), &allow(json!(["x:B", "x:C"])), Kind::Identity);
    assert_eq!(found.changed, ["Action now also x:C, no more x:A in: Allow x:B, x:C on a"]);
    assert!(found.added.is_empty() && found.removed.is_empty());
    let resource = |what: &str| policy(json!({ "Effect": "Allow", "Action": "x:A", "Resource": what }));
    // Resources are told apart by case, actions are not.
    assert_eq!(delta(&resource("a"), &resource("A"), Kind::Identity).changed.len(), 1);
    let other =
        json!({ "Version": "2008-10-17", "Statement": { "Effect": "Allow", "Action": "x:A", "Resource": "a" } });
    let found = delta(&resource("a"), &other, Kind::Identity);
    assert_eq!(
        (found.added, found.removed),
        (vec!["Version 2008-10-17".to_owned()], vec!["Version 2012-10-17".to_owned()])
    );
}

#[test]
fn denials_that_shrink_are_dangers() {
    let deny = |action: Value, more: Value| {
        let mut statement = json!({ "Effect": "Deny", "Action": action, "Resource": "*" });
        statement.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        policy(statement)
    };
    let nothing = policy(json!([]));
    let whole = deny(json!(["x:A", "x:B"]), json!({}));
    let if_vpc = json!({ "Condition": { "StringEquals": { "aws:SourceVpc": "v" } } });
    for (before, after, danger) in [
        (&whole, &nothing, "a Deny is gone"),
        (&whole, &deny(json!("x:A"), json!({})), "a Deny got narrower"),
        (&whole, &deny(json!(["x:A", "x:B"]), if_vpc.clone()), "a Deny has another condition"),
    ] {
        let found = delta(before, after, Kind::Identity);
        assert!(found.dangers.iter().any(|it| it.contains(danger)), "{danger}: {found:?}");
    }
    assert!(delta(&nothing, &whole, Kind::Identity).dangers.is_empty());
    assert!(delta(&deny(json!("x:A"), json!({})), &whole, Kind::Identity).dangers.is_empty());
}

#[test]
fn dangers_have_names() {
    let allow = |action: &str, resource: &str| json!({ "Effect": "Allow", "Action": action, "Resource": resource });
    brings(allow("*", "*"), Kind::Identity, "admin");
    brings(allow("*:*", "*"), Kind::Identity, "admin");
    brings(allow("**", "***"), Kind::Identity, "admin");
    brings(allow("iam:*", "arn:aws:iam::1:role/x"), Kind::Identity, "wildcard in Action: iam:*");
    for action in ["iam:PassRole", "IAM:passrole", "iam:P*", "*", "i?m:PassRol?"] {
        brings(allow(action, "*"), Kind::Identity, "iam:PassRole on *");
    }
    brings(json!({ "Effect": "Allow", "NotAction": "s3:*", "Resource": "*" }), Kind::Identity, "iam:PassRole");
    brings(json!({ "Effect": "Allow", "NotAction": "s3:*", "Resource": "*" }), Kind::Identity, "all actions but s3:*");
    brings(json!({ "Effect": "Allow", "Action": "s3:a", "NotResource": "x" }), Kind::Identity, "all resources but x");
    let who =
        |principal: Value| json!({ "Effect": "Allow", "Action": "x:Do", "Resource": "r", "Principal": principal });
    for everybody in [json!("*"), json!({ "AWS": "*" }), json!({ "aws": ["123456789012", "*"] })] {
        brings(who(everybody), Kind::Resource, "public: anybody may x:Do, without a condition");
    }
    brings(who(json!({ "AWS": "999999999999" })), Kind::Resource, "another account, 999999999999");
    brings(
        who(json!({ "AWS": "arn:aws-cn:iam::999999999999:user/x" })),
        Kind::Resource,
        "another account, 999999999999",
    );
    brings(
        json!({ "Effect": "Allow", "Action": "x:Do", "Resource": "r", "NotPrincipal": { "AWS": "123456789012" } }),
        Kind::Resource,
        "everybody but 123456789012",
    );
    brings(
        json!({ "Effect": "Allow", "Action": "x:Do", "Principal": { "Service": "s3.amazonaws.com" },
                "Condition": { "StringEquals": { "aws:SourceAccount": "999999999999" } } }),
        Kind::Resource,
        "another account, 999999999999: named in a condition",
    );
    brings(
        json!({ "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
                "Principal": { "Federated": "arn:aws:iam::123456789012:oidc-provider/t" },
                "Condition": { "StringEquals": { "t:aud": "sts" } } }),
        Kind::Trust,
        "no condition on `sub`",
    );
    brings(who(json!({ "CanonicalUser": "79a5" })), Kind::Resource, "an account by its canonical id, 79a5");
    let own = who(json!({ "AWS": "arn:aws:iam::123456789012:role/x" }));
    assert!(compare("p".to_owned(), Ok((&[], None)), &entries(&policy(own), Kind::Resource)).dangers.is_empty());
}

#[test]
fn hostile_documents_are_refused_or_cut() {
    let refused = |text: &str| read(text.as_bytes(), Kind::Identity, OWN).unwrap_err().to_string();
    let twice = r#"{"Statement":{"Effect":"Allow","Action":"*","Action":"s3:a","Resource":"*"}}"#;
    assert!(refused(twice).contains("twice"), "{}", refused(twice));
    let cases = r#"{"Statement":{"Effect":"Allow","Action":"s3:a","action":"*","Resource":"*"}}"#;
    assert!(refused(cases).contains("twice"), "{}", refused(cases));
    let deep = format!("{{\"Statement\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
    refused(&deep);
    refused(&format!("\"{}\"", "x".repeat(10 << 20)));
    refused(r#"{"Statement":{"Effect":"Allow","Effekt":"Deny","Action":"*","Resource":"*"}}"#);
    refused(r#"{"Statement":{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}}"#);
    refused("{}");
    let many: Vec<Value> = (0..2000)
        .map(|it| json!({ "Effect": "Allow", "Action": format!("x:{it}*"), "Resource": it.to_string() }))
        .collect();
    let found = delta(&policy(json!([])), &policy(Value::from(many)), Kind::Identity);
    assert_eq!(found.added.len(), 41);
    assert_eq!(found.added[40], "and 1960 more that are not shown");
    assert_eq!(found.dangers.len(), 41);
    let long = "a\u{202e}\n".repeat(20_000);
    let found = delta(
        &policy(json!([])),
        &policy(json!({ "Effect": "Allow", "Action": "*", "Resource": long })),
        Kind::Identity,
    );
    assert!(found.added[0].len() < 5_000 && found.added[0].contains("bytes in all"), "{}", found.added[0].len());
    assert!(!found.added[0].contains('\n'));
}

#[test]
fn what_is_not_known_is_not_passed_off_as_nothing() {
    let after = entries(&policy(json!({ "Effect": "Allow", "Action": "*", "Resource": "*" })), Kind::Identity);
    let found = compare("p".to_owned(), Err("AccessDenied"), &after);
    assert_eq!(found.before, Before::Unread("AccessDenied".to_owned()));
    assert_eq!((found.added.len(), found.removed.len()), (2, 0));
}

#[test]
fn networks_are_told_by_their_breadth() {
    let rule = |cidr: &str| {
        let parameters = json!({ "IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, "CidrIp": cidr });
        lists::wanted_network_rules(&parameters, "ingress", OWN).remove(0)
    };
    for (cidr, danger) in [
        ("0.0.0.0/0", "open to everybody"),
        ("10.1.2.3/0", "open to everybody"),
        ("::/0", "open to everybody"),
        ("128.0.0.0/1", "a large part of the internet"),
        ("2000::/3", "a large part of the internet"),
    ] {
        assert!(rule(cidr).dangers[0].contains(danger) && rule(cidr).dangers[0].contains("all ports"), "{cidr}");
    }
    assert!(rule("10.0.0.0/8").dangers.is_empty());
    assert!(rule("2001:db8::/32").dangers.is_empty());
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]:[A-Ca-c*?]{1,3}", Just("*".to_owned()), Just("iam:PassRole".to_owned()), "\\PC{0,4}"]
}

fn one_or_more() -> impl Strategy<Value = Value> {
    prop_oneof![word().prop_map(Value::from), prop::collection::vec(word(), 1..4).prop_map(Value::from)]
}

fn statement() -> impl Strategy<Value = Value> {
    let effect = prop_oneof![Just("Allow"), Just("Deny")];
    (effect, any::<bool>(), one_or_more(), one_or_more(), prop::option::of(one_or_more())).prop_map(
        |(effect, not, action, resource, condition)| {
            let action_name = if not { "NotAction" } else { "Action" };
            let mut statement = json!({ "Effect": effect, action_name: action, "Resource": resource });
            if let Some(values) = condition {
                statement["Condition"] = json!({ "StringLike": { "aws:PrincipalArn": values } });
            }
            statement
        },
    )
}

/// The same in another spelling.
fn respelled(value: &Value) -> Value {
    match value {
        Value::String(text) => json!([text, text]),
        Value::Array(items) => items.iter().rev().cloned().collect(),
        other => other.clone(),
    }
}

proptest! {
    /// Order, repetition, single values and the case of actions change nothing; what is left out does.
    #[test]
    fn spelling_is_no_change(statements in prop::collection::vec(statement(), 1..6)) {
        let one = policy(Value::from(statements.clone()));
        let mut other: Vec<Value> = statements.iter().rev().map(|statement| {
            let members = statement.as_object().unwrap().iter().map(|(name, value)| {
                let value = match name.as_str() {
                    "Effect" | "Condition" => value.clone(),
                    _ => respelled(value),
                };
                (name.to_uppercase(), value)
            });
            Value::Object(members.collect())
        }).collect();
        other.push(other[0].clone());
        prop_assert!(is_silent(&delta(&one, &policy(Value::from(other)), Kind::Identity)));
        let first = entries(&policy(statements[0].clone()), Kind::Identity);
        let rest = policy(Value::from(statements[1..].to_vec()));
        let without = delta(&one, &rest, Kind::Identity);
        let stays = entries(&rest, Kind::Identity).iter().any(|it| it.key() == first[1].key());
        prop_assert_eq!(is_silent(&without), stays);
    }

    /// Whatever stands around it, what anybody may do is told.
    #[test]
    fn what_opens_everything_is_always_told(before in prop::collection::vec(statement(), 0..4), after in prop::collection::vec(statement(), 0..4)) {
        let mut opened = after;
        opened.push(json!({ "Effect": "aLLow", "Action": ["s3:x", "*"], "Resource": ["q", "*"], "Sid": "harmless" }));
        let old = entries(&policy(Value::from(before)), Kind::Identity);
        let new = entries(&policy(Value::from(opened)), Kind::Identity);
        prop_assume!(!old.iter().any(|it| new.last().is_some_and(|new| new.key() == it.key())));
        let found = compare("p".to_owned(), Ok((&old, None)), &new);
        prop_assert!(found.dangers.iter().any(|it| it.contains("admin")), "{:?}", found);
    }

    #[test]
    fn nothing_breaks_it(text in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for kind in [Kind::Identity, Kind::Resource, Kind::Trust] {
            drop(read(text.as_bytes(), kind, None));
            drop(read(&bytes, kind, None));
        }
        let value = serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text));
        drop(lists::wanted_network_rules(&value, "ingress", None));
        drop(lists::wanted_access_list(&value, None));
        drop(lists::key_grant(&value, None));
    }
}
