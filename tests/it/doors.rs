//! The doors by which agents come in: an endpoint of ours (plain, TLS, unix socket, HTTP/2), a proxy, AWS's own
//! names. Unmodified SDKs get the same through each of them as from moto directly.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::cloud::cloud;
use crate::support::root;
use crate::support::site::{HOLD_KEYS, REAL_KEY, REAL_SECRET, Setup, Site};

mod attack;
mod tunnel;

const DOORS: [&str; 3] = ["endpoint", "proxy", "transparent"];

/// A site with all doors, before moto.
fn site() -> Site {
    Setup::new(&cloud().url).rules(HOLD_KEYS).config("rules:\n  privileged: allow\n").with_doors().start()
}

fn directly(agent: &Agent) -> Agent {
    Agent { endpoint: cloud().url.clone(), extra: Vec::new(), ..agent.clone() }
}

/// What an agent does all day, without anything that differs from run to run but for `NAME`.
const TOUR: &str = r#"
s3, iam, ddb, sqs = client('s3'), client('iam'), client('dynamodb'), client('sqs')
s3.create_bucket(Bucket='NAME')
s3.put_object(Bucket='NAME', Key='a b/ü+~c', Body=b'x' * 70000, ContentType='text/plain')
got = s3.get_object(Bucket='NAME', Key='a b/ü+~c')
keys = [it['Key'] for it in s3.list_objects_v2(Bucket='NAME')['Contents']]
try:
    s3.get_object(Bucket='NAME', Key='none')
except s3.exceptions.NoSuchKey as error:
    missing = [error.response['Error']['Code'], error.response['ResponseMetadata']['HTTPStatusCode']]
ddb.create_table(TableName='NAME', BillingMode='PAY_PER_REQUEST',
                 KeySchema=[{'AttributeName': 'k', 'KeyType': 'HASH'}],
                 AttributeDefinitions=[{'AttributeName': 'k', 'AttributeType': 'S'}])
ddb.put_item(TableName='NAME', Item={'k': {'S': 'ü'}, 'n': {'N': '7'}})
queue = sqs.create_queue(QueueName='NAME')['QueueUrl']
sqs.send_message(QueueUrl=queue, MessageBody='hello')
result = [len(got['Body'].read()), got['ETag'], got['ContentType'], keys, missing,
          iam.create_user(UserName='NAME')['User']['Arn'],
          ddb.get_item(TableName='NAME', Key={'k': {'S': 'ü'}})['Item'],
          sqs.receive_message(QueueUrl=queue)['Messages'][0]['Body'],
          client('sts').get_caller_identity()['Account']]
"#;

fn tour(agent: &Agent, name: &str) -> Value {
    let result = agent.run(&TOUR.replace("NAME", name));
    serde_json::from_str(&result.to_string().replace(name, "NAME")).unwrap()
}

#[test]
fn boto3_gets_the_same_through_every_door() {
    let site = site();
    let bot = site.agent("bot", "olga");
    let expected = tour(&directly(&bot), "tour-directly");
    assert_eq!(expected[0], 70000, "{expected}");
    for door in DOORS {
        assert_eq!(tour(&site.at_door("bot", door), &format!("tour-{door}")), expected, "{door}");
    }
    let names: Vec<_> = site.records().iter().filter_map(|it| it["action"].as_str().map(str::to_owned)).collect();
    for name in ["aws:s3:PutObject", "aws:dynamodb:PutItem", "aws:sqs:SendMessage", "aws:iam:CreateUser"] {
        assert_eq!(names.iter().filter(|it| *it == name).count(), 3, "{name}: {names:?}");
    }
    assert_eq!(site.metric("countersign_unknown_total"), 0);
    site.verify();
}

#[test]
fn the_aws_cli_gets_the_same_through_every_door() {
    let site = site();
    let bot = site.agent("bot", "olga");
    let shown = |output: Output| {
        assert!(output.status.success(), "{}", crate::support::site::shown(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let run = |agent: &Agent, name: &str| {
        let bucket = format!("s3://{name}");
        let source = root().join("Cargo.toml");
        let mut all = shown(agent.aws(&["s3", "mb", &bucket]));
        all +=
            &shown(agent.aws(&["s3", "cp", "--no-progress", source.to_str().unwrap(), &format!("{bucket}/dir/one")]))
                .replace('\r', "\n");
        all += &shown(agent.aws(&["s3", "cp", &format!("{bucket}/dir/one"), "-"]));
        all += &shown(agent.aws(&["ec2", "describe-availability-zones"]));
        all += &shown(agent.aws(&["iam", "create-user", "--user-name", name, "--query", "User.Arn"]));
        let lines: Vec<_> =
            all.replace(name, "NAME").lines().filter(|line| !line.contains("remaining")).map(str::to_owned).collect();
        lines.join("\n")
    };
    let expected = run(&directly(&bot), "cli-directly");
    for door in DOORS {
        assert_eq!(run(&site.at_door("bot", door), &format!("cli-{door}")), expected, "{door}");
    }
    site.verify();
}

#[test]
fn the_sdk_for_javascript_gets_the_same_through_every_door() {
    let site = site();
    let bot = site.agent("bot", "olga");
    let tour = |agent: &Agent, name: &str| {
        let result = agent.start_js("tour", name).wait();
        serde_json::from_str::<Value>(&result.to_string().replace(name, "NAME")).unwrap()
    };
    let expected = tour(&directly(&bot), "js-directly");
    assert_eq!(expected[0], "büdget", "{expected}");
    for door in DOORS {
        let mut agent = site.at_door("bot", door);
        if door == "proxy" {
            agent = agent.with("NODE_OPTIONS", &format!("--require={}", root().join("tests/js/doors.cjs").display()));
        }
        assert_eq!(tour(&agent, &format!("js-{door}")), expected, "{door}");
    }
    site.verify();
}

#[test]
fn a_call_is_held_and_decided_through_every_door() {
    let site = site();
    let bot = site.agent("bot", "olga");
    directly(&bot).run("client('iam').create_user(UserName='held-at-doors')");
    let ask = "result = client('iam').create_access_key(UserName='held-at-doors')['AccessKey']['Status']";
    let mut digests = Vec::new();
    for door in DOORS {
        let agent = site.at_door("bot", door);
        let mut call = agent.start(ask);
        let id = site.pending(1).remove(0);
        assert!(call.is_running());
        site.decide("alice", &id, "allow");
        assert_eq!(call.wait(), "Active", "{door}");
        digests.push(site.hold(&id)["digest"].clone());
        let delete = "
iam = client('iam')
for key in iam.list_access_keys(UserName='held-at-doors')['AccessKeyMetadata']:
    iam.delete_access_key(UserName='held-at-doors', AccessKeyId=key['AccessKeyId'])
";
        directly(&bot).run(delete);
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]), "it is the same call through each: {digests:?}");
    let call = site.at_door("bot", "proxy").start(ask);
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "deny");
    let result = call.wait();
    assert_eq!((&result["error"], &result["status"]), (&json!("AccessDenied"), &json!(403)), "{result}");
    site.verify();
}

