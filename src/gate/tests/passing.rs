//! Requests that no rule matches: one record each, whatever becomes of them.

use super::*;

impl Fixture {
    /// Lets a request pass; with its action id.
    async fn pass(&self) -> (Permit, String) {
        let ask = listing(self);
        let ruling = self.gate.judge(&ask.agent, &ask.context, &ask.actions);
        let permit = self.gate.pass(&passing(&ask), &ruling).await.unwrap();
        (permit, ask.action_id.as_str().to_owned())
    }

    /// What the log has of an action, in its order.
    async fn records_of(&self, action_id: &str) -> Vec<Value> {
        self.flush().await;
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|record| record["action_id"] == action_id).collect()
    }
}

fn listing(it: &Fixture) -> Ask {
    let mut ask = it.ask("aws:s3:ListBuckets", "b", None, "s1");
    let action = &mut Arc::make_mut(&mut ask.actions)[0];
    (action.access, action.traits) = (Access::List, Traits::EMPTY);
    ask
}

/// Nothing was decided about it, so there is no digest for it to keep to.
fn spent(permit: Permit) -> Receipt {
    permit.spend_unmatched().unwrap()
}

#[tokio::test]
async fn a_fast_request_has_one_record_with_its_outcome() {
    let it = Fixture::new().await;
    let (permit, id) = it.pass().await;
    let receipt = spent(permit);
    assert!(it.records_of(&id).await.is_empty(), "its outcome is not known yet");
    let upstream_request_id = Some("c6f1".to_owned());
    let outcome = Outcome::Answered { status: 200, upstream_request_id, body_bytes: None, body_sha256: None };
    it.gate.complete(receipt, outcome, None).await.unwrap();
    let records = it.records_of(&id).await;
    assert_eq!(records.len(), 1, "{records:?}");
    let record = &records[0];
    assert_eq!((&record["type"], &record["outcome"]), (&"action.passed".into(), &"answered".into()));
    assert_eq!((&record["status"], &record["upstream_request_id"]), (&200.into(), &"c6f1".into()));
    assert_eq!((&record["action"], &record["agent"]), (&"aws:s3:ListBuckets".into(), &"bot".into()));
    assert_eq!(
        (&record["access"], &record["key_id"], &record["peer"]),
        (&"list".into(), &"AKCS".into(), &"127.0.0.1".into())
    );
    assert_eq!(record["resources"], json!(["arn:aws:iam::1:user/b"]));
}

#[tokio::test]
async fn a_slow_request_is_on_record_before_its_outcome() {
    let it = Fixture::new().await;
    let (permit, id) = it.pass().await;
    let mut receipt = spent(permit);
    receipt.overdue();
    receipt.overdue();
    let records = it.records_of(&id).await;
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((&records[0]["type"], &records[0]["outcome"]), (&"action.passed".into(), &Value::Null));
    it.gate.complete(receipt, Outcome::Unknown { reason: "no answer".into() }, None).await.unwrap();
    let records = it.records_of(&id).await;
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!((&records[1]["type"], &records[1]["outcome"]), (&"action.outcome".into(), &"unknown".into()));
    assert_eq!((&records[1]["message"], &records[1]["action"]), (&"no answer".into(), &Value::Null));
}

#[tokio::test]
async fn a_client_that_leaves_leaves_a_record_with_its_outcome() {
    let it = Fixture::new().await;
    let (permit, before) = it.pass().await;
    drop(permit);
    let (permit, during) = it.pass().await;
    drop(spent(permit));
    let (permit, late) = it.pass().await;
    let mut receipt = spent(permit);
    receipt.overdue();
    drop(receipt);
    for (id, kinds, outcome) in [
        (before, vec!["action.passed"], "not-sent"),
        (during, vec!["action.passed"], "unknown"),
        (late, vec!["action.passed", "action.outcome"], "unknown"),
    ] {
        let records = it.records_of(&id).await;
        assert_eq!(records.iter().map(|record| record["type"].as_str().unwrap()).collect::<Vec<_>>(), kinds);
        assert_eq!(records.last().unwrap()["outcome"], outcome);
    }
}

#[tokio::test]
async fn nothing_passes_once_the_log_is_gone() {
    let it = Fixture::new().await;
    let (permit, _) = it.pass().await;
    it.gate.journal.close().await.unwrap();
    let ask = listing(&it);
    let ruling = it.gate.judge(&ask.agent, &ask.context, &ask.actions);
    assert_eq!(it.gate.pass(&passing(&ask), &ruling).await.unwrap_err().ending, Ending::LogUnavailable);
    // What was let pass before is not withheld: no rule asks for its record.
    it.gate.complete(spent(permit), answered(200), None).await.unwrap();
}
