//! Connections from greeting to end: limits, reuse, streaming, drain.

use super::*;

#[tokio::test]
async fn a_connection_is_used_again() {
    let (server, seen) = Server::counting(Limits::default()).await;
    let mut client = server.connect().await;
    for number in 1..=5 {
        client.write("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n").await;
        client.write("x\r\n0\r\n\r\n").await;
        let (head, body) = client.answer().await;
        assert!(!head.contains("connection:"), "{head}");
        assert_eq!(body, format!("answer {number}"));
    }
    assert_eq!(seen.requests().len(), 5);
}

#[tokio::test]
async fn http11_goes_before_http2_and_tls_is_modern() {
    let (server, _) = Server::counting(Limits::default()).await;
    drop(server);
    let server = Server::start(Limits::default(), true, |_| async { Response::new(AnswerBody::Empty) }).await;
    let (_, ca) = server.trust.as_ref().unwrap();
    for (offered, agreed) in
        [(vec![], None), (vec!["h2", "http/1.1"], Some("http/1.1")), (vec!["h2"], Some("h2")), (vec!["h3"], None)]
    {
        let mut config = (*tls::client_config(Some(ca)).unwrap()).clone();
        config.alpn_protocols = offered.iter().map(|name: &&str| name.as_bytes().to_vec()).collect();
        let tcp = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        match connected {
            Ok(stream) => assert_eq!(stream.get_ref().1.alpn_protocol(), agreed.map(str::as_bytes), "{offered:?}"),
            Err(error) => assert!(offered == ["h3"], "{offered:?}: {error}"),
        }
    }
    // What is not TLS costs nobody anything.
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(GET.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    drop(plain.read_to_end(&mut said).await);
    let mut client = server.connect().await;
    client.write(GET).await;
    assert!(client.answer().await.0.starts_with("http/1.1 200 ok"));
}

#[tokio::test]
async fn slow_heads_and_bodies_are_cut_off_and_silent_clients_closed() {
    for (name, sent, said_first) in [
        ("nothing", "", ""),
        ("part of a head", "GET / HTTP/1.1\r\nHo", "HTTP/1.1 408 "),
        ("part of a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel", "HTTP/1.1 408 "),
        ("idle after a request", GET, "HTTP/1.1 200 "),
    ] {
        let (server, _) = Server::counting(short()).await;
        let said = server.say(sent).await;
        assert!(said.starts_with(said_first) && said.is_empty() == said_first.is_empty(), "{name}: {said:?}");
    }
}

#[tokio::test]
async fn a_head_that_drips_is_cut_off() {
    let (server, _) = Server::counting(short()).await;
    let client = server.connect().await;
    let (mut read, mut write) = tokio::io::split(client.stream);
    let drip = tokio::spawn(async move {
        while write.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut said = Vec::new();
    drop(read.read_to_end(&mut said).await);
    assert!(said.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&said));
    drip.abort();
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let started = Arc::new(Notify::new());
    let signal = Arc::clone(&started);
    let server = Server::start(short(), false, move |_| {
        signal.notify_one();
        async { Response::new(AnswerBody::whole(vec![0; 64 << 20])) }
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut tcp = socket.connect(server.address).await.unwrap();
    tcp.write_all(GET.as_bytes()).await.unwrap();
    started.notified().await;
    while !server.metrics.render().contains("countersign_connections 0\n") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut taken = Vec::new();
    let result = tcp.read_to_end(&mut taken).await;
    assert!(result.is_err() || taken.len() < 64 << 20, "cut off, not whole");
}

#[tokio::test]
async fn a_connection_too_many_is_turned_away() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let (server, _) = Server::counting(limits).await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    for client in [&mut first, &mut second] {
        client.write(GET).await;
        client.answer().await;
    }
    let said = server.connect().await.rest().await;
    assert!(said.starts_with("HTTP/1.1 503 "), "{said:?}");
    first.write(GET).await;
    assert_eq!(first.answer().await.1, "answer 3");
    drop(second);
    // Its place is free as soon as the server has seen it leave.
    while !server.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.starts_with("HTTP/1.1 200 ") {}
}

#[tokio::test]
async fn a_peer_with_its_share_of_connections_is_turned_away() {
    let limits = Limits { connections_per_peer: 2, ..Limits::default() };
    let plane = |_| async { Response::new(AnswerBody::Empty) };
    let server = Server::start_at("0.0.0.0:0", limits.clone(), false, plane).await;
    let (mut first, second) = (server.connect().await, server.connect().await);
    first.write(GET).await;
    first.answer().await;
    let said = server.connect().await.rest().await;
    assert!(said.starts_with("HTTP/1.1 503 "), "{said:?}");
    assert!(server.metrics.render().contains("countersign_connections_turned_away_total 1\n"));
    drop(second);
    while !server.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.starts_with("HTTP/1.1 200 ") {}

    // Behind a loopback address everybody is the same peer.
    let local = Server::start(limits, false, plane).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = local.connect().await;
        client.write(GET).await;
        client.answer().await;
        clients.push(client);
    }
}

/// Whoever watches the log learns who it was and why, and none of the bytes.
#[tokio::test]
async fn what_is_refused_before_it_is_a_request_is_told() {
    let (server, seen) = Server::counting(Limits::default()).await;
    let answer = server.say("GET /secret HTTP/1.1\r\nHost: a\r\nHost: secret\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer:?}");
    // It was told before the answer was sent.
    let refused = server.refused.lock().unwrap().clone();
    assert_eq!(refused.len(), 1);
    let (peer, status, reason) = refused[0];
    assert_eq!((peer, status), (server.address.ip(), "400 Bad Request"));
    assert!(reason.contains("Host") || reason.contains("host"), "{reason}");
    assert!(!reason.contains("secret"), "{reason}");
    assert!(seen.requests().is_empty());
}

#[tokio::test]
async fn a_panic_costs_its_own_connection_only() {
    let server = Server::start(Limits::default(), false, |arrived: Arrived| async move {
        assert!(arrived.uri.path() != "/panic", "as planned");
        Response::new(AnswerBody::whole("fine"))
    })
    .await;
    let mut other = server.connect().await;
    other.write(GET).await;
    other.answer().await;
    assert_eq!(server.say("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n").await, "");
    other.write(GET).await;
    assert_eq!(other.answer().await.1, "fine");
    assert!(!server.serving.is_finished());
}

#[tokio::test]
async fn a_shutdown_lets_running_requests_end_and_closes_the_rest() {
    let release = Arc::new(Notify::new());
    let (started, mut starting) = mpsc::unbounded_channel();
    let released = Arc::clone(&release);
    let server = Server::start(Limits::default(), false, move |_| {
        started.send(()).unwrap();
        let released = Arc::clone(&released);
        async move {
            released.notified().await;
            Response::new(AnswerBody::whole("done"))
        }
    })
    .await;
    let mut idle = server.connect().await;
    idle.write(GET).await;
    starting.recv().await.unwrap();
    release.notify_one();
    idle.answer().await;
    let mut running = server.connect().await;
    running.write(GET).await;
    starting.recv().await.unwrap();

    server.stop.send(true).unwrap();
    assert_eq!(idle.rest().await, "");
    assert!(!server.serving.is_finished());
    release.notify_one();
    let (head, body) = running.answer().await;
    assert!(head.contains("connection: close\r\n"), "{head}");
    assert_eq!(body, "done");
    assert_eq!(running.rest().await, "");
    server.serving.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let (started, mut starting) = mpsc::unbounded_channel();
    let limits = Limits { drain_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(limits, false, move |_| {
        started.send(()).unwrap();
        pending()
    })
    .await;
    let mut client = server.connect().await;
    client.write(GET).await;
    starting.recv().await.unwrap();
    server.stop.send(true).unwrap();
    server.serving.await.unwrap();
    assert_eq!(client.rest().await, "");
    assert!(server.metrics.render().contains("countersign_connections 0\n"));
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let server = Server::start(Limits::default(), false, |_| async {
        Response::builder().status(403).body(AnswerBody::whole("no")).unwrap()
    })
    .await;
    let mut client = server.connect().await;
    client.write(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 32 << 20)).await;
    // A client that reads only when it has sent everything.
    client.write(vec![0; 32 << 20]).await;
    let said = client.rest().await;
    assert!(said.starts_with("HTTP/1.1 403 "), "{said:?}");
    assert!(said.contains("connection: close\r\n"), "{said:?}");
}

/// What may be on its way between the two ends: socket buffers of both and what hyper holds.
const IN_FLIGHT_BYTES: u64 = 16 << 20;

#[tokio::test]
async fn a_slow_reader_slows_the_source_down() {
    const TOTAL: u64 = 96 << 20;
    let produced = Arc::new(AtomicU64::new(0));
    let source = Arc::clone(&produced);
    let server = Server::start(Limits::default(), false, move |_| {
        let body = Source { left: TOTAL, produced: Arc::clone(&source) };
        async move { Response::new(AnswerBody::boxed(body)) }
    })
    .await;
    let mut client = server.connect().await;
    client.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let mut taken = 0;
    let mut piece = vec![0; 64 * 1024];
    loop {
        let len = client.stream.read(&mut piece).await.unwrap() as u64;
        taken += len;
        let in_flight = produced.load(Ordering::SeqCst).saturating_sub(taken);
        assert!(in_flight <= IN_FLIGHT_BYTES, "{in_flight} bytes are on their way");
        if len == 0 {
            break;
        }
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    assert!(taken >= TOTAL);
}

#[tokio::test]
async fn a_slow_plane_slows_the_client_down() {
    const TOTAL: u64 = 96 << 20;
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let (answered, answer) = oneshot::channel();
    let answered = Arc::new(Mutex::new(Some(answered)));
    let server = Server::start(Limits::default(), false, move |arrived: Arrived| {
        let (counted, answered) = (Arc::clone(&counted), Arc::clone(&answered));
        async move {
            let mut body = arrived.body;
            let (mut taken, mut most) = (0, 0);
            while let Some(frame) = body.frame().await {
                taken += frame.unwrap().into_data().unwrap().len() as u64;
                most = most.max(counted.load(Ordering::SeqCst).saturating_sub(taken));
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
            }
            answered.lock().unwrap().take().unwrap().send((taken, most)).unwrap();
            Response::new(AnswerBody::Empty)
        }
    })
    .await;
    let mut client = server.connect().await;
    client.write(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {TOTAL}\r\n\r\n")).await;
    let piece = vec![0; 64 * 1024];
    while sent.load(Ordering::SeqCst) < TOTAL {
        client.write(&piece).await;
        sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
    }
    let (taken, most) = answer.await.unwrap();
    assert_eq!(taken, TOTAL);
    assert!(most <= IN_FLIGHT_BYTES, "{most} bytes were on their way");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    for version in ["1.0", "1.1"] {
        let server = Server::start(Limits::default(), false, |_| async {
            let produced = Arc::new(AtomicU64::new(0));
            let body = Source { left: 100_000, produced }.chain_error();
            Response::new(AnswerBody::boxed(body))
        })
        .await;
        let mut client = server.connect().await;
        client.write(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n")).await;
        let mut said = Vec::new();
        let result = client.stream.read_to_end(&mut said).await;
        assert!(result.is_err(), "{version}: a clean end after {} bytes", said.len());
    }
}

/// A body that makes its bytes up when they are wanted.
struct Source {
    left: u64,
    produced: Arc<AtomicU64>,
}

impl Source {
    fn chain_error(self) -> impl Body<Data = Bytes, Error = BodyError> {
        struct Broken(Source);
        impl Body for Broken {
            type Data = Bytes;
            type Error = BodyError;

            fn poll_frame(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
                let frame = ready!(Pin::new(&mut self.0).poll_frame(cx));
                Poll::Ready(frame.or(Some(Err(BodyError::UpstreamStalled))))
            }
        }
        Broken(self)
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let len = self.left.min(64 * 1024);
        self.left -= len;
        self.produced.fetch_add(len, Ordering::SeqCst);
        Poll::Ready((len > 0).then(|| Ok(Frame::data(vec![0; len as usize].into()))))
    }
}
