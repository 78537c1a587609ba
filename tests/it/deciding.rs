//! Allow, deny, hold: the whole way with unmodified clients against moto.

use serde_json::json;

use crate::support::CREATED;
use crate::support::agent::Agent;
use crate::support::cloud::cloud;
use crate::support::peer::Peer;
use crate::support::sign::Draft;
use crate::support::site::{HOLD_KEYS, REAL_KEY, Setup, Site, shown};
use crate::support::upstream::Upstream;

/// A site before moto, its agent, and that agent's user in IAM, named after the test.
fn site_with_user(user: &str, rules: &str) -> (Site, Agent) {
    let site = Setup::new(&cloud().url).rules(rules).start();
    let agent = site.agent("bot", "olga");
    direct(&format!("result = client('iam').create_user(UserName='{user}')['User']['UserName']"));
    (site, agent)
}

/// Runs a snippet against moto itself, past countersign.
#[track_caller]
fn direct(snippet: &str) -> serde_json::Value {
    let keys = crate::support::sign::Keys { id: "AKIADIRECT".to_owned(), secret: "direct".to_owned() };
    Agent { endpoint: cloud().url.clone(), keys, extra: Vec::new() }.run(snippet)
}

#[track_caller]
fn keys_of(user: &str) -> usize {
    let keys = direct(&format!("result = client('iam').list_access_keys(UserName='{user}')['AccessKeyMetadata']"));
    keys.as_array().unwrap().len()
}

fn create_key(user: &str) -> String {
    format!("result = client('iam').create_access_key(UserName='{user}')['AccessKey']['Status']")
}

#[test]
fn ordinary_calls_pass_and_answer_what_aws_answers() {
    let site = Setup::new(&cloud().url).start();
    let agent = site.agent("bot", "olga");
    let snippet = "
s3 = client('s3')
s3.create_bucket(Bucket='ordinary')
s3.put_object(Bucket='ordinary', Key='a b/ü+~c', Body=b'x' * 70000, Metadata={'k': 'v'})
body = s3.get_object(Bucket='ordinary', Key='a b/ü+~c')
result = [len(body['Body'].read()), body['Metadata'], [k['Key'] for k in s3.list_objects_v2(Bucket='ordinary')['Contents']]]
";
    assert_eq!(agent.run(snippet), json!([70000, {"k": "v"}, ["a b/ü+~c"]]));
    let snippet = "
ddb = client('dynamodb')
ddb.create_table(TableName='ordinary', KeySchema=[{'AttributeName': 'id', 'KeyType': 'HASH'}],
    AttributeDefinitions=[{'AttributeName': 'id', 'AttributeType': 'S'}], BillingMode='PAY_PER_REQUEST')
ddb.put_item(TableName='ordinary', Item={'id': {'S': '1'}})
result = ddb.get_item(TableName='ordinary', Key={'id': {'S': '1'}})['Item']
";
    assert_eq!(agent.run(snippet), json!({"id": {"S": "1"}}));
    let snippet = "result = client('sts').get_caller_identity()['Account']";
    assert_eq!(agent.run(snippet), direct(snippet));
    site.verify();
}

#[test]
fn errors_of_aws_reach_the_agent_unchanged() {
    let site = Setup::new(&cloud().url).start();
    let snippet = "result = client('iam').get_user(UserName='nobody-of-that-name')";
    let (through, past) = (site.agent("bot", "olga").run(snippet), direct(snippet));
    assert_eq!(through["error"], "NoSuchEntity");
    for member in ["error", "message", "status"] {
        assert_eq!(through[member], past[member]);
    }
}

#[test]
fn denied_by_rule_ends_at_once_in_iams_own_error() {
    let (site, agent) = site_with_user("rule-denied", HOLD_KEYS);
    let answer = agent.run("result = client('iam').delete_user(UserName='rule-denied')");
    assert_eq!((&answer["error"], &answer["status"]), (&json!("AccessDenied"), &json!(403)));
    assert_eq!(answer["attempts"], 1, "a refusal must not be retried");
    assert!(answer["message"].as_str().unwrap().contains("Users are never deleted by agents."), "{answer}");
    assert_eq!(direct("result = client('iam').get_user(UserName='rule-denied')['User']['UserName']"), "rule-denied");
    let records = site.records();
    let denied: Vec<_> = records.iter().filter(|record| record["type"] == "action.denied").collect();
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0]["actions"][0]["action"], "aws:iam:DeleteUser");
    site.verify();
}

