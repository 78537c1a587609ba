//! Lets an agent in: TLS, the startup packet, the proof that it holds its virtual credential
//! (PostgreSQL docs, sections 55.2.1, 55.2.10 and 55.3).
//!
//! INVARIANT (nothing is read ahead): each packet is read to its last byte and no further, so what a
//! client sent in the clear before TLS is never taken for what it said within.
//!
//! A stranger learns nothing of which names exist: an unknown one, a revoked or expired key and a
//! wrong password take the same way and the same work to the same answer.

mod opening;
mod parameters;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) use opening::Rewound;
pub(crate) use parameters::Parameters;

use opening::Tls;

use crate::action::Agent;
use crate::credential::agent::{Agents, Found, LookupError};
use crate::digest::sha256;
use crate::gate::Refusal;
use crate::id::random_bytes;
use crate::net::certificate::is_of;
use crate::net::stream::Stream;
use crate::net::tls::TlsError;
use crate::secret::Secret;
use crate::time::{Clock, Timestamp};
use crate::wire::postgres::backend::{self, Report, Severity};
use crate::wire::postgres::frontend::{Header, Kind, read_sasl_initial_response};
use crate::wire::postgres::scram::{self, Exchange, ScramError};
use crate::wire::postgres::startup::Version;
use crate::wire::postgres::{FrameError, HEADER_LEN};

/// What an operator may set.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) tls: Offer,
    /// Certificate chain, leaf first, and private key, as PEM files.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Authorities whose client certificates let an agent in that is named on one.
    pub(crate) client_ca: Option<PathBuf>,
    /// From the first byte of a connection to the agent's proof.
    pub(crate) timeout: Duration,
}

/// Whether agents may, or must, come with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    None,
    Offered,
    Required,
}

/// Where agents come in.
pub(crate) struct Door {
    pub(super) agents: Arc<Agents>,
    clock: Clock,
    /// `None`: TLS is not spoken.
    tls: Option<Tls>,
    is_tls_required: bool,
    timeout: Duration,
}

/// What a connection turned out to be.
#[derive(Debug)]
pub(crate) enum Arrival<S> {
    Cancel(Cancel<S>),
    Session(Box<Session<S>>),
}

/// A wish to cancel what another session runs. It proves nothing but its key.
#[derive(Debug)]
pub(crate) struct Cancel<S> {
    pub(crate) process_id: u32,
    pub(crate) key: Vec<u8>,
    stream: Stream<Rewound<S>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Cancel<S> {
    /// Closes the connection in good order, which is all the answer there is: once the wish was passed on.
    pub(crate) async fn close(mut self) {
        if let Err(error) = self.stream.shutdown().await {
            tracing::debug!(%error, "a cancelling client did not hear the end");
        }
    }
}

/// An agent that was let in. It was told so by AuthenticationOk and waits for the rest.
#[derive(Debug)]
pub(crate) struct Session<S> {
    pub(crate) stream: Stream<Rewound<S>>,
    pub(crate) agent: Arc<Agent>,
    pub(crate) credential: Credential,
    /// The version that is spoken: what was asked for, but no newer than 3.2.
    pub(crate) version: Version,
    /// All that the client asked for but its user.
    pub(crate) parameters: Parameters,
}

/// What an agent proved itself by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// SHA-256 of a client certificate.
    Certificate(String),
    /// The id of a virtual key, and the task that it is bound to.
    Key { id: String, task: Option<String> },
}

impl Credential {
    /// The id under which it stands in records.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Certificate(id) | Self::Key { id, .. } => id,
        }
    }

    /// The task that it is bound to.
    pub(crate) fn task(&self) -> Option<String> {
        match self {
            Self::Certificate(_) => None,
            Self::Key { task, .. } => task.clone(),
        }
    }

    /// Whether it would still let this agent in: people take their time. That a key's time ran out
    /// since the login is no fault.
    pub(crate) fn still_holds(&self, agent: &Agent, agents: &Agents, peer: IpAddr, now: Timestamp) -> bool {
        let found = match self {
            Self::Certificate(_) => agents.named(agent.id.as_str(), now),
            Self::Key { id, .. } => agents.lookup(id, peer, now).map(|found| found.agent),
        };
        match found {
            Ok(found) => *found == *agent,
            Err(error) => error == LookupError::Expired,
        }
    }
}

/// Why nobody was let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("the connection ended before the login did")]
    Gone(#[source] io::Error),
    #[error("TLS was not set up")]
    Tls(#[source] io::Error),
    #[error("the login took too long")]
    TooSlow,
    #[error("{}", .0.reason)]
    Refused(Refused),
}

/// A login that was answered with an error.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// SQLSTATE.
    pub(crate) code: &'static str,
    /// What the client was told.
    pub(crate) message: String,
    /// What the record says: also what the client must not learn.
    pub(crate) reason: String,
}

