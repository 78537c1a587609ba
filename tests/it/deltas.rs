//! What people are told about a change of a policy or an access list before they decide: what it adds, what
//! it removes, and what of that is dangerous.

use serde_json::Value;

mod again;
mod services;

use crate::support::agent::{Agent, Call};
use crate::support::cloud::cloud;
use crate::support::sign::Keys;
use crate::support::site::{Setup, Site, shown};
use crate::support::upstream::{Reaction, Upstream};

const HOLD_ALL: &str = "\
rules:
  - id: everything
    match: { action: ['aws:*'] }
    decision: hold
    approvers: [security]
";

struct Case {
    site: Site,
    agent: Agent,
}

impl Case {
    #[track_caller]
    fn open() -> Self {
        let site = Setup::new(&cloud().url).rules(HOLD_ALL).start();
        let agent = site.agent("bot", "olga");
        Self { site, agent }
    }

    /// Runs the snippet at the cloud itself.
    #[track_caller]
    fn prepare(&self, snippet: &str) -> Value {
        let keys = Keys { id: "AKIAADMINADMINADMINA".to_owned(), secret: "secret".to_owned() };
        let admin = Agent { endpoint: cloud().url.clone(), keys, extra: Vec::new() };
        let result = admin.run(snippet);
        assert!(result.get("error").is_none(), "{result}");
        result
    }

    /// Sends what the snippet says, and gives the hold of it.
    #[track_caller]
    fn held(&self, snippet: &str) -> (Call, Value) {
        let call = self.agent.start(snippet);
        let id = self.site.pending(1).remove(0);
        (call, self.site.hold(&id))
    }

    /// What the hold of that call says it changes; the call then runs.
    #[track_caller]
    fn delta(&self, snippet: &str) -> Value {
        let (call, hold) = self.held(snippet);
        let id = hold["id"].as_str().unwrap();
        self.site.decide("alice", id, "allow");
        let result = call.wait();
        assert!(result.get("error").is_none(), "{result}");
        let deltas = hold["deltas"].as_array().unwrap();
        assert_eq!(deltas.len(), 1, "{hold}");
        assert_eq!(self.site.wait_for_record(id, "action.held")["deltas"], hold["deltas"]);
        deltas[0].clone()
    }
}

/// That some line of a member holds all of these words.
#[track_caller]
fn says(delta: &Value, member: &str, words: &[&str]) {
    let lines = delta[member].as_array().unwrap();
    let is_said = lines.iter().any(|line| words.iter().all(|word| line.as_str().unwrap().contains(word)));
    assert!(is_said, "{member} does not say {words:?}: {delta:#}");
}

#[track_caller]
fn is_empty(delta: &Value, members: &[&str]) {
    for member in members {
        assert_eq!(delta[member].as_array().unwrap().len(), 0, "{member}: {delta:#}");
    }
}

const READ_ONLY: &str = "import json
allow = lambda action, resource='*', **more: dict(Effect='Allow', Action=action, Resource=resource, **more)
policy = lambda *statements: json.dumps(dict(Version='2012-10-17', Statement=list(statements)))
result = {}
";

