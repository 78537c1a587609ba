//! A connection of countersign's own to the upstream, on which it asks and never changes anything.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::login::Parameters;
use super::super::upstream::{ConnectError, Host, Upstream};
use crate::net::stream::Stream;
use crate::wire::postgres::backend::{Frame, Header, kind};
use crate::wire::postgres::{HEADER_LEN, frontend};

/// Why an answer is missing.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum LineError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection broke off")]
    Io(#[from] io::Error),
    #[error("the server refuses: {message} (SQLSTATE {code})")]
    Refused { code: String, message: String },
    #[error("the server does not speak the Postgres protocol: {0}")]
    Protocol(String),
    #[error("the answer has more than {0} bytes")]
    TooLong(usize),
    #[error("there was no answer in time")]
    TooSlow,
}

/// The longest message that is read, in bytes.
const LONGEST: usize = 32 << 20;

/// An open connection between two questions.
pub(in super::super) struct Line {
    stream: Stream<TcpStream>,
    unread: BytesMut,
    pub(in super::super) host: Host,
    /// Major version of the server.
    pub(in super::super) version: u32,
}

impl Line {
    /// Opens one as the real role. It may only read, finds names in `pg_catalog` alone, and no statement
    /// of it may take longer than `limit`.
    pub(in super::super) async fn open(
        upstream: &Arc<Upstream>,
        database: &str,
        limit: Duration,
    ) -> Result<Self, LineError> {
        let parameters = [(&b"application_name"[..], &b"countersign"[..]), (b"client_encoding", b"UTF8")];
        let connected = upstream.connect(database, &Parameters::new(parameters)).await?;
        let version = connected.parameters.iter().rev().find(|(name, _)| name == b"server_version");
        let version = version.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
        let major = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|it| it.parse().ok());
        let mut line = Self {
            stream: connected.stream,
            unread: connected.unread,
            host: connected.host,
            version: major.unwrap_or(0),
        };
        // Not at the login: poolers refuse what they do not know there.
        let limit = limit.as_millis();
        let settings = format!(
            "SET search_path = pg_catalog; SET default_transaction_read_only = on; SET statement_timeout = {limit}; \
             SET lock_timeout = {limit}; SET idle_in_transaction_session_timeout = {}",
            limit.saturating_mul(2)
        );
        line.ask(&settings, |_| {}).await?;
        Ok(line)
    }

    /// Asks by a simple query; `each` is given every row of the answer.
    pub(in super::super) async fn ask(&mut self, sql: &str, each: impl FnMut(Row<'_>)) -> Result<(), LineError> {
        let mut out = BytesMut::new();
        frontend::query(&mut out, sql.as_bytes());
        self.exchange(&out, each).await
    }

    /// Asks with values for `$1`, `$2`…, given as text.
    pub(in super::super) async fn ask_with(
        &mut self,
        sql: &str,
        values: &[&str],
        each: impl FnMut(Row<'_>),
    ) -> Result<(), LineError> {
        let values: Vec<_> = values.iter().map(|value| (false, Some(value.as_bytes()))).collect();
        let mut out = BytesMut::new();
        frontend::parse(&mut out, b"", sql.as_bytes(), &[]);
        frontend::bind(&mut out, b"", b"", &values);
        frontend::execute(&mut out, b"", 0);
        frontend::sync(&mut out);
        self.exchange(&out, each).await
    }

    /// Sends messages that end with a Query or a Sync, and reads on until the server is ready again.
    pub(in super::super) async fn exchange(
        &mut self,
        messages: &[u8],
        mut each: impl FnMut(Row<'_>),
    ) -> Result<(), LineError> {
        self.stream.write_all(messages).await?;
        self.stream.flush().await?;
        let mut refused = None;
        loop {
            while let Some(frame) = Frame::split(&self.unread).map_err(|it| LineError::Protocol(it.to_string()))? {
                let (frame_kind, length) = (frame.kind, frame.raw.len());
                match frame_kind {
                    kind::DATA_ROW => each(Row(frame.body().get(2..).unwrap_or_default())),
                    kind::ERROR_RESPONSE => {
                        let said = frame.said().map_err(|it| LineError::Protocol(it.to_string()))?;
                        refused = Some(LineError::Refused {
                            code: said.sqlstate().unwrap_or_default(),
                            message: said.message().unwrap_or_default(),
                        });
                    }
                    _ => {}
                }
                drop(self.unread.split_to(length));
                if frame_kind == kind::READY_FOR_QUERY {
                    return refused.map_or(Ok(()), Err);
                }
            }
            if let Some(header) = self.unread.first_chunk::<HEADER_LEN>() {
                let header = Header::read(*header).map_err(|it| LineError::Protocol(it.to_string()))?;
                if header.len > LONGEST {
                    return Err(LineError::TooLong(LONGEST));
                }
            }
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(refused.unwrap_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof).into()));
            }
        }
    }
}

/// What is left of a row, value by value.
#[derive(Clone, Copy)]
pub(in super::super) struct Row<'a>(&'a [u8]);

impl<'a> Row<'a> {
    /// The bytes of the values that are left.
    pub(in super::super) fn len(self) -> usize {
        self.0.len()
    }

    /// The next value; `None` for NULL, and behind the last one.
    pub(in super::super) fn next(&mut self) -> Option<Cow<'a, str>> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.0 = rest;
            return None;
        };
        let value = rest.get(..length)?;
        self.0 = rest.get(length..).unwrap_or_default();
        Some(String::from_utf8_lossy(value))
    }

    /// The next value as text; empty for NULL.
    pub(in super::super) fn text(&mut self) -> String {
        self.next().unwrap_or_default().into_owned()
    }

    /// The next value as a number; 0 where it is none.
    pub(in super::super) fn number(&mut self) -> u32 {
        self.next().and_then(|it| it.parse().ok()).unwrap_or(0)
    }

    pub(in super::super) fn flag(&mut self) -> bool {
        self.next().as_deref() == Some("t")
    }
}
