//! Agreement with the `aws-sigv4` crate, both ways.

use proptest::prelude::*;

use super::*;

/// One request per service family and shape: each must verify in header and query mode.
const REQUESTS: [(&str, &str, &str, &str); 12] = [
    ("iam", "POST", "/", "Action=CreateAccessKey&UserName=bob&Version=2010-05-08"),
    ("sts", "GET", "/?Action=GetCallerIdentity&Version=2011-06-15", ""),
    ("ec2", "POST", "/", "Action=DescribeInstances&Version=2016-11-15"),
    ("dynamodb", "POST", "/", "{\"TableName\":\"t\"}"),
    (
        "lambda",
        "POST",
        "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af/invocations",
        "{}",
    ),
    ("bedrock", "POST", "/model/anthropic.claude-v2%3A1/invoke", "{}"),
    ("execute-api", "GET", "/stage//a/b/?b=2&a=1&a=0&flag", ""),
    ("s3", "PUT", "/bucket/a%20b/%2F/c%2Bd//../e~f", "hello"),
    ("s3", "GET", "/?list-type=2&prefix=a%2Fb%20c&delimiter", ""),
    ("s3", "GET", "/bucket?policy", ""),
    ("s3express", "GET", "/key", ""),
    ("monitoring", "POST", "/service/GraniteServiceVersion20100801/operation/PutMetricData", "\u{1}"),
];

fn draft(method: &str, target: &str, body: &str) -> Draft {
    let mut draft = Draft::new(method, target, &[("host", "example.us-east-1.amazonaws.com:8080")], body.as_bytes());
    if method == "POST" {
        draft.set("content-type", "application/x-amz-json-1.0");
    }
    draft.set("x-amz-meta-note", "  two   spaces  ");
    draft.set("user-agent", "some agent");
    draft
}

#[test]
fn requests_of_the_foreign_signer_verify() {
    for (service, method, target, body) in REQUESTS {
        let signed = draft(method, target, body).signed(service);
        let claim = signed.judge().unwrap_or_else(|refusal| panic!("{service} {target}: {refusal:?}"));
        if service.starts_with("s3") {
            assert_eq!(claim, PayloadClaim::Stated(sha256(body.as_bytes())));
        } else {
            assert_eq!(claim, PayloadClaim::Body);
        }
        let presigned = draft(method, target, body).presigned(service);
        let claim = presigned.judge().unwrap_or_else(|refusal| panic!("{service} {target}: {refusal:?}"));
        let expected = if service.starts_with("s3") { PayloadClaim::Unsigned } else { PayloadClaim::Body };
        assert_eq!(claim, expected, "{service} {target}");
    }
}

#[test]
fn ours_equals_the_foreign_signature() {
    for (service, method, target, body) in REQUESTS {
        assert_same_signature(&draft(method, target, body), service);
    }
}

/// What we sign from the parsed head is, byte for byte, what the crate makes of the same request;
/// and our own verification accepts it.
fn assert_same_signature(received: &Draft, service: &str) {
    let head = received.head().unwrap();
    let target = Target::of(&head, service);
    let mut headers = head.headers.clone();
    let payload = Payload::Sha256(sha256(&received.body));
    let outgoing = Outgoing {
        method: &head.method,
        target: &target,
        headers: &mut headers,
        service,
        region: "us-east-1",
        payload,
    };
    outgoing.sign(&Arc::new(key()), now()).unwrap();
    let mut sent = received.clone();
    sent.target = target.path_and_query();
    sent.headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let mut unsigned = sent.clone();
    unsigned.headers.retain(|(name, _)| !["authorization", "x-amz-date", "x-amz-content-sha256"].contains(&&**name));
    let theirs = unsigned.signed(service);
    let authorization = |draft: &Draft| draft.clone().header_mut("authorization").clone();
    assert_eq!(authorization(&sent), authorization(&theirs), "{service} {}", sent.target);
    assert!(sent.judge().is_ok(), "{:?}", sent.judge());
    // What was verified and what is sent mean the same.
    let resent = sent.head().unwrap();
    let sorted = |head: &Head| {
        let mut query = head.query.clone();
        query.sort();
        query
    };
    assert_eq!(sorted(&resent), sorted(&head));
}

