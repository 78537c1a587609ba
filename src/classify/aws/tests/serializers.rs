//! What SDKs of other languages write in their own way, each with its name; and what other tools got wrong.

use super::*;

#[track_caller]
fn check(request: Request, expected: &str) {
    assert_eq!(request.outcome(), expected, "{request:?}");
}

/// The same request with the decoration of the SDKs for Go, Java, Rust, JavaScript, .NET and PHP.
fn decorated(request: &Request) -> Vec<Request> {
    let with = |fields: &[(&str, &str)]| {
        fields.iter().fold(request.clone(), |request, (name, value)| request.header(name, value))
    };
    vec![
        with(&[
            ("Amz-Sdk-Invocation-Id", "4"),
            ("Amz-Sdk-Request", "attempt=1; max=3"),
            ("Accept-Encoding", "identity"),
        ]),
        with(&[("amz-sdk-invocation-id", "4"), ("amz-sdk-retry", "0/0/500"), ("Accept", "*/*")]),
        with(&[("x-amz-user-agent", "aws-sdk-js/3"), ("amz-sdk-request", "attempt=1"), ("accept", "application/json")]),
        with(&[("User-Agent", "aws-sdk-rust/1"), ("x-amzn-trace-id", "Root=1-2-3"), ("content-length", "0")]),
        with(&[("aws-sdk-invocation-id", "4"), ("aws-sdk-retry", "0/0"), ("Connection", "keep-alive")]),
        with(&[("x-amzn-query-mode", "true"), ("Expect", "100-continue"), ("traceparent", "00-1-2-01")]),
    ]
}

#[test]
fn decoration_changes_no_name() {
    let s3 = |line| request(line, "us-west-2/s3");
    for (plain, name) in [
        (s3("GET https://b-1.s3.us-west-2.amazonaws.com/k?x-id=GetObject"), "aws:s3:GetObject"),
        (s3("GET https://s3.us-west-2.amazonaws.com/?x-id=ListBuckets"), "aws:s3:ListBuckets"),
        (
            request("GET https://lambda.us-west-2.amazonaws.com/2015-03-31/functions", "us-west-2/lambda"),
            "aws:lambda:ListFunctions",
        ),
        (
            request("POST https://sqs.us-west-2.amazonaws.com/", "us-west-2/sqs").target("AmazonSQS.ListQueues", "{}"),
            "aws:sqs:ListQueues",
        ),
        (
            request("POST https://iam.amazonaws.com/", "us-east-1/iam").form("Action=ListUsers&Version=2010-05-08"),
            "aws:iam:ListUsers",
        ),
    ] {
        for request in decorated(&plain) {
            check(request, name);
        }
    }
}

#[test]
fn spellings_of_one_request_have_one_name() {
    let lambda = |line| request(line, "us-west-2/lambda");
    let json = |line, scope, body: &str| request(line, scope).header("content-type", "application/json").body(body);
    // With and without a slash at the end, whichever the template has.
    check(lambda("GET https://lambda.us-west-2.amazonaws.com/2015-03-31/functions/"), "aws:lambda:ListFunctions");
    check(lambda("GET https://lambda.us-west-2.amazonaws.com/2015-03-31/functions"), "aws:lambda:ListFunctions");
    // Escaped as little, or as much, as a path allows.
    let arn = "arn:aws:lambda:us-west-2:123456789012:function:f";
    for spelled in [arn.to_owned(), arn.replace(':', "%3A"), arn.replace(':', "%3a"), arn.replace('f', "%66")] {
        let url = format!("https://lambda.us-west-2.amazonaws.com/2015-03-31/functions/{spelled}");
        let get = Request { url, ..lambda("GET https://x/") };
        assert_eq!(get.action().parameters["FunctionName"], arn);
    }
    // A query field without `=`, and one with an empty value.
    let s3 = |line| request(line, "us-west-2/s3");
    check(s3("GET https://b-1.s3.us-west-2.amazonaws.com/?acl"), "aws:s3:GetBucketAcl");
    check(s3("GET https://b-1.s3.us-west-2.amazonaws.com/?acl="), "aws:s3:GetBucketAcl");
    check(s3("GET https://b-1.s3.us-west-2.amazonaws.com/?list-type=2&prefix=&delimiter=%2F"), "aws:s3:ListObjectsV2");
    check(s3("GET https://b-1.s3.us-west-2.amazonaws.com/?versions&prefix="), "aws:s3:ListObjectVersions");
    // A body of `{}`, of nothing, or none where all members stand in the head.
    for body in ["", "{}"] {
        check(
            json("POST https://eks.us-west-2.amazonaws.com/clusters/c/updates", "us-west-2/eks", body),
            "aws:eks:UpdateClusterVersion",
        );
    }
    let target = |content_type: &str| {
        request("POST https://dynamodb.us-west-2.amazonaws.com/", "us-west-2/dynamodb")
            .header("x-amz-target", "DynamoDB_20120810.ListTables")
            .header("content-type", content_type)
            .body("{}")
    };
    for content_type in
        ["application/x-amz-json-1.0", "application/x-amz-json-1.1", "application/x-amz-json-1.0; charset=UTF-8"]
    {
        check(target(content_type), "aws:dynamodb:ListTables");
    }
    // The host with a port, in capitals, with a dot at its end.
    for host in ["iam.amazonaws.com:443", "IAM.amazonaws.com", "iam.amazonaws.com."] {
        let url = format!("https://{host}/");
        let list = request("POST https://x/", "us-east-1/iam").form("Action=ListUsers&Version=2010-05-08");
        check(Request { url, ..list }, "aws:iam:ListUsers");
    }
}

