use std::path::PathBuf;
use std::process::Stdio;

use bytes::BufMut;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;

use super::*;
use crate::action::Owner;
use crate::credential::agent::{self, IssuedKey};
use crate::id::{AgentId, PersonId};
use crate::wire::postgres::backend::Transaction;
use crate::wire::postgres::frontend::Frame;
use crate::wire::postgres::startup::{self, cancel_request, ssl_request};

mod hostile;
mod libpq;

/// A door with one agent, `etl`, and the files that TLS needs.
struct Place {
    data: TempDir,
    key: IssuedKey,
    clock: Clock,
}

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn start() -> Timestamp {
    Timestamp::parse_amz_date("20261120T112555Z").unwrap()
}

impl Place {
    fn new() -> Self {
        let data = TempDir::new().unwrap();
        let etl = Agent { id: AgentId::new("etl"), owner: Owner::Person(PersonId::new("alice")) };
        let key = agent::add(data.path(), etl, agent::Terms::default(), start()).unwrap();
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "CA");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(data.path().join("ca.pem"), authority.pem()).unwrap();
        for (file, name) in [("server", "localhost"), ("etl", "etl"), ("other", "other")] {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &authority).unwrap().pem();
            std::fs::write(data.path().join(file).with_extension("pem"), certificate).unwrap();
            let file = data.path().join(file).with_extension("key");
            std::fs::write(&file, key.serialize_pem()).unwrap();
            // libpq insists.
            std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        Self { data, key, clock: Clock::manual(start()) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    fn plain(&self) -> Door {
        self.door(Offer::None)
    }

    fn with_tls(&self) -> Door {
        self.door(Offer::Offered)
    }

    fn door(&self, tls: Offer) -> Door {
        let options = Options {
            tls,
            certificate: self.file("server.pem"),
            key: self.file("server.key"),
            client_ca: Some(self.file("ca.pem")),
            timeout: Duration::from_secs(20),
        };
        Door::new(&options, Arc::new(Agents::open(self.data.path()).unwrap()), self.clock.clone()).unwrap()
    }
}

type Opened<S> = JoinHandle<Result<Arrival<S>, LoginError>>;

/// A client end whose other end is at the door.
fn arrive(door: Door) -> (DuplexStream, Opened<DuplexStream>) {
    let (client, server) = tokio::io::duplex(64 << 10);
    (client, tokio::spawn(async move { door.open(server, PEER).await }))
}

/// Greets a client as a server would, and says yes to every query.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(session: &mut Session<S>) {
    let mut out = BytesMut::new();
    for (name, value) in
        [("server_version", "15.0"), ("client_encoding", "UTF8"), ("standard_conforming_strings", "on")]
    {
        backend::parameter_status(&mut out, name.as_bytes(), value.as_bytes());
    }
    backend::backend_key_data(&mut out, 1, &[1; 4]);
    backend::ready_for_query(&mut out, Transaction::None);
    send(&mut session.stream, &mut out).await.unwrap();
    let mut received = BytesMut::new();
    loop {
        while let Some(frame) = Frame::split(&received, 1 << 20).unwrap() {
            let len = frame.raw.len();
            match frame.kind {
                Kind::Terminate => return,
                Kind::Query => {
                    backend::command_complete(&mut out, b"LISTEN");
                    backend::ready_for_query(&mut out, Transaction::None);
                }
                other => panic!("{other:?}"),
            }
            drop(received.split_to(len));
        }
        send(&mut session.stream, &mut out).await.unwrap();
        if session.stream.read_buf(&mut received).await.unwrap() == 0 {
            return;
        }
    }
}

/// Logs in with the driver of tokio-postgres, over a connection without TLS.
async fn log_in(
    door: Door,
    user: &str,
    password: &str,
) -> (Result<(), tokio_postgres::Error>, Result<Session<DuplexStream>, LoginError>) {
    let (client, opened) = arrive(door);
    let mut config = tokio_postgres::Config::new();
    config.user(user).password(password).dbname("orders").application_name("night run");
    let server = tokio::spawn(async move {
        match opened.await.unwrap()? {
            Arrival::Session(mut session) => {
                serve(&mut session).await;
                Ok(*session)
            }
            Arrival::Cancel(cancel) => panic!("{cancel:?}"),
        }
    });
    let connected = config.connect_raw(client, tokio_postgres::NoTls).await;
    let result = connected.map(|(client, connection)| drop((client, connection)));
    (result, server.await.unwrap())
}

#[tokio::test]
async fn an_agent_logs_in_with_its_key() {
    let place = Place::new();
    let secret = place.key.secret.expose();
    let (client, session) = log_in(place.plain(), &place.key.key_id, secret).await;
    client.unwrap();
    let session = session.unwrap();
    assert_eq!(session.agent.id.as_str(), "etl");
    assert_eq!(session.credential, Credential::Key { id: place.key.key_id.clone(), task: None });
    assert_eq!(session.version, Version::V3_0);
    assert_eq!(session.parameters.text("database").as_deref(), Some("orders"));
    assert_eq!(session.parameters.text("application_name").as_deref(), Some("night run"));
    assert_eq!(session.parameters.get(b"user"), None);
    assert!(!format!("{session:?}").contains(secret));
}

