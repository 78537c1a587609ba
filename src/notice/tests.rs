use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::gate::tests::Fixture;
use crate::gate::{GateOptions, Verdict};

/// Answers with what was laid out for it, then with success; remembers what it was told.
#[derive(Default)]
struct Fake {
    told: Mutex<Vec<String>>,
    answers: Mutex<VecDeque<Failure>>,
}

impl Board for Fake {
    fn show<'a>(&'a self, notice: Notice<'a>, place: Option<&'a str>) -> Showing<'a> {
        let place = place.unwrap_or("-").to_owned();
        let line = match notice {
            Notice::Hold(hold, news) => format!("{} {news:?} at {place}", hold.state.as_str()),
            Notice::Gone(_) => format!("gone at {place}"),
        };
        self.told.lock().unwrap().push(line);
        let answer = self.answers.lock().unwrap().pop_front();
        Box::pin(async move { answer.map_or(Ok("m1".to_owned()), Err) })
    }
}

impl Fake {
    async fn until(&self, count: usize) -> Vec<String> {
        for _ in 0..2_000 {
            let told = self.told.lock().unwrap().clone();
            if told.len() >= count {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{:?}", self.told.lock().unwrap());
    }
}

struct Told {
    gate: Fixture,
    board: Arc<Fake>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

fn start(
    gate: &Fixture,
    board: &Arc<Fake>,
    remind: Option<Duration>,
) -> (watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let options = Options { name: "fake".to_owned(), groups: BTreeSet::new(), remind };
    let board: Arc<dyn Board> = Arc::<Fake>::clone(board);
    let metrics = Arc::new(Metrics::default());
    let notifier = Notifier::open(options, board, Arc::clone(&gate.gate), gate.clock.clone(), metrics, gate.dir.path());
    let (stop, stopping) = watch::channel(false);
    (stop, tokio::spawn(notifier.run(stopping)))
}

impl Told {
    async fn new(remind: Option<Duration>) -> Self {
        let (gate, board) = (Fixture::with(GateOptions::default()).await, Arc::new(Fake::default()));
        let (stop, task) = start(&gate, &board, remind);
        Self { gate, board, stop, task }
    }
}

#[tokio::test]
async fn a_hold_is_told_once_and_changed_where_it_stands() {
    let it = Told::new(None).await;
    let call = it.gate.admit(it.gate.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.gate.one_attached().await;
    it.board.until(1).await;
    it.gate.decide(&hold.id, "alice", Verdict::Deny).await.unwrap();
    call.await.unwrap();
    let told = it.board.until(2).await;
    assert_eq!(told, ["pending State at -", "denied State at m1"]);
    it.stop.send_replace(true);
    it.task.await.unwrap();
    assert_eq!(std::fs::read_to_string(it.gate.dir.path().join("notices-fake.json")).unwrap(), "{}");
}

#[tokio::test]
async fn what_did_not_get_through_is_told_as_it_is_then() {
    let it = Told::new(None).await;
    let later = |after| Failure::Later { after, why: "down".to_owned() };
    it.board.answers.lock().unwrap().extend([later(None), later(Some(Duration::from_secs(30)))]);
    let _call = it.gate.admit(it.gate.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.gate.one_attached().await;
    it.board.until(1).await;
    it.gate.clock.advance(Duration::from_secs(1));
    it.board.until(2).await;
    // The board wants to be left alone for half a minute: also by another hold.
    let _other = it.gate.admit(it.gate.ask("aws:iam:CreateUser", "v", Some("r2"), "s2"));
    it.gate.until(|holds| holds.len() == 2).await;
    it.gate.decide(&hold.id, "alice", Verdict::Deny).await.unwrap();
    it.gate.clock.advance(Duration::from_secs(29));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(it.board.told.lock().unwrap().len(), 2);
    it.gate.clock.advance(Duration::from_secs(1));
    let told = it.board.until(4).await;
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(
        told[2..].contains(&"denied State at -".to_owned()),
        "the state of now, not that of the first try: {told:?}"
    );
    assert!(told[2..].contains(&"pending State at -".to_owned()), "{told:?}");
}

#[tokio::test]
async fn what_is_refused_for_good_is_not_tried_over_and_over() {
    let it = Told::new(None).await;
    it.board.answers.lock().unwrap().push_back(Failure::Never { why: "no such place".to_owned() });
    let _call = it.gate.admit(it.gate.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    it.gate.one_attached().await;
    it.board.until(1).await;
    it.gate.clock.advance(Duration::from_secs(60));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(it.board.told.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn people_are_reminded_until_somebody_decides() {
    let it = Told::new(Some(Duration::from_secs(60))).await;
    let _call = it.gate.admit(it.gate.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.gate.one_attached().await;
    it.board.until(1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    for count in [2, 3] {
        it.gate.clock.advance(Duration::from_secs(60));
        it.board.until(count).await;
    }
    it.gate.decide(&hold.id, "alice", Verdict::Deny).await.unwrap();
    it.board.until(4).await;
    it.gate.clock.advance(Duration::from_secs(60));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let told = it.board.told.lock().unwrap().clone();
    assert_eq!(told, ["pending State at -", "pending Reminder at m1", "pending Reminder at m1", "denied State at m1"]);
}

#[tokio::test]
async fn after_a_restart_it_stands_where_it_stood() {
    let it = Told::new(None).await;
    let _call = it.gate.admit(it.gate.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    let hold = it.gate.one_attached().await;
    it.board.until(1).await;
    it.stop.send_replace(true);
    it.task.await.unwrap();
    let file = it.gate.dir.path().join("notices-fake.json");
    let mut stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    // Another hold of the last run, which the gate does not know any more.
    stored["h_old"] = serde_json::json!({ "place": "m0" });
    std::fs::write(&file, stored.to_string()).unwrap();
    let board = Arc::new(Fake::default());
    let (stop, _task) = start(&it.gate, &board, None);
    board.until(2).await;
    it.gate.decide(&hold.id, "alice", Verdict::Deny).await.unwrap();
    let mut told = board.until(3).await;
    assert_eq!(told.pop().unwrap(), "denied State at m1");
    told.sort();
    assert_eq!(told, ["gone at m0", "pending State at m1"]);
    stop.send_replace(true);
}

#[tokio::test]
async fn an_escalation_is_told_once() {
    let it = Told::new(None).await;
    let _call = it.gate.admit(it.gate.ask("aws:sns:Publish", "u", Some("r"), "s1"));
    it.gate.one_attached().await;
    it.board.until(1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    // More people may decide from then on, though nothing happened to the hold.
    it.gate.clock.advance(Duration::from_secs(300));
    it.board.until(2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let told = it.board.told.lock().unwrap().clone();
    assert_eq!(told, ["pending State at -", "pending Escalated at m1"]);
}

#[tokio::test]
async fn reminders_and_escalations_outlive_a_restart() {
    let it = Told::new(Some(Duration::from_secs(120))).await;
    let _call = it.gate.admit(it.gate.ask("aws:sns:Publish", "u", Some("r"), "s1"));
    it.gate.one_attached().await;
    it.board.until(1).await;
    it.stop.send_replace(true);
    it.task.await.unwrap();
    let board = Arc::new(Fake::default());
    let (stop, _task) = start(&it.gate, &board, Some(Duration::from_secs(120)));
    for (count, wait_s) in [(1, 0), (2, 120), (3, 120), (4, 60)] {
        it.gate.clock.advance(Duration::from_secs(wait_s));
        board.until(count).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let news = ["State", "Reminder", "Reminder", "Escalated"].map(|news| format!("pending {news} at m1"));
    assert_eq!(*board.told.lock().unwrap(), news);
    stop.send_replace(true);
}

#[tokio::test]
async fn a_board_that_wants_it_at_once_is_not_flooded() {
    let it = Told::new(None).await;
    let at_once = Failure::Later { after: Some(Duration::ZERO), why: "down".to_owned() };
    it.board.answers.lock().unwrap().extend(vec![at_once; 50]);
    let _call = it.gate.admit(it.gate.ask("aws:iam:CreateUser", "u", Some("r"), "s1"));
    it.gate.one_attached().await;
    it.board.until(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(it.board.told.lock().unwrap().len(), 1, "the clock stands still");
}
