//! Virtual keys and approver tokens, as an operator makes them and as SDKs read them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::python;
use crate::support::site::{Setup, Site};
use crate::support::upstream::Upstream;

fn site() -> (Upstream, Site) {
    let upstream = Upstream::answering("<ListUsersResponse><ListUsersResult/></ListUsersResponse>");
    let site = Setup::new(upstream.url()).start();
    (upstream, site)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn refused(site: &Site, arguments: &[&str]) -> String {
    let output = site.cli(arguments);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn secret_is_shown_when_it_is_made_and_never_again() {
    let (_upstream, site) = site();
    let made = json(&site.done(&["agent", "add", "bot", "--owner", "olga", "--json"]));
    let secret = made["secret_access_key"].as_str().unwrap();
    let issued = json(&site.done(&["approver", "add", "alice", "--json"]));
    let token = issued["token"].as_str().unwrap();
    for arguments in [
        ["agent", "list", "--json"].as_slice(),
        &["agent", "list"],
        &["approver", "list", "--json"],
        &["approver", "list"],
        &["config", "show"],
    ] {
        let said = site.done(arguments);
        assert!(!said.contains(secret) && !said.contains(token), "{arguments:?}: {said}");
    }
    for name in ["root.key", "agents.json", "approvers.json"] {
        let file = site.data().join(name);
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains(secret) && !text.contains(token), "{name}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn names_nobody_knows_are_refused_with_the_way_out() {
    let (_upstream, site) = site();
    site.agent("bot", "group:security");
    for (arguments, part) in [
        (["agent", "add", "bot", "--owner", "olga"].as_slice(), "`countersign agent rotate bot` gives it a new key"),
        (&["agent", "add", "new", "--owner", "olgaa"], "the configuration has no person `olgaa`"),
        (&["agent", "add", "new", "--owner", "group:nobody"], "the configuration has no group `nobody`"),
        (&["agent", "add", "a b", "--owner", "olga"], "cannot be the name of an agent"),
        (&["agent", "rotate", "new"], "there is no agent `new`"),
        (&["agent", "revoke", "AKCSAAAAAAAAAAAAAAAA"], "there is neither an agent nor a key"),
        (&["credentials", "--agent", "new"], "there is no agent `new`"),
        (&["credentials", "--agent", "bot", "--duration", "37h"], "at most 36 hours"),
        (&["credentials", "--agent", "bot", "--duration", "1"], "a whole number with a unit"),
        (&["env", "new"], "there is no agent `new`"),
        (&["approver", "add", "mallory"], "the configuration has no person `mallory`"),
        (&["approver", "revoke", "t_nothing"], "there is no token `t_nothing`"),
    ] {
        let said = refused(&site, arguments);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

#[test]
fn rotated_keys_overlap_and_a_revoked_one_ends() {
    let (_upstream, site) = site();
    let old = site.agent("bot", "olga");
    let users = |agent: &Agent| agent.run("result = list(client('iam').list_users())");
    assert!(users(&old).as_array().is_some());
    let new = json(&site.done(&["agent", "rotate", "bot", "--overlap", "1h", "--json"]));
    let mut rotated = old.clone();
    rotated.keys.id = new["access_key_id"].as_str().unwrap().to_owned();
    rotated.keys.secret = new["secret_access_key"].as_str().unwrap().to_owned();
    assert!(users(&rotated).as_array().is_some());
    assert!(users(&old).as_array().is_some());
    site.done(&["agent", "revoke", &old.keys.id]);
    let listed = json(&site.done(&["agent", "list", "--json"]));
    let states: Vec<&str> =
        listed[0]["keys"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["revoked", "valid"]);
    crate::support::wait_for("the revocation to be seen", || {
        (users(&old)["error"] == "InvalidClientTokenId").then_some(())
    });
    assert!(users(&rotated).as_array().is_some());
}

/// What a process with the profile or the variables of `countersign env` gets from STS, through us.
fn shell(script: &str, environment: &[(&str, &str)]) -> Output {
    Command::new("sh")
        .args(["-ec", script])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("PYTHON", python())
        .env("COUNTERSIGN", env!("CARGO_BIN_EXE_countersign"))
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

const LIST_USERS: &str = "import boto3; s = boto3.Session(); s.client('iam').list_users(); \
    print(s.get_credentials().access_key[:4])";

#[test]
fn env_gives_a_shell_all_that_an_sdk_needs() {
    let (upstream, site) = site();
    site.agent("bot", "olga");
    let data = site.data();
    let environment =
        [("COUNTERSIGN_DATA", data.to_str().unwrap()), ("AWS_SESSION_TOKEN", "left-over"), ("S", LIST_USERS)];
    let output = shell("eval \"$($COUNTERSIGN env bot)\"; $PYTHON -c \"$S\"", &environment);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "AKCT\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn profile_renews_its_keys_by_itself() {
    let (upstream, site) = site();
    site.agent("bot", "olga");
    let profile = site.done(&["env", "bot", "--profile"]);
    let file = site.folder.path().join("aws config");
    fs::write(&file, profile).unwrap();
    let environment =
        [("AWS_CONFIG_FILE", file.to_str().unwrap()), ("AWS_PROFILE", "countersign-bot"), ("S", LIST_USERS)];
    let output = shell("$PYTHON -c \"$S\"", &environment);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "AKCT\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn a_key_is_bound_to_networks_and_to_a_task() {
    let (_upstream, site) = site();
    let user = "client('iam', retries={'total_max_attempts': 1}).list_users(); result = 'done'";
    let add = |name: &str, more: &[&str]| {
        let made = json(&site.done(&[&["agent", "add", name, "--owner", "olga", "--json"], more].concat()));
        Agent {
            endpoint: format!("http://{}", site.proxy),
            keys: crate::support::sign::Keys {
                id: made["access_key_id"].as_str().unwrap().to_owned(),
                secret: made["secret_access_key"].as_str().unwrap().to_owned(),
            },
            extra: Vec::new(),
        }
    };
    let here = add("here", &["--from", "127.0.0.0/8", "--task", "build-42"]);
    assert_eq!(here.run(user), "done");
    let away = add("away", &["--from", "10.0.0.0/8"]);
    assert_eq!(away.run(user)["error"], "InvalidClientTokenId");
    let said = refused(&site, &["agent", "add", "x", "--owner", "olga", "--from", "10.1.0.0/8"]);
    assert!(said.contains("did you mean 10.0.0.0/8"), "{said}");
    assert!(site.done(&["agent", "list"]).contains(", from 127.0.0.0/8, for build-42"));

    // What is held is for the task of the key, not for the one that the agent names.
    let call = here.start("client('iam', user_agent_extra='x').create_access_key(UserName='u')");
    let id = site.pending(1).remove(0);
    assert_eq!(site.hold(&id)["claimed"]["task"], "build-42");
    site.decide("alice", &id, "deny");
    call.wait();
}
