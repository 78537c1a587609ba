//! Agents: unmodified boto3 and the unmodified AWS CLI, each in its own process with nothing in
//! its environment but what `countersign env` would give it.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::sign::Keys;
use super::{python, root};

/// Where an agent is pointed and what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    /// None: wherever its environment leads it.
    pub(crate) endpoint: String,
    pub(crate) keys: Keys,
    pub(crate) extra: Vec<(String, String)>,
}

/// A call that has been started and not yet waited for.
pub(crate) struct Call(Child);

impl Agent {
    /// Sets one more environment variable.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.extra.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As if DNS led all of AWS's names to that address.
    pub(crate) fn led_to(self, address: std::net::SocketAddr) -> Self {
        let folder = root().join("tests/it/support/redirect");
        let preload = format!("--require={}", root().join("tests/js/doors.cjs").display());
        self.with("LED_TO_PORT", &address.port().to_string())
            .with("PYTHONPATH", folder.to_str().unwrap())
            .with("NODE_OPTIONS", &preload)
    }

    /// Runs a boto3 snippet to its end; the answer is what it leaves in `result`.
    #[track_caller]
    pub(crate) fn run(&self, snippet: &str) -> Value {
        self.start(snippet).wait()
    }

    pub(crate) fn start(&self, snippet: &str) -> Call {
        let script = root().join("tests/it/support/agent.py");
        Call(self.command(&python()).arg(script).arg(snippet).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Runs the AWS CLI to its end.
    pub(crate) fn aws(&self, arguments: &[&str]) -> Output {
        self.command(&root().join(".venv/bin/aws")).args(arguments).output().unwrap()
    }

    pub(crate) fn start_aws(&self, arguments: &[&str]) -> Call {
        Call(self.command(&root().join(".venv/bin/aws")).args(arguments).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Starts a task of `tests/js/agent.mjs`, the SDK for JavaScript.
    pub(crate) fn start_js(&self, task: &str, argument: &str) -> Call {
        let folder = root().join("tests/js");
        assert!(
            folder.join("node_modules").exists(),
            "the SDK for JavaScript is missing: run `make test`, which gets it"
        );
        let mut command = self.command(Path::new("node"));
        command.env("AWS_REGION", "us-east-1").arg(folder.join("agent.mjs")).args([task, argument]);
        Call(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", "/nonexistent")
            .env("AWS_ACCESS_KEY_ID", &self.keys.id)
            .env("AWS_SECRET_ACCESS_KEY", &self.keys.secret)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.extra.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if !self.endpoint.is_empty() {
            command.env("AWS_ENDPOINT_URL", &self.endpoint);
        }
        command
    }
}

impl Call {
    pub(crate) fn new(child: Child) -> Self {
        Self(child)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits for the snippet's `result`.
    #[track_caller]
    pub(crate) fn wait(self) -> Value {
        let output = self.output();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match serde_json::from_str(&text) {
            Ok(value) => value,
            Err(error) => panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }

    pub(crate) fn output(self) -> Output {
        self.0.wait_with_output().unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// The agent dies; its sockets close.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}
