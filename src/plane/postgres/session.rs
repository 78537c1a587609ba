//! One session: two streams, one machine between them, and what waits for a decision.
//!
//! All of it is one future that moves bytes until nothing moves. A message of the client's leaves this
//! task when its permit is spent; one that waits stays where it is, at the front of what was read, so
//! that nothing can overtake it. Answers of what was sent before go on meanwhile.
//!
//! Memory: what was read from the client and not sent (one message, at most `message_limit_bytes`, or
//! [`READ_AHEAD_BYTES`]), and [`BUFFER_BYTES`] and a read in each other direction.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::Sleep;

use super::asking::{Asker, Named};
use super::ending;
use super::machine::{Broken, Denial, Event, Machine, NO_PORTAL, Run, Step, Subject, Turn};
use super::notice::Notice;
use super::settings::Settings;
use crate::action::Action;
use crate::classify::postgres::Effect;
use crate::gate::{Admission, Ended, Finished, OVERDUE_AFTER, Outcome, Permit, Receipt};
use crate::id::HoldId;
use crate::wire::postgres::backend::{self, Frame, Transaction, kind};
use crate::wire::postgres::frontend::{self, Header};
use crate::wire::postgres::tally::{Kinds, Piece, Tally};
use crate::wire::postgres::{FrameError, HEADER_LEN, Malformed};

/// Messages of a client's that are read while the first of them waits.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// What may wait to be written before no more is read.
const BUFFER_BYTES: usize = 256 << 10;
/// One read.
const READ_BYTES: usize = 32 << 10;
/// The longest message of the server's that is looked into.
const LOOK_BYTES: usize = 1 << 20;

/// What the machine needs to see; rows, copied data and notices go by.
const SEEN: Kinds = Kinds::of(b"123CEGHIKRSTVWZcnstv");

/// The same with the rows of a query of countersign's own.
const OWN_SEEN: Kinds = Kinds::of(b"123CDEGHIKRSTVWZcnstv");

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
}

/// Work that was sent to the upstream.
struct Running {
    run: Run,
    receipt: Receipt,
    is_matched: bool,
    since: Instant,
    is_told_overdue: bool,
    /// Statements of it that are not done.
    left: usize,
    effects: VecDeque<Effect>,
    actions: Arc<[Action]>,
    finished: Finished,
}

type Deciding = Pin<Box<dyn Future<Output = Admission> + Send>>;
type Completing = Pin<Box<dyn Future<Output = Result<(), Ended>> + Send>>;

/// The message at the front of what the client sent, while people or the disk are waited for.
struct Waiting {
    deciding: Deciding,
    named: Named,
    hold: Arc<OnceLock<HoldId>>,
    /// When the next notice is due; `None` until it is known to be held.
    notice: Option<Pin<Box<Sleep>>>,
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
    waiting: Option<Waiting>,
    /// A matched request's outcome on its way to the disk; the upstream's words wait for it.
    completing: Option<Completing>,
    /// The upstream's message that waits for that.
    last_word: Bytes,
    running: VecDeque<Running>,
    /// What is said in place of the errors of denied messages, in order.
    denials: VecDeque<Ended>,
    has_flushed: bool,
    /// The next message waits for what was sent.
    is_stuck: bool,
    /// The server was asked about the session for the message at the front.
    has_asked_own: bool,
    /// The upstream has told the client that the session ends.
    has_last_words: bool,
    client_left: bool,
    message_limit_bytes: usize,
    overdue: Option<Pin<Box<Sleep>>>,
    notice_every: Duration,
    /// CancelRequests for this session.
    cancels: mpsc::Receiver<()>,
    cancel: Cancel,
    /// One on its way to the upstream. Nothing else is sent meanwhile: it must not meet the next statement.
    cancelling: Option<Cancelling>,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_stopping: bool,
}

