//! The log under attack: every manipulation must be found by `countersign audit verify` and by a
//! verifier that was written from `docs/audit-format.md` alone. The log is `tests/data/audit-log`,
//! which a unit test of the journal writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{python, root};

const ORIGIN: &str = "example.com/sample";

/// A copy of the sample log to do harm to.
struct Log {
    dir: TempDir,
    /// The auditor's copy of a checkpoint, outside.
    kept: PathBuf,
    key: String,
}

/// Who objects to a manipulation, when nothing but the public key is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Both,
    /// Only with a checkpoint that was kept elsewhere: the log is consistent, and another.
    WithKeptCheckpoint,
    /// By nobody: it is behind the last checkpoint, or it changes nothing. Said in the answer.
    Not,
}

impl Log {
    fn new() -> Self {
        let log = Self { dir: TempDir::new().unwrap(), kept: PathBuf::new(), key: String::new() };
        let sample = root().join("tests/data/audit-log");
        for folder in ["", "checkpoints"] {
            fs::create_dir_all(log.path(folder)).unwrap();
            for entry in fs::read_dir(sample.join(folder)).unwrap().map(Result::unwrap) {
                if entry.path().is_file() {
                    fs::copy(entry.path(), log.path(folder).join(entry.file_name())).unwrap();
                }
            }
        }
        let kept = log.dir.path().join("kept-by-the-auditor");
        fs::copy(log.path("checkpoint"), &kept).unwrap();
        Self { kept, key: fs::read_to_string(log.path("log.pub")).unwrap().trim().to_owned(), ..log }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("audit").join(name)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("")).unwrap().map(|entry| entry.unwrap().path());
        let mut segments: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == "jsonl")).collect();
        segments.sort();
        segments
    }

    /// Changes the bytes of a segment, by its place among them.
    fn edit(&self, segment: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let path = &self.segments()[segment];
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// Changes the lines of a segment.
    fn edit_lines(&self, segment: usize, change: impl FnOnce(&mut Vec<String>)) {
        self.edit(segment, |bytes| {
            let mut lines: Vec<String> = String::from_utf8(bytes.clone()).unwrap().lines().map(str::to_owned).collect();
            change(&mut lines);
            *bytes = lines.into_iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
        });
    }

    fn edit_file(&self, name: &str, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        fs::write(self.path(name), change(text)).unwrap();
    }

    /// What someone does who knows the format: numbers all records anew, chains them, carries the
    /// tree over and names the segments. Gives size and root hash.
    fn chain_anew(&self) -> (u64, Vec<u8>) {
        let (mut prev, mut leaves) = (hash(&[b"countersign-log/v1\n", ORIGIN.as_bytes(), b"\n"]), Vec::new());
        for path in self.segments() {
            let (first, mut text) = (leaves.len(), String::new());
            for line in fs::read_to_string(&path).unwrap().lines() {
                let mut record: Value = serde_json::from_str(line).unwrap();
                record["seq"] = leaves.len().into();
                record["prev"] = hex(&prev).into();
                if record["type"] == "log.segment" {
                    record["frontier"] = peaks(&leaves).iter().map(|peak| hex(peak)).collect::<Vec<_>>().into();
                }
                let line = record.to_string();
                prev = hash(&[b"\0", line.as_bytes()]);
                leaves.push(prev.clone());
                text.push_str(&line);
                text.push('\n');
            }
            fs::remove_file(&path).unwrap();
            fs::write(self.path(&format!("{first:020}.jsonl")), text).unwrap();
        }
        (leaves.len() as u64, tree_root(&leaves))
    }

    /// Signs a checkpoint in place of the log's own; kept ones are removed.
    fn sign(&self, seed: u8, (size, root): (u64, Vec<u8>)) {
        fs::write(self.path("checkpoint"), signed(seed, ORIGIN, size, &root)).unwrap();
        fs::remove_dir_all(self.path("checkpoints")).unwrap();
    }

    /// Puts an old checkpoint in the place of the last, and removes the ones kept since.
    fn roll_back(&self, to: &str) {
        fs::copy(self.path(&format!("checkpoints/{to}")), self.path("checkpoint")).unwrap();
        for entry in fs::read_dir(self.path("checkpoints")).unwrap().map(Result::unwrap) {
            if entry.file_name().to_str().unwrap() > to {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    /// Exit code and answer of `countersign audit verify`.
    fn verify(&self, arguments: &[&str]) -> (i32, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["audit", "verify", "--json", self.path("").to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap();
        let code = output.status.code().unwrap();
        assert_eq!(code == 2, output.stdout.is_empty(), "{output:?}");
        (code, serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    fn verify_in_python(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(python())
            .arg(root().join("tests/verify_log.py"))
            .arg(self.path(""))
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code().unwrap(), format!("{output:?}"))
    }
}

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tree_root(leaves: &[Vec<u8>]) -> Vec<u8> {
    match leaves {
        [] => hash(&[]),
        [leaf] => leaf.clone(),
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            hash(&[b"\x01", &tree_root(left), &tree_root(right)])
        }
    }
}

fn peaks(leaves: &[Vec<u8>]) -> Vec<Vec<u8>> {
    if leaves.is_empty() {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(1 << leaves.len().ilog2());
    [vec![tree_root(left)], peaks(right)].concat()
}

/// The log's own key is made of 32 bytes of 7.
fn signed(seed: u8, origin: &str, size: u64, root: &[u8]) -> String {
    let key = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let text = format!("{origin}\n{size}\n{}\n", BASE64.encode(root));
    let mut signature = key_id(origin, &key);
    signature.extend_from_slice(key.sign(text.as_bytes()).as_ref());
    format!("{text}\n\u{2014} {origin} {}\n", BASE64.encode(signature))
}

fn public_key(seed: u8) -> String {
    let key = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let public = [b"\x01", key.public_key().as_ref()].concat();
    format!("{ORIGIN}+{}+{}", hex(&key_id(ORIGIN, &key)), BASE64.encode(public))
}

fn key_id(origin: &str, key: &Ed25519KeyPair) -> Vec<u8> {
    let text = [origin.as_bytes(), b"\n\x01", key.public_key().as_ref()].concat();
    digest(&SHA256, &text).as_ref()[..4].to_vec()
}

#[test]
fn the_sample_is_whole() {
    let log = Log::new();
    assert_eq!(log.key, public_key(7));
    let kept = log.kept.to_str().unwrap();
    for arguments in [vec!["--key", &log.key], vec!["--key", &log.key, "--checkpoint", kept], vec![]] {
        let (code, answer) = log.verify(&arguments);
        assert_eq!((code, &answer["verdict"]), (0, &"whole".into()), "{answer}");
        assert_eq!(answer["trust"], if arguments.is_empty() { "directory" } else { "pinned" });
        assert_eq!((&answer["whole"]["records"], &answer["whole"]["covered"]), (&28.into(), &28.into()));
    }
    assert_eq!(log.verify_in_python(&[&log.key, kept]).0, 0);
    // Chaining and signing anew what nobody changed gives the very same bytes: the forger below is able.
    let before = fs::read_to_string(log.path("checkpoint")).unwrap();
    log.sign(7, log.chain_anew());
    assert_eq!(before, fs::read_to_string(log.path("checkpoint")).unwrap());
}

#[test]
fn what_cannot_be_read_is_no_verdict() {
    let log = Log::new();
    assert_eq!(log.verify(&["--key", "no key"]).0, 2);
    assert_eq!(log.verify(&["--key", &log.key, "--checkpoint", "/nowhere"]).0, 2);
    assert_eq!(log.verify(&["--checkpoints"]).0, 2);
    fs::remove_file(log.path("log.pub")).unwrap();
    assert_eq!(log.verify(&[]).0, 2);
    // The key may also be in a file, and the log in a data directory.
    let file = log.dir.path().join("auditor.pub");
    fs::write(&file, format!("{}\n", log.key)).unwrap();
    assert_eq!(log.verify(&["--key", file.to_str().unwrap()]).0, 0);
    let data = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["audit", "verify", log.dir.path().to_str().unwrap(), "--key", &log.key])
        .output()
        .unwrap();
    assert_eq!(data.status.code(), Some(0), "{data:?}");
}

#[test]
fn every_manipulation_is_found_by_both_verifiers() {
    let mut wrong = Vec::new();
    for (name, seen, expected, harm) in manipulations() {
        let log = Log::new();
        harm(&log);
        let kept = log.kept.to_str().unwrap();
        let (code, answer) = log.verify(&["--key", &log.key]);
        let (python_code, python_answer) = log.verify_in_python(&[&log.key]);
        let (kept_code, kept_answer) = log.verify(&["--key", &log.key, "--checkpoint", kept]);
        let (kept_python_code, kept_python_answer) = log.verify_in_python(&[&log.key, kept]);
        let said = if seen == Seen::Both { &answer } else { &kept_answer };
        let objects = (i32::from(seen == Seen::Both), i32::from(seen != Seen::Not));
        if (code, kept_code) != objects
            || (python_code, kept_python_code) != objects
            || !said.to_string().contains(expected)
        {
            wrong.push(format!("{name}:\n  {answer}\n  {kept_answer}\n  {python_answer}\n  {kept_python_answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Without a key of their own, readers are told that they trust the directory; an old checkpoint
/// still finds a log that was signed anew by another key.
#[test]
fn a_key_from_the_directory_is_a_weak_check() {
    let log = Log::new();
    log.edit_lines(1, |lines| lines[4] = lines[4].replace("deployer", "somebody"));
    log.sign(8, log.chain_anew());
    fs::write(log.path("log.pub"), public_key(8)).unwrap();
    let (code, answer) = log.verify(&[]);
    assert_eq!((code, &answer["trust"]), (0, &"directory".into()));
    assert_eq!(log.verify(&["--checkpoint", log.kept.to_str().unwrap()]).0, 1);
    assert_eq!(log.verify(&["--key", &log.key]).0, 1);
}

#[test]
fn tail_and_show_read_what_stands_there() {
    let log = Log::new();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_countersign")).arg("audit").args(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let dir = log.path("").to_str().unwrap().to_owned();
    let (code, tail) = run(&["tail", &dir, "-n", "20", "--json"]);
    let all: String = log.segments().iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let last: Vec<_> = all.lines().skip(8).collect();
    assert_eq!((code, tail.lines().collect::<Vec<_>>()), (0, last));
    let (_, tail) = run(&["tail", &dir, "-n", "28"]);
    assert!(tail.contains("resources=[\"arn:aws:s3:::logs/été \u{1f512}\"]"), "{tail}");
    assert!(!tail.contains('\u{202e}') && tail.contains("\\u{202e}"), "{tail}");

    let (code, record) = run(&["show", "3", "--dir", &dir]);
    assert!(code == 0 && record.contains("action.held") && record.contains("h_01jd4000000000000000000003"), "{record}");
    let (_, records) = run(&["show", "h_01jd4000000000000000000003", "--json", "--dir", &dir]);
    assert_eq!(records.lines().count(), 10);
    let (code, none) = run(&["show", "a_none", "--dir", &dir]);
    assert_eq!((code, none.trim()), (1, "no record of `a_none`"));
}

type Harm = fn(&Log);

fn manipulations() -> Vec<(&'static str, Seen, &'static str, Harm)> {
    let mut all = records();
    all.extend(segments());
    all.extend(checkpoints());
    all.extend(rewrites());
    assert!(all.len() >= 50);
    all
}

/// Single records.
fn records() -> Vec<(&'static str, Seen, &'static str, Harm)> {
    use Seen::Both;
    vec![
        ("edit a value", Both, "\"seq\":14", |log| {
            log.edit_lines(1, |lines| lines[2] = lines[2].replace("cut_bytes\":20", "cut_bytes\":21"));
        }),
        ("edit the last record", Both, "was signed for other records", |log| {
            log.edit_lines(2, |lines| *lines.last_mut().unwrap() = lines[6].replace("close", "klose"));
        }),
        ("edit the first record", Both, "\"seq\":0,", |log| {
            log.edit_lines(0, |lines| lines[0] = lines[0].replace("0.1", "0.2"));
        }),
        ("flip one bit", Both, "belongs to the log `dxample.com", |log| log.edit(0, |bytes| bytes[700] ^= 1)),
        ("the same JSON with a space", Both, "`prev`", |log| {
            log.edit_lines(0, |lines| lines[1] = lines[1].replace("\":\"", "\": \""));
        }),
        ("the same JSON with an escape", Both, "`prev`", |log| {
            log.edit_lines(0, |lines| lines[2] = lines[2].replace('é', "\\u00e9"));
        }),
        ("the same JSON in another order", Both, "`prev`", |log| {
            log.edit_lines(0, |lines| {
                let body = lines[1].strip_suffix(",\"v\":1}").unwrap();
                lines[1] = format!("{{\"v\":1,{}}}", body.strip_prefix('{').unwrap());
            });
        }),
        ("another number", Both, "`seq` is 44, expected 4", |log| {
            log.edit_lines(0, |lines| lines[4] = lines[4].replace("\"seq\":4", "\"seq\":44"));
        }),
        ("a member twice", Both, "duplicate field", |log| {
            log.edit_lines(0, |lines| lines[4] = lines[4].replace("\"seq\":4", "\"seq\":9,\"seq\":4"));
        }),
        ("delete a record", Both, "`seq` is 6, expected 5", |log| log.edit_lines(0, |lines| drop(lines.remove(5)))),
        ("delete the first record", Both, "`seq` is 1, expected 0", |log| {
            log.edit_lines(0, |lines| drop(lines.remove(0)));
        }),
        ("delete the last record", Both, "the log ends before", |log| log.edit_lines(2, |lines| drop(lines.pop()))),
        ("swap two records", Both, "`seq` is 6, expected 5", |log| log.edit_lines(0, |lines| lines.swap(5, 6))),
        ("repeat a record", Both, "`seq` is 5, expected 6", |log| {
            log.edit_lines(0, |lines| lines.insert(5, lines[5].clone()));
        }),
        ("insert a forged record", Both, "`seq` is 5, expected 6", |log| {
            log.edit_lines(0, |lines| lines.insert(5, lines[5].replace("action.approved", "action.denied")));
        }),
        ("insert an empty line", Both, "is not a record", |log| {
            log.edit_lines(0, |lines| lines.insert(5, String::new()))
        }),
        ("end lines in CR LF", Both, "record 0 is not what was written", |log| {
            log.edit(0, |bytes| *bytes = String::from_utf8(bytes.clone()).unwrap().replace('\n', "\r\n").into_bytes());
        }),
        ("zero a record", Both, "\"seq\":3,", |log| {
            log.edit(0, |bytes| bytes[1000..1400].fill(0));
        }),
        ("zero the last record", Both, "the log ends before", |log| {
            log.edit(2, |bytes| {
                let start = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
                bytes[start..].fill(0);
            });
        }),
        ("another log's record", Both, "belongs to the log", |log| {
            log.edit_lines(0, |lines| lines[6] = lines[6].replace(ORIGIN, "example.com/other"));
        }),
        ("a record of another version", Both, "version 2", |log| {
            log.edit_lines(0, |lines| lines[6] = lines[6].replace("\"v\":1", "\"v\":2"));
        }),
    ]
}

/// Whole segments.
fn segments() -> Vec<(&'static str, Seen, &'static str, Harm)> {
    use Seen::{Both, Not};
    fn remove(log: &Log, which: &[usize]) {
        for (index, path) in log.segments().iter().enumerate() {
            if which.contains(&index) {
                fs::remove_file(path).unwrap();
            }
        }
    }
    vec![
        ("lose the first segment", Both, "records 0 to 10 are missing", |log| remove(log, &[0])),
        ("lose a segment", Both, "records 11 to 20 are missing", |log| remove(log, &[1])),
        ("lose the last segment", Both, "the log ends before", |log| remove(log, &[2])),
        ("lose two segments in a row", Both, "the log ends before", |log| remove(log, &[1, 2])),
        ("lose all segments", Both, "the log ends before", |log| remove(log, &[0, 1, 2])),
        ("cut the last segment within a record", Both, "it is not a record", |log| {
            log.edit(2, |bytes| bytes.truncate(bytes.len() - 9));
        }),
        ("cut the last line feed", Both, "it is not a record", |log| {
            log.edit(2, |bytes| bytes.truncate(bytes.len() - 1))
        }),
        ("cut a sealed segment after a record", Both, "record", |log| log.edit_lines(1, |lines| lines.truncate(5))),
        ("empty a segment", Both, "record", |log| log.edit(1, Vec::clear)),
        ("pad a sealed segment", Both, "does not end with a record", |log| log.edit(1, |bytes| bytes.extend([0; 512]))),
        ("rename a segment", Both, "are missing", |log| {
            fs::rename(&log.segments()[1], log.path("00000000000000000012.jsonl")).unwrap();
        }),
        ("repeat a segment", Both, "already holds", |log| {
            fs::copy(&log.segments()[0], log.path("00000000000000000005.jsonl")).map(drop).unwrap();
        }),
        ("swap two segments", Both, "`seq` is 11, expected 0", |log| {
            let (first, second) = (fs::read(&log.segments()[0]).unwrap(), fs::read(&log.segments()[1]).unwrap());
            log.edit(0, |bytes| *bytes = second);
            log.edit(1, |bytes| *bytes = first);
        }),
        ("put two segments into one", Both, "stands only at the beginning", |log| {
            let second = fs::read(&log.segments()[1]).unwrap();
            log.edit(0, |bytes| bytes.extend(second));
            remove(log, &[1]);
        }),
        // Bytes behind the last record are not covered by anything; the answer counts them.
        ("write behind the last record", Not, "\"torn_bytes\":9", |log| {
            log.edit(2, |bytes| bytes.extend(b"\0\0\0hidden\0"));
        }),
    ]
}

/// Checkpoints.
fn checkpoints() -> Vec<(&'static str, Seen, &'static str, Harm)> {
    use Seen::{Both, WithKeptCheckpoint};
    vec![
        ("edit the size", Both, "signature", |log| {
            log.edit_file("checkpoint", |note| note.replace("\n28\n", "\n27\n"))
        }),
        ("edit the root", Both, "signature", |log| log.edit_file("checkpoint", |note| note.replace("eoSV", "eoSW"))),
        ("edit the signature", Both, "signature", |log| {
            log.edit_file("checkpoint", |note| note.replace("XfV30", "XfV31"))
        }),
        ("remove the signature", Both, "is not a signed checkpoint", |log| {
            log.edit_file("checkpoint", |note| note.lines().take(4).map(|line| format!("{line}\n")).collect());
        }),
        ("remove the checkpoint", Both, "it is missing", |log| fs::remove_file(log.path("checkpoint")).unwrap()),
        ("another log's checkpoint", Both, "not signed by", |log| {
            fs::write(log.path("checkpoint"), signed(7, "example.com/other", 28, &[0; 32])).unwrap();
        }),
        ("another key's checkpoint", Both, "not signed by", |log| {
            log.edit_file("checkpoint", |note| {
                let root = BASE64.decode(note.lines().nth(2).unwrap()).unwrap();
                signed(8, ORIGIN, 28, &root)
            });
        }),
        ("edit a kept checkpoint", Both, "checkpoints/00000000000000000015", |log| {
            log.edit_file("checkpoints/00000000000000000015", |note| note.replacen("15", "14", 1));
        }),
        ("roll the checkpoint back behind a segment", Both, "an old checkpoint was put in its place", |log| {
            log.roll_back("00000000000000000011");
        }),
        ("roll it back and cut the log behind a start", Both, "opened the log and others follow", |log| {
            log.edit_lines(1, |lines| lines.truncate(9));
            fs::remove_file(&log.segments()[2]).unwrap();
            log.roll_back("00000000000000000011");
        }),
        ("cut the log and leave the kept checkpoints", Both, "the log ends before", |log| {
            log.edit_lines(1, |lines| lines.truncate(4));
            fs::remove_file(&log.segments()[2]).unwrap();
            fs::copy(log.path("checkpoints/00000000000000000015"), log.path("checkpoint")).map(drop).unwrap();
        }),
        // A log that was put back to an old state of itself is whole: it was just so, once.
        ("put the whole log back to an old state", WithKeptCheckpoint, "the log ends before", |log| {
            log.edit_lines(1, |lines| lines.truncate(4));
            fs::remove_file(&log.segments()[2]).unwrap();
            log.roll_back("00000000000000000015");
        }),
    ]
}

/// The work of someone who knows the format, and in the end also has the key.
fn rewrites() -> Vec<(&'static str, Seen, &'static str, Harm)> {
    use Seen::{Both, Not, WithKeptCheckpoint};
    fn edited(log: &Log) {
        log.edit_lines(0, |lines| lines[4] = lines[4].replace("maria", "mario"));
    }
    vec![
        ("edit and chain anew", Both, "one of 1 to 10 is not what was written", |log| {
            edited(log);
            log.chain_anew();
        }),
        ("edit, chain anew, remove kept checkpoints", Both, "one of 0 to 27 is not what was written", |log| {
            edited(log);
            log.chain_anew();
            fs::remove_dir_all(log.path("checkpoints")).unwrap();
        }),
        ("delete and chain anew", Both, "other records", |log| {
            log.edit_lines(0, |lines| drop(lines.remove(4)));
            log.chain_anew();
        }),
        ("insert and chain anew", Both, "other records", |log| {
            log.edit_lines(0, |lines| lines.insert(4, lines[4].clone()));
            log.chain_anew();
        }),
        ("edit, chain anew, sign with another key", Both, "not signed by", |log| {
            edited(log);
            log.sign(8, log.chain_anew());
        }),
        ("forge what is carried over, with the stolen key", Both, "`frontier` is not the tree", |log| {
            edited(log);
            let forged = log.chain_anew();
            log.edit_lines(2, |lines| lines[0] = lines[0].replacen("\"frontier\":[\"", "\"frontier\":[\"0", 1));
            log.sign(7, forged);
        }),
        // Nothing in the log tells a thief of the key from its owner: hence checkpoints are kept elsewhere.
        (
            "edit, chain anew, sign with the stolen key",
            WithKeptCheckpoint,
            "kept-by-the-auditor was signed for",
            |log| {
                edited(log);
                log.sign(7, log.chain_anew());
            },
        ),
        (
            "delete, chain anew, sign with the stolen key",
            WithKeptCheckpoint,
            "kept-by-the-auditor was signed for",
            |log| {
                log.edit_lines(2, |lines| drop(lines.remove(3)));
                log.sign(7, log.chain_anew());
            },
        ),
        // Not yet signed for; the answer says how many there are.
        ("append a record behind the checkpoint", Not, "\"covered\":28", |log| {
            log.edit_lines(2, |lines| lines.push(lines[5].clone()));
            log.chain_anew();
        }),
    ]
}

#[test]
fn the_second_verifier_is_short() {
    let lines = fs::read_to_string(root().join("tests/verify_log.py")).unwrap().lines().count();
    assert!(lines <= 100, "{lines} lines: the format is meant to be verified by anyone");
    assert!(Path::new("docs/audit-format.md").exists());
}
