//! What a request takes besides its operation's own IAM action: roles, versions, tags, verbs of parts.

use super::*;

fn json(scope: &str, target: &str, body: Value) -> Action {
    request("POST http://127.0.0.1/", scope).target(target, &body.to_string()).action()
}

fn form(scope: &str, form: &str) -> Action {
    request("POST http://127.0.0.1/", scope).form(form).action()
}

fn rest(line: &'static str, scope: &str, body: Value) -> Action {
    request(line, scope).header("content-type", "application/json").body(&body.to_string()).action()
}

fn dynamodb(operation: &str, body: Value) -> Action {
    json("us-west-2/dynamodb", &format!("DynamoDB_20120810.{operation}"), body)
}

const ROLE: &str = "arn:aws:iam::123456789012:role/admin";

/// No list of operations says where a role counts: any request that hands one over does.
#[test]
fn a_role_is_seen_wherever_it_stands() {
    let rest_xml = |line, body: &str| request(line, "us-west-2/s3").body(body).action();
    for action in [
        // By a member's name.
        json("us-west-2/sagemaker", "SageMaker.CreateModel", json!({"ModelName": "m", "ExecutionRoleArn": ROLE})),
        json(
            "us-west-2/codebuild",
            "CodeBuild_20161006.StartBuild",
            json!({"projectName": "p", "serviceRoleOverride": ROLE}),
        ),
        json(
            "us-west-2/events",
            "AWSEvents.PutTargets",
            json!({"Rule": "r", "Targets": [{"Id": "1", "Arn": "arn:aws:ecs:us-west-2:123456789012:cluster/c", "RoleArn": ROLE}]}),
        ),
        json(
            "us-west-2/ecs",
            "AmazonEC2ContainerServiceV20141113.RunTask",
            json!({"taskDefinition": "t", "overrides": {"taskRoleArn": ROLE}}),
        ),
        json("us-west-2/glue", "AWSGlue.CreateJob", json!({"Name": "j", "Role": "admin", "Command": {}})),
        json(
            "us-west-2/states",
            "AWSStepFunctions.CreateStateMachine",
            json!({"name": "m", "definition": "{}", "roleArn": ROLE}),
        ),
        form(
            "us-west-2/redshift",
            "Action=CreateCluster&Version=2012-12-01&ClusterIdentifier=c&NodeType=n&MasterUsername=u&IamRoles.IamRoleArn.1=arn:aws:iam::123456789012:role/admin",
        ),
        form(
            "us-west-2/redshift",
            "Action=ModifyClusterIamRoles&Version=2012-12-01&ClusterIdentifier=c&AddIamRoles.IamRoleArn.1=arn:aws:iam::123456789012:role/admin",
        ),
        form(
            "us-west-2/cloudformation",
            "Action=UpdateStack&Version=2010-05-15&StackName=s&RoleARN=arn:aws:iam::123456789012:role/admin",
        ),
        form(
            "us-west-2/rds",
            "Action=ModifyDBInstance&Version=2014-10-31&DBInstanceIdentifier=d&DomainIAMRoleName=admin",
        ),
        form(
            "us-west-2/ec2",
            "Action=CreateFlowLogs&Version=2016-11-15&ResourceType=VPC&ResourceId.1=vpc-1&DeliverLogsPermissionArn=arn:aws:iam::123456789012:role/admin",
        ),
        form(
            "us-west-2/ec2",
            "Action=CreateLaunchTemplate&Version=2016-11-15&LaunchTemplateName=t&LaunchTemplateData.IamInstanceProfile.Name=admin",
        ),
        rest(
            "PUT http://127.0.0.1/restapis/a/resources/b/methods/GET/integration",
            "us-west-2/apigateway",
            json!({"type": "AWS", "credentials": ROLE}),
        ),
        rest_xml(
            "PUT http://127.0.0.1/b-1?replication",
            "<ReplicationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Role>arn:aws:iam::123456789012:role/admin</Role><Rule><Status>Enabled</Status><Destination><Bucket>arn:aws:s3:::b-2</Bucket></Destination></Rule></ReplicationConfiguration>",
        ),
        // By a value, where the member may hold anything.
        json(
            "us-west-2/ssm",
            "AmazonSSM.StartAutomationExecution",
            json!({"DocumentName": "d", "Parameters": {"AutomationAssumeRole": [ROLE]}}),
        ),
        form(
            "us-west-2/sns",
            "Action=SetTopicAttributes&Version=2010-03-31&TopicArn=arn:aws:sns:us-west-2:123456789012:t&AttributeName=LambdaSuccessFeedbackRoleArn&AttributeValue=arn:aws:iam::123456789012:role/admin",
        ),
        form(
            "us-west-2/elasticbeanstalk",
            "Action=UpdateEnvironment&Version=2010-12-01&EnvironmentName=e&OptionSettings.member.1.Namespace=aws:autoscaling:launchconfiguration&OptionSettings.member.1.OptionName=IamInstanceProfile&OptionSettings.member.1.Value=admin",
        ),
    ] {
        assert!(action.iam_actions.iter().any(|it| it == "iam:PassRole"), "{action:?}");
        assert!(action.traits.contains(Trait::Privilege), "{action:?}");
        let is_role = |it: &String| it.contains(":role/admin") || it.contains(":instance-profile/admin");
        assert!(action.resources.iter().any(is_role), "{action:?}");
    }
}

