//! HTTP/2 without TLS, as a client that knows it beforehand speaks it.

use http_body_util::{Empty, Full, StreamBody};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::TokioExecutor;

use super::*;

type Sent = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn started<A, F>(limits: Limits, answer: A) -> Server
where
    A: Fn(Arrived) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    Server::start_speaking(true, "127.0.0.1:0", limits, false, answer).await
}

/// A client, and what ends when its connection does.
async fn client(server: &Server) -> (SendRequest<Sent>, tokio::task::JoinHandle<()>) {
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
    (sender, tokio::spawn(async move { drop(connection.await) }))
}

fn request(method: Method, uri: &str) -> Request<Sent> {
    Request::builder().method(method).uri(uri).body(Empty::new().boxed()).unwrap()
}

const URI: &str = "http://iam.amazonaws.com/";

/// Says which Host arrived, and the body.
async fn echo(arrived: Arrived) -> Response<AnswerBody> {
    let host = arrived.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("none").to_owned();
    match arrived.body.collect().await {
        Ok(body) => Response::new(AnswerBody::whole(format!("{host} {}", body.to_bytes().len()))),
        Err(_) => Response::new(AnswerBody::whole("cut")),
    }
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn many_requests_share_a_connection_and_each_has_a_host() {
    let server = started(Limits::default(), echo).await;
    let (sender, _) = client(&server).await;
    let asking: Vec<_> = (0..50)
        .map(|size| {
            let mut sender = sender.clone();
            let body = Full::new(Bytes::from(vec![b'x'; size * 1000])).boxed();
            tokio::spawn(async move {
                let request = Request::post(URI).body(body).unwrap();
                text(sender.send_request(request).await.unwrap()).await
            })
        })
        .collect();
    for (size, asked) in asking.into_iter().enumerate() {
        assert_eq!(asked.await.unwrap(), format!("iam.amazonaws.com {}", size * 1000));
    }
}

#[tokio::test]
async fn a_connect_within_http2_is_refused_and_told() {
    let server = started(Limits::default(), echo).await;
    let (mut sender, _) = client(&server).await;
    let response = sender.send_request(request(Method::CONNECT, "iam.amazonaws.com:443")).await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(text(response).await.contains("CONNECT"));
    let refused = server.refused.lock().unwrap().clone();
    assert!(refused.iter().any(|(_, status, reason)| *status == "400 Bad Request" && reason.contains("CONNECT")));
    // The others on its connection go on.
    assert_eq!(text(sender.send_request(request(Method::GET, URI)).await.unwrap()).await, "iam.amazonaws.com 0");
}

#[tokio::test]
async fn a_trailer_cuts_its_body() {
    let server = started(Limits::default(), echo).await;
    let (mut sender, _) = client(&server).await;
    let frames = [
        Frame::data(Bytes::from_static(b"data")),
        Frame::trailers(HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("x"))])),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok))).boxed();
    let response = sender.send_request(Request::post(URI).body(body).unwrap()).await.unwrap();
    assert_eq!(text(response).await, "cut");
}

#[tokio::test]
async fn a_client_that_resets_its_stream_or_leaves_drops_what_waits() {
    let (dropped, mut drops) = mpsc::unbounded_channel::<()>();
    let (began, mut beginnings) = mpsc::unbounded_channel::<()>();
    let server = started(Limits::default(), move |_| {
        let (dropped, began) = (dropped.clone(), began.clone());
        async move {
            struct Tell(mpsc::UnboundedSender<()>);
            impl Drop for Tell {
                fn drop(&mut self) {
                    self.0.send(()).unwrap_or(());
                }
            }
            let _tell = Tell(dropped);
            began.send(()).unwrap();
            pending().await
        }
    })
    .await;
    let tcp = std::net::TcpStream::connect(server.address).unwrap();
    tcp.set_nonblocking(true).unwrap();
    let cable = tcp.try_clone().unwrap();
    let io = TokioIo::new(TcpStream::from_std(tcp).unwrap());
    let (mut sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let waiting = tokio::spawn(sender.send_request(request(Method::GET, URI)));
    beginnings.recv().await.unwrap();
    waiting.abort();
    drops.recv().await.unwrap();
    let waiting = tokio::spawn(sender.send_request(request(Method::GET, URI)));
    beginnings.recv().await.unwrap();
    cable.shutdown(std::net::Shutdown::Both).unwrap();
    drops.recv().await.unwrap();
    drop(waiting);
}

#[tokio::test]
async fn a_panic_costs_its_own_stream_only() {
    let server = started(Limits::default(), |arrived: Arrived| async move {
        assert!(arrived.method != Method::PUT, "as a test wants it");
        echo(arrived).await
    })
    .await;
    let (mut sender, _) = client(&server).await;
    assert!(sender.send_request(request(Method::PUT, URI)).await.is_err());
    assert_eq!(text(sender.send_request(request(Method::GET, URI)).await.unwrap()).await, "iam.amazonaws.com 0");
}

#[tokio::test]
async fn who_takes_nothing_or_asks_nothing_is_let_go() {
    let limits = Limits {
        stall_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(400),
        ..Limits::default()
    };
    let server = started(limits, |_| async { Response::new(AnswerBody::whole(vec![b'x'; 8 << 20])) }).await;
    let (mut sender, connection) = client(&server).await;
    // Its answer does not fit into any window, and nobody reads it.
    let response = sender.send_request(request(Method::GET, URI)).await.unwrap();
    connection.await.unwrap();
    drop(response);
    let (_sender, connection) = client(&server).await;
    connection.await.unwrap();
}
