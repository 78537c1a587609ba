use std::future::pending;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::BodyExt;
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_rustls::TlsConnector;

use super::*;
use crate::net::line::Interim;
use crate::net::{ca, tls};
use crate::time::Timestamp;

mod hold;
mod hostile;
mod http2;
mod life;

/// What the scripted plane did.
#[derive(Default)]
struct Seen {
    /// Method and target of every request that reached the plane.
    requests: Mutex<Vec<String>>,
    /// Bodies that it read whole.
    bodies: Mutex<Vec<Vec<u8>>>,
}

impl Seen {
    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Peer, status and reason.
type Refused = (IpAddr, &'static str, &'static str);

struct Server {
    address: std::net::SocketAddr,
    metrics: Arc<Metrics>,
    /// What was refused before it was a request.
    refused: Arc<Mutex<Vec<Refused>>>,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    trust: Option<(tempfile::TempDir, PathBuf)>,
}

impl Server {
    async fn start<A, F>(limits: Limits, with_tls: bool, answer: A) -> Self
    where
        A: Fn(Arrived) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<AnswerBody>> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0", limits, with_tls, answer).await
    }

    async fn start_at<A, F>(address: &str, limits: Limits, with_tls: bool, answer: A) -> Self
    where
        A: Fn(Arrived) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<AnswerBody>> + Send + 'static,
    {
        Self::start_speaking(false, address, limits, with_tls, answer).await
    }

    async fn start_speaking<A, F>(http2: bool, address: &str, limits: Limits, with_tls: bool, answer: A) -> Self
    where
        A: Fn(Arrived) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<AnswerBody>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let metrics = Arc::new(Metrics::default());
        let (stop, stopped) = watch::channel(false);
        let mut trust = None;
        let mut config = None;
        if with_tls {
            let dir = tempfile::tempdir().unwrap();
            let now = Timestamp::parse_rfc3339("2026-11-20T12:00:00Z").unwrap();
            let files = ca::create(dir.path(), &["localhost".to_owned()], now).unwrap();
            config = Some(tls::server_config(&files.certificate, &files.key).unwrap());
            trust = Some((dir, files.ca));
        }
        let refused = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&refused);
        let on_refusal: OnRefusal =
            Arc::new(move |peer, status, reason| seen.lock().unwrap().push((peer, status, reason)));
        let door = Door::Endpoint { tls: config, http2 };
        let serving =
            tokio::spawn(serve(listener.into(), door, limits, Arc::clone(&metrics), on_refusal, stopped, answer));
        Self { address, metrics, refused, stop, serving, trust }
    }

    /// A server whose plane reads each body and answers with its number, from 1.
    async fn counting(limits: Limits) -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen::default());
        let plane = Arc::clone(&seen);
        let answer = move |arrived: Arrived| {
            let seen = Arc::clone(&plane);
            async move {
                let number = {
                    let mut requests = seen.requests.lock().unwrap();
                    requests.push(format!("{} {}", arrived.method, arrived.uri));
                    requests.len()
                };
                // As a careless plane would, it answers also when the body was cut.
                if let Ok(body) = arrived.body.collect().await {
                    seen.bodies.lock().unwrap().push(body.to_bytes().to_vec());
                }
                Response::new(AnswerBody::whole(format!("answer {number}")))
            }
        };
        (Self::start(limits, false, answer).await, seen)
    }

    async fn connect(&self) -> Client {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let stream = match &self.trust {
            None => Stream::Plain(tcp),
            Some((_, ca)) => {
                let connector = TlsConnector::from(tls::client_config(Some(ca)).unwrap());
                let name = ServerName::try_from("localhost").unwrap();
                Stream::Tls(Box::new(connector.connect(name, tcp).await.unwrap().into()))
            }
        };
        Client { stream }
    }

    /// Everything the server says to these bytes until it closes.
    async fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.write(bytes).await;
        client.rest().await
    }
}

/// A client that knows no HTTP.
struct Client {
    stream: Stream<TcpStream>,
}

impl Client {
    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads exactly this, byte for byte.
    async fn expect(&mut self, text: &str) {
        let mut bytes = vec![0; text.len()];
        self.stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), text);
    }

    /// Reads one answer with a Content-Length; gives head and body.
    async fn answer(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let len = head.split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// Reads to the end; a reset counts as one.
    async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        drop(self.stream.read_to_end(&mut bytes).await);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn abort(self) {
        let tcp = match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        };
        socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

fn short() -> Limits {
    Limits {
        head_timeout: Duration::from_millis(150),
        idle_timeout: Duration::from_millis(150),
        stall_timeout: Duration::from_millis(150),
        ..Limits::default()
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
