use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, future};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const IDENTITY: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account>\
    </GetCallerIdentityResult></GetCallerIdentityResponse>";
const REFUSAL: &str = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>\
    <Message>The security token included in the request is invalid.</Message></Error></ErrorResponse>";

fn start() -> Timestamp {
    Timestamp::parse_amz_date("20261120T112555Z").unwrap()
}

/// An STS that gives every request the same answer, and the requests it got.
async fn sts(status: &'static str, answer: &'static str) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 16384];
            let length = stream.read(&mut request).await.unwrap();
            request.truncate(length);
            sender.send(String::from_utf8(request).unwrap()).unwrap();
            let head = format!("HTTP/1.1 {status}\r\ncontent-type: text/xml\r\nconnection: close\r\n");
            let text = format!("{head}content-length: {}\r\n\r\n{answer}", answer.len());
            stream.write_all(text.as_bytes()).await.unwrap();
        }
    });
    (url, requests)
}

fn source(provider: impl ProvideCredentials + 'static, sts_endpoint: &str) -> RealSource {
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(provider))
        .build();
    RealSource::new(&config, Some(sts_endpoint.to_owned())).unwrap()
}

fn real_key() -> Credentials {
    Credentials::new("AKIAREALREALREALREAL", "real-secret", Some("real-token".into()), None, "test")
}

#[tokio::test]
async fn the_account_is_the_one_sts_names() {
    let (url, mut requests) = sts("200 OK", IDENTITY).await;
    let real = RealCredentials::start(source(real_key(), &url), Clock::manual(start())).await.unwrap();
    assert_eq!(real.account().as_deref(), Some("123456789012"));
    let key = real.current(start()).unwrap();
    assert_eq!((key.id.as_str(), key.secret.expose()), ("AKIAREALREALREALREAL", "real-secret"));
    assert_eq!(key.token.as_ref().map(Secret::expose), Some("real-token"));
    let request = requests.recv().await.unwrap();
    assert!(request.contains("Credential=AKIAREALREALREALREAL/") && request.contains("/us-east-1/sts/aws4_request"));
    let shown = format!("{real:?} {key:?}");
    assert!(!shown.contains("real-secret") && !shown.contains("real-token"), "{shown}");
}

#[tokio::test]
async fn a_credential_that_sts_refuses_is_an_error_at_start() {
    let (url, _requests) = sts("403 Forbidden", REFUSAL).await;
    let error = RealCredentials::start(source(real_key(), &url), Clock::manual(start())).await.unwrap_err();
    assert!(
        matches!(&error, RealError::Refused(why) if why.starts_with("InvalidClientTokenId: The security")),
        "{error}"
    );
}

#[tokio::test]
async fn without_sts_the_account_is_unknown_and_the_credential_still_serves() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let real = RealCredentials::start(source(real_key(), &url), Clock::manual(start())).await.unwrap();
    assert_eq!(real.account(), None);
    assert!(real.current(start()).is_ok());
}

#[tokio::test]
async fn a_virtual_key_in_its_place_is_a_loop() {
    for id in ["AKCSAAAAAAAAAAAAAAAA", "AKCTAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let source = source(Credentials::new(id, "x", None, None, "test"), "http://127.0.0.1:1");
        let error = RealCredentials::start(source, Clock::manual(start())).await.unwrap_err();
        assert!(matches!(error, RealError::Loop(found) if found == id));
    }
}

/// Gives a key that lives five minutes, each time another; after three it gives none.
#[derive(Debug, Default)]
struct ShortLived {
    given: Arc<AtomicU64>,
    asked: Arc<tokio::sync::Notify>,
}

