//! Facts are data: shown, replaced while the server runs, refused when they are not whole, and in every record.

use std::path::PathBuf;

use serde_json::json;

use crate::support::peer::Peer;
use crate::support::sign::Draft;
use crate::support::site::{Setup, Site};
use crate::support::upstream::Upstream;
use crate::support::{root, wait_for};

fn shipped() -> Vec<u8> {
    std::fs::read(root().join("src/catalog/data/aws.bin")).unwrap()
}

/// The shipped table as the same facts in other bytes: one more space behind the index's text would change the
/// offsets, so the index is packed again with another compression.
fn other() -> Vec<u8> {
    use std::io::{Read as _, Write as _};
    let bytes = shipped();
    let (head, rest) = bytes.split_at(12);
    let length = u32::from_le_bytes(head[8..].try_into().unwrap()) as usize;
    let (index, blocks) = rest.split_at(length);
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(index).read_to_string(&mut text).unwrap();
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.replace("botocore 1.44.5", "botocore 1.44.9").as_bytes()).unwrap();
    let index = encoder.finish().unwrap();
    let length = u32::try_from(index.len()).unwrap().to_le_bytes();
    [&head[..8], &length, &index, blocks].concat()
}

fn file(site: &Site, name: &str, bytes: &[u8]) -> String {
    let file: PathBuf = site.data().join(name);
    std::fs::write(&file, bytes).unwrap();
    file.to_string_lossy().into_owned()
}

/// Digests of the facts that the records of one kind name, each once, in order.
fn digests(site: &Site, kind: &str) -> Vec<String> {
    let records = site.records();
    let of_kind = records.iter().filter(|record| record["type"] == kind);
    let mut digests: Vec<String> = of_kind.filter_map(|record| record["facts"].as_str()).map(str::to_owned).collect();
    digests.dedup();
    digests
}

fn shown_digest(site: &Site) -> String {
    let text = site.done(&["facts", "show"]);
    let line = text.lines().find(|line| line.trim_start().starts_with("digest")).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn facts_are_replaced_while_the_server_runs_and_stand_in_every_record() {
    let upstream = Upstream::answering("{}");
    let site = Setup::new(upstream.url()).start();
    let keys = site.agent("bot", "olga").keys;
    let list = || {
        let draft = Draft::query("iam", "iam.amazonaws.com", "Action=ListUsers&Version=2010-05-08");
        assert_eq!(Peer::connect(site.proxy).ask(&draft.signed(&keys)).status, 200);
    };
    let before = shown_digest(&site);
    list();
    let said = site.done(&["facts", "update", &file(&site, "new.bin", &other())]);
    assert!(said.contains("botocore 1.44.9"), "{said}");
    let after = shown_digest(&site);
    assert_ne!(before, after);
    wait_for("the new facts", || (digests(&site, "config.change") == [before.clone(), after.clone()]).then_some(()));
    list();
    wait_for("both requests", || (digests(&site, "action.passed") == [before.clone(), after.clone()]).then_some(()));
    let said = site.done(&["facts", "update", "--built-in"]);
    assert!(said.contains(&before), "{said}");
    wait_for("the built-in facts", || (digests(&site, "config.change").last() == Some(&before)).then_some(()));
    let version = site.records().iter().rfind(|it| it["what"] == "facts").unwrap()["version"].clone();
    assert!(version.as_str().unwrap().starts_with("botocore 1.44.5, "), "{version}");
    site.verify();
}

#[test]
fn facts_that_are_not_whole_change_nothing() {
    let upstream = Upstream::answering("{}");
    let mut site = Setup::new(upstream.url()).start();
    let before = shown_digest(&site);
    let mut torn = shipped();
    torn.truncate(torn.len() / 2);
    let torn = file(&site, "torn.bin", &torn);
    let output = site.cli(&["facts", "update", &torn]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("torn.bin") && said.contains("service `") && said.contains("help: "), "{said}");
    assert_eq!(shown_digest(&site), before);
    // Put there by hand while it runs, they are refused; a start refuses them, too.
    std::fs::create_dir(site.data().join("facts")).unwrap();
    std::fs::copy(&torn, site.data().join("facts/aws.bin")).unwrap();
    wait_for("the complaint", || {
        site.log().contains("the facts are refused, those before stay in force").then_some(())
    });
    assert_eq!(digests(&site, "config.change"), [before]);
    site.signal("TERM");
    assert_eq!(site.wait_for_exit(), Some(0));
    let output = site.cli(&["serve"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("is no table of AWS facts"), "{said}");
}

#[test]
fn requests_can_be_named_by_another_table() {
    let upstream = Upstream::answering("{}");
    let site = Setup::new(upstream.url()).start();
    let request = json!({"id": 1, "method": "GET", "url": "https://s3.us-east-1.amazonaws.com/bucket/key"}).to_string();
    let input = file(&site, "request.jsonl", request.as_bytes());
    let table = file(&site, "other.bin", &other());
    let named = site.done(&["classify", "--plane", "aws", "--facts", &table, &input]);
    assert!(named.contains("aws:s3:GetObject"), "{named}");
    let damaged = file(&site, "damaged.bin", b"CSAWS03\nxxxx");
    let output = site.cli(&["classify", "--plane", "aws", "--facts", &damaged, &input]);
    assert_eq!(output.status.code(), Some(2));
}

/// A name of facts that were replaced since is judged by nobody: the request is asked for anew.
#[test]
fn a_request_that_comes_in_while_the_facts_are_replaced_is_sent_again() {
    let upstream = Upstream::answering("{}");
    let rules = "rules:\n  - id: deny\n    match: { action: [aws:dynamodb:DeleteTable] }\n    decision: deny\n";
    let site = Setup::new(upstream.url()).rules(rules).start();
    let keys = site.agent("bot", "olga").keys;
    let draft =
        |body: &str| Draft::json("dynamodb", "dynamodb.us-east-1.amazonaws.com", "DynamoDB_20120810.ListTables", body);
    let before = shown_digest(&site);
    let bytes = draft("{\"Limit\": 7}").header("expect", "100-continue").signed(&keys);
    let (first, last) = bytes.split_at(bytes.len() - 4);
    let mut peer = Peer::connect(site.proxy);
    peer.send(first);
    // Its head has been read, and its body is waited for.
    assert_eq!(peer.interim(), 100);
    site.done(&["facts", "update", &file(&site, "new.bin", &other())]);
    let after = shown_digest(&site);
    wait_for("the new facts", || (digests(&site, "config.change") == [before.clone(), after.clone()]).then_some(()));
    peer.send(last);
    let answer = peer.read().unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.header("x-countersign-ending"), Some("superseded"), "{answer:?}");
    assert_eq!(upstream.received().len(), 0);
    assert_eq!(Peer::connect(site.proxy).ask(&draft("{\"Limit\": 7}").signed(&keys)).status, 200);
    site.verify();
}