#[test]
fn every_protocol_of_one_operation_gives_one_name() {
    let name = "aws:cloudwatch:ListMetrics";
    let at = |line| request(line, "us-west-2/monitoring");
    let host = "POST https://monitoring.us-west-2.amazonaws.com/";
    check(at(host).form("Action=ListMetrics&Version=2010-08-01"), name);
    check(at(host).target("GraniteServiceVersion20100801.ListMetrics", "{}"), name);
    let rpc =
        "POST https://monitoring.us-west-2.amazonaws.com/service/GraniteServiceVersion20100801/operation/ListMetrics";
    let cbor = at(rpc).header("smithy-protocol", "rpc-v2-cbor").header("content-type", "application/cbor");
    check(Request { body: vec![0xa0], ..cbor }, name);
    check(at(rpc).header("smithy-protocol", "rpc-v2-json").header("content-type", "application/json").body("{}"), name);
    check(at("GET https://monitoring.us-west-2.amazonaws.com/?Action=ListMetrics&Version=2010-08-01"), name);
}

/// A search travels as a form, which its model does not say.
#[test]
fn searches_of_cloudsearch_are_forms() {
    let search = |body: &str| {
        request(
            "POST https://search-d-1.us-west-2.cloudsearch.amazonaws.com/2013-01-01/search",
            "us-west-2/cloudsearch",
        )
        .form(body)
    };
    let action = search("format=sdk&pretty=true&q=star%20wars&size=5").action();
    assert_eq!((&*action.name, &action.parameters["query"]), ("aws:cloudsearch:Search", &json!("star wars")));
    assert!(search("format=sdk&pretty=true&q=a&q=b").outcome().starts_with("refused: "));
    assert!(search("format=sdk&pretty=true&q=a&future=b").outcome().starts_with("unknown aws:cloudsearch:unknown: "));
    assert!(search("format=sdk&pretty=true&q=a").header("content-encoding", "gzip").outcome().starts_with("refused: "));
}

#[test]
fn event_streams_are_named_by_path() {
    for (line, scope, name) in [
        (
            "POST https://bedrock-runtime.us-west-2.amazonaws.com/model/amazon.nova-sonic-v1%3A0/invoke-with-bidirectional-stream",
            "us-west-2/bedrock",
            "aws:bedrock:InvokeModelWithBidirectionalStream",
        ),
        (
            "POST https://runtime-v2-lex.us-west-2.amazonaws.com/bots/B/botAliases/A/botLocales/en_US/sessions/S/conversation",
            "us-west-2/lex",
            "aws:lex:StartConversation",
        ),
        (
            "POST https://qbusiness.us-west-2.api.aws/applications/A/conversations",
            "us-west-2/qbusiness",
            "aws:qbusiness:Chat",
        ),
        (
            "POST https://transcribestreaming.us-west-2.amazonaws.com/stream-transcription",
            "us-west-2/transcribe",
            "aws:transcribe:StartStreamTranscription",
        ),
        (
            "POST https://transcribestreaming.us-west-2.amazonaws.com/medical-scribe-stream",
            "us-west-2/transcribe",
            "aws:transcribe:StartMedicalScribeStream",
        ),
    ] {
        let mut stream = request(line, scope).header("content-type", "application/vnd.amazon.eventstream");
        if scope.ends_with("/transcribe") {
            for (name, value) in [("language-code", "en-US"), ("media-encoding", "pcm"), ("sample-rate", "16000")] {
                stream = stream.header(&format!("x-amzn-transcribe-{name}"), value);
            }
        }
        let head = stream.head().unwrap();
        assert_eq!(body_need(&head, &front()), BodyNeed::Data, "{line}");
        let classified = classify(&head, Body::Data, &front());
        assert_eq!((&*classified.actions[0].name, &classified.actions[0].unknown), (name, &None), "{line}");
    }
    // The voice and the engine of speech stand in header fields, which tell it from other requests.
    let speech = request("POST https://polly.us-west-2.amazonaws.com/v1/synthesisStream", "us-west-2/polly")
        .header("x-amzn-engine", "generative")
        .header("x-amzn-outputformat", "mp3")
        .header("x-amzn-voiceid", "Ruth");
    assert_eq!(
        classify(&speech.head().unwrap(), Body::Data, &front()).actions[0].name,
        "aws:polly:StartSpeechSynthesisStream"
    );
}

