//! The upstream of the benches: the cheapest thing that answers HTTP/1.1, so that what is measured
//! is the proxy. A path under `/hang` is never answered.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\n\
x-amzn-requestid: 00000000-0000-4000-8000-000000000000\r\ncontent-length: 64\r\n\r\n\
{\"stub\":\"01234567890123456789012345678901234567890123456789012\"}";

const IDENTITY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\ncontent-length: 321\r\n\r\n\
<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
<Arn>arn:aws:iam::123456789012:user/bench</Arn><UserId>AIDABENCH</UserId><Account>123456789012</Account>\
</GetCallerIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>";

pub(crate) async fn run() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    super::announce(listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // A client that goes away ends its connection, not the stub.
        tokio::spawn(async move { drop(serve(stream).await) });
    }
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
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
        let end = head + super::load::content_length(&buffer[..head]);
        while buffer.len() < end {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let is_hanging = memchr::memmem::find(&buffer[..head], b" /hang").is_some();
        // countersign asks once whose its credential is.
        let is_identity = memchr::memmem::find(&buffer[head..end], b"Action=GetCallerIdentity").is_some();
        buffer.clear();
        if is_hanging {
            std::future::pending::<()>().await;
        }
        stream.write_all(if is_identity { IDENTITY } else { ANSWER }).await?;
    }
}
