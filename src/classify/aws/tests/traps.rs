//! Requests that other tools misread, each with its name.

use super::*;

fn check(cases: Vec<(Request, &str)>) {
    for (request, expected) in cases {
        assert_eq!(request.outcome(), expected, "{request:?}");
    }
}

#[test]
fn services_go_by_host_scope_and_prefix_of_their_own() {
    let form = |line, scope, body: &str| request(line, scope).form(body);
    check(vec![
        (
            form(
                "POST https://monitoring.us-west-2.amazonaws.com/",
                "us-west-2/monitoring",
                "Action=ListMetrics&Version=2010-08-01",
            ),
            "aws:cloudwatch:ListMetrics",
        ),
        (
            form(
                "POST https://email.us-west-2.amazonaws.com/",
                "us-west-2/ses",
                "Action=ListIdentities&Version=2010-12-01",
            ),
            "aws:ses:ListIdentities",
        ),
        (request("GET https://email.us-west-2.amazonaws.com/v2/email/account", "us-west-2/ses"), "aws:ses:GetAccount"),
        (request("GET https://email.us-west-2.amazonaws.com/v1/email/account", "us-west-2/ses"), "aws:ses:GetAccount"),
        (
            request("POST https://states.us-west-2.amazonaws.com/", "us-west-2/states")
                .target("AWSStepFunctions.ListActivities", "{}"),
            "aws:states:ListActivities",
        ),
        (
            request("POST https://tagging.us-west-2.amazonaws.com/", "us-west-2/tagging")
                .target("ResourceGroupsTaggingAPI_20170126.GetResources", "{}"),
            "aws:tag:GetResources",
        ),
        (
            form(
                "POST https://elasticloadbalancing.us-west-2.amazonaws.com/",
                "us-west-2/elasticloadbalancing",
                "Action=DescribeLoadBalancers&Version=2012-06-01&LoadBalancerNames.member.1=a",
            ),
            "aws:elasticloadbalancing:DescribeLoadBalancers",
        ),
        (
            form(
                "POST https://elasticloadbalancing.us-west-2.amazonaws.com/",
                "us-west-2/elasticloadbalancing",
                "Action=DescribeLoadBalancers&Version=2015-12-01&Names.member.1=a",
            ),
            "aws:elasticloadbalancing:DescribeLoadBalancers",
        ),
        (
            form(
                "POST https://rds.us-west-2.amazonaws.com/",
                "us-west-2/rds",
                "Action=DescribeDBClusters&Version=2014-10-31",
            ),
            "aws:rds:DescribeDBClusters",
        ),
        (
            request("GET https://apigateway.us-west-2.amazonaws.com/restapis", "us-west-2/apigateway"),
            "aws:apigateway:GetRestApis",
        ),
        (
            request("GET https://apigateway.us-west-2.amazonaws.com/v2/apis", "us-west-2/apigateway"),
            "aws:apigateway:GetApis",
        ),
        (
            request("GET https://cloudfront.amazonaws.com/2019-03-26/distribution", "us-east-1/cloudfront"),
            "aws:cloudfront:ListDistributions",
        ),
        (
            request("GET https://lambda.us-west-2.amazonaws.com/2015-03-31/functions/", "us-west-2/lambda"),
            "aws:lambda:ListFunctions",
        ),
        (
            request("GET https://iam.amazonaws.com/?Action=GetUser&Version=2010-05-08&UserName=bob", "us-east-1/iam"),
            "aws:iam:GetUser",
        ),
        (
            request("POST https://123456789012.ddb.us-west-2.amazonaws.com/", "us-west-2/dynamodb")
                .target("DynamoDB_20120810.GetItem", r#"{"TableName":"t","Key":{}}"#),
            "aws:dynamodb:GetItem",
        ),
    ]);
}

#[test]
fn targets_split_at_the_last_dot() {
    check(vec![
        (
            request("POST https://cloudtrail.us-west-2.amazonaws.com/", "us-west-2/cloudtrail")
                .target("com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.StopLogging", r#"{"Name":"t"}"#),
            "aws:cloudtrail:StopLogging",
        ),
        (
            request("POST http://127.0.0.1:8080/", "us-west-2/codeconnections")
                .target("com.amazonaws.codeconnections.CodeConnections_20231201.ListConnections", "{}"),
            "aws:codeconnections:ListConnections",
        ),
        // The SDKs for JavaScript, Go, Rust and Java send what stands behind the last dot of the prefix.
        (
            request("POST https://cloudtrail.us-west-2.amazonaws.com/", "us-west-2/cloudtrail")
                .target("CloudTrail_20131101.StopLogging", r#"{"Name":"t"}"#),
            "aws:cloudtrail:StopLogging",
        ),
    ]);
}

#[test]
fn s3_addresses_are_all_understood() {
    let at = |line| request(line, "us-west-2/s3");
    for (case, name, bucket, key) in [
        (at("GET https://b-1.s3.us-west-2.amazonaws.com/k/1"), "GetObject", "b-1", "k/1"),
        (at("GET https://b-1.s3-us-west-2.amazonaws.com/k"), "GetObject", "b-1", "k"),
        (at("GET https://b-1.s3.amazonaws.com/k"), "GetObject", "b-1", "k"),
        (at("GET https://s3.us-west-2.amazonaws.com/b-1/k"), "GetObject", "b-1", "k"),
        (at("GET https://s3.amazonaws.com/b.1.c/k"), "GetObject", "b.1.c", "k"),
        (at("GET https://b.1.c.s3.us-west-2.amazonaws.com/k"), "GetObject", "b.1.c", "k"),
        (at("GET https://s3-control.s3.us-west-2.amazonaws.com/k"), "GetObject", "s3-control", "k"),
        (at("GET https://b-1.s3.dualstack.us-west-2.amazonaws.com/k"), "GetObject", "b-1", "k"),
        (at("GET https://b-1.s3-fips.us-west-2.amazonaws.com/k"), "GetObject", "b-1", "k"),
        (at("GET https://b-1.s3-fips.dualstack.us-west-2.amazonaws.com/k"), "GetObject", "b-1", "k"),
        (at("GET https://b-1.s3-accelerate.amazonaws.com/k"), "GetObject", "b-1", "k"),
        (at("GET https://b-1.s3-accelerate.dualstack.amazonaws.com/k"), "GetObject", "b-1", "k"),
        (at("GET http://proxy.corp:8080/b-1/k"), "GetObject", "b-1", "k"),
        (at("GET http://b-1.proxy.corp:8080/k"), "GetObject", "b-1", "k"),
        (at("GET http://b-1.localhost:8080/k"), "GetObject", "b-1", "k"),
        (at("GET http://[::1]:8080/b-1/k"), "GetObject", "b-1", "k"),
        // Aliases of access points stand where buckets do.
        (at("GET https://ap-x1b-s3alias.s3.us-west-2.amazonaws.com/k"), "GetObject", "ap-x1b-s3alias", "k"),
        (
            request("GET https://ap-o1--op-s3.op-1.s3-outposts.us-west-2.amazonaws.com/k", "us-west-2/s3-outposts"),
            "GetObject",
            "ap-o1--op-s3",
            "k",
        ),
        (
            request(
                "GET https://ap-123456789012.s3-object-lambda.us-west-2.amazonaws.com/k",
                "us-west-2/s3-object-lambda",
            ),
            "GetObject",
            "arn:aws:s3-object-lambda:us-west-2:123456789012:accesspoint/ap",
            "k",
        ),
        // The host's bucket wins over the path.
        (at("DELETE https://innocent.s3.us-west-2.amazonaws.com/prod/k"), "DeleteObject", "innocent", "prod/k"),
        // A key is data: slashes, dots and escapes stay.
        (at("GET https://s3.us-west-2.amazonaws.com/b-1/a//../b%2F%2e"), "GetObject", "b-1", "a//../b/."),
        (at("GET https://s3.us-west-2.amazonaws.com/b-1//k"), "GetObject", "b-1", "/k"),
        (at("PUT https://s3.us-west-2.amazonaws.com/b-1/k/"), "PutObject", "b-1", "k/"),
        (at("GET https://s3.us-west-2.amazonaws.com/b-1/"), "ListObjects", "b-1", ""),
        (at("GET https://b-1.s3.us-west-2.amazonaws.com"), "ListObjects", "b-1", ""),
        (
            at("GET https://ap-123456789012.s3-accesspoint.us-west-2.amazonaws.com/k"),
            "GetObject",
            "arn:aws:s3:us-west-2:123456789012:accesspoint/ap",
            "k",
        ),
        (
            request("GET https://ap-123456789012.op-1.s3-outposts.us-west-2.amazonaws.com/k", "us-west-2/s3-outposts"),
            "GetObject",
            "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1/accesspoint/ap",
            "k",
        ),
        (
            request(
                "GET https://b--usw2-az1--x-s3.s3express-usw2-az1.us-west-2.amazonaws.com/k",
                "us-west-2/s3express",
            ),
            "GetObject",
            "b--usw2-az1--x-s3",
            "k",
        ),
    ] {
        let action = case.action();
        assert_eq!(action.name, format!("aws:s3:{name}"), "{case:?}");
        assert_eq!(action.parameters["Bucket"], bucket, "{case:?}");
        assert_eq!(action.parameters.get("Key").and_then(Value::as_str).unwrap_or_default(), key, "{case:?}");
    }
    let regional = request("GET https://s3express-control.us-west-2.amazonaws.com/", "us-west-2/s3express");
    assert_eq!(regional.outcome(), "aws:s3:ListDirectoryBuckets");
    assert_eq!(request("GET https://s3.us-west-2.amazonaws.com/", "us-west-2/s3").outcome(), "aws:s3:ListBuckets");
}

#[test]
fn s3_operations_under_one_path_are_told_apart() {
    let at = |line| request(line, "us-west-2/s3");
    check(vec![
        (at("GET http://127.0.0.1/b-1?list-type=2"), "aws:s3:ListObjectsV2"),
        (at("GET http://127.0.0.1/b-1?prefix=x"), "aws:s3:ListObjects"),
        (at("GET http://127.0.0.1/b-1?policy"), "aws:s3:GetBucketPolicy"),
        (at("GET http://127.0.0.1/b-1?policy="), "aws:s3:GetBucketPolicy"),
        (at("DELETE http://127.0.0.1/b-1?policy"), "aws:s3:DeleteBucketPolicy"),
        (at("PUT http://127.0.0.1/b-1/k").header("x-amz-copy-source", "/other/key"), "aws:s3:CopyObject"),
        (at("PUT http://127.0.0.1/b-1/k?partNumber=1&uploadId=u"), "aws:s3:UploadPart"),
        (
            at("PUT http://127.0.0.1/b-1/k?partNumber=1&uploadId=u").header("x-amz-copy-source", "/other/key"),
            "aws:s3:UploadPartCopy",
        ),
        (at("POST http://127.0.0.1/b-1/k?uploads"), "aws:s3:CreateMultipartUpload"),
        (at("POST http://127.0.0.1/b-1/k?uploadId=u"), "aws:s3:CompleteMultipartUpload"),
        (at("DELETE http://127.0.0.1/b-1/k?uploadId=u"), "aws:s3:AbortMultipartUpload"),
        (at("GET http://127.0.0.1/b-1/k?uploadId=u"), "aws:s3:ListParts"),
        (at("GET http://127.0.0.1/b-1/k?x-id=GetObject"), "aws:s3:GetObject"),
        (at("PUT http://127.0.0.1/b-1/k?tagging&versionId=v"), "aws:s3:PutObjectTagging"),
        (at("HEAD http://127.0.0.1/b-1"), "aws:s3:HeadBucket"),
        (at("GET http://127.0.0.1/v20180820/jobs").header("x-amz-account-id", OWN), "aws:s3:ListJobs"),
        (at("GET http://127.0.0.1/v20180820/jobs"), "aws:s3:GetObject"),
    ]);
}

#[test]
fn presigned_urls_carry_header_fields_in_the_query() {
    let credential = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20261120%2Fus-west-2%2Fs3%2Faws4_request\
                      &X-Amz-Date=20261120T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
    let at = |method: &'static str, path: &str, rest: &str| Request {
        method,
        url: format!("http://127.0.0.1:8080{path}?{rest}{credential}"),
        headers: Vec::new(),
        body: Vec::new(),
    };
    let put = at("PUT", "/b-1/k", "x-amz-acl=public-read&").action();
    assert_eq!(put.name, "aws:s3:PutObject");
    assert_eq!(put.parameters["ACL"], "public-read");
    assert_eq!(put.iam_actions, ["s3:PutObject", "s3:PutObjectAcl"]);
    assert!(put.traits.contains(Trait::Sharing));
    let copy = at("PUT", "/b-1/k", "X-Amz-Copy-Source=other%2Fkey&").action();
    assert_eq!(copy.name, "aws:s3:CopyObject");
    assert_eq!(copy.resources, ["arn:aws:s3:::b-1/k", "arn:aws:s3:::other/key"]);
    let token = at("GET", "/b-1/k", "X-Amz-Security-Token=t&").action();
    assert_eq!(token.name, "aws:s3:GetObject");
}

#[test]
fn encoded_slashes_are_data() {
    let get = request(
        "GET https://workspaces-web.us-west-2.amazonaws.com/portals/arn%3Aaws%3Aworkspaces-web%3Aus-west-2%3A123456789012%3Aportal%2F1",
        "us-west-2/workspaces-web",
    );
    assert_eq!(get.outcome(), "aws:workspaces-web:GetPortal");
    let associate = request(
        "PUT https://workspaces-web.us-west-2.amazonaws.com/portals/arn%3Aaws%3Ap%2F1/trustStores?trustStoreArn=arn%3Aaws%3At",
        "us-west-2/workspaces-web",
    );
    assert_eq!(associate.outcome(), "aws:workspaces-web:AssociateTrustStore");
    let remove = request(
        "DELETE https://workspaces-web.us-west-2.amazonaws.com/portals/arn%3Aaws%3Ap%2F1/trustStores",
        "us-west-2/workspaces-web",
    );
    assert_eq!(remove.outcome(), "aws:workspaces-web:DisassociateTrustStore");
}

#[test]
fn old_queue_clients_send_forms_to_the_queue() {
    let form = "Action=SendMessage&Version=2012-11-05&MessageBody=hi\
                &MessageAttribute.1.Name=a&MessageAttribute.1.Value.DataType=String&MessageAttribute.1.Value.StringValue=v";
    let action = request("POST http://127.0.0.1:8080/123456789012/jobs", "us-west-2/sqs").form(form).action();
    assert_eq!(action.name, "aws:sqs:SendMessage");
    assert_eq!(action.resources, ["arn:aws:sqs:us-west-2:123456789012:jobs"]);
    assert_eq!(action.parameters["MessageAttributes"], json!({"a": {"DataType": "String", "StringValue": "v"}}));
}

#[test]
fn cbor_and_json_select_the_same_operation() {
    let alarms = request("POST https://monitoring.us-west-2.amazonaws.com/", "us-west-2/monitoring")
        .target("GraniteServiceVersion20100801.DisableAlarmActions", r#"{"AlarmNames":["a"]}"#)
        .action();
    let mut cbor = request(
        "POST https://monitoring.us-west-2.amazonaws.com/service/GraniteServiceVersion20100801/operation/DisableAlarmActions",
        "us-west-2/monitoring",
    )
    .header("smithy-protocol", "rpc-v2-cbor")
    .header("content-type", "application/cbor");
    cbor.body = b"\xbfjAlarmNames\x9faa\xff\xff".to_vec();
    assert_eq!(cbor.action(), alarms);
    assert_eq!(alarms.name, "aws:cloudwatch:DisableAlarmActions");
}

#[test]
fn unsigned_operations_are_named_by_what_they_say() {
    let form = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fr\
                &RoleSessionName=s&WebIdentityToken=t";
    check(vec![
        (request("POST https://sts.us-west-2.amazonaws.com/", "").form(form), "aws:sts:AssumeRoleWithWebIdentity"),
        (request("POST http://127.0.0.1:8080/", "").form(form), "aws:sts:AssumeRoleWithWebIdentity"),
        (
            request("POST http://127.0.0.1:8080/", "")
                .target("AWSCognitoIdentityService.GetId", r#"{"IdentityPoolId":"p"}"#),
            "aws:cognito-identity:GetId",
        ),
    ]);
}

#[test]
fn bodies_that_are_data_are_not_asked_for() {
    let need = |request: Request| body_need(&request.head().unwrap(), &front());
    let s3 = |line| request(line, "us-west-2/s3");
    assert_eq!(need(s3("PUT http://127.0.0.1/b-1/k")), BodyNeed::Data);
    assert_eq!(need(s3("PUT http://127.0.0.1/b-1/k?partNumber=1&uploadId=u")), BodyNeed::Data);
    assert_eq!(
        need(request("POST http://127.0.0.1/2015-03-31/functions/f/invocations", "us-west-2/lambda")),
        BodyNeed::Data
    );
    assert_eq!(need(s3("PUT http://127.0.0.1/b-1?policy&acl")), BodyNeed::Whole);
    assert_eq!(need(s3("POST http://127.0.0.1/b-1?delete")), BodyNeed::Whole);
    assert_eq!(need(request("POST http://127.0.0.1/", "us-east-1/iam")), BodyNeed::Whole);
    assert_eq!(need(request("PUT http://elsewhere.example/b/k", "us-west-2/s3")), BodyNeed::Whole);
}

#[test]
fn too_large_a_body_is_unknown_unless_it_is_data() {
    let put = request("PUT http://127.0.0.1/b-1/k", "us-west-2/s3").head().unwrap();
    assert_eq!(classify(&put, Body::TooLarge, &front()).actions[0].unknown, None);
    let delete = request("POST http://127.0.0.1/b-1?delete", "us-west-2/s3").head().unwrap();
    let action = &classify(&delete, Body::TooLarge, &front()).actions[0];
    assert_eq!(action.name, "aws:s3:DeleteObjects");
    assert!(action.traits.contains(Trait::Unknown));
    let form = request("POST http://127.0.0.1/", "us-east-1/iam").form("").head().unwrap();
    assert!(classify(&form, Body::TooLarge, &front()).actions[0].traits.contains(Trait::Unknown));
}