#[test]
fn an_inline_policy_is_compared_statement_by_statement() {
    let case = Case::open();
    let code = |text: &str| format!("{READ_ONLY}iam = client('iam')\n{text}");
    case.prepare(&code(
        "iam.create_user(UserName='delta-u')
iam.put_user_policy(UserName='delta-u', PolicyName='p', PolicyDocument=policy(
    allow(['s3:GetObject', 's3:ListBucket'], ['arn:aws:s3:::a', 'arn:aws:s3:::a/x']),
    dict(Effect='Deny', Action='s3:DeleteObject', Resource='*')))",
    ));
    // The same in another spelling.
    let (call, hold) = case.held(&code(
        "iam.put_user_policy(UserName='delta-u', PolicyName='p', PolicyDocument=policy(
    dict(Resource=['*'], Action=['S3:deleteobject'], Effect='Deny', Sid='other'),
    allow(['s3:listbucket', 's3:GETOBJECT', 's3:GetObject'], ['arn:aws:s3:::a/x', 'arn:aws:s3:::a'])))",
    ));
    let delta = &hold["deltas"][0];
    is_empty(delta, &["added", "removed", "changed", "dangers"]);
    assert_eq!(delta["before_sha256"].as_str().unwrap().len(), 64, "{delta}");
    let id = hold["id"].as_str().unwrap();
    let card = String::from_utf8(case.site.cli_as("alice", &["holds", "show", id]).stdout).unwrap();
    assert!(card.contains("CHANGE   inline policy p of user delta-u"), "{card}");
    assert!(card.contains("It adds nothing and removes nothing."), "{card}");
    case.site.decide("alice", id, "deny");
    call.wait();

    let snippet = code(
        "iam.put_user_policy(UserName='delta-u', PolicyName='p', PolicyDocument=policy(
    allow(['s3:GetObject', 's3:ListBucket', 'iam:Pass*'], ['arn:aws:s3:::a', 'arn:aws:s3:::a/x']),
    allow('*')))",
    );
    let (call, hold) = case.held(&snippet);
    let delta = &hold["deltas"][0];
    says(delta, "added", &["Allow * on *"]);
    says(delta, "changed", &["Action now also iam:Pass*"]);
    says(delta, "removed", &["Deny s3:DeleteObject on *"]);
    says(delta, "dangers", &["admin"]);
    says(delta, "dangers", &["iam:PassRole on arn:aws:s3:::a"]);
    says(delta, "dangers", &["a Deny is gone", "s3:DeleteObject"]);
    let id = hold["id"].as_str().unwrap();
    let card = String::from_utf8(case.site.cli_as("alice", &["holds", "show", id]).stdout).unwrap();
    for line in ["| ! admin: every action on every resource", "| + Allow * on *", "| - Deny s3:DeleteObject on *"] {
        assert!(card.contains(line), "{line}: {card}");
    }
    case.site.decide("alice", id, "allow");
    assert!(call.wait().get("error").is_none());

    let gone = case.delta(&code("iam.delete_user_policy(UserName='delta-u', PolicyName='p')"));
    says(&gone, "removed", &["Allow * on *"]);
    is_empty(&gone, &["added", "changed"]);
    case.site.verify();
}

#[test]
fn versions_attachments_and_boundaries_are_read() {
    let case = Case::open();
    let code = |text: &str| format!("{READ_ONLY}iam = client('iam')\n{text}");
    let arn = "arn:aws:iam::123456789012:policy/delta-p";
    case.prepare(&code(
        "iam.create_policy(PolicyName='delta-p', PolicyDocument=policy(allow('s3:GetObject', 'arn:aws:s3:::a/x')))
iam.create_user(UserName='delta-v')
iam.create_role(RoleName='delta-w', AssumeRolePolicyDocument=policy())",
    ));
    let version = case.delta(&code(&format!(
        "iam.create_policy_version(PolicyArn='{arn}', SetAsDefault=True, PolicyDocument=policy(allow('iam:*')))"
    )));
    assert_eq!(version["about"], format!("policy {arn}"));
    says(&version, "added", &["Allow iam:* on *"]);
    says(&version, "removed", &["Allow s3:GetObject on arn:aws:s3:::a/x"]);
    says(&version, "dangers", &["iam:PassRole on *"]);
    says(&version, "dangers", &["wildcard in Action: iam:*"]);

    let back = case.delta(&code(&format!("iam.set_default_policy_version(PolicyArn='{arn}', VersionId='v1')")));
    says(&back, "removed", &["Allow iam:* on *"]);
    says(&back, "added", &["Allow s3:GetObject"]);

    let attached = case.delta(&code(&format!("iam.attach_user_policy(UserName='delta-v', PolicyArn='{arn}')")));
    says(&attached, "added", &["attached", arn]);
    says(&attached, "added", &["Allow s3:GetObject on arn:aws:s3:::a/x"]);
    let bounded = case
        .delta(&code(&format!("iam.put_role_permissions_boundary(RoleName='delta-w', PermissionsBoundary='{arn}')")));
    says(&bounded, "added", &["boundary", arn]);
    let unbounded = case.delta(&code("iam.delete_role_permissions_boundary(RoleName='delta-w')"));
    says(&unbounded, "removed", &["boundary", arn]);
    says(&unbounded, "dangers", &["the permissions boundary is gone"]);
    let detached = case.delta(&code(&format!("iam.detach_user_policy(UserName='delta-v', PolicyArn='{arn}')")));
    says(&detached, "removed", &["attached", arn]);
    says(&detached, "removed", &["Allow s3:GetObject"]);

    // Its document is AWS's own, and this cloud has none of them.
    let (call, hold) = case.held(&code(
        "iam.attach_user_policy(UserName='delta-v', PolicyArn='arn:aws:iam::aws:policy/AdministratorAccess')",
    ));
    says(&hold["deltas"][0], "dangers", &["admin", "AdministratorAccess"]);
    case.site.decide("alice", hold["id"].as_str().unwrap(), "deny");
    call.wait();
    case.site.verify();
}

