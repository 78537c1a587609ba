//! An answer on its way: counted against the limits of rules, paused where it crosses one, and dropped
//! where nobody lets it go on.
//!
//! A dropped answer ends as if the server had failed it: the upstream is cancelled, and its error is
//! replaced. A server that was done before it heard of that is made to fail an open transaction by an
//! Execute of [`NO_PORTAL`]; one that has committed a write cannot be, and the session ends.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::super::asking::{Deciding, Named};
use super::super::ending;
use super::super::machine::{NO_PORTAL, Run, Turn};
use super::super::narrowing::Standing;
use super::running::Running;
use super::{Session, SessionError};
use crate::digest::Digest;
use crate::gate::{Admission, Ended, Meter, Suspended};
use crate::id::{HoldId, RuleId};
use crate::rules::Count;
use crate::wire::postgres::backend::{Transaction, kind};
use crate::wire::postgres::tally;
use crate::wire::postgres::{HEADER_LEN, frontend};

/// Cursors of a session that are counted one by one; those beyond share one count.
const CURSORS_LIMIT: usize = 1000;

/// The count of an answer, and what is shown when it crosses a limit.
pub(super) struct Metering {
    meter: Meter,
    /// The cursors it reads on from.
    cursors: Vec<String>,
}

/// An answer that waits between two messages for a decision.
pub(super) struct Pause {
    run: Run,
    deciding: Deciding,
    hold: Arc<OnceLock<HoldId>>,
    notice: Option<Pin<Box<Sleep>>>,
    rules: Vec<RuleId>,
    digest: Digest,
    passed: Count,
}

/// An answer that is dropped.
pub(super) struct Refusal {
    ended: Ended,
    rules: Vec<RuleId>,
    passed: Count,
    /// Nothing that runs with it changes anything, so that its commit says nothing.
    is_harmless: bool,
    /// The server was given something to fail.
    is_failing: bool,
}

