//! Which calls change which policy, and what they make of the present one.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::look::Present;
use crate::action::{Action, Delta};
use crate::policy::compare::{about, bounded, compare};
use crate::policy::document::{of_value, read};
use crate::policy::{Entry, Kind, lists};

/// What a call changes.
pub(super) struct Subject {
    pub(super) about: String,
    pub(super) kind: Kind,
    pub(super) place: Place,
}

/// Where the present state of it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `user`, `role` or `group`.
    Inline(Holder),
    Attached(Holder),
    Boundary(Holder),
    Trust,
    Version,
    BucketPolicy,
    BucketAcl,
    ObjectAcl,
    PublicAccess,
    AccountPublicAccess,
    /// A JSON service's operation and version, the members it is asked by, and the member of its answer.
    Document(&'static str, &'static str, &'static [&'static str], &'static str),
    Topic,
    Queue,
    Function,
    KeyGrants,
    Group(&'static str),
    /// It is made by this call.
    New,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Group,
    Role,
    User,
}

impl Holder {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Group => "Group",
            Self::Role => "Role",
            Self::User => "User",
        }
    }

    pub(super) fn member(self) -> &'static str {
        match self {
            Self::Group => "GroupName",
            Self::Role => "RoleName",
            Self::User => "UserName",
        }
    }
}

pub(super) fn text<'a>(action: &'a Action, name: &str) -> Option<&'a str> {
    action.parameters.get(name).and_then(Value::as_str)
}

/// Whether the body of the call is the policy.
pub(super) fn is_in_body(action: &Action) -> bool {
    action.name == "aws:s3:PutBucketPolicy"
}

impl Subject {
    /// `None`: it changes no policy that is known here.
    pub(super) fn of(action: &Action) -> Option<Self> {
        let (service, operation) = action.name.strip_prefix("aws:")?.split_once(':')?;
        let word = |name: &str| text(action, name).unwrap_or("?").to_owned();
        let (kind, place, what, name) = match service {
            "iam" => return iam(operation, action),
            "s3" => match operation {
                "PutBucketPolicy" | "DeleteBucketPolicy" => {
                    (Kind::Resource, Place::BucketPolicy, "policy of bucket", word("Bucket"))
                }
                "PutBucketAcl" => (Kind::Resource, Place::BucketAcl, "access list of bucket", word("Bucket")),
                "PutObjectAcl" => {
                    let object = format!("{}/{}", word("Bucket"), word("Key"));
                    (Kind::Resource, Place::ObjectAcl, "access list of object", object)
                }
                "PutPublicAccessBlock" | "DeletePublicAccessBlock" if action.parameters.contains_key("AccountId") => {
                    (Kind::Resource, Place::AccountPublicAccess, "public access block of account", word("AccountId"))
                }
                "PutPublicAccessBlock" | "DeletePublicAccessBlock" => {
                    (Kind::Resource, Place::PublicAccess, "public access block of bucket", word("Bucket"))
                }
                _ => return None,
            },
            "kms" => match operation {
                "PutKeyPolicy" => (Kind::Resource, KEY_POLICY, "policy of key", word("KeyId")),
                "CreateKey" if action.parameters.contains_key("Policy") => {
                    (Kind::Resource, Place::New, "policy of", "a new key".to_owned())
                }
                "CreateGrant" => (Kind::Resource, Place::KeyGrants, "grants of key", word("KeyId")),
                "RevokeGrant" | "RetireGrant" => (Kind::Resource, Place::KeyGrants, "grants of key", word("KeyId")),
                _ => return None,
            },
            "sns" => match operation {
                "SetTopicAttributes" if text(action, "AttributeName") != Some("Policy") => return None,
                "SetTopicAttributes" | "AddPermission" | "RemovePermission" => {
                    (Kind::Resource, Place::Topic, "policy of topic", word("TopicArn"))
                }
                _ => return None,
            },
            "sqs" => match operation {
                "SetQueueAttributes" if queue_policy(action).is_none() => return None,
                "SetQueueAttributes" | "AddPermission" | "RemovePermission" => {
                    (Kind::Resource, Place::Queue, "policy of queue", word("QueueUrl"))
                }
                _ => return None,
            },
            "lambda" => match operation {
                "AddPermission" | "RemovePermission" => {
                    (Kind::Resource, Place::Function, "policy of function", word("FunctionName"))
                }
                _ => return None,
            },
            "ec2" => {
                let direction = match operation {
                    "AuthorizeSecurityGroupIngress" | "RevokeSecurityGroupIngress" => "ingress",
                    "AuthorizeSecurityGroupEgress" | "RevokeSecurityGroupEgress" => "egress",
                    "ModifySecurityGroupRules" => "rule",
                    _ => return None,
                };
                let name = text(action, "GroupId").or_else(|| text(action, "GroupName")).unwrap_or("?").to_owned();
                (Kind::Resource, Place::Group(direction), "rules of security group", name)
            }
            _ => {
                let (_, place, what, member) = documents().find(|(it, ..)| *it == (service, operation))?;
                (Kind::Resource, place, what, word(member))
            }
        };
        Some(Self { about: about(what, &name), kind, place })
    }
}