impl Refused {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, reason: message.clone(), message }
    }
}

impl LoginError {
    /// For the gate to record, where there is something to record. A connection that ends before it
    /// has said anything wrong is no event.
    pub(crate) fn refusal(&self, peer: IpAddr) -> Option<Refusal> {
        match self {
            Self::Refused(it) => Some(Refusal { peer, agent: None, code: it.code, reason: it.reason.clone() }),
            Self::Gone(_) | Self::Tls(_) | Self::TooSlow => None,
        }
    }
}

impl From<Refused> for LoginError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<io::Error> for LoginError {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

impl Door {
    /// # Errors
    /// When TLS is offered and one of its files cannot be used.
    pub(crate) fn new(options: &Options, agents: Arc<Agents>, clock: Clock) -> Result<Self, TlsError> {
        let Options { tls, certificate, key, client_ca, timeout } = options;
        let load = || Tls::load(certificate, key, client_ca.as_deref());
        let (tls, is_tls_required) = match tls {
            Offer::None => (None, false),
            Offer::Offered => (Some(load()?), false),
            Offer::Required => (Some(load()?), true),
        };
        Ok(Self { agents, clock, tls, is_tls_required, timeout: *timeout })
    }

    /// Brings a fresh connection to its login, or to its refusal, of which the client was told.
    ///
    /// # Errors
    /// When nobody was let in; the connection is closed then.
    pub(crate) async fn open<S>(&self, stream: S, peer: IpAddr) -> Result<Arrival<S>, LoginError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        tokio::time::timeout(self.timeout, self.greet(stream, peer)).await.unwrap_or(Err(LoginError::TooSlow))
    }

    async fn greet<S>(&self, stream: S, peer: IpAddr) -> Result<Arrival<S>, LoginError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut stream, opened) = opening::open(stream, self.tls.as_ref()).await?;
        let answered = match opened {
            Ok(opening::Opened::Cancel(process_id, key)) => {
                return Ok(Arrival::Cancel(Cancel { process_id, key, stream }));
            }
            Ok(opening::Opened::Startup(startup)) => self.admit(&mut stream, startup, peer).await,
            Err(refused) => Err(refused.into()),
        };
        match answered {
            Ok(Admitted { agent, credential, version, parameters }) => {
                Ok(Arrival::Session(Box::new(Session { stream, agent, credential, version, parameters })))
            }
            Err(error) => {
                if let LoginError::Refused(refused) = &error {
                    say_goodbye(&mut stream, refused).await;
                }
                Err(error)
            }
        }
    }

    /// Checks what was asked for, and who asks.
    async fn admit<S>(
        &self,
        stream: &mut Stream<S>,
        startup: opening::Startup,
        peer: IpAddr,
    ) -> Result<Admitted, LoginError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let opening::Startup { version: asked, mut parameters } = startup;
        if asked.major() != 3 {
            let message = format!("unsupported frontend protocol {asked}: server supports 3.0 to 3.2");
            return Err(Refused::new("0A000", message).into());
        }
        if self.is_tls_required && stream.tls().is_none() {
            return Err(
                Refused::new("28000", "countersign takes no connection without TLS: set sslmode=require").into()
            );
        }
        let version = asked.min(Version::V3_2);
        let unknown = parameters.take_protocol_options();
        let mut out = BytesMut::new();
        if version != asked || !unknown.is_empty() {
            let unknown: Vec<&[u8]> = unknown.iter().map(Vec::as_slice).collect();
            backend::negotiate_protocol_version(&mut out, version, &unknown);
        }
        let user = parameters.take(b"user").filter(|user| !user.is_empty());
        let Some(user) = user else {
            return Err(Refused::new("28000", "no PostgreSQL user name specified in startup packet").into());
        };
        let user = String::from_utf8_lossy(&user).into_owned();
        let (agent, credential) = match self.by_certificate(stream, &user) {
            Some(it) => it,
            None => self.by_password(stream, &user, peer, &mut out).await?,
        };
        backend::authentication_ok(&mut out);
        send(stream, &mut out).await?;
        Ok(Admitted { agent, credential, version, parameters })
    }

    /// The agent that gives its own name and shows a certificate with that name on it.
    fn by_certificate<S>(&self, stream: &Stream<S>, user: &str) -> Option<(Arc<Agent>, Credential)> {
        let certificate = stream.tls()?.peer_certificates()?.first()?;
        if !is_of(certificate, user) {
            return None;
        }
        let agent = self.agents.named(user, self.clock.now()).ok()?;
        Some((agent, Credential::Certificate(format!("sha256:{}", sha256(certificate)))))
    }

    /// The agent that proves the secret of the key it names, by SCRAM.
    async fn by_password<S>(
        &self,
        stream: &mut Stream<S>,
        user: &str,
        peer: IpAddr,
        out: &mut BytesMut,
    ) -> Result<(Arc<Agent>, Credential), LoginError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let end_point = match (stream.tls(), &self.tls) {
            (Some(_), Some(tls)) => tls.end_point(),
            _ => None,
        };
        backend::authentication_sasl(out, scram::offered(end_point.is_some()));
        send(stream, out).await?;
        let message = receive(stream).await?;
        let (mechanism, first) =
            read_sasl_initial_response(&message).map_err(|it| Refused::new("08P01", it.to_string()))?;
        let mut later = Vec::new();
        let first = match first {
            Some(first) => first,
            None => {
                // It waits to be asked once more.
                backend::authentication_sasl_continue(out, b"");
                send(stream, out).await?;
                later = receive(stream).await?;
                &later
            }
        };
        let nonce = random_bytes::<18>().map(|bytes| STANDARD.encode(bytes)).map_err(|error| {
            tracing::error!(%error, "no login is possible");
            Refused::new("XX000", "countersign has no randomness")
        })?;
        let begun = Exchange::begin(mechanism, first, end_point, self.agents.salt(user), &nonce);
        drop(later);
        let (exchange, server_first) = begun.map_err(|error| refusal(error, user, None))?;
        backend::authentication_sasl_continue(out, server_first.as_bytes());
        send(stream, out).await?;

        let client_final = receive(stream).await?;
        let found = self.agents.lookup(user, peer, self.clock.now());
        // What nobody can prove, where there is no key to prove.
        let secret = found.as_ref().map_or_else(|_| Secret::new(nonce), |found| found.key.secret.clone());
        let proven = exchange.finish(&client_final, &secret);
        match (found, proven) {
            (Ok(Found { agent, task, .. }), Ok(server_final)) => {
                backend::authentication_sasl_final(out, server_final.as_bytes());
                Ok((agent, Credential::Key { id: user.to_owned(), task }))
            }
            (found, proven) => Err(refusal(proven.err().unwrap_or(ScramError::Proof), user, found.err()).into()),
        }
    }
}

