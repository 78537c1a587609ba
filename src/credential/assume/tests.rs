use std::borrow::Cow;
use std::time::Duration;

use aws_sdk_sts::config::{BehaviorVersion, Credentials, Region};
use serde_json::Map;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

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

const GIVEN: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAGIVEN</AccessKeyId>\
    <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
    </Credentials></AssumeRoleResult></AssumeRoleResponse>";
const REFUSED: &str = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";

/// An STS that answers when it is told to, and the requests that it got.
struct Sts {
    sessions: Arc<Sessions>,
    requests: mpsc::UnboundedReceiver<String>,
    answers: Arc<Semaphore>,
}

impl Sts {
    async fn start(status: &'static str, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = aws_sdk_sts::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .endpoint_url(format!("http://{}", listener.local_addr().unwrap()))
            .credentials_provider(Credentials::new("AKIAREAL", "secret", None, None, "test"));
        let sessions = Arc::new(Sessions::new(aws_sdk_sts::Client::from_conf(config.build())));
        let (sender, requests) = mpsc::unbounded_channel();
        let answers = Arc::new(Semaphore::new(0));
        let let_go = Arc::clone(&answers);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (sender, let_go) = (sender.clone(), Arc::clone(&let_go));
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.windows(16).any(|it| it == b"Version=2011-06-") {
                        assert!(stream.read_buf(&mut request).await.unwrap() > 0);
                    }
                    sender.send(String::from_utf8(request).unwrap()).unwrap();
                    let_go.acquire().await.unwrap().forget();
                    let head = format!("HTTP/1.1 {status}\r\ncontent-type: text/xml\r\nconnection: close\r\n");
                    let text = format!("{head}content-length: {}\r\n\r\n{answer}", answer.len());
                    stream.write_all(text.as_bytes()).await.unwrap();
                });
            }
        });
        Self { sessions, requests, answers }
    }

    fn ask(&self, agent: &str, id: usize, cache: Option<Duration>) -> impl Future<Output = Answered> + use<> {
        let (sessions, agent) = (Arc::clone(&self.sessions), AgentId::new(agent));
        async move {
            let list = action("s3:ListBuckets", &["s3:ListAllMyBuckets"], &["*"], json!({}));
            let (id, actions, account) = (format!("a_{id}"), [list], Some("123456789012"));
            let task = Task { agent: &agent, id: &id, actions: &actions, account };
            let (role, also) = ("arn:aws:iam::123456789012:role/agents".to_owned(), Vec::new());
            let assume = Assume { role, external_id: None, cut: Cut::Resources, also, cache };
            sessions.session(&assume, &task, Timestamp::from_micros(0)).await
        }
    }
}

type Answered = Result<Session, AssumeError>;

#[tokio::test]
async fn equal_requests_that_may_share_a_session_ask_for_it_once() {
    let cache = Some(Duration::from_secs(60));
    for (status, answer, is_given) in [("200 OK", GIVEN, true), ("403 Forbidden", REFUSED, false)] {
        let mut sts = Sts::start(status, answer).await;
        let mut waiting: JoinSet<Answered> = (0..50).map(|id| sts.ask("bot", id, cache)).collect();
        sts.requests.recv().await.unwrap();
        // Also when the one that asked leaves.
        waiting.spawn(sts.ask("bot", 50, cache));
        sts.answers.add_permits(1000);
        let answered = waiting.join_all().await;
        assert!(answered.iter().all(|it| it.is_ok() == is_given), "{answered:?}");
        assert!(sts.requests.try_recv().is_err());
        // What was given is kept, a refusal is not; another agent has its own.
        assert_eq!(sts.ask("bot", 51, cache).await.is_ok(), is_given);
        assert_eq!(sts.requests.try_recv().is_err(), is_given);
        assert_eq!(sts.ask("other", 52, cache).await.is_ok(), is_given);
        assert!(sts.requests.try_recv().unwrap().contains("RoleSessionName=other"));
        assert!(sts.sessions.asked.is_empty());
    }
}

#[tokio::test]
async fn an_agent_that_leaves_does_not_take_the_session_with_it() {
    let cache = Some(Duration::from_secs(60));
    let mut sts = Sts::start("200 OK", GIVEN).await;
    let first = tokio::spawn(sts.ask("bot", 0, cache));
    sts.requests.recv().await.unwrap();
    let second = tokio::spawn(sts.ask("bot", 1, cache));
    while sts.sessions.asked.iter().next().and_then(|it| it.upgrade()?.strong_count()).is_none_or(|it| it < 3) {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    sts.answers.add_permits(1);
    assert!(second.await.unwrap().is_ok());
    assert!(sts.requests.try_recv().is_err());
}

#[tokio::test]
async fn an_agent_with_many_requests_leaves_room_for_others() {
    let mut sts = Sts::start("200 OK", GIVEN).await;
    let mut waiting: JoinSet<Answered> = (0..200).map(|id| sts.ask("greedy", id, None)).collect();
    for _ in 0..turns::MOST_OF_ONE_AGENT {
        assert!(sts.requests.recv().await.unwrap().contains("RoleSessionName=greedy-a_"));
    }
    waiting.spawn(sts.ask("other", 0, None));
    assert!(sts.requests.recv().await.unwrap().contains("RoleSessionName=other-a_0"));
    assert!(sts.requests.try_recv().is_err());
    sts.answers.add_permits(1000);
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
}
