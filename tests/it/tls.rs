//! Agents over TLS, with the CA that `countersign init` made.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::support::agent::Agent;
use crate::support::cloud::cloud;
use crate::support::site::{HOLD_KEYS, Setup, Site};

/// A site with a TLS listener before moto.
fn site() -> Site {
    Setup::new(&cloud().url).rules(HOLD_KEYS).listen_config("agents_tls: 127.0.0.1:0").start()
}

/// The agent at the TLS listener, trusting the CA in this file.
fn over_tls(site: &Site, agent: &Agent, ca: &Path) -> Agent {
    let agent = Agent { endpoint: site.tls.clone().unwrap(), ..agent.clone() };
    assert!(agent.endpoint.starts_with("https://"), "{}", agent.endpoint);
    agent.with("AWS_CA_BUNDLE", ca.to_str().unwrap())
}

#[test]
fn boto3_passes_and_waits_over_tls() {
    let site = site();
    let agent = over_tls(&site, &site.agent("bot", "olga"), &site.data().join("ca.pem"));
    let direct = Agent { endpoint: cloud().url.clone(), ..agent.clone() };
    direct.run("client('iam').create_user(UserName='over-tls')");
    // Over TLS boto3 sends the checksum in a trailer.
    let snippet = "
s3 = client('s3')
s3.create_bucket(Bucket='over-tls')
s3.put_object(Bucket='over-tls', Key='k', Body=b'x' * 70000)
result = len(s3.get_object(Bucket='over-tls', Key='k')['Body'].read())
";
    assert_eq!(agent.run(snippet), json!(70000));
    let mut call = agent.start("result = client('iam').create_access_key(UserName='over-tls')['AccessKey']['Status']");
    let id = site.pending(1).remove(0);
    assert!(call.is_running());
    site.decide("alice", &id, "allow");
    assert_eq!(call.wait(), "Active");
    site.verify();
}

#[test]
fn an_agent_that_trusts_another_ca_sends_nothing() {
    let site = site();
    let other = TempDir::new().unwrap();
    site.done(&["init", "--data", other.path().join("data").to_str().unwrap(), "--approver", "alice"]);
    let agent = site.agent("bot", "olga");
    let mistaken = over_tls(&site, &agent, &other.path().join("data/ca.pem"));
    let answer = mistaken.run("result = client('sts', retries={'total_max_attempts': 1}).get_caller_identity()");
    assert_eq!(answer["error"], "SSLError", "{answer}");
    assert_eq!(site.metric("countersign_requests_total"), 0);
    let trusting = over_tls(&site, &agent, &site.data().join("ca.pem"));
    assert_eq!(trusting.run("result = client('sts').get_caller_identity()['Account']"), json!("123456789012"));
}