#[test]
fn a_trust_policy_opens_a_role() {
    let case = Case::open();
    let code = |text: &str| {
        format!(
            "{READ_ONLY}iam = client('iam')
trust = lambda principal, **more: policy(dict(Effect='Allow', Action='sts:AssumeRole', Principal=principal, **more))
{text}"
        )
    };
    case.prepare(&code(
        "iam.create_role(RoleName='delta-r', AssumeRolePolicyDocument=trust(dict(AWS='123456789012'),
    Condition=dict(Bool={'aws:MultiFactorAuthPresent': 'true'})))",
    ));
    let update = |document: &str| {
        case.delta(&code(&format!("iam.update_assume_role_policy(RoleName='delta-r', PolicyDocument={document})")))
    };
    let same = update(
        "trust(dict(AWS=['arn:aws:iam::123456789012:root']), Condition=dict(Bool={'AWS:multifactorauthpresent': ['true']}))",
    );
    is_empty(&same, &["added", "removed", "changed", "dangers"]);
    let bare = update("trust(dict(AWS='123456789012'))");
    says(&bare, "changed", &["Condition no more Bool AWS:multifactorauthpresent [true]"]);
    says(&bare, "dangers", &["a condition of an Allow is gone", "AWS:multifactorauthpresent"]);
    let other = update("trust(dict(AWS=['123456789012', '999999999999']))");
    says(&other, "changed", &["Principal now also 999999999999"]);
    says(&other, "dangers", &["another account, 999999999999", "sts:AssumeRole, without a condition"]);
    let everybody = update("trust('*')");
    says(&everybody, "dangers", &["everybody may assume the role (sts:AssumeRole), without a condition"]);
    let federated = update("trust(dict(Federated='arn:aws:iam::123456789012:oidc-provider/token.example.com'))");
    says(&federated, "dangers", &["vouches for", "no condition"]);
    case.site.verify();
}

