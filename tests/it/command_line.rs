//! The command line as a script sees it: arguments, output, exit codes.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::site::shown;

fn countersign(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.env_clear().args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn check(arguments: &[&str], exit: i32, part: &str) -> Output {
    let output = countersign(arguments);
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {}", shown(&output));
    assert!(shown(&output).contains(part), "{arguments:?} does not say `{part}`: {}", shown(&output));
    output
}

fn installed(folder: &TempDir) -> String {
    let data = folder.path().join("data").to_str().unwrap().to_owned();
    check(&["init", "--data", &data, "--approver", "alice", "--email", "alice@example.com"], 0, "audit log key");
    data
}

#[test]
fn usage_errors_exit_2_and_say_what_to_do() {
    check(&[], 2, "Usage: countersign");
    check(&["frobnicate"], 2, "unrecognized subcommand");
    check(&["approve", "h_1"], 2, "--reason");
    check(&["init"], 2, "--data DIR");
    check(&["serve", "--data", "/nonexistent"], 2, "`countersign init` makes one");
    check(&["holds", "list", "--api", "http://127.0.0.1:1"], 2, "COUNTERSIGN_TOKEN");
    check(&["--version"], 0, env!("CARGO_PKG_VERSION"));
    check(&["--help"], 0, "credential_process");
}

#[test]
fn api_that_cannot_be_reached_is_said() {
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "cst_x\n").unwrap();
    let token = token.to_str().unwrap();
    check(&["holds", "list", "--api", "http://127.0.0.1:1", "--token-file", token], 2, "is the server running?");
    check(&["holds", "list", "--api", "127.0.0.1:1", "--token-file", token], 2, "is no base URL");
    check(&["approve", "../x", "--reason", "r", "--api", "http://127.0.0.1:1", "--token-file", token], 2, "no hold id");
}

