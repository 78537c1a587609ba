use serde_json::{Value, json};

use super::*;
use crate::digest::canonical_json;
use crate::secret::Secret;

fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> Head {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers.entry("host").or_insert(HeaderValue::from_static("127.0.0.1:8000"));
    Head::parse(method.parse().unwrap(), &target.parse().unwrap(), headers).unwrap()
}

fn route(service: &str, host: &str) -> Route {
    Route { signing_name: service.to_owned().into(), signing_region: "us-east-1".into(), host: host.into() }
}

fn call(head: &Head) -> Call {
    Call::new(head.clone(), route("s3", "s3.us-east-1.amazonaws.com"), &Endpoints::default()).unwrap()
}

fn body(text: &str) -> BodyIdentity {
    BodyIdentity { size: Some(text.len() as u64), sha256: Some(sha256(text.as_bytes())) }
}

fn digest(fields: &[(&str, &str)]) -> Digest {
    call(&head("PUT", "/b/k?acl", fields)).digest(body("x"), Some("1"))
}

fn local() -> Endpoints {
    Endpoints { all: Endpoints::parse("http://127.0.0.1:5000"), services: HashMap::new() }
}

const KEY_ID: &str = "AKIAREAL";

fn signed(head: &Head, route: &Route, endpoints: &Endpoints) -> http::Request<()> {
    let key = Key::new(KEY_ID, Secret::new("real secret"), Some(Secret::new("real token")), None);
    let now = Timestamp::parse_amz_date("20261120T112555Z").unwrap();
    Call::new(head.clone(), route.clone(), endpoints).unwrap().sign(Payload::Unsigned, &Arc::new(key), now).unwrap().0
}

#[test]
fn the_digest_is_that_of_the_canonical_json() {
    let fields = [("x-amz-meta-b", "a\"\\b"), ("content-type", "text/plain")];
    let expected = json!({
        "plane": "aws",
        "method": "PUT",
        "target": "/b/k?acl=",
        "tls": "yes",
        "service": "s3",
        "region": "us-east-1",
        "account": "1",
        "headers": [["content-type", "text/plain"], ["host", "s3.us-east-1.amazonaws.com"], ["x-amz-meta-b", fields[0].1]],
        "body_size": "1",
        "body_sha256": sha256(b"x").hex(),
    });
    assert_eq!(digest(&fields), sha256(canonical_json(&expected).as_bytes()), "{}", canonical_json(&expected));
    let streaming = call(&head("PUT", "/b/k?acl", &fields)).digest(BodyIdentity::default(), None);
    let mut expected = expected;
    for name in ["account", "body_size", "body_sha256"] {
        expected[name] = Value::Null;
    }
    assert_eq!(streaming, sha256(canonical_json(&expected).as_bytes()));
}

#[test]
fn a_retry_has_the_digest_of_its_first_attempt() {
    let first = digest(&[
        ("x-amz-date", "20261120T112555Z"),
        ("authorization", "AWS4-HMAC-SHA256 a"),
        ("amz-sdk-invocation-id", "one"),
        ("amz-sdk-request", "attempt=1"),
        ("user-agent", "Boto3/1 a"),
        ("x-amz-meta-a", "1"),
    ]);
    let retry = digest(&[
        ("x-amz-meta-a", "1"),
        ("x-amz-date", "20261120T112655Z"),
        ("authorization", "AWS4-HMAC-SHA256 b"),
        ("amz-sdk-invocation-id", "one"),
        ("amz-sdk-request", "ttl=20261120T112755Z; attempt=2; max=3"),
        ("user-agent", "Boto3/1 b"),
        ("x-amzn-trace-id", "Root=1"),
        ("x-countersign-task", "other"),
        ("baggage", "countersign.task=other"),
        ("expect", "100-continue"),
        ("connection", "close"),
    ]);
    assert_eq!(first, retry);
}

#[test]
fn any_change_of_meaning_gives_another_digest() {
    let base = digest(&[]);
    for field in
        ["content-type", "content-encoding", "content-md5", "range", "if-none-match", "cache-control", "accept"]
    {
        assert_ne!(digest(&[(field, "x")]), base, "{field}");
    }
    for field in ["x-amz-acl", "x-amz-copy-source", "x-amz-meta-a", "x-amz-decoded-content-length", "allow-revert"] {
        assert_ne!(digest(&[(field, "x")]), base, "{field}");
    }
    let of = |method: &str, target: &str, service: &str, endpoints: &Endpoints, text: &str, account: &str| {
        let route = route(service, "s3.us-east-1.amazonaws.com");
        Call::new(head(method, target, &[]), route.clone(), endpoints).unwrap().digest(body(text), Some(account))
    };
    let aws = Endpoints::default();
    assert_eq!(of("PUT", "/b/k?acl", "s3", &aws, "x", "1"), base);
    for other in [
        of("POST", "/b/k?acl", "s3", &aws, "x", "1"),
        of("PUT", "/b/K?acl", "s3", &aws, "x", "1"),
        of("PUT", "/b/k", "s3", &aws, "x", "1"),
        of("PUT", "/b/k?acl=1", "s3", &aws, "x", "1"),
        of("PUT", "/b/k?acl", "s3express", &aws, "x", "1"),
        of("PUT", "/b/k?acl", "s3", &local(), "x", "1"),
        of("PUT", "/b/k?acl", "s3", &aws, "y", "1"),
        of("PUT", "/b/k?acl", "s3", &aws, "x", "2"),
    ] {
        assert_ne!(other, base);
    }
}

