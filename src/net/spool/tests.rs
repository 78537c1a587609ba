use http_body_util::{BodyExt, Full};

use super::*;
use crate::digest::sha256;

struct Store {
    dir: tempfile::TempDir,
    spool: Spool,
}

fn store(memory_bytes: u64, disk_bytes: u64) -> Store {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskLimits { total: disk_bytes, per_agent: u64::MAX, unproven: u64::MAX };
    let spool = Spool::new(dir.path().to_owned(), memory_bytes, disk);
    Store { dir, spool }
}

impl Store {
    fn used(&self) -> (u64, u64) {
        (self.spool.memory.used.load(Ordering::SeqCst), self.spool.disk.total())
    }

    async fn collect(&self, len: usize, limit_bytes: u64) -> Result<Spooled, SpoolError> {
        self.collect_for(agent("bot"), len, limit_bytes).await
    }

    async fn collect_for(&self, payer: Payer, len: usize, limit_bytes: u64) -> Result<Spooled, SpoolError> {
        self.spool.collect(body(len), limit_bytes, || payer.clone()).await
    }
}

fn agent(id: &str) -> Payer {
    Payer::Agent(AgentId::new(id))
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// In pieces of 10,000 bytes, without announced length.
fn body(len: usize) -> impl Body<Data = Bytes, Error = BodyError> + Unpin {
    let whole = bytes(len);
    let mut pieces: Vec<_> = whole.chunks(10_000).map(Bytes::copy_from_slice).collect();
    pieces.reverse();
    Unsized(pieces)
}

struct Unsized(Vec<Bytes>);

impl Body for Unsized {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.pop().map(|piece| Ok(Frame::data(piece))))
    }
}

#[tokio::test]
async fn bodies_come_back_as_they_went_in() {
    for len in [0, 1, MEMORY_BYTES, MEMORY_BYTES + 1, SLICE_BYTES, SLICE_BYTES * 3 + 17] {
        let store = store(1 << 20, 1 << 24);
        let spooled = store.collect(len, 1 << 24).await.unwrap();
        assert_eq!(spooled.len(), len as u64);
        assert_eq!(spooled.sha256(), sha256(&bytes(len)));
        for _ in 0..2 {
            let body = spooled.body();
            assert_eq!(body.size_hint().exact(), Some(len as u64));
            assert!(body.collect().await.unwrap().to_bytes() == bytes(len), "{len}");
        }
        assert!(spooled.bytes().await.unwrap() == bytes(len), "{len}");
        let is_in_memory = len <= MEMORY_BYTES;
        assert_eq!(store.used(), if is_in_memory { (len as u64, 0) } else { (0, len as u64) });
        // A spool file has no name.
        assert_eq!(std::fs::read_dir(store.dir.path()).unwrap().count(), 0);
        // Its bytes count until the last reader is gone.
        let reader = spooled.body();
        drop(spooled);
        assert_eq!(store.used(), if is_in_memory { (0, 0) } else { (0, len as u64) });
        drop(reader);
        assert_eq!(store.used(), (0, 0));
    }
}

#[tokio::test]
async fn what_is_too_large_leaves_nothing_behind() {
    let store = store(1 << 20, 1 << 24);
    for (len, limit) in [(20_001, 20_000), (500_000, 400_000)] {
        assert!(
            matches!(store.collect(len, limit).await, Err(SpoolError::TooLarge { limit_bytes }) if limit_bytes == limit)
        );
        store.collect(limit as usize, limit).await.unwrap();
        assert_eq!(store.used(), (0, 0));
    }
    // An announced length is believed when it condemns.
    let announced = Full::new(Bytes::from(bytes(21))).map_err(|never| match never {});
    assert!(matches!(store.spool.collect(announced, 20, || agent("bot")).await, Err(SpoolError::TooLarge { .. })));
}

#[tokio::test]
async fn all_bodies_together_stay_within_bounds() {
    let store = store(100_000, 300_000);
    let first = store.collect(60_000, 1 << 20).await.unwrap();
    assert_eq!(store.used(), (60_000, 0));
    // No room in memory for a second one: to disk.
    let second = store.collect(60_000, 1 << 20).await.unwrap();
    assert_eq!(store.used(), (60_000, 60_000));
    assert!(matches!(store.collect(250_000, 1 << 20).await, Err(SpoolError::Full)));
    assert_eq!(store.used(), (60_000, 60_000));
    drop(second);
    let third = store.collect(250_000, 1 << 20).await.unwrap();
    assert!(third.bytes().await.unwrap() == bytes(250_000));
    drop((first, third));
    assert_eq!(store.used(), (0, 0));
}

