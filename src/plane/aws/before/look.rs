//! Reads the present state at the upstream.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};

use super::super::answer::{Gathered, gather};
use super::super::call::BodyIdentity;
use super::Scene;
use super::change::{Holder, Place, Subject, text};
use crate::action::Action;
use crate::classify::aws;
use crate::digest::{Digest, sha256};
use crate::gate::Look;
use crate::id::HoldId;
use crate::net::body::Outgoing;
use crate::policy::document::read;
use crate::policy::{Entry, lists};
use crate::wire::aws::xml::Element;
use crate::wire::aws::{form, json, xml};
use crate::wire::head::Head;
use crate::wire::sigv4::Payload;

/// Longest answer that is read.
const ANSWER_LIMIT_BYTES: usize = 1 << 20;
/// Grants of a key, and policies of one holder, that are asked for.
const MOST_LISTED: &str = "1000";

/// RFC 3986, section 2.3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The present state.
#[derive(Clone, Debug)]
pub(in super::super) struct Present {
    /// Or why it is not known.
    pub(super) entries: Result<Vec<Entry>, String>,
    /// Of the document as it was read.
    pub(super) sha256: Option<Digest>,
    /// Whose the list is.
    pub(super) owner: Option<String>,
    /// What the policy says that the request names.
    pub(super) other: Option<Result<Vec<Entry>, String>>,
}

impl Present {
    pub(super) fn unread(why: &str) -> Self {
        Self { entries: Err(why.to_owned()), ..Self::of(Vec::new()) }
    }

    fn of(entries: Vec<Entry>) -> Self {
        Self { entries: Ok(entries), sha256: None, owner: None, other: None }
    }
}

/// Why something could not be read.
#[derive(Debug)]
enum Unread {
    /// There is nothing.
    Absent,
    Because(String),
}

impl Unread {
    fn because(why: impl std::fmt::Display) -> Self {
        Self::Because(why.to_string())
    }
}

type Read<T> = Result<T, Unread>;

/// The way to the service that a request goes to.
#[derive(Clone, Copy)]
pub(super) struct Looking<'a> {
    pub(super) scene: &'a Scene,
    /// That it is looked for; absent before there is one.
    pub(super) hold: Option<&'a HoldId>,
}

/// A question.
struct Question<'q> {
    method: Method,
    path: Cow<'q, str>,
    fields: Vec<(HeaderName, String)>,
    body: Vec<u8>,
}