impl ProvideCredentials for ShortLived {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let number = self.given.fetch_add(1, Ordering::SeqCst);
        self.asked.notify_one();
        let expiry = UNIX_EPOCH + Duration::from_secs(start().as_seconds().unsigned_abs() + 300);
        future::ProvideCredentials::ready(if number < 3 {
            Ok(Credentials::new(format!("ASIA{number}"), "x", None, Some(expiry), "test"))
        } else {
            Err(CredentialsError::not_loaded("the source is gone"))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_is_renewed_before_it_expires_and_unusable_after() {
    let provider = ShortLived::default();
    let asked = Arc::clone(&provider.asked);
    let source = source(provider, "http://127.0.0.1:1");
    let key = source.resolve().await.unwrap();
    assert_eq!((key.id.as_str(), key.expires), ("ASIA0", Some(start().plus(Duration::from_secs(300)))));
    asked.notified().await;
    let held = Arc::new(Held {
        key: ArcSwap::from_pointee(key),
        account: ArcSwapOption::from_pointee("123456789012".to_owned()),
    });
    let begun = tokio::time::Instant::now();
    let sessions = Sessions::new(source.sts.clone());
    let renewal = tokio::spawn(renew(Arc::clone(&held), source, Clock::manual(start()))).abort_handle();
    let real = RealCredentials { held, sessions, renewal };
    for id in ["ASIA1", "ASIA2", "ASIA2", "ASIA2"] {
        asked.notified().await;
        tokio::task::yield_now().await;
        assert_eq!(real.current(start()).unwrap().id, id);
    }
    assert!(begun.elapsed() <= Duration::from_secs(4 * 150), "half of a short life is not slept away");
    let expired = start().plus(Duration::from_secs(300));
    assert!(matches!(real.current(expired), Err(RealError::Expired)));
}

const SESSION: &str = "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIASESSION</AccessKeyId>\
    <SecretAccessKey>session-secret</SecretAccessKey><SessionToken>session-token</SessionToken>\
    <Expiration>2026-11-20T11:40:55Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";

/// What STS is asked for, and that an equal request of the same agent asks again only when it must.
#[tokio::test]
async fn a_session_is_asked_for_and_kept_as_long_as_a_rule_says() {
    let (url, mut requests) = sts("200 OK", SESSION).await;
    let sessions = Sessions::new(source(real_key(), &url).sts);
    let mut assume = Assume {
        role: "arn:aws:iam::123456789012:role/agents".to_owned(),
        external_id: Some("ours".to_owned()),
        cut: crate::rules::Cut::Resources,
        also: Vec::new(),
        cache: None,
    };
    let verbs = vec!["iam:CreateUser".into()];
    let resources = vec!["arn:aws:iam::123456789012:user/x".to_owned()];
    let action = crate::action::Action {
        name: "aws:iam:CreateUser".into(),
        access: crate::action::Access::Permissions,
        traits: crate::action::Traits::EMPTY,
        resources,
        region: None,
        account: None,
        parameters: serde_json::Map::new(),
        sensitive: Vec::new(),
        iam_actions: verbs,
        tags: Vec::new(),
        unknown: None,
    };
    let (bot, other) = (crate::id::AgentId::new("bot"), crate::id::AgentId::new("other"));
    let actions = [action];
    let task = |agent| Task { agent, id: "h_1", actions: &actions, account: Some("123456789012") };
    for _ in 0..2 {
        let session = sessions.session(&assume, &task(&bot), start()).await.unwrap();
        assert_eq!((session.key.id.as_str(), &*session.name), ("ASIASESSION", "bot-h_1"));
        assert_eq!(session.key.expires, Timestamp::parse_amz_date("20261120T114055Z"));
        let asked = requests.recv().await.unwrap();
        for part in ["RoleSessionName=bot-h_1", "SourceIdentity=bot", "ExternalId=ours", "DurationSeconds=900"] {
            assert!(asked.contains(part), "{part}: {asked}");
        }
        assert!(asked.contains("iam%3ACreateUser") && asked.contains("user%2Fx"), "{asked}");
        let shown = format!("{session:?} {sessions:?}");
        assert!(!shown.contains("session-secret") && !shown.contains("session-token"), "{shown}");
    }
    assume.cache = Some(Duration::from_secs(60));
    for (agent, at, is_asked) in [
        (&bot, start(), true),
        (&bot, start().plus(Duration::from_secs(59)), false),
        (&other, start(), true),
        (&bot, start().plus(Duration::from_secs(60)), true),
    ] {
        let session = sessions.session(&assume, &task(agent), at).await.unwrap();
        assert_eq!(&*session.name, agent.as_str());
        assert_eq!(requests.try_recv().is_ok(), is_asked, "{agent} {at:?}");
    }
    let elsewhere = Task { account: Some("999999999999"), ..task(&bot) };
    let refused = sessions.session(&assume, &elsewhere, start()).await;
    assert!(matches!(refused, Err(AssumeError::Account { .. })) && requests.try_recv().is_err());
}