/// Such a role is somebody to whom something is given, or is taken away.
#[test]
fn a_role_that_acts_for_itself_is_not_handed_over() {
    for action in [
        json(
            "us-west-2/kms",
            "TrentService.CreateGrant",
            json!({"KeyId": "k", "GranteePrincipal": ROLE, "Operations": ["Decrypt"]}),
        ),
        form(
            "us-west-2/rds",
            "Action=RemoveRoleFromDBInstance&Version=2014-10-31&DBInstanceIdentifier=d&FeatureName=f&RoleArn=arn:aws:iam::123456789012:role/admin",
        ),
        form(
            "us-west-2/sts",
            "Action=AssumeRole&Version=2011-06-15&RoleSessionName=s&RoleArn=arn:aws:iam::123456789012:role/admin",
        ),
    ] {
        assert!(!action.iam_actions.iter().any(|it| it == "iam:PassRole"), "{action:?}");
    }
}

#[test]
fn access_is_the_highest_of_all_that_is_needed() {
    let put = |headers: &[(&str, &str)]| {
        let plain = request("PUT http://127.0.0.1/b-1/k", "us-west-2/s3");
        headers.iter().fold(plain, |request, (name, value)| request.header(name, value)).action()
    };
    for (headers, access, needed) in [
        (&[][..], Access::Write, &["s3:PutObject"][..]),
        (&[("x-amz-acl", "public-read")], Access::Permissions, &["s3:PutObject", "s3:PutObjectAcl"]),
        (&[("x-amz-acl", "private")], Access::Write, &["s3:PutObject", "s3:PutObjectAcl"]),
        (&[("x-amz-grant-read", "id=x")], Access::Permissions, &["s3:PutObject", "s3:PutObjectAcl"]),
        (&[("x-amz-tagging", "a=b")], Access::Write, &["s3:PutObject", "s3:PutObjectTagging"]),
        (&[("x-amz-object-lock-legal-hold", "ON")], Access::Write, &["s3:PutObject", "s3:PutObjectLegalHold"]),
        (
            &[("x-amz-server-side-encryption-aws-kms-key-id", "k")],
            Access::Write,
            &["s3:PutObject", "kms:GenerateDataKey"],
        ),
    ] {
        let action = put(headers);
        assert_eq!(
            (action.access, &action.iam_actions[..]),
            (access, &needed.iter().map(|it| (*it).into()).collect::<Vec<_>>()[..]),
            "{headers:?}"
        );
    }
    let forced =
        request("DELETE http://127.0.0.1/b-1/k", "us-west-2/s3").header("x-amz-bypass-governance-retention", "true");
    assert_eq!(forced.action().access, Access::Permissions);
    assert_eq!(form("us-west-2/sts", "Action=GetSessionToken&Version=2011-06-15").access, Access::Permissions);
    assert_eq!(form("us-west-2/sts", "Action=GetCallerIdentity&Version=2011-06-15").access, Access::Read);
}