#[test]
fn held_call_runs_once_after_approval() {
    let (site, agent) = site_with_user("approved", HOLD_KEYS);
    let mut call = agent.start(&create_key("approved"));
    let id = site.pending(1).remove(0);
    assert!(call.is_running());
    assert_eq!(keys_of("approved"), 0);

    let card = site.hold(&id)["card"].as_str().unwrap().to_owned();
    for part in ["aws:iam:CreateAccessKey", "bot", "olga", "approved", "alice", "Keys that leave need"] {
        assert!(card.contains(part), "`{part}` is missing:\n{card}");
    }
    let output = site.cli_as("alice", &["approve", &id, "--reason", "needed for the migration"]);
    assert!(output.status.success(), "{}", shown(&output));

    assert_eq!(call.wait(), "Active");
    assert_eq!(keys_of("approved"), 1);
    site.wait_for_state(&id, "executed");
    let types = site.history(&id);
    let order = ["action.held", "approval.vote", "action.approved", "action.forward", "action.outcome"];
    assert_eq!(types, order);
    site.verify();
}

#[test]
fn upstream_sees_the_real_credential_and_nothing_of_the_virtual_one() {
    let upstream = crate::support::upstream::Upstream::answering(
        "<ListUsersResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><ListUsersResult><Users/>\
<IsTruncated>false</IsTruncated></ListUsersResult><ResponseMetadata/></ListUsersResponse>",
    );
    let site = Setup::new(upstream.url()).start();
    let agent = site.agent("bot", "olga");
    agent.run("result = client('iam').list_users()['ResponseMetadata']['HTTPStatusCode']");
    let received = upstream.received();
    let authorization = received[0].header("authorization").unwrap();
    assert!(authorization.contains(REAL_KEY), "{authorization}");
    assert!(!format!("{received:?}").contains(&agent.keys.id));
}

#[test]
fn denied_by_a_person_is_final_and_a_retry_is_not_asked_again() {
    let (site, agent) = site_with_user("denied", HOLD_KEYS);
    let call = agent.start(&create_key("denied"));
    let id = site.pending(1).remove(0);
    let answer = site.verdict("alice", &id, "deny", "use the role instead");
    assert_eq!(answer.status, 200);
    let answer = call.wait();
    assert_eq!(
        (&answer["error"], &answer["status"], &answer["attempts"]),
        (&json!("AccessDenied"), &json!(403), &json!(1))
    );
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains(&id) && message.contains("use the role instead"), "{message}");
    assert_eq!(keys_of("denied"), 0);
    assert_eq!(site.hold(&id)["state"], "denied");
    assert_eq!(site.history(&id), ["action.held", "approval.vote", "action.denied"]);
    site.verify();
}

#[test]
fn nobody_decides_in_time_is_not_a_no() {
    let rules = HOLD_KEYS.replace("approvers: [security]", "approvers: [security]\n    expires: 1s");
    let (site, agent) = site_with_user("expired", &rules);
    let answer = agent.run(&create_key("expired"));
    assert_eq!((&answer["status"], &answer["attempts"]), (&json!(403), &json!(1)));
    let message = answer["message"].as_str().unwrap().to_lowercase();
    assert!(message.contains("expired") || message.contains("in time"), "{message}");
    assert!(!message.contains("denied by"), "{message}");
    let hold = site.holds().remove(0);
    assert_eq!(hold["state"], "expired");
    let late = site.verdict("alice", hold["id"].as_str().unwrap(), "allow", "late");
    assert_eq!(late.status, 410, "{}", late.text());
    assert_eq!(keys_of("expired"), 0);
    site.verify();
}

#[test]
fn a_client_that_leaves_withdraws_its_hold() {
    let site = Setup::new(&cloud().url).config("holds: { withdraw_after: 1s }\n").start();
    let agent = site.agent("bot", "olga");
    let call = agent.start(&create_key("withdrawn"));
    let id = site.pending(1).remove(0);
    call.kill();
    site.wait_for_state(&id, "withdrawn");
    assert_eq!(site.verdict("alice", &id, "allow", "too late").status, 410);
    site.wait_for_record(&id, "action.withdrawn");
    assert_eq!(site.history(&id)[..2], ["action.held", "action.withdrawn"]);
    site.verify();
}

