//! One session: two streams, one machine between them, and what waits for a decision.
//!
//! All of it is one future that moves bytes until nothing moves. A message of the client's leaves this
//! task when its permit is spent; one that waits stays where it is, at the front of what was read, so
//! that nothing can overtake it. Answers of what was sent before go on meanwhile.
//!
//! Memory: what was read from the client and not sent (one message, at most `message_limit_bytes`, or
//! [`streams::READ_AHEAD_BYTES`]), and [`BUFFER_BYTES`] and a read in each other direction.

mod changing;
mod metering;
mod running;
mod streams;
mod waiting;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;

use super::asking::Asker;
use super::ending;
use super::lookup::Looking;
use super::machine::{ASKED, Broken, Machine, Own, Run, Step, Turn};
use super::settings::Settings;
use super::timeouts::Clocks;
use crate::digest::Digest;
use crate::gate::{Ended, Meter, Suspended};
use crate::rules::Count;
use crate::wire::postgres::backend::{Frame, Transaction, kind};
use crate::wire::postgres::frontend::{self, Header, Target};
use crate::wire::postgres::tally::{Kinds, Piece, Tally};
use crate::wire::postgres::{FrameError, HEADER_LEN, Malformed};

use self::changing::Changing;
use self::metering::{Pause, Refusal};
use self::running::{Completing, Running};
use self::streams::write;
use self::waiting::Waiting;

/// What may wait to be written before no more is read.
const BUFFER_BYTES: usize = 256 << 10;
/// The longest message of the server's that is looked into.
const LOOK_BYTES: usize = 1 << 20;
/// The room for one that is kept.
const MESSAGE_BYTES: usize = 4 << 10;

/// What the machine needs to see; rows, copied data and notices go by.
const SEEN: Kinds = Kinds::of(b"123CEGHIKRSTVWZcnstv");

/// The same with rows: of a query of countersign's own, and where none can come.
const ROWS_SEEN: Kinds = Kinds::of(b"123CDEGHIKRSTVWZcdnstv");

/// Why a session ended other than by its client's leaving.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("the client sent what is no message: {0}")]
    ClientFrame(FrameError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the upstream sent what is no message: {0}")]
    ServerFrame(FrameError),
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("the upstream ended the session")]
    UpstreamLeft,
    #[error("the virtual credential is not accepted any more")]
    Revoked,
    #[error("terminating the session: countersign is stopping")]
    Stopping,
    #[error("what ran could not be recorded, so its answer is withheld; tell the operator of countersign")]
    Unrecorded,
    #[error("{0} The server was done before it could be stopped, so that the session ends instead")]
    Exceeded(String),
}

/// A session between its streams.
pub(super) struct Session<C, U> {
    client: C,
    upstream: U,
    asker: Asker,
    settings: Settings,
    machine: Machine,
    tally: Tally,
    from_client: BytesMut,
    to_client: BytesMut,
    from_upstream: BytesMut,
    to_upstream: BytesMut,
    /// Bytes of copied data of the client's that are passed before its next message begins.
    passing: usize,
    /// The same of data that nobody takes any more.
    dropping: usize,
    waiting: Option<Waiting>,
    /// The catalogue is read again for the message at the front.
    looking: Option<Looking>,
    has_looked: bool,
    changing: Option<Changing>,
    /// The rules by which messages were judged last.
    rules: Digest,
    clocks: Clocks,
    /// A matched request's outcome on its way to the disk; the upstream's words wait for it.
    completing: Option<Completing>,
    /// The upstream's message that waits for that.
    last_word: Bytes,
    /// Room for the message of the upstream's that is looked at; empty between two.
    message: Vec<u8>,
    running: VecDeque<Running>,
    /// What is said in place of the errors of denied messages, in order.
    denials: VecDeque<Ended>,
    has_flushed: bool,
    /// An answer that crossed a limit and waits; or is dropped.
    pause: Option<Pause>,
    refusal: Option<Refusal>,
    /// The rest of a message that was too long to be looked at belongs to a dropped answer.
    drops_tail: bool,
    /// What was passed last ends within a message.
    is_in_message: bool,
    /// The work that the tally counts for now.
    counting: Option<Run>,
    /// What was counted of cursors, by name.
    suspended: HashMap<String, Suspended>,
    /// Counts what comes between statements.
    last_meter: Option<Meter>,
    /// Something ended since the server was ready last that may have changed something.
    has_written: bool,
    /// The next message waits for what was sent.
    is_stuck: bool,
    /// The server was asked about the session for the message at the front.
    has_asked_own: bool,
    /// Rows of its answer.
    own_rows: usize,
    /// The upstream has told the client that the session ends.
    has_last_words: bool,
    client_left: bool,
    message_limit_bytes: usize,
    overdue: Option<Pin<Box<Sleep>>>,
    notice_every: Duration,
    /// CancelRequests for this session.
    cancels: mpsc::Receiver<Told>,
    cancel: Cancel,
    /// One on its way to the upstream. Nothing else is sent meanwhile: it must not meet the next statement.
    cancelling: Option<Cancelling>,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_stopping: bool,
}

