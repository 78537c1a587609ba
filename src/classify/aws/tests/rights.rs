//! Resources, IAM actions, access, traits and routes.

use super::*;

fn iam(form: &str) -> Action {
    request("POST http://127.0.0.1:8080/", "us-east-1/iam").form(&format!("{form}&Version=2010-05-08")).action()
}

fn dynamodb(operation: &str, body: Value) -> Action {
    request("POST http://127.0.0.1:8080/", "us-west-2/dynamodb")
        .target(&format!("DynamoDB_20120810.{operation}"), &body.to_string())
        .action()
}

/// Rules on one object must not be met, or missed, by another one whose key looks like its bucket.
#[test]
fn a_name_that_repeats_what_precedes_it_is_another_resource() {
    let object = |path: &str| {
        let url = format!("http://127.0.0.1{path}");
        Request { url, ..request("GET http://x/", "us-west-2/s3") }.action().resources
    };
    assert_eq!(object("/bench/key"), ["arn:aws:s3:::bench/key"]);
    assert_eq!(object("/bench/bench/key"), ["arn:aws:s3:::bench/bench/key"]);
    assert_eq!(object("/bench//key"), ["arn:aws:s3:::bench//key"]);
    let json = |scope: &str, target: &str, body: Value| {
        request("POST http://127.0.0.1/", scope).target(target, &body.to_string())
    };
    let repository = json(
        "us-west-2/ecr",
        "AmazonEC2ContainerRegistry_V20150921.DeleteRepository",
        json!({"repositoryName": "repository/x"}),
    );
    assert_eq!(repository.action().resources, ["arn:aws:ecr:us-west-2:123456789012:repository/repository/x"]);
    // Here the name does say its kind, or a slash, a second time.
    let ssm = json("us-west-2/ssm", "AmazonSSM.GetParameter", json!({"Name": "/team/key"}));
    assert_eq!(ssm.action().resources, ["arn:aws:ssm:us-west-2:123456789012:parameter/team/key"]);
    let alias = json("us-west-2/kms", "TrentService.DeleteAlias", json!({"AliasName": "alias/x"}));
    assert!(alias.action().resources.contains(&"arn:aws:kms:us-west-2:123456789012:alias/x".to_owned()));
}

#[test]
fn resources_name_everything_the_request_touches() {
    let s3 = |line| request(line, "us-west-2/s3");
    let delete = s3("POST http://127.0.0.1/b-1?delete")
        .body("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key>a &amp; b</Key></Object><Object><Key>c/d</Key><VersionId>v</VersionId></Object></Delete>")
        .action();
    assert_eq!(delete.resources, ["arn:aws:s3:::b-1/a & b", "arn:aws:s3:::b-1/c/d"]);
    assert_eq!(delete.iam_actions, ["s3:DeleteObject", "s3:DeleteObjectVersion"]);
    let point = s3("GET https://ap-210987654321.s3-accesspoint.us-west-2.amazonaws.com/k").action();
    assert_eq!(point.resources, ["arn:aws:s3:us-west-2:210987654321:accesspoint/ap/object/k"]);
    assert!(point.traits.contains(Trait::CrossAccount));
    assert_eq!(iam("Action=CreateAccessKey&UserName=bob").resources, ["arn:aws:iam::123456789012:user/bob"]);
    assert_eq!(
        iam("Action=CreateUser&UserName=bob&Path=%2Fteam%2F").resources,
        ["arn:aws:iam::123456789012:user/team/bob"]
    );
    assert_eq!(iam("Action=ListUsers").resources, ["*"]);
    assert_eq!(
        dynamodb(
            "BatchWriteItem",
            json!({"RequestItems": {"a": [], "arn:aws:dynamodb:us-west-2:210987654321:table/b": []}})
        )
        .resources,
        ["arn:aws:dynamodb:us-west-2:123456789012:table/a", "arn:aws:dynamodb:us-west-2:210987654321:table/b"]
    );
    let kms = |key: &str| {
        request("POST http://127.0.0.1/", "us-west-2/kms")
            .target("TrentService.Encrypt", &json!({"KeyId": key, "Plaintext": "AAAA"}).to_string())
            .action()
    };
    assert_eq!(kms("1-2").resources, ["arn:aws:kms:us-west-2:123456789012:key/1-2"]);
    assert_eq!(kms("alias/x").resources, ["arn:aws:kms:us-west-2:123456789012:alias/x"]);
    assert_eq!(kms("1-2").shown_parameters()["Plaintext"], "[redacted, 4 bytes]");
    let lambda = |name: &str| {
        let url = format!("http://127.0.0.1/2015-03-31/functions/{name}/invocations");
        Request { url, ..request("POST http://x/", "us-west-2/lambda") }.action()
    };
    assert_eq!(lambda("fn").resources, ["arn:aws:lambda:us-west-2:123456789012:function:fn"]);
    assert_eq!(
        lambda("fn%3Aprod").resources,
        ["arn:aws:lambda:us-west-2:123456789012:function:fn:prod", "arn:aws:lambda:us-west-2:123456789012:function:fn"]
    );
    assert_eq!(lambda("210987654321%3Afunction%3Afn").resources, ["arn:aws:lambda:us-west-2:210987654321:function:fn"]);
    assert_eq!(lambda("fn").iam_actions, ["lambda:InvokeFunction"]);
    let ec2 = request("POST http://127.0.0.1/", "us-west-2/ec2")
        .form("Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1&InstanceId.2=i-2")
        .action();
    assert_eq!(
        ec2.resources,
        ["arn:aws:ec2:us-west-2:123456789012:instance/i-1", "arn:aws:ec2:us-west-2:123456789012:instance/i-2"]
    );
    assert_eq!(ec2.parameters["InstanceIds"], json!(["i-1", "i-2"]));
}