#[test]
fn a_copy_names_both_sides_and_the_version() {
    let copy = |source: &str| {
        request("PUT http://127.0.0.1/b-1/k", "us-west-2/s3").header("x-amz-copy-source", source).action()
    };
    let latest = copy("/b-2/a%20b");
    assert_eq!(latest.resources, ["arn:aws:s3:::b-1/k", "arn:aws:s3:::b-2/a b"]);
    assert_eq!(latest.iam_actions, ["s3:PutObject", "s3:GetObject"]);
    assert_eq!(copy("b-2/k?versionId=v").iam_actions, ["s3:PutObject", "s3:GetObjectVersion"]);
}

#[test]
fn tags_at_creation_take_the_right_to_tag() {
    let queue = form(
        "us-west-2/rds",
        "Action=CreateDBSubnetGroup&Version=2014-10-31&DBSubnetGroupName=g&DBSubnetGroupDescription=d&SubnetIds.SubnetIdentifier.1=s&Tags.Tag.1.Key=a&Tags.Tag.1.Value=b",
    );
    assert_eq!(queue.iam_actions, ["rds:CreateDBSubnetGroup", "rds:AddTagsToResource"]);
    let gateway = form(
        "us-west-2/ec2",
        "Action=CreateNatGateway&Version=2016-11-15&SubnetId=s&TagSpecification.1.ResourceType=natgateway",
    );
    assert_eq!(gateway.iam_actions, ["ec2:CreateNatGateway", "ec2:CreateTags"]);
}

#[test]
fn each_part_of_a_transaction_counts() {
    let table = |name: &str| format!("arn:aws:dynamodb:us-west-2:123456789012:table/{name}");
    let write = dynamodb(
        "TransactWriteItems",
        json!({"TransactItems": [{"Put": {"TableName": "a", "Item": {}}}, {"Delete": {"TableName": "b", "Key": {}}}]}),
    );
    assert_eq!(write.iam_actions, ["dynamodb:PutItem", "dynamodb:DeleteItem"]);
    assert_eq!(write.resources, [table("a"), table("b")]);
    let read = dynamodb(
        "TransactGetItems",
        json!({"TransactItems": [{"Get": {"TableName": "a", "Key": {}}}, {"Get": {"TableName": "b", "Key": {}}}]}),
    );
    assert_eq!(read.resources, [table("a"), table("b")]);
    let batch = dynamodb(
        "BatchExecuteStatement",
        json!({"Statements": [{"Statement": "SELECT * FROM \"a\".\"index\" WHERE k = 'from x'"}, {"Statement": "insert into b value {'k': 1}"}]}),
    );
    assert_eq!(batch.iam_actions, ["dynamodb:PartiQLSelect", "dynamodb:PartiQLInsert"]);
    assert_eq!((batch.resources, batch.access), (vec![table("a"), table("b")], Access::Write));
}

#[test]
fn a_statement_names_its_table_or_all() {
    let verbs = |verb: &str| vec![format!("dynamodb:PartiQL{verb}")];
    let all = || ["Select", "Insert", "Update", "Delete"].iter().flat_map(|it| verbs(it)).collect::<Vec<_>>();
    for (statement, iam_actions, table, access) in [
        ("SELECT a FROM t", verbs("Select"), "t", Access::Read),
        ("select \"from\" from \"my-t\" where a = 'it''s'", verbs("Select"), "my-t", Access::Read),
        ("UPDATE t SET a = 1 WHERE k = 2", verbs("Update"), "t", Access::Write),
        ("DELETE FROM t WHERE k = 'a'", verbs("Delete"), "t", Access::Write),
        ("INSERT INTO t VALUE {'k': 'select'}", verbs("Insert"), "t", Access::Write),
        ("SELECT * FROM t, u FROM v", all(), "*", Access::Write),
        ("SELECT (SELECT 1) FROM t", all(), "*", Access::Write),
        ("EXISTS(SELECT * FROM t)", all(), "*", Access::Write),
        ("-- SELECT\nDELETE FROM t", all(), "*", Access::Write),
        ("SELECT /* */ a FROM t", all(), "*", Access::Write),
        ("SELECT 'a FROM t", all(), "*", Access::Write),
        ("SELECT a FROM \"t\"\"u\"", all(), "*", Access::Write),
        ("SELECT a", all(), "*", Access::Write),
        ("DROP TABLE t", all(), "*", Access::Write),
        ("", all(), "*", Access::Write),
    ] {
        let action = dynamodb("ExecuteStatement", json!({"Statement": statement}));
        let resource = format!("arn:aws:dynamodb:us-west-2:123456789012:table/{table}");
        assert_eq!((action.resources, action.access), (vec![resource], access), "{statement}");
        assert_eq!(action.iam_actions, iam_actions, "{statement}");
    }
    let foreign = "SELECT a FROM \"arn:aws:dynamodb:us-west-2:210987654321:table/t\"";
    assert!(dynamodb("ExecuteStatement", json!({"Statement": foreign})).traits.contains(Trait::CrossAccount));
}