#[test]
fn places_of_every_partition_are_known() {
    for (host, region) in [
        ("iam.amazonaws.com", "us-east-1"),
        ("iam.global.api.aws", "us-east-1"),
        ("iam-fips.amazonaws.com", "us-east-1"),
        ("iam.us-east-1.amazonaws.com", "us-east-1"),
        ("iam.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("iam.us-gov.amazonaws.com", "us-gov-west-1"),
        ("iam.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
        ("iam.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
    ] {
        let url = format!("https://{host}/");
        let list = request("POST https://x/", "").form("Action=ListUsers&Version=2010-05-08");
        let credential = format!(
            "AWS4-HMAC-SHA256 Credential=AK/20261120/{region}/iam/aws4_request, SignedHeaders=host, Signature=00"
        );
        check(
            Request { url, ..list }
                .header("authorization", &credential.replace("=00", &format!("={}", "0".repeat(64)))),
            "aws:iam:ListUsers",
        );
    }
}

#[test]
fn multi_region_access_points_are_signed_for_many_regions() {
    let get = request("GET https://mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com/k", "")
        .header("x-amz-region-set", "*")
        .header(
            "authorization",
            "AWS4-ECDSA-P256-SHA256 Credential=AK/20261120/s3/aws4_request, SignedHeaders=host, Signature=3045",
        );
    let outcome = get.outcome();
    assert!(outcome == "aws:s3:GetObject", "{outcome}");
}

#[test]
fn what_is_no_call_of_the_api_has_no_name() {
    for line in [
        "GET https://b-1.s3-website-us-west-2.amazonaws.com/index.html",
        "GET https://b-1.s3-website.us-west-2.amazonaws.com/index.html",
        "GET https://abcdef.lambda-url.us-west-2.on.aws/",
        "GET https://console.aws.amazon.com/",
        "GET https://d111111abcdef8.cloudfront.net/k",
    ] {
        let outcome = request(line, "").outcome();
        assert!(outcome.starts_with("unknown aws:unknown:unknown: the host"), "{line}: {outcome}");
    }
}

#[test]
fn old_signatures_are_named_for_the_record() {
    let url = "GET https://b-1.s3.amazonaws.com/k?AWSAccessKeyId=AK&Signature=x%3D&Expires=1795000000";
    check(request(url, ""), "aws:s3:GetObject");
    check(request("PUT https://b-1.s3.amazonaws.com/k", "").header("authorization", "AWS AK:x="), "aws:s3:PutObject");
    let form = "Action=ListDomains&Version=2009-04-15&AWSAccessKeyId=AK&SignatureVersion=2&SignatureMethod=HmacSHA256&Timestamp=2026-11-20T00%3A00%3A00Z&Signature=x";
    check(request("POST https://sdb.amazonaws.com/", "").form(form), "aws:sdb:ListDomains");
    // A URL that was signed with a header field stands for another operation without it.
    let signed = "PUT https://b-1.s3.us-west-2.amazonaws.com/k?X-Amz-Algorithm=AWS4-HMAC-SHA256\
                  &X-Amz-Credential=AK%2F20261120%2Fus-west-2%2Fs3%2Faws4_request&X-Amz-Date=20261120T000000Z&X-Amz-Expires=60\
                  &X-Amz-SignedHeaders=host%3Bx-amz-copy-source&X-Amz-Signature=00";
    assert!(request(signed, "").outcome().starts_with("refused: the URL was signed with a header field"));
    check(request(signed, "").header("x-amz-copy-source", "other/k"), "aws:s3:CopyObject");
}

/// The requests that iamlive 1.1.29 is known to name wrongly, or not at all.
#[test]
fn what_iamlive_misreads_is_read() {
    let portal = "arn%3Aaws%3Aworkspaces-web%3Aus-west-2%3A123456789012%3Aportal%2F1";
    let web = |method: &'static str, path: String| Request {
        url: format!("https://workspaces-web.us-west-2.amazonaws.com{path}"),
        ..request(Box::leak(format!("{method} https://x/").into_boxed_str()), "us-west-2/workspaces-web")
    };
    // Taken for DeletePortal.
    check(web("DELETE", format!("/portals/{portal}/trustStores")), "aws:workspaces-web:DisassociateTrustStore");
    check(web("DELETE", format!("/portals/{portal}")), "aws:workspaces-web:DeletePortal");
    // Taken for CopyObject.
    check(
        request("PUT https://b-1.s3.us-west-2.amazonaws.com/k?partNumber=1&uploadId=u", "us-west-2/s3")
            .header("x-amz-copy-source", "other/k"),
        "aws:s3:UploadPartCopy",
    );
    // Taken for PutObject.
    let scope = "/v20180820/accesspoint/readers--usw2-az1--xa-s3/scope";
    for (method, name) in
        [("PUT", "PutAccessPointScope"), ("GET", "GetAccessPointScope"), ("DELETE", "DeleteAccessPointScope")]
    {
        let mut request = request(Box::leak(format!("{method} https://x/").into_boxed_str()), "us-west-2/s3express")
            .header("x-amz-account-id", OWN);
        if method == "PUT" {
            request = request.body("<PutAccessPointScopeRequest xmlns=\"http://awss3control.amazonaws.com/doc/2018-08-20/\"><Scope/></PutAccessPointScopeRequest>");
        }
        request.url = format!("https://123456789012.s3express-control.us-west-2.amazonaws.com{scope}");
        check(request.clone(), &format!("aws:s3:{name}"));
        // Without the account's header field it is no object either: there are none on this host.
        request.url = format!("https://s3express-control.us-west-2.amazonaws.com{scope}");
        request.headers.retain(|(name, _)| name != "x-amz-account-id");
        assert!(request.outcome().starts_with("unknown "), "{}", request.outcome());
    }
    // Its service became `amazonaws`.
    for (service, target) in [
        ("cloudtrail", "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.StopLogging"),
        ("codeconnections", "com.amazonaws.codeconnections.CodeConnections_20231201.DeleteConnection"),
        ("codestar-connections", "com.amazonaws.codestar.connections.CodeStar_connections_20191201.DeleteConnection"),
    ] {
        let url = format!("https://{service}.us-west-2.amazonaws.com/");
        let body = if service == "cloudtrail" { r#"{"Name":"t"}"# } else { r#"{"ConnectionArn":"a"}"# };
        let scope = format!("us-west-2/{service}");
        let operation = target.rsplit_once('.').unwrap().1;
        check(
            Request { url, ..request("POST https://x/", &scope).target(target, body) },
            &format!("aws:{service}:{operation}"),
        );
    }
    // Not seen: newer host names, host names with dots of their own, shared hosts, CBOR, XML bodies.
    check(
        request("GET https://bedrock-agent.us-west-2.api.aws/agents/A/", "us-west-2/bedrock"),
        "aws:bedrock:GetAgent",
    );
    check(
        request("POST https://api.sagemaker.us-west-2.amazonaws.com/", "us-west-2/sagemaker")
            .target("SageMaker.ListModels", "{}"),
        "aws:sagemaker:ListModels",
    );
    check(
        request(
            "POST https://controlplane.payment-cryptography.us-west-2.amazonaws.com/",
            "us-west-2/payment-cryptography",
        )
        .target("PaymentCryptographyControlPlane.ListKeys", "{}"),
        "aws:payment-cryptography:ListKeys",
    );
    check(request("GET https://models.lex.us-west-2.amazonaws.com/bots/", "us-west-2/lex"), "aws:lex:GetBots");
    check(request("GET https://email.us-west-2.amazonaws.com/v2/email/account", "us-west-2/ses"), "aws:ses:GetAccount");
    let invalidation = "<InvalidationBatch xmlns=\"http://cloudfront.amazonaws.com/doc/2020-05-31/\"><Paths><Quantity>1</Quantity>\
                        <Items><Path>/*</Path></Items></Paths><CallerReference>r</CallerReference></InvalidationBatch>";
    let create =
        request("POST https://cloudfront.amazonaws.com/2020-05-31/distribution/D/invalidation", "us-east-1/cloudfront")
            .body(invalidation)
            .action();
    assert_eq!(create.name, "aws:cloudfront:CreateInvalidation");
    assert_eq!(create.parameters["InvalidationBatch"]["Paths"]["Items"], json!(["/*"]));
}
