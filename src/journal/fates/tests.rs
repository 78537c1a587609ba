use super::*;
use crate::audit::record::{Kind, Record};
use crate::journal::Journal;
use crate::journal::tests::Bench;

fn about(kind: Kind, hold: &str) -> Record {
    Record::new(kind).text("action_id", format!("a{hold}")).text("hold", hold)
}

async fn tell(journal: &Journal, records: impl IntoIterator<Item = Record>) {
    for record in records {
        journal.append(record).await.unwrap();
    }
}

#[tokio::test]
async fn the_last_word_of_the_log_on_a_hold_counts() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let forwarded = |hold| [about(Kind::ActionHeld, hold), about(Kind::ActionForward, hold)];
    let outcome = |hold, outcome| about(Kind::ActionOutcome, hold).text("outcome", outcome);
    let filler = || (0..20).map(|_| Record::new(Kind::ActionPassed).text("filler", "x".repeat(1000)));
    for hold in ["ran", "unsent", "lost", "gone"] {
        tell(&journal, forwarded(hold)).await;
    }
    tell(&journal, ["open", "denied", "cancelled"].map(|hold| about(Kind::ActionHeld, hold))).await;
    let vote = |hold, verdict| about(Kind::ApprovalVote, hold).text("verdict", verdict);
    tell(&journal, [vote("open", "allow"), vote("cancelled", "cancel")]).await;
    tell(&journal, filler()).await;
    tell(&journal, [outcome("ran", "answered"), outcome("unsent", "not-sent"), outcome("lost", "unknown")]).await;
    tell(&journal, [about(Kind::ActionApproved, "denied").text("ending", "approved")]).await;
    tell(&journal, [about(Kind::ActionDenied, "denied").text("ending", "denied")]).await;
    tell(&journal, filler()).await;
    // A retry that came later changes nothing.
    tell(&journal, ["ran", "denied", "open"].map(|hold| about(Kind::ActionJoined, hold))).await;
    assert!(bench.segments().len() > 2, "{:?}", bench.segments());
    let asked = HashSet::from(["ran", "unsent", "lost", "gone", "open", "denied", "cancelled", "nobody"]);
    let fates = journal.fates(&asked).unwrap();
    let mut fates: Vec<_> = fates.iter().map(|(hold, fate)| (hold.as_str(), *fate)).collect();
    fates.sort_by_key(|(hold, _)| *hold);
    let expected = [
        ("cancelled", Fate::Ended(Ending::Cancelled)),
        ("denied", Fate::Ended(Ending::Denied)),
        ("gone", Fate::MayHaveRun),
        ("lost", Fate::MayHaveRun),
        ("open", Fate::Open),
        ("ran", Fate::Ran),
        ("unsent", Fate::Open),
    ];
    assert_eq!(fates, expected);
}
