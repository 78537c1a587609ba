//! Requests that some parser, somewhere, reads in another way than the next one.

use super::*;

/// A POST with these header lines (each ending in CR LF) besides Host, and this body.
fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// Follows every case on the same connection: no parser may ever take it for a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[expect(clippy::too_many_lines, reason = "a table")]
fn heads() -> Vec<(&'static str, Vec<u8>)> {
    let raw = |text: &str| text.as_bytes().to_vec();
    vec![
        // request line
        ("leading CRLF", raw("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("leading LF", raw("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("leading space", raw(" GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("leading tab", raw("\tGET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("leading NUL", raw("\0GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("byte order mark", raw("\u{feff}GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("TLS hello on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("HTTP/0.9", raw("GET /\r\n\r\n")),
        ("HTTP/0.9 in words", raw("GET / HTTP/0.9\r\nHost: a\r\n\r\n")),
        ("HTTP/1.2", raw("GET / HTTP/1.2\r\nHost: a\r\n\r\n")),
        ("HTTP/1.10", raw("GET / HTTP/1.10\r\nHost: a\r\n\r\n")),
        ("HTTP/1.01", raw("GET / HTTP/1.01\r\nHost: a\r\n\r\n")),
        ("HTTP/2.0", raw("GET / HTTP/2.0\r\nHost: a\r\n\r\n")),
        ("HTTP/3", raw("GET / HTTP/3\r\nHost: a\r\n\r\n")),
        ("HTTP/2 preface", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
        ("lower-case http", raw("GET / http/1.1\r\nHost: a\r\n\r\n")),
        ("other protocol", raw("GET / RTSP/1.1\r\nHost: a\r\n\r\n")),
        ("no version number", raw("GET / HTTP/\r\nHost: a\r\n\r\n")),
        ("two spaces after method", raw("GET  / HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("two spaces before version", raw("GET /  HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("tab after method", raw("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("tab before version", raw("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n")),
        ("space after version", raw("GET / HTTP/1.1 \r\nHost: a\r\n\r\n")),
        ("four parts", raw("GET / x HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("second request line as target", raw("GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("no target", raw("GET HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("empty target", raw("GET  HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("lower-case method", raw("get / HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("method with a bracket", raw("GE[T / HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("very long method", raw(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(500)))),
        ("CONNECT", raw("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("TRACE", raw("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("asterisk target", raw("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("relative target", raw("GET x HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("authority target", raw("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("absolute target of another host", raw("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("absolute target of another port", raw("GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("absolute target with a user", raw("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("absolute target without path", raw("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("absolute target with a query only", raw("GET http://a?/ HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("other scheme", raw("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("fragment", raw("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("backslash", raw("GET /\\..\\x HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("NUL in target", raw("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("DEL in target", raw("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("UTF-8 in target", raw("GET /é HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("Latin-1 in target", b"GET /\xe9 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("CR in target", raw("GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n")),
        // line ends
        ("bare LF after request line", raw("GET / HTTP/1.1\nHost: a\r\n\r\n")),
        ("bare LF after field", raw("GET / HTTP/1.1\r\nHost: a\n\r\n")),
        ("bare LF as end", raw("GET / HTTP/1.1\r\nHost: a\r\n\n")),
        ("bare LF everywhere", raw("GET / HTTP/1.1\nHost: a\n\n")),
        ("LF CR", raw("GET / HTTP/1.1\n\rHost: a\n\r\n\r")),
        ("CR CR LF", raw("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n")),
        ("bare CR between fields", raw("GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n")),
        ("bare CR as end", raw("GET / HTTP/1.1\r\nHost: a\r\n\r\rX: y\r\n\r\n")),
        ("bare CR in value hides a length", post("X: y\rContent-Length: 5\r\n", "")),
        ("vertical tab in value", post("X: a\x0bb\r\n", "")),
        ("form feed in value", post("X: a\x0cb\r\n", "")),
        ("NUL in value", post("X: a\0b\r\n", "")),
        ("NUL in name", post("X\0: b\r\n", "")),
        ("backspace in value", post("X: a\x08b\r\n", "")),
        ("DEL in value", post("X: a\x7fb\r\n", "")),
        // fields
        ("folded value", post("X: a\r\n b\r\n", "")),
        ("folded by tab", post("X: a\r\n\tb\r\n", "")),
        ("folded first field", raw("GET / HTTP/1.1\r\n Host: a\r\n\r\n")),
        ("folded Transfer-Encoding", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n")),
        ("space before colon", post("Content-Length : 5\r\n", "")),
        ("tab before colon", post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n")),
        ("empty name", post(": x\r\n", "")),
        ("no colon", post("Content-Length\r\n", "")),
        ("name with a quote", post("X\"y: z\r\n", "")),
        ("name with a slash", post("X/y: z\r\n", "")),
        ("name with UTF-8", post("Xé: z\r\n", "")),
        ("name with a space inside", post("X y: z\r\n", "")),
        ("underscore Content_Length", post("Content_Length: 5\r\n", "")),
        ("underscore Transfer_Encoding", post("Transfer_Encoding: chunked\r\n", "")),
        ("underscore X_Amz_Target", post("X_Amz_Target: IAM.X\r\n", "")),
        ("101 fields", post(&"X: y\r\n".repeat(100), "")),
        ("head beyond 64 KiB", post(&format!("X: {}\r\n", "a".repeat(64 * 1024)), "")),
        ("endless line", raw(&format!("GET /{}", "a".repeat(64 * 1024)))),
        // host
        ("no Host", raw("GET / HTTP/1.1\r\nX: y\r\n\r\n")),
        ("no Host in HTTP/1.0", raw("GET / HTTP/1.0\r\n\r\n")),
        ("no field at all", raw("GET / HTTP/1.1\r\n\r\n")),
        ("two Hosts", post("Host: b\r\n", "")),
        ("two equal Hosts", post("HOST: a\r\n", "")),
        ("empty Host", raw("GET / HTTP/1.1\r\nHost:\r\n\r\n")),
        ("Host with a space", raw("GET / HTTP/1.1\r\nHost: a b\r\n\r\n")),
        ("Host list", raw("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n")),
        ("Host with a path", raw("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n")),
        ("Host with a user", raw("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n")),
        // length
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello")),
        ("two equal lengths", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")),
        ("list of lengths", post("Content-Length: 5, 5\r\n", "hello")),
        ("length with plus", post("Content-Length: +5\r\n", "hello")),
        ("negative length", post("Content-Length: -5\r\n", "hello")),
        ("hexadecimal length", post("Content-Length: 0x5\r\n", "hello")),
        ("length with a leading zero", post("Content-Length: 05\r\n", "hello")),
        ("length 00", post("Content-Length: 00\r\n", "")),
        ("length with underscore", post("Content-Length: 1_0\r\n", "0123456789")),
        ("length with a space inside", post("Content-Length: 1 0\r\n", "0123456789")),
        ("length with a point", post("Content-Length: 5.0\r\n", "hello")),
        ("length with exponent", post("Content-Length: 5e0\r\n", "hello")),
        ("empty length", post("Content-Length:\r\n", "")),
        ("length beyond 64 bits", post("Content-Length: 18446744073709551621\r\n", "hello")),
        ("length of full-width digits", post("Content-Length: ５\r\n", "hello")),
        ("length in quotes", post("Content-Length: \"5\"\r\n", "hello")),
        // transfer coding
        ("length and coding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("coding and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")),
        ("coding and length 0", post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n")),
        ("two codings", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("coding twice in a list", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")),
        ("identity", post("Transfer-Encoding: identity\r\n", "0\r\n\r\n")),
        ("gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")),
        ("chunked, identity", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n")),
        ("identity over two lines", post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("xchunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        ("chunked in quotes", post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")),
        ("chunked with parameter", post("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n")),
        ("chunked with a comma", post("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n")),
        ("chunked with vertical tab", post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n")),
        ("Chunked in capitals", post("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n")),
        ("empty coding", post("Transfer-Encoding:\r\n", "0\r\n\r\n")),
        ("chunked in HTTP/1.0", raw("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        // what is not served
        ("Upgrade", post("Connection: close\r\nUpgrade: websocket\r\n", "")),
        ("Upgrade to h2c", post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", "")),
        ("Connection names a field", post("Connection: close, X-Amz-Target\r\n", "")),
        ("Connection names Content-Length", post("Connection: Content-Length\r\nContent-Length: 5\r\n", "hello")),
        ("Connection TE", post("Connection: TE\r\n", "")),
        ("empty Connection option", post("Connection: close,\r\n", "")),
        ("second Connection field", post("Connection: close\r\nConnection: X\r\n", "")),
        ("other expectation", post("Expect: 200-ok\r\nContent-Length: 5\r\n", "hello")),
        ("expectation list", post("Expect: 100-continue, x\r\nContent-Length: 5\r\n", "hello")),
        ("two expectations", post("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", "hello")),
        ("Trailer", post("Trailer: X\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
    ]
}

fn chunks() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("chunk extension", chunked("5;x=y\r\nhello\r\n0\r\n\r\n")),
        ("bare semicolon", chunked("5;\r\nhello\r\n0\r\n\r\n")),
        ("extension on the last chunk", chunked("0;x\r\n\r\n")),
        ("extension with LF", chunked("5;x\nhello\r\n0\r\n\r\n")),
        ("size with plus", chunked("+5\r\nhello\r\n0\r\n\r\n")),
        ("negative size", chunked("-5\r\nhello\r\n0\r\n\r\n")),
        ("size with 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n")),
        ("size with underscore", chunked("0_5\r\nhello\r\n0\r\n\r\n")),
        ("space before size", chunked(" 5\r\nhello\r\n0\r\n\r\n")),
        ("space after size", chunked("5 \r\nhello\r\n0\r\n\r\n")),
        ("tab after size", chunked("5\t\r\nhello\r\n0\r\n\r\n")),
        ("empty size", chunked("\r\nhello\r\n0\r\n\r\n")),
        ("size is no number", chunked("x\r\nhello\r\n0\r\n\r\n")),
        ("size beyond 64 bits", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n")),
        ("size of 16 digits", chunked("ffffffffffffffff\r\nhello\r\n0\r\n\r\n")),
        ("size with many zeros", chunked("00000000000000005\r\nhello\r\n0\r\n\r\n")),
        ("size ends in LF", chunked("5\nhello\r\n0\r\n\r\n")),
        ("size ends in CR", chunked("5\rhello\r\n0\r\n\r\n")),
        ("size ends in CR CR LF", chunked("5\r\r\nhello\r\n0\r\n\r\n")),
        ("NUL in size", chunked("5\0\r\nhello\r\n0\r\n\r\n")),
        ("data longer than size", chunked("4\r\nhello\r\n0\r\n\r\n")),
        ("data shorter than size", chunked("6\r\nhello\r\n0\r\n\r\n")),
        ("data ends in LF", chunked("5\r\nhello\n0\r\n\r\n")),
        ("data ends in CR", chunked("5\r\nhello\r0\r\n\r\n")),
        ("data without end", chunked("5\r\nhello0\r\n\r\n")),
        ("last chunk ends in LF", chunked("0\n\n")),
        ("body ends in LF", chunked("0\r\n\n")),
        ("trailer field", chunked("0\r\nX-Amz-Target: IAM.X\r\n\r\n")),
        ("trailer that is a length", chunked("5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n")),
        ("no last chunk", chunked("5\r\nhello\r\n")),
    ]
}

#[tokio::test]
async fn hostile_heads_are_answered_400_and_never_reach_the_plane() {
    let cases = heads();
    assert!(cases.len() >= 80, "{}", cases.len());
    for (name, mut bytes) in cases {
        let (server, seen) = Server::counting(Limits::default()).await;
        bytes.extend_from_slice(SMUGGLED.as_bytes());
        let said = server.say(bytes).await;
        assert!(said.starts_with("HTTP/1.1 400 ") || said.starts_with("HTTP/1.1 431 "), "{name}: {said:?}");
        assert!(said.contains("Connection: close\r\n"), "{name}: {said:?}");
        assert_eq!(answers(&said), 1, "{name}: {said:?}");
        assert_eq!(seen.requests(), [""; 0], "{name}");
        stopped(server).await;
    }
}

#[tokio::test]
async fn hostile_chunks_are_answered_400_and_hide_no_request() {
    for (name, bytes) in chunks() {
        for split in [false, true] {
            let (server, seen) = Server::counting(short()).await;
            let mut client = server.connect().await;
            let head_len = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            if split {
                client.write(&bytes[..head_len]).await;
                while seen.requests().is_empty() {
                    tokio::task::yield_now().await;
                }
                client.write(&bytes[head_len..]).await;
            } else {
                client.write(&bytes).await;
            }
            client.write(SMUGGLED).await;
            let said = client.rest().await;
            drop(client);
            assert!(said.starts_with("HTTP/1.1 400 ") || said.starts_with("HTTP/1.1 408 "), "{name}: {said:?}");
            assert_eq!(answers(&said), 1, "{name}: {said:?}");
            assert!(seen.requests().len() <= usize::from(split), "{name}: {:?}", seen.requests());
            assert!(seen.bodies.lock().unwrap().is_empty(), "{name}: a broken body was taken for whole");
            stopped(server).await;
        }
    }
}

fn answers(said: &str) -> usize {
    said.lines().filter(|line| line.starts_with("HTTP/1.1 ")).count()
}

/// Stops the server and sees that the refusal was counted.
async fn stopped(server: Server) {
    assert!(server.refused.lock().unwrap().len() == 1 || server.serving.is_finished());
    server.stop.send(true).unwrap();
    server.serving.await.unwrap();
}

/// Two requests that are one after the other for everybody: as many answers as requests, in order.
#[tokio::test]
async fn requests_sent_ahead_are_answered_once_each_in_order() {
    let second = "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for (name, first, body) in [
        ("no body", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), ""),
        ("length", "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "hello"),
        ("length 0", "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(), ""),
        (
            "blanks around the length",
            "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: \t5 \t\r\n\r\nhello".to_owned(),
            "hello",
        ),
        (
            "chunks",
            "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n003\r\nllo\r\n0\r\n\r\n"
                .to_owned(),
            "hello",
        ),
        (
            "padded chunks",
            "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00000005\r\nhello\r\n00\r\n\r\n"
                .to_owned(),
            "hello",
        ),
        (
            "a request as body",
            format!("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{GET}", GET.len()),
            GET,
        ),
        (
            "a request as chunk",
            format!(
                "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{GET}\r\n0\r\n\r\n",
                GET.len()
            ),
            GET,
        ),
        ("GET with a body", "GET /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), "hello"),
        ("absolute target", "GET http://A/1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), ""),
        ("HTTP/1.0", "GET /1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".to_owned(), ""),
        ("a hundred fields", format!("GET /1 HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(99)), ""),
    ] {
        for at in [first.len(), 1, first.len() - 1] {
            let (server, seen) = Server::counting(Limits::default()).await;
            let mut client = server.connect().await;
            let both = format!("{first}{second}");
            let (left, right) = both.as_bytes().split_at(at);
            client.write(left).await;
            client.write(right).await;
            let said = client.rest().await;
            assert_eq!(answers(&said.replace("HTTP/1.", "\nHTTP/1.").replace("/1.0", "/1.1")), 2, "{name}: {said:?}");
            assert!(said.find("answer 1") < said.find("answer 2"), "{name}: {said:?}");
            assert_eq!(seen.requests().len(), 2, "{name}");
            assert_eq!(seen.bodies.lock().unwrap().concat(), body.as_bytes(), "{name}");
        }
    }
}

#[tokio::test]
async fn a_good_request_before_a_hostile_one_gets_its_answer() {
    let (server, seen) = Server::counting(Limits::default()).await;
    let said = server.say(format!("{GET}GET / HTTP/1.1\r\nHost : a\r\n\r\n{SMUGGLED}")).await;
    assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
    assert!(said.contains("answer 1HTTP/1.1 400 Bad Request\r\n"), "{said}");
    assert_eq!(seen.requests(), ["GET /"]);
}

#[tokio::test]
async fn nothing_after_a_closing_request_is_looked_at() {
    let (server, seen) = Server::counting(Limits::default()).await;
    let said = server.say(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{SMUGGLED}")).await;
    assert!(said.ends_with("answer 1"), "{said}");
    assert_eq!(seen.requests(), ["GET /"]);
}

#[tokio::test]
async fn too_much_sent_ahead_closes_the_connection() {
    let started = Arc::new(Notify::new());
    let signal = Arc::clone(&started);
    let server = Server::start(Limits::default(), false, move |_| {
        signal.notify_one();
        pending()
    })
    .await;
    let mut client = server.connect().await;
    client.write(GET).await;
    started.notified().await;
    let flood = vec![b'A'; 200 * 1024];
    drop(client.stream.write_all(&flood).await);
    let said = client.rest().await;
    assert!(said.starts_with("HTTP/1.1 400 "), "{said:?}");
}