#[test]
fn what_nobody_may_approve_is_said_at_once() {
    let rules = HOLD_KEYS.replace("approvers: [security]", "approvers: [platform]");
    // The only member of the group owns the agent.
    let (site, agent) = site_with_user("nobody", &rules);
    let answer = agent.run(&create_key("nobody"));
    assert_eq!((&answer["status"], &answer["attempts"]), (&json!(403), &json!(1)));
    assert!(answer["message"].as_str().unwrap().to_lowercase().contains("nobody"), "{answer}");
    site.verify();
}

#[test]
fn quorum_counts_distinct_people() {
    let rules = HOLD_KEYS.replace("approvers: [security]", "approvers: [security]\n    quorum: 2");
    let (site, agent) = site_with_user("quorum", &rules);
    let mut call = agent.start(&create_key("quorum"));
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "allow");
    // The same person by another token is the same person.
    let second = site.new_token("alice");
    let body = json!({"verdict": "allow", "reason": "again"});
    let answer = site.api(&second, "POST", &format!("/v1/holds/{id}/verdict"), Some(&body));
    assert!(answer.status == 409 || answer.status == 200, "{}", answer.text());
    assert_eq!(site.hold(&id)["state"], "pending");
    assert_eq!(keys_of("quorum"), 0);
    assert!(call.is_running());
    site.decide("bob", &id, "allow");
    assert_eq!(call.wait(), "Active");
    assert_eq!(keys_of("quorum"), 1);
    site.verify();
}

#[test]
fn nobody_decides_their_own_request_by_any_door() {
    let (site, agent) = site_with_user("own", HOLD_KEYS);
    let call = agent.start(
        "iam = client('iam')
iam.meta.events.register('before-sign.iam',
    lambda request, **_: request.headers.add_header('x-countersign-initiator', 'Ida@example.com'))
result = iam.create_access_key(UserName='own')['AccessKey']['Status']",
    );
    let id = site.pending(1).remove(0);
    for person in ["olga", "ida"] {
        let answer = site.verdict(person, &id, "allow", "me");
        assert_eq!(answer.status, 403, "{person}: {}", answer.text());
        assert!(answer.text().contains("self_approval"), "{}", answer.text());
        let output = site.cli_as(person, &["approve", &id, "--reason", "me"]);
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    }
    assert_eq!(site.verdict("carol", &id, "allow", "not my group").status, 403);
    let hold = site.hold(&id);
    assert_eq!((&hold["eligible"], &hold["state"]), (&json!(["alice", "bob"]), &json!("pending")));
    assert_eq!(keys_of("own"), 0);
    site.decide("bob", &id, "allow");
    assert_eq!(call.wait(), "Active");
    assert!(site.history(&id).contains(&"approval.refused".to_owned()));
    site.verify();
}

#[test]
fn the_aws_cli_waits_and_is_refused_like_any_client() {
    let (site, agent) = site_with_user("cli", HOLD_KEYS);
    let call = agent.start_aws(&["iam", "create-access-key", "--user-name", "cli", "--output", "json"]);
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "allow");
    let output = call.output();
    assert!(output.status.success(), "{}", shown(&output));
    assert!(shown(&output).contains("\"Status\": \"Active\""), "{}", shown(&output));
    let output = agent.aws(&["iam", "delete-user", "--user-name", "cli"]);
    assert_eq!(output.status.code(), Some(255), "{}", shown(&output));
    assert!(shown(&output).contains("(AccessDenied) when calling the DeleteUser operation"), "{}", shown(&output));
    site.verify();
}

/// What is revoked while a person thinks about it does not run when the person says yes.
#[test]
fn an_agent_revoked_while_its_call_is_held_runs_nothing() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).rules(HOLD_KEYS).start();
    let keys = site.agent("bot", "olga").keys;
    let mut peer = Peer::connect(site.proxy);
    let form = "Action=CreateAccessKey&Version=2010-05-08&UserName=admin";
    peer.send(&Draft::query("iam", "iam.amazonaws.com", form).signed(&keys));
    let id = site.pending(1).remove(0);
    site.done(&["agent", "revoke", "bot"]);
    // The server has seen the revocation once a new call is refused.
    while Peer::connect(site.proxy).ask(&Draft::query("iam", "iam.amazonaws.com", form).signed(&keys)).status != 403 {
        std::thread::yield_now();
    }
    site.decide("alice", &id, "allow");
    let answer = peer.read().unwrap();
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(upstream.received().len(), 0);
    assert_eq!(site.wait_for_record(&id, "action.outcome")["outcome"], "not-sent");
    site.verify();
}
