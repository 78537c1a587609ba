//! Where each kind of request goes, and for what it is signed: a table of requests and upstreams.
//!
//! A line is `METHOD URL, scope, what its body or target says`, and then `https://upstream for region/service`,
//! or `no: ` and the reason.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method};

use super::*;

const GET_ITEM: &str = "DynamoDB_20120810.GetItem {\"TableName\":\"t\",\"Key\":{\"k\":{\"S\":\"1\"}}}";
const DESCRIBE: &str = "DynamoDB_20120810.DescribeEndpoints {}";
const CALLER: &str = "Action=GetCallerIdentity&Version=2011-06-15";

fn goes_to(line: &str, scope: &str, says: &str, endpoints: &Endpoints) -> String {
    let (method, url) = line.split_once(' ').unwrap();
    let rest = url.split_once("://").unwrap().1;
    let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap());
    let mut headers = HeaderMap::new();
    let mut put = |name: &'static str, value: &str| {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    };
    put("host", host);
    let signature = "0".repeat(64);
    put(
        "authorization",
        &format!(
            "AWS4-HMAC-SHA256 Credential=AK/20261120/{scope}/aws4_request, SignedHeaders=host, Signature={signature}"
        ),
    );
    let mut body = says;
    if says.starts_with("Action=") {
        put("content-type", "application/x-www-form-urlencoded");
    } else if let Some((target, json)) = says.split_once(" {") {
        put("content-type", "application/x-amz-json-1.0");
        put("x-amz-target", target);
        body = says.get(says.len() - json.len() - 1..).unwrap();
    }
    let head = match Head::parse(Method::from_bytes(method.as_bytes()).unwrap(), &target.parse().unwrap(), headers) {
        Ok(head) => head,
        Err(error) => return format!("no: {error}"),
    };
    let front = Front { account: Some("123456789012".to_owned()), ..Front::default() };
    let naming = Naming { front, endpoints: endpoints.clone() };
    let named = match naming.name(&head, Body::Whole(body.as_bytes())) {
        Ok(named) => named,
        Err(fault) => return format!("no: {}", fault.message()),
    };
    let (region, service) = (named.route.signing_region.clone(), named.route.signing_name.clone());
    let is_unknown = named.actions.iter().any(|action| action.unknown.is_some());
    let call = naming.call(head, named.route).unwrap();
    let scheme = if call.endpoint.tls { "https" } else { "http" };
    let doubt = if is_unknown { ", unknown" } else { "" };
    format!("{scheme}://{} for {region}/{service}{doubt}", call.endpoint.host)
}

/// Request, scope, what its body says, and where it goes.
type Line = (&'static str, &'static str, &'static str, &'static str);

