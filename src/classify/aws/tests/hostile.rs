//! Requests made to be taken for something else: each is refused or unknown, none is named.

use proptest::prelude::*;

use super::*;

fn refused(request: Request) {
    let outcome = request.outcome();
    assert!(outcome.starts_with("refused: "), "{outcome}\n{request:?}");
}

fn unknown(request: Request) {
    let outcome = request.outcome();
    assert!(outcome.starts_with("unknown "), "{outcome}\n{request:?}");
}

fn iam(line: &'static str) -> Request {
    request(line, "us-east-1/iam")
}

fn s3(line: &'static str) -> Request {
    request(line, "us-west-2/s3")
}

fn dynamodb(line: &'static str) -> Request {
    request(line, "us-west-2/dynamodb")
}

const POST: &str = "POST http://127.0.0.1:8080/";
const LIST: &str = "Action=ListUsers&Version=2010-05-08";
const GET_ITEM: &str = "DynamoDB_20120810.GetItem";

#[test]
fn two_selectors_are_refused() {
    refused(iam(POST).form("Action=ListUsers&Action=CreateAccessKey&Version=2010-05-08"));
    refused(iam(POST).form("Action=ListUsers&Version=2010-05-08&Version=2010-05-08"));
    refused(iam("POST http://127.0.0.1/?Action=CreateAccessKey&Version=2010-05-08").form(LIST));
    refused(iam("POST http://127.0.0.1/?UserName=root").form("Action=DeleteUser&Version=2010-05-08&UserName=bob"));
    refused(iam(POST).form(LIST).header("x-amz-target", GET_ITEM));
    refused(dynamodb(POST).target(GET_ITEM, "{}").header("smithy-protocol", "rpc-v2-cbor"));
    refused(dynamodb("POST http://127.0.0.1/?Action=x").target(GET_ITEM, "{}"));
    refused(dynamodb(POST).form("{}").header("x-amz-target", GET_ITEM));
    refused(dynamodb(POST).target("DynamoDB_20120810.GetItem,DynamoDB_20120810.DeleteTable", "{}"));
    refused(dynamodb(POST).target(GET_ITEM, "{}").header("x-amz-target", "DynamoDB_20120810.DeleteTable"));
    refused(dynamodb(POST).target("TrentService.Decrypt", "{}"));
    refused(s3("GET http://127.0.0.1/b-1?policy&acl"));
    refused(s3("DELETE http://127.0.0.1/b-1?policy&lifecycle"));
    refused(s3("GET http://127.0.0.1/b-1?list-type=2&list-type=1"));
    refused(s3("GET http://127.0.0.1/b-1/k?versionId=1&versionId=2"));
    refused(s3("GET http://127.0.0.1/b-1/k").header("x-amz-target", GET_ITEM));
}

#[test]
fn host_and_scope_that_disagree_are_refused() {
    refused(request("POST https://iam.amazonaws.com/", "us-east-1/sts").form(LIST));
    refused(
        request("POST https://kms.us-east-1.amazonaws.com/", "us-west-2/kms").target("TrentService.ListKeys", "{}"),
    );
    refused(request("GET https://b-1.s3.us-east-1.amazonaws.com/k", "us-west-2/s3"));
    refused(request("GET https://s3.us-east-1.amazonaws.com/k", "us-east-1/iam"));
    refused(request("POST https://iam.amazonaws.com/", "cn-north-1/iam").form(LIST));
    refused(
        request("GET https://210987654321.s3-control.us-west-2.amazonaws.com/v20180820/jobs", "us-west-2/s3")
            .header("x-amz-account-id", OWN),
    );
    refused(request("POST http://other.proxy.corp/", "us-east-1/iam").form(LIST));
    refused(iam(
        "GET http://127.0.0.1/?Action=ListUsers&Version=2010-05-08&X-Amz-Credential=AK/20261120/us-east-1/iam/aws4_request",
    ));
    refused(request(POST, "").form(LIST).header("authorization", "Basic YTpi"));
}

#[test]
fn places_that_are_not_known_are_unknown() {
    unknown(request("GET http://elsewhere.example/b-1/k", "us-west-2/s3"));
    unknown(request("GET https://b-1.s3.us-west-2.amazonaws.com.evil.example/k", "us-west-2/s3"));
    unknown(request("GET https://evils3.us-west-2.amazonaws.com/k", "us-west-2/s3"));
    unknown(request("POST https://xiam.amazonaws.com/", "us-east-1/iam").form(LIST));
    unknown(request("POST https://amazonaws.com/", "us-east-1/iam").form(LIST));
    unknown(request(POST, "us-east-1/nosuchservice").form(LIST));
    unknown(request(POST, "evil-example/iam").form(LIST));
    refused(request(POST, "evil.example/iam").form(LIST));
    refused(request(POST, "us-east-1.evil/iam").form(LIST));
    unknown(request("GET https://api.execute-api.us-west-2.amazonaws.com/prod/pay", "us-west-2/execute-api"));
    unknown(request("GET http://evil-proxy.corp/k", "us-west-2/s3"));
    unknown(request("GET http://127.0.0.1/b-1/k", ""));
}

