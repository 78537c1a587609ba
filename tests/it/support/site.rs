//! countersign as an operator runs it: made by `countersign init`, configured by a file, run by
//! `countersign serve`, watched through its API and its log.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::agent::Agent;
use super::peer::{Answer, Peer};
use super::postgres::{Database, Role};
use super::sign::{Draft, Keys};
use super::wait_for;

/// One installation with its own data directory and one running server.
pub(crate) struct Site {
    pub(crate) folder: TempDir,
    setup: Setup,
    server: Option<Child>,
    /// Where agents connect.
    pub(crate) proxy: SocketAddr,
    /// The URL of the listener for agents with TLS, where there is one.
    pub(crate) tls: Option<String>,
    /// Where agents of Postgres connect; port 0 where there is no such listener.
    pub(crate) postgres: SocketAddr,
    /// Where approvers connect.
    pub(crate) api: SocketAddr,
    /// `/metrics` and health.
    pub(crate) admin: SocketAddr,
    tokens: Vec<(String, String)>,
    /// The log's public key as an auditor got it at the beginning.
    log_key: String,
    /// What `run.json` says.
    run: Value,
}

/// What is special about an installation.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) upstream: String,
    pub(crate) rules: String,
    pub(crate) answer_timeout: String,
    /// One more line under `listen`.
    pub(crate) listen_config: String,
    /// One more line under `upstream.aws`.
    pub(crate) upstream_config: String,
    /// The lines below `upstream.postgres`; none: no such plane.
    pub(crate) postgres: String,
    /// Where approvers connect, when it must be known before the start.
    pub(crate) api: Option<SocketAddr>,
    /// The lines of `people`.
    pub(crate) people: String,
    /// More lines for the configuration file.
    pub(crate) config: String,
    /// Program and arguments to put before `countersign serve`.
    pub(crate) launcher: Vec<String>,
    /// Whether there is a CA for interception, from `certs/make-ca`.
    pub(crate) with_ca: bool,
}

impl Setup {
    pub(crate) fn new(upstream: impl Into<String>) -> Self {
        Self {
            upstream: upstream.into(),
            rules: HOLD_KEYS.to_owned(),
            answer_timeout: "15m".to_owned(),
            listen_config: String::new(),
            upstream_config: String::new(),
            postgres: String::new(),
            api: None,
            people: PEOPLE.to_owned(),
            config: String::new(),
            launcher: Vec::new(),
            with_ca: false,
        }
    }

    /// Before a database alone.
    pub(crate) fn postgres(database: &Database, role: Role) -> Self {
        let nowhere = "http://127.0.0.1:9";
        Self { postgres: database.upstream_config(role), ..Self::new(nowhere) }
    }

    pub(crate) fn rules(mut self, rules: &str) -> Self {
        self.rules = rules.to_owned();
        self
    }

    pub(crate) fn answer_timeout(mut self, duration: &str) -> Self {
        self.answer_timeout = duration.to_owned();
        self
    }

    pub(crate) fn listen_config(mut self, line: &str) -> Self {
        self.listen_config = line.to_owned();
        self
    }

    pub(crate) fn upstream_config(mut self, line: &str) -> Self {
        self.upstream_config = line.to_owned();
        self
    }

    pub(crate) fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self
    }

    pub(crate) fn api(mut self, address: SocketAddr) -> Self {
        self.api = Some(address);
        self
    }

    pub(crate) fn people(mut self, lines: &str) -> Self {
        self.people = lines.to_owned();
        self
    }

    pub(crate) fn launcher(mut self, words: &[&str]) -> Self {
        self.launcher = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// With every door for agents of AWS.
    pub(crate) fn with_doors(mut self) -> Self {
        self.with_ca = true;
        let tls = "agents_tls: 127.0.0.1:0\n  agents_socket: agents.sock";
        self.listen_config(&format!("proxy: 127.0.0.1:0\n  transparent: 127.0.0.1:0\n  {tls}"))
    }

    #[track_caller]
    pub(crate) fn start(self) -> Site {
        Site::start(self)
    }
}

/// Everyone of these tests: `olga` owns the agents, `ida` starts their tasks, the others decide.
pub(crate) const APPROVERS: [&str; 5] = ["alice", "bob", "carol", "ida", "olga"];

