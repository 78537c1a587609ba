//! Requests made to be taken for something else: each is refused or unknown, none is named.

use base64::Engine as _;
use proptest::prelude::*;

use super::*;

/// Those of the table, which `tests/it/naming.rs` also sends: one line a request, and what becomes of it.
#[test]
fn what_has_two_readings_has_no_name() {
    let table = include_str!("../../../../tests/data/aws-ambiguous.jsonl");
    let mut count = 0;
    for line in table.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| row[name].as_str().unwrap_or_default();
        let mut it = request("GET http://x/", text("scope"));
        it.method = text("method").to_owned().leak();
        it.url = text("url").to_owned();
        for field in row["headers"].as_array().unwrap() {
            it = it.header(field[0].as_str().unwrap(), field[1].as_str().unwrap());
        }
        it.body = match row["base64"].as_str() {
            Some(body) => base64::engine::general_purpose::STANDARD.decode(body).unwrap(),
            None => text("body").as_bytes().to_vec(),
        };
        let outcome = it.outcome();
        let is_expected = match text("expect") {
            "refused" => outcome.starts_with("refused: "),
            "unknown" => outcome.starts_with("unknown "),
            other => panic!("{other}: {line}"),
        };
        assert!(is_expected, "{outcome}\n{line}");
        count += 1;
    }
    assert!(count >= 150, "{count}");
}

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
const GET_ITEM: &str = "DynamoDB_20120810.GetItem";

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