/// Sends a CancelRequest to the upstream's session, and returns when it was taken.
pub(super) type Cancel = Box<dyn Fn() -> Cancelling + Send>;
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
        cancels: mpsc::Receiver<()>,
        cancel: Cancel,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let message_limit_bytes = asker.message_limit_bytes();
        let notice_every = asker.notice_every();
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
            waiting: None,
            completing: None,
            last_word: Bytes::new(),
            running: VecDeque::new(),
            denials: VecDeque::new(),
            has_flushed: true,
            is_stuck: false,
            has_asked_own: false,
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
        self.withdraw();
        if let Err(error) = &ended
            && !self.has_last_words
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
            let mut moved = self.write_both(cx)?;
            moved |= self.complete(cx)?;
            moved |= self.hear_cancel(cx)?;
            moved |= self.decide(cx)?;
            moved |= self.hear_client(cx)?;
            if self.is_left() {
                return Poll::Ready(Ok(()));
            }
            moved |= self.hear_upstream()?;
            if !self.is_stopping && self.stop.as_mut().poll(cx).is_ready() {
                self.is_stopping = true;
            }
            if self.is_stopping && self.is_at_rest() {
                return Poll::Ready(Err(SessionError::Stopping));
            }
            moved |= self.read_client(cx)?;
            moved |= self.read_upstream(cx)?;
            self.tell_overdue(cx);
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// The client is gone, and what it sent before is done: as a server it finishes what it has read.
    fn is_left(&self) -> bool {
        let is_done = self.machine.is_idle() || self.machine.takes_copy_data();
        self.client_left && self.waiting.is_none() && self.from_client.is_empty() && is_done
    }

    /// Nothing runs, waits or is open.
    fn is_at_rest(&self) -> bool {
        self.machine.is_idle()
            && self.machine.transaction() == Transaction::None
            && self.waiting.is_none()
            && self.completing.is_none()
            && self.from_client.is_empty()
            && self.to_client.is_empty()
    }

    fn write_both(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        let before = self.to_client.len() + self.to_upstream.len();
        if let Poll::Ready(Err(error)) = write(&mut self.client, &mut self.to_client, cx) {
            return Err(error.into());
        }
        if let Poll::Ready(Err(error)) = write(&mut self.upstream, &mut self.to_upstream, cx) {
            return Err(error.into());
        }
        Ok(self.to_client.len() + self.to_upstream.len() != before)
    }

    fn read_client(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        let is_full = match self.waiting.is_some() || self.is_stuck {
            true => self.from_client.len() >= READ_AHEAD_BYTES,
            false => self.to_upstream.len() >= BUFFER_BYTES,
        };
        if self.client_left || is_full {
            return Ok(false);
        }
        match read(&mut self.client, &mut self.from_client, cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => {
                self.leave();
                Ok(true)
            }
            Poll::Ready(Ok(_)) => {
                if self.waiting.is_some() && has_terminate(&self.from_client) {
                    self.leave();
                }
                Ok(true)
            }
            Poll::Ready(Err(error)) => {
                self.withdraw();
                Err(error.into())
            }
        }
    }

    /// The client says nothing more. Nobody is asked for it any further.
    fn leave(&mut self) {
        self.client_left = true;
        if self.waiting.is_some() {
            self.withdraw();
            self.from_client.clear();
        }
    }

    fn read_upstream(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        if self.to_client.len() >= BUFFER_BYTES || self.completing.is_some() {
            return Ok(false);
        }
        match read(&mut self.upstream, &mut self.from_upstream, cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => Err(SessionError::UpstreamLeft),
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(error)) => Err(error.into()),
        }
    }

    /// Goes over what the client sent, until a message must wait.
    fn hear_client(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        let mut moved = false;
        self.is_stuck = self.machine.is_asking_own();
        if self.is_stuck {
            return Ok(false);
        }
        while self.waiting.is_none()
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
            let frame = frontend::Frame::split(&self.from_client, self.message_limit_bytes);
            let Some(frame) = frame.map_err(SessionError::ClientFrame)? else {
                if self.client_left {
                    self.from_client.clear();
                }
                break;
            };
            let (message, length) = (frame.read()?, frame.raw.len());
            match self.machine.client(&message)? {
                Step::Send => {
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
                Step::Ask(_) if self.must_ask_own() => {
                    self.has_asked_own = true;
                    self.machine.ask_own();
                    self.tally.want(OWN_SEEN);
                    frontend::query(&mut self.to_upstream, b"SHOW search_path");
                    self.has_flushed = true;
                    return Ok(true);
                }
                Step::Ask(subject) => self.ask(subject, cx)?,
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Once for each message, should the server refuse it. SHOW takes no snapshot, so that it can also come
    /// first in a transaction.
    fn must_ask_own(&self) -> bool {
        self.settings.is_in_doubt() && self.machine.is_between_queries() && !self.has_asked_own
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

    /// What was sent is answered before somebody sends Sync, also where the client does not ask for it.
    fn flush_upstream(&mut self) -> bool {
        let is_due = !self.has_flushed && !self.machine.is_idle();
        if is_due {
            frontend::flush(&mut self.to_upstream);
            self.has_flushed = true;
        }
        is_due
    }

    /// Brings the message at the front to its decision.
    fn ask(&mut self, subject: Subject, cx: &mut Context<'_>) -> Result<(), SessionError> {
        self.has_asked_own = false;
        if !self.asker.is_welcome() {
            return Err(SessionError::Revoked);
        }
        let frame = frontend::Frame::split(&self.from_client, self.message_limit_bytes);
        let Some(frame) = frame.map_err(SessionError::ClientFrame)? else { return Ok(()) };
        let message = frame.read()?;
        let named = self.asker.name(&subject, &message, &self.settings, &self.machine);
        let ruling = self.asker.judge(&named);
        if ruling.is_unmatched_allow() {
            let passed = {
                let mut passing = std::pin::pin!(self.asker.pass(&named, &ruling));
                passing.as_mut().poll(cx)
            };
            match passed {
                Poll::Ready(Ok(permit)) => return self.go(permit, named),
                Poll::Ready(Err(ended)) => return self.stop(ended),
                // The disk is behind.
                Poll::Pending => {
                    let deciding = self.asker.pass_later(&named, ruling);
                    self.wait(deciding, named, Arc::default());
                    return Ok(());
                }
            }
        }
        if self.client_left {
            self.from_client.clear();
            return Ok(());
        }
        self.flush_upstream();
        let (deciding, hold) = self.asker.admit(&named, &self.settings, self.machine.transaction(), ruling);
        self.wait(deciding, named, hold);
        Ok(())
    }

    fn wait(&mut self, deciding: Deciding, named: Named, hold: Arc<OnceLock<HoldId>>) {
        self.waiting = Some(Waiting { deciding, named, hold, notice: None });
    }

    fn decide(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        if self.waiting.is_some() && self.machine.is_skipping() {
            // Something before it failed: the server would skip it, and nobody needs to be asked.
            self.withdraw();
            return Ok(true);
        }
        let Some(waiting) = &mut self.waiting else { return Ok(false) };
        match waiting.deciding.as_mut().poll(cx) {
            Poll::Pending => Ok(self.notify(cx)),
            Poll::Ready(admission) => {
                let Some(waiting) = self.waiting.take() else { return Ok(false) };
                match admission {
                    Admission::Permitted(permit) => {
                        if !self.asker.is_welcome() {
                            return Err(SessionError::Revoked);
                        }
                        self.go(permit, waiting.named)?;
                    }
                    Admission::Ended(ended) => self.stop(ended)?,
                    // No answer of a database is kept.
                    Admission::Answered(_) => self.stop(ending::answer_lost())?,
                }
                Ok(true)
            }
        }
    }

    /// Tells the client that it waits, for whom and how long, at once and then at intervals.
    fn notify(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(waiting) = &mut self.waiting else { return false };
        let Some(hold) = waiting.hold.get() else { return false };
        let is_due = match &mut waiting.notice {
            None => true,
            Some(sleep) => sleep.as_mut().poll(cx).is_ready(),
        };
        if !is_due || !self.tally.is_between_messages() {
            return false;
        }
        let notice = self.asker.notice(hold);
        // Until its opening is on disk, nobody is shown a hold.
        let pause = if notice.is_some() { self.notice_every } else { OPENING };
        let mut sleep = Box::pin(tokio::time::sleep(pause));
        // Registers with the timer.
        let is_over = sleep.as_mut().poll(cx).is_ready();
        waiting.notice = Some(sleep);
        notice.is_some_and(|notice| {
            notice.write(&mut self.to_client);
            true
        }) || is_over
    }

    /// Sends the message at the front, as it came or as an approver changed it.
    fn go(&mut self, permit: Permit, named: Named) -> Result<(), SessionError> {
        let frame = frontend::Frame::split(&self.from_client, self.message_limit_bytes);
        let Some(frame) = frame.map_err(SessionError::ClientFrame)? else { return Ok(()) };
        let (message, length) = (frame.read()?, frame.raw.len());
        let (hold, is_matched) = (permit.hold().cloned(), permit.is_matched());
        let (named, changed) = match permit.modified() {
            None => (named, None),
            Some(parameters) => match self.asker.changed(parameters, &self.settings) {
                Some(changed) => (changed.named, Some(changed.message)),
                None => return self.stop(ending::drifted()),
            },
        };
        let spent = if is_matched { permit.spend(named.digest) } else { permit.spend_unmatched() };
        let Ok(receipt) = spent else { return self.stop(ending::drifted()) };
        let run = self.machine.allow(&message, named.is_barrier());
        self.running.push_back(Running {
            run,
            receipt,
            is_matched,
            since: Instant::now(),
            is_told_overdue: is_matched,
            left: named.statements(),
            effects: named.effects().collect(),
            actions: Arc::clone(&named.actions),
            finished: Finished::default(),
        });
        let sent = self.from_client.split_to(length);
        match (changed, hold) {
            (Some(changed), Some(hold)) => {
                Notice::changed(hold.as_str(), &named.text()).write(&mut self.to_client);
                self.to_upstream.extend_from_slice(&changed);
            }
            _ => self.to_upstream.extend_from_slice(&sent),
        }
        self.has_flushed = false;
        Ok(())
    }

    /// The message at the front does not run.
    fn stop(&mut self, ended: Ended) -> Result<(), SessionError> {
        let frame = frontend::Frame::split(&self.from_client, self.message_limit_bytes);
        let Some(frame) = frame.map_err(SessionError::ClientFrame)? else { return Ok(()) };
        let (message, length) = (frame.read()?, frame.raw.len());
        match self.machine.deny(&message) {
            Denial::AtOnce => {
                ending::report(&ended, |report| report.write(&mut self.to_client));
                backend::ready_for_query(&mut self.to_client, self.machine.transaction());
            }
            denial => {
                self.denials.push_back(ended);
                frontend::execute(&mut self.to_upstream, NO_PORTAL, 0);
                if denial == Denial::InTurnWithSync {
                    frontend::sync(&mut self.to_upstream);
                }
                self.has_flushed = denial == Denial::InTurnWithSync;
            }
        }
        self.from_client.advance(length);
        Ok(())
    }

    /// Its client does not want what waits any more, by leaving or by a CancelRequest.
    fn withdraw(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            drop(waiting.deciding);
            if let Some(hold) = waiting.hold.get() {
                self.asker.withdraw(hold);
            }
        }
    }

    /// A CancelRequest ends what waits here, or goes on to what runs; with nothing to end it is forgotten.
    fn hear_cancel(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        if let Some(cancelling) = &mut self.cancelling {
            if cancelling.as_mut().poll(cx).is_pending() {
                return Ok(false);
            }
            self.cancelling = None;
            return Ok(true);
        }
        if !matches!(self.cancels.poll_recv(cx), Poll::Ready(Some(()))) {
            return Ok(false);
        }
        if let Some(waiting) = &self.waiting {
            let ended = ending::cancelled(waiting.hold.get());
            self.withdraw();
            self.stop(ended)?;
        } else if !self.machine.is_idle() {
            self.cancelling = Some((self.cancel)());
        }
        Ok(true)
    }

    /// Goes over what the upstream sent.
    fn hear_upstream(&mut self) -> Result<bool, SessionError> {
        if self.from_upstream.is_empty() || self.completing.is_some() {
            return Ok(false);
        }
        let whole = self.from_upstream.split().freeze();
        let mut rest: &[u8] = &whole;
        while self.completing.is_none() {
            let (turn, frame) = match self.tally.next(&mut rest).map_err(SessionError::ServerFrame)? {
                None => break,
                Some(Piece::Pass(bytes)) => {
                    self.to_client.extend_from_slice(bytes);
                    continue;
                }
                // No limit is set.
                Some(Piece::Full) => break,
                Some(Piece::Long(header)) => {
                    let frame = Frame { kind: header.kind, raw: &[] };
                    (self.machine.server(&frame)?, None)
                }
                Some(Piece::Message(frame)) => (self.machine.server(&frame)?, Some(frame)),
            };
            let Some(frame) = frame else { continue };
            self.settings.learn(&frame);
            let (kind, raw) = (frame.kind, Bytes::copy_from_slice(frame.raw));
            self.has_last_words |= kind == kind::ERROR_RESPONSE
                && frame.said().is_ok_and(|said| said.severity().as_deref() == Some("FATAL"));
            match turn {
                Turn::Pass => {
                    self.heard(&raw, kind);
                    match self.completing {
                        // A matched statement's last word follows its outcome.
                        Some(_) => self.last_word = raw,
                        None => self.to_client.extend_from_slice(&raw),
                    }
                }
                Turn::Keep => {
                    if kind == kind::DATA_ROW {
                        // One column: two bytes of count, four of length, the value.
                        let value = frame.body().get(6..).unwrap_or_default();
                        self.settings.refreshed(&String::from_utf8_lossy(value));
                    }
                    if !self.machine.is_asking_own() {
                        self.tally.restart(None);
                        self.tally.want(SEEN);
                    }
                }
                Turn::Deny => {
                    if let Some(ended) = self.denials.pop_front() {
                        ending::report(&ended, |report| report.write(&mut self.to_client));
                    }
                    self.heard(&raw, kind);
                }
            }
        }
        self.from_upstream.extend_from_slice(rest);
        Ok(true)
    }

    /// Brings what a message of the upstream's says to what was running.
    fn heard(&mut self, raw: &[u8], kind: u8) {
        let events: Vec<Event> = self.machine.take_events().collect();
        for event in events {
            match event {
                Event::Done(run) | Event::Failed(run) => {
                    let count = self.tally.count();
                    self.tally.restart(None);
                    let Some(running) = self.running.iter_mut().find(|it| it.run == run) else { continue };
                    running.finished.rows += count.rows;
                    running.finished.bytes += count.bytes;
                    running.left = running.left.saturating_sub(1);
                    let frame = Frame { kind, raw };
                    if kind == kind::ERROR_RESPONSE {
                        running.finished.sqlstate = frame.said().ok().and_then(|said| said.sqlstate());
                        running.effects.clear();
                        running.left = 0;
                    } else {
                        let tag = frame.tag().ok().map(|tag| String::from_utf8_lossy(tag).into_owned());
                        let effect = match running.effects.pop_front() {
                            // A transaction that failed cannot be committed.
                            Some(Effect::Commit { is_chained }) if tag.as_deref() == Some("ROLLBACK") => {
                                Some(Effect::Rollback { savepoint: None, is_chained })
                            }
                            other => other,
                        };
                        let actions = Arc::clone(&running.actions);
                        running.finished.tag = tag;
                        if let Some(effect) = effect {
                            self.asker.apply(effect, &actions, &mut self.settings, &mut self.machine);
                        }
                    }
                    let is_last = self.running.iter().any(|it| it.run == run && it.left == 0 && it.is_matched);
                    if is_last {
                        self.end_run(run);
                    }
                }
                Event::Skipped(run) => {
                    if let Some(running) = self.running.iter_mut().find(|it| it.run == run) {
                        running.effects.clear();
                    }
                }
                Event::Over(run) => self.end_run(run),
                Event::Ready if self.machine.transaction() == Transaction::None => self.settings.outside(),
                Event::Ready => {}
            }
        }
    }

    fn end_run(&mut self, run: Run) {
        let Some(index) = self.running.iter().position(|it| it.run == run) else { return };
        let Some(mut running) = self.running.remove(index) else { return };
        running.finished.duration = running.since.elapsed();
        let outcome = Outcome::Finished(running.finished);
        if running.is_matched {
            self.completing = Some(self.asker.complete(running.receipt, outcome));
        } else {
            self.asker.passed(running.receipt, &outcome);
        }
    }

    fn complete(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        let Some(completing) = &mut self.completing else { return Ok(false) };
        match completing.as_mut().poll(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) => {
                self.completing = None;
                self.to_client.extend_from_slice(&std::mem::take(&mut self.last_word));
                Ok(true)
            }
            Poll::Ready(Err(_)) => Err(SessionError::Unrecorded),
        }
    }

    fn tell_overdue(&mut self, cx: &mut Context<'_>) {
        if self.running.iter().all(|running| running.is_told_overdue) {
            return;
        }
        let sleep = self.overdue.get_or_insert_with(|| Box::pin(tokio::time::sleep(OVERDUE_AFTER)));
        if sleep.as_mut().poll(cx).is_pending() {
            return;
        }
        for running in self.running.iter_mut().filter(|running| !running.is_told_overdue) {
            running.is_told_overdue = true;
            running.receipt.overdue();
        }
        self.overdue = None;
    }
}

/// How long it takes about to open a hold durably.
const OPENING: Duration = Duration::from_millis(10);

/// Longest wait for a client to take the last words.
const LAST_WORDS: Duration = Duration::from_secs(5);

fn write<S: AsyncWrite + Unpin>(stream: &mut S, buffer: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while !buffer.is_empty() {
        let count = ready!(Pin::new(&mut *stream).poll_write(cx, buffer))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        buffer.advance(count);
    }
    // Also with nothing new to write: TLS may still hold what it took before.
    Pin::new(stream).poll_flush(cx)
}

fn read<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    buffer.reserve(READ_BYTES);
    // Nothing is lost with a future that is dropped before it read.
    std::pin::pin!(stream.read_buf(buffer)).poll(cx)
}

/// Whether the client says further on that it leaves: drivers do so without waiting for an answer.
fn has_terminate(messages: &[u8]) -> bool {
    let mut rest = messages;
    while let Ok(Some(header)) = Header::read(rest, frontend::LARGE_LIMIT) {
        if header.kind == frontend::Kind::Terminate {
            return true;
        }
        match rest.get(header.len..) {
            Some(next) => rest = next,
            None => return false,
        }
    }
    false
}