const KEY_POLICY: Place = Place::Document("TrentService.GetKeyPolicy", "1.1", &["KeyId"], "Policy");

type Row = ((&'static str, &'static str), Place, &'static str, &'static str);

/// The calls of JSON services that put a policy or delete it.
fn documents() -> impl Iterator<Item = Row> {
    const ECR: Place = Place::Document(
        "AmazonEC2ContainerRegistry_V20150921.GetRepositoryPolicy",
        "1.1",
        &["registryId", "repositoryName"],
        "policyText",
    );
    const REGISTRY: Place =
        Place::Document("AmazonEC2ContainerRegistry_V20150921.GetRegistryPolicy", "1.1", &[], "policyText");
    const SECRET: Place = Place::Document("secretsmanager.GetResourcePolicy", "1.1", &["SecretId"], "ResourcePolicy");
    const TABLE: Place = Place::Document("DynamoDB_20120810.GetResourcePolicy", "1.0", &["ResourceArn"], "Policy");
    const STREAM: Place = Place::Document("Kinesis_20131202.GetResourcePolicy", "1.1", &["ResourceARN"], "Policy");
    const GLUE: Place = Place::Document("AWSGlue.GetResourcePolicy", "1.1", &["ResourceArn"], "PolicyInJson");
    [
        (("ecr", "SetRepositoryPolicy"), ECR, "policy of repository", "repositoryName"),
        (("ecr", "DeleteRepositoryPolicy"), ECR, "policy of repository", "repositoryName"),
        (("ecr", "PutRegistryPolicy"), REGISTRY, "policy of the registry", "registryId"),
        (("ecr", "DeleteRegistryPolicy"), REGISTRY, "policy of the registry", "registryId"),
        (("secretsmanager", "PutResourcePolicy"), SECRET, "policy of secret", "SecretId"),
        (("secretsmanager", "DeleteResourcePolicy"), SECRET, "policy of secret", "SecretId"),
        (("dynamodb", "PutResourcePolicy"), TABLE, "policy of table or stream", "ResourceArn"),
        (("dynamodb", "DeleteResourcePolicy"), TABLE, "policy of table or stream", "ResourceArn"),
        (("kinesis", "PutResourcePolicy"), STREAM, "policy of stream", "ResourceARN"),
        (("kinesis", "DeleteResourcePolicy"), STREAM, "policy of stream", "ResourceARN"),
        (("glue", "PutResourcePolicy"), GLUE, "policy of catalog", "ResourceArn"),
        (("glue", "DeleteResourcePolicy"), GLUE, "policy of catalog", "ResourceArn"),
    ]
    .into_iter()
}

fn iam(operation: &str, action: &Action) -> Option<Subject> {
    let holder = match () {
        () if operation.contains("User") => Holder::User,
        () if operation.contains("Group") => Holder::Group,
        () => Holder::Role,
    };
    let word = |name: &str| text(action, name).unwrap_or("?");
    let whose = |what: &str| about(&format!("{what} {}", holder.word().to_ascii_lowercase()), word(holder.member()));
    let (kind, place, about) = match operation {
        "PutUserPolicy" | "PutRolePolicy" | "PutGroupPolicy" | "DeleteUserPolicy" | "DeleteRolePolicy"
        | "DeleteGroupPolicy" => {
            let policy = about("inline policy", word("PolicyName"));
            (Kind::Identity, Place::Inline(holder), whose(&format!("{policy} of")))
        }
        "AttachUserPolicy" | "AttachRolePolicy" | "AttachGroupPolicy" | "DetachUserPolicy" | "DetachRolePolicy"
        | "DetachGroupPolicy" => (Kind::Identity, Place::Attached(holder), whose("policies attached to")),
        "PutUserPermissionsBoundary"
        | "PutRolePermissionsBoundary"
        | "DeleteUserPermissionsBoundary"
        | "DeleteRolePermissionsBoundary" => {
            (Kind::Identity, Place::Boundary(holder), whose("permissions boundary of"))
        }
        "UpdateAssumeRolePolicy" => (Kind::Trust, Place::Trust, whose("trust policy of")),
        "CreateRole" => (Kind::Trust, Place::New, whose("trust policy of the new")),
        "CreatePolicy" => (Kind::Identity, Place::New, about("the new policy", word("PolicyName"))),
        "CreatePolicyVersion" | "SetDefaultPolicyVersion" => {
            let is_default =
                operation.starts_with("Set") || action.parameters.get("SetAsDefault") == Some(&json!(true));
            let what = if is_default { "policy" } else { "a version that is not made the default one, of policy" };
            (Kind::Identity, Place::Version, about(what, word("PolicyArn")))
        }
        _ => return None,
    };
    Some(Subject { about, kind, place })
}