#[test]
fn operations_younger_than_the_table_are_unknown() {
    // The two that a table six months old misread.
    unknown(s3("DELETE http://127.0.0.1/b-1/k?annotationX"));
    unknown(s3("PUT http://127.0.0.1/b-1?metadataFutureTable"));
    unknown(s3("GET http://127.0.0.1/b-1/k?Policy"));
    unknown(s3("GET http://127.0.0.1/b-1/k?x-id=DeleteObject"));
    unknown(s3("PUT http://127.0.0.1/b-1/k?partNumber=1"));
    unknown(s3("PUT http://127.0.0.1/b-1/k").header("x-amz-future-mode", "delete"));
    unknown(iam(POST).form("Action=FutureOperation&Version=2010-05-08"));
    unknown(iam(POST).form("Action=listusers&Version=2010-05-08"));
    unknown(iam(POST).form("Action=ListUsers&Version=2026-01-01"));
    unknown(iam(POST).form("Action=ListUsers"));
    unknown(iam(POST).form("Version=2010-05-08"));
    unknown(iam(POST).form(""));
    unknown(dynamodb(POST).target("DynamoDB_20120810.FutureItem", "{}"));
    unknown(dynamodb(POST).target("DynamoDB_20300101.GetItem", "{}"));
    unknown(dynamodb(POST).target("DynamoDB_20120810.getitem", "{}"));
    unknown(dynamodb(POST).body("{}"));
    unknown(request("GET http://127.0.0.1/2015-03-31/functions/f?Future=1", "us-west-2/lambda"));
    unknown(request("PATCH http://127.0.0.1/2015-03-31/functions/f", "us-west-2/lambda"));
    unknown(request("GET http://127.0.0.1/2030-03-31/functions", "us-west-2/lambda"));
    unknown(s3("OPTIONS http://127.0.0.1/b-1/k"));
    unknown(s3("POST http://127.0.0.1/b-1").header("content-type", "multipart/form-data; boundary=x"));
}

