//! Sessions on the real server: connecting to one of its hosts, TLS as far as configured, the proof
//! with the real role's credential, and cancelling (PostgreSQL docs, sections 55.2.1, 55.2.8 and 55.3).
//!
//! The real credential is read anew for each session, so that it may be rotated under a running
//! process, and it is given to nobody who asks for it in a way that configuration does not allow.

mod authenticate;
mod target;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(crate) use target::Target;

use super::login::Parameters;
use crate::credential::source::{SecretSource, SourceError};
use crate::net::stream::{Stream, tune};
use crate::net::tls::{TlsError, postgres_client};
use crate::net::verify::Check;
use crate::wire::postgres::backend::{Frame, Header, Said};
use crate::wire::postgres::startup::{self, Version};
use crate::wire::postgres::{FrameError, HEADER_LEN, Malformed};

/// The real database and how to reach it.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Tried in this order.
    pub(crate) hosts: Vec<Host>,
    pub(crate) target: Target,
    /// For agents that name none; `None`: the one called like the user, as the server does it.
    pub(crate) database: Option<String>,
    /// The real role.
    pub(crate) user: String,
    pub(crate) password: SecretSource,
    pub(crate) tls: TlsMode,
    /// Authorities to trust in place of the platform's.
    pub(crate) ca: Option<PathBuf>,
    /// The role's certificate and its key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Whether the password may leave in the clear on a connection without TLS.
    pub(crate) is_cleartext_allowed: bool,
    /// For one host, to the end of the login.
    pub(crate) connect_timeout: Duration,
}

/// One of the addresses of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Host {
    /// DNS name or IP address, an IPv6 address without brackets.
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// Whether TLS is spoken, and what the server must show; named as libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsMode {
    Disable,
    /// Without, and with it if the server wants that.
    Allow,
    /// With it, and without if the server does not speak it.
    Prefer,
    /// With it; checks as much as `VerifyCa` where an authority is configured.
    Require,
    VerifyCa,
    VerifyFull,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot connect to {host}")]
    Connect { host: Host, source: io::Error },
    #[error("{host} did not answer in time")]
    TooSlow { host: Host },
    #[error("TLS with {host} failed")]
    Tls { host: Host, source: io::Error },
    #[error("{host} does not speak TLS, and nothing else is allowed")]
    NoTls { host: Host },
    #[error("the connection to {host} broke off")]
    Io { host: Host, source: io::Error },
    #[error("{host} does not speak the Postgres protocol: {why}")]
    Protocol { host: Host, why: String },
    #[error("{host} refuses: {message} (SQLSTATE {code})")]
    Refused { host: Host, code: String, message: String, raw: Vec<u8> },
    #[error("{host} wants {what}, which is not configured")]
    Unwilling { host: Host, what: &'static str },
    #[error("{host} could not prove that it knows the password of the role")]
    Impostor { host: Host },
    #[error("the upstream's password (`upstream.postgres.password_file`)")]
    Password(#[source] SourceError),
    #[error("{host} is not the server that is wanted: {why}")]
    Wrong { host: Host, why: &'static str },
    #[error("no host of the upstream is configured")]
    NoHost,
}

impl ConnectError {
    /// The server's own ErrorResponse, where the agent may see it: it is about what the agent asked
    /// for (a database that does not exist, too many connections), not about the real credential.
    pub(crate) fn answer(&self) -> Option<&[u8]> {
        match self {
            Self::Refused { code, raw, .. } if !code.starts_with("28") => Some(raw),
            _ => None,
        }
    }

    /// Whether another host may do better. A server that refuses what was asked, or the credential,
    /// is believed: the others would say the same.
    fn is_of_this_host(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::TooSlow { .. } | Self::Tls { .. } | Self::NoTls { .. } => true,
            Self::Io { .. } | Self::Protocol { .. } | Self::Impostor { .. } | Self::Wrong { .. } => true,
            // Starting up, shutting down, out of connections.
            Self::Refused { code, .. } => code.starts_with("57P") || code.starts_with("53"),
            Self::Unwilling { .. } | Self::Password(_) | Self::NoHost => false,
        }
    }
}

/// The way to the real database.
#[derive(Clone)]
pub(crate) struct Upstream {
    options: Options,
    tls: Option<Arc<ClientConfig>>,
}

/// A session that waits for its first message.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) stream: Stream<TcpStream>,
    /// What came with the last bytes of the login; normally nothing.
    pub(crate) unread: BytesMut,
    pub(crate) host: Host,
    /// ParameterStatus messages in the order sent, names and values.
    pub(crate) parameters: Vec<(Vec<u8>, Vec<u8>)>,
    /// NoticeResponse messages of the login, whole.
    pub(crate) notices: BytesMut,
    pub(crate) canceller: Canceller,
}

