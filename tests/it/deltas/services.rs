//! The services whose policies are compared, each at an AWS that keeps them.

use super::*;

/// A snippet with names of what was prepared put in.
fn snippet(text: &str, ids: &Value) -> String {
    let members = ids.as_object().unwrap().iter();
    let text = members.fold(text.to_owned(), |text, (name, id)| text.replace(&format!("${name}"), &id.to_string()));
    format!("{READ_ONLY}other = dict(AWS='arn:aws:iam::888888888888:root')\n{text}")
}

#[test]
fn functions_are_opened_and_closed() {
    let case = Case::open();
    let ids = case.prepare(&format!(
        "{READ_ONLY}import io, zipfile
packed = io.BytesIO()
zipfile.ZipFile(packed, 'w').writestr('f.py', 'def h(a, b): pass')
role = client('iam').create_role(RoleName='delta-f', AssumeRolePolicyDocument=policy())['Role']['Arn']
client('lambda').create_function(FunctionName='delta-f', Runtime='python3.12', Role=role, Handler='f.h',
    Code=dict(ZipFile=packed.getvalue()))"
    ));
    let add = |who: &str, sid: &str| {
        let call = format!(
            "client('lambda').add_permission(FunctionName='delta-f', StatementId='{sid}', Action='lambda:InvokeFunction', {who})"
        );
        case.delta(&snippet(&call, &ids))
    };
    let everybody = add("Principal='*'", "a");
    assert_eq!(everybody["about"], "policy of function delta-f");
    says(&everybody, "added", &["Allow lambda:InvokeFunction", "for *"]);
    says(&everybody, "dangers", &["public: anybody may lambda:InvokeFunction"]);
    let service = add("Principal='s3.amazonaws.com', SourceArn='arn:aws:s3:::delta'", "b");
    says(&service, "added", &["s3.amazonaws.com", "arn:aws:s3:::delta"]);
    is_empty(&service, &["removed", "changed"]);
    let account = add("Principal='888888888888'", "c");
    says(&account, "dangers", &["another account, 888888888888"]);
    let gone =
        case.delta(&snippet("client('lambda').remove_permission(FunctionName='delta-f', StatementId='a')", &ids));
    says(&gone, "removed", &["Allow lambda:InvokeFunction", "for *"]);
    is_empty(&gone, &["added", "dangers"]);
    case.site.verify();
}

#[test]
fn policies_of_tables_streams_and_catalogs_are_compared() {
    let case = Case::open();
    let ids = case.prepare(&format!(
        "{READ_ONLY}table = client('dynamodb').create_table(TableName='delta-t', BillingMode='PAY_PER_REQUEST',
    KeySchema=[dict(AttributeName='k', KeyType='HASH')],
    AttributeDefinitions=[dict(AttributeName='k', AttributeType='S')])['TableDescription']['TableArn']
client('kinesis').create_stream(StreamName='delta-s', ShardCount=1)
stream = client('kinesis').describe_stream(StreamName='delta-s')['StreamDescription']['StreamARN']
result = dict(table=table, stream=stream)"
    ));
    let both = |put: &str, delete: &str, about: &str| {
        let call = |statement: &str| case.delta(&snippet(&put.replace("POLICY", statement), &ids));
        let first = call("policy(allow('*', '*', Principal=other, Sid='a'))");
        assert!(first["about"].as_str().unwrap().starts_with(about), "{first}");
        assert_eq!((&first["before_sha256"], &first["before_unread"]), (&Value::Null, &Value::Null), "{first}");
        says(&first, "dangers", &["another account, 888888888888"]);
        let second = call("policy(allow('*', '*', Principal=dict(AWS='*')))");
        says(&second, "changed", &["Principal now also *", "no more"]);
        says(&second, "dangers", &["public: anybody may *"]);
        assert_eq!(second["before_sha256"].as_str().unwrap().len(), 64, "{second}");
        let gone = case.delta(&snippet(delete, &ids));
        says(&gone, "removed", &["Allow * on *", "for *"]);
        is_empty(&gone, &["added", "dangers"]);
    };
    both(
        "client('dynamodb').put_resource_policy(ResourceArn=$table, Policy=POLICY)",
        "client('dynamodb').delete_resource_policy(ResourceArn=$table)",
        "policy of table or stream arn:aws:dynamodb:",
    );
    both(
        "client('kinesis').put_resource_policy(ResourceARN=$stream, Policy=POLICY)",
        "client('kinesis').delete_resource_policy(ResourceARN=$stream)",
        "policy of stream arn:aws:kinesis:",
    );
    both(
        "client('glue').put_resource_policy(PolicyInJson=POLICY)",
        "client('glue').delete_resource_policy()",
        "policy of catalog",
    );
    case.site.verify();
}

