//! Servers that are not what they should be.

use bytes::BufMut;

use super::*;
use crate::wire::postgres::backend::{self, Transaction};
use crate::wire::postgres::startup::Packet;

/// A server without TLS that answers the startup packet with this, and then each message with the next.
async fn scripted(answers: Vec<BytesMut>) -> Host {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = BytesMut::new();
        stream.read_buf(&mut received).await.unwrap();
        assert!(matches!(Packet::read(&received), Ok(Packet::Startup(_))));
        for answer in answers {
            stream.write_all(&answer).await.unwrap();
            if stream.read_buf(&mut received).await.unwrap_or(0) == 0 {
                return;
            }
        }
    });
    Host { name: "127.0.0.1".to_owned(), port }
}

async fn meet(answers: Vec<BytesMut>) -> ConnectError {
    connect(Options { hosts: vec![scripted(answers).await], ..without_tls(APP) }).await.unwrap_err()
}

fn built(build: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    build(&mut out);
    out
}

/// What a server says to one whom it has let in.
fn welcome(out: &mut BytesMut) {
    backend::authentication_ok(out);
    backend::backend_key_data(out, 1, &[1; 4]);
    backend::ready_for_query(out, Transaction::None);
}

#[tokio::test]
async fn a_server_that_trusts_is_believed() {
    let server = scripted(vec![built(welcome)]).await;
    let connected = connect(Options { hosts: vec![server], ..without_tls(APP) }).await.unwrap();
    assert!(connected.parameters.is_empty() && connected.unread.is_empty());
}

#[tokio::test]
async fn a_server_that_does_not_know_the_password_is_found() {
    let offer = || built(|out| backend::authentication_sasl(out, &[crate::wire::postgres::scram::PLAIN]));
    // It lets us in without the exchange's end.
    let met = meet(vec![offer(), built(welcome)]).await;
    assert!(matches!(&met, ConnectError::Protocol { .. }), "{met}");
    // It makes a challenge up, whose nonce is not ours.
    let challenge = built(|out| backend::authentication_sasl_continue(out, b"r=abc,s=AAAA,i=4096"));
    let met = meet(vec![offer(), challenge]).await;
    assert!(matches!(&met, ConnectError::Protocol { .. }), "{met}");
}

#[tokio::test]
async fn a_server_that_wants_the_password_in_the_clear_does_not_get_it() {
    let want = built(|out| out.put_slice(b"R\0\0\0\x08\0\0\0\x03"));
    let met = meet(vec![want, BytesMut::new()]).await;
    assert!(matches!(&met, ConnectError::Unwilling { .. }), "{met}");
    // Or as Kerberos.
    let met = meet(vec![built(|out| out.put_slice(b"R\0\0\0\x08\0\0\0\x07"))]).await;
    assert!(matches!(&met, ConnectError::Unwilling { .. }), "{met}");
}

#[tokio::test]
async fn what_is_no_login_is_refused() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"Y\0\0\0\x04",
        b"Z\0\0\0\x05I",
        b"D\0\0\0\x06\0\0",
        b"R\0\0\0\x08\0\0\0\0D\0\0\0\x06\0\0",
        b"E\0\0\0\x04",
        b"E\0\xff\xff\xff",
    ] {
        let met = meet(vec![BytesMut::from(answer)]).await;
        assert!(matches!(&met, ConnectError::Protocol { .. }), "{answer:?}: {met}");
    }
    let met = meet(Vec::new()).await;
    assert!(matches!(&met, ConnectError::Io { .. }), "{met}");
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_where_tls_is_needed() {
    for (answer, mode, expected) in
        [(b'N', TlsMode::Require, "does not speak TLS"), (b'E', TlsMode::VerifyFull, "does not speak TLS")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 8];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(&[answer]).await.unwrap();
            assert_eq!(stream.read(&mut request).await.unwrap_or(0), 0, "it said more");
        });
        let hosts = vec![Host { name: "127.0.0.1".to_owned(), port }];
        let met = connect(Options { hosts, tls: mode, ..options(APP) }).await.unwrap_err();
        assert!(met.to_string().contains(expected), "{met}");
    }
}