impl Looking<'_> {
    pub(super) async fn present(&self, subject: &Subject, action: &Action) -> Present {
        match self.find(subject, action).await {
            Ok(present) => present,
            Err(Unread::Absent) => Present::of(Vec::new()),
            Err(Unread::Because(why)) => Present::unread(&why),
        }
    }

    async fn find(&self, subject: &Subject, action: &Action) -> Read<Present> {
        let own_account = self.scene.naming.front.account.as_deref();
        let document = |text: &[u8]| {
            let entries = read(text, subject.kind, own_account).map_err(Unread::because)?;
            Ok(Present { sha256: Some(sha256(text)), ..Present::of(entries) })
        };
        let word = |name: &str| text(action, name).unwrap_or_default();
        match subject.place {
            Place::New => Err(Unread::Absent),
            Place::Inline(holder) => {
                let operation = format!("Get{}Policy", holder.word());
                let fields = [(holder.member(), word(holder.member())), ("PolicyName", word("PolicyName"))];
                document(&decoded(&self.iam(&operation, &fields).await?, "PolicyDocument")?)
            }
            Place::Trust => {
                let role = self.iam("GetRole", &[("RoleName", word("RoleName"))]).await?;
                let role = role.child("Role").ok_or(Unread::Absent)?;
                document(&decoded(role, "AssumeRolePolicyDocument")?)
            }
            Place::Version => {
                let mut present = document(&self.default_version(word("PolicyArn")).await?)?;
                if action.name.ends_with(":SetDefaultPolicyVersion") {
                    let text = self.version(word("PolicyArn"), word("VersionId")).await;
                    present.other =
                        Some(text.and_then(|text| Ok(document(&text)?.entries.unwrap_or_default())).map_err(spoken));
                }
                Ok(present)
            }
            Place::Attached(holder) => self.attached(holder, subject, action).await,
            Place::Boundary(holder) => {
                let answer =
                    self.iam(&format!("Get{}", holder.word()), &[(holder.member(), word(holder.member()))]).await?;
                let held = answer.child(holder.word()).and_then(|it| it.child("PermissionsBoundary"));
                let arn = held.and_then(|it| it.child("PermissionsBoundaryArn")).ok_or(Unread::Absent)?;
                Ok(Present::of(vec![lists::policy_name("boundary", arn.text())]))
            }
            Place::BucketPolicy => document(&self.sub_resource("policy").await?),
            Place::BucketAcl => self.access_list("acl").await,
            Place::ObjectAcl => {
                let version = text(action, "VersionId");
                let version = version.map(|it| format!("&versionId={}", utf8_percent_encode(it, ENCODED)));
                self.access_list(&format!("acl{}", version.unwrap_or_default())).await
            }
            Place::PublicAccess => {
                let root = parsed(&self.sub_resource("publicAccessBlock").await?)?;
                Ok(Present::of(lists::public_access_block(|name| {
                    root.child(name).is_some_and(|it| it.text().eq_ignore_ascii_case("true"))
                })))
            }
            Place::AccountPublicAccess => Err(Unread::because("that of an account is not looked at")),
            Place::Document(target, version, members, answer) => {
                let asked =
                    members.iter().filter_map(|name| Some(((*name).to_owned(), action.parameters.get(*name)?.clone())));
                let answered = self.json(target, version, asked.collect()).await?;
                // Kinesis gives `{}` for a stream that has none.
                let text = answered.get(answer).and_then(Value::as_str).filter(|it| it.trim() != "{}");
                document(text.ok_or(Unread::Absent)?.as_bytes())
            }
            Place::Topic => {
                let asked = [("TopicArn", word("TopicArn"))];
                let answer = self.form("GetTopicAttributes", "2010-03-31", &asked).await?;
                let mut entries = answer.child("Attributes").into_iter().flat_map(|it| it.children("entry"));
                let policy = entries.find(|it| it.child("key").is_some_and(|it| it.text() == "Policy"));
                document(policy.and_then(|it| it.child("value")).ok_or(Unread::Absent)?.text().as_bytes())
            }
            Place::Queue => {
                let names = ("AttributeNames".to_owned(), Value::from(vec!["Policy"]));
                let asked = [("QueueUrl".to_owned(), word("QueueUrl").into()), names].into_iter().collect();
                let answer = self.json("AmazonSQS.GetQueueAttributes", "1.0", asked).await?;
                let policy = answer.pointer("/Attributes/Policy").and_then(Value::as_str).ok_or(Unread::Absent)?;
                document(policy.as_bytes())
            }
            Place::Function => {
                let name = utf8_percent_encode(word("FunctionName"), ENCODED);
                let qualifier = text(action, "Qualifier");
                let qualifier = qualifier.map(|it| format!("?Qualifier={}", utf8_percent_encode(it, ENCODED)));
                let path = format!("/2015-03-31/functions/{name}/policy{}", qualifier.unwrap_or_default());
                let answer = self.get(path.into()).await?;
                let answer = json::parse(&answer).map_err(Unread::because)?;
                document(answer.get("Policy").and_then(Value::as_str).ok_or(Unread::Absent)?.as_bytes())
            }
            Place::KeyGrants => {
                let asked = [("KeyId".to_owned(), Value::from(word("KeyId")))].into_iter().collect();
                let answer = self.json("TrentService.ListGrants", "1.1", asked).await?;
                let grants = answer.get("Grants").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                Ok(Present::of(grants.iter().map(|it| lists::key_grant(it, own_account)).collect()))
            }
            Place::Group("rule") => Err(Unread::because("rules by their ids are not looked at")),
            Place::Group(direction) => {
                let asked = match text(action, "GroupId") {
                    Some(id) => ("GroupId.1", id),
                    None => ("GroupName.1", word("GroupName")),
                };
                let answer = self.ec2("DescribeSecurityGroups", &[asked]).await?;
                let group = answer.child("securityGroupInfo").and_then(|it| it.child("item")).ok_or(Unread::Absent)?;
                Ok(Present::of(lists::present_network_rules(group, direction)))
            }
        }
    }

    /// The names of what is attached, and what the policy says that is or was.
    async fn attached(&self, holder: Holder, subject: &Subject, action: &Action) -> Read<Present> {
        let word = |name: &str| text(action, name).unwrap_or_default();
        let own_account = self.scene.naming.front.account.as_deref();
        let operation = format!("ListAttached{}Policies", holder.word());
        let asked = [(holder.member(), word(holder.member())), ("MaxItems", MOST_LISTED)];
        let listed = self.iam(&operation, &asked).await;
        let of_list = |answer: &Element| -> Vec<Entry> {
            let members = answer.child("AttachedPolicies").into_iter().flat_map(|it| it.children("member"));
            let arns = members.filter_map(|it| it.child("PolicyArn"));
            arns.map(|arn| lists::policy_name("attached", arn.text())).collect()
        };
        let mut present = match listed {
            Ok(answer) => Present::of(of_list(&answer)),
            Err(Unread::Absent) => Present::of(Vec::new()),
            Err(Unread::Because(why)) => Present::unread(&why),
        };
        let text = self.default_version(word("PolicyArn")).await;
        let other = text.and_then(|text| read(&text, subject.kind, own_account).map_err(Unread::because));
        if let (Ok(entries), Ok(its), true) = (&mut present.entries, &other, action.name.contains(":Detach")) {
            entries.extend(its.iter().cloned());
        }
        present.other = Some(other.map_err(spoken));
        Ok(present)
    }

    async fn default_version(&self, arn: &str) -> Read<Vec<u8>> {
        let answer = self.iam("GetPolicy", &[("PolicyArn", arn)]).await?;
        let version = answer.child("Policy").and_then(|it| it.child("DefaultVersionId")).ok_or(Unread::Absent)?;
        self.version(arn, version.text()).await
    }

    async fn version(&self, arn: &str, version: &str) -> Read<Vec<u8>> {
        let answer = self.iam("GetPolicyVersion", &[("PolicyArn", arn), ("VersionId", version)]).await?;
        decoded(answer.child("PolicyVersion").ok_or(Unread::Absent)?, "Document")
    }

    async fn access_list(&self, sub_resource: &str) -> Read<Present> {
        let (entries, owner) = lists::access_list(&parsed(&self.sub_resource(sub_resource).await?)?);
        Ok(Present { owner, ..Present::of(entries) })
    }

    /// The same bucket or object, another one of its sub-resources.
    async fn sub_resource(&self, query: &str) -> Read<Bytes> {
        self.get(format!("{}?{query}", self.scene.path).into()).await
    }

    async fn get(&self, path: Cow<'_, str>) -> Read<Bytes> {
        self.ask(Question { method: Method::GET, path, fields: Vec::new(), body: Vec::new() }).await
    }

    async fn iam(&self, operation: &str, fields: &[(&str, &str)]) -> Read<Element> {
        self.form(operation, "2010-05-08", fields).await
    }

    /// An operation of the query protocol; its result.
    async fn form(&self, operation: &str, version: &str, fields: &[(&str, &str)]) -> Read<Element> {
        let mut answer = self.ec2_or_query(operation, version, fields).await?;
        answer.take_child(&format!("{operation}Result")).ok_or(Unread::Absent)
    }

    async fn ec2(&self, operation: &str, fields: &[(&str, &str)]) -> Read<Element> {
        self.ec2_or_query(operation, "2016-11-15", fields).await
    }

    async fn ec2_or_query(&self, operation: &str, version: &str, fields: &[(&str, &str)]) -> Read<Element> {
        let named = [("Action", operation), ("Version", version)];
        let body = form::encode(named.into_iter().chain(fields.iter().copied())).into_bytes();
        let kind = "application/x-www-form-urlencoded; charset=utf-8".to_owned();
        let fields = vec![(http::header::CONTENT_TYPE, kind)];
        parsed(&self.ask(Question { method: Method::POST, path: "/".into(), fields, body }).await?)
    }

    async fn json(&self, target: &str, version: &str, members: Map<String, Value>) -> Read<Value> {
        let fields = vec![
            (http::header::CONTENT_TYPE, format!("application/x-amz-json-{version}")),
            (HeaderName::from_static("x-amz-target"), target.to_owned()),
        ];
        let body = Value::Object(members).to_string().into_bytes();
        let answer = self.ask(Question { method: Method::POST, path: "/".into(), fields, body }).await?;
        json::parse(&answer).map_err(Unread::because)
    }

    async fn ask(&self, question: Question<'_>) -> Read<Bytes> {
        let Question { method, path, fields, body } = question;
        let Scene { plane, naming, route, .. } = self.scene;
        let (now, route) = (plane.clock.now(), route.clone());
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_str(&route.host).map_err(Unread::because)?;
        headers.insert(http::header::HOST, host);
        for (name, value) in fields {
            headers.insert(name, HeaderValue::from_str(&value).map_err(Unread::because)?);
        }
        let uri: Uri = path.parse().map_err(Unread::because)?;
        let head = Head::parse(method, &uri, headers).map_err(Unread::because)?;
        // A question is named as any request is, and on record before it is asked.
        let named = naming.name(&head, aws::Body::Whole(&body)).map_err(|fault| Unread::because(fault.message()))?;
        let call = naming.call(head, route).map_err(|fault| Unread::because(fault.message()))?;
        let endpoint = call.endpoint.clone();
        let key = plane.real.current(now).map_err(Unread::because)?;
        let shown = call.shown(BodyIdentity::of(&body), &named.actions);
        let question = Look {
            action_id: &self.scene.action,
            agent: &self.scene.agent.id,
            hold: self.hold,
            method: &shown.method,
            url: &shown.url,
            body: (body.len(), sha256(&body)),
            actions: &named.actions,
            upstream_key_id: &key.id,
        };
        plane.gate.looking(&question).await.map_err(|_| Unread::because("the audit log cannot be written"))?;
        let (signed, _) = call.sign(Payload::Sha256(sha256(&body)), &key, now).map_err(Unread::because)?;
        let sending = plane.pool.send(&endpoint, Box::new(signed.map(|()| Outgoing::whole(body))));
        let (head, body) = sending.await.map_err(Unread::because)?.into_parts();
        let body = match gather(body, ANSWER_LIMIT_BYTES).await.map_err(Unread::because)? {
            Gathered::Whole(bytes) => bytes,
            Gathered::Large(_) => return Err(Unread::because("the answer is too large to be looked at")),
        };
        if head.status.is_success() {
            return Ok(body);
        }
        let code = code(&head.headers, &body);
        match code.as_deref().is_some_and(is_absent) {
            true => Err(Unread::Absent),
            false => Err(Unread::Because(code.unwrap_or_else(|| format!("status {}", head.status.as_u16())))),
        }
    }
}

