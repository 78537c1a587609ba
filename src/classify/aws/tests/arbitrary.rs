//! Arbitrary input to every parser on the way to a name: it never panics, gives one name or none, and gives the same
//! one each time. `make fuzz-naming` runs it for longer.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::catalog::aws::Table;
use crate::wire::aws::{Reading, cbor, form, json, multipart, xml};

fn facts() -> &'static Table {
    crate::catalog::aws::built_in()
}

/// One action, or a refusal; a name without doubt is one that the facts have.
fn check(request: &Request) -> Result<(), TestCaseError> {
    let Ok(head) = request.head() else { return Ok(()) };
    let named = |body| classify(&head, body, &front());
    let classified = named(Body::Whole(&request.body));
    prop_assert!(classified.actions.len() + usize::from(classified.refused.is_some()) == 1, "{classified:?}");
    if let [action] = &classified.actions[..] {
        prop_assert_eq!(action.unknown.is_some(), action.traits.contains(Trait::Unknown));
        if action.unknown.is_none() {
            prop_assert!(facts().operation_named(&action.name).is_some(), "{}", action.name);
        }
        let again = named(Body::Whole(&request.body));
        prop_assert_eq!(&action.name, &again.actions[0].name);
        prop_assert_eq!(&action.parameters, &again.actions[0].parameters);
    }
    // What streams is named from the head alone, and that is the name it has with its body.
    if body_need(&head, &front()) == BodyNeed::Data {
        let streamed = named(Body::Data);
        let name = |it: &Classified| it.actions.first().map(|it| it.name.clone());
        prop_assert_eq!(name(&streamed), name(&classified));
    }
    Ok(())
}

fn segment() -> impl Strategy<Value = String> {
    let words = [
        "functions",
        "2015-03-31",
        "v20180820",
        "jobs",
        "service",
        "operation",
        "GraniteServiceVersion20100801",
        "PutMetricData",
        "portals",
        "trustStores",
        "arn%3Aaws%3As3",
        "%2e%2e",
        "..",
        ".",
        "",
        "b-1",
        "%2F",
        "k",
        "clusters",
        "v2",
        "email",
        "%C3%BC",
    ];
    prop_oneof![4 => select(words.to_vec()).prop_map(str::to_owned), 1 => "[a-zA-Z0-9%._~:@-]{0,8}"]
}

fn host() -> impl Strategy<Value = String> {
    let labels = [
        "s3",
        "iam",
        "b-1",
        "us-west-2",
        "dualstack",
        "s3-accesspoint",
        "ap-123456789012",
        "s3-outposts",
        "op-1",
        "amazonaws",
        "com",
        "cn",
        "api",
        "aws",
        "lambda",
        "email",
        "s3express-control",
        "s3-global",
        "accesspoint",
        "mrap",
        "monitoring",
        "127",
        "0",
        "1",
        "localhost",
        "proxy",
        "corp",
        "eusc-de-east-1",
        "amazonaws.com",
        "amazonaws.eu",
        "on.aws",
    ];
    proptest::collection::vec(
        prop_oneof![9 => select(labels.to_vec()).prop_map(str::to_owned), 1 => "[a-z0-9-]{1,6}"],
        1..7,
    )
    .prop_map(|labels| labels.join("."))
}

fn query() -> impl Strategy<Value = String> {
    let fields = [
        "acl",
        "policy=",
        "list-type=2",
        "uploads",
        "uploadId=u",
        "partNumber=1",
        "versionId=v",
        "x-id=GetObject",
        "Action=ListUsers",
        "Version=2010-05-08",
        "AWSAccessKeyId=AK",
        "X-Amz-SignedHeaders=host",
        "X-Amz-Credential=AK/1/us-west-2/s3/aws4_request",
        "tagging",
        "max-keys=1",
        "prefix=%2F",
        "Action=DeleteUser",
        "delete",
        "annotation=x",
    ];
    let field = prop_oneof![6 => select(fields.to_vec()).prop_map(str::to_owned), 1 => "[a-zA-Z%=-]{0,6}"];
    proptest::collection::vec(field, 0..5).prop_map(|fields| fields.join("&"))
}

