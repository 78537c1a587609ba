//! Tunnels to hosts that the operator lists.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use super::attack::connect_with;
use crate::support::site::{HOLD_KEYS, Setup, Site};
use crate::support::{PATIENCE, wait_for};

/// An address of this machine that is not a loopback one; nothing is sent to find it.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

/// A host that answers what it got in capital letters.
fn host() -> SocketAddr {
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 1024];
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    buffer[..len].make_ascii_uppercase();
                    stream.write_all(&buffer[..len]).unwrap();
                }
            });
        }
    });
    address
}

fn site(proxy: &str, rules: &str) -> Site {
    let config = format!("proxy:\n{proxy}");
    Setup::new("http://127.0.0.1:9").rules(rules).with_doors().config(&config).start()
}

/// The status line of the answer, and the connection.
fn connect(site: &Site, head: &[u8]) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(site.listener("proxy")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head).unwrap();
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|len| len > 0) {
        said.extend(byte);
    }
    (String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned(), stream)
}

#[test]
fn an_agent_has_a_tunnel_to_a_listed_host_and_it_is_recorded() {
    let host = host();
    let site = site(&format!("  tunnel: ['{host}']\n  private_addresses: true\n"), HOLD_KEYS);
    let bot = site.agent("bot", "olga");
    let (status, mut stream) = connect(&site, &connect_with(&bot, &host.to_string()));
    assert!(status.contains(" 200 "), "{status}: {}", site.log());
    stream.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HELLO");
    drop(stream);
    let record = wait_for("its record", || {
        site.records().into_iter().find(|it| it["type"] == "action.passed" && it["action"] == "tunnel:connect")
    });
    assert_eq!(
        (&record["agent"], &record["resources"][0]),
        (&"bot".into(), &format!("tunnel:{host}").into()),
        "{record}"
    );
    assert_eq!((&record["outcome"], &record["answer_bytes"]), (&"answered".into(), &10.into()), "{record}");
    site.verify();
}

#[test]
fn a_tunnel_needs_a_credential_and_a_listed_host() {
    let host = host();
    let site = site(&format!("  tunnel: ['{host}']\n  private_addresses: true\n"), HOLD_KEYS);
    let bot = site.agent("bot", "olga");
    let anonymous = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert!(connect(&site, anonymous.as_bytes()).0.contains(" 407 "));
    let mut stranger = bot.clone();
    stranger.keys.secret = "x".repeat(40);
    assert!(connect(&site, &connect_with(&stranger, &host.to_string())).0.contains(" 407 "));
    let other = format!("{}:{}", host.ip(), host.port() ^ 1);
    assert!(connect(&site, &connect_with(&bot, &other)).0.contains(" 403 "));
    wait_for("its record", || {
        let mut refused =
            site.records().into_iter().filter(|it| it["type"] == "action.refused" && it["agent"] == "bot");
        refused.find(|it| it["message"].as_str().unwrap().starts_with(&other))
    });
    site.done(&["agent", "revoke", "bot"]);
    wait_for("the revocation", || {
        connect(&site, &connect_with(&bot, &host.to_string())).0.contains(" 407 ").then_some(())
    });
}

#[test]
fn private_addresses_and_names_for_them_are_refused_unless_opened() {
    let host = host();
    let local = format!("localhost:{}", host.port());
    let site =
        site(&format!("  tunnel: ['{host}', '{local}', '127.0.0.1:443', '[::ffff:169.254.169.254]:80']\n"), HOLD_KEYS);
    let bot = site.agent("bot", "olga");
    if own_address_is_private() {
        assert!(connect(&site, &connect_with(&bot, &host.to_string())).0.contains(" 403 "));
    }
    for target in [local.as_str(), "127.0.0.1:443", "[::ffff:169.254.169.254]:80"] {
        assert!(connect(&site, &connect_with(&bot, target)).0.contains(" 403 "), "{target}");
    }
}

fn own_address_is_private() -> bool {
    matches!(own_address(), IpAddr::V4(address) if address.is_private())
}

#[test]
fn a_tunnel_never_leads_back_to_the_proxy_or_another_listener() {
    let address = own_address();
    let port = free_port(address);
    let config = format!("proxy:\n  tunnel: ['{address}:{port}']\n  private_addresses: true\n");
    let setup = Setup::new("http://127.0.0.1:9").rules(HOLD_KEYS).with_doors().config(&config);
    let listen = setup.listen_config.replace("proxy: 127.0.0.1:0", &format!("proxy: 0.0.0.0:{port}"));
    let site = setup.listen_config(&listen).start();
    let bot = site.agent("bot", "olga");
    let target = format!("{address}:{port}");
    let (status, _stream) = connect(&site, &connect_with(&bot, &target));
    assert!(status.contains(" 403 "), "{status}");
    assert!(site.log().contains("leads back to countersign itself"), "{}", site.log());
    let record = wait_for("its record", || site.records().into_iter().find(|it| it["action"] == "tunnel:connect"));
    assert_eq!(record["outcome"], "not-sent", "{record}");
}

fn free_port(address: IpAddr) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

const HOLD_TUNNELS: &str = "\
rules:
  - id: tunnels
    match: { action: [tunnel:connect] }
    decision: hold
    approvers: [security]
";

#[test]
fn a_tunnel_can_be_held_and_a_client_that_leaves_opens_none() {
    let host = host();
    let site = site(&format!("  tunnel: ['{host}']\n  private_addresses: true\n"), HOLD_TUNNELS);
    let bot = site.agent("bot", "olga");
    let head = connect_with(&bot, &host.to_string());
    std::thread::scope(|scope| {
        let allowed = scope.spawn(|| connect(&site, &head));
        let id = site.pending(1).remove(0);
        assert_eq!(site.hold(&id)["actions"][0]["action"], "tunnel:connect");
        site.decide("alice", &id, "allow");
        let (status, mut stream) = allowed.join().unwrap();
        assert!(status.contains(" 200 "), "{status}");
        stream.write_all(b"x").unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"X");
        drop(stream);
        site.wait_for_record(&id, "action.outcome");
    });
    let mut leaving = TcpStream::connect(site.listener("proxy")).unwrap();
    leaving.write_all(&head).unwrap();
    let id = site.pending(1).remove(0);
    drop(leaving);
    wait_for("the client to be missed", || (site.hold(&id)["attached"] == 0).then_some(()));
    site.decide("alice", &id, "deny");
    assert!(connect(&site, &head).0.contains(" 403 "));
    site.verify();
}