#[test]
fn a_role_handed_over_is_a_pass_role() {
    let create = request("POST http://127.0.0.1/2015-03-31/functions", "us-west-2/lambda")
        .header("content-type", "application/json")
        .body(r#"{"FunctionName":"f","Role":"arn:aws:iam::123456789012:role/admin","Code":{"ZipFile":"AAAA"}}"#)
        .action();
    assert_eq!(create.iam_actions, ["lambda:CreateFunction", "iam:PassRole"]);
    assert!(create.resources.contains(&"arn:aws:iam::123456789012:role/admin".to_owned()));
    assert!(create.traits.contains(Trait::Privilege));
    let run = |form: &str| {
        request("POST http://127.0.0.1/", "us-west-2/ec2")
            .form(&format!("Action=RunInstances&Version=2016-11-15&MinCount=1&MaxCount=1{form}"))
            .action()
    };
    assert!(!run("").traits.contains(Trait::Privilege));
    let with = run("&IamInstanceProfile.Name=ops&TagSpecification.1.ResourceType=instance");
    assert_eq!(with.iam_actions, ["ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"]);
    assert!(with.traits.contains(Trait::Privilege));
    assert!(with.resources.contains(&"arn:aws:iam::123456789012:instance-profile/ops".to_owned()));
}

#[test]
fn access_and_traits_follow_the_lists() {
    use Trait::*;
    let none: &[Trait] = &[];
    for (action, access, traits) in [
        (iam("Action=CreateAccessKey&UserName=u"), Access::Permissions, &[Credential, Privilege][..]),
        (iam("Action=ListUsers"), Access::List, none),
        (dynamodb("Scan", json!({"TableName": "t"})), Access::Read, &[Export]),
        (dynamodb("Query", json!({"TableName": "t"})), Access::Read, none),
        (dynamodb("ExecuteStatement", json!({"Statement": "SELECT * FROM t"})), Access::Read, none),
        (dynamodb("ExecuteStatement", json!({"Statement": " delete FROM t"})), Access::Write, none),
        (dynamodb("DeleteTable", json!({"TableName": "t"})), Access::Write, &[Destructive]),
        (request("GET http://127.0.0.1/b-1/k", "us-west-2/s3").action(), Access::Read, none),
        (
            request("POST http://127.0.0.1/", "us-west-2/athena")
                .target("AmazonAthena.StartQueryExecution", r#"{"QueryString":"UNLOAD (SELECT 1) TO 's3://x'"}"#)
                .action(),
            Access::Write,
            &[Export],
        ),
        (
            request("POST http://127.0.0.1/", "us-west-2/ssm")
                .target("AmazonSSM.SendCommand", r#"{"DocumentName":"AWS-RunShellScript","InstanceIds":["i-1"]}"#)
                .action(),
            Access::Write,
            &[Exec],
        ),
    ] {
        assert_eq!((action.access, action.traits), (access, traits.iter().copied().collect()), "{}", action.name);
    }
}

#[test]
fn other_accounts_are_seen() {
    let grant = |principal: &str| {
        request("POST http://127.0.0.1/", "us-west-2/kms")
            .target(
                "TrentService.CreateGrant",
                &json!({"KeyId": "k", "GranteePrincipal": principal, "Operations": ["Decrypt"]}).to_string(),
            )
            .action()
    };
    assert!(grant("arn:aws:iam::210987654321:role/x").traits.contains(Trait::CrossAccount));
    assert!(!grant("arn:aws:iam::123456789012:role/x").traits.contains(Trait::CrossAccount));
    let share = request("POST http://127.0.0.1/", "us-west-2/ec2")
        .form("Action=ModifySnapshotAttribute&Version=2016-11-15&SnapshotId=snap-1&OperationType=add&UserId.1=210987654321")
        .action();
    assert!(share.traits.contains(Trait::CrossAccount) && share.traits.contains(Trait::Sharing));
}

#[test]
fn routes_lead_to_the_real_host() {
    let route = |request: Request| {
        let route = request.classified().route.unwrap();
        format!("{} {} {}", route.host, route.signing_name, route.signing_region)
    };
    let form = |scope: &str, form: &str| route(request("POST http://127.0.0.1/", scope).form(form));
    assert_eq!(form("eu-west-1/iam", "Action=ListUsers&Version=2010-05-08"), "iam.amazonaws.com iam us-east-1");
    assert_eq!(form("us-east-1/iam", "Action=ListUsers&Version=2010-05-08"), "iam.amazonaws.com iam us-east-1");
    assert_eq!(
        form("us-gov-east-1/iam", "Action=ListUsers&Version=2010-05-08"),
        "iam.us-gov.amazonaws.com iam us-gov-west-1"
    );
    assert_eq!(
        form("cn-north-1/ec2", "Action=DescribeInstances&Version=2016-11-15"),
        "ec2.cn-north-1.amazonaws.com.cn ec2 cn-north-1"
    );
    let s3 = |line| route(request(line, "eu-west-1/s3"));
    assert_eq!(s3("GET http://127.0.0.1/b-1/k"), "s3.eu-west-1.amazonaws.com s3 eu-west-1");
    assert_eq!(s3("GET http://b-1.proxy.corp/k"), "b-1.s3.eu-west-1.amazonaws.com s3 eu-west-1");
    assert_eq!(s3("GET https://b-1.s3.amazonaws.com/k"), "b-1.s3.amazonaws.com s3 eu-west-1");
    assert_eq!(
        route(request("GET http://127.0.0.1/v20180820/jobs", "eu-west-1/s3").header("x-amz-account-id", OWN)),
        "123456789012.s3-control.eu-west-1.amazonaws.com s3 eu-west-1"
    );
    assert_eq!(
        route(request("POST http://127.0.0.1/", "eu-west-1/monitoring").form("Action=ListMetrics&Version=2010-08-01")),
        "monitoring.eu-west-1.amazonaws.com monitoring eu-west-1"
    );
    assert_eq!(request("GET http://elsewhere.example/", "eu-west-1/s3").classified().route, None);
}

#[test]
fn errors_speak_the_language_of_the_request() {
    let dialect = |request: Request| request.classified().dialect;
    assert_eq!(
        dialect(request("POST http://127.0.0.1/", "us-east-1/iam").form("Action=Nope&Version=2010-05-08")),
        Dialect::Query
    );
    assert_eq!(
        dialect(request("POST http://127.0.0.1/", "us-east-1/ec2").form("Action=Nope&Version=2016-11-15")),
        Dialect::Ec2
    );
    assert_eq!(
        dialect(request("POST http://127.0.0.1/", "us-east-1/kms").target("TrentService.Nope", "{}")),
        Dialect::Json
    );
    assert_eq!(dialect(request("GET http://127.0.0.1/b-1/k?nope", "us-east-1/s3")), Dialect::RestXml);
    assert_eq!(dialect(request("GET http://127.0.0.1/nope", "us-east-1/lambda")), Dialect::RestJson);
}

#[test]
fn unknown_operations_keep_what_is_known_of_them() {
    let classified = request("POST http://127.0.0.1/", "us-east-1/iam")
        .form("Action=PutFuturePolicy&Version=2010-05-08")
        .classified();
    let action = &classified.actions[0];
    assert_eq!((&*action.name, action.access), ("aws:iam:PutFuturePolicy", Access::Permissions));
    assert_eq!(classified.route.as_ref().unwrap().host, "iam.amazonaws.com");
    let read = request("POST http://127.0.0.1/", "us-east-1/kms").target("TrentService.ListFuture", "{}").classified();
    assert_eq!(read.actions[0].access, Access::Write);
    let odd = request("POST http://127.0.0.1/", "us-east-1/iam").form("Action=a%0Ab&Version=2010-05-08").classified();
    assert_eq!(odd.actions[0].name, "aws:iam:unknown");
}