fn header() -> impl Strategy<Value = (String, String)> {
    let fields = [
        ("x-amz-target", "DynamoDB_20120810.GetItem"),
        ("x-amz-target", "CloudTrail_20131101.StopLogging"),
        ("smithy-protocol", "rpc-v2-cbor"),
        ("smithy-protocol", "rpc-v2-json"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "application/x-amz-json-1.0"),
        ("content-type", "application/cbor"),
        ("content-type", "multipart/form-data; boundary=b"),
        ("content-encoding", "gzip"),
        ("x-amz-copy-source", "/other/k"),
        ("x-amz-account-id", OWN),
        ("x-amz-acl", "private"),
        ("x-amz-user-agent", "x"),
    ];
    prop_oneof![
        9 => select(fields.to_vec()).prop_map(|(name, value)| (name.to_owned(), value.to_owned())),
        1 => ("x-amz-[a-z]{1,6}", "[ -~]{0,9}"),
    ]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let texts = [
        "",
        "{}",
        "Action=ListUsers&Version=2010-05-08",
        r#"{"TableName":"t","Key":{"k":{"S":"1"}}}"#,
        "<Delete><Object><Key>k</Key></Object></Delete>",
        "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n--b--\r\n",
    ];
    prop_oneof![4 => select(texts.to_vec()).prop_map(|text| text.as_bytes().to_vec()), 2 => proptest::collection::vec(any::<u8>(), 0..60)]
}

/// What JSON-like trees the parsers of bodies are fed with.
fn tree(open: &'static str, close: &'static str) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(open.to_owned()),
        Just(close.to_owned()),
        "\"[a-zA-Z]{0,4}\":?",
        Just(",".to_owned()),
        "[0-9.eE-]{1,4}",
        Just("\"TableName\":".to_owned()),
        Just("\"Key\":".to_owned()),
        Just("null".to_owned()),
        Just("\\u0041".to_owned()),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn shape_of(service: &str, operation: &str) -> (&'static crate::catalog::aws::Service, usize) {
    let number = facts().services().iter().position(|it| it.id == service).unwrap();
    let service = facts().service(number.try_into().unwrap()).unwrap();
    (service, service.operation(operation).unwrap().row.input.unwrap())
}

proptest! {
    #[test]
    fn arbitrary_requests_have_one_name_or_none(
        method in select(vec!["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
        host in host(),
        path in proptest::collection::vec(segment(), 0..6),
        query in query(),
        scope in select(vec!["", "us-west-2/s3", "us-east-1/iam", "us-west-2/lambda", "us-west-2/monitoring", "us-west-2/s3express", "us-west-2/ses"]),
        headers in proptest::collection::vec(header(), 0..3),
        body in body(),
    ) {
        let url = format!("https://{host}/{}?{query}", path.join("/"));
        let mut request = Request { method, url, body, ..request("GET https://x/", scope) };
        request.headers.extend(headers);
        check(&request)?;
    }

    #[test]
    fn arbitrary_json_is_read_or_refused(text in tree("{", "}")) {
        let (service, shape) = shape_of("dynamodb", "GetItem");
        let mut reading = Reading::default();
        if json::read(service, shape, text.as_bytes(), &mut reading).is_ok() && reading.doubt.is_none() {
            // What is read without doubt is what any JSON parser reads.
            let parsed: Value = serde_json::from_str(&text).unwrap();
            for (name, value) in &reading.parameters {
                prop_assert_eq!(parsed.get(name), Some(value));
            }
        }
    }

    #[test]
    fn arbitrary_cbor_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let (service, shape) = shape_of("cloudwatch", "PutMetricData");
        if let Ok(value) = cbor::parse(&bytes) {
            drop(json::read_members(service, shape, value, &mut Reading::default()));
        }
    }

    #[test]
    fn arbitrary_forms_are_read_or_refused(bytes in "([A-Za-z]{0,3}|Filter|InstanceId)(\\.[0-9A-Za-z]{0,5}){0,3}=?[a-z%+0-9]{0,4}(&([A-Za-z]{0,3}|Filter)(\\.[0-9]{1,9}){0,2}=x){0,4}") {
        let (service, shape) = shape_of("ec2", "DescribeInstances");
        if let Ok(fields) = form::parse(bytes.as_bytes()) {
            let pairs = fields.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
            form::read(service, shape, form::Flavour::Ec2, pairs, &mut Reading::default());
        }
    }

    #[test]
    fn arbitrary_xml_is_read_or_refused(pieces in proptest::collection::vec(select(vec!["<Delete>", "</Delete>", "<Object>", "</Object>", "<Key>", "</Key>", "k", "&amp;", "<![CDATA[x]]>", "<!--", "-->", "<?xml version=\"1.0\"?>", "<Quiet/>", " xmlns=\"x\"", "<"]), 0..16)) {
        let (service, shape) = shape_of("s3", "DeleteObjects");
        if let Ok(root) = xml::parse(pieces.concat().as_bytes()) {
            xml::read_members(service, service.shape(shape).members(), root, &mut Reading::default());
        }
    }

    #[test]
    fn arbitrary_multipart_is_read_or_refused(pieces in proptest::collection::vec(select(vec!["--b\r\n", "\r\n--b\r\n", "--b--", "\r\n\r\n", "Content-Disposition: form-data", "; name=\"key\"", "; name=\"file\"", "; filename=\"f\"", "\r\n", "x", "\"", ";"]), 0..16)) {
        drop(multipart::parse("multipart/form-data; boundary=b", pieces.concat().as_bytes()));
    }
}