#[test]
fn encoding_tricks_are_refused() {
    refused(iam(POST).form("Action=ListUsers&Version=2010-05-08&UserName=%zz"));
    refused(iam(POST).form("Action=ListUsers&Version=2010-05-08&UserName=%ff"));
    let mut raw = iam(POST).form("");
    raw.body = b"Action=ListUsers&Version=2010-05-08&PathPrefix=\xff".to_vec();
    refused(raw);
    refused(iam(POST).body(LIST).header("content-type", "application/x-www-form-urlencoded; charset=utf-16"));
    refused(iam(POST).form(LIST).header("content-encoding", "gzip"));
    refused(dynamodb(POST).target(GET_ITEM, "{}").header("content-encoding", "gzip"));
    refused(
        dynamodb(POST)
            .body("{}")
            .header("x-amz-target", GET_ITEM)
            .header("content-type", "application/x-amz-json-1.0; charset=utf-7"),
    );
    refused(dynamodb(POST).target(GET_ITEM, r#"{"TableName":"a","TableName":"b"}"#));
    refused(dynamodb(POST).target(GET_ITEM, r#"{"TableName":"a","\u0054ableName":"b"}"#));
    refused(dynamodb(POST).target(GET_ITEM, r#"{"TableName":"a","Key":{"k":{"S":"1"},"k":{"S":"2"}}}"#));
    let mut raw = dynamodb(POST).target(GET_ITEM, "");
    raw.body = b"{\"TableName\":\"\xff\"}".to_vec();
    refused(raw);
    refused(s3("POST http://127.0.0.1/b-1?delete").body("<!DOCTYPE d [<!ENTITY a \"b\">]><Delete/>"));
    refused(s3("POST http://127.0.0.1/b-1?delete").body("<?xml version=\"1.0\" encoding=\"UTF-16\"?><Delete/>"));
    refused(s3("GET http://127.0.0.1/../k"));
    refused(s3("GET http://127.0.0.1/%2e%2e/k"));
    refused(request("GET http://127.0.0.1/2015-03-31/functions/../event-source-mappings", "us-west-2/lambda"));
    refused(request("GET http://127.0.0.1/2015-03-31/functions/%2E%2e/x", "us-west-2/lambda"));
    refused(request("GET http://127.0.0.1/2015-03-31//functions", "us-west-2/lambda"));
    refused(iam("POST http://127.0.0.1/other").form(LIST));
    refused(dynamodb("POST http://127.0.0.1/other").target(GET_ITEM, "{}"));
    refused(dynamodb("GET http://127.0.0.1/").target(GET_ITEM, "{}"));
    refused(iam("GET http://127.0.0.1/?Action=ListUsers&Version=2010-05-08").body("UserName=x"));
    refused(iam("PUT http://127.0.0.1/?Action=ListUsers&Version=2010-05-08").body("x"));
    refused(iam("GET http://127.0.0.1/?Action=ListUsers&Version=2010-05-08&PathPrefix=a+b"));
    refused(iam(POST).form(LIST).header("x-http-method-override", "DELETE"));
    refused(iam(POST).form(LIST).header("x_amz_target", GET_ITEM));
    let path = |path: &str| format!("http://127.0.0.1/123456789012/{path}");
    let queue = |url: String, form: &str| Request { url, ..request(POST, "us-west-2/sqs").form(form) };
    refused(queue(path("a"), "Action=DeleteQueue&Version=2012-11-05&QueueUrl=http%3A%2F%2Fx%2F123456789012%2Fb"));
    refused(queue(path("a/b"), "Action=DeleteQueue&Version=2012-11-05"));
}

#[test]
fn parameters_that_rules_would_not_see_are_unknown() {
    unknown(iam(POST).form("Action=DeleteUser&Version=2010-05-08&username=root"));
    unknown(iam(POST).form("Action=DeleteUser&Version=2010-05-08&UserName=a&UserName.1=b"));
    unknown(iam(POST).form("Action=ListUsers&Version=2010-05-08&MaxItems=1e3"));
    unknown(iam(POST).form("Action=ListUsers&Version=2010-05-08&MaxItems=%2B1"));
    unknown(request(POST, "us-west-2/ec2").form("Action=TerminateInstances&Version=2016-11-15&InstanceIds.1=i-1"));
    unknown(request(POST, "us-west-2/ec2").form("Action=TerminateInstances&Version=2016-11-15&InstanceId.01=i-1"));
    unknown(request(POST, "us-west-2/ec2").form("Action=TerminateInstances&Version=2016-11-15&InstanceId=i-1"));
    unknown(
        request(POST, "us-west-2/ec2")
            .form("Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1&DryRun=TRUE"),
    );
    unknown(dynamodb(POST).target(GET_ITEM, r#"{"tableName":"a","Key":{}}"#));
    unknown(dynamodb(POST).target(GET_ITEM, r#"{"TableName":["a"],"Key":{}}"#));
    unknown(dynamodb(POST).target(GET_ITEM, r#"{"TableName":"a","Key":{}} trailing"#));
    unknown(dynamodb(POST).target(GET_ITEM, "[]"));
    unknown(dynamodb(POST).target(GET_ITEM, "\u{feff}{}"));
    unknown(dynamodb(POST).target(GET_ITEM, &format!("{}1{}", "[".repeat(5000), "]".repeat(5000))));
    unknown(
        dynamodb(POST).body("{}").header("x-amz-target", GET_ITEM).header("content-type", "application/x-amz-cbor-1.1"),
    );
    unknown(dynamodb(POST).body("{}").header("x-amz-target", GET_ITEM));
    unknown(s3("POST http://127.0.0.1/b-1?delete").body("<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>"));
    unknown(s3("POST http://127.0.0.1/b-1?delete").body("<Delete><Object><Key>a<!-- -->b</Key></Object></Delete>"));
    unknown(s3("POST http://127.0.0.1/b-1?delete").body("<Delete><Object><Key>a</Key></Object><Future/></Delete>"));
    unknown(s3("POST http://127.0.0.1/b-1?delete").body("<Other><Object><Key>a</Key></Object></Other>"));
    unknown(s3("POST http://127.0.0.1/b-1?delete").body("<Delete><Object><Key>&x;</Key></Object></Delete>"));
    unknown(s3("POST http://127.0.0.1/b-1?delete").body("<Delete/><Delete/>"));
    unknown(s3("GET http://127.0.0.1/b-1/k").body("x"));
    unknown(s3("GET http://127.0.0.1/b-1/k").header("if-match", "a").header("if-match", "b"));
    unknown(s3("PUT http://127.0.0.1/b-1/k").header("x-amz-copy-source", ""));
    unknown(s3("PUT http://127.0.0.1/b-1/k?partNumber=1&uploadId="));
    unknown(
        request("POST http://127.0.0.1/2015-03-31/functions", "us-west-2/lambda")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(r#"{"FunctionName":"f"}"#),
    );
}

#[test]
fn a_gzip_body_is_looked_into_where_the_service_takes_one() {
    use std::io::Write as _;
    let packed = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let put = |body: Vec<u8>| {
        let target = "GraniteServiceVersion20100801.PutMetricData";
        Request { body, ..request(POST, "us-west-2/monitoring").target(target, "").header("content-encoding", "gzip") }
    };
    assert_eq!(put(packed(br#"{"Namespace":"n"}"#)).action().parameters["Namespace"], "n");
    refused(put(packed(br#"{"Namespace":"n","Namespace":"m"}"#)));
    refused(put(b"{}".to_vec()));
    let mut twice = packed(b"{}");
    twice.extend(packed(b"{}"));
    refused(put(twice));
    unknown(put(packed(&vec![b' '; 9 * 1024 * 1024])));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bodies_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..6usize) {
        let request = [
            iam(POST).form(""),
            dynamodb(POST).target(GET_ITEM, ""),
            s3("POST http://127.0.0.1/b-1?delete"),
            request(POST, "us-west-2/ec2").form(""),
            request("POST http://127.0.0.1/2015-03-31/functions", "us-west-2/lambda"),
            request("POST http://127.0.0.1/service/GraniteServiceVersion20100801/operation/PutMetricData", "us-west-2/monitoring")
                .header("smithy-protocol", "rpc-v2-cbor").header("content-type", "application/cbor"),
        ][kind].clone();
        Request { body, ..request }.outcome();
    }

    #[test]
    fn plausible_forms_never_panic(fields in proptest::collection::vec("(Action|Version|Filter|InstanceId|[a-z]{1,3})(\\.(1|2|member|entry|key|Value|0|99999999999)){0,5}=(RunInstances|2016-11-15|[ -~]{0,5})", 0..12)) {
        let form = format!("Action=RunInstances&Version=2016-11-15&{}", fields.join("&").replace('%', "%25"));
        request(POST, "us-west-2/ec2").form(&form).outcome();
    }

    #[test]
    fn arbitrary_targets_never_panic(path in "/[!-~]{0,40}", host in "[a-z0-9.-]{1,40}(\\.amazonaws\\.com|\\.on\\.aws|)", service in "[a-z0-9-]{1,12}|s3|lambda|iam", region in "[a-z]{2}-[a-z]{4}-[0-9]|[ -~]{0,9}") {
        prop_assume!(!path.contains(['#', '?']) && !region.contains(','));
        let request = Request { url: format!("https://{host}{path}"), ..request("GET https://x/", &format!("{region}/{service}")) };
        if let Ok(head) = request.head() {
            classify(&head, Body::Whole(&[]), &front());
            body_need(&head, &front());
        }
    }
}

/// JSON is read along the model, so that each kind of place has its own reader.
#[test]
fn a_member_that_stands_twice_is_refused_wherever_it_stands() {
    let outcome = |body: &str| {
        request("POST http://127.0.0.1/", "us-west-2/dynamodb").target("DynamoDB_20120810.PutItem", body).outcome()
    };
    assert_eq!(
        outcome(r#"{"TableName":"t","Item":{"a":{"S":"1"},"b":{"M":{"c":{"N":"2"}}}}}"#),
        "aws:dynamodb:PutItem"
    );
    for body in [
        // A modelled member; null is absent, but it stands there.
        r#"{"TableName":"t","TableName":"u"}"#,
        r#"{"TableName":null,"TableName":"t"}"#,
        r#"{"TableName":"t","Table\u004eame":"u"}"#,
        // The key of a map, and a member of a structure inside it.
        r#"{"TableName":"t","Item":{"a":{"S":"1"},"a":{"S":"2"}}}"#,
        r#"{"TableName":"t","Item":{"a":null,"a":{"S":"2"}}}"#,
        r#"{"TableName":"t","Item":{"a":{"S":"1","S":"2"}}}"#,
        r#"{"TableName":"t","Item":{"a":{"L":[{"S":"1"},{"S":"1","S":"2"}]}}}"#,
        // A member that is not modelled, and what is inside it or in place of a text.
        r#"{"TableName":"t","Strange":1,"Strange":2}"#,
        r#"{"TableName":"t","Strange":{"a":1,"a":2}}"#,
        r#"{"TableName":{"a":[{"b":1,"b":2}]}}"#,
        // Behind a doubt.
        r#"{"Strange":1,"TableName":5,"Item":{"a":{"S":"1","S":"2"}}}"#,
    ] {
        assert!(
            outcome(body).starts_with("refused: the JSON body has the same member twice"),
            "{body}: {}",
            outcome(body)
        );
    }
}
