//! People hear of holds: webhooks, checked by the library of those who wrote the standard.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::support::site::{HOLD_KEYS, Setup, Site, shown};
use crate::support::upstream::Upstream;
use crate::support::{CREATED, python, root, wait_for};

/// A receiver in a process of its own.
struct Receiver {
    port: u16,
    lines: Lines<BufReader<ChildStdout>>,
    process: Child,
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

impl Receiver {
    /// One that refuses so many messages before it takes any.
    fn start(refusals: u32) -> Self {
        let mut process = Command::new(python())
            .arg(root().join("tests/it/support/receiver.py"))
            .args([SECRET, &refusals.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap().parse().unwrap();
        Self { port, lines, process }
    }

    /// The next message that came, whether it was taken or not.
    #[track_caller]
    fn next(&mut self) -> Value {
        let line: Value = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line.get("error"), None, "{line}");
        line
    }

    /// A site that tells this receiver, and what its AWS is.
    fn site(&self, secret: &str) -> (Site, Upstream) {
        let upstream = Upstream::answering(CREATED);
        let url = format!("http://127.0.0.1:{}/in?a=b", self.port);
        let channel = format!("channels:\n  webhooks:\n    siem: {{url: '{url}', secret_file: siem.secret}}\n");
        let site = Setup::new(upstream.url()).rules(HOLD_KEYS).config(&channel).start();
        std::fs::write(site.data().join("siem.secret"), secret).unwrap();
        (site, upstream)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

const CREATE_KEY: &str = "result = client('iam').create_access_key(UserName='u')['AccessKey']['Status']";

#[test]
fn a_webhook_is_told_of_a_hold_and_of_its_end() {
    let mut receiver = Receiver::start(0);
    let (site, _upstream) = receiver.site(SECRET);
    let call = site.agent("bot", "olga").start(CREATE_KEY);
    let opened = receiver.next();
    let id = site.pending(1).remove(0);
    assert_eq!((opened["path"].as_str(), opened["type"].as_str()), (Some("/in?a=b"), Some("application/json")));
    assert!(opened["id"].as_str().unwrap().starts_with(&format!("{id}.1.")), "{opened}");
    assert_eq!(opened["event"]["type"], "hold.opened");
    assert_eq!(opened["event"]["data"]["id"], id.as_str());
    assert_eq!(opened["event"]["data"]["actions"][0]["parameters"]["UserName"], "u");
    site.decide("alice", &id, "allow");
    assert_eq!(call.wait(), "Active");
    // Between the verdict and the end more may be told, never in another order.
    let last = std::iter::repeat_with(|| receiver.next()).find(|it| it["event"]["type"] == "hold.ended").unwrap();
    assert_eq!(last["event"]["data"]["state"], "executed");
    assert_eq!(last["event"]["data"]["upstream_status"], 200);
}

#[test]
fn a_receiver_that_is_down_is_told_later_under_the_same_id() {
    let mut receiver = Receiver::start(2);
    let two = format!("{SECRET}\nwhsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n");
    let (mut site, _upstream) = receiver.site(&two);
    let call = site.agent("bot", "olga").start(CREATE_KEY);
    let ids: Vec<_> = (0..3).map(|_| receiver.next()["id"].as_str().unwrap().to_owned()).collect();
    let id = site.pending(1).remove(0);
    assert!(ids.iter().all(|it| it.starts_with(&format!("{id}.1."))), "{ids:?}");
    wait_for("its place to be kept", || {
        std::fs::read_to_string(site.data().join("notices-siem.json")).ok()?.contains(&id).then_some(())
    });
    // A new process goes on where the last one stopped.
    site.kill();
    site.serve();
    let next = receiver.next();
    assert!(next["id"].as_str().unwrap().starts_with(&format!("{id}.2.")), "{next}");
    site.verdict("alice", &id, "deny", "no");
    let last = std::iter::repeat_with(|| receiver.next()).find(|it| it["event"]["type"] == "hold.ended").unwrap();
    assert_eq!(last["event"]["data"]["state"], "denied");
    call.kill();
    assert!(site.metric("countersign_notices_total") >= 1);
}

#[test]
fn a_channel_can_be_tried() {
    let mut receiver = Receiver::start(1);
    let (site, _upstream) = receiver.site(SECRET);
    let refused = site.cli(&["notify", "test", "siem"]);
    assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused));
    assert!(shown(&refused).contains("it answered 503"), "{}", shown(&refused));
    let taken = site.cli(&["notify", "test", "siem"]);
    assert_eq!(taken.status.code(), Some(0), "{}", shown(&taken));
    assert_eq!(receiver.next()["event"]["type"], "hold.opened");
    assert_eq!(receiver.next()["event"]["data"]["agent"]["id"], "deployer");
    let unknown = site.cli(&["notify", "test", "sime"]);
    assert!(shown(&unknown).contains("there are: siem"), "{}", shown(&unknown));
    std::fs::write(site.data().join("siem.secret"), "hunter2").unwrap();
    let secretless = shown(&site.cli(&["notify", "test", "siem"]));
    assert!(secretless.contains("whsec_") && !secretless.contains("hunter2"), "{secretless}");
}