#[tokio::test]
async fn whoever_is_not_let_in_cannot_tell_why() {
    let place = Place::new();
    let revoked =
        agent::rotate(place.data.path(), "etl", Duration::from_secs(60), agent::Terms::default(), start()).unwrap();
    agent::revoke(place.data.path(), &revoked.key_id, start()).unwrap();
    let cases = [
        // A wrong password, a name that does not exist, the agent's own name, a revoked key with the right password.
        (place.key.key_id.as_str(), "wrong", "the password is wrong"),
        ("AKCSAAAAAAAAAAAAAAAA", "wrong", "the virtual key is not one of ours"),
        ("etl", place.key.secret.expose(), "the virtual key is not one of ours"),
        (revoked.key_id.as_str(), revoked.secret.expose(), "the virtual key was revoked"),
    ];
    for (user, password, why) in cases {
        let (client, session) = log_in(place.plain(), user, password).await;
        let error = client.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!((error.severity(), error.code().code()), ("FATAL", "28P01"));
        assert_eq!(error.message(), format!("password authentication failed for user \"{user}\""));
        let refusal = session.unwrap_err().refusal(IpAddr::from([127, 0, 0, 1])).unwrap();
        assert_eq!((refusal.code, refusal.reason.as_str()), ("28P01", format!("login as `{user}`: {why}").as_str()));
    }
}

#[tokio::test]
async fn an_unknown_name_keeps_its_salt() {
    let place = Place::new();
    let (one, two) = (place.plain().agents, place.plain().agents);
    assert_eq!(one.salt("nobody"), two.salt("nobody"));
    assert_ne!(one.salt("nobody"), one.salt("nobody2"));
    assert_ne!(one.salt(&place.key.key_id), [0; 16]);
}

#[tokio::test]
async fn a_credential_holds_until_it_is_revoked() {
    let place = Place::new();
    let agents = place.plain().agents;
    let (_, session) = log_in(place.plain(), &place.key.key_id, place.key.secret.expose()).await;
    let session = session.unwrap();
    let (key, certificate) = (session.credential, Credential::Certificate("sha256:00".to_owned()));
    for credential in [&key, &certificate] {
        assert!(credential.still_holds(&session.agent, &agents, PEER, start()));
        let another = Agent { id: AgentId::new("etl"), owner: Owner::Person(PersonId::new("mallory")) };
        assert!(!credential.still_holds(&another, &agents, PEER, start()));
    }
    agent::revoke(place.data.path(), &place.key.key_id, start()).unwrap();
    let later = start().plus(Duration::from_secs(2));
    assert!(!key.still_holds(&session.agent, &agents, PEER, later));
    assert!(certificate.still_holds(&session.agent, &agents, PEER, later), "the agent itself is in force");
    agent::revoke(place.data.path(), "etl", start()).unwrap();
    assert!(!certificate.still_holds(&session.agent, &agents, PEER, later.plus(Duration::from_secs(2))));
}

/// Sends a startup packet with these parameters; the first message that comes back, as type and body.
async fn first_answer(version: Version, parameters: &[(&str, &str)]) -> (u8, Vec<u8>) {
    let (mut client, opened) = arrive(Place::new().plain());
    let mut out = BytesMut::new();
    startup::startup(&mut out, version, parameters.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    client.write_all(&out).await.unwrap();
    let kind = client.read_u8().await.unwrap();
    let len = client.read_u32().await.unwrap() as usize;
    let mut body = vec![0; len - 4];
    client.read_exact(&mut body).await.unwrap();
    drop((client, opened));
    (kind, body)
}

#[tokio::test]
async fn versions_are_negotiated() {
    let user = ("user", "etl");
    for version in [Version::V3_0, Version::V3_2] {
        assert_eq!(first_answer(version, &[user]).await.0, b'R', "{version}");
    }
    let negotiated = |version: Version, options: &[&str]| {
        let mut body = BytesMut::new();
        body.put_u32(version.code());
        body.put_u32(u32::try_from(options.len()).unwrap());
        options.iter().for_each(|option| body.put_slice(format!("{option}\0").as_bytes()));
        (b'v', body.to_vec())
    };
    assert_eq!(first_answer(Version::new(3, 9999), &[user]).await, negotiated(Version::V3_2, &[]));
    let options = [user, ("_pq_.compression", "on"), ("_pq_.x", "")];
    let expected = negotiated(Version::V3_0, &["_pq_.compression", "_pq_.x"]);
    assert_eq!(first_answer(Version::V3_0, &options).await, expected);
    let (kind, body) = first_answer(Version::new(2, 0), &[]).await;
    assert!(kind == b'E' && String::from_utf8_lossy(&body).contains("C0A000\0"));
    let (kind, body) = first_answer(Version::V3_0, &[("database", "x")]).await;
    assert!(kind == b'E' && String::from_utf8_lossy(&body).contains("C28000\0Mno PostgreSQL user name"));
}
