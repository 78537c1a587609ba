//! One connection from its first byte to its last, and the listener they come to.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Plane;
use super::asking::{Asker, Place};
use super::login::{self, Arrival};
use super::session::{Session, SessionError};
use super::settings::Settings;
use super::timeouts::{self, Timeouts};
use super::upstream::{ConnectError, Connected};
use crate::action::{Context, claimed, trace_id};
use crate::classify::postgres::{self as classify, search_path};
use crate::net::listen::Limits;
use crate::net::peers::Peers;
use crate::net::stream::tune;
use crate::wire::postgres::backend::{self, Frame, Report, Severity, Transaction, kind};
use crate::wire::postgres::frontend;
use crate::wire::postgres::startup::Version;

impl Plane {
    /// Serves until `stopping` says true; then sessions end when they have nothing open, and all of them
    /// when the time for that is over.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        limits: Limits,
        mut stopping: watch::Receiver<bool>,
    ) {
        let is_local = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
        let peers = Peers::new(if is_local { usize::MAX } else { limits.connections_per_peer });
        let told = stopping.clone();
        let mut stop = pin!(stopping.wait_for(|stop| *stop));
        let mut sessions = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                _ = &mut stop => break,
                Some(ended) = sessions.join_next() => {
                    self.ended(ended);
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, address)) => {
                    let has_room = sessions.len() < limits.connections;
                    let Some(seat) = has_room.then(|| peers.seat(address.ip())).flatten() else {
                        self.metrics.turned_away.increment();
                        turn_away(&tcp);
                        continue;
                    };
                    self.metrics.connections.add(1);
                    let (plane, told) = (Arc::clone(&self), told.clone());
                    sessions.spawn(async move {
                        plane.connection(tcp, address.ip().to_canonical(), told).await;
                        drop(seat);
                    });
                }
                // Out of file descriptors, or a connection that was reset while it waited.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let drained = async {
            while let Some(ended) = sessions.join_next().await {
                self.ended(ended);
            }
        };
        if tokio::time::timeout(limits.drain_timeout, drained).await.is_err() {
            tracing::warn!(sessions = sessions.len(), "database sessions are cut off: the time to drain is over");
        }
    }

    fn ended(&self, ended: Result<(), tokio::task::JoinError>) {
        self.metrics.connections.add(-1);
        if ended.is_err_and(|error| error.is_panic()) {
            tracing::error!("a database session panicked; its connection was closed");
        }
    }

    async fn connection(self: Arc<Self>, tcp: TcpStream, peer: IpAddr, stopping: watch::Receiver<bool>) {
        if let Err(error) = tune(&tcp) {
            tracing::debug!(%error, "a connection ended at once");
            return;
        }
        match self.door.open(tcp, peer).await {
            Ok(Arrival::Cancel(cancel)) => {
                // libpq and others take the end of this connection for the server's word that it was taken.
                let dealt = self.cancels.cancel(cancel.process_id, &cancel.key);
                drop(tokio::time::timeout(LAST_WORDS, dealt).await);
                // A client may not stay to keep its place.
                drop(tokio::time::timeout(LAST_WORDS, cancel.close()).await);
            }
            Ok(Arrival::Session(session)) => self.session(*session, peer, stopping).await,
            Err(error) => {
                if let Some(refusal) = error.refusal(peer) {
                    self.gate.refused(refusal);
                }
            }
        }
    }

    async fn session(
        self: Arc<Self>,
        mut session: login::Session<TcpStream>,
        peer: IpAddr,
        stopping: watch::Receiver<bool>,
    ) {
        if let Some(name) = session.parameters.unjudged() {
            let message =
                format!("countersign: `{name}` cannot be set at login; SET it in the session, where it is judged");
            let report =
                Report { severity: Severity::Fatal, code: "42501", message: &message, detail: None, hint: None };
            self.gate.refused(crate::gate::Refusal {
                peer,
                agent: Some(Arc::clone(&session.agent)),
                code: "42501",
                reason: message.clone(),
            });
            return say(&mut session.stream, |out| report.write(out)).await;
        }
        let database = self.upstream.database(&session.parameters, session.credential.id());
        let context = claims(&session);
        if self.options.attribution.application_name {
            session.parameters.attribute(session.agent.id.as_str());
        }
        let mut connected = match self.upstream.connect(&database, &session.parameters).await {
            Ok(connected) => connected,
            Err(error) => return refuse(&mut session.stream, &error).await,
        };
        let user = self.upstream.options().user.clone();
        let place = Arc::new(Place {
            host: connected.host.name.clone(),
            port: connected.host.port,
            database: database.clone(),
            user: user.clone(),
            process: connected.canceller.process_id(),
        });
        let is_replication = session.parameters.text("replication").is_some_and(|it| is_replication(&it));
        let version = connected.parameters.iter().rev().find(|(name, _)| name == b"server_version");
        let question = timeouts::question(version.and_then(|(_, it)| timeouts::major(it)), is_replication);
        let answers = match ask(&mut connected, &question, self.upstream.options().connect_timeout).await {
            Ok(answers) => answers,
            Err(error) => return refuse(&mut session.stream, &error).await,
        };
        let names = self.lookups.enter(&database).await;
        let settings = settings(&connected, question, answers, user, database);
        let (ticket, cancels) = match self.cancels.enter(place.process, session.version > Version::V3_0) {
            Ok(place) => place,
            Err(error) => {
                tracing::error!(%error, "no random bytes for a cancel key");
                return;
            }
        };
        let mut greeting = std::mem::take(&mut connected.notices);
        for (name, value) in &connected.parameters {
            backend::parameter_status(&mut greeting, name, value);
        }
        backend::backend_key_data(&mut greeting, ticket.process_id, &ticket.key);
        backend::ready_for_query(&mut greeting, Transaction::None);
        if session.stream.write_all(&greeting).await.is_err() || session.stream.flush().await.is_err() {
            return;
        }
        let asker = Asker {
            plane: Arc::clone(&self),
            agent: session.agent,
            credential: session.credential,
            peer,
            context,
            place,
            names,
            cursors: std::collections::HashMap::new(),
            is_replication,
        };
        let canceller = connected.canceller;
        let cancel: super::session::Cancel = Box::new(move || {
            let canceller = canceller.clone();
            Box::pin(async move {
                if let Err(error) = canceller.cancel().await {
                    tracing::warn!(%error, "a statement could not be cancelled");
                }
            })
        });
        let early = (BytesMut::new(), connected.unread);
        let agent = Arc::clone(&asker.agent);
        let running =
            Session::new(session.stream, connected.stream, asker, settings, early, cancels, cancel, stopping).run();
        self.ended_with(running.await, agent, peer);
        drop(ticket);
    }

    fn ended_with(&self, ended: Result<(), SessionError>, agent: Arc<crate::action::Agent>, peer: IpAddr) {
        match ended {
            Ok(()) => {}
            // What broke the protocol is on record; the others are the operator's to know.
            Err(
                error @ (SessionError::Broken(_)
                | SessionError::ClientFrame(_)
                | SessionError::ServerFrame(_)
                | SessionError::Malformed(_)),
            ) => {
                let (agent, reason) = (Some(agent), error.to_string());
                self.gate.refused(crate::gate::Refusal { peer, agent, code: "08P01", reason });
            }
            Err(error) => tracing::info!(%error, agent = %agent.id, "a database session ended"),
        }
    }
}

