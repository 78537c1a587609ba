//! The message at the front: asked about, waited for, then sent or answered in the server's place.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::super::asking::Named;
use super::super::ending;
use super::super::machine::{Denial, NO_PORTAL, Subject};
use super::super::notice::Notice;
use super::running::Running;
use super::{Session, SessionError};
use crate::gate::{Admission, Ended, Finished, Permit};
use crate::id::HoldId;
use crate::wire::postgres::{backend, frontend};

/// How long it takes about to open a hold durably.
const OPENING: Duration = Duration::from_millis(10);

type Deciding = Pin<Box<dyn Future<Output = Admission> + Send>>;

/// The message at the front of what the client sent, while people or the disk are waited for.
pub(super) struct Waiting {
    pub(super) deciding: Deciding,
    pub(super) named: Named,
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
        let named = self.asker.name(&subject, &message, &self.settings, &self.machine);
        let ruling = self.asker.judge(&named);
        if !ruling.is_unmatched_allow() && !self.has_looked && self.asker.may_tell_more(&named) {
            self.looking = Some(self.asker.names.look());
            return Ok(());
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
        self.flush_upstream();
        let (deciding, hold) = self.asker.admit(&named, &self.settings, self.machine.transaction(), ruling);
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
        self.waiting = Some(Waiting { deciding, named, hold, notice: None });
    }

    pub(super) fn decide(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
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
    pub(super) fn notify(&mut self, cx: &mut Context<'_>) -> bool {
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
    pub(super) fn go(&mut self, permit: Permit, named: Named) -> Result<(), SessionError> {
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
}