#[test]
fn secrets_images_topics_queues_and_keys_are_closed_again() {
    let case = Case::open();
    let ids = case.prepare(&format!(
        "{READ_ONLY}open_to_all = lambda action: policy(dict(Effect='Allow', Action=action, Resource='*', Principal='*', Sid='all'))
client('secretsmanager').create_secret(Name='delta-c', SecretString='x')
client('secretsmanager').put_resource_policy(SecretId='delta-c', ResourcePolicy=open_to_all('secretsmanager:*'))
client('ecr').create_repository(repositoryName='delta-c')
client('ecr').set_repository_policy(repositoryName='delta-c', policyText=open_to_all('ecr:*'))
topic = client('sns').create_topic(Name='delta-c')['TopicArn']
key = client('kms').create_key()['KeyMetadata']['KeyId']
grant = client('kms').create_grant(KeyId=key, GranteePrincipal='arn:aws:iam::888888888888:root',
    Operations=['Decrypt'])['GrantId']
result = dict(topic=topic, key=key, grant=grant)"
    ));
    let delta = |call: &str| case.delta(&snippet(call, &ids));
    for (call, action) in [
        ("client('secretsmanager').delete_resource_policy(SecretId='delta-c')", "secretsmanager:*"),
        ("client('ecr').delete_repository_policy(repositoryName='delta-c')", "ecr:*"),
    ] {
        let gone = delta(call);
        says(&gone, "removed", &["Allow", action, "for *"]);
        is_empty(&gone, &["added", "dangers"]);
    }
    let topic = delta(
        "client('sns').add_permission(TopicArn=$topic, Label='l', AWSAccountId=['888888888888'], ActionName=['Publish'])",
    );
    says(&topic, "added", &["SNS:Publish", "888888888888"]);
    says(&topic, "dangers", &["another account, 888888888888"]);
    let topic = delta("client('sns').remove_permission(TopicArn=$topic, Label='l')");
    says(&topic, "removed", &["SNS:Publish", "888888888888"]);
    is_empty(&topic, &["added", "dangers"]);
    let grant = delta("client('kms').revoke_grant(KeyId=$key, GrantId=$grant)");
    says(&grant, "removed", &["Decrypt", "888888888888"]);
    is_empty(&grant, &["added", "dangers"]);
    let key = delta("client('kms').create_key(Policy=policy(allow('kms:*', Principal=dict(AWS='*'))))");
    says(&key, "dangers", &["public: anybody may kms:*"]);
    case.site.verify();
}

#[test]
fn roles_buckets_and_ways_out_are_compared() {
    let case = Case::open();
    let ids = case.prepare(&format!(
        "{READ_ONLY}s3 = client('s3')
s3.create_bucket(Bucket='delta-r')
s3.put_bucket_policy(Bucket='delta-r', Policy=policy(
    dict(Effect='Deny', Principal='*', Action='s3:*', Resource='arn:aws:s3:::delta-r/*')))
s3.put_public_access_block(Bucket='delta-r', PublicAccessBlockConfiguration=dict(
    BlockPublicAcls=True, IgnorePublicAcls=True, BlockPublicPolicy=True, RestrictPublicBuckets=True))
vpc = client('ec2').create_vpc(CidrBlock='10.8.0.0/16')['Vpc']['VpcId']
group = client('ec2').create_security_group(GroupName='delta-r', Description='d', VpcId=vpc)['GroupId']
result = dict(group=group)"
    ));
    let delta = |call: &str| case.delta(&snippet(call, &ids));
    let role = delta(
        "client('iam').create_role(RoleName='delta-new', AssumeRolePolicyDocument=policy(
    dict(Effect='Allow', Action='sts:AssumeRole', Principal=other)))",
    );
    assert_eq!(role["about"], "trust policy of the new role delta-new");
    says(&role, "dangers", &["another account, 888888888888", "sts:AssumeRole"]);
    let block = delta("client('s3').delete_public_access_block(Bucket='delta-r')");
    for switch in ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"] {
        says(&block, "dangers", &["no more kept out", switch]);
    }
    let policy = delta("client('s3').delete_bucket_policy(Bucket='delta-r')");
    says(&policy, "removed", &["Deny s3:*"]);
    says(&policy, "dangers", &["a Deny is gone"]);
    let closed = delta(
        "client('ec2').revoke_security_group_egress(GroupId=$group, IpPermissions=[
    dict(IpProtocol='-1', IpRanges=[dict(CidrIp='0.0.0.0/0')])])",
    );
    says(&closed, "removed", &["egress", "0.0.0.0/0"]);
    let open = delta(
        "client('ec2').authorize_security_group_egress(GroupId=$group, IpPermissions=[
    dict(IpProtocol='tcp', FromPort=443, ToPort=443, IpRanges=[dict(CidrIp='0.0.0.0/0')])])",
    );
    says(&open, "added", &["egress: tcp, port 443", "0.0.0.0/0"]);
    is_empty(&open, &["removed"]);
    case.site.verify();
}
