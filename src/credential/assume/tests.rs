use std::borrow::Cow;

use serde_json::Map;

use super::*;
use crate::action::{Access, Traits};

fn action(name: &str, verbs: &[&str], resources: &[&str], parameters: Value) -> Action {
    Action {
        name: Cow::Owned(name.to_owned()),
        access: Access::Write,
        traits: Traits::EMPTY,
        resources: resources.iter().map(|it| (*it).to_owned()).collect(),
        region: None,
        account: Some("123456789012".to_owned()),
        parameters: parameters.as_object().cloned().unwrap_or_else(Map::new),
        sensitive: Vec::new(),
        iam_actions: verbs.iter().map(|it| Cow::Owned((*it).to_owned())).collect(),
        tags: Vec::new(),
        unknown: None,
    }
}

fn policy(actions: &[Action], cut: Cut) -> Result<String, AssumeError> {
    super::policy(actions, &Assume { role: String::new(), external_id: None, cut, also: Vec::new(), cache: None })
}

fn parsed(actions: &[Action], cut: Cut) -> Value {
    serde_json::from_str(&policy(actions, cut).unwrap()).unwrap()
}

#[test]
fn a_session_can_do_what_its_request_needs_and_nothing_else() {
    let create = action(
        "lambda:CreateFunction",
        &["lambda:CreateFunction", "iam:PassRole"],
        &["arn:aws:lambda:eu-west-1:123456789012:function:f", "arn:aws:iam::123456789012:role/r"],
        json!({"FunctionName": "f"}),
    );
    let wanted = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Action": ["iam:PassRole", "lambda:CreateFunction"],
            "Resource": ["arn:aws:iam::123456789012:role/r", "arn:aws:lambda:eu-west-1:123456789012:function:f"],
        }],
    });
    assert_eq!(parsed(std::slice::from_ref(&create), Cut::Resources), wanted);
    assert_eq!(parsed(&[create], Cut::Actions)["Statement"][0]["Resource"], json!(["*"]));
    let list = action("s3:ListBuckets", &["s3:ListAllMyBuckets"], &["*"], json!({}));
    assert_eq!(parsed(&[list], Cut::Resources)["Statement"][0]["Resource"], json!(["*"]));
}

#[test]
fn what_a_call_needs_behind_it_is_allowed_too() {
    let get = action("s3:GetObject", &["s3:GetObject"], &["arn:aws:s3:::b/k"], json!({}));
    let also = vec!["kms:Decrypt".to_owned()];
    let assume = Assume { role: String::new(), external_id: None, cut: Cut::Resources, also, cache: None };
    let policy: Value = serde_json::from_str(&super::policy(&[get], &assume).unwrap()).unwrap();
    let wanted = json!({ "Effect": "Allow", "Action": ["kms:Decrypt"], "Resource": ["*"] });
    assert_eq!((policy["Statement"].as_array().unwrap().len(), &policy["Statement"][1]), (2, &wanted));
}

#[test]
fn a_name_that_looks_like_a_pattern_stands_for_itself() {
    let get = |key: &str| {
        let resource = format!("arn:aws:s3:::b/{key}");
        action("s3:GetObject", &["s3:GetObject"], &[&resource], json!({"Bucket": "b", "Key": key}))
    };
    let resource = |key: &str| parsed(&[get(key)], Cut::Resources)["Statement"][0]["Resource"][0].clone();
    assert_eq!(resource("plain"), "arn:aws:s3:::b/plain");
    assert_eq!(resource("*"), "arn:aws:s3:::b/${*}");
    let source = json!({"CopySource": "b/%2A"});
    let copied = action("s3:CopyObject", &["s3:GetObject"], &["arn:aws:s3:::b/*"], source);
    assert_eq!(parsed(&[copied], Cut::Resources)["Statement"][0]["Resource"][0], "arn:aws:s3:::b/${*}");
    assert_eq!(resource("a?${aws:username}"), "arn:aws:s3:::b/a${?}${$}{aws:username}");
    // A pattern that no value of the request made is the catalog's own.
    let own = action("ec2:RunInstances", &["ec2:RunInstances"], &["arn:aws:ec2:*:1:instance/*"], json!({}));
    assert_eq!(parsed(&[own], Cut::Resources)["Statement"][0]["Resource"][0], "arn:aws:ec2:*:1:instance/*");
}

#[test]
fn what_cannot_be_cut_is_not_sent() {
    let unknown = action("x:Y", &[], &["*"], json!({}));
    assert!(matches!(policy(&[unknown], Cut::Resources), Err(AssumeError::NoIamAction(name)) if name == "x:Y"));
    let mut doubtful = action("x:Y", &["x:Y"], &["*"], json!({}));
    doubtful.traits = Traits::EMPTY.with(Trait::Unknown);
    assert!(matches!(policy(&[doubtful], Cut::Actions), Err(AssumeError::NoIamAction(_))));
    let many: Vec<String> = (0..100).map(|it| format!("arn:aws:dynamodb:us-east-1:1:table/{it}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let batch = action("dynamodb:BatchGetItem", &["dynamodb:BatchGetItem"], &many, json!({}));
    assert!(matches!(policy(&[batch], Cut::Resources), Err(AssumeError::TooLong(length)) if length > 2048));
}

#[test]
fn sessions_have_names_that_sts_takes() {
    let agent = AgentId::new("a".repeat(64));
    assert_eq!(name(&agent, None).len(), 64);
    assert_eq!(name(&AgentId::new("a"), None), "agent-a");
    let id = crate::id::HoldId::fresh(Timestamp::from_micros(0));
    let name = name(&AgentId::new("deploy@ci"), Some(id.as_str()));
    assert_eq!(name, format!("deploy@ci-{id}"));
    assert!(super::name(&agent, Some(id.as_str())).len() <= NAME_LIMIT_CHARS);
    assert!(name.bytes().all(|it| it.is_ascii_alphanumeric() || b"_+=,.@-".contains(&it)), "{name}");
}