/// Every line that goes elsewhere, at once.
fn check(endpoints: &Endpoints, table: &[Line]) {
    let mut wrong = String::new();
    for (line, scope, says, expected) in table {
        let found = goes_to(line, scope, says, endpoints);
        let fits = if expected.starts_with("no: ") { found.starts_with(expected) } else { found == *expected };
        if !fits {
            wrong.push_str(&format!("{line} ({scope}):\n  is       {found}\n  not      {expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn a_request_to_aws_goes_to_the_host_it_names() {
    check(&Endpoints::default(), AT_AWS);
}

const AT_AWS: &[Line] = &[
    (
        "POST https://sts.us-west-2.amazonaws.com/",
        "us-west-2/sts",
        CALLER,
        "https://sts.us-west-2.amazonaws.com for us-west-2/sts",
    ),
    ("POST https://sts.amazonaws.com/", "us-east-1/sts", CALLER, "https://sts.amazonaws.com for us-east-1/sts"),
    (
        "POST https://sts-fips.us-east-1.amazonaws.com/",
        "us-east-1/sts",
        CALLER,
        "https://sts-fips.us-east-1.amazonaws.com for us-east-1/sts",
    ),
    (
        "POST https://sts.cn-north-1.amazonaws.com.cn/",
        "cn-north-1/sts",
        CALLER,
        "https://sts.cn-north-1.amazonaws.com.cn for cn-north-1/sts",
    ),
    (
        "POST https://sts.us-gov-west-1.amazonaws.com/",
        "us-gov-west-1/sts",
        CALLER,
        "https://sts.us-gov-west-1.amazonaws.com for us-gov-west-1/sts",
    ),
    (
        "POST https://sts.eusc-de-east-1.amazonaws.eu/",
        "eusc-de-east-1/sts",
        CALLER,
        "https://sts.eusc-de-east-1.amazonaws.eu for eusc-de-east-1/sts",
    ),
    (
        "POST https://sts.us-iso-east-1.c2s.ic.gov/",
        "us-iso-east-1/sts",
        CALLER,
        "https://sts.us-iso-east-1.c2s.ic.gov for us-iso-east-1/sts",
    ),
    (
        "POST https://sts.us-isob-east-1.sc2s.sgov.gov/",
        "us-isob-east-1/sts",
        CALLER,
        "https://sts.us-isob-east-1.sc2s.sgov.gov for us-isob-east-1/sts",
    ),
    (
        "POST https://dynamodb.us-east-1.api.aws/",
        "us-east-1/dynamodb",
        GET_ITEM,
        "https://dynamodb.us-east-1.api.aws for us-east-1/dynamodb",
    ),
    (
        "POST https://dynamodb-fips.us-east-1.amazonaws.com/",
        "us-east-1/dynamodb",
        GET_ITEM,
        "https://dynamodb-fips.us-east-1.amazonaws.com for us-east-1/dynamodb",
    ),
    (
        "POST https://123456789012.ddb.us-east-1.amazonaws.com/",
        "us-east-1/dynamodb",
        GET_ITEM,
        "https://123456789012.ddb.us-east-1.amazonaws.com for us-east-1/dynamodb",
    ),
    (
        "POST https://dynamodb.us-east-1.amazonaws.com/",
        "us-east-1/dynamodb",
        DESCRIBE,
        "https://dynamodb.us-east-1.amazonaws.com for us-east-1/dynamodb",
    ),
    (
        "POST https://iam.amazonaws.com/",
        "us-east-1/iam",
        "Action=ListUsers&Version=2010-05-08",
        "https://iam.amazonaws.com for us-east-1/iam",
    ),
    (
        "POST https://iam.cn-north-1.amazonaws.com.cn/",
        "cn-north-1/iam",
        "Action=ListUsers&Version=2010-05-08",
        "https://iam.cn-north-1.amazonaws.com.cn for cn-north-1/iam",
    ),
    (
        "POST https://iam.us-gov.amazonaws.com/",
        "us-gov-west-1/iam",
        "Action=ListUsers&Version=2010-05-08",
        "https://iam.us-gov.amazonaws.com for us-gov-west-1/iam",
    ),
    (
        "POST https://query.timestream-cell1.us-east-1.amazonaws.com/",
        "us-east-1/timestream",
        "Timestream_20181101.Query {\"QueryString\":\"SELECT 1\"}",
        "no: the request cannot be sent anywhere",
    ),
    (
        "POST https://query-cell1.timestream.us-east-1.amazonaws.com/",
        "us-east-1/timestream",
        "Timestream_20181101.Query {\"QueryString\":\"SELECT 1\"}",
        "https://query-cell1.timestream.us-east-1.amazonaws.com for us-east-1/timestream",
    ),
    (
        "POST https://query.timestream.us-east-1.amazonaws.com/",
        "us-east-1/timestream",
        "Timestream_20181101.DescribeEndpoints {}",
        "https://query.timestream.us-east-1.amazonaws.com for us-east-1/timestream",
    ),
];

#[test]
fn s3_goes_to_the_host_of_its_bucket_point_or_zone() {
    check(&Endpoints::default(), AT_S3);
}

const AT_S3: &[Line] = &[
    ("GET https://s3.amazonaws.com/bkt/k", "us-east-1/s3", "", "https://s3.amazonaws.com for us-east-1/s3"),
    ("GET https://bkt.s3.amazonaws.com/k", "us-east-1/s3", "", "https://bkt.s3.amazonaws.com for us-east-1/s3"),
    (
        "GET https://b.c.s3.eu-west-1.amazonaws.com/k",
        "eu-west-1/s3",
        "",
        "https://b.c.s3.eu-west-1.amazonaws.com for eu-west-1/s3",
    ),
    // As an SDK asks for a bucket whose region it learnt from a redirect: same host, another scope.
    ("GET https://bkt.s3.amazonaws.com/k", "eu-west-1/s3", "", "https://bkt.s3.amazonaws.com for eu-west-1/s3"),
    (
        "GET https://bkt.s3.us-east-1.amazonaws.com/k",
        "eu-west-1/s3",
        "",
        "no: the request has more than one reading: the host and the credential scope name different regions",
    ),
    (
        "GET https://bkt.s3-eu-west-1.amazonaws.com/k",
        "eu-west-1/s3",
        "",
        "https://bkt.s3-eu-west-1.amazonaws.com for eu-west-1/s3",
    ),
    (
        "GET https://bkt.s3.dualstack.eu-west-1.amazonaws.com/k",
        "eu-west-1/s3",
        "",
        "https://bkt.s3.dualstack.eu-west-1.amazonaws.com for eu-west-1/s3",
    ),
    (
        "GET https://bkt.s3-fips.us-east-1.amazonaws.com/k",
        "us-east-1/s3",
        "",
        "https://bkt.s3-fips.us-east-1.amazonaws.com for us-east-1/s3",
    ),
    (
        "GET https://bkt.s3-accelerate.amazonaws.com/k",
        "us-east-1/s3",
        "",
        "https://bkt.s3-accelerate.amazonaws.com for us-east-1/s3",
    ),
    (
        "GET https://bkt.s3.cn-north-1.amazonaws.com.cn/k",
        "cn-north-1/s3",
        "",
        "https://bkt.s3.cn-north-1.amazonaws.com.cn for cn-north-1/s3",
    ),
    (
        "GET https://p-123456789012.s3-accesspoint.eu-west-1.amazonaws.com/k",
        "eu-west-1/s3",
        "",
        "https://p-123456789012.s3-accesspoint.eu-west-1.amazonaws.com for eu-west-1/s3",
    ),
    (
        "GET https://p-123456789012.s3-object-lambda.eu-west-1.amazonaws.com/k",
        "eu-west-1/s3-object-lambda",
        "",
        "https://p-123456789012.s3-object-lambda.eu-west-1.amazonaws.com for eu-west-1/s3-object-lambda",
    ),
    (
        "GET https://p-123456789012.op-01.s3-outposts.eu-west-1.amazonaws.com/k",
        "eu-west-1/s3-outposts",
        "",
        "https://p-123456789012.op-01.s3-outposts.eu-west-1.amazonaws.com for eu-west-1/s3-outposts",
    ),
    (
        "GET https://b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/?session",
        "us-east-1/s3express",
        "",
        "https://b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com for us-east-1/s3express",
    ),
    (
        "GET https://b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com/k",
        "us-east-1/s3express",
        "",
        "https://b--use1-az4--x-s3.s3express-use1-az4.us-east-1.amazonaws.com for us-east-1/s3express",
    ),
    (
        "GET https://123456789012.s3-control.eu-west-1.amazonaws.com/v20180820/jobs",
        "eu-west-1/s3",
        "",
        "https://123456789012.s3-control.eu-west-1.amazonaws.com for eu-west-1/s3, unknown",
    ),
];

#[test]
fn a_request_to_an_endpoint_of_ours_goes_where_its_signature_says() {
    check(&Endpoints::default(), AT_AN_ENDPOINT);
}

const AT_AN_ENDPOINT: &[Line] = &[
    ("POST http://127.0.0.1:8700/", "us-west-2/sts", CALLER, "https://sts.us-west-2.amazonaws.com for us-west-2/sts"),
    (
        "POST http://127.0.0.1:8700/",
        "cn-north-1/sts",
        CALLER,
        "https://sts.cn-north-1.amazonaws.com.cn for cn-north-1/sts",
    ),
    (
        "POST http://127.0.0.1:8700/",
        "eusc-de-east-1/sts",
        CALLER,
        "https://sts.eusc-de-east-1.amazonaws.eu for eusc-de-east-1/sts",
    ),
    (
        "POST http://127.0.0.1:8700/",
        "us-iso-east-1/sts",
        CALLER,
        "https://sts.us-iso-east-1.c2s.ic.gov for us-iso-east-1/sts",
    ),
    (
        "POST http://127.0.0.1:8700/",
        "us-east-1/dynamodb",
        GET_ITEM,
        "https://dynamodb.us-east-1.amazonaws.com for us-east-1/dynamodb",
    ),
    ("GET http://127.0.0.1:8700/bkt/k", "eu-west-1/s3", "", "https://s3.eu-west-1.amazonaws.com for eu-west-1/s3"),
    (
        "POST http://127.0.0.1:8700/",
        "mars-north-1/sts",
        CALLER,
        "no: the request cannot be sent anywhere: `mars-north-1` is not a region",
    ),
    (
        "POST http://127.0.0.1:8700/",
        "us-east-1/nosuch",
        CALLER,
        "no: the request cannot be sent anywhere: no service known to the table signs as `nosuch`",
    ),
    (
        "POST http://127.0.0.1:8700/",
        "us-east-1.evil.example/sts",
        CALLER,
        "no: the request has more than one reading: the credential is malformed",
    ),
];

/// The agent says where a request goes only by naming one of AWS's own hosts.
#[test]
fn no_request_leads_beyond_the_hosts_of_aws() {
    let evil = [
        "evil.example",
        "sts.amazonaws.com.evil.example",
        "evilamazonaws.com",
        "sts.us-east-1.amazonaws.co",
        "amazonaws.com",
        "metadata.google.internal",
        "sts.us-east-1.amazonaws.com-evil.example",
        "ec2-192-0-2-1.compute-1.amazonaws.com",
        "evil-1234.us-east-1.elb.amazonaws.com",
        "evil.us-east-1.elasticbeanstalk.com",
        "evil.us-east-1.rds.amazonaws.com",
        "evil.s3-website-us-east-1.amazonaws.com",
        "evil.execute-api.us-east-1.amazonaws.com",
        "evil.lambda-url.us-east-1.on.aws",
        "vpce-0123.sts.us-east-1.vpce.amazonaws.com",
        "evil.cloudfront.net",
        "a.b.c.d.sts.us-east-1.amazonaws.com",
        "user@sts.us-east-1.amazonaws.com",
        "sts.us-east-1.amazonaws.com@evil.example",
        "sts.us-east-1.amazonaws.com%2eevil.example",
        "sts..us-east-1.amazonaws.com",
    ];
    for host in evil {
        let found = goes_to(&format!("POST https://{host}/"), "us-east-1/sts", CALLER, &Endpoints::default());
        assert!(found.starts_with("no: "), "{host}: {found}");
    }
    // Spelled in another way it is the same host, and goes there without the port that was named.
    for host in ["STS.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com.", "sts.us-east-1.amazonaws.com:25"] {
        let found = goes_to(&format!("POST https://{host}/"), "us-east-1/sts", CALLER, &Endpoints::default());
        assert_eq!(found, "https://sts.us-east-1.amazonaws.com for us-east-1/sts", "{host}");
    }
    // Nor by a label that parameters or the signature put into a host name.
    for account in ["evil.example/", "evil.example#", "1@evil.example", "a.b"] {
        let body = format!("{{\"AccountId\":\"{account}\"}}");
        let says = format!("S3Control.GetPublicAccessBlock {body}");
        let found = goes_to("POST http://127.0.0.1:8700/", "us-east-1/s3", &says, &Endpoints::default());
        assert!(found.starts_with("no: ") || found.contains(".amazonaws.com for "), "{account}: {found}");
    }
}

#[test]
fn configured_endpoints_go_before_all_of_it() {
    let mut endpoints = Endpoints { all: None, services: std::collections::HashMap::new() };
    endpoints
        .services
        .insert("sts".to_owned(), Endpoints::parse("https://vpce-0123.sts.us-east-1.vpce.amazonaws.com").unwrap());
    check(
        &endpoints,
        &[
            (
                "POST https://sts.us-east-1.amazonaws.com/",
                "us-east-1/sts",
                CALLER,
                "https://vpce-0123.sts.us-east-1.vpce.amazonaws.com for us-east-1/sts",
            ),
            (
                "POST https://iam.amazonaws.com/",
                "us-east-1/iam",
                "Action=ListUsers&Version=2010-05-08",
                "https://iam.amazonaws.com for us-east-1/iam",
            ),
            // A host that nobody knows is none of ours either way.
            ("POST https://evil.example/", "us-east-1/sts", CALLER, "no: the request cannot be sent anywhere"),
        ],
    );
}