#[test]
fn init_makes_what_serve_needs_and_keeps_it_private() {
    let folder = TempDir::new().unwrap();
    let data = installed(&folder);
    let mode = |name: &str| fs::metadata(Path::new(&data).join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for secret in ["log.key", "server.key", "approvers.json"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    check(&["config", "check", "--data", &data], 0, "good");
    check(&["rules", "check", "--data", &data], 0, "good");
    check(&["rules", "test", "--data", &data], 0, "");
    check(&["audit", "verify", &format!("{data}/audit"), "--key", &format!("{data}/audit/log.pub")], 0, "");
}

#[test]
fn init_overwrites_nothing() {
    let folder = TempDir::new().unwrap();
    let data = installed(&folder);
    let key = fs::read(Path::new(&data).join("log.key")).unwrap();
    check(&["init", "--data", &data, "--approver", "mallory"], 2, "overwrites nothing");
    fs::remove_file(Path::new(&data).join("countersign.yaml")).unwrap();
    check(&["init", "--data", &data, "--approver", "mallory"], 2, "overwrites nothing");
    assert_eq!(fs::read(Path::new(&data).join("log.key")).unwrap(), key);
    let token = Path::new(&data).join("log.key");
    let other = folder.path().join("other");
    let arguments =
        ["init", "--data", other.to_str().unwrap(), "--approver", "a", "--token-file", token.to_str().unwrap()];
    check(&arguments, 2, "cannot write");
    assert_eq!(fs::read(&token).unwrap(), key);
}

#[test]
fn init_writes_values_and_never_yaml() {
    let folder = TempDir::new().unwrap();
    for approver in ["a: b", "a\nrules: {}", "#", "", "é", "../x"] {
        let data = folder.path().join("refused");
        check(&["init", "--data", data.to_str().unwrap(), "--approver", approver], 2, "no id for a person");
        assert!(!data.exists());
    }
    let data = folder.path().join("we\"ird # dir: x");
    let config = folder.path().join("else where.yaml");
    let (data, config) = (data.to_str().unwrap(), config.to_str().unwrap());
    check(&["init", "--data", data, "--config", config, "--approver", "on", "--email", "on@example.com"], 0, "");
    let shown = check(&["config", "show", "--config", config], 0, "log.key");
    assert!(String::from_utf8_lossy(&shown.stdout).contains("we\\\"ird # dir: x"));
    check(&["init", "--data", "/tmp/never", "--approver", "a", "--email", "nobody"], 2, "no e-mail address");
}

#[test]
fn configuration_is_shown_whole_and_reads_back() {
    let folder = TempDir::new().unwrap();
    let data = installed(&folder);
    let first = check(&["config", "show", "--data", &data], 0, "# countersign.yaml:").stdout;
    let copy = Path::new(&data).join("copy.yaml");
    fs::write(&copy, &first).unwrap();
    let second = check(&["config", "show", "--config", copy.to_str().unwrap()], 0, "# copy.yaml:").stdout;
    let values = |text: Vec<u8>| -> Vec<String> {
        let text = String::from_utf8(text).unwrap();
        text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(values(first), values(second));
}

#[test]
fn configuration_mistakes_exit_1_with_every_place() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bad.yaml");
    fs::write(&file, "listen: { agents: here }\nholds: { expire: 5m }\n").unwrap();
    let file = file.to_str().unwrap();
    let output = check(&["config", "check", "--config", file], 1, "bad.yaml:1:19: error: `here` is no address");
    assert!(shown(&output).contains("bad.yaml:2:10: error: unknown key `expire`"), "{}", shown(&output));
    assert!(output.stdout.is_empty());
    check(&["serve", "--config", file], 2, "unknown key `expire`");
    check(&["config", "check", "--config", "/nonexistent.yaml"], 2, "cannot read `/nonexistent.yaml`");
}

#[test]
fn reader_that_goes_away_is_no_error() {
    let folder = TempDir::new().unwrap();
    let data = installed(&folder);
    let mut child = command(&["config", "show", "--data", &data]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn server_that_cannot_start_says_why() {
    let folder = TempDir::new().unwrap();
    let data = installed(&folder);
    let file = Path::new(&data).join("countersign.yaml");
    let whole = fs::read_to_string(&file).unwrap();
    let attempt = |text: &str, part: &str| {
        fs::write(&file, text).unwrap();
        let mut serve = command(&["serve", "--data", &data]);
        let output = serve.env("AWS_ACCESS_KEY_ID", "AKIAX").env("AWS_SECRET_ACCESS_KEY", "x").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
        assert!(shown(&output).contains(part), "`{part}` is missing: {}", shown(&output));
        assert!(!Path::new(&data).join("run.json").exists());
    };
    let local = format!("{whole}upstream: {{ aws: {{ endpoint: 'http://127.0.0.1:1' }} }}\n");
    fs::write(Path::new(&data).join("rules/bad.yaml"), "rules:\n  - id: x\n    decison: allow\n").unwrap();
    attempt(&local, "unknown key `decison`");
    fs::remove_file(Path::new(&data).join("rules/bad.yaml")).unwrap();
    attempt(&local.replace("\"rules\"", "\"no-such-rules\""), "no-such-rules");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = local.replace("127.0.0.1:8700", "127.0.0.1:0").replace("127.0.0.1:8702", "127.0.0.1:0");
    attempt(&free.replace("127.0.0.1:8701", &address), &format!("cannot listen on {address}"));
}

#[test]
fn demo_asks_the_person_at_the_terminal() {
    let python = crate::support::python();
    let mut demo = command(&["demo", "--python", python.to_str().unwrap()]);
    let mut child = demo.env("PATH", std::env::var_os("PATH").unwrap()).stdin(Stdio::piped()).spawn().unwrap();
    // What is typed ahead waits: the second answer is nonsense, the third a no, and then the terminal closes.
    child.stdin.take().unwrap().write_all(b"approve for the rollout\nperhaps\ndeny too much\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = shown(&output);
    assert!(output.status.success(), "{text}");
    let parts = [
        "agent | -> ['deploy-bot']",
        "you | WHAT     deployer asks to create access key",
        "is approved",
        "agent | -> AKIA",
        "asks to attach user policy",
        "is denied",
        "denied by you",
        "too much",
        "auditor | whole",
    ];
    let mut rest = text.as_str();
    for part in parts {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("`{part}` is missing or out of order: {text}")).1;
    }
}
