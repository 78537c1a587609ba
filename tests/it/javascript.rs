//! The unmodified AWS SDK for JavaScript against moto.

use serde_json::json;

use crate::support::agent::Agent;
use crate::support::cloud::cloud;
use crate::support::site::{HOLD_KEYS, Setup};

#[test]
fn objects_go_through_in_chunks_and_whole() {
    let site = Setup::new(&cloud().url).start();
    let agent = site.agent("bot", "olga");
    let result = agent.start_js("objects", "javascript").wait();
    assert_eq!((&result["large"], &result["small"]), (&json!(true), &json!("small")), "{result}");
    assert_eq!(result["chunked"], json!(["x-amz-trailer"]), "the SDK does what this test is about");
    site.verify();
}

#[test]
fn a_held_call_waits_and_is_refused_like_any_client() {
    let site = Setup::new(&cloud().url).rules(HOLD_KEYS).start();
    let agent = site.agent("bot", "olga");
    let direct = Agent { endpoint: cloud().url.clone(), ..agent.clone() };
    assert_eq!(direct.start_js("user", "javascript").wait(), "javascript");
    let mut call = agent.start_js("key", "javascript");
    let id = site.pending(1).remove(0);
    assert!(call.is_running());
    site.decide("alice", &id, "allow");
    assert_eq!(call.wait(), "Active");

    let call = agent.start_js("key", "javascript");
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "deny");
    let result = call.wait();
    assert_eq!((&result["error"], &result["status"]), (&json!("AccessDenied"), &json!(403)), "{result}");
    assert!(result["message"].as_str().unwrap().contains(&id), "{result}");
    site.verify();
}