/// Sends a CancelRequest to the upstream's session, and returns when it was taken.
pub(super) type Cancel = Box<dyn Fn() -> Cancelling + Send>;
/// Is dropped when a CancelRequest was dealt with.
pub(super) type Told = tokio::sync::oneshot::Sender<()>;
type Cancelling = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<C, U> Session<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// A session whose client was told that it is ready.
    #[expect(clippy::too_many_arguments, reason = "a session's parts, put together once")]
    pub(super) fn new(
        client: C,
        upstream: U,
        asker: Asker,
        settings: Settings,
        early: (BytesMut, BytesMut),
        cancels: mpsc::Receiver<Told>,
        cancel: Cancel,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let message_limit_bytes = asker.message_limit_bytes();
        let (notice_every, rules) = (asker.notice_every(), asker.rule_set());
        Self {
            client,
            upstream,
            asker,
            settings,
            machine: Machine::new(),
            tally: Tally::new(SEEN, LOOK_BYTES),
            from_client: early.0,
            to_client: BytesMut::new(),
            from_upstream: early.1,
            to_upstream: BytesMut::new(),
            passing: 0,
            dropping: 0,
            waiting: None,
            looking: None,
            has_looked: false,
            changing: None,
            rules,
            clocks: Clocks::new(Instant::now()),
            completing: None,
            last_word: Bytes::new(),
            message: Vec::new(),
            running: VecDeque::new(),
            denials: VecDeque::new(),
            has_flushed: true,
            pause: None,
            refusal: None,
            drops_tail: false,
            is_in_message: false,
            counting: None,
            suspended: HashMap::new(),
            last_meter: None,
            has_written: false,
            is_stuck: false,
            has_asked_own: false,
            own_rows: 0,
            has_last_words: false,
            client_left: false,
            message_limit_bytes,
            overdue: None,
            notice_every,
            cancels,
            cancel,
            cancelling: None,
            stop: Box::pin(async move {
                let mut stopping = stopping;
                // A sender that is gone says the same.
                drop(stopping.wait_for(|stop| *stop).await);
            }),
            is_stopping: false,
        }
    }

    /// Runs the session to its end. What the client is to hear of it was written when this returns.
    pub(super) async fn run(mut self) -> Result<(), SessionError> {
        let ended = std::future::poll_fn(|cx| self.poll(cx)).await;
        match ended {
            Err(SessionError::UpstreamLeft) => self.lose(),
            Err(_) if self.has_last_words => self.lose(),
            _ => self.withdraw(),
        }
        self.give_up_rest();
        self.abandon_change().await;
        // What ran is recorded, and its hold ended, whoever has left.
        if let Some(completing) = self.completing.take()
            && completing.await.is_err()
        {
            tracing::error!("an outcome could not be recorded");
        }
        // Within a message of the server's it would be read as part of that.
        if let Err(error) = &ended
            && !self.has_last_words
            && !self.is_in_message
            && let Some(report) = ending::of_session(error)
        {
            report.write(&mut self.to_client);
        }
        // The last words; a client that takes none has none.
        let last = std::future::poll_fn(|cx| write(&mut self.client, &mut self.to_client, cx));
        drop(tokio::time::timeout(LAST_WORDS, last).await);
        if ended.is_ok() {
            frontend::terminate(&mut self.to_upstream);
            let last = std::future::poll_fn(|cx| write(&mut self.upstream, &mut self.to_upstream, cx));
            drop(tokio::time::timeout(LAST_WORDS, last).await);
        }
        ended
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        loop {
            // What is read is heard and written in the same round; the last round finds that nothing moves.
            let mut moved = self.read_client(cx)?;
            moved |= self.read_upstream(cx)?;
            moved |= self.complete(cx)?;
            moved |= self.hear_cancel(cx)?;
            moved |= self.decide(cx)?;
            moved |= self.decide_rest(cx)?;
            moved |= self.look(cx);
            moved |= self.change()?;
            moved |= self.hear_client(cx)?;
            if self.is_left() {
                return Poll::Ready(Ok(()));
            }
            moved |= self.hear_upstream()?;
            moved |= self.write_both(cx)?;
            if !self.is_stopping && self.stop.as_mut().poll(cx).is_ready() {
                self.is_stopping = true;
            }
            if self.is_stopping && self.is_at_rest() {
                return Poll::Ready(Err(SessionError::Stopping));
            }
            self.tell_overdue(cx);
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// The client is gone, and what it sent before is done: as a server it finishes what it has read.
    fn is_left(&self) -> bool {
        let is_done = self.machine.is_idle() || self.machine.takes_copy_data();
        self.client_left
            && self.completing.is_none()
            && self.waiting.is_none()
            && self.changing.is_none()
            && self.from_client.is_empty()
            && is_done
    }

    /// Nothing runs, waits or is open.
    fn is_at_rest(&self) -> bool {
        self.machine.is_idle()
            && self.machine.transaction() == Transaction::None
            && self.waiting.is_none()
            && self.changing.is_none()
            && self.completing.is_none()
            && self.from_client.is_empty()
            && self.to_client.is_empty()
    }

    /// Goes over what the client sent, until a message must wait.
    fn hear_client(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        let mut moved = false;
        self.is_stuck = self.machine.is_asking_own() || self.changing.is_some();
        if self.is_stuck || self.is_paused() {
            return Ok(false);
        }
        self.has_asked_own &= self.settings.is_in_doubt();
        if self.machine.must_close() {
            self.close_changed();
            frontend::sync(&mut self.to_upstream);
            self.machine.ask_own(Own::Sync);
        }
        let rules = self.asker.rule_set();
        if rules != self.rules {
            self.rules = rules;
            self.machine.rules_changed();
        }
        while self.waiting.is_none()
            && !self.is_paused()
            && self.looking.is_none()
            && self.changing.is_none()
            && self.cancelling.is_none()
            && self.to_upstream.len() < BUFFER_BYTES
            && !self.from_client.is_empty()
        {
            if self.passing > 0 || self.begins_copy_data()? {
                let count = self.passing.min(self.from_client.len());
                self.to_upstream.extend_from_slice(&self.from_client.split_to(count));
                self.passing -= count;
                moved = true;
                continue;
            }
            if self.drops_copy_data()? {
                let count = self.dropping.min(self.from_client.len());
                self.from_client.advance(count);
                self.dropping -= count;
                moved = true;
                continue;
            }
            self.is_stuck |= self.machine.is_full();
            if self.is_stuck {
                return Ok(self.flush_upstream() | moved);
            }
            // Answers of countersign's own may wait here for a client that sends and does not read.
            if self.to_client.len() >= BUFFER_BYTES {
                self.is_stuck = true;
                break;
            }
            let frame = frontend::Frame::split(&self.from_client, self.message_limit_bytes);
            let Some(frame) = frame.map_err(SessionError::ClientFrame)? else {
                if self.client_left {
                    self.from_client.clear();
                }
                break;
            };
            let (message, length) = (frame.read()?, frame.raw.len());
            if message.looks_up() && self.must_ask_own() {
                self.ask_own();
                return Ok(true);
            }
            if let frontend::Message::Parse(_) = &message {
                self.machine.read_under(self.settings.for_reading());
            }
            if message.looks_up() && self.may_find_other_names() {
                self.is_stuck = true;
                return Ok(self.flush_upstream() | moved);
            }
            match self.machine.client(&message)? {
                Step::Send => {
                    self.clocks.pipeline.get_or_insert_with(Instant::now);
                    if let frontend::Message::Parse(parse) = &message
                        && let Some(comment) = self.asker.prepared_comment(parse.sql, &self.settings)
                    {
                        parse.with_more(&mut self.to_upstream, comment.as_bytes());
                        self.from_client.advance(length);
                        self.has_flushed = false;
                        moved = true;
                        continue;
                    }
                    let sent = self.from_client.split_to(length);
                    self.to_upstream.extend_from_slice(&sent);
                    self.has_flushed = matches!(sent.first(), Some(b'S' | b'H'));
                }
                Step::Drop => self.from_client.advance(length),
                Step::Wait => {
                    self.is_stuck = true;
                    return Ok(self.flush_upstream() | moved);
                }
                Step::End => {
                    self.client_left = true;
                    self.from_client.clear();
                }
                Step::Ask(subject) => self.ask(subject, cx)?,
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Whether the end of a transaction may be on its way that changes where the session looks for names.
    fn may_find_other_names(&self) -> bool {
        (self.settings.are_passing() || self.asker.has_moving_cursor())
            && !self.machine.takes_copy_data()
            && self.machine.may_end_transaction()
    }

    /// Once for each doubt, should the server refuse it.
    fn must_ask_own(&self) -> bool {
        self.settings.is_in_doubt() && self.machine.is_between_queries() && !self.has_asked_own
    }

    /// Asks the server about the session. A simple query would end the unnamed statement and portal, which
    /// may be the client's; replication takes nothing else.
    fn ask_own(&mut self) {
        self.has_asked_own = true;
        self.own_rows = 0;
        self.machine.ask_own(Own::Query);
        self.has_flushed = true;
        let (out, question) = (&mut self.to_upstream, self.settings.question());
        if self.asker.is_replication {
            return frontend::query(out, question.as_bytes());
        }
        for sql in question.split("; ") {
            frontend::parse(out, ASKED, sql.as_bytes(), &[]);
            frontend::bind(out, ASKED, ASKED, &[]);
            frontend::execute(out, ASKED, 0);
            frontend::close(out, Target::Portal(ASKED));
            frontend::close(out, Target::Statement(ASKED));
        }
        frontend::sync(out);
    }

    /// Copied data passes before it is whole: a message of it may have a gigabyte.
    fn begins_copy_data(&mut self) -> Result<bool, SessionError> {
        if !self.machine.takes_copy_data() || self.from_client.first() != Some(&b'd') {
            return Ok(false);
        }
        let header = Header::read(&self.from_client, frontend::LARGE_LIMIT).map_err(SessionError::ClientFrame)?;
        let Some(header) = header else { return Ok(false) };
        self.passing = header.len;
        if let Some(running) = self.running.front_mut() {
            running.finished.rows += 1;
            running.finished.bytes += header.len.saturating_sub(HEADER_LEN) as u64;
        }
        Ok(true)
    }

    /// Copied data that comes while the server does not take any waits until it does, or goes by: whole or
    /// not, since a message of it may be longer than any other.
    fn drops_copy_data(&mut self) -> Result<bool, SessionError> {
        if self.dropping > 0 {
            return Ok(true);
        }
        if self.from_client.first() != Some(&b'd') {
            return Ok(false);
        }
        let header = Header::read(&self.from_client, frontend::LARGE_LIMIT).map_err(SessionError::ClientFrame)?;
        let Some(header) = header else { return Ok(false) };
        match self.machine.client(&frontend::Message::CopyData)? {
            Step::Drop => self.dropping = header.len,
            _ => self.is_stuck = true,
        }
        Ok(self.dropping > 0)
    }

    /// What was sent is answered before somebody sends Sync, also where the client does not ask for it.
    fn flush_upstream(&mut self) -> bool {
        let is_due = !self.has_flushed && !self.machine.is_idle();
        if is_due {
            frontend::flush(&mut self.to_upstream);
            self.has_flushed = true;
        }
        is_due
    }

    /// Goes over what the upstream sent.
    fn hear_upstream(&mut self) -> Result<bool, SessionError> {
        if self.from_upstream.is_empty() || self.completing.is_some() || self.pause.is_some() {
            return Ok(false);
        }
        let whole = self.from_upstream.split().freeze();
        let mut rest: &[u8] = &whole;
        self.allot(Count::default(), rest.len());
        while self.completing.is_none() && self.pause.is_none() {
            self.tally.want(if self.machine.gives_client_rows() { SEEN } else { ROWS_SEEN });
            match self.tally.next(&mut rest).map_err(SessionError::ServerFrame)? {
                None => break,
                Some(Piece::Pass(bytes)) => {
                    if self.refusal.is_none() && !self.drops_tail {
                        self.to_client.extend_from_slice(bytes);
                    }
                    self.is_in_message = !self.tally.is_between_messages();
                    self.drops_tail &= self.is_in_message;
                    continue;
                }
                Some(Piece::Full(next)) => {
                    let next = Count { rows: next.rows, bytes: next.bytes };
                    self.account();
                    if self.allot(next, rest.len()).is_some_and(|limit| !next.is_within(limit)) {
                        self.account();
                        self.cross(next);
                        self.allot(Count::default(), rest.len());
                    }
                    continue;
                }
                Some(Piece::Long(header)) => {
                    self.account();
                    // What is kept from the client, or said in another way, is never as long as this; nor is
                    // what a session is read by.
                    let is_read = header.kind == kind::PARAMETER_STATUS;
                    if is_read || self.machine.server(&Frame { kind: header.kind, raw: &[] })? != Turn::Pass {
                        return Err(Broken::Server(header.kind).into());
                    }
                    self.heard(&[], header.kind);
                    if self.refusal.is_some() && header.kind == kind::ERROR_RESPONSE {
                        self.say_refused();
                        self.drops_tail = true;
                    }
                }
                Some(Piece::Message(frame)) => {
                    let (kind, mut raw) = (frame.kind, std::mem::take(&mut self.message));
                    raw.extend_from_slice(frame.raw);
                    self.account();
                    self.hear_message(kind, &raw)?;
                    raw.clear();
                    if raw.capacity() <= MESSAGE_BYTES {
                        self.message = raw;
                    }
                }
            }
            self.allot(Count::default(), rest.len());
        }
        self.account();
        self.from_upstream.extend_from_slice(rest);
        Ok(true)
    }

    fn hear_message(&mut self, kind: u8, raw: &[u8]) -> Result<(), SessionError> {
        let frame = Frame { kind, raw };
        let turn = self.machine.server(&frame)?;
        self.settings.learn(&frame);
        self.has_last_words |=
            kind == kind::ERROR_RESPONSE && frame.said().is_ok_and(|said| said.severity().as_deref() == Some("FATAL"));
        if kind == kind::READY_FOR_QUERY {
            self.clocks.ready(self.machine.transaction(), Instant::now());
        }
        if self.refusal.is_some() && turn != Turn::Keep {
            return self.drop_message(turn, kind, raw);
        }
        match turn {
            Turn::Pass => {
                self.heard(raw, kind);
                match self.completing {
                    // A matched statement's last word follows its outcome.
                    Some(_) => self.last_word = Bytes::copy_from_slice(raw),
                    None => self.to_client.extend_from_slice(raw),
                }
            }
            Turn::Keep => {
                if kind == kind::DATA_ROW {
                    // One column: two bytes of count, four of length, the value.
                    let value = frame.body().get(6..).unwrap_or_default();
                    self.settings.refreshed(self.own_rows, &String::from_utf8_lossy(value));
                    self.own_rows += 1;
                }
                self.told(&frame)?;
                if kind == kind::READY_FOR_QUERY {
                    self.heard(raw, kind);
                    self.own_ready_refused()?;
                }
            }
            Turn::Refuse => {
                self.heard(raw, kind);
                self.refused(raw);
            }
            Turn::Deny => {
                if let Some(ended) = self.denials.pop_front() {
                    ending::report(&ended, |report| report.write(&mut self.to_client));
                }
                self.heard(raw, kind);
            }
        }
        Ok(())
    }
}

/// Longest wait for a client to take the last words.
const LAST_WORDS: Duration = Duration::from_secs(5);