/// curl, which signs by itself.
fn curl(site: &Site, agent: &Agent, arguments: &[&str]) -> Output {
    let user = format!("{}:{}", agent.keys.id, agent.keys.secret);
    Command::new("curl")
        .args(["-sS", "--max-time", "20", "--aws-sigv4", "aws:amz:us-east-1:sts", "--user", &user])
        .args(["--cacert", site.data().join("interception/ca.pem").to_str().unwrap()])
        .args(["-G", "-d", "Action=GetCallerIdentity&Version=2011-06-15", "-w", "\n%{http_version} %{http_code}"])
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .output()
        .unwrap()
}

#[track_caller]
fn check_identity(output: &Output, ending: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("<Account>123456789012</Account>"), "{}", crate::support::site::shown(output));
    assert!(text.ends_with(ending), "{text}");
}

#[test]
fn a_unix_socket_and_http2_lead_to_the_same_plane() {
    let site = site();
    let bot = site.agent("bot", "olga");
    let socket = site.data().join("agents.sock");
    let over_socket = ["--unix-socket", socket.to_str().unwrap(), "http://localhost/"];
    check_identity(&curl(&site, &bot, &over_socket), "\n1.1 200");
    let plain = format!("http://{}/", site.proxy);
    check_identity(&curl(&site, &bot, &["--http2-prior-knowledge", &plain]), "\n2 200");
    let tls = format!("{}/", site.tls.as_ref().unwrap());
    let own_ca = site.data().join("ca.pem");
    // curl offers both, and gets what a waiting client can be told something in.
    check_identity(&curl(&site, &bot, &["--cacert", own_ca.to_str().unwrap(), &tls]), "\n1.1 200");
    let name = "sts.us-east-1.amazonaws.com";
    let connect_to = format!("::{}", site.listener("transparent"));
    check_identity(&curl(&site, &bot, &["--connect-to", &connect_to, &format!("https://{name}/")]), "\n1.1 200");
    site.verify();
}

#[test]
fn a_proxy_serves_whole_urls_of_intercepted_hosts_too() {
    let site = site();
    let bot = site.agent("bot", "olga");
    let proxy = format!("http://{}", site.listener("proxy"));
    check_identity(&curl(&site, &bot, &["--proxy", &proxy, "http://sts.us-east-1.amazonaws.com/"]), "\n1.1 200");
    check_identity(&curl(&site, &bot, &["--proxy", &proxy, "https://sts.us-east-1.amazonaws.com/"]), "\n1.1 200");
    let elsewhere = curl(&site, &bot, &["--proxy", &proxy, "http://example.com/"]);
    let text = String::from_utf8_lossy(&elsewhere.stdout);
    assert!(text.ends_with("\n1.1 403") && text.contains("plain HTTP is passed on to no host"), "{text}");
}

#[test]
fn a_socket_that_was_left_behind_is_replaced_and_another_file_is_not() {
    let mut site = site();
    let bot = site.agent("bot", "olga");
    let socket = site.data().join("agents.sock");
    site.kill();
    assert!(socket.exists());
    site.serve();
    check_identity(&curl(&site, &bot, &["--unix-socket", socket.to_str().unwrap(), "http://localhost/"]), "\n1.1 200");
    site.signal("TERM");
    assert_eq!(site.wait_for_exit(), Some(0));
    assert!(!socket.exists());
    std::fs::write(&socket, "precious").unwrap();
    let output = serve(&site);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("agents.sock") && text.contains("no socket"), "{text}");
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn a_ca_key_that_others_can_read_ends_the_start() {
    let mut site = site();
    site.kill();
    let key = site.data().join("interception/ca.key");
    set_mode(&key, 0o644);
    let output = serve(&site);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("chmod 600"), "{text}");
}

/// A server that is expected to end at once.
fn serve(site: &Site) -> Output {
    let mut command = site.command(&["serve"]);
    command.env("AWS_ACCESS_KEY_ID", REAL_KEY).env("AWS_SECRET_ACCESS_KEY", REAL_SECRET);
    command.env("AWS_EC2_METADATA_DISABLED", "true").output().unwrap()
}

fn set_mode(file: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
}
