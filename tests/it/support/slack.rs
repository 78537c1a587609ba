//! A workspace of Slack in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::site::{HOLD_KEYS, Setup, Site};
use super::upstream::Upstream;
use super::{CREATED, python, root, wait_for};

pub(crate) struct Workspace {
    port: u16,
    orders: Mutex<Option<ChildStdin>>,
    lines: Arc<Mutex<Vec<Value>>>,
    process: Child,
    count: AtomicU32,
}

const SECRET: &str = "8f742231b10e8888abcd99yyyzzz85a5";

impl Workspace {
    pub(crate) fn start() -> Self {
        let mut process = Command::new(python())
            .arg(root().join("tests/it/support/slack.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = said.next().unwrap().unwrap().parse().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in said.map_while(Result::ok) {
                kept.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { port, orders: Mutex::new(process.stdin.take()), lines, process, count: AtomicU32::new(0) }
    }

    /// A site whose holds stand in this workspace, and what its AWS is; `more` are lines of its channel.
    pub(crate) fn site(&self, rules: &str, more: &str) -> (Site, Upstream) {
        let upstream = Upstream::answering(CREATED);
        let mut channel = format!(
            "channels:\n  slack:\n    ops:\n      api: http://127.0.0.1:{}/api\n      channel: C0OPS\n      workspace: T0HOME\n      token_file: slack.token\n      signing_secret_file: slack.secret\n",
            self.port
        );
        more.lines().for_each(|line| channel.push_str(&format!("      {line}\n")));
        let site = Setup::new(upstream.url()).rules(rules).config(&channel).start();
        std::fs::write(site.data().join("slack.token"), "xoxb-1-fake\n").unwrap();
        // The old one while it is replaced, and the new one.
        std::fs::write(site.data().join("slack.secret"), format!("an-old-one\n{SECRET}\n")).unwrap();
        (site, upstream)
    }

    /// As [`Workspace::site`] where creating keys is held.
    pub(crate) fn site_of_keys(&self) -> (Site, Upstream) {
        self.site(HOLD_KEYS, "map_by_email: true")
    }

    /// Sends an interaction to a site; what Slack's own framework and the site say to it.
    #[track_caller]
    pub(crate) fn interact(&self, site: &Site, order: Value) -> Value {
        let tag = self.begin(site, order);
        self.answer(&tag)
    }

    /// Begins to send one; its name.
    pub(crate) fn begin(&self, site: &Site, mut order: Value) -> String {
        let tag = format!("order {}", self.count.fetch_add(1, Ordering::Relaxed));
        order["tag"] = tag.clone().into();
        order["url"] = format!("http://{}/v1/slack/ops", site.api).into();
        self.order(&order);
        tag
    }

    #[track_caller]
    pub(crate) fn answer(&self, tag: &str) -> Value {
        wait_for(tag, || self.lines.lock().unwrap().iter().find(|line| line["order"] == tag).cloned())
    }

    /// Clicks a button of a message; the dialog that opens.
    #[track_caller]
    pub(crate) fn click(&self, site: &Site, ts: &Value, action: &str, user: &str) -> Value {
        let before = self.calls("views.open").len();
        let answer = self.interact(site, json!({"do": "click", "ts": ts, "action": action, "user": user}));
        assert_eq!(
            (&answer["statuses"], &answer["bolt"], &answer["taken"]),
            (&json!([200]), &json!(200), &json!(true))
        );
        wait_for("a dialog", || self.calls("views.open").into_iter().nth(before))
    }

    /// Sends a dialog; what is wrong with it, `null` when it is taken.
    #[track_caller]
    pub(crate) fn submit(&self, site: &Site, dialog: &Value, user: &str, values: &Value) -> Value {
        let order = json!({"do": "submit", "view": dialog["reply"]["view"]["id"], "user": user, "values": values});
        let answer = self.interact(site, order);
        assert_eq!(
            (&answer["statuses"], &answer["bolt"], &answer["taken"]),
            (&json!([200]), &json!(200), &json!(true))
        );
        let said = answer["said"].as_str().unwrap();
        if said.is_empty() { Value::Null } else { serde_json::from_str::<Value>(said).unwrap()["errors"].take() }
    }

    /// Makes a member of whom `users.info` says so.
    pub(crate) fn member(&self, user: &str, email: &str, more: &Value) {
        let mut info = json!({
            "id": user, "team_id": "T0HOME", "deleted": false, "is_bot": false, "is_restricted": false,
            "is_ultra_restricted": false, "is_email_confirmed": true, "profile": {"email": email},
        });
        info.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.order(&json!({"do": "users", "users": {user: info}}));
    }

    pub(crate) fn order(&self, order: &Value) {
        let mut orders = self.orders.lock().unwrap();
        writeln!(orders.as_mut().unwrap(), "{order}").unwrap();
    }

    /// Lets one call of a method fail.
    pub(crate) fn refuse(&self, method: &str, status: u16, headers: &Value, reply: &Value) {
        let refusal = json!({"method": method, "status": status, "headers": headers, "reply": reply});
        self.order(&json!({"do": "refuse", "refusal": refusal}));
    }

    /// All calls so far; none may be one that Slack would not take.
    #[track_caller]
    pub(crate) fn calls(&self, method: &str) -> Vec<Value> {
        let lines = self.lines.lock().unwrap();
        let mistake = lines.iter().find(|line| line.get("mistake").is_some());
        assert_eq!(mistake, None);
        lines.iter().filter(|line| line["call"] == method).cloned().collect()
    }

    /// The first call of that method for which `is_it` holds.
    #[track_caller]
    pub(crate) fn call(&self, method: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for(method, || self.calls(method).into_iter().find(|call| is_it(call)))
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        drop(self.orders.get_mut().unwrap().take());
        self.process.wait().unwrap();
    }
}
