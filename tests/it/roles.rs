//! Just-in-time credentials: a call runs in a session of a role that was asked for it alone.

use serde_json::Value;

use crate::support::cloud::cloud;
use crate::support::site::Setup;
use crate::support::upstream::{Reaction, Upstream};

const WHO: &str = "result = client('sts').get_caller_identity()['Arn']";

fn rules(decision: &str, assume: &str) -> String {
    format!(
        "rules:\n  - id: who\n    match: {{ action: [aws:sts:GetCallerIdentity] }}\n    decision: {decision}\n    \
         assume: {assume}\n"
    )
}

fn text<'r>(record: &'r Value, name: &str) -> &'r str {
    record[name].as_str().unwrap_or_else(|| panic!("no {name}: {record}"))
}

#[test]
fn a_held_call_runs_in_a_session_that_names_its_hold() {
    let rules = rules("hold\n    approvers: [security]", "{ role: 'arn:aws:iam::123456789012:role/agents' }");
    let site = Setup::new(&cloud().url).rules(&rules).start();
    let call = site.agent("bot", "olga").start(WHO);
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "allow");
    assert_eq!(call.wait(), format!("arn:aws:sts::123456789012:assumed-role/agents/bot-{id}"));
    let outcome = site.wait_for_record(&id, "action.outcome");
    assert_eq!(text(&outcome, "upstream_role"), "arn:aws:iam::123456789012:role/agents");
    assert_eq!(text(&outcome, "upstream_session"), format!("bot-{id}"));
    assert!(text(&outcome, "upstream_key_id").starts_with("ASIA"), "{outcome}");
    site.verify();
}

#[test]
fn a_session_is_used_again_as_far_as_its_rule_says() {
    for (cache, is_shared) in [("", false), (", cache: 10m", true)] {
        let assume = format!("{{ role: 'arn:aws:iam::123456789012:role/agents'{cache} }}");
        let site = Setup::new(&cloud().url).rules(&rules("allow", &assume)).start();
        let agent = site.agent("bot", "olga");
        for _ in 0..2 {
            assert!(agent.run(WHO).as_str().unwrap().contains(":assumed-role/agents/bot"));
        }
        let records = site.records();
        let mut keys = records.iter().filter(|it| it["type"] == "action.outcome").map(|it| text(it, "upstream_key_id"));
        let (first, second) = (keys.next().unwrap(), keys.next().unwrap());
        assert_eq!(first == second, is_shared, "{cache}");
        site.verify();
    }
}

#[test]
fn what_no_rule_matches_has_the_upstreams_role() {
    let config = "assume: { role: 'arn:aws:iam::123456789012:role/everyday', unmatched: true }\n";
    let site = Setup::new(&cloud().url).upstream_config(config).start();
    let who = site.agent("bot", "olga").run(WHO);
    assert!(who.as_str().unwrap().contains(":assumed-role/everyday/bot-a_"), "{who}");
    site.verify();
}

/// Nothing is sent, least of all with the upstream's own credential.
#[test]
fn without_a_session_nothing_is_sent() {
    let rules = rules("allow", "{ role: 'arn:aws:iam::999999999999:role/agents' }");
    let site = Setup::new(&cloud().url).rules(&rules).start();
    let refused = "try:\n  client('sts', retries={'total_max_attempts': 1}).get_caller_identity()\nexcept Exception as error:\n  result = str(error)";
    let told = site.agent("bot", "olga").run(refused);
    let told = told.as_str().unwrap();
    assert!(told.contains("no session of the role") && told.contains("nothing was sent"), "{told}");
    let records = site.records();
    let outcome = records.iter().find(|it| it["type"] == "action.outcome").unwrap();
    assert_eq!(outcome["outcome"], "not-sent", "{outcome}");
    site.verify();
}

/// As by a service that is asked too often: the SDK hears a code that it knows and how long to wait.
#[test]
fn an_sts_that_is_asked_too_often_has_clients_wait() {
    let throttled =
        "<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>";
    let upstream = Upstream::start(|received| match received.text().contains("Action=AssumeRole") {
        true => Reaction::Answer(400, throttled.to_owned()),
        false => Reaction::Answer(200, "<unexpected/>".to_owned()),
    });
    let rules = "rules:\n  - id: all\n    match: { action: ['aws:*'] }\n    decision: allow\n    assume: { role: \
                 'arn:aws:iam::123456789012:role/agents' }\n";
    let site = Setup::new(upstream.url()).rules(rules).start();
    let agent = site.agent("bot", "olga");
    for (call, status, code) in [
        ("client('iam', **once).list_users()", 429, "Throttling"),
        ("client('dynamodb', **once).list_tables()", 429, "ThrottlingException"),
        ("client('s3', **once).list_buckets()", 503, "SlowDown"),
        ("client('ec2', **once).describe_instances()", 503, "RequestLimitExceeded"),
    ] {
        let snippet = format!(
            "once = dict(retries={{'total_max_attempts': 1}})\ntry:\n  {call}\nexcept Exception as error:\n  answer = \
             error.response\n  result = [answer['ResponseMetadata']['HTTPStatusCode'], answer['Error']['Code'], \
             answer['ResponseMetadata']['HTTPHeaders'].get('retry-after'), answer['Error']['Message']]"
        );
        let told = agent.run(&snippet);
        assert_eq!(
            (told[0].as_u64(), told[1].as_str(), told[2].as_str()),
            (Some(status), Some(code), Some("5")),
            "{told}"
        );
        assert!(told[3].as_str().unwrap().contains("nothing was sent"), "{told}");
    }
    assert_eq!(upstream.count("Action=AssumeRole"), upstream.received().len());
    let records = site.records();
    let mut outcomes = records.iter().filter(|it| it["type"] == "action.outcome");
    assert!(outcomes.all(|it| it["outcome"] == "not-sent"));
    site.verify();
}
