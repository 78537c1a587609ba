//! `countersign demo`: a whole story on this machine, with the person at the terminal as approver.
//!
//! Everything is real but AWS, for which moto's server stands in: `init`, `serve` and the agent run
//! as processes of their own in a temporary directory, and the verdict goes through the REST API.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::client::Client;
use super::holds::text;
use super::{Common, Exit};
use crate::card::visible;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Python that has boto3 and moto's server.
    #[arg(long, value_name = "FILE", default_value = ".venv/bin/python")]
    python: PathBuf,
    /// Approve whatever is held instead of asking.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(arguments: Arguments, _common: &Common, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let python = find_python(&arguments.python)?;
    let folder = tempfile::Builder::new().prefix("countersign-demo-").tempdir()?;
    let data = folder.path().join("data");
    let program = std::env::current_exe()?;
    let countersign = |words: &[&str]| command(&program, &data, words);

    say(out, "", "A local AWS starts (moto's server), and countersign before it.")?;
    let mut cloud = Process::start(python_on(&python, CLOUD).stdin(Stdio::piped()))?;
    let aws = cloud.line().context("the local AWS did not start: does `import moto.server` work in that Python?")?;
    run_to_end(&mut countersign(&["init", "--approver", "you", "--upstream", &aws, "--any-port"]))?;
    add_owner(&data)?;
    let token = issued(&mut countersign(&["approver", "add", "you", "--json"]), "token")?;
    let mut key = countersign(&["agent", "add", "deployer", "--owner", "olga", "--json"]);
    let key: Value = serde_json::from_str(&run_to_end(&mut key)?)?;
    let errors = std::fs::File::create(folder.path().join("server.log"))?;
    let mut serve = countersign(&["serve"]);
    serve.env("AWS_ACCESS_KEY_ID", "AKIAREALREALREALREAL").env("AWS_SECRET_ACCESS_KEY", "real").stderr(errors);
    let mut server = Process::start(&mut serve)?;
    let agents = listening(&mut server, "agents")
        .with_context(|| std::fs::read_to_string(folder.path().join("server.log")).unwrap_or_default())?;
    let api = listening(&mut server, "api").context("the server ended")?;
    let client = Client::with_token(&api, &token)?;

    say(out, "", "An agent starts. It has a virtual key and an endpoint, nothing else.")?;
    let mut agent = python_on(&python, AGENT);
    agent
        .env("AWS_ENDPOINT_URL", agents)
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_SDK_UA_APP_ID", "ticket-4711");
    for (variable, member) in [("AWS_ACCESS_KEY_ID", "access_key_id"), ("AWS_SECRET_ACCESS_KEY", "secret_access_key")] {
        agent.env(variable, text(&key, member));
    }
    let agent = Process::start(&mut agent)?;
    accompany(&agent, &client, arguments.yes, out)?;

    say(out, "", "An auditor verifies the log, offline, with its public key.")?;
    let log = data.join("audit");
    let (log, key) = (log.to_string_lossy(), log.join("log.pub"));
    let verified = run_to_end(&mut countersign(&["audit", "verify", &log, "--key", &key.to_string_lossy()]))?;
    for line in verified.lines() {
        say(out, "auditor", line)?;
    }
    Ok(Exit::Done)
}

/// Tells what the agent says, and asks the person whenever something is held, until the agent ends.
fn accompany(agent: &Process, client: &Client, yes: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut asked: Vec<String> = Vec::new();
    loop {
        match agent.lines.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => say(out, "agent", &line)?,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let answer = client.get("/v1/holds")?;
                let holds = answer.get("holds").and_then(Value::as_array).cloned().unwrap_or_default();
                for hold in holds.iter().filter(|hold| text(hold, "state") == "pending") {
                    let id = text(hold, "id").to_owned();
                    if !asked.contains(&id) {
                        decide(&id, client, yes, out)?;
                        asked.push(id);
                    }
                }
            }
        }
    }
}

