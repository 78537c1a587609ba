//! Requests that are held: interim responses, and clients that leave.

use super::*;

/// A plane that holds each request until the test releases it, and tells when it starts and when it is dropped.
struct Holding {
    server: Server,
    started: mpsc::UnboundedReceiver<Line>,
    dropped: mpsc::UnboundedReceiver<()>,
    release: Arc<Notify>,
}

struct OnDrop(mpsc::UnboundedSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.send(()).ok();
    }
}

impl Holding {
    async fn start(with_tls: bool) -> Self {
        let (start, started) = mpsc::unbounded_channel();
        let (gone, dropped) = mpsc::unbounded_channel();
        let release = Arc::new(Notify::new());
        let released = Arc::clone(&release);
        let server = Server::start(Limits::default(), with_tls, move |arrived: Arrived| {
            let (start, on_drop, released) = (start.clone(), OnDrop(gone.clone()), Arc::clone(&released));
            async move {
                let body = arrived.body.collect().await.unwrap().to_bytes();
                start.send(arrived.line).unwrap();
                released.notified().await;
                drop(on_drop);
                Response::new(AnswerBody::whole(format!("released {}", body.len())))
            }
        })
        .await;
        Self { server, started, dropped, release }
    }
}

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const PROCESSING: &str = "HTTP/1.1 102 Processing\r\n\r\n";

#[tokio::test]
async fn a_held_client_is_told_to_wait_in_exact_bytes() {
    for with_tls in [false, true] {
        let mut holding = Holding::start(with_tls).await;
        let mut client = holding.server.connect().await;
        // The second round sees that a line of the first request has no say in the second.
        let mut earlier: Option<Line> = None;
        for _ in 0..2 {
            client.write(POST).await;
            let line = holding.started.recv().await.unwrap();
            assert!(!earlier.as_ref().is_some_and(|earlier| earlier.interim(Interim::Processing)));
            for _ in 0..3 {
                assert!(line.interim(Interim::Continue));
                client.expect(CONTINUE).await;
            }
            assert!(line.interim(Interim::Processing));
            client.expect(PROCESSING).await;
            holding.release.notify_one();
            let (head, body) = client.answer().await;
            assert!(head.starts_with("http/1.1 200 ok"), "{head}");
            assert_eq!(body, "released 5");
            assert!(!line.interim(Interim::Continue), "the answer is out");
            assert!(!line.is_gone());
            earlier = Some(line);
        }
    }
}

#[tokio::test]
async fn an_awaited_continue_comes_before_the_body_and_mixes_with_nothing() {
    for with_tls in [false, true] {
        let mut holding = Holding::start(with_tls).await;
        let mut client = holding.server.connect().await;
        client.write("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
        client.expect(CONTINUE).await;
        client.write("hello").await;
        let line = holding.started.recv().await.unwrap();
        assert!(line.interim(Interim::Continue));
        client.expect(CONTINUE).await;
        line.close_after();
        holding.release.notify_one();
        let (head, body) = client.answer().await;
        assert!(head.contains("connection: close\r\n"), "{head}");
        assert_eq!(body, "released 5");
        assert_eq!(client.rest().await, "");
    }
}

#[tokio::test]
async fn an_answer_instead_of_continue_closes_the_connection() {
    let server = Server::start(Limits::default(), false, |_| async {
        Response::builder().status(403).body(AnswerBody::whole("no")).unwrap()
    })
    .await;
    let said = server.say("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
    assert!(said.contains("connection: close\r\n"), "{said}");
}

#[tokio::test]
async fn old_clients_get_no_interim_response() {
    let mut holding = Holding::start(false).await;
    let mut client = holding.server.connect().await;
    client.write("GET / HTTP/1.0\r\nHost: a\r\n\r\n").await;
    let line = holding.started.recv().await.unwrap();
    assert!(!line.interim(Interim::Continue));
    holding.release.notify_one();
    assert!(client.rest().await.starts_with("HTTP/1.0 200 OK"));
}

/// Many interim responses from another thread while answers go out: each message stays whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_responses_never_tear_an_answer() {
    for with_tls in [false, true] {
        let body = "x".repeat(200_000);
        let server = {
            let body = body.clone();
            Server::start(Limits::default(), with_tls, move |arrived: Arrived| {
                let body = body.clone();
                async move {
                    let line = arrived.line.clone();
                    tokio::spawn(async move {
                        for _ in 0..200 {
                            line.interim(Interim::Continue);
                            tokio::task::yield_now().await;
                        }
                    });
                    for _ in 0..20 {
                        tokio::task::yield_now().await;
                    }
                    Response::new(AnswerBody::whole(body))
                }
            })
            .await
        };
        let mut client = server.connect().await;
        for _ in 0..50 {
            client.write(GET).await;
            loop {
                let (head, text) = client.answer().await;
                if head == CONTINUE.to_ascii_lowercase() {
                    continue;
                }
                assert!(head.starts_with("http/1.1 200 ok"), "{head}");
                assert_eq!(text, body);
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_while_it_is_held() {
    #[derive(Clone, Copy, Debug)]
    enum Leave {
        Close,
        Reset,
        HalfClose,
    }
    for with_tls in [false, true] {
        for leave in [Leave::Close, Leave::Reset, Leave::HalfClose] {
            for ahead in ["", "GET /ahead HTTP/1.1\r\nHost: a\r\n\r\n", "GET /part"] {
                let mut holding = Holding::start(with_tls).await;
                let mut client = holding.server.connect().await;
                client.write(format!("{POST}{ahead}")).await;
                let line = holding.started.recv().await.unwrap();
                assert!(!line.is_gone());
                let kept = match leave {
                    Leave::Close => {
                        drop(client);
                        None
                    }
                    Leave::Reset => {
                        client.abort();
                        None
                    }
                    Leave::HalfClose => {
                        client.stream.shutdown().await.unwrap();
                        Some(client)
                    }
                };
                holding.dropped.recv().await.unwrap();
                assert!(line.is_gone(), "{leave:?} {ahead:?}");
                assert!(!line.interim(Interim::Continue));
                assert!(holding.started.try_recv().is_err(), "what was sent ahead must not run: {leave:?} {ahead:?}");
                drop(kept);
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_within_its_body_ends_the_request() {
    for with_tls in [false, true] {
        let (gone, mut dropped) = mpsc::unbounded_channel();
        let started = Arc::new(Notify::new());
        let signal = Arc::clone(&started);
        let server = Server::start(Limits::default(), with_tls, move |arrived: Arrived| {
            let on_drop = OnDrop(gone.clone());
            signal.notify_one();
            async move {
                drop(arrived.body.collect().await);
                // A plane that goes on regardless.
                let answer = pending().await;
                drop(on_drop);
                answer
            }
        })
        .await;
        let mut client = server.connect().await;
        client.write("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhello").await;
        started.notified().await;
        drop(client);
        dropped.recv().await.unwrap();
    }
}

#[tokio::test]
async fn requests_sent_ahead_wait_for_the_held_one() {
    let mut holding = Holding::start(false).await;
    let mut client = holding.server.connect().await;
    client.write(format!("{POST}{POST}{POST}")).await;
    for _ in 0..3 {
        let line = holding.started.recv().await.unwrap();
        assert!(line.interim(Interim::Continue));
        client.expect(CONTINUE).await;
        assert!(holding.started.try_recv().is_err());
        holding.release.notify_one();
        assert_eq!(client.answer().await.1, "released 5");
    }
}