#[test]
fn other_accounts_are_seen_in_every_way_to_name_one() {
    for action in [
        request("GET http://127.0.0.1/b-1/k", "us-west-2/s3")
            .header("x-amz-expected-bucket-owner", "210987654321")
            .action(),
        json(
            "us-west-2/glue",
            "AWSGlue.GetTable",
            json!({"CatalogId": "210987654321", "DatabaseName": "d", "Name": "t"}),
        ),
        json(
            "us-west-2/ecr",
            "AmazonEC2ContainerRegistry_V20150921.BatchGetImage",
            json!({"registryId": "210987654321", "repositoryName": "r", "imageIds": []}),
        ),
        json(
            "us-west-2/ecr",
            "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
            json!({"registryIds": ["210987654321"]}),
        ),
        json(
            "us-west-2/sqs",
            "AmazonSQS.SendMessage",
            json!({"QueueUrl": "https://sqs.us-west-2.amazonaws.com/210987654321/q", "MessageBody": "m"}),
        ),
        json(
            "us-west-2/sqs",
            "AmazonSQS.GetQueueUrl",
            json!({"QueueName": "q", "QueueOwnerAWSAccountId": "210987654321"}),
        ),
        form(
            "us-west-2/sns",
            "Action=Publish&Version=2010-03-31&TopicArn=arn:aws:sns:us-west-2:210987654321:t&Message=m",
        ),
        form(
            "us-west-2/ec2",
            "Action=CreateVpcPeeringConnection&Version=2016-11-15&VpcId=v&PeerVpcId=w&PeerOwnerId=210987654321",
        ),
        form(
            "us-west-2/sts",
            "Action=AssumeRole&Version=2011-06-15&RoleSessionName=s&RoleArn=arn:aws:iam::210987654321:role/x",
        ),
    ] {
        assert!(action.traits.contains(Trait::CrossAccount), "{action:?}");
    }
}

/// A rule on the other account's name must meet it, and one on the same name here must not.
#[test]
fn a_resource_is_named_in_the_account_that_holds_it() {
    let image = |registry: &str| {
        let body = json!({"registryId": registry, "repositoryName": "r", "imageIds": []});
        json("us-west-2/ecr", "AmazonEC2ContainerRegistry_V20150921.BatchGetImage", body).resources
    };
    assert_eq!(image("210987654321"), ["arn:aws:ecr:us-west-2:210987654321:repository/r"]);
    assert_eq!(image(OWN), ["arn:aws:ecr:us-west-2:123456789012:repository/r"]);
    let table = json!({"CatalogId": "210987654321", "DatabaseName": "d", "Name": "t"});
    let table = json("us-west-2/glue", "AWSGlue.GetTable", table).resources;
    assert!(table.contains(&"arn:aws:glue:us-west-2:210987654321:database/d".to_owned()), "{table:?}");
    let copied = form(
        "us-west-2/rds",
        "Action=CopyDBSnapshot&Version=2014-10-31&SourceDBSnapshotIdentifier=a&TargetDBSnapshotIdentifier=b",
    );
    assert_eq!(copied.resources, ["a", "b"].map(|it| format!("arn:aws:rds:us-west-2:123456789012:snapshot:{it}")));
}