/// Time without an accept after one that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a client may take to take the last words.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Says that there is no room, as far as that needs no waiting. Only a client that asks for no TLS reads it.
fn turn_away(tcp: &TcpStream) {
    let mut out = BytesMut::new();
    let message = "countersign: too many connections";
    Report { severity: Severity::Fatal, code: "53300", message, detail: None, hint: None }.write(&mut out);
    drop(tcp.try_write(&out));
}

/// The agent is who it says, but there is no database for it.
async fn refuse<S: tokio::io::AsyncWrite + Unpin>(stream: &mut S, error: &ConnectError) {
    tracing::error!(%error, "no session of the upstream for an agent");
    say(stream, |out| match error.answer() {
        // `database "x" does not exist` is for the agent, in the server's own words.
        Some(raw) => out.extend_from_slice(raw),
        None => {
            let message = "countersign: the database cannot be reached; tell the operator of countersign";
            Report { severity: Severity::Fatal, code: "08006", message, detail: None, hint: None }.write(out);
        }
    })
    .await;
}

/// The last words on a connection.
async fn say<S: tokio::io::AsyncWrite + Unpin>(stream: &mut S, write: impl FnOnce(&mut BytesMut)) {
    let mut out = BytesMut::new();
    write(&mut out);
    let said = async {
        stream.write_all(&out).await?;
        stream.shutdown().await
    };
    drop(tokio::time::timeout(LAST_WORDS, said).await);
}