#[test]
fn a_bucket_is_opened() {
    let case = Case::open();
    let code = |text: &str| format!("{READ_ONLY}s3 = client('s3')\n{text}");
    case.prepare(&code(
        "s3.create_bucket(Bucket='delta-b')
s3.put_object(Bucket='delta-b', Key='a key', Body=b'x')
s3.put_bucket_policy(Bucket='delta-b', Policy=policy(
    dict(Effect='Deny', Principal='*', Action='s3:*', Resource='arn:aws:s3:::delta-b/*', Condition=dict(Bool={'aws:SecureTransport': 'false'}))))
s3.put_public_access_block(Bucket='delta-b', PublicAccessBlockConfiguration=dict(
    BlockPublicAcls=True, IgnorePublicAcls=True, BlockPublicPolicy=True, RestrictPublicBuckets=True))",
    ));
    let policy = case.delta(&code(
        "s3.put_bucket_policy(Bucket='delta-b', Policy=policy(
    dict(Effect='Allow', Principal=dict(AWS='*'), Action='s3:GetObject', Resource='arn:aws:s3:::delta-b/*')))",
    ));
    assert_eq!(policy["about"], "policy of bucket delta-b");
    says(&policy, "added", &["Allow s3:GetObject on arn:aws:s3:::delta-b/* for *"]);
    says(&policy, "removed", &["Deny s3:*", "aws:SecureTransport [false]"]);
    says(&policy, "dangers", &["public: anybody may s3:GetObject, without a condition"]);
    says(&policy, "dangers", &["a Deny is gone"]);
    let list = case.delta(&code("s3.put_bucket_acl(Bucket='delta-b', ACL='public-read-write')"));
    says(&list, "added", &["WRITE for anybody"]);
    says(&list, "dangers", &["public: anybody has WRITE"]);
    is_empty(&list, &["removed"]);
    let object = case.delta(&code(
        "s3.put_object_acl(Bucket='delta-b', Key='a key', GrantRead='uri=\"http://acs.amazonaws.com/groups/global/AuthenticatedUsers\"')",
    ));
    says(&object, "dangers", &["anybody with an AWS account has READ"]);
    says(&object, "removed", &["FULL_CONTROL for the owner"]);
    let block = case.delta(&code(
        "s3.put_public_access_block(Bucket='delta-b', PublicAccessBlockConfiguration=dict(
    BlockPublicAcls=True, IgnorePublicAcls=True, BlockPublicPolicy=False, RestrictPublicBuckets=True))",
    ));
    says(&block, "dangers", &["no more kept out: BlockPublicPolicy"]);
    assert_eq!(block["dangers"].as_array().unwrap().len(), 1, "{block}");
    case.site.verify();
}

