use super::*;

fn options(dir: &Path) -> Options {
    Options { dir: dir.join("log"), key_file: dir.join("log.key") }
}

fn open(dir: &Path) -> (Journal, Recovered) {
    Journal::open(&options(dir), Clock::default(), Arc::default()).unwrap()
}

#[tokio::test]
async fn appended_records_survive_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    create(&options(dir.path()), "example.com/log").unwrap();
    let (journal, recovered) = open(dir.path());
    assert_eq!(recovered, Recovered::default());
    for n in 0..3 {
        let durable = journal.append(Record::new(Kind::ActionPassed).integer("n", n)).await.unwrap();
        assert_eq!(durable.seq(), n as u64 + 1);
    }
    journal.close().await.unwrap();
    let (journal, _) = open(dir.path());
    assert_eq!(journal.append(Record::new(Kind::ActionPassed)).await.unwrap().seq(), 6);
    journal.close().await.unwrap();
}
