//! Attacks on the doors: smuggling through CONNECT, names that disagree, names without end, slowness, loops.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::site;
use crate::support::agent::Agent;
use crate::support::peak_bytes;
use crate::support::peer::{Answer, Peer};
use crate::support::sign::Draft;
use crate::support::site::Site;
use crate::support::{PATIENCE, wait_for};

/// A request as the agent signs it for that host.
fn identity(agent: &Agent, host: &str) -> Vec<u8> {
    let mut draft = Draft::new("sts", host, "POST", "/");
    draft = draft.header("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    draft.body = b"Action=GetCallerIdentity&Version=2011-06-15".to_vec();
    draft.signed(&agent.keys)
}

const STS: &str = "sts.us-east-1.amazonaws.com";

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// What a CONNECT is answered: its status line.
fn connect(stream: &mut TcpStream, head: &[u8]) -> String {
    stream.write_all(head).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|len| len > 0) {
        head.extend(byte);
    }
    String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned()
}

fn connect_to(target: &str) -> Vec<u8> {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes()
}

/// TLS over a connection, as that name; `None` sends no name.
fn tls<S: Read + Write>(site: &Site, stream: S, name: Option<&str>) -> StreamOwned<ClientConnection, S> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(site.data().join("interception/ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_sni = name.is_some();
    let name = ServerName::try_from(name.unwrap_or(STS).to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

/// What comes back for a request over TLS; an error where the handshake fails.
fn ask(mut stream: StreamOwned<ClientConnection, TcpStream>, request: &[u8]) -> std::io::Result<String> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => text.extend_from_slice(&buffer[..len]),
            Err(error) if text.is_empty() => return Err(error),
            Err(_) => break,
        }
        let so_far = String::from_utf8_lossy(&text);
        if so_far.contains("</GetCallerIdentityResponse>") || so_far.contains("</ErrorResponse>") {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_connect_has_one_reading_or_is_refused() {
    let site = site();
    let proxy = site.listener("proxy");
    let status = |head: &[u8]| connect(&mut open(proxy), head);
    assert!(status(&connect_to(&format!("{STS}:443"))).contains(" 200 "));
    for spelled in ["STS.us-east-1.AmazonAWS.com:443", "sts.us-east-1.amazonaws.com.:443"] {
        assert!(status(&connect_to(spelled)).contains(" 200 "), "{spelled}");
    }
    // Python's standard library sends 1.0 and no Host.
    assert!(status(format!("CONNECT {STS}:443 HTTP/1.0\r\n\r\n").as_bytes()).contains(" 200 "));
    let malformed = [
        "user@sts.amazonaws.com:443",
        "user:pass@sts.amazonaws.com:443",
        "sts.amazonaws.com",
        "sts.amazonaws.com:",
        "sts.amazonaws.com:0443",
        "sts.amazonaws.com:99999",
        "sts.amazonaws.com:443:443",
        "sts.amazonaws.com:443/",
        "sts.amazonaws.com:443#x",
        "sts%2eamazonaws.com:443",
        "sts.amazonaws.com%00.example.com:443",
        "sts..amazonaws.com:443",
        "https://sts.amazonaws.com:443",
        "/",
        "*",
        "::1:443",
        "[::1:443",
        "0x7f000001:443",
        "2130706433:443",
        "127.1:443",
    ];
    for target in malformed {
        assert!(status(&connect_to(target)).contains(" 400 "), "{target}");
    }
    for target in ["sts.amazonaws.com:80", "sts.amazonaws.com:8443", "sts.amazonaws.com:22", "example.com:443"] {
        assert!(status(&connect_to(target)).contains(" 403 "), "{target}");
    }
    for target in ["127.0.0.1:443", "[::1]:443", "169.254.169.254:80", "[fd00:ec2::254]:80", "localhost:443"] {
        assert!(status(&connect_to(target)).contains(" 403 "), "{target}");
    }
    let target = format!("{STS}:443");
    let odd: [(&str, String); 11] = [
        ("NUL in the target", format!("CONNECT {STS}\0:443 HTTP/1.1\r\nHost: {target}\r\n\r\n")),
        ("two spaces", format!("CONNECT  {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")),
        ("Host of another", format!("CONNECT {target} HTTP/1.1\r\nHost: iam.amazonaws.com:443\r\n\r\n")),
        ("Host with another port", format!("CONNECT {target} HTTP/1.1\r\nHost: {STS}:80\r\n\r\n")),
        ("no Host in 1.1", format!("CONNECT {target} HTTP/1.1\r\n\r\n")),
        ("two Hosts", format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nHost: {target}\r\n\r\n")),
        ("bare LF", format!("CONNECT {target} HTTP/1.1\nHost: {target}\n\n")),
        ("a body", format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nContent-Length: 5\r\n\r\nhello")),
        (
            "a chunked body",
            format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ),
        ("a folded line", format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n folded\r\n\r\n")),
        (
            "two credentials",
            format!(
                "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic YTpi\r\nProxy-Authorization: Basic YTpi\r\n\r\n"
            ),
        ),
    ];
    for (what, head) in odd {
        assert!(status(head.as_bytes()).contains(" 400 "), "{what}");
    }
    let wrong = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic YTpi\r\n\r\n");
    assert!(status(wrong.as_bytes()).contains(" 407 "));
    let big = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nX-A: {}\r\n\r\n", "a".repeat(70_000));
    let mut stream = open(proxy);
    drop(stream.write_all(big.as_bytes()));
    assert!(connect(&mut stream, b"").contains(" 431 "));
    assert_eq!(site.metric("countersign_forwarded_total"), 0);
}

#[test]
fn nothing_follows_a_connect_before_its_answer() {
    let site = site();
    let bot = site.agent("bot", "olga");
    let proxy = site.listener("proxy");
    let target = format!("{STS}:443");
    let mut ahead = connect_to(&target);
    ahead.extend(identity(&bot, STS));
    assert!(connect(&mut open(proxy), &ahead).contains(" 400 "));
    assert_eq!(site.metric("countersign_requests_total"), 0);
}

#[test]
fn inside_of_a_tunnel_there_is_tls_and_in_that_no_proxy() {
    let site = site();
    let bot = site.agent("bot", "olga");
    let proxy = site.listener("proxy");
    let target = format!("{STS}:443");
    let established = || {
        let mut stream = open(proxy);
        assert!(connect(&mut stream, &connect_to(&target)).contains(" 200 "));
        stream
    };
    // A request without TLS, where TLS was promised to its client.
    let mut plain = established();
    plain.write_all(&identity(&bot, STS)).unwrap();
    let mut said = Vec::new();
    drop(plain.read_to_end(&mut said));
    assert!(!String::from_utf8_lossy(&said).contains("HTTP/1.1"), "{said:?}");
    // A CONNECT within.
    let nested = ask(tls(&site, established(), Some(STS)), &connect_to("iam.amazonaws.com:443")).unwrap();
    assert!(nested.starts_with("HTTP/1.1 400") && nested.contains("CONNECT"), "{nested}");
    // TLS within TLS: its first byte is no request.
    let mut outer = tls(&site, established(), Some(STS));
    let mut hello = Vec::new();
    let mut inner = tls(&site, std::io::Cursor::new(Vec::new()), Some(STS));
    inner.conn.write_tls(&mut hello).unwrap();
    drop(inner.sock.read(&mut [0]));
    let text = {
        outer.write_all(&hello).unwrap();
        let mut text = Vec::new();
        drop(outer.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    };
    assert!(text.starts_with("HTTP/1.1 400"), "{text}");
    // And the same connection as it is meant.
    let answer = ask(tls(&site, established(), Some(STS)), &identity(&bot, STS)).unwrap();
    assert!(answer.contains("<Account>123456789012</Account>"), "{answer}");
}

#[test]
fn connect_sni_and_host_name_one_host() {
    let site = site();
    let bot = site.agent("bot", "olga");
    let (proxy, transparent) = (site.listener("proxy"), site.listener("transparent"));
    let through = |target: &str, name: Option<&str>, host: &str| {
        let mut stream = open(proxy);
        assert!(connect(&mut stream, &connect_to(target)).contains(" 200 "));
        ask(tls(&site, stream, name), &identity(&bot, host))
    };
    let target = format!("{STS}:443");
    assert!(through(&target, Some(STS), STS).unwrap().contains("123456789012"));
    assert!(through(&target, Some(STS), "sts.us-east-1.amazonaws.com:443").unwrap().contains("123456789012"));
    let misled = |answer: String| answer.starts_with("HTTP/1.1 400") && answer.contains("names another host");
    for host in ["iam.amazonaws.com", "sts.amazonaws.com", "localhost", "127.0.0.1", "sts.us-east-1.amazonaws.com:8443"]
    {
        assert!(misled(through(&target, Some(STS), host).unwrap()), "{host}");
    }
    assert!(through(&target, Some("iam.amazonaws.com"), "iam.amazonaws.com").is_err());
    assert!(through(&target, None, STS).is_err(), "without SNI");

    let led = |name: Option<&str>, host: &str| ask(tls(&site, open(transparent), name), &identity(&bot, host));
    assert!(led(Some(STS), STS).unwrap().contains("123456789012"));
    assert!(misled(led(Some(STS), "iam.amazonaws.com").unwrap()));
    assert!(led(None, STS).is_err());
    assert!(led(Some("example.com"), "example.com").is_err());
    for reason in ["another host than the CONNECT", "names no host", "is not intercepted"] {
        wait_for(reason, || {
            site.records().into_iter().find(|it| it["message"].as_str().is_some_and(|it| it.contains(reason)))
        });
    }
}

#[test]
fn whoever_opens_a_connection_signs_what_is_sent_on_it() {
    let site = site();
    let (bot, other) = (site.agent("bot", "olga"), site.agent("other", "olga"));
    let with = |opener: &Agent, signer: &Agent| {
        let mut stream = open(site.listener("proxy"));
        let head = connect_with(opener, &format!("{STS}:443"));
        assert!(connect(&mut stream, &head).contains(" 200 "));
        ask(tls(&site, stream, Some(STS)), &identity(signer, STS)).unwrap()
    };
    assert!(with(&bot, &bot).contains("123456789012"));
    let stolen = with(&bot, &other);
    assert!(stolen.starts_with("HTTP/1.1 400") && stolen.contains("another agent"), "{stolen}");
}

/// A CONNECT with the agent's credential.
pub(super) fn connect_with(agent: &Agent, target: &str) -> Vec<u8> {
    use base64::prelude::*;
    let basic = BASE64_STANDARD.encode(format!("{}:{}", agent.keys.id, agent.keys.secret));
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic {basic}\r\n\r\n").into_bytes()
}

#[test]
fn thousands_of_names_take_no_memory() {
    let site = site();
    let transparent = site.listener("transparent");
    let bot = site.agent("bot", "olga");
    let warm = |from: u32, to: u32| {
        for number in from..to {
            let name = format!("bucket-{number}.s3.us-east-1.amazonaws.com");
            let mut stream = tls(&site, open(transparent), Some(&name));
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
    };
    warm(0, 500);
    let before = peak_bytes(site.server_id());
    warm(500, 3_000);
    assert!(
        peak_bytes(site.server_id()) < before + (48 << 20),
        "{} KiB more",
        (peak_bytes(site.server_id()) - before) >> 10
    );
    assert!(ask(tls(&site, open(transparent), Some(STS)), &identity(&bot, STS)).unwrap().contains("123456789012"));
}

#[test]
fn a_connect_that_drips_is_cut_off_and_costs_nobody_else() {
    let site = site();
    let bot = site.agent("bot", "olga");
    let proxy = site.listener("proxy");
    let mut dripping: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = open(proxy);
            stream.write_all(b"CONNECT sts.us-east").unwrap();
            stream
        })
        .collect();
    let mut stream = open(proxy);
    assert!(connect(&mut stream, &connect_to(&format!("{STS}:443"))).contains(" 200 "));
    assert!(ask(tls(&site, stream, Some(STS)), &identity(&bot, STS)).unwrap().contains("123456789012"));
    // A drop now and then does not prolong the time of a head.
    let started = Instant::now();
    let mut first = dripping.remove(0);
    while first.write_all(b"a").is_ok() && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(started.elapsed() < PATIENCE, "still open after {PATIENCE:?}");
}

#[test]
fn the_proxy_takes_no_request_for_itself_and_no_http2() {
    let site = site();
    let bot = site.agent("bot", "olga");
    let proxy = site.listener("proxy");
    let answer = |bytes: &[u8]| -> Answer { Peer::connect(proxy).ask(bytes) };
    let for_itself = answer(&identity(&bot, &proxy.to_string()));
    assert_eq!(for_itself.status, 400, "{}", for_itself.text());
    let preface = answer(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(preface.status, 400);
    for head in [
        format!("GET http://user@{STS}/ HTTP/1.1\r\nHost: user@{STS}\r\n\r\n"),
        format!("GET http://{STS}/ HTTP/1.1\r\nHost: iam.amazonaws.com\r\n\r\n"),
        format!("GET https://{STS}/ HTTP/1.1\r\nHost: {STS}\r\n\r\n"),
        format!("GET ftp://{STS}/ HTTP/1.1\r\nHost: {STS}\r\n\r\n"),
    ] {
        assert_eq!(answer(head.as_bytes()).status, 400, "{head}");
    }
    for head in [
        "GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n".to_owned(),
        format!("GET http://{STS}:8080/ HTTP/1.1\r\nHost: {STS}:8080\r\n\r\n"),
        format!("GET http://{proxy}/ HTTP/1.1\r\nHost: {proxy}\r\n\r\n"),
    ] {
        assert_eq!(answer(head.as_bytes()).status, 403, "{head}");
    }
    assert_eq!(site.metric("countersign_forwarded_total"), 0);
}
