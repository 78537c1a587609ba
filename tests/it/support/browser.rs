//! Headless Chromium, driven by playwright through `tests/page/browser.mjs`.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::root;

/// One browser; ends with the value.
pub(crate) struct Browser {
    child: Child,
    /// Closed, it has the browser end.
    orders: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
        let chromium = chromium.iter().find(|path| std::path::Path::new(path).exists());
        let chromium = chromium.unwrap_or_else(|| panic!("Chromium is missing: run `make test`, which gets it"));
        let folder = root().join("tests/page");
        let mut child = Command::new("node")
            .arg(folder.join("browser.mjs"))
            .arg(chromium)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, orders, answers }
    }

    /// Does one thing in a tab, and gives what came of it.
    #[track_caller]
    pub(crate) fn act(&mut self, tab: &str, what: &str, more: Value) -> Value {
        let answer = self.try_act(tab, what, more.clone());
        match answer {
            Ok(value) => value,
            Err(error) => panic!("{tab}: {what} {more}: {error}"),
        }
    }

    #[track_caller]
    pub(crate) fn try_act(&mut self, tab: &str, what: &str, more: Value) -> Result<Value, String> {
        let mut order = json!({"tab": tab, "do": what});
        for (name, value) in more.as_object().unwrap() {
            order[name] = value.clone();
        }
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        let line = self.answers.next().unwrap_or_else(|| panic!("the browser ended: {order}")).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer["ok"].clone()),
        }
    }

    #[track_caller]
    pub(crate) fn text(&mut self, tab: &str, of: &str) -> String {
        self.act(tab, "text", json!({"of": of})).as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn count(&mut self, tab: &str, of: &str) -> u64 {
        self.act(tab, "count", json!({"of": of})).as_u64().unwrap()
    }

    /// Waits until an element says that.
    #[track_caller]
    pub(crate) fn see(&mut self, tab: &str, of: &str, text: &str) {
        self.act(tab, "see", json!({"of": of, "text": text}));
    }

    #[track_caller]
    pub(crate) fn click(&mut self, tab: &str, of: &str) {
        self.act(tab, "click", json!({"of": of}));
    }

    #[track_caller]
    pub(crate) fn fill(&mut self, tab: &str, of: &str, text: &str) {
        self.act(tab, "fill", json!({"of": of, "text": text}));
    }

    /// A picture of a whole page, for whoever asks for them by `COUNTERSIGN_SHOTS=folder`.
    #[track_caller]
    pub(crate) fn shot(&mut self, tab: &str, name: &str) {
        if let Some(folder) = std::env::var_os("COUNTERSIGN_SHOTS") {
            let file = std::path::Path::new(&folder).join(format!("{name}.png"));
            self.act(tab, "shot", json!({"file": file}));
        }
    }

    /// Nothing that the browser complained about, such as a breach of the content security policy.
    #[track_caller]
    pub(crate) fn no_noise(&mut self, except: &[&str]) {
        let noise = self.act("-", "noise", json!({}));
        let is_expected = |line: &&Value| !except.iter().any(|it| line.as_str().unwrap().contains(it));
        let unexpected: Vec<_> = noise.as_array().unwrap().iter().filter(is_expected).collect();
        assert!(unexpected.is_empty(), "{unexpected:#?}");
    }

    /// What an accessibility checker finds wrong.
    #[track_caller]
    pub(crate) fn no_barrier(&mut self, tab: &str) {
        let found = self.act(tab, "axe", json!({}));
        assert_eq!(found, json!([]), "{tab}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.orders.take());
        drop(self.child.wait());
    }
}
