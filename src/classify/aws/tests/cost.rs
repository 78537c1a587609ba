//! What naming costs. `make bench-naming` prints it; nothing here passes or fails by time.

use std::hint::black_box;
use std::time::Instant;

use super::*;

/// Requests as SDKs send them, of every family that has its own way through the naming.
fn requests() -> Vec<(&'static str, Request, &'static str)> {
    let sent = |line, scope: &str| {
        request(line, scope)
            .header("x-amz-date", "20261120T112555Z")
            .header("amz-sdk-invocation-id", "00000000-0000-4000-8000-000000000000")
            .header("user-agent", "Boto3/1.40.0 md/Botocore#1.40.0 ua/2.1 os/linux lang/python#3.12")
    };
    let storage = |line| {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        sent(line, "us-east-1/s3").header("x-amz-content-sha256", empty)
    };
    let item = format!(r#"{{"TableName":"bench","Item":{{"id":{{"S":"1"}},"text":{{"S":"{}"}}}}}}"#, "x".repeat(940));
    let instances = "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-0123456789abcdef0\
                     &Filter.1.Name=instance-state-name&Filter.1.Value.1=running&MaxResults=100";
    let rpc =
        "POST https://monitoring.us-east-1.amazonaws.com/service/GraniteServiceVersion20100801/operation/PutMetricData";
    let metric = |line| {
        // {"Namespace": "bench", "MetricData": [{"MetricName": "m", "Value": 1.0}]}
        let cbor = b"\xa2iNamespaceebenchjMetricData\x81\xa2jMetricNameameValue\xfb\x3f\xf0\0\0\0\0\0\0";
        let request = sent(line, "us-east-1/monitoring").header("content-type", "application/cbor");
        Request { body: cbor.to_vec(), ..request.header("smithy-protocol", "rpc-v2-cbor") }
    };
    let records = "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeBatch><Changes><Change>\
                   <Action>UPSERT</Action><ResourceRecordSet><Name>a.example.com</Name><Type>A</Type><TTL>60</TTL><ResourceRecords>\
                   <ResourceRecord><Value>10.0.0.1</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></Change></Changes>\
                   </ChangeBatch></ChangeResourceRecordSetsRequest>";
    vec![
        ("CloudWatch PutMetricData, CBOR", metric(rpc), "aws:cloudwatch:PutMetricData"),
        (
            "CloudWatch PutMetricData, RPC JSON",
            sent(rpc, "us-east-1/monitoring")
                .header("content-type", "application/json")
                .header("smithy-protocol", "rpc-v2-json")
                .body(r#"{"Namespace":"bench","MetricData":[{"MetricName":"m","Value":1.0}]}"#),
            "aws:cloudwatch:PutMetricData",
        ),
        (
            "Route 53 change, REST XML",
            sent("POST https://route53.amazonaws.com/2013-04-01/hostedzone/Z123/rrset/", "us-east-1/route53").body(records),
            "aws:route53:ChangeResourceRecordSets",
        ),
        (
            "unknown form",
            sent("POST https://iam.amazonaws.com/", "us-east-1/iam").form("Action=FutureOperation&Version=2010-05-08"),
            "",
        ),
        ("S3 GetObject", storage("GET https://s3.us-east-1.amazonaws.com/bench/object"), "aws:s3:GetObject"),
        (
            "S3 ListObjectsV2",
            storage("GET https://bench.s3.us-east-1.amazonaws.com/?list-type=2&prefix=a%2F&max-keys=100"),
            "aws:s3:ListObjectsV2",
        ),
        (
            "DynamoDB PutItem, 1 KB",
            sent("POST https://dynamodb.us-east-1.amazonaws.com/", "us-east-1/dynamodb")
                .target("DynamoDB_20120810.PutItem", &item),
            "aws:dynamodb:PutItem",
        ),
        (
            "IAM AttachUserPolicy, form",
            sent("POST https://iam.amazonaws.com/", "us-east-1/iam").form(
                "Action=AttachUserPolicy&Version=2010-05-08&UserName=bob\
                 &PolicyArn=arn%3Aaws%3Aiam%3A%3Aaws%3Apolicy%2FReadOnlyAccess",
            ),
            "aws:iam:AttachUserPolicy",
        ),
        (
            "EC2 DescribeInstances, form",
            sent("POST https://ec2.us-east-1.amazonaws.com/", "us-east-1/ec2").form(instances),
            "aws:ec2:DescribeInstances",
        ),
        (
            "Lambda ListVersions, REST JSON",
            sent(
                "GET https://lambda.us-east-1.amazonaws.com/2015-03-31/functions/worker/versions?MaxItems=50",
                "us-east-1/lambda",
            ),
            "aws:lambda:ListVersionsByFunction",
        ),
        (
            "EKS CreateCluster, REST JSON",
            sent("POST https://eks.us-east-1.amazonaws.com/clusters", "us-east-1/eks")
                .header("content-type", "application/json")
                .body(
                    r#"{"name":"c","roleArn":"arn:aws:iam::123456789012:role/eks","resourcesVpcConfig":{"subnetIds":["subnet-1","subnet-2"],"endpointPublicAccess":false},"clientRequestToken":"t"}"#,
                ),
            "aws:eks:CreateCluster",
        ),
    ]
}

#[test]
fn what_is_measured_has_its_name() {
    for (title, request, name) in requests() {
        match name {
            "" => assert!(request.outcome().starts_with("unknown "), "{title}"),
            name => assert_eq!(request.action().name, name),
        }
    }
}

/// Names the request that often.
#[inline(never)]
fn name(head: &Head, body: &[u8], front: &Front, calls: u32) {
    for _ in 0..calls {
        black_box(classify(black_box(head), Body::Whole(black_box(body)), front));
    }
}

/// What a start costs, and a table that is taken from a file.
#[test]
#[ignore = "a measurement: `make bench-naming` runs it in a release build"]
fn facts_in_microseconds() {
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/src/catalog/data/aws.bin")).unwrap();
    let milliseconds = |title: &str, work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        println!("{title:36} {:6.1} ms", start.elapsed().as_secs_f64() * 1e3);
    };
    milliseconds("facts: the built-in table", &mut || drop(black_box(crate::catalog::aws::built_in().version())));
    milliseconds("facts: the first request of S3", &mut || {
        drop(request("GET https://s3.us-east-1.amazonaws.com/bench/object", "us-east-1/s3").outcome());
    });
    milliseconds("facts: the first request of EC2", &mut || {
        let form = "Action=DescribeInstances&Version=2016-11-15";
        drop(request("POST https://ec2.us-east-1.amazonaws.com/", "us-east-1/ec2").form(form).outcome());
    });
    milliseconds("facts: every name, for rules", &mut || {
        black_box(crate::catalog::aws::built_in().action_names().len());
    });
    milliseconds("facts: a table from a file, checked", &mut || {
        crate::catalog::aws::file::read(bytes.clone(), "copy").unwrap();
    });
}

#[test]
#[ignore = "a measurement: `make bench-naming` runs it in a release build"]
fn naming_in_microseconds() {
    const CALLS: u32 = 20_000;
    const ROUNDS: usize = 9;
    let front = front();
    for (title, request, _) in requests() {
        let head = request.head().unwrap();
        let round = || {
            let start = Instant::now();
            name(&head, &request.body, &front, CALLS);
            start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
        };
        // The quickest round: whatever else runs on the machine only ever adds.
        let least = (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min);
        println!("{title:36} {least:6.2} µs");
    }
}