fn spoken(unread: Unread) -> String {
    match unread {
        Unread::Absent => "there is none".to_owned(),
        Unread::Because(why) => why,
    }
}

fn parsed(answer: &[u8]) -> Read<Element> {
    xml::parse(answer).map_err(Unread::because)
}

/// A document of IAM, which stands percent-encoded in its answers.
fn decoded(element: &Element, name: &str) -> Read<Vec<u8>> {
    let text = element.child(name).ok_or(Unread::Absent)?.text();
    Ok(percent_decode_str(text).collect())
}

/// The code of an error, without its message, which may repeat what is nobody's to see.
fn code(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let in_field = headers.get("x-amzn-errortype").and_then(|it| it.to_str().ok()).map(str::to_owned);
    let in_xml = || {
        let root = xml::parse(body).ok()?;
        let error = root.child("Errors").unwrap_or(&root);
        let error = error.child("Error").unwrap_or(error);
        Some(error.child("Code")?.text().to_owned())
    };
    let in_json = || {
        let value = json::parse(body).ok()?;
        Some(value.get("__type").or_else(|| value.get("code"))?.as_str()?.to_owned())
    };
    let code = in_field.or_else(in_json).or_else(in_xml)?;
    let code = code.rsplit('#').next()?.split(':').next()?;
    (code.len() <= 128 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')).then(|| code.to_owned())
}

/// An error that says that there is nothing.
fn is_absent(code: &str) -> bool {
    matches!(
        code,
        "EntityNotFoundException"
            | "NoSuchBucketPolicy"
            | "NoSuchEntity"
            | "NoSuchPublicAccessBlockConfiguration"
            | "PolicyNotFoundException"
            | "RegistryPolicyNotFoundException"
            | "RepositoryPolicyNotFoundException"
            | "ResourceNotFoundException"
    )
}
