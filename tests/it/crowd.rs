//! A thousand holds at once cost memory, not threads, and each runs once.

use serde_json::json;

use crate::support::peer::Peer;
use crate::support::sign::Draft;
use crate::support::site::{Setup, Site};
use crate::support::upstream::Upstream;
use crate::support::{CREATED, wait_for};

const HOLDS: usize = 1_000;

fn resident_kib(site: &Site) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.server_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_thousand_holds_wait_and_each_runs_once() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).config("holds: { limit_per_agent: 2000 }\n").start();
    let keys = site.agent("bot", "olga").keys;
    let before = resident_kib(&site);
    let mut peers: Vec<Peer> = (0..HOLDS)
        .map(|index| {
            let form = format!("Action=CreateAccessKey&Version=2010-05-08&UserName=user-{index:04}-");
            let mut peer = Peer::connect(site.proxy);
            peer.send(&Draft::query("iam", "iam.amazonaws.com", &form).retry_id(&index.to_string()).signed(&keys));
            peer
        })
        .collect();
    wait_for("all holds", || {
        (site.metric("countersign_holds_attached") == i64::try_from(HOLDS).unwrap()).then_some(())
    });
    let grown = resident_kib(&site) - before;
    assert!(grown < 100 * 1024, "{HOLDS} holds took {grown} KiB");
    let threads = std::fs::read_dir(format!("/proc/{}/task", site.server_id())).unwrap().count();
    assert!(threads < 64, "{threads} threads");
    let list = Draft::query("iam", "iam.amazonaws.com", "Action=ListUsers&Version=2010-05-08").signed(&keys);
    assert_eq!(Peer::connect(site.proxy).ask(&list).status, 200, "others notice nothing");
    assert_eq!(upstream.count("CreateAccessKey"), 0);

    // A hold is shown once its opening is durable, which may be a moment after its client attached.
    let holds = wait_for("all holds to be shown", || Some(site.holds()).filter(|holds| holds.len() == HOLDS));
    let ids: Vec<String> = holds.iter().map(|hold| hold["id"].as_str().unwrap().to_owned()).collect();
    let mut approver = Peer::connect(site.api);
    for id in &ids {
        let mut verdict = Draft::new("api", &site.api.to_string(), "POST", &format!("/v1/holds/{id}/verdict"))
            .header("authorization", &format!("Bearer {}", site.token("alice")))
            .header("content-type", "application/json");
        verdict.body = json!({"verdict": "allow", "reason": "batch"}).to_string().into_bytes();
        let answer = approver.ask(&verdict.unsigned());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for peer in &mut peers {
        assert_eq!(peer.read().unwrap().status, 200);
    }
    assert_eq!(upstream.count("CreateAccessKey"), HOLDS);
    for index in 0..HOLDS {
        assert_eq!(upstream.count(&format!("user-{index:04}-")), 1, "user-{index:04}");
    }
    site.verify();
}

#[test]
fn one_agent_cannot_fill_the_house() {
    let upstream = Upstream::answering(CREATED);
    let site = Setup::new(upstream.url()).config("holds: { limit_per_agent: 3 }\n").start();
    let (greedy, modest) = (site.agent("greedy", "olga").keys, site.agent("modest", "olga").keys);
    let ask = |index: usize, keys| {
        let form = format!("Action=CreateAccessKey&Version=2010-05-08&UserName=user-{index}");
        let mut peer = Peer::connect(site.proxy);
        peer.send(&Draft::query("iam", "iam.amazonaws.com", &form).retry_id(&index.to_string()).signed(keys));
        peer
    };
    let _held: Vec<Peer> = (0..3).map(|index| ask(index, &greedy)).collect();
    site.pending(3);
    let refused = ask(3, &greedy).read().unwrap();
    assert!(refused.status == 429 || refused.status == 503 || refused.status == 400, "{}", refused.text());
    let _other = ask(4, &modest);
    site.pending(4);
}
