//! The message at the front: asked about, waited for, then sent or answered in the server's place.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::super::asking::{Asker, Deciding, Named};
use super::super::ending;
use super::super::machine::{Denial, NO_PORTAL, Own, Subject};
use super::super::narrowing::{Bound, Standing};
use super::super::notice::Notice;
use super::super::timeouts;
use super::running::Running;
use super::{Session, SessionError};
use crate::classify::postgres as classify;
use crate::gate::{Admission, Ended, Permit};
use crate::id::HoldId;
use crate::wire::postgres::frontend::Message;
use crate::wire::postgres::{backend, frontend};

/// How long it takes about to open a hold durably.
const OPENING: Duration = Duration::from_millis(10);

/// The message at the front of what the client sent, while people or the disk are waited for.
pub(super) struct Waiting {
    pub(super) deciding: Deciding,
    pub(super) named: Named,
    /// How its text was read.
    read_as: Arc<classify::Settings>,
    pub(super) hold: Arc<OnceLock<HoldId>>,
    /// When the next notice is due; `None` until it is known to be held.
    pub(super) notice: Option<Pin<Box<Sleep>>>,
}

impl<C, U> Session<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Brings the message at the front to its decision.
    pub(super) fn ask(&mut self, subject: Subject, cx: &mut Context<'_>) -> Result<(), SessionError> {
        self.has_asked_own = false;
        if !self.asker.is_welcome() {
            return Err(SessionError::Revoked);
        }
        let frame = frontend::Frame::split(&self.from_client, self.message_limit_bytes);
        let Some(frame) = frame.map_err(SessionError::ClientFrame)? else { return Ok(()) };
        let message = frame.read()?;
        self.asker.names.catch_up();
        if self.asker.names.is_behind() {
            if !self.has_looked {
                self.looking = Some(self.asker.names.look());
                return Ok(());
            }
            self.asker.names.forget();
        }
        let again = |run| self.running.iter().find(|it| it.run == run).map(|it| self.asker.again(&it.named));
        let known = if let Subject::Again(run) = subject { again(run) } else { None };
        let mut named = match known {
            Some(named) => named,
            None => self.asker.name(&subject, &message, &self.settings, &self.machine),
        };
        let mut ruling = self.asker.judge(&named);
        if !ruling.is_unmatched_allow() && !self.has_looked && self.asker.may_tell_more(&named) {
            self.looking = Some(self.asker.names.look());
            return Ok(());
        }
        if !ruling.is_unmatched_allow()
            && self.has_looked
            && self.asker.lacks_names(&named)
            && let Some(whole) = self.asker.names.whole()
        {
            let before = self.asker.names.replace(whole);
            named = self.asker.name(&subject, &message, &self.settings, &self.machine);
            self.asker.names.replace(before);
            ruling = self.asker.judge(&named);
        }
        self.has_looked = false;
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
        let bound = match &subject {
            Subject::Query(_) => Some(Bound::default()),
            Subject::Bind(Some(prepared)) => Some(Bound::of(&message, prepared)),
            _ => None,
        };
        let limit = timeouts::limit(self.settings.timeouts(), &self.clocks, &self.machine, Instant::now());
        let standing = Standing {
            transaction: self.machine.transaction(),
            is_in_transaction: self.machine.is_in_transaction(),
            limit,
        };
        let (deciding, hold) = self.asker.admit(&named, &self.settings, &standing, bound, ruling);
        self.flush_upstream();
        self.wait(deciding, named, hold);
        Ok(())
    }

    /// Waits for the catalogue, after which the message at the front is named once more.
    pub(super) fn look(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(looking) = &mut self.looking else { return false };
        let is_over = looking.as_mut().poll(cx).is_ready();
        if is_over {
            self.looking = None;
            self.has_looked = true;
        }
        is_over
    }

    pub(super) fn wait(&mut self, deciding: Deciding, named: Named, hold: Arc<OnceLock<HoldId>>) {
        let read_as = Arc::clone(self.settings.for_naming_shared());
        self.waiting = Some(Waiting { deciding, named, read_as, hold, notice: None });
    }

    pub(super) fn decide(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        if self.waiting.is_some() && self.machine.is_skipping() {
            // Something before it failed: the server would skip it, and nobody needs to be asked.
            self.withdraw();
            return Ok(true);
        }
        // What is said to the client with the decision must not come in the middle of a message of the server's.
        if self.is_paused() || !self.tally.is_between_messages() {
            return Ok(false);
        }
        let Some(waiting) = &mut self.waiting else { return Ok(false) };
        match waiting.deciding.as_mut().poll(cx) {
            Poll::Pending => Ok(self.sync_upstream() | self.notify(cx)),
            Poll::Ready(admission) => {
                let Some(waiting) = self.waiting.take() else { return Ok(false) };
                match admission {
                    Admission::Permitted(permit) => {
                        if !self.asker.is_welcome() {
                            return Err(SessionError::Revoked);
                        }
                        // A server may change its mind at any time, as when its configuration is read again.
                        if *waiting.read_as != **self.settings.for_naming_shared() {
                            drop(permit);
                            self.stop(ending::drifted())?;
                            return Ok(true);
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

    /// A statement that only was prepared runs into the server's time-out while its execution waits. A Sync
    /// ends that, and nothing else.
    fn sync_upstream(&mut self) -> bool {
        let is_due = self.settings.timeouts().ends_pipelines()
            && self.machine.may_sync()
            && self.waiting.as_ref().is_some_and(|waiting| waiting.hold.get().is_some());
        if is_due {
            frontend::sync(&mut self.to_upstream);
            self.machine.ask_own(Own::Sync);
            self.has_flushed = true;
        }
        is_due
    }

    /// Tells the client that it waits, for whom and how long, at once and then at intervals.
    pub(super) fn notify(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(waiting) = &mut self.waiting else { return false };
        if !self.tally.is_between_messages() {
            return false;
        }
        let (hold, notice, every) = (&waiting.hold, &mut waiting.notice, self.notice_every);
        remind(&self.asker, every, hold, notice, &mut self.to_client, cx)
    }

    /// Sends the message at the front, as it came or as an approver changed it.
    pub(super) fn go(&mut self, permit: Permit, named: Named) -> Result<(), SessionError> {
        let frame = frontend::Frame::split(&self.from_client, self.message_limit_bytes);
        let Some(frame) = frame.map_err(SessionError::ClientFrame)? else { return Ok(()) };
        let (message, length) = (frame.read()?, frame.raw.len());
        let (hold, is_matched) = (permit.hold().cloned(), permit.is_matched());
        let comment = match message {
            Message::Query(_) => self.asker.comment(&named, hold.as_ref(), &self.settings),
            Message::Bind(_) if hold.is_some() => self.asker.comment(&named, hold.as_ref(), &self.settings),
            _ => None,
        };
        if matches!(message, Message::Bind(_)) && (permit.modified().is_some() || comment.is_some()) {
            self.begin_change(permit, named);
            return Ok(());
        }
        let (named, is_changed) = match permit.modified() {
            None => (named, false),
            Some(parameters) => match self.asker.changed(&named, parameters, &Bound::default(), &self.settings) {
                Ok(changed) => (changed, true),
                Err(_) => return self.stop(ending::drifted()),
            },
        };
        let spent = if is_matched { permit.spend(self.asker.digest_of(&named)) } else { permit.spend_unmatched() };
        let Ok(receipt) = spent else { return self.stop(ending::drifted()) };
        let run = self.machine.allow(&message, named.is_barrier());
        let is_approved = hold.is_some();
        let sent = self.from_client.split_to(length);
        if let Some(hold) = hold.filter(|_| is_changed) {
            Notice::changed(hold.as_str(), &named.text()).write(&mut self.to_client);
        }
        match comment {
            Some(comment) => frontend::query(&mut self.to_upstream, &[named.sql(), comment.as_bytes()].concat()),
            None if is_changed => frontend::query(&mut self.to_upstream, named.sql()),
            None => self.to_upstream.extend_from_slice(&sent),
        }
        let mut running = Running::new(run, receipt, is_matched, named);
        running.metering = self.meter(&running.named, is_approved);
        self.running.push_back(running);
        self.clocks.pipeline.get_or_insert_with(Instant::now);
        self.has_flushed = false;
        Ok(())
    }

    /// The message at the front does not run.
    pub(super) fn stop(&mut self, ended: Ended) -> Result<(), SessionError> {
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

    /// The upstream ended the session in which it waits.
    pub(super) fn lose(&mut self) {
        if let Some(hold) = self.waiting.as_ref().and_then(|waiting| waiting.hold.get()) {
            self.asker.upstream_left(hold);
        }
        self.waiting = None;
    }

    /// Its client does not want what waits any more, by leaving or by a CancelRequest.
    pub(super) fn withdraw(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            drop(waiting.deciding);
            if let Some(hold) = waiting.hold.get() {
                self.asker.withdraw(hold);
            }
        }
    }

    /// A CancelRequest ends what waits here, or goes on to what runs; with nothing to end it is forgotten.
    pub(super) fn hear_cancel(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        if let Some(cancelling) = &mut self.cancelling {
            if cancelling.as_mut().poll(cx).is_pending() {
                return Ok(false);
            }
            self.cancelling = None;
            return Ok(true);
        }
        // What runs is countersign's own, and the client's comes next: it is that which is to end.
        if self.machine.is_asking_own() || (self.has_asked_own && self.machine.is_idle()) {
            return Ok(false);
        }
        if !self.tally.is_between_messages() && self.waiting.is_some() {
            return Ok(false);
        }
        let Poll::Ready(Some(told)) = self.cancels.poll_recv(cx) else { return Ok(false) };
        if self.give_up_rest() {
            return Ok(true);
        }
        // What was sent before and runs is what the server is to cancel, also while something waits behind it.
        let is_running = match (&self.waiting, &self.changing) {
            (None, None) => !self.machine.is_idle(),
            (Some(_), _) => !self.running.is_empty(),
            (None, Some(changing)) => changing.waits_for_others() && !self.running.is_empty(),
        };
        if let Some(waiting) = &self.waiting {
            let ended = ending::cancelled(waiting.hold.get());
            self.withdraw();
            self.stop(ended)?;
        } else if let Some(changing) = &mut self.changing {
            changing.is_cancelled = true;
        }
        if is_running {
            let sending = (self.cancel)();
            self.cancelling = Some(Box::pin(async move {
                sending.await;
                // Only now may its client go on: it takes the end of its connection for the server's word.
                drop(told);
            }));
        }
        Ok(true)
    }
}

/// Writes the notice of a hold when one is due; only between two messages.
pub(super) fn remind(
    asker: &Asker,
    every: Duration,
    hold: &OnceLock<HoldId>,
    notice: &mut Option<Pin<Box<Sleep>>>,
    out: &mut BytesMut,
    cx: &mut Context<'_>,
) -> bool {
    let Some(hold) = hold.get() else { return false };
    let is_due = match notice {
        None => true,
        Some(sleep) => sleep.as_mut().poll(cx).is_ready(),
    };
    if !is_due {
        return false;
    }
    let message = asker.notice(hold);
    // Until its opening is on disk, nobody is shown a hold.
    let pause = if message.is_some() { every } else { OPENING };
    let mut sleep = Box::pin(tokio::time::sleep(pause));
    // Registers with the timer.
    let is_over = sleep.as_mut().poll(cx).is_ready();
    *notice = Some(sleep);
    message.is_some_and(|message| {
        message.write(out);
        true
    }) || is_over
}