impl<C, U> Session<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Begins to count what is about to run. What people approved before it ran is counted and not stopped.
    pub(super) fn meter(&self, named: &Named, is_approved: bool) -> Option<Box<Metering>> {
        let mut meter = self.asker.meter(named);
        if meter.is_unlimited() {
            return None;
        }
        let cursors = named.fetched();
        let from: Vec<Suspended> =
            cursors.iter().filter_map(|name| self.suspended.get(self.cursor_key(name))).cloned().collect();
        meter.resume(&from);
        if is_approved {
            meter.lift_all();
        }
        Some(Box::new(Metering { meter, cursors }))
    }

    fn cursor_key<'a>(&self, name: &'a str) -> &'a str {
        if self.suspended.len() < CURSORS_LIMIT || self.suspended.contains_key(name) { name } else { "" }
    }

    /// Keeps what is counted on later, when work is over.
    pub(super) fn put_aside(&mut self, metering: Metering) {
        let Metering { meter, cursors } = metering;
        for name in cursors {
            let key = self.cursor_key(&name).to_owned();
            self.suspended.insert(key, meter.suspend());
        }
        self.last_meter = Some(meter);
    }

    /// Sets how far the tally may count for what is answered now: at least to `next` when that may pass,
    /// and no further than the `ahead` bytes that were read can hold. Gives the limit.
    pub(super) fn allot(&mut self, next: Count, ahead: usize) -> Option<Count> {
        self.counting = self.machine.current();
        let is_refused = self.refusal.is_some();
        let metering = self.counting.and_then(|run| metering(self.running.iter_mut(), run));
        let limit = metering.filter(|_| !is_refused).map(|metering| {
            let slice = Count { rows: (ahead / HEADER_LEN) as u64 + 1, bytes: ahead as u64 };
            let wanted = Count { rows: slice.rows.max(next.rows), bytes: slice.bytes.max(next.bytes) };
            metering.meter.reserve(wanted, self.asker.uptime())
        });
        self.tally.restart(limit.map(|it| tally::Count { rows: it.rows, bytes: it.bytes }));
        limit
    }

    /// Books what the tally counted to the work it was counted for.
    pub(super) fn account(&mut self) {
        let tally::Count { rows, bytes } = self.tally.count();
        self.tally.restart(None);
        if self.refusal.is_some() {
            return;
        }
        let counted = Count { rows, bytes };
        let running = self.counting.and_then(|run| self.running.iter_mut().find(|it| it.run == run));
        let meter = match running {
            Some(running) => {
                running.finished.rows += rows;
                running.finished.bytes += bytes;
                running.metering.as_mut().map(|metering| &mut metering.meter)
            }
            // What comes between statements belongs to the last one: a notification, a parameter.
            None if counted == Count::default() => None,
            None => self.last_meter.as_mut(),
        };
        if let Some(meter) = meter {
            meter.settle(counted, self.asker.uptime());
        }
    }

    /// The next message would cross a limit: asks whether the answer may go on.
    pub(super) fn cross(&mut self, next: Count) {
        let now = self.asker.uptime();
        let standing = Standing {
            transaction: self.machine.transaction(),
            is_in_transaction: self.machine.is_in_transaction(),
            limit: None,
        };
        let Some(run) = self.counting else { return };
        let Some(running) = self.running.iter_mut().find(|it| it.run == run) else { return };
        let Running { named, metering: Some(metering), .. } = running else { return };
        let limits = metering.meter.crossed_by(next, now);
        if limits.is_empty() {
            // Another session gave back what it had reserved.
            return;
        }
        let rules: Vec<RuleId> = limits.iter().map(|limit| limit.rule.clone()).collect();
        let passed = metering.meter.passed();
        if self.client_left {
            self.refuse(ending::cancelled(None), rules, passed);
            return;
        }
        match self.asker.admit_rest(named, &self.settings, &standing, &limits, passed) {
            Some(rest) => {
                let (deciding, hold, digest) = (rest.deciding, rest.hold, rest.digest);
                self.pause = Some(Pause { run, deciding, hold, notice: None, rules, digest, passed });
            }
            // The rules changed, and none of these stands any more.
            None => metering.meter.lift(&rules, now),
        }
    }

    pub(super) fn decide_rest(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
        let Some(pause) = &mut self.pause else { return Ok(false) };
        let Poll::Ready(admission) = pause.deciding.as_mut().poll(cx) else {
            let Pause { hold, notice, .. } = pause;
            let every = self.notice_every;
            return Ok(super::waiting::remind(&self.asker, every, hold, notice, &mut self.to_client, cx));
        };
        let Some(pause) = self.pause.take() else { return Ok(false) };
        let ended = match admission {
            Admission::Permitted(permit) => {
                if !self.asker.is_welcome() {
                    return Err(SessionError::Revoked);
                }
                match permit.spend(pause.digest) {
                    Ok(receipt) => {
                        let now = self.asker.uptime();
                        if let Some(running) = self.running.iter_mut().find(|it| it.run == pause.run) {
                            running.rests.push(receipt);
                            if let Some(metering) = &mut running.metering {
                                metering.meter.lift(&pause.rules, now);
                            }
                        }
                        return Ok(true);
                    }
                    Err(_) => ending::drifted(),
                }
            }
            Admission::Ended(ended) => ended,
            Admission::Answered(_) => ending::answer_lost(),
        };
        self.refuse(ended, pause.rules, pause.passed);
        Ok(true)
    }

    /// The client does not want the rest of a paused answer. False where none is paused.
    pub(super) fn give_up_rest(&mut self) -> bool {
        let Some(pause) = self.pause.take() else { return false };
        drop(pause.deciding);
        let hold = pause.hold.get();
        if let Some(hold) = hold {
            self.asker.withdraw(hold);
        }
        self.refuse(ending::cancelled(hold), pause.rules, pause.passed);
        true
    }

    /// Drops the rest of the answer at the front, and tells the upstream not to go on with it.
    fn refuse(&mut self, ended: Ended, rules: Vec<RuleId>, passed: Count) {
        let is_harmless = !self.has_written && self.running.iter().all(Running::is_harmless);
        self.refusal = Some(Refusal { ended, rules, passed, is_harmless, is_failing: false });
        if self.cancelling.is_none() {
            self.cancelling = Some((self.cancel)());
        }
    }

    /// A message of an answer that is dropped.
    pub(super) fn drop_message(&mut self, turn: Turn, kind: u8, raw: &[u8]) -> Result<(), SessionError> {
        self.heard(raw, kind);
        match kind {
            // Once for each command, and a client that misses it reads what follows wrongly.
            kind::PARAMETER_STATUS => self.put(raw),
            // The server's last words.
            kind::ERROR_RESPONSE if self.has_last_words => self.put(raw),
            kind::ERROR_RESPONSE => {
                let is_failing = self.refusal.as_ref().is_some_and(|it| it.is_failing);
                if turn == Turn::Deny && !is_failing {
                    drop(self.denials.pop_front());
                }
                self.say_refused();
            }
            kind::READY_FOR_QUERY => return self.ready_refused(raw),
            // It was done before it heard that nobody wants it, and nothing more is asked of it yet.
            _ if self.machine.is_idle() => self.fail_upstream(false),
            _ => {}
        }
        Ok(())
    }

    /// The server is ready without having failed what was refused.
    fn ready_refused(&mut self, raw: &[u8]) -> Result<(), SessionError> {
        let Some(refusal) = &self.refusal else { return Ok(()) };
        match self.machine.transaction() {
            Transaction::Open if self.machine.is_idle() => self.fail_upstream(true),
            Transaction::Open => return Err(self.exceeded()),
            Transaction::None if !refusal.is_harmless => return Err(self.exceeded()),
            Transaction::None | Transaction::Failed => {
                self.say_refused();
                self.put(raw);
            }
        }
        Ok(())
    }

    /// The answer to a Sync of countersign's own came while an answer before it was dropped: its client
    /// has sent none, and is to skip up to its own.
    pub(super) fn own_ready_refused(&mut self) -> Result<(), SessionError> {
        let Some(refusal) = &self.refusal else { return Ok(()) };
        let has_committed = self.machine.transaction() == Transaction::None && !refusal.is_harmless;
        if has_committed || !self.machine.is_idle() {
            return Err(self.exceeded());
        }
        self.fail_upstream(false);
        Ok(())
    }

    fn exceeded(&self) -> SessionError {
        let why = self.refusal.as_ref().map(|it| ending::stopped(&it.ended, &it.rules, it.passed).message);
        SessionError::Exceeded(why.unwrap_or_default())
    }

    /// Has the server fail where it stands, as after any error.
    fn fail_upstream(&mut self, has_sync: bool) {
        self.machine.fail(has_sync);
        frontend::execute(&mut self.to_upstream, NO_PORTAL, 0);
        if has_sync {
            frontend::sync(&mut self.to_upstream);
        }
        self.has_flushed = has_sync;
        self.flush_upstream();
        if let Some(refusal) = &mut self.refusal {
            refusal.is_failing = true;
        }
    }

    /// Says the error that stands in place of the server's; what follows passes again.
    pub(super) fn say_refused(&mut self) {
        let Some(refusal) = self.refusal.take() else { return };
        let mut message = BytesMut::new();
        ending::stopped(&refusal.ended, &refusal.rules, refusal.passed).write(&mut message);
        self.put(&message);
    }

    /// Says something to the client, after an outcome that is on its way to the disk.
    fn put(&mut self, bytes: &[u8]) {
        if self.completing.is_none() {
            self.to_client.extend_from_slice(bytes);
            return;
        }
        let mut last = BytesMut::from(&*self.last_word);
        last.extend_from_slice(bytes);
        self.last_word = last.freeze();
    }

    /// Nothing more is sent upstream before it is known how the answer at the front ends.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some() || self.refusal.is_some()
    }
}

fn metering<'a>(mut running: impl Iterator<Item = &'a mut Running>, run: Run) -> Option<&'a mut Metering> {
    running.find(|it| it.run == run)?.metering.as_deref_mut()
}