/// The state after a call.
enum After {
    Whole(Vec<Entry>),
    Plus(Vec<Entry>),
    /// Without the entries of that name or with those keys.
    Minus(Vec<String>),
}

pub(super) fn delta(
    action: &Action,
    subject: &Subject,
    present: &Present,
    body: Option<&[u8]>,
    own_account: Option<&str>,
) -> Delta {
    let known = present.entries.as_deref().map_err(String::as_str);
    let before = known.map(|entries| (entries, present.sha256));
    let mut delta = match after(action, subject, present, body, own_account) {
        Ok(after) => {
            let entries: Cow<'_, [Entry]> = match after {
                After::Whole(entries) => entries.into(),
                After::Plus(entries) => {
                    known.unwrap_or_default().iter().cloned().chain(entries).collect::<Vec<_>>().into()
                }
                After::Minus(names) => {
                    let goes = |it: &&Entry| {
                        it.sid.as_ref().is_some_and(|sid| names.contains(sid))
                            || names.iter().any(|name| name == it.key())
                    };
                    known.unwrap_or_default().iter().filter(|it| !goes(it)).cloned().collect::<Vec<_>>().into()
                }
            };
            compare(subject.about.clone(), before, &entries)
        }
        Err(why) => {
            let mut delta = compare(subject.about.clone(), before, known.unwrap_or_default());
            delta.doubt = Some(why);
            delta
        }
    };
    if let Some(Err(why)) = &present.other {
        delta.doubt.get_or_insert_with(|| format!("the policy that it names could not be read: {why}"));
    }
    if matches!(subject.place, Place::Boundary(_)) {
        let what = if action.name.contains(":Delete") { "gone" } else { "another one" };
        if !delta.removed.is_empty() || known.is_err() {
            delta.dangers.push(format!("the permissions boundary is {what}"));
        }
    }
    bounded(&mut delta);
    delta
}

