//! What a start finds, keeps, cuts and refuses.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::digest::sha256;

/// A log as a killed process leaves it: `records` are acknowledged, the last segment is not trimmed.
async fn killed(bench: &Bench, records: Vec<Record>) {
    let faults = Arc::new(Faults::default());
    let (journal, _) = bench.open_faulty(&faults).unwrap();
    for record in records {
        journal.append(record).await.unwrap();
    }
    faults.fail_now();
    assert!(journal.close().await.is_err());
}

/// Place in the last segment where its records end.
fn end(bench: &Bench) -> (PathBuf, u64) {
    let path = bench.file(&segment_name(*bench.segments().last().unwrap()));
    let mut lines = Lines::new(File::open(&path).unwrap());
    while let Some(length) = lines.peek().unwrap().map(<[u8]>::len) {
        lines.advance(length);
    }
    (path, lines.offset())
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_recorded() {
    for torn in [b"{\"agent\":\"ha".as_slice(), b"\0\0{}", b"{\"a\":\0\0\"\n{\"b\":1}\n"] {
        let bench = Bench::new();
        killed(&bench, vec![numbered(1), numbered(2)]).await;
        let (path, offset) = end(&bench);
        write_at(&path, offset, torn);
        let (journal, _) = bench.open();
        journal.append(numbered(3)).await.unwrap();
        journal.close().await.unwrap();
        let recovered = bench.records_of(Kind::LogRecovered);
        assert_eq!(recovered.len(), 1, "{torn:?}");
        assert_eq!(recovered[0]["cut_bytes"], torn.len());
        assert_eq!(recovered[0]["cut_sha256"], sha256(torn).hex());
        assert_eq!(bench.records_of(Kind::ActionPassed).len(), 3);
        assert_eq!(bench.verify().unwrap().torn_bytes, 0);
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_and_its_open_forwards_are_told() {
    let bench = Bench::new();
    let records =
        vec![forward("a_1"), forward("a_2"), outcome("a_1"), Record::new(Kind::ActionForward).text("action_id", "a_3")];
    killed(&bench, records).await;
    let (journal, recovered) = bench.open();
    let open = |id: &str, rest: Option<(&str, &str)>| OpenForward {
        action_id: id.to_owned(),
        hold: rest.map(|(hold, _)| hold.to_owned()),
        digest: rest.map(|(_, digest)| digest.to_owned()),
    };
    assert_eq!(recovered.open_forwards, [open("a_2", Some(("h_1", "d"))), open("a_3", None)]);
    journal.append(Record::new(Kind::ActionOutcomeUnknown).text("action_id", "a_2")).await.unwrap();
    journal.close().await.unwrap();
    let (journal, recovered) = bench.open();
    assert_eq!(recovered.open_forwards, [open("a_3", None)]);
    journal.close().await.unwrap();
    assert!(bench.records_of(Kind::LogRecovered).is_empty());
}

#[tokio::test]
async fn open_forwards_are_carried_over_segments() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    // More than fit into one record of the next segment's first.
    for n in 0..250 {
        journal.enqueue(forward(&format!("a_{n:03}"))).unwrap();
    }
    for n in 0..40 {
        journal.append(numbered(n)).await.unwrap();
    }
    journal.append(outcome("a_007")).await.unwrap();
    journal.close().await.unwrap();
    assert!(bench.segments().len() > 4);
    assert!(!bench.records_of(Kind::LogCarried).is_empty());
    let open = bench.open().1.open_forwards;
    assert_eq!(open.len(), 249);
    assert!(open.iter().all(|open| open.action_id != "a_007" && open.hold.as_deref() == Some("h_1")));
    bench.verify().unwrap();
}

#[tokio::test]
async fn signatures_are_remembered_until_they_expire() {
    let bench = Bench::new();
    let start = Timestamp::parse_rfc3339("2026-11-20T11:00:00Z").unwrap();
    let clock = Clock::manual(start);
    let open = || Journal::open_on(Disk::default(), SMALL, &bench.options, clock.clone(), Arc::default()).unwrap();
    let signed = |n: u64, minutes: u64| {
        let expires = start.plus(Duration::from_secs(60 * minutes));
        let record = forward(&format!("a_{n}")).text("signature", sha256(&n.to_be_bytes()).hex());
        (record.timestamp("signature_expires", expires), (sha256(&n.to_be_bytes()), expires))
    };
    let (journal, _) = open();
    let (early, long) = signed(1, 60);
    let (later, short) = signed(2, 5);
    journal.append(early).await.unwrap();
    for n in 0..60 {
        journal.append(numbered(n)).await.unwrap();
    }
    journal.append(later).await.unwrap();
    journal.close().await.unwrap();
    let (journal, recovered) = open();
    let mut signatures = recovered.signatures;
    signatures.sort_by_key(|(_, expires)| *expires);
    assert_eq!(signatures, [short, long]);
    journal.close().await.unwrap();
    clock.advance(Duration::from_secs(301));
    let (journal, recovered) = open();
    assert_eq!(recovered.signatures, [long]);
    journal.close().await.unwrap();
    clock.advance(Duration::from_secs(3600));
    assert_eq!(open().1.signatures, []);
}

#[tokio::test]
async fn damage_under_the_checkpoint_is_refused_and_nothing_is_changed() {
    type Damage = fn(&Bench);
    let last = |bench: &Bench| bench.file(&segment_name(*bench.segments().last().unwrap()));
    let first = |bench: &Bench| bench.file(&segment_name(0));
    let cases: [(&str, &str, Damage); 11] = [
        ("a byte of the last segment", "is not the `log.segment`", |bench| {
            let path = bench.file(&segment_name(*bench.segments().last().unwrap()));
            write_at(&path, 20, b"#");
        }),
        ("the last record cut", "there is no record, but the checkpoint covers", |bench| {
            let (path, end) = end(bench);
            let text = std::fs::read(&path).unwrap();
            let start = text[..usize::try_from(end).unwrap() - 1].iter().rposition(|b| *b == b'\n').unwrap() as u64;
            File::options().write(true).open(&path).unwrap().set_len(start + 1).unwrap();
        }),
        ("the last segment gone", "covers", |bench| {
            std::fs::remove_file(bench.file(&segment_name(*bench.segments().last().unwrap()))).unwrap();
        }),
        ("the segment before it gone", "prev", |bench| {
            let segments = bench.segments();
            std::fs::remove_file(bench.file(&segment_name(segments[segments.len() - 2]))).unwrap();
        }),
        ("all segments gone", "all segments are gone", |bench| {
            for first in bench.segments() {
                std::fs::remove_file(bench.file(&segment_name(first))).unwrap();
            }
        }),
        ("the checkpoint gone", "missing", |bench| std::fs::remove_file(bench.file("checkpoint")).unwrap()),
        ("the checkpoint edited", "checkpoint", |bench| {
            let note = std::fs::read_to_string(bench.file("checkpoint")).unwrap();
            std::fs::write(bench.file("checkpoint"), note.replacen('\n', "\n1", 1)).unwrap();
        }),
        ("an old checkpoint", "old one was put in its place", |bench| {
            let kept =
                std::fs::read_dir(bench.file("checkpoints")).unwrap().map(|it| it.unwrap().path()).min().unwrap();
            std::fs::copy(kept, bench.file("checkpoint")).unwrap();
        }),
        ("the log as it once was, but for what was kept since", "was kept", |bench| {
            let segments = bench.segments();
            for first in &segments[1..] {
                std::fs::remove_file(bench.file(&segment_name(*first))).unwrap();
            }
            let kept = bench.file(&format!("checkpoints/{:020}", segments[1]));
            std::fs::copy(kept, bench.file("checkpoint")).unwrap();
        }),
        ("the first checkpoint of all", "records follow the start at 0", |bench| {
            let key = SigningKey::parse(&std::fs::read_to_string(&bench.options.key_file).unwrap()).unwrap();
            std::fs::write(bench.file("checkpoint"), key.sign(0, Frontier::default().root())).unwrap();
            std::fs::remove_dir_all(bench.file("checkpoints")).unwrap();
            std::fs::create_dir(bench.file("checkpoints")).unwrap();
            for first in &bench.segments()[1..] {
                std::fs::remove_file(bench.file(&segment_name(*first))).unwrap();
            }
        }),
        ("the end of the segment before", "prev", |bench| {
            let segments = bench.segments();
            let path = bench.file(&segment_name(segments[segments.len() - 2]));
            let length = path.metadata().unwrap().len();
            write_at(&path, length - 30, b"#");
        }),
    ];
    for (name, expected, damage) in cases {
        let bench = Bench::new();
        let (journal, _) = bench.open();
        for n in 0..50 {
            journal.append(numbered(n)).await.unwrap();
        }
        journal.close().await.unwrap();
        assert!(last(&bench) != first(&bench));
        damage(&bench);
        let before = snapshot(&bench);
        let error = bench.try_open().unwrap_err();
        assert!(matches!(error, OpenError::Damaged(_)), "{name}: {error}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert_eq!(before, snapshot(&bench), "{name}");
    }
}

fn snapshot(bench: &Bench) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(&bench.options.dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Far more than one write can leave: a crash is no explanation.
#[tokio::test]
async fn a_long_tail_that_is_no_record_is_refused() {
    let bench = Bench::new();
    killed(&bench, vec![numbered(1)]).await;
    let (path, offset) = end(&bench);
    write_at(&path, offset, &[b'x'; 67_000]);
    assert!(bench.try_open().unwrap_err().to_string().contains("more than a crash tears"));
}

/// A crash leaves zeros or nothing in place of what it did not write, never other bytes.
#[tokio::test]
async fn a_whole_line_that_is_no_record_is_refused() {
    for line in ["{}\n", "\n", "not json\n", "{\"seq\":4}\n"] {
        let bench = Bench::new();
        killed(&bench, vec![numbered(1)]).await;
        let (path, offset) = end(&bench);
        write_at(&path, offset, line.as_bytes());
        assert!(matches!(bench.try_open(), Err(OpenError::Damaged(_))), "{line}");
    }
}

fn byte_changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![Just(0), Just(b'\n'), any::<u8>()]), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever bytes are found, a start neither panics nor builds on a record that is not the one
    /// that was written, and what the checkpoint covers is never cut.
    #[test]
    fn arbitrary_damage_is_refused_or_cut_behind_the_checkpoint(changes in byte_changes(), cut: prop::sample::Index, cuts: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let (journal, _) = bench.open();
            for n in 0..15 {
                journal.append(numbered(n)).await.unwrap();
            }
            journal.close().await.unwrap();
            killed(&bench, (15..20).map(numbered).collect()).await;
            let original = bench.records();
            let covered = bench.public.open(&std::fs::read_to_string(bench.file("checkpoint")).unwrap()).unwrap().size;
            let (path, end) = end(&bench);
            let mut bytes = std::fs::read(&path).unwrap();
            let end = usize::try_from(end).unwrap();
            for (at, byte) in &changes {
                bytes[at.index(end)] = *byte;
            }
            if cuts {
                bytes.truncate(cut.index(end));
            }
            std::fs::write(&path, bytes).unwrap();
            if let Ok((journal, _)) = bench.try_open() {
                journal.close().await.unwrap();
                bench.verify().unwrap();
                let records = bench.records();
                let kept = records.iter().zip(&original).take_while(|(new, old)| new == old).count();
                prop_assert!(kept as u64 >= covered);
                // A last record can be another: nothing that follows tells. More cannot.
                let foreign = records.iter().skip(kept + 1).any(|record| record["type"] == "action.passed");
                prop_assert!(!foreign);
            }
            Ok(())
        })?;
    }
}
