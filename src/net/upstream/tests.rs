use std::collections::VecDeque;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::digest::sha256;
use crate::net::hashed::Hashed;

mod proxy;

/// An upstream that does what the test says, connection by connection.
struct Peer {
    listener: TcpListener,
    endpoint: Endpoint,
}

impl Peer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, endpoint: Endpoint { host: "127.0.0.1".into(), port, tls: false } }
    }

    async fn accept(&self) -> Wire {
        Wire { tcp: self.listener.accept().await.unwrap().0, unread: Vec::new() }
    }

    /// True when nobody is waiting to be accepted.
    fn is_left_alone(&self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.listener.poll_accept(&mut cx).is_pending()
    }
}

struct Wire {
    tcp: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    /// Reads up to and with this text.
    async fn until(&mut self, text: &str) -> String {
        loop {
            let found = self.unread.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                return String::from_utf8(self.unread.drain(..at + text.len()).collect()).unwrap();
            }
            let len = self.tcp.read_buf(&mut self.unread).await.unwrap();
            assert!(len > 0, "closed before {text:?}: {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    async fn request(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    async fn say(&mut self, text: &str) {
        self.tcp.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything that still comes; a reset counts as the end.
    async fn rest(&mut self) -> String {
        drop(self.tcp.read_to_end(&mut self.unread).await);
        String::from_utf8_lossy(&self.unread).into_owned()
    }
}

fn pool() -> Pool {
    pool_with(UpstreamOptions::default())
}

fn pool_with(options: UpstreamOptions) -> Pool {
    Pool::new(options, Own::default()).unwrap()
}

fn get() -> Box<Request<Outgoing>> {
    Box::new(Request::get("https://a.example/x?y=z").header("host", "a.example").body(Outgoing::Empty).unwrap())
}

fn put(body: Outgoing) -> Box<Request<Outgoing>> {
    Box::new(Request::put("/x").header("host", "a.example").body(body).unwrap())
}

async fn text(response: Response<UpstreamBody>) -> Result<String, BodyError> {
    Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

/// A body whose pieces the test sends.
struct Fed(mpsc::UnboundedReceiver<Result<&'static str, BodyError>>);

fn fed() -> (mpsc::UnboundedSender<Result<&'static str, BodyError>>, Outgoing) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Outgoing::boxed(Fed(receiver)))
}

impl Body for Fed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map_ok(|piece| Frame::data(Bytes::from_static(piece.as_bytes())))
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_connection_is_used_again_after_a_whole_exchange() {
    let (peer, pool) = (Peer::start().await, pool());
    let exchange = async {
        for answer in [OK, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"] {
            let response = pool.send(&peer.endpoint, get()).await.unwrap();
            assert_eq!(text(response).await.unwrap(), "ok", "{answer}");
            let response = pool.send(&peer.endpoint, put(Outgoing::whole("body"))).await.unwrap();
            assert_eq!(response.status(), 204);
            assert_eq!(text(response).await.unwrap(), "");
        }
    };
    let script = async {
        let mut wire = peer.accept().await;
        for answer in [OK, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"] {
            let request = wire.request().await;
            assert!(request.starts_with("GET /x?y=z HTTP/1.1\r\n"), "{request}");
            assert!(request.contains("host: a.example\r\n"), "{request}");
            wire.say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").await;
            wire.say(answer).await;
            let request = wire.until("body").await;
            assert!(request.contains("content-length: 4\r\n"), "{request}");
            wire.say("HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    };
    tokio::join!(exchange, script);
    assert!(peer.is_left_alone());
}

#[tokio::test]
async fn an_unfinished_answer_keeps_its_connection_to_itself() {
    let (peer, pool) = (Peer::start().await, pool());
    let (first, mut wire) = tokio::join!(pool.send(&peer.endpoint, get()), async {
        let mut wire = peer.accept().await;
        wire.request().await;
        wire.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        wire
    });
    let first = first.unwrap();
    let (second, _) = tokio::join!(pool.send(&peer.endpoint, get()), async {
        let mut other = peer.accept().await;
        other.request().await;
        other.say(OK).await;
        other
    });
    assert_eq!(text(second.unwrap()).await.unwrap(), "ok");
    // Given up: closed, with nothing more sent on it.
    drop(first);
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn an_unfinished_request_keeps_its_connection_to_itself() {
    let (peer, pool) = (Peer::start().await, pool());
    let (feed, body) = fed();
    feed.send(Ok("one")).unwrap();
    let (first, mut wire) = tokio::join!(pool.send(&peer.endpoint, put(body)), async {
        let mut wire = peer.accept().await;
        wire.until("one\r\n").await;
        // Answered before the request has ended.
        wire.say(OK).await;
        wire
    });
    assert_eq!(text(first.unwrap()).await.unwrap(), "ok");
    let (second, mut other) = tokio::join!(pool.send(&peer.endpoint, get()), async {
        let mut other = peer.accept().await;
        other.request().await;
        other.say(OK).await;
        other
    });
    assert_eq!(text(second.unwrap()).await.unwrap(), "ok");
    feed.send(Ok("two")).unwrap();
    drop(feed);
    assert_eq!(wire.until("0\r\n\r\n").await, "3\r\ntwo\r\n0\r\n\r\n");
    // Now both are whole, and both are used again.
    let (again, ()) = tokio::join!(pool.send(&peer.endpoint, get()), async {
        other.request().await;
        other.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain").await;
    });
    let (both, ()) = tokio::join!(pool.send(&peer.endpoint, get()), async {
        wire.request().await;
        wire.say(OK).await;
    });
    assert_eq!(text(again.unwrap()).await.unwrap(), "again");
    assert_eq!(text(both.unwrap()).await.unwrap(), "ok");
    assert!(peer.is_left_alone());
}

#[tokio::test]
async fn bytes_after_an_answer_cost_the_connection_and_are_nobodys_answer() {
    for stray in ["x", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"] {
        for late in [false, true] {
            let (peer, pool) = (Peer::start().await, pool());
            let (first, mut wire) = tokio::join!(pool.send(&peer.endpoint, get()), async {
                let mut wire = peer.accept().await;
                wire.request().await;
                if late {
                    wire.say(OK).await;
                } else {
                    wire.say(&format!("{OK}{stray}")).await;
                }
                wire
            });
            assert_eq!(text(first.unwrap()).await.unwrap(), "ok");
            if late {
                wire.say(stray).await;
            }
            assert_eq!(wire.rest().await, "");
            let (second, ()) = tokio::join!(pool.send(&peer.endpoint, get()), async {
                let mut wire = peer.accept().await;
                wire.request().await;
                wire.say(OK).await;
            });
            assert_eq!(text(second.unwrap()).await.unwrap(), "ok");
        }
    }
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_is_replaced_without_a_trace() {
    for farewell in [OK, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"] {
        let (peer, pool) = (Peer::start().await, pool());
        for _ in 0..3 {
            let (response, wire) = tokio::join!(pool.send(&peer.endpoint, get()), async {
                let mut wire = peer.accept().await;
                wire.request().await;
                wire.say(farewell).await;
                wire
            });
            assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
            drop(wire);
        }
    }
}

#[tokio::test]
async fn an_old_connection_is_not_used() {
    let (peer, pool) =
        (Peer::start().await, pool_with(UpstreamOptions { idle_timeout: Duration::ZERO, ..Default::default() }));
    for _ in 0..2 {
        let (response, _) = tokio::join!(pool.send(&peer.endpoint, get()), async {
            let mut wire = peer.accept().await;
            wire.request().await;
            wire.say(OK).await;
            wire
        });
        assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
    }
    // The sweep on return also forgets the endpoint.
    assert!(pool.shelf.idle.is_empty());
}

#[tokio::test]
async fn the_idle_connections_of_an_endpoint_are_bounded() {
    let (peer, pool) = (Peer::start().await, pool_with(UpstreamOptions { idle_connections: 2, ..Default::default() }));
    let mut wires = Vec::new();
    let mut responses = Vec::new();
    for _ in 0..4 {
        let (response, wire) = tokio::join!(pool.send(&peer.endpoint, get()), async {
            let mut wire = peer.accept().await;
            wire.request().await;
            wire.say(OK).await;
            wire
        });
        responses.push(response.unwrap());
        wires.push(wire);
    }
    for response in responses {
        text(response).await.unwrap();
    }
    assert_eq!(pool.shelf.idle.iter().map(|idle| idle.len()).sum::<usize>(), 2);
    for wire in &mut wires[..2] {
        assert_eq!(wire.rest().await, "");
    }
}

#[tokio::test]
async fn what_may_have_left_is_never_sent_again() {
    for (name, answer) in [
        ("closed", ""),
        ("half a head", "HTTP/1.1 200 OK\r\nConte"),
        ("garbage", "\0\u{1}\u{2} nonsense\r\n\r\n"),
        ("another protocol", "RTSP/1.0 200 OK\r\n\r\n"),
        ("folded field", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
        ("two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("length and coding that is none", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
    ] {
        let (peer, pool) = (Peer::start().await, pool());
        // Also on a connection that was good before.
        for is_pooled in [false, true] {
            let (result, ()) = tokio::join!(pool.send(&peer.endpoint, put(Outgoing::whole("body"))), async {
                let mut wire = peer.accept().await;
                if is_pooled {
                    wire.until("body").await;
                    wire.say(OK).await;
                    return;
                }
                wire.until("body").await;
                wire.say(answer).await;
            });
            if is_pooled {
                text(result.unwrap()).await.unwrap();
            } else {
                let error = result.unwrap_err();
                assert!(error.was_sent(), "{name}: {error}");
            }
        }
        assert!(peer.is_left_alone(), "{name}");
    }
}

#[tokio::test]
async fn a_reset_after_the_request_is_not_retried_on_a_pooled_connection() {
    let (peer, pool) = (Peer::start().await, pool());
    let exchange = async {
        text(pool.send(&peer.endpoint, get()).await.unwrap()).await.unwrap();
        pool.send(&peer.endpoint, put(Outgoing::whole("body"))).await.unwrap_err()
    };
    let (error, ()) = tokio::join!(exchange, async {
        let mut wire = peer.accept().await;
        wire.request().await;
        wire.say(OK).await;
        wire.until("body").await;
        socket2::SockRef::from(&wire.tcp).set_linger(Some(Duration::ZERO)).unwrap();
    });
    assert!(error.was_sent());
    assert!(peer.is_left_alone());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n",
    ] {
        let (peer, pool) = (Peer::start().await, pool());
        let (response, ()) = tokio::join!(pool.send(&peer.endpoint, get()), async {
            let mut wire = peer.accept().await;
            wire.request().await;
            wire.say(answer).await;
        });
        assert!(matches!(text(response.unwrap()).await, Err(BodyError::UpstreamCut(_))), "{answer}");
    }
}

#[tokio::test]
async fn an_upstream_that_hangs_is_given_up() {
    let short = Duration::from_millis(100);
    let options = UpstreamOptions { answer_timeout: short, stall_timeout: short, ..Default::default() };
    let (peer, pool) = (Peer::start().await, pool_with(options));
    let (error, mut wire) = tokio::join!(pool.send(&peer.endpoint, get()), async {
        let mut wire = peer.accept().await;
        wire.request().await;
        wire
    });
    let error = error.unwrap_err();
    assert!(matches!(error, SendError::AnswerTimeout) && error.was_sent());
    assert_eq!(wire.rest().await, "");
    let (response, mut wire) = tokio::join!(pool.send(&peer.endpoint, get()), async {
        let mut wire = peer.accept().await;
        wire.request().await;
        wire.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await;
        wire
    });
    assert!(matches!(text(response.unwrap()).await, Err(BodyError::UpstreamStalled)));
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn a_long_upload_is_not_silence() {
    let options = UpstreamOptions { answer_timeout: Duration::from_secs(1), ..Default::default() };
    let (peer, pool) = (Peer::start().await, pool_with(options));
    let (feed, body) = fed();
    let feeding = async {
        for _ in 0..15 {
            feed.send(Ok("piece")).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drop(feed);
    };
    let (response, (), ()) = tokio::join!(pool.send(&peer.endpoint, put(body)), feeding, async {
        let mut wire = peer.accept().await;
        wire.until("0\r\n\r\n").await;
        wire.say(OK).await;
    });
    assert_eq!(text(response.unwrap()).await.unwrap(), "ok");
}

#[tokio::test]
async fn nothing_left_when_no_connection_was_made() {
    let pool = pool();
    let refused = {
        let peer = Peer::start().await;
        peer.endpoint.clone()
    };
    let unknown = Endpoint { host: "no-such-host.invalid".into(), port: 80, tls: false };
    let malformed = Endpoint { host: "a b".into(), port: 80, tls: true };
    for endpoint in [refused, unknown, malformed] {
        let error = pool.send(&endpoint, get()).await.unwrap_err();
        assert!(matches!(error, SendError::Connect(_)) && !error.was_sent(), "{error}");
    }
    // Not TLS at all, and closed within the greeting.
    for said in ["HTTP/1.1 200 OK\r\n\r\n", ""] {
        let peer = Peer::start().await;
        let endpoint = Endpoint { tls: true, host: "localhost".into(), ..peer.endpoint.clone() };
        let (error, ()) = tokio::join!(pool.send(&endpoint, get()), async {
            let mut wire = peer.accept().await;
            wire.tcp.read_u8().await.unwrap();
            wire.say(said).await;
        });
        assert!(!error.unwrap_err().was_sent());
    }
    let peer = Peer::start().await;
    let hasty = pool_with(UpstreamOptions { connect_timeout: Duration::from_millis(50), ..Default::default() });
    let endpoint = Endpoint { tls: true, host: "localhost".into(), ..peer.endpoint.clone() };
    let error = hasty.send(&endpoint, get()).await.unwrap_err();
    assert!(matches!(error, SendError::ConnectTimeout) && !error.was_sent(), "{error}");
}

#[tokio::test]
async fn a_body_that_is_not_what_was_claimed_never_arrives_whole() {
    for exact in [None, Some(8)] {
        for (pieces, end) in [(["hell", "fire"], None), (["hell", "o!!!"], Some(BodyError::AgentCut))] {
            let (peer, pool) = (Peer::start().await, pool());
            let body = Pieces { left: pieces.into(), end };
            let body = Hashed::new(body, sha256(b"hello!!!"), exact).unwrap();
            let (error, seen) = tokio::join!(pool.send(&peer.endpoint, put(Outgoing::boxed(body))), async {
                peer.accept().await.rest().await
            });
            assert_eq!(error.unwrap_err().was_sent(), !seen.is_empty());
            assert!(!seen.contains("fire") && !seen.contains("o!!!"), "{seen}");
            assert!(!seen.ends_with("0\r\n\r\n"), "{seen}");
        }
    }
}

struct Pieces {
    left: VecDeque<&'static str>,
    end: Option<BodyError>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(match self.left.pop_front() {
            Some(piece) => Some(Ok(Frame::data(Bytes::from_static(piece.as_bytes())))),
            None => self.end.take().map(Err),
        })
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_its_connection() {
    let (peer, pool) = (Peer::start().await, pool());
    let mut sending = Box::pin(pool.send(&peer.endpoint, get()));
    let mut wire = tokio::select! {
        _ = &mut sending => unreachable!("nobody answered"),
        wire = async {
            let mut wire = peer.accept().await;
            wire.request().await;
            wire
        } => wire,
    };
    drop(sending);
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn fields_of_the_connection_are_not_part_of_the_answer() {
    let (peer, pool) = (Peer::start().await, pool());
    let (response, ()) = tokio::join!(pool.send(&peer.endpoint, get()), async {
        let mut wire = peer.accept().await;
        wire.request().await;
        wire.say(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
             Transfer-Encoding: chunked\r\nX-Amz-Id: 7\r\n\r\n0\r\n\r\n",
        )
        .await;
    });
    let names: Vec<_> = response.unwrap().headers().keys().map(ToString::to_string).collect();
    assert_eq!(names, ["x-amz-id"]);
}

#[tokio::test]
async fn no_other_protocol_is_switched_to() {
    let (peer, pool) = (Peer::start().await, pool());
    let (result, ()) = tokio::join!(pool.send(&peer.endpoint, get()), async {
        let mut wire = peer.accept().await;
        wire.request().await;
        wire.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await;
    });
    let error = result.unwrap_err();
    assert!(matches!(error, SendError::Switched | SendError::Exchange { .. }) && error.was_sent(), "{error}");
}