/// The right to cancel what one session runs.
#[derive(Clone)]
pub(crate) struct Canceller {
    upstream: Arc<Upstream>,
    host: Host,
    /// The very address the session is on: a name may stand for many.
    address: std::net::SocketAddr,
    is_tls: bool,
    key: Option<(u32, Vec<u8>)>,
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Canceller").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Upstream {
    /// # Errors
    /// When a file that TLS needs cannot be used.
    pub(crate) fn new(options: Options) -> Result<Arc<Self>, TlsError> {
        let check = match options.tls {
            TlsMode::Disable => None,
            TlsMode::Require if options.ca.is_some() => Some(Check::Authority),
            TlsMode::Allow | TlsMode::Prefer | TlsMode::Require => Some(Check::Nothing),
            TlsMode::VerifyCa => Some(Check::Authority),
            TlsMode::VerifyFull => Some(Check::Name),
        };
        let identity = options.identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        let tls = check.map(|check| postgres_client(check, options.ca.as_deref(), identity)).transpose()?;
        Ok(Arc::new(Self { options, tls }))
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// The database of an agent that asks with these parameters as `user`. Drivers name the user's
    /// own where nothing was configured: that is no wish.
    pub(crate) fn database(&self, parameters: &Parameters, user: &str) -> String {
        let asked = parameters.text("database").filter(|name| !name.is_empty() && name != user);
        asked.or_else(|| self.options.database.clone()).unwrap_or_else(|| self.options.user.clone())
    }

    /// Opens a session as the real role in `database`, on the first host that will have it. All other
    /// parameters are the agent's.
    ///
    /// # Errors
    /// Those of the last host tried.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        database: &str,
        parameters: &Parameters,
    ) -> Result<Connected, ConnectError> {
        let mut last = ConnectError::NoHost;
        for host in &self.options.hosts {
            match self.connect_to(host, database, parameters).await {
                Ok(connected) => return Ok(connected),
                Err(error) if error.is_of_this_host() => {
                    tracing::warn!(%error, "a host of the upstream is no use");
                    last = error;
                }
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    async fn connect_to(
        self: &Arc<Self>,
        host: &Host,
        database: &str,
        parameters: &Parameters,
    ) -> Result<Connected, ConnectError> {
        let limit = self.options.connect_timeout;
        let bounded = async |is_tls: bool| {
            let attempt = self.attempt(host, is_tls, database, parameters);
            let late = |_| ConnectError::TooSlow { host: host.clone() };
            tokio::time::timeout(limit, attempt).await.map_err(late)?
        };
        match self.options.tls {
            TlsMode::Disable => bounded(false).await,
            TlsMode::Allow => match bounded(false).await {
                // It may take this role, or anybody, with TLS only.
                Err(ConnectError::Refused { code, .. }) if code.starts_with("28") => bounded(true).await,
                other => other,
            },
            TlsMode::Prefer => match bounded(true).await {
                Err(ConnectError::NoTls { .. } | ConnectError::Tls { .. }) => bounded(false).await,
                other => other,
            },
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => bounded(true).await,
        }
    }

    async fn attempt(
        self: &Arc<Self>,
        host: &Host,
        is_tls: bool,
        database: &str,
        parameters: &Parameters,
    ) -> Result<Connected, ConnectError> {
        let failed = |source| ConnectError::Connect { host: host.clone(), source };
        let tcp = TcpStream::connect((host.name.as_str(), host.port)).await.map_err(failed)?;
        let address = tcp.peer_addr().map_err(failed)?;
        let stream = self.dress(tcp, host, is_tls).await?;
        let mut link = Link { stream, unread: BytesMut::new(), host: host.clone() };
        let mut out = BytesMut::new();
        let own = [(&b"user"[..], self.options.user.as_bytes()), (b"database", database.as_bytes())];
        let theirs = parameters.iter().filter(|(name, _)| *name != b"user" && *name != b"database");
        startup::startup(&mut out, Version::V3_0, own.into_iter().chain(theirs));
        link.send(&mut out).await?;
        let greeting = authenticate::log_in(&mut link, &self.options).await?;
        let canceller =
            Canceller { upstream: Arc::clone(self), host: host.clone(), address, is_tls, key: greeting.key };
        target::check(&mut link, &greeting.parameters, self.options.target).await?;
        let Link { stream, unread, host } = link;
        let authenticate::Greeting { parameters, notices, .. } = greeting;
        Ok(Connected { stream, unread, host, parameters, notices, canceller })
    }

    /// Puts TLS over a connection, where it is wanted.
    async fn dress(&self, mut tcp: TcpStream, host: &Host, is_tls: bool) -> Result<Stream<TcpStream>, ConnectError> {
        let broken = |source| ConnectError::Io { host: host.clone(), source };
        tune(&tcp).map_err(broken)?;
        let Some(tls) = self.tls.as_ref().filter(|_| is_tls) else { return Ok(Stream::Plain(tcp)) };
        let mut out = BytesMut::new();
        startup::ssl_request(&mut out);
        tcp.write_all(&out).await.map_err(broken)?;
        // One byte, and not one more: what follows belongs to TLS.
        match tcp.read_u8().await.map_err(broken)? {
            b'S' => {}
            b'N' => return Err(ConnectError::NoTls { host: host.clone() }),
            // A server from before TLS, or one that has no room left, sends an error in the clear. Nothing
            // in it can be believed.
            _ => return Err(ConnectError::NoTls { host: host.clone() }),
        }
        let failed = |source| ConnectError::Tls { host: host.clone(), source };
        let name = ServerName::try_from(host.name.clone()).map_err(|error| failed(io::Error::other(error)))?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await.map_err(failed)?;
        Ok(Stream::Tls(Box::new(stream.into())))
    }
}

impl Canceller {
    /// The server's process for the session; `None` where the server told none.
    pub(crate) fn process_id(&self) -> Option<u32> {
        self.key.as_ref().map(|(process_id, _)| *process_id)
    }

    /// Asks the server to cancel what the session runs, over TLS if the session is. Once this returns
    /// the server has taken note; whether anything was cancelled shows on the session itself.
    ///
    /// # Errors
    /// When the server cannot be reached, in the time that a connection may take.
    pub(crate) async fn cancel(&self) -> Result<(), ConnectError> {
        let Some((process_id, key)) = &self.key else {
            return Err(ConnectError::Unwilling { host: self.host.clone(), what: "no cancelling" });
        };
        let host = &self.host;
        let broken = |source| ConnectError::Io { host: host.clone(), source };
        let cancelled = async {
            let tcp = TcpStream::connect(self.address).await;
            let tcp = tcp.map_err(|source| ConnectError::Connect { host: host.clone(), source })?;
            let mut stream = self.upstream.dress(tcp, host, self.is_tls).await?;
            let mut out = BytesMut::new();
            startup::cancel_request(&mut out, *process_id, key);
            stream.write_all(&out).await.map_err(broken)?;
            stream.flush().await.map_err(broken)?;
            // The server closes without a word when it is done.
            let mut byte = [0];
            match stream.read(&mut byte).await {
                Ok(_) => Ok(()),
                Err(error) if is_hang_up(&error) => Ok(()),
                Err(error) => Err(broken(error)),
            }
        };
        let late = |_| ConnectError::TooSlow { host: host.clone() };
        tokio::time::timeout(self.upstream.options.connect_timeout, cancelled).await.map_err(late)?
    }
}

/// A TLS connection that ends without its closing words, as a server's does here.
fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

/// A connection during its login.
struct Link {
    stream: Stream<TcpStream>,
    unread: BytesMut,
    host: Host,
}

impl Link {
    async fn send(&mut self, out: &mut BytesMut) -> Result<(), ConnectError> {
        let broken = |source| ConnectError::Io { host: self.host.clone(), source };
        self.stream.write_all(out).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)?;
        out.clear();
        Ok(())
    }

    /// The next message, header and all.
    async fn receive(&mut self) -> Result<BytesMut, ConnectError> {
        loop {
            if let Some(header) = self.unread.first_chunk::<HEADER_LEN>() {
                let Header { kind, len } = Header::read(*header).map_err(|error| self.misspoken(error))?;
                if len > LONGEST_GREETING {
                    let length = u32::try_from(len).unwrap_or(u32::MAX);
                    return Err(self.misspoken(FrameError::Length { kind, length }));
                }
                if self.unread.len() >= len {
                    return Ok(self.unread.split_to(len));
                }
            }
            let broken = |source| ConnectError::Io { host: self.host.clone(), source };
            if self.stream.read_buf(&mut self.unread).await.map_err(broken)? == 0 {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    fn misspoken(&self, why: impl fmt::Display) -> ConnectError {
        ConnectError::Protocol { host: self.host.clone(), why: why.to_string() }
    }

    fn malformed(&self) -> impl Fn(Malformed) -> ConnectError {
        |error| self.misspoken(error)
    }

    fn refused(&self, frame: Frame<'_>, said: Said<'_>) -> ConnectError {
        ConnectError::Refused {
            host: self.host.clone(),
            code: said.sqlstate().unwrap_or_else(|| "XX000".to_owned()),
            message: said.message().unwrap_or_default(),
            raw: frame.raw.to_vec(),
        }
    }
}

/// No message of a login is longer, in bytes.
const LONGEST_GREETING: usize = 64 << 10;

#[cfg(test)]
mod tests;