/// Where the new session looks for names, which servers before version 18 do not report, and how long it may
/// wait: one value for each row of the answer.
async fn ask(connected: &mut Connected, question: &str, limit: Duration) -> Result<Vec<String>, ConnectError> {
    let host = connected.host.clone();
    let answered = tokio::time::timeout(limit, answers(connected, question)).await;
    answered.unwrap_or(Err(ConnectError::TooSlow { host }))
}

async fn answers(connected: &mut Connected, question: &str) -> Result<Vec<String>, ConnectError> {
    let host = connected.host.clone();
    let broken = |source| ConnectError::Io { host: host.clone(), source };
    let odd = |why: &str| ConnectError::Protocol { host: host.clone(), why: why.to_owned() };
    let mut out = BytesMut::new();
    frontend::query(&mut out, question.as_bytes());
    connected.stream.write_all(&out).await.map_err(broken)?;
    connected.stream.flush().await.map_err(broken)?;
    let mut found = Vec::new();
    loop {
        while let Some(frame) = Frame::split(&connected.unread).map_err(|error| odd(&error.to_string()))? {
            let (frame_kind, length) = (frame.kind, frame.raw.len());
            if frame_kind == kind::DATA_ROW {
                if found.len() >= MOST_ANSWERS {
                    return Err(odd("it gives more answers than it was asked for"));
                }
                // One column: two bytes of count, four of length, the value.
                let value = frame.body().get(6..).unwrap_or_default();
                found.push(String::from_utf8_lossy(value).into_owned());
            }
            drop(connected.unread.split_to(length));
            if frame_kind == kind::READY_FOR_QUERY {
                return Ok(found);
            }
        }
        if connected.unread.len() > LONGEST_ANSWER {
            return Err(odd("its answer is too long"));
        }
        if connected.stream.read_buf(&mut connected.unread).await.map_err(broken)? == 0 {
            return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

const LONGEST_ANSWER: usize = 64 << 10;
/// A question has six parts at most.
const MOST_ANSWERS: usize = 16;

fn settings(connected: &Connected, question: String, answers: Vec<String>, user: String, database: String) -> Settings {
    let reported = |name: &[u8]| connected.parameters.iter().rev().find(|(it, _)| it == name).map(|(_, value)| value);
    // A server that gave fewer answers must not be asked that again: it would fail a transaction.
    let is_whole = question.matches("SHOW").count() == answers.len();
    let question = if is_whole { question } else { timeouts::question(None, false) };
    let first = classify::Settings {
        standard_conforming_strings: reported(b"standard_conforming_strings").is_none_or(|value| value == b"on"),
        client_encoding: reported(b"client_encoding")
            .map_or_else(|| "UTF8".to_owned(), |value| String::from_utf8_lossy(value).into_owned()),
        search_path: Vec::new(),
        user,
        database,
    };
    let search_path = answers.first().and_then(|it| search_path::read(it)).unwrap_or_default();
    let mut timeouts = Timeouts::default();
    for (index, answer) in answers.iter().skip(2).enumerate() {
        timeouts.answer(index, answer);
    }
    Settings::new(classify::Settings { search_path, ..first }, timeouts, question)
}

/// What the client says of itself: `application_name` names the session, and settings of the family
/// `countersign`, which the server takes and does nothing with, say the rest.
fn claims<S>(session: &login::Session<S>) -> Context {
    let parameters = &session.parameters;
    let mut context = Context::default();
    for (name, value) in parameters.settings() {
        let (slot, value) = match &*name.to_ascii_lowercase() {
            "countersign.traceparent" => (&mut context.trace, trace_id(&value)),
            name => match name.strip_prefix("countersign.").and_then(|name| context.slot(name)) {
                Some(slot) => (slot, claimed(&value)),
                None => continue,
            },
        };
        *slot = value;
    }
    if context.session.is_none() {
        context.session = parameters.text("application_name").as_deref().and_then(claimed);
    }
    context.bind(session.credential.task());
    context
}

/// The server takes any spelling of a boolean, and `database`.
fn is_replication(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "" | "0" | "f" | "false" | "n" | "no" | "of" | "off")
}