#[test]
fn what_cannot_be_sent_is_not_signed() {
    let target = Target::of(&draft("GET", "/", "").head().unwrap(), "s3");
    let sign = |headers: &mut HeaderMap, secret_id: &str| {
        let (method, payload) = (&Method::GET, Payload::Unsigned);
        let outgoing = Outgoing { method, target: &target, headers, service: "s3", region: "us-east-1", payload };
        outgoing.sign(&Arc::new(Key::new(secret_id, Secret::new(SECRET), None, None)), now()).map(drop)
    };
    let mut headers = HeaderMap::new();
    assert_eq!(sign(&mut headers, KEY_ID), Err(SignError::HostMissing));
    headers.insert("host", HeaderValue::from_static("a.b"));
    assert_eq!(sign(&mut headers, "A\nB"), Err(SignError::KeyMalformed));
    assert_eq!(sign(&mut headers, KEY_ID), Ok(()));
    headers.insert("x-amz-meta-a", HeaderValue::from_str("é").unwrap());
    assert_eq!(sign(&mut headers, KEY_ID), Err(SignError::FieldMalformed));
}

#[test]
fn a_presigned_url_is_sent_on_without_its_credential() {
    let mut received = Draft::new("PUT", "/b/k?x-amz-acl=private&versionId=1", &[("host", "a.b")], b"").presigned("s3");
    received.append_query(&[("x-amz-content-sha256".into(), "UNSIGNED-PAYLOAD".into())]);
    let head = received.head().unwrap();
    assert_eq!(Target::of(&head, "s3").path_and_query(), "/b/k?versionId=1");
    assert_eq!(Target::hoisted(&head, "s3").collect::<Vec<_>>(), [("x-amz-acl", "private")]);
    assert_eq!(Target::of(&head, "iam").path_and_query(), "/b/k?versionId=1&x-amz-acl=private");
}

fn any_path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/".to_owned()),
        Just("%2F".to_owned()),
        Just("%25".to_owned()),
        Just("%2f".to_owned()),
        Just("+".to_owned()),
        "[a-zA-Z0-9._~!$&'()*,;=:@-]{1,4}",
        any::<u8>().prop_filter("NUL is refused", |byte| *byte != 0).prop_map(|byte| format!("%{byte:02X}")),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn any_query() -> impl Strategy<Value = String> {
    let text = "[a-zA-Z0-9 /:=&?._~%é\u{4e2d}-]{0,6}";
    proptest::collection::vec((text, text), 0..5).prop_map(|fields| {
        let encode = |text: &str| super::super::canonical::query([(text, "")].into_iter()).replace('=', "");
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .filter(|field| !field.to_ascii_lowercase().starts_with("x-amz"))
            .collect();
        fields.join("&")
    })
}

proptest! {
    #[test]
    fn any_request_is_signed_and_verified_alike(
        service in prop::sample::select(vec!["s3", "iam", "execute-api"]),
        path in any_path(),
        query in any_query(),
        value in "[ -~]{0,20}",
        body: Vec<u8>,
    ) {
        // Outside S3 dot segments are refused before anything else.
        let has_dots = path.split('/').any(|segment| {
            matches!(segment.replace("%2E", ".").as_str(), "." | "..")
        });
        prop_assume!(service == "s3" || !has_dots);
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let mut draft = Draft::new("PUT", &target, &[("host", "a.b"), ("x-amz-meta-a", &value)], &body);
        draft.set("content-type", "text/plain");
        prop_assume!(draft.head().is_ok());
        assert_same_signature(&draft, service);
        let signed = draft.clone().signed(service);
        prop_assert!(signed.judge().is_ok(), "{:?} {:?}", signed, signed.judge());
        let presigned = draft.presigned(service);
        prop_assert!(presigned.judge().is_ok(), "{:?} {:?}", presigned, presigned.judge());
    }

    #[test]
    fn no_text_in_the_place_of_a_credential_panics(authorization in ".{0,200}", name in ".{0,30}", value in ".{0,60}") {
        let mut draft = Draft::new("GET", "/", &[("host", "a.b"), ("x-amz-date", NOW)], b"");
        draft.set("authorization", &format!("AWS4-HMAC-SHA256 {authorization}"));
        prop_assert!(draft.judge().is_err());
        let mut draft = Draft::new("GET", "/", &[("host", "a.b")], b"").presigned("s3");
        draft.append_query(&[(form_urlencoded::byte_serialize(name.as_bytes()).collect(), value)]);
        prop_assert!(draft.judge().is_err());
    }
}
