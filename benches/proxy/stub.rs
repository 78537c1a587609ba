//! The upstream of the benches: the cheapest thing that answers HTTP/1.1, so that what is measured
//! is the proxy. `/hang…` and CreateAccessKey are never answered; `/zeroes/N` is answered with that
//! many zero bytes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::load::{ZEROES, content_length, write_zeroes};
use super::tls;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\n\
x-amzn-requestid: 00000000-0000-4000-8000-000000000000\r\ncontent-length: 64\r\n\r\n\
{\"stub\":\"01234567890123456789012345678901234567890123456789012\"}";

const IDENTITY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: 321\r\n\r\n\
<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
<Arn>arn:aws:iam::123456789012:user/bench</Arn><UserId>AIDABENCH</UserId><Account>123456789012</Account>\
</GetCallerIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>";

/// Bodies up to here are read whole before the answer is chosen; larger ones are thrown away as they come.
const SMALL: usize = 4 << 10;

/// With a certificate's folder it speaks TLS only.
pub(crate) async fn run(certificate: Option<&Path>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    super::announce(listener.local_addr().unwrap());
    accept(listener, certificate).await;
}

/// The same as a task of this process.
pub(crate) async fn start(certificate: Option<PathBuf>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { accept(listener, certificate.as_deref()).await });
    address
}

async fn accept(listener: TcpListener, certificate: Option<&Path>) {
    let tls = certificate.map(|folder| TlsAcceptor::from(tls::server(folder)));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let tls = tls.clone();
        // A client that goes away ends its connection, not the stub.
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            match tls {
                Some(tls) => serve(tls.accept(stream).await?).await,
                None => serve(stream).await,
            }
        });
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut buffer = Vec::with_capacity(8 << 10);
    loop {
        let head = loop {
            if let Some(at) = memchr::memmem::find(&buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let length = content_length(&buffer[..head]);
        while length <= SMALL && buffer.len() < head + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let answer = Answer::to(&buffer[..head], &buffer[head..]);
        let missing = (head + length).saturating_sub(buffer.len());
        buffer.clear();
        if !discard(&mut stream, missing).await? {
            return Ok(());
        }
        match answer {
            Answer::Never => std::future::pending().await,
            Answer::Bytes(bytes) => stream.write_all(bytes).await?,
            Answer::Zeroes(count) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {count}\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                write_zeroes(&mut stream, count).await?;
            }
        }
        stream.flush().await?;
    }
}

enum Answer {
    Bytes(&'static [u8]),
    Zeroes(usize),
    Never,
}

impl Answer {
    fn to(head: &[u8], body: &[u8]) -> Self {
        let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        let says = |word: &str| memchr::memmem::find(body, word.as_bytes()).is_some();
        if let Some(count) = target.strip_prefix(b"/zeroes/") {
            return Self::Zeroes(std::str::from_utf8(count).unwrap().parse().unwrap());
        }
        if target.starts_with(b"/hang") || says("Action=CreateAccessKey") {
            return Self::Never;
        }
        // countersign asks once whose its credential is.
        Self::Bytes(if says("Action=GetCallerIdentity") { IDENTITY } else { ANSWER })
    }
}

/// Reads that many bytes; false when they end before.
async fn discard(stream: &mut (impl AsyncRead + Unpin), mut count: usize) -> std::io::Result<bool> {
    if count == 0 {
        return Ok(true);
    }
    let mut piece = vec![0; ZEROES.len()];
    while count > 0 {
        let most = piece.len().min(count);
        let read = stream.read(&mut piece[..most]).await?;
        if read == 0 {
            return Ok(false);
        }
        count -= read;
    }
    Ok(true)
}