/// Creating an access key needs one of the security group; deleting a user is denied.
pub(crate) const HOLD_KEYS: &str = "\
rules:
  - id: keys
    match: { action: [aws:iam:CreateAccessKey] }
    decision: hold
    approvers: [security]
    message: Keys that leave need a second pair of eyes.
  - id: no-user-deletion
    match: { action: [aws:iam:DeleteUser] }
    decision: deny
    message: Users are never deleted by agents.
";

impl Site {
    #[track_caller]
    fn start(setup: Setup) -> Self {
        let folder = TempDir::new().unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let api = setup.api.unwrap_or(nowhere);
        let mut site = Self {
            folder,
            setup,
            server: None,
            proxy: nowhere,
            tls: None,
            postgres: nowhere,
            api,
            admin: nowhere,
            tokens: Vec::new(),
            log_key: String::new(),
            run: Value::Null,
        };
        site.init();
        site.serve();
        site
    }

    fn init(&mut self) {
        let data = self.data();
        let said = self.done(&["init", "--data", data.to_str().unwrap(), "--approver", "alice"]);
        let key = said.lines().find_map(|line| line.strip_prefix("audit log key:")).unwrap();
        self.log_key = key.trim().to_owned();
        self.write_config();
        fs::create_dir_all(data.join("rules")).unwrap();
        for entry in fs::read_dir(data.join("rules")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        fs::write(data.join("rules/rules.yaml"), &self.setup.rules).unwrap();
        if self.setup.with_ca {
            let script = super::root().join("certs/make-ca");
            let output = Command::new(script).arg(data.join("interception")).output().unwrap();
            assert!(output.status.success(), "{}", shown(&output));
        }
        for person in APPROVERS {
            let token = self.new_token(person);
            self.tokens.push((person.to_owned(), token));
        }
    }

    /// Everything a restart must find again is in here: also the ports, once they are known.
    fn write_config(&self) {
        let (mut listener, mut upstream) = (String::new(), String::new());
        if !self.setup.postgres.is_empty() {
            listener = format!("  postgres: {}\n", self.postgres);
            upstream = "  postgres:\n".to_owned();
            upstream.extend(self.setup.postgres.lines().map(|line| format!("    {line}\n")));
        }
        let text = format!(
            "listen:\n  agents: {}\n  api: {}\n  admin: {}\n{}  {}\nupstream:\n  aws:\n    endpoint: {}\n    answer_timeout: {}\n    {}\n{}{}{}",
            self.proxy,
            self.api,
            self.admin,
            listener,
            self.setup.listen_config,
            self.setup.upstream,
            self.setup.answer_timeout,
            self.setup.upstream_config,
            upstream,
            self.setup.people,
            self.setup.config
        );
        fs::write(self.config_file(), text).unwrap();
    }

    /// Starts the server, at the same addresses as before, and waits until it says where it listens.
    #[track_caller]
    pub(crate) fn serve(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let mut words = self.setup.launcher.clone();
        words.extend([env!("CARGO_BIN_EXE_countersign").to_owned(), "serve".to_owned()]);
        let run_file = self.data().join("run.json");
        // The one of a killed predecessor would be taken for the new one's.
        drop(fs::remove_file(&run_file));
        let child = Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("COUNTERSIGN_DATA", self.data())
            .env("AWS_ACCESS_KEY_ID", REAL_KEY)
            .env("AWS_SECRET_ACCESS_KEY", REAL_SECRET)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("OIDC_SECRET", "secret-of-the-client")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(child);
        let run = wait_for("the server to listen", || {
            if let Some(status) = self.server.as_mut().unwrap().try_wait().unwrap() {
                panic!("the server ended with {status}: {}", self.log());
            }
            serde_json::from_str::<Value>(&fs::read_to_string(&run_file).ok()?).ok()
        });
        let address = |name: &str| run[name].as_str().unwrap().trim_start_matches("http://").parse().unwrap();
        (self.proxy, self.api, self.admin) = (address("agents"), address("api"), address("admin"));
        self.tls = run["agents_tls"].as_str().map(str::to_owned);
        if let Some(address) = run["postgres"].as_str() {
            self.postgres = address.trim_start_matches("postgres://").parse().unwrap();
        }
        self.run = run;
        self.write_config();
    }

    /// Where another listener is, by its name in `run.json`.
    #[track_caller]
    pub(crate) fn listener(&self, name: &str) -> SocketAddr {
        let url = self.run[name].as_str().unwrap_or_else(|| panic!("nobody listens as {name}"));
        url.split_once("://").unwrap().1.parse().unwrap()
    }

    /// The agent with the environment that `countersign env` gives it for a door.
    #[track_caller]
    pub(crate) fn at_door(&self, agent: &str, door: &str) -> Agent {
        let text = self.done(&["env", agent, "--door", door, "--shell", "dotenv"]);
        let variables: Vec<(String, String)> = text
            .lines()
            .map(|line| line.split_once('=').unwrap())
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        let value = |name: &str| variables.iter().find(|(it, _)| it == name).unwrap().1.clone();
        let keys = Keys { id: value("AWS_ACCESS_KEY_ID"), secret: value("AWS_SECRET_ACCESS_KEY") };
        let agent = Agent { endpoint: String::new(), keys, extra: variables };
        if door == "transparent" { agent.led_to(self.listener("transparent")) } else { agent }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// The exit code of a server that was told to end.
    pub(crate) fn wait_for_exit(&mut self) -> Option<i32> {
        let status = wait_for("the server to end", || self.server.as_mut().unwrap().try_wait().unwrap());
        self.server = None;
        status.code()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.server_id().to_string();
        assert!(Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap().success());
    }

    pub(crate) fn server_id(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.server.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn config_file(&self) -> PathBuf {
        self.data().join("countersign.yaml")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// What the server wrote to stdout and stderr.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("COUNTERSIGN_DATA", self.data())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs a subcommand as the operator.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a subcommand that has to succeed; its stdout.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", shown(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a subcommand as an approver, who holds nothing but a token.
    pub(crate) fn cli_as(&self, person: &str, arguments: &[&str]) -> Output {
        self.command(arguments)
            .env_remove("COUNTERSIGN_DATA")
            .env("COUNTERSIGN_API", format!("http://{}", self.api))
            .env("COUNTERSIGN_TOKEN", self.token(person))
            .output()
            .unwrap()
    }

    /// One more token for a person.
    #[track_caller]
    pub(crate) fn new_token(&self, person: &str) -> String {
        let issued: Value = serde_json::from_str(&self.done(&["approver", "add", person, "--json"])).unwrap();
        issued["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn token(&self, person: &str) -> &str {
        let found = self.tokens.iter().find(|(name, _)| name == person);
        found.map(|(_, token)| token.as_str()).unwrap()
    }

    /// A new agent of that owner.
    #[track_caller]
    pub(crate) fn agent(&self, name: &str, owner: &str) -> Agent {
        let text = self.done(&["agent", "add", name, "--owner", owner, "--json"]);
        let keys: Value = serde_json::from_str(&text).unwrap();
        Agent {
            endpoint: format!("http://{}", self.proxy),
            keys: Keys {
                id: keys["access_key_id"].as_str().unwrap().to_owned(),
                secret: keys["secret_access_key"].as_str().unwrap().to_owned(),
            },
            extra: Vec::new(),
        }
    }

    /// One request to the approver API.
    #[track_caller]
    pub(crate) fn api(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut draft =
            Draft::new("api", &self.api.to_string(), method, path).header("authorization", &format!("Bearer {token}"));
        if let Some(body) = body {
            draft = draft.header("content-type", "application/json");
            draft.body = body.to_string().into_bytes();
        }
        Peer::connect(self.api).ask(&draft.unsigned())
    }

    /// All holds the server knows, oldest first.
    #[track_caller]
    pub(crate) fn holds(&self) -> Vec<Value> {
        let answer = self.api(self.token("alice"), "GET", "/v1/holds", None);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let value: Value = serde_json::from_str(&answer.text()).unwrap();
        value["holds"].as_array().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn hold(&self, id: &str) -> Value {
        let answer = self.api(self.token("alice"), "GET", &format!("/v1/holds/{id}"), None);
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_str(&answer.text()).unwrap()
    }

    /// Waits until that many holds are pending with a client attached; their ids, oldest first.
    #[track_caller]
    pub(crate) fn pending(&self, count: usize) -> Vec<String> {
        wait_for("pending holds", || {
            let ids: Vec<String> = self
                .holds()
                .iter()
                .filter(|hold| hold["state"] == "pending" && hold["attached"].as_u64() > Some(0))
                .map(|hold| hold["id"].as_str().unwrap().to_owned())
                .collect();
            (ids.len() == count).then_some(ids)
        })
    }

    #[track_caller]
    pub(crate) fn wait_for_state(&self, id: &str, state: &str) -> Value {
        wait_for(&format!("{id} to be {state}"), || {
            let hold = self.hold(id);
            (hold["state"] == state).then_some(hold)
        })
    }

    /// A verdict through the REST API.
    #[track_caller]
    pub(crate) fn verdict(&self, person: &str, id: &str, verdict: &str, reason: &str) -> Answer {
        let body = json!({"verdict": verdict, "reason": reason});
        self.api(self.token(person), "POST", &format!("/v1/holds/{id}/verdict"), Some(&body))
    }

    /// A verdict that has to be taken, on the hold as it stands now.
    #[track_caller]
    pub(crate) fn decide(&self, person: &str, id: &str, verdict: &str) {
        let body = json!({"verdict": verdict, "reason": "as agreed", "digest": self.hold(id)["digest"]});
        let answer = self.api(self.token(person), "POST", &format!("/v1/holds/{id}/verdict"), Some(&body));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Every record of the audit log.
    #[track_caller]
    pub(crate) fn records(&self) -> Vec<Value> {
        let folder = self.data().join("audit");
        let text = self.done(&["audit", "tail", folder.to_str().unwrap(), "--json", "-n", "1000000"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The types of a hold's records, in order.
    #[track_caller]
    pub(crate) fn history(&self, hold: &str) -> Vec<String> {
        let records = self.records();
        let of = records.iter().filter(|record| record["hold"] == hold);
        of.map(|record| record["type"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits for a record of that hold: one that no answer to a client waited for.
    #[track_caller]
    pub(crate) fn wait_for_record(&self, hold: &str, kind: &str) -> Value {
        wait_for(&format!("{kind} of {hold}"), || {
            self.records().into_iter().find(|record| record["hold"] == hold && record["type"] == kind)
        })
    }

    /// The log verifies offline, with the public key alone.
    #[track_caller]
    pub(crate) fn verify(&self) {
        let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .env_clear()
            .args(["audit", "verify", self.data().join("audit").to_str().unwrap(), "--key", &self.log_key])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", shown(&output));
    }

    /// One number of `/metrics`.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> i64 {
        let draft = Draft::new("admin", &self.admin.to_string(), "GET", "/metrics");
        let text = Peer::connect(self.admin).ask(&draft.unsigned()).text();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("no metric {name}: {text}")).split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Every file below the installation's folder, with its bytes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        collect(self.folder.path(), &mut files);
        files
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It may have ended by itself.
            drop(server.kill());
            drop(server.wait());
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(30).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
            std::io::stderr().write_all(format!("--- the server's last words:\n{tail}\n").as_bytes()).unwrap();
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            collect(&path, files);
        } else if entry.file_type().unwrap().is_file() {
            let bytes = fs::read(&path).unwrap();
            files.push((path, bytes));
        }
    }
}

pub(crate) fn shown(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// The real credential; it must be seen by the upstream only.
pub(crate) const REAL_KEY: &str = "AKIAREALREALREALREAL";
pub(crate) const REAL_SECRET: &str = "real-secret-that-only-the-upstream-may-see";

const PEOPLE: &str = "\
people:
  alice: { emails: [alice@example.com], groups: [security] }
  bob: { emails: [bob@example.com], groups: [security], slack: [T0HOME/UBOB] }
  carol: { emails: [carol@example.com], groups: [finance] }
  ida: { emails: [ida@example.com], groups: [security] }
  olga: { emails: [olga@example.com], groups: [security, platform] }
";