#[test]
fn keys_queues_topics_functions_and_networks_are_opened() {
    let case = Case::open();
    let ids = case.prepare(&format!(
        "{READ_ONLY}key = client('kms').create_key()['KeyMetadata']['KeyId']
topic = client('sns').create_topic(Name='delta-t')['TopicArn']
queue = client('sqs').create_queue(QueueName='delta-q')['QueueUrl']
other = client('sqs').create_queue(QueueName='delta-o')['QueueUrl']
vpc = client('ec2').create_vpc(CidrBlock='10.9.0.0/16')['Vpc']['VpcId']
group = client('ec2').create_security_group(GroupName='delta-g', Description='d', VpcId=vpc)['GroupId']
client('secretsmanager').create_secret(Name='delta-s', SecretString='x')
client('ecr').create_repository(repositoryName='delta-e')
result = dict(key=key, topic=topic, queue=queue, other=other, group=group)"
    ));
    let id = |name: &str| ids[name].as_str().unwrap();
    let code = |text: &str| {
        let text = ["key", "topic", "queue", "other", "group"]
            .iter()
            .fold(text.to_owned(), |text, name| text.replace(&format!("${name}"), &format!("'{}'", id(name))));
        format!("{READ_ONLY}{text}")
    };
    let key = case.delta(&code(
        "client('kms').put_key_policy(KeyId=$key, PolicyName='default', Policy=policy(
    allow('kms:*', Principal=dict(AWS='arn:aws:iam::123456789012:root')),
    allow('kms:Decrypt', Principal=dict(AWS='arn:aws:iam::888888888888:role/reader'))))",
    ));
    says(&key, "added", &["Allow kms:Decrypt", "888888888888:role/reader"]);
    says(&key, "dangers", &["another account, 888888888888", "kms:Decrypt"]);
    let grant = case.delta(&code(
        "client('kms').create_grant(KeyId=$key, GranteePrincipal='arn:aws:iam::888888888888:root', Operations=['Decrypt', 'CreateGrant'])",
    ));
    says(&grant, "added", &["CreateGrant, Decrypt", "888888888888"]);
    says(&grant, "dangers", &["may give grants"]);

    let topic = case.delta(&code(
        "client('sns').set_topic_attributes(TopicArn=$topic, AttributeName='Policy', AttributeValue=policy(
    allow('sns:Publish', $topic, Principal='*')))",
    ));
    says(&topic, "dangers", &["public: anybody may sns:Publish"]);
    let queue = case.delta(&code(
        "client('sqs').set_queue_attributes(QueueUrl=$queue, Attributes=dict(Policy=policy(
    allow('sqs:SendMessage', Principal=dict(AWS='888888888888')))))",
    ));
    says(&queue, "dangers", &["another account, 888888888888"]);
    let more = case.delta(&code(
        "client('sqs').add_permission(QueueUrl=$other, Label='l', AWSAccountIds=['777777777777'], Actions=['ReceiveMessage'])",
    ));
    says(&more, "added", &["SQS:ReceiveMessage", "777777777777"]);
    is_empty(&more, &["removed"]);
    let less = case.delta(&code("client('sqs').remove_permission(QueueUrl=$other, Label='l')"));
    is_empty(&less, &["added", "dangers"]);
    says(&less, "removed", &["SQS:ReceiveMessage", "777777777777"]);
    let secret = case.delta(&code(
        "client('secretsmanager').put_resource_policy(SecretId='delta-s', ResourcePolicy=policy(
    allow('secretsmanager:GetSecretValue', Principal=dict(AWS='888888888888'))))",
    ));
    says(&secret, "dangers", &["another account, 888888888888"]);
    let images = case.delta(&code(
        "client('ecr').set_repository_policy(repositoryName='delta-e', policyText=policy(
    dict(Effect='Allow', Action='ecr:*', Principal='*')))",
    ));
    says(&images, "dangers", &["public: anybody may ecr:*"]);

    let rule = "client('ec2').authorize_security_group_ingress(GroupId=$group, IpPermissions=[
    dict(IpProtocol='tcp', FromPort=22, ToPort=22, IpRanges=[dict(CidrIp='0.0.0.0/0')]),
    dict(IpProtocol='-1', Ipv6Ranges=[dict(CidrIpv6='::/0')])])";
    let network = case.delta(&code(rule));
    says(&network, "added", &["ingress: tcp, port 22, from", "0.0.0.0/0"]);
    says(&network, "dangers", &["open to everybody", "0.0.0.0/0", "tcp, port 22"]);
    says(&network, "dangers", &["open to everybody", "::/0", "all ports"]);
    let network = case.delta(&code(
        "client('ec2').authorize_security_group_ingress(GroupId=$group, IpProtocol='tcp', FromPort=80, ToPort=90, CidrIp='10.0.0.0/8')",
    ));
    is_empty(&network, &["dangers", "removed"]);
    let network = case.delta(&code(
        "client('ec2').revoke_security_group_ingress(GroupId=$group, IpProtocol='tcp', FromPort=22, ToPort=22, CidrIp='0.0.0.0/0')",
    ));
    says(&network, "removed", &["port 22", "0.0.0.0/0"]);
    is_empty(&network, &["dangers", "added"]);
    case.site.verify();
}

const PUT: &str =
    "result = client('iam', retries={'total_max_attempts': 1}).put_user_policy(UserName='u', PolicyName='p',
    PolicyDocument='{\"Statement\": {\"Effect\": \"Allow\", \"Action\": \"*\", \"Resource\": \"*\"}}')";