/// What becomes of an exchange that failed. `unknown` is why there is no secret to prove.
fn refusal(error: ScramError, user: &str, unknown: Option<LookupError>) -> Refused {
    let code = match error {
        ScramError::Proof => "28P01",
        ScramError::Downgrade | ScramError::Binding => "28000",
        ScramError::Mechanism | ScramError::Malformed(_) | ScramError::Nonce => "08P01",
        ScramError::Unsupported(_) => "0A000",
    };
    if error != ScramError::Proof {
        return Refused::new(code, error.to_string());
    }
    let why = unknown.map_or_else(|| error.to_string(), |unknown| unknown.to_string());
    Refused {
        code,
        message: format!("password authentication failed for user \"{user}\""),
        reason: format!("login as `{user}`: {why}"),
    }
}

struct Admitted {
    agent: Arc<Agent>,
    credential: Credential,
    version: Version,
    parameters: Parameters,
}

/// The body of the next message, which must belong to a login.
async fn receive<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut Stream<S>) -> Result<Vec<u8>, LoginError> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await?;
    let unfit = |error: FrameError| Refused::new("08P01", format!("expected a SASL response: {error}"));
    let read = Header::read(&header, 0).map_err(unfit)?;
    let Some(Header { kind: Kind::Password, len }) = read else {
        return Err(Refused::new("08P01", "expected a SASL response").into());
    };
    let mut body = vec![0; len.saturating_sub(HEADER_LEN)];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

async fn send<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut Stream<S>, out: &mut BytesMut) -> io::Result<()> {
    stream.write_all(out).await?;
    out.clear();
    stream.flush().await
}

/// Tells a client why, as far as it still listens.
async fn say_goodbye<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut Stream<S>, refused: &Refused) {
    let Refused { code, message, .. } = refused;
    let mut out = BytesMut::new();
    Report { severity: Severity::Fatal, code, message, detail: None, hint: None }.write(&mut out);
    let told = async {
        send(stream, &mut out).await?;
        stream.shutdown().await
    };
    if let Err(error) = told.await {
        tracing::debug!(%error, "a refused client did not hear why");
    }
}

#[cfg(test)]
mod tests;
