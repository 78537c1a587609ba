//! Two hundred secrets go through every kind of request, and are then looked for everywhere.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use serde_json::json;

use crate::support::CREATED;
use crate::support::agent::Agent;
use crate::support::peer::Peer;
use crate::support::sign::{Draft, Keys};
use crate::support::site::{APPROVERS, REAL_SECRET, Setup, Site};
use crate::support::upstream::Upstream;

const RULES: &str = "\
rules:
  - id: everything
    match: { action: ['aws:*'] }
    decision: hold
    approvers: [security]
  - id: no-databases
    match: { action: [aws:rds:CreateDBInstance] }
    decision: deny
";

const SEED: u64 = 20_261_120;
const COUNT: usize = 200;
const BEGINNING: &str = "S3cr+t/S3cr+t/";

/// The secrets of a seed: printable, unlike anything else, the same in each run.
fn secrets() -> Vec<String> {
    let secret = |index: usize| {
        let hash = digest::digest(&digest::SHA256, format!("{SEED}/{index}").as_bytes());
        hash.as_ref().iter().take(16).fold(BEGINNING.to_owned(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    (0..COUNT).map(secret).collect()
}

fn encoded(text: &str) -> String {
    text.replace('+', "%2B").replace('/', "%2F")
}

/// A request that carries a secret where such requests carry theirs.
fn request(index: usize, secret: &str, keys: &Keys) -> Vec<u8> {
    let query = |service: &str, form: &str| match service {
        "iam" => Draft::query(service, "iam.amazonaws.com", form),
        _ => Draft::query(service, &format!("{service}.us-east-1.amazonaws.com"), form),
    };
    let json = |service: &str, target: &str, body: serde_json::Value| {
        Draft::json(service, &format!("{service}.us-east-1.amazonaws.com"), target, &body.to_string())
    };
    let text = encoded(secret);
    let draft = match index % 10 {
        0 => query("iam", &format!("Action=CreateLoginProfile&Version=2010-05-08&UserName=u{index}&Password={text}")),
        1 => {
            query("iam", &format!("Action=ChangePassword&Version=2010-05-08&OldPassword=old{index}&NewPassword={text}"))
        }
        2 => query(
            "rds",
            &format!(
                "Action=ModifyDBInstance&Version=2014-10-31&DBInstanceIdentifier=d{index}&MasterUserPassword={text}"
            ),
        ),
        3 => query(
            "rds",
            &format!(
                "Action=CreateDBInstance&Version=2014-10-31&DBInstanceIdentifier=d{index}&DBInstanceClass=c&Engine=e&MasterUserPassword={text}"
            ),
        ),
        4 => json(
            "secretsmanager",
            "secretsmanager.CreateSecret",
            json!({"Name": format!("n{index}"), "ClientRequestToken": "0".repeat(32), "SecretString": secret}),
        ),
        5 => json(
            "secretsmanager",
            "secretsmanager.PutSecretValue",
            json!({"SecretId": format!("n{index}"), "ClientRequestToken": "0".repeat(32), "SecretString": format!("{{\"password\":\"{secret}\"}}")}),
        ),
        6 => json(
            "ssm",
            "AmazonSSM.PutParameter",
            json!({"Name": format!("/n{index}"), "Type": "SecureString", "Value": secret}),
        ),
        7 => {
            let mut draft = Draft::new(
                "lambda",
                "lambda.us-east-1.amazonaws.com",
                "PUT",
                &format!("/2015-03-31/functions/f{index}/configuration"),
            );
            draft.body = json!({"Environment": {"Variables": {"TOKEN": secret}}}).to_string().into_bytes();
            draft.header("content-type", "application/json")
        }
        // A body that is spooled to disk while it waits.
        8 => json(
            "secretsmanager",
            "secretsmanager.UpdateSecret",
            json!({"SecretId": format!("n{index}"), "SecretString": format!("{secret}{}", "x".repeat(100 << 10))}),
        ),
        // A token where no token belongs: in what the agent says about itself, it is not a secret; in the query of a
        // presigned URL it is.
        _ => query(
            "sts",
            &format!(
                "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn:aws:iam::123456789012:role/r{index}&RoleSessionName=s&WebIdentityToken={text}"
            ),
        ),
    };
    draft.retry_id(&format!("call-{index}")).signed(keys)
}

/// Everything that a person or a disk could see.
fn everything(site: &Site, texts: &mut Vec<(String, Vec<u8>)>) {
    for (path, mut bytes) in site.files() {
        // Segments are zeroed ahead.
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        texts.push((path.display().to_string(), bytes));
    }
    for hold in site.holds() {
        let id = hold["id"].as_str().unwrap();
        texts.push((format!("api of {id}"), site.hold(id).to_string().into_bytes()));
        texts.push((format!("card of {id}"), site.hold(id)["card"].as_str().unwrap().as_bytes().to_vec()));
    }
    for arguments in [&["holds", "list"][..], &["audit", "tail"], &["config", "show"]] {
        let output = site.cli(arguments);
        texts.push((format!("{arguments:?}"), [output.stdout, output.stderr].concat()));
    }
    let metrics = Draft::new("admin", &site.admin.to_string(), "GET", "/metrics").unsigned();
    texts.push(("metrics".to_owned(), Peer::connect(site.admin).ask(&metrics).body));
}

/// A secret as it is, in a URL, and inside base64 at each of its three alignments.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    let mut forms = vec![secret.as_bytes().to_vec(), encoded(secret).into_bytes()];
    for shift in 0..3 {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{}{secret}", "x".repeat(shift)));
        // The characters at both ends depend on what stands beside the secret.
        forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
    }
    forms
}

#[track_caller]
fn absent(secret: &str, texts: &[(String, Vec<u8>)], except: &[&str]) {
    for form in forms(secret) {
        let finder = memchr::memmem::Finder::new(&form);
        for (place, bytes) in texts.iter().filter(|(place, _)| !except.iter().any(|part| place.contains(part))) {
            assert!(finder.find(bytes).is_none(), "`{}` is in {place}", String::from_utf8_lossy(&form));
        }
    }
}

#[test]
fn no_secret_of_a_request_is_ever_written_or_shown() {
    let upstream = Upstream::answering(CREATED);
    let mut site = Setup::new(upstream.url())
        .rules(RULES)
        .config("holds: { limit_per_agent: 1000 }\nlog: { level: trace }\n")
        .start();
    let agent: Agent = site.agent("bot", "olga");
    let secrets = secrets();
    let mut texts = Vec::new();
    let mut peers: Vec<Peer> = Vec::new();
    for (index, secret) in secrets.iter().enumerate() {
        let mut peer = Peer::connect(site.proxy);
        peer.send(&request(index, secret, &agent.keys));
        peers.push(peer);
    }
    // Those that a rule denies are answered at once, the others wait.
    let held = COUNT / 10 * 9;
    let ids = site.pending(held);
    everything(&site, &mut texts);
    for (index, id) in ids.iter().enumerate() {
        let verdict = if index % 3 == 0 { "deny" } else { "allow" };
        site.decide("alice", id, verdict);
    }
    for peer in &mut peers {
        let answer = peer.read().unwrap();
        if answer.status != 200 {
            texts.push(("an answer".to_owned(), answer.body));
        }
    }
    everything(&site, &mut texts);
    site.kill();
    site.serve();
    everything(&site, &mut texts);
    assert!(texts.len() > held * 4);
    // All begin alike, so one look for the beginning finds any of them.
    assert!(secrets.iter().all(|secret| secret.starts_with(BEGINNING)));
    absent(BEGINNING, &texts, &[]);
    // What the upstream issued to an agent is kept in memory for a retry, never on disk.
    absent("issued-by-the-scripted-upstream-0000000", &texts, &[]);
    absent(REAL_SECRET, &texts, &[]);
    // A virtual key must be kept to verify with, in one place that only the owner can read.
    absent(&agent.keys.secret, &texts, &["/agents"]);
    for person in APPROVERS {
        absent(site.token(person), &texts, &[]);
    }
    assert!(upstream.received().iter().any(|it| it.text().contains(BEGINNING)), "the upstream gets the real thing");
    site.verify();
}
