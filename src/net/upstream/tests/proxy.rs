//! Listener and pool together: an agent's request through to an upstream and back, as a plane would pass it on.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::*;
use crate::net::door::Door;
use crate::net::listen::{Arrived, Limits, serve};
use crate::net::{ca, tls};
use crate::telemetry::Metrics;
use crate::time::Timestamp;

struct Served {
    endpoint: Endpoint,
    _stop: watch::Sender<bool>,
}

async fn started<A, F>(certificate: Option<&ca::Files>, answer: A) -> Served
where
    A: Fn(Arrived) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Outgoing>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint =
        Endpoint { host: "localhost".into(), port: listener.local_addr().unwrap().port(), tls: certificate.is_some() };
    let config = certificate.map(|files| tls::server_config(&files.certificate, &files.key).unwrap());
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(
        listener.into(),
        Door::Endpoint { tls: config, http2: false },
        Limits::default(),
        Arc::new(Metrics::default()),
        Arc::new(|_, _, _| {}),
        stopped,
        answer,
    ));
    Served { endpoint, _stop: stop }
}

/// 64 MiB up and back down through TLS on both sides: what is on its way stays bounded.
#[tokio::test]
async fn bodies_stream_through_both_ways_with_back_pressure() {
    const TOTAL: u64 = 64 << 20;
    const IN_FLIGHT_BYTES: u64 = 32 << 20;
    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp::parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
    let files = ca::create(dir.path(), &["localhost".to_owned()], now).unwrap();

    let echo = started(Some(&files), |arrived| async move { Response::new(Outgoing::boxed(arrived.body)) }).await;
    let options = UpstreamOptions { extra_ca: Some(files.ca.clone()), ..Default::default() };
    let onward = Arc::new(pool_with(options.clone()));
    let target = echo.endpoint.clone();
    let claimed = {
        let mut hasher = crate::digest::Hasher::new();
        for _ in 0..TOTAL / PIECE as u64 {
            hasher.update(&[b'x'; PIECE]);
        }
        hasher.finish()
    };
    let proxy = started(Some(&files), move |arrived| {
        let (onward, target) = (Arc::clone(&onward), target.clone());
        async move {
            let body = Hashed::new(arrived.body, claimed, None).unwrap();
            onward.send(&target, put(Outgoing::boxed(body))).await.unwrap().map(Outgoing::Upstream)
        }
    })
    .await;

    let client = pool_with(options);
    let produced = Arc::new(AtomicU64::new(0));
    let source = Source { left: TOTAL, produced: Arc::clone(&produced) };
    let mut body = client.send(&proxy.endpoint, put(Outgoing::boxed(source))).await.unwrap().into_body();
    let mut taken = 0;
    while let Some(frame) = body.frame().await {
        taken += frame.unwrap().into_data().unwrap().len() as u64;
        let in_flight = produced.load(Ordering::SeqCst) - taken;
        assert!(in_flight <= IN_FLIGHT_BYTES, "{in_flight} bytes are on their way");
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(taken, TOTAL);
}

const PIECE: usize = 64 * 1024;

struct Source {
    left: u64,
    produced: Arc<AtomicU64>,
}

impl Body for Source {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let len = self.left.min(PIECE as u64);
        self.left -= len;
        self.produced.fetch_add(len, Ordering::SeqCst);
        Poll::Ready((len > 0).then(|| Ok(Frame::data(Bytes::from_static(&[b'x'; PIECE])))))
    }
}

#[tokio::test]
async fn only_trusted_names_are_talked_to() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let now = Timestamp::parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
    let files = ca::create(dir.path(), &["localhost".to_owned()], now).unwrap();
    let foreign = ca::create(other.path(), &["localhost".to_owned()], now).unwrap();
    let served = started(Some(&files), |_| async { Response::new(Outgoing::Empty) }).await;
    let by_address = Endpoint { host: "127.0.0.1".into(), ..served.endpoint.clone() };
    for (trust, endpoint, is_good) in
        [(&files, &served.endpoint, true), (&foreign, &served.endpoint, false), (&files, &by_address, false)]
    {
        let pool = pool_with(UpstreamOptions { extra_ca: Some(trust.ca.clone()), ..Default::default() });
        match pool.send(endpoint, get()).await {
            Ok(_) => assert!(is_good),
            Err(error) => assert!(!is_good && !error.was_sent(), "{error}"),
        }
    }
}
