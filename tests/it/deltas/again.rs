//! What is looked at again, and what is not: the reads are few, on record, and made anew before an approval is used.

use super::*;

fn records_of<'r>(records: &'r [Value], kind: &str) -> Vec<&'r Value> {
    records.iter().filter(|it| it["type"] == kind).collect()
}

/// An approval is of the change that was shown. Where the state is another one by then, people are asked anew.
#[test]
fn a_change_that_is_another_one_by_now_is_asked_about_again() {
    let case = Case::open();
    let put = |text: &str| {
        format!("{READ_ONLY}client('iam').put_user_policy(UserName='delta-o', PolicyName='p', PolicyDocument={text})")
    };
    case.prepare("client('iam').create_user(UserName='delta-o')\nresult = {}");
    let (call, hold) = case.held(&put("policy(allow('s3:GetObject'))"));
    let id = hold["id"].as_str().unwrap();
    assert_eq!(hold["deltas"][0]["before_sha256"], Value::Null, "{hold}");
    // Somebody else puts a Deny where there was nothing.
    case.prepare(&put("policy(dict(Effect='Deny', Action='s3:*', Resource='*'))"));
    case.site.decide("alice", id, "allow");
    let outdated = case.site.wait_for_record(id, "approval.outdated");
    let again = case.site.hold(id);
    assert_eq!((again["state"].as_str(), &again["deltas"]), (Some("pending"), &outdated["deltas"]), "{again}");
    says(&again["deltas"][0], "dangers", &["a Deny is gone"]);
    assert_eq!((&outdated["before"], &outdated["digest"]), (&hold["digest"], &again["digest"]));
    assert_ne!(hold["digest"], again["digest"]);
    let card = String::from_utf8(case.site.cli_as("alice", &["holds", "show", id]).stdout).unwrap();
    assert!(card.contains("a Deny is gone") && card.contains("(void: "), "{card}");
    case.site.decide("alice", id, "allow");
    assert!(call.wait().get("error").is_none());
    let forward = case.site.wait_for_record(id, "action.forward");
    assert_eq!((&forward["deltas"], &forward["approved_digest"]), (&again["deltas"], &again["digest"]));
    // Three reads: one for the hold, one for each approval; on record before they were asked.
    let records = case.site.records();
    let looks = records_of(&records, "action.look");
    let reasons: Vec<&str> = looks.iter().map(|it| it["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["hold", "release", "release"]);
    for look in looks {
        assert_eq!((&look["agent"], &look["action_id"]), (&Value::from("bot"), &hold["action_id"]), "{look}");
        assert_eq!(look["actions"][0]["action"], "aws:iam:GetUserPolicy", "{look}");
        assert_eq!(look["hold"].as_str(), (look["reason"] == "release").then_some(id), "{look}");
        assert_eq!(look["actions"][0]["parameters"]["UserName"], "delta-o", "{look}");
    }
    case.site.verify();
}

/// A call that comes again, while it is held or after its no, costs the upstream nothing.
#[test]
fn what_was_looked_at_is_not_looked_at_for_a_repetition() {
    let absent = "<ErrorResponse><Error><Code>NoSuchEntity</Code><Message>none</Message></Error></ErrorResponse>";
    let upstream = Upstream::start(|received| match received.text().contains("Action=GetUserPolicy") {
        true => Reaction::Answer(404, absent.to_owned()),
        false => Reaction::Answer(200, "<PutUserPolicyResponse/>".to_owned()),
    });
    let site = Setup::new(upstream.url()).rules(HOLD_ALL).start();
    let agent = site.agent("bot", "olga");
    let first = agent.start(PUT);
    let id = site.pending(1).remove(0);
    site.decide("alice", &id, "deny");
    assert_eq!(first.wait()["error"], "AccessDenied");
    // Two of one second have one signature: its SDK then signs and sends again.
    let patient = PUT.replace(", retries={'total_max_attempts': 1}", "");
    for _ in 0..3 {
        assert_eq!(agent.run(&patient)["error"], "AccessDenied");
    }
    let reads = || upstream.count("Action=GetUserPolicy");
    assert_eq!((reads(), upstream.received().len()), (1, 1));
    // Another body is another request.
    let second = agent.start(&PUT.replace("PolicyName='p'", "PolicyName='q'"));
    let id = site.pending(1).remove(0);
    assert_eq!(reads(), 2);
    site.decide("alice", &id, "allow");
    assert_eq!(second.wait()["ResponseMetadata"]["HTTPStatusCode"], 200);
    assert_eq!(reads(), 3, "once more before the approval is used");
    assert_eq!(records_of(&site.records(), "action.look").len(), 3);
    site.verify();
}