/// An upstream that keeps its policies to itself, or never answers, delays nobody for long and is told.
#[test]
fn what_cannot_be_read_is_said() {
    let denied = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
    for (reaction, why) in
        [(Reaction::Answer(403, denied.to_owned()), "AccessDenied"), (Reaction::Hang, "no answer within 3 s")]
    {
        let upstream = Upstream::start(move |received| match received.text().contains("Action=GetUserPolicy") {
            true => reaction.clone(),
            false => Reaction::Answer(200, "<PutUserPolicyResponse/>".to_owned()),
        });
        let site = Setup::new(upstream.url()).rules(HOLD_ALL).start();
        let call = site.agent("bot", "olga").start(PUT);
        let id = site.pending(1).remove(0);
        let hold = site.hold(&id);
        assert_eq!(hold["deltas"][0]["before_unread"], why, "{hold}");
        says(&hold["deltas"][0], "added", &["Allow * on *"]);
        says(&hold["deltas"][0], "dangers", &["admin"]);
        let card = String::from_utf8(site.cli_as("alice", &["holds", "show", &id]).stdout).unwrap();
        assert!(card.contains("could not be read") && card.contains(why), "{card}");
        site.decide("alice", &id, "allow");
        call.wait();
        site.verify();
    }
}

/// A document that has more than one reading, or is no policy, is not passed off as harmless.
#[test]
fn what_cannot_be_compared_is_said() {
    let upstream = Upstream::answering("<PutBucketPolicyResponse/>");
    let site = Setup::new(upstream.url()).rules(HOLD_ALL).start();
    let agent = site.agent("bot", "olga");
    for (policy, why) in [
        (r#"'{"Statement":{"Effect":"Allow","Action":"s3:x","Action":"*","Resource":"*","Principal":"*"}}'"#, "twice"),
        (r#"'{"Statement":' + '[' * 1000 + ']' * 1000 + '}'"#, "recursion limit"),
        ("'x' * (10 << 20)", "too large"),
        ("'{}'", "no Statement"),
    ] {
        let call = agent.start(&format!(
            "result = client('s3', retries={{'total_max_attempts': 1}}).put_bucket_policy(Bucket='bucket', Policy={policy})"
        ));
        let id = site.pending(1).remove(0);
        let delta = &site.hold(&id)["deltas"][0];
        assert!(delta["doubt"].as_str().unwrap().contains(why), "{policy}: {delta}");
        let card = String::from_utf8(site.cli_as("alice", &["holds", "show", &id]).stdout).unwrap();
        assert!(card.contains("could not be made out"), "{card}");
        site.decide("alice", &id, "deny");
        call.wait();
    }
}

/// Nothing is read for what nobody is asked about, nor where the operator does not want it.
#[test]
fn nothing_is_read_without_a_hold() {
    let allow = "rules:\n  - id: all\n    match: { action: ['aws:*'] }\n    decision: allow\n";
    for (rules, config) in [(allow, ""), (HOLD_ALL, "read_before_hold: false")] {
        let upstream = Upstream::answering("<PutUserPolicyResponse/>");
        let site = Setup::new(upstream.url()).rules(rules).upstream_config(config).start();
        let call = site.agent("bot", "olga").start(PUT);
        if rules == HOLD_ALL {
            let id = site.pending(1).remove(0);
            let hold = site.hold(&id);
            assert!(hold["deltas"][0]["before_unread"].as_str().unwrap().contains("switched off"), "{hold}");
            says(&hold["deltas"][0], "dangers", &["admin"]);
            site.decide("alice", &id, "allow");
        }
        call.wait();
        assert_eq!(upstream.received().len(), 1);
    }
}

/// An approver who takes a statement out is shown what is left of the change.
#[test]
fn a_modified_change_is_compared_anew() {
    let case = Case::open();
    case.prepare("client('iam').create_user(UserName='delta-m')\nresult = {}");
    let (call, hold) = case.held(&format!(
        "{READ_ONLY}client('iam').put_user_policy(UserName='delta-m', PolicyName='p', PolicyDocument=policy(allow('*')))"
    ));
    let id = hold["id"].as_str().unwrap();
    let policy = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::a/x"}}"#;
    let set = format!("PolicyDocument={policy}");
    let output = case.site.cli_as("alice", &["modify", id, "--set", &set, "--reason", "less"]);
    assert!(output.status.success(), "{}", shown(&output));
    let delta = &case.site.hold(id)["deltas"][0];
    says(delta, "added", &["Allow s3:GetObject on arn:aws:s3:::a/x"]);
    is_empty(delta, &["dangers"]);
    call.wait();
}