#[tokio::test]
async fn a_body_that_is_cut_or_given_up_frees_its_share() {
    let store = store(1 << 20, 1 << 20);
    let cut = body(100_000).with_trailers(async { Some(Err(BodyError::AgentCut)) });
    assert!(matches!(
        store.spool.collect(Box::pin(cut), 1 << 20, || agent("bot")).await,
        Err(SpoolError::Body(BodyError::AgentCut))
    ));
    assert_eq!(store.used(), (0, 0));
    // Dropped while it waits for more.
    let stuck = body(100_000).with_trailers(std::future::pending());
    let mut collecting = Box::pin(store.spool.collect(Box::pin(stuck), 1 << 20, || agent("bot")));
    while store.used().1 == 0 {
        assert!(std::future::poll_fn(|cx| Poll::Ready(collecting.as_mut().poll(cx).is_pending())).await);
        tokio::task::yield_now().await;
    }
    drop(collecting);
    assert_eq!(store.used(), (0, 0));
}

#[tokio::test]
async fn a_directory_that_is_gone_is_named() {
    let store = store(0, 1 << 20);
    let dir = store.dir.path().to_owned();
    std::fs::remove_dir(&dir).unwrap();
    let error = store.collect(1, 10).await.unwrap_err();
    assert!(error.to_string().contains(&dir.display().to_string()), "{error}");
}

/// Two agents and a stranger on one disk of a million bytes.
fn shared() -> Store {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskLimits { total: 1_000_000, per_agent: 400_000, unproven: 300_000 };
    let spool = Spool::new(dir.path().to_owned(), 1 << 20, disk);
    Store { dir, spool }
}

fn unproven(key_id: &str, peer: &str) -> Payer {
    Payer::unproven(key_id, peer.parse().unwrap())
}

#[tokio::test]
async fn one_agent_cannot_fill_the_disk() {
    let store = shared();
    let first = store.collect(250_000, 1 << 20).await.unwrap();
    let refused = store.collect(250_000, 1 << 20).await;
    assert!(matches!(refused, Err(SpoolError::AgentFull { limit_bytes: 400_000 })), "{refused:?}");
    let _other = store.collect_for(agent("other"), 250_000, 1 << 20).await.unwrap();
    // What stays in memory is not of the disk.
    store.collect(MEMORY_BYTES, 1 << 20).await.unwrap();
    drop(first);
    store.collect(390_000, 1 << 20).await.unwrap();
}

#[tokio::test]
async fn whoever_knows_a_key_id_alone_gets_little_of_the_disk() {
    let store = shared();
    let (here, there) = (unproven("AKCS1", "10.0.0.1"), unproven("AKCS1", "10.0.0.2"));
    let mut first = store.collect_for(here.clone(), 250_000, 1 << 20).await.unwrap();
    let refused = store.collect_for(here.clone(), 100_000, 1 << 20).await;
    assert!(matches!(refused, Err(SpoolError::UnprovenFull { limit_bytes: 300_000, .. })), "{refused:?}");
    // The holder of the key, elsewhere, is not in the way of whoever abuses its id.
    let second = store.collect_for(there.clone(), 200_000, 1 << 20).await.unwrap();
    let refused = store.collect_for(unproven("AKCS2", "10.0.0.3"), 100_000, 1 << 20).await;
    assert!(matches!(refused, Err(SpoolError::Full)), "half of the disk is for what is proven");
    // A signature that holds makes room for the next.
    first.proven(&AgentId::new("bot")).unwrap();
    let mut third = store.collect_for(here, 250_000, 1 << 20).await.unwrap();
    let refused = third.proven(&AgentId::new("bot"));
    assert!(matches!(refused, Err(SpoolError::AgentFull { .. })), "{refused:?}");
    drop((first, second, third));
    assert_eq!(store.used(), (0, 0));
}

#[tokio::test]
async fn another_address_of_one_network_is_no_other_stranger() {
    let store = shared();
    let _first = store.collect_for(unproven("AKCS1", "2001:db8::1"), 250_000, 1 << 20).await.unwrap();
    let refused = store.collect_for(unproven("AKCS1", "2001:db8::2"), 100_000, 1 << 20).await;
    assert!(matches!(refused, Err(SpoolError::UnprovenFull { .. })), "{refused:?}");
}

#[tokio::test]
async fn unproven_bodies_are_counted_too() {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskLimits { total: 1 << 30, per_agent: 1 << 30, unproven: 1 << 30 };
    let store = Store { spool: Spool::new(dir.path().to_owned(), 0, disk), dir };
    let payer = unproven("AKCS1", "10.0.0.1");
    let mut kept = Vec::new();
    for _ in 0..256 {
        kept.push(store.collect_for(payer.clone(), 1, 10).await.unwrap());
    }
    assert!(matches!(store.collect_for(payer.clone(), 1, 10).await, Err(SpoolError::UnprovenFull { .. })));
    kept.pop();
    store.collect_for(payer, 1, 10).await.unwrap();
}