#[test]
fn access_past_the_proxy_is_a_credential() {
    let is_credential = |action: Action| action.traits.contains(Trait::Credential);
    for (target, scope, body) in [
        ("AmazonSSM.StartSession", "us-west-2/ssm", json!({"Target": "i-1"})),
        ("AmazonSSM.CreateActivation", "us-west-2/ssm", json!({"IamRole": "r"})),
        ("Lightsail_20161128.CreateKeyPair", "us-west-2/lightsail", json!({"keyPairName": "k"})),
        ("SageMaker.CreatePresignedMlflowTrackingServerUrl", "us-west-2/sagemaker", json!({"TrackingServerName": "t"})),
        (
            "TransferService.ImportSshPublicKey",
            "us-west-2/transfer",
            json!({"ServerId": "s", "UserName": "u", "SshPublicKeyBody": "k"}),
        ),
    ] {
        assert!(is_credential(json(scope, target, body)), "{target}");
    }
    let user = |more: &str| {
        form(
            "us-west-2/elasticache",
            &format!("Action=CreateUser&Version=2015-02-02&UserId=u&UserName=u&Engine=redis&AccessString=x{more}"),
        )
    };
    assert!(is_credential(user("&Passwords.member.1=known")));
    assert!(!is_credential(user("&AuthenticationMode.Type=iam")));
}

/// One suffix serves two partitions; hosts that contradict the scope stand in `aws-ambiguous.jsonl`.
#[test]
fn a_host_of_the_other_partition_with_the_same_suffix_is_its_own() {
    let list = request("POST https://iam.us-gov.amazonaws.com/", "us-gov-west-1/iam")
        .form("Action=GetUser&Version=2010-05-08&UserName=u")
        .action();
    assert_eq!(list.resources, ["arn:aws-us-gov:iam::123456789012:user/u"]);
}

/// Nothing but its name says what it may do, so that it must not pass as ordinary work.
#[test]
fn a_change_without_an_iam_action_is_unmapped() {
    let change = form("us-west-2/ec2", "Action=AssociateKmsKeyId&Version=2016-11-15");
    assert!(change.iam_actions.is_empty() && change.traits.contains(Trait::Unmapped));
    let facts = catalog::in_force();
    for name in facts.action_names() {
        let operation = facts.operation_named(name).unwrap();
        let is_gap = operation.row.iam_actions.is_empty() && !name.starts_with("aws:apigateway:");
        let is_change = operation.access() > Access::Read;
        assert_eq!(operation.traits.contains(Trait::Unmapped), is_gap && is_change, "{name}");
    }
}

/// Lambda takes a function by more than its name: the parts of its ARN, from the right.
#[test]
fn a_function_is_the_same_however_it_is_named() {
    let invoke = |name: &str| {
        let target = format!("POST http://127.0.0.1/2015-03-31/functions/{name}/invocations");
        rest(target.leak(), "us-west-2/lambda", json!({}))
    };
    for name in ["f", "function:f", "123456789012:f", "123456789012:function:f", "us-west-2:123456789012:function:f"] {
        let action = invoke(name);
        assert_eq!(action.resources, ["arn:aws:lambda:us-west-2:123456789012:function:f"], "{name}");
        assert!(!action.traits.contains(Trait::CrossAccount), "{name}");
        let with_alias = invoke(&format!("{name}:prod"));
        assert!(
            with_alias.resources.contains(&"arn:aws:lambda:us-west-2:123456789012:function:f".to_owned()),
            "{name}"
        );
    }
    for name in ["210987654321:f", "210987654321:f:prod", "210987654321:function:f", "eu-west-1:210987654321:f"] {
        assert!(invoke(name).traits.contains(Trait::CrossAccount), "{name}");
    }
}

#[test]
fn an_account_is_seen_in_front_of_a_name_too() {
    for action in [
        json(
            "us-west-2/glue",
            "AWSGlue.GetTable",
            json!({"CatalogId": "210987654321:s3tablescatalog/b", "DatabaseName": "d", "Name": "t"}),
        ),
        json(
            "us-west-2/sqs",
            "AmazonSQS.SendMessage",
            json!({"QueueUrl": "https://sqs.us-west-2.amazonaws.com//210987654321//q", "MessageBody": "m"}),
        ),
    ] {
        assert!(action.traits.contains(Trait::CrossAccount), "{action:?}");
    }
}