fn decide(id: &str, client: &Client, yes: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let path = format!("/v1/holds/{id}");
    let hold = client.get(&path)?;
    say(out, "", "The agent waits on its connection. You see:")?;
    for line in text(&hold, "card").lines() {
        say(out, "you", line)?;
    }
    let (verdict, reason) = if yes { ("allow", "the demo was started with --yes".to_owned()) } else { ask(out)? };
    let body = json!({ "verdict": verdict, "reason": reason, "digest": text(&hold, "digest") });
    let after = client.post(&format!("{path}/verdict"), &body)?;
    say(out, "you", &format!("{id} is {}", visible(text(&after, "state"))))?;
    Ok(())
}

/// Asks until the answer is one; a terminal that closes says no.
fn ask(out: &mut dyn Write) -> anyhow::Result<(&'static str, String)> {
    loop {
        write!(out, "\ntype `approve` or `deny`, and a reason: ")?;
        out.flush()?;
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            writeln!(out)?;
            return Ok(("deny", "the terminal was closed".to_owned()));
        }
        let (word, reason) = line.trim().split_once(' ').unwrap_or((line.trim(), "no reason given"));
        match word {
            "approve" => return Ok(("allow", reason.to_owned())),
            "deny" => return Ok(("deny", reason.to_owned())),
            _ => {}
        }
    }
}

fn say(out: &mut dyn Write, who: &str, line: &str) -> std::io::Result<()> {
    if who.is_empty() {
        writeln!(out, "\n== {line}\n")?
    } else {
        writeln!(out, "{who:>8} | {line}")?
    }
    out.flush()
}

fn find_python(named: &Path) -> anyhow::Result<PathBuf> {
    let has_moto = |python: &Path| {
        let mut import = Command::new(python);
        import.args(["-c", "import boto3, moto.server"]).stdout(Stdio::null()).stderr(Stdio::null());
        import.status().is_ok_and(|status| status.success())
    };
    let fallback = Path::new("python3");
    let found = [named, fallback].into_iter().find(|python| has_moto(python));
    found.map(Path::to_path_buf).with_context(|| {
        format!(
            "neither `{}` nor `python3` has boto3 and moto's server: run `make setup` in the repository, or \
             `pip install boto3 'moto[server]'` and name that Python with --python",
            named.display()
        )
    })
}

fn python_on(python: &Path, program: &str) -> Command {
    let mut command = Command::new(python);
    command.args(["-c", program]).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn command(program: &Path, data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words).arg("--data").arg(data).stdin(Stdio::null()).stderr(Stdio::piped());
    for variable in ["COUNTERSIGN_CONFIG", "COUNTERSIGN_DATA", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"] {
        command.env_remove(variable);
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// What a command that has to succeed wrote.
fn run_to_end(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn issued(command: &mut Command, member: &str) -> anyhow::Result<String> {
    let answer: Value = serde_json::from_str(&run_to_end(command)?)?;
    Ok(text(&answer, member).to_owned())
}

/// Whoever owns an agent cannot decide for it: it takes a second person.
fn add_owner(data: &Path) -> anyhow::Result<()> {
    let file = data.join(super::CONFIG_FILE);
    let configuration = std::fs::read_to_string(&file)?;
    let owner = "people:\n  olga: { emails: [olga@example.com], groups: [platform] }\n";
    std::fs::write(&file, configuration.replacen("people:\n", owner, 1))?;
    Ok(())
}

/// The address of the server's listener of that name, as it says it.
fn listening(server: &mut Process, name: &str) -> Option<String> {
    let start = format!("{name} listening on ");
    std::iter::from_fn(|| server.line()).find_map(|line| line.strip_prefix(&start).map(str::to_owned))
}

/// A process whose output is read line by line; it ends with its owner.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Process {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{name}`"))?;
        let Some(output) = child.stdout.take() else { bail!("`{name}` has no output") };
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The next line; `None` when the process has ended, or says nothing for long.
    fn line(&mut self) -> Option<String> {
        self.lines.recv_timeout(Duration::from_secs(60)).ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to be done about one that does not end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const CLOUD: &str = include_str!("demo/cloud.py");
const AGENT: &str = include_str!("demo/agent.py");
