//! The bare reverse proxy everything is compared with: hyper on both sides, a pool of upstream
//! connections, streaming bodies, and nothing else; with TLS, rustls on both sides too.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::tls;

/// With a certificate's folder it speaks TLS to both sides.
pub(crate) async fn run(upstream: SocketAddr, certificate: Option<&Path>) {
    let acceptor = certificate.map(|folder| TlsAcceptor::from(tls::server(folder)));
    let connector = certificate.map(|folder| TlsConnector::from(tls::client(folder)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    super::announce(listener.local_addr().unwrap());
    let pool = Arc::new(Pool { upstream, connector, idle: Mutex::default() });
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let pool = Arc::clone(&pool);
        match acceptor.clone() {
            None => drop(tokio::spawn(serve(stream, pool))),
            Some(acceptor) => drop(tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, pool).await;
                }
            })),
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, pool: Arc<Pool>) {
    let service = service_fn(move |request| forward(Arc::clone(&pool), request));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    drop(connection.await);
}

async fn forward(pool: Arc<Pool>, mut request: Request<Incoming>) -> Result<Response<Incoming>, hyper::Error> {
    request.headers_mut().remove(header::CONNECTION);
    let mut sender = pool.take().await?;
    let response = sender.send_request(request).await;
    pool.idle.lock().unwrap().push_back(sender);
    response
}

/// Upstream connections. One is ready again when its answer has been read whole.
struct Pool {
    upstream: SocketAddr,
    connector: Option<TlsConnector>,
    idle: Mutex<VecDeque<SendRequest<Incoming>>>,
}

impl Pool {
    async fn take(&self) -> Result<SendRequest<Incoming>, hyper::Error> {
        if let Some(sender) = self.ready() {
            return Ok(sender);
        }
        let stream = loop {
            match TcpStream::connect(self.upstream).await {
                Ok(stream) => break stream,
                // Ten thousand waiting requests take two descriptors each here: some machines give fewer.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        };
        stream.set_nodelay(true).unwrap();
        match &self.connector {
            None => handshake(stream).await,
            Some(connector) => handshake(connector.connect(tls::name(), stream).await.unwrap()).await,
        }
    }

    fn ready(&self) -> Option<SendRequest<Incoming>> {
        let mut idle = self.idle.lock().unwrap();
        for _ in 0..idle.len().min(8) {
            let sender = idle.pop_front()?;
            if sender.is_ready() {
                return Some(sender);
            }
            if !sender.is_closed() {
                idle.push_back(sender);
            }
        }
        None
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Incoming>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}
