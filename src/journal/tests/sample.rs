//! The sample log of `tests/data/audit-log`: what verifiers in other languages are tried on.
//!
//! Its key is made of 32 bytes of 7, so that tests can also sign what they forged.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use zeroize::Zeroizing;

use super::*;

/// An afternoon: an agent lists, asks for a key, waits, is approved; one call is denied, one is
/// refused; the process is killed once with a record half written.
async fn write(bench: &Bench) {
    let clock = Clock::manual(Timestamp::parse_rfc3339("2026-11-20T13:00:00Z").unwrap());
    let open = |disk| Journal::open_on(disk, SMALL, &bench.options, clock.clone(), Arc::default()).unwrap();
    let faults = Arc::new(Faults::default());
    let (journal, _) = open(Disk::faulty(&faults));
    for record in afternoon() {
        clock.advance(Duration::from_millis(1_234));
        journal.append(record).await.unwrap();
    }
    faults.fail_now();
    assert!(journal.close().await.is_err());
    let last = bench.file(&segment_name(*bench.segments().last().unwrap()));
    let text = std::fs::read(&last).unwrap();
    let end = text.iter().position(|byte| *byte == 0).unwrap();
    std::fs::write(&last, [&text[..end], b"{\"action_id\":\"a_half"].concat()).unwrap();
    clock.advance(Duration::from_secs(90));
    let (journal, _) = open(Disk::default());
    for record in afternoon() {
        clock.advance(Duration::from_millis(777));
        journal.append(record).await.unwrap();
    }
    journal.close().await.unwrap();
}

fn afternoon() -> Vec<Record> {
    let about = |kind, n: u64| {
        Record::new(kind)
            .text("action_id", format!("a_01jd4{n:021}"))
            .text("agent", "deployer")
            .text("peer", "10.0.0.7")
    };
    let held = |kind| about(kind, 3).text("hold", "h_01jd4000000000000000000003");
    let digest = crate::digest::sha256(b"CreateAccessKey").hex();
    vec![
        about(Kind::ActionPassed, 1).text("action", "aws:s3:ListObjectsV2").texts("resources", ["arn:aws:s3:::logs"]),
        about(Kind::ActionPassed, 2)
            .text("action", "aws:s3:GetObject")
            .texts("resources", ["arn:aws:s3:::logs/été \u{1f512}"]),
        held(Kind::ActionHeld).json(
            "actions",
            &json!([{"action": "aws:iam:CreateAccessKey", "parameters": {"UserName": "svc-\"build\"\\\u{202e}"}}]),
        ),
        held(Kind::ApprovalVote).text("person", "maria").text("verdict", "allow").text("reason", "ticket\tOPS-1"),
        held(Kind::ActionApproved),
        held(Kind::ActionForward).text("digest", &digest).text("signature", &digest),
        held(Kind::ActionOutcome).integer("status", 200).text("upstream_request_id", "c6f1"),
        about(Kind::ActionDenied, 4).text("action", "aws:cloudtrail:StopLogging").text("ending", "rule-denied"),
        about(Kind::ActionHeld, 5).text("reason", "x".repeat(70_000)),
        about(Kind::ActionForward, 6).text("digest", digest),
        about(Kind::ActionRefused, 7).text("code", "SignatureDoesNotMatch"),
    ]
}

fn files(dir: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files.extend(self::files(&path).into_iter().map(|(inner, text)| (format!("{name}/{inner}"), text)));
        } else if name != "lock" && name != "reserve" {
            files.insert(name, std::fs::read_to_string(path).unwrap());
        }
    }
    files
}

/// `UPDATE_GOLDEN=1` writes the sample anew. Any difference but the program's version is a change of
/// the format that logs already written do not have.
#[tokio::test]
async fn the_sample_log_is_what_is_written() {
    let bench = Bench::with_key(&SigningKey::from_seed("example.com/sample", Zeroizing::new([7; 32])).unwrap());
    write(&bench).await;
    bench.verify().unwrap();
    let written = files(&bench.options.dir);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/audit-log");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        // There is none the first time.
        drop(std::fs::remove_dir_all(&golden));
        std::fs::create_dir_all(golden.join("checkpoints")).unwrap();
        for (name, text) in &written {
            std::fs::write(golden.join(name), text).unwrap();
        }
    }
    assert_eq!(files(&golden), written);
}