#[test]
fn fields_cannot_be_moved_into_one_another() {
    assert_ne!(
        digest(&[("x-amz-meta-a", "1\"],[\"x-amz-meta-b\",\"2")]),
        digest(&[("x-amz-meta-a", "1"), ("x-amz-meta-b", "2")])
    );
}

#[test]
fn the_upstream_gets_the_real_credential_and_nothing_of_the_agents_connection() {
    let fields = [
        ("authorization", "AWS4-HMAC-SHA256 Credential=AKIAVIRTUAL/x"),
        ("x-amz-date", "20200101T000000Z"),
        ("x-amz-security-token", "virtual"),
        ("x-amz-content-sha256", "0"),
        ("amz-sdk-invocation-id", "1"),
        ("x-countersign-task", "t"),
        ("x-forwarded-for", "1.2.3.4"),
        ("baggage", "b=1"),
        ("traceparent", "00-1-1-1"),
        ("connection", "keep-alive"),
        ("expect", "100-continue"),
        ("cookie", "c"),
        ("user-agent", "Boto3/1"),
        ("x-amz-acl", "private"),
    ];
    let request =
        signed(&head("GET", "/b/k", &fields), &route("s3", "s3.us-east-1.amazonaws.com"), &Endpoints::default());
    let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "authorization",
            "host",
            "user-agent",
            "x-amz-acl",
            "x-amz-content-sha256",
            "x-amz-date",
            "x-amz-security-token"
        ]
    );
    assert_eq!(request.headers()["host"], "s3.us-east-1.amazonaws.com");
    assert_eq!(request.headers()["x-amz-date"], "20261120T112555Z");
    assert_eq!(request.headers()["x-amz-security-token"], "real token");
    assert!(request.headers()["authorization"].to_str().unwrap().contains(KEY_ID));
}

#[test]
fn a_bucket_in_the_host_survives_an_endpoint_of_our_own() {
    let head = head("GET", "/k", &[]);
    for (host, path) in [
        ("s3.us-east-1.amazonaws.com", "/k"),
        ("b.s3.us-east-1.amazonaws.com", "/b/k"),
        ("b.dotted.s3.amazonaws.com", "/b.dotted/k"),
        ("b.s3-us-west-2.amazonaws.com", "/b/k"),
    ] {
        let request = signed(&head, &route("s3", host), &local());
        assert_eq!(
            (request.uri().path(), &request.headers()["host"]),
            (path, &HeaderValue::from_static("127.0.0.1:5000"))
        );
        assert_eq!(signed(&head, &route("s3", host), &Endpoints::default()).uri().path(), "/k");
    }
}

#[test]
fn a_presigned_field_that_also_is_a_header_is_refused() {
    let presigned = "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a&X-Amz-Signature=s&x-amz-acl=public-read";
    let route = route("s3", "s3.us-east-1.amazonaws.com");
    let request = signed(&head("PUT", presigned, &[]), &route, &Endpoints::default());
    assert_eq!(request.uri().query(), None);
    assert_eq!(request.headers()["x-amz-acl"], "public-read");
    let doubled = head("PUT", presigned, &[("x-amz-acl", "private")]);
    assert!(Call::new(doubled, route, &Endpoints::default()).is_err());
}

#[test]
fn people_see_the_request_without_its_secrets() {
    let head = head(
        "GET",
        "/?Action=CreateLoginProfile&Password=hunter2&UserName=ann",
        &[("x-amz-server-side-encryption-customer-key", "hunter2"), ("x-amz-acl", "private")],
    );
    let call = Call::new(head, route("iam", "iam.amazonaws.com"), &Endpoints::default()).unwrap();
    let shown = call.shown(body("x"), &[]);
    assert_eq!(shown.url, "iam.amazonaws.com/?Action=CreateLoginProfile&Password=[redacted]&UserName=ann");
    assert_eq!(shown.headers["x-amz-acl"], "private");
    assert!(!format!("{shown:?}").contains("hunter2"));
}

#[test]
fn endpoints_are_origins_only() {
    let parse = |url| Endpoints::parse(url).map(|endpoint| (authority(&endpoint), endpoint.tls));
    assert_eq!(parse("http://127.0.0.1:5000"), Some(("127.0.0.1:5000".into(), false)));
    assert_eq!(parse("https://AWS.example/"), Some(("aws.example".into(), true)));
    assert_eq!(parse("http://[::1]:5000"), Some(("[::1]:5000".into(), false)));
    for bad in ["", "moto", "ftp://x", "http://u@x", "http://x/path", "http://x/?q", "http://"] {
        assert_eq!(parse(bad), None, "{bad}");
    }
}