fn after(
    action: &Action,
    subject: &Subject,
    present: &Present,
    body: Option<&[u8]>,
    own_account: Option<&str>,
) -> Result<After, String> {
    let (_, operation) = action.name.rsplit_once(':').unwrap_or_default();
    let parameters = Value::Object(action.parameters.clone());
    let document = |text: &[u8]| read(text, subject.kind, own_account).map_err(|error| error.to_string());
    let member = |name: &str| match action.sensitive.iter().any(|it| it == name) {
        true => Err("the service takes its value for a secret".to_owned()),
        false => text(action, name).ok_or_else(|| format!("the request has no {name}")),
    };
    if operation.starts_with("Delete") {
        return Ok(After::Whole(match subject.place {
            Place::PublicAccess | Place::AccountPublicAccess => lists::public_access_block(|_| false),
            _ => Vec::new(),
        }));
    }
    Ok(match subject.place {
        Place::Inline(_) | Place::Trust => After::Whole(document(member("PolicyDocument")?.as_bytes())?),
        Place::Version if operation.starts_with("Set") => match &present.other {
            Some(Ok(entries)) => After::Whole(entries.clone()),
            _ => return Err("the version could not be read".to_owned()),
        },
        Place::Version => After::Whole(document(member("PolicyDocument")?.as_bytes())?),
        Place::New => {
            let name = match operation {
                "CreateRole" => "AssumeRolePolicyDocument",
                "CreateKey" => "Policy",
                _ => "PolicyDocument",
            };
            After::Whole(document(member(name)?.as_bytes())?)
        }
        Place::Attached(_) => {
            let entry = lists::policy_name("attached", member("PolicyArn")?);
            let its = match &present.other {
                Some(Ok(entries)) => entries.as_slice(),
                _ => &[],
            };
            match operation.starts_with("Detach") {
                true => After::Minus(std::iter::once(&entry).chain(its).map(|it| it.key().to_owned()).collect()),
                false => After::Plus(std::iter::once(entry).chain(its.iter().cloned()).collect()),
            }
        }
        Place::Boundary(_) => After::Whole(vec![lists::policy_name("boundary", member("PermissionsBoundary")?)]),
        Place::BucketPolicy => After::Whole(document(body.ok_or("it is too large to be looked at")?)?),
        Place::BucketAcl | Place::ObjectAcl => {
            After::Whole(lists::wanted_access_list(&parameters, present.owner.as_deref())?)
        }
        Place::PublicAccess | Place::AccountPublicAccess => {
            let switches = parameters.get("PublicAccessBlockConfiguration").cloned().unwrap_or_default();
            After::Whole(lists::public_access_block(|name| switches.get(name) == Some(&json!(true))))
        }
        Place::Document(..) => {
            let names = ["Policy", "policyText", "ResourcePolicy", "PolicyInJson"];
            let name = names.into_iter().find(|it| action.parameters.contains_key(*it)).unwrap_or("Policy");
            After::Whole(document(member(name)?.as_bytes())?)
        }
        Place::Topic | Place::Queue | Place::Function => match operation {
            "AddPermission" => After::Plus(
                of_value(&permission(action, subject.place), subject.kind, own_account)
                    .map_err(|error| error.to_string())?
                    .into_iter()
                    .filter(|it| !it.key().starts_with("Version "))
                    .collect(),
            ),
            "RemovePermission" => {
                let name = if subject.place == Place::Function { "StatementId" } else { "Label" };
                After::Minus(vec![member(name)?.to_owned()])
            }
            _ if subject.place == Place::Queue => {
                After::Whole(document(queue_policy(action).unwrap_or_default().as_bytes())?)
            }
            _ => After::Whole(document(member("AttributeValue")?.as_bytes())?),
        },
        Place::KeyGrants if operation == "CreateGrant" => After::Plus(vec![lists::key_grant(&parameters, own_account)]),
        Place::KeyGrants => After::Minus(vec![member("GrantId")?.to_owned()]),
        Place::Group(direction) => {
            let rules = lists::wanted_network_rules(&parameters, direction, own_account);
            match operation.starts_with("Revoke") {
                _ if rules.is_empty() => return Err("it names its rules by their ids".to_owned()),
                true => After::Minus(rules.iter().map(|it| it.key().to_owned()).collect()),
                false => After::Plus(rules),
            }
        }
    })
}

fn queue_policy(action: &Action) -> Option<&str> {
    action.parameters.get("Attributes")?.get("Policy")?.as_str()
}

/// The statement that AddPermission makes (API references of Lambda, SNS and SQS).
fn permission(action: &Action, place: Place) -> Value {
    let member = |name: &str| action.parameters.get(name).cloned();
    let mut statement =
        json!({ "Effect": "Allow", "Resource": action.resources.first().map_or("this", String::as_str) });
    let mut set = |name: &str, value: Value| {
        if let Some(members) = statement.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    if place != Place::Function {
        let (service, names) = if place == Place::Topic { ("SNS", "ActionName") } else { ("SQS", "Actions") };
        let named = action.parameters.get(names).and_then(Value::as_array).into_iter().flatten();
        let actions = named.filter_map(Value::as_str).map(|it| Value::from(format!("{service}:{it}")));
        set("Action", actions.collect());
        set("Principal", json!({ "AWS": member("AWSAccountId").or_else(|| member("AWSAccountIds")) }));
        return json!({ "Statement": statement });
    }
    set("Action", member("Action").unwrap_or_default());
    let principal = text(action, "Principal").unwrap_or_default();
    set(
        "Principal",
        match principal.ends_with(".amazonaws.com") {
            true => json!({ "Service": principal }),
            false => json!({ "AWS": principal }),
        },
    );
    let mut conditions = serde_json::Map::new();
    let mut condition = |operator: &str, key: &str, name: &str| {
        if let Some(value) = member(name)
            && let Some(keys) = conditions.entry(operator).or_insert_with(|| json!({})).as_object_mut()
        {
            keys.insert(key.to_owned(), value);
        }
    };
    condition("ArnLike", "AWS:SourceArn", "SourceArn");
    condition("StringEquals", "AWS:SourceAccount", "SourceAccount");
    condition("StringEquals", "aws:PrincipalOrgID", "PrincipalOrgID");
    condition("StringEquals", "lambda:FunctionUrlAuthType", "FunctionUrlAuthType");
    if !conditions.is_empty() {
        set("Condition", Value::Object(conditions));
    }
    json!({ "Statement": statement })
}
