//! What was sent upstream: how it ends, and that its outcome is on disk before its last word is said.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::asking::Named;
use super::super::machine::{Event, Run};
use super::metering::Metering;
use super::{Session, SessionError};
use crate::action::{Access, Action, Trait};
use crate::classify::postgres::Effect;
use crate::gate::{Ended, Finished, OVERDUE_AFTER, Outcome, Receipt};
use crate::wire::postgres::backend::{Frame, Transaction, kind};

pub(super) type Completing = Pin<Box<dyn Future<Output = Result<(), Ended>> + Send>>;

/// Work that was sent to the upstream.
pub(super) struct Running {
    pub(super) run: Run,
    pub(super) receipt: Receipt,
    pub(super) is_matched: bool,
    pub(super) since: Instant,
    pub(super) is_told_overdue: bool,
    /// Statements of it that are not done.
    pub(super) left: usize,
    pub(super) effects: VecDeque<Effect>,
    pub(super) named: Named,
    pub(super) finished: Finished,
    /// Counts its answer, where rules limit that.
    pub(super) metering: Option<Box<Metering>>,
    /// The permits by which its answer went on past limits.
    pub(super) rests: Vec<Receipt>,
}

impl Running {
    /// Whether it surely changes nothing.
    pub(super) fn is_harmless(&self) -> bool {
        let reads =
            |it: &Action| matches!(it.access, Access::List | Access::Read) && !it.traits.contains(Trait::Unknown);
        self.named.actions.iter().all(reads)
    }

    /// Its outcome must be on disk before its last word is said.
    fn is_awaited(&self) -> bool {
        self.is_matched || !self.rests.is_empty()
    }
}

impl Running {
    pub(super) fn new(run: Run, receipt: Receipt, is_matched: bool, named: Named) -> Self {
        Self {
            run,
            receipt,
            is_matched,
            since: Instant::now(),
            is_told_overdue: is_matched,
            left: named.statements(),
            effects: named.effects().collect(),
            named,
            finished: Finished::default(),
            metering: None,
            rests: Vec::new(),
        }
    }
}

impl<C, U> Session<C, U>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    /// Brings what a message of the upstream's says to what was running.
    pub(super) fn heard(&mut self, raw: &[u8], kind: u8) {
        let events: SmallVec<[Event; 4]> = self.machine.take_events().collect();
        for event in events {
            match event {
                Event::Done(run) | Event::Failed(run) => {
                    let Some(running) = self.running.iter_mut().find(|it| it.run == run) else { continue };
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
                        running.finished.tag = tag;
                        if let Some(Effect::Declare { cursor, .. } | Effect::Close(Some(cursor))) = &effect {
                            self.suspended.remove(cursor);
                        }
                        if let Some(effect) = effect {
                            self.asker.apply(effect, &running.named, &mut self.settings, &mut self.machine);
                        }
                    }
                    let is_last = self.running.iter().any(|it| it.run == run && it.left == 0 && it.is_awaited());
                    if is_last {
                        self.end_run(run);
                    }
                }
                Event::Skipped(run) => {
                    if let Some(running) = self.running.iter_mut().find(|it| it.run == run) {
                        running.effects.clear();
                    }
                }
                Event::Unsaid => drop(self.denials.pop_front()),
                Event::Over(run) => self.end_run(run),
                Event::Aborted => self.settings.fail(),
                Event::Ready => {
                    self.has_written = false;
                    let is_open = self.machine.transaction() != Transaction::None;
                    self.settings.ready(is_open);
                    if !is_open {
                        self.asker.end_transaction(&mut self.settings);
                        self.asker.names.outside();
                    }
                }
            }
        }
    }

    pub(super) fn end_run(&mut self, run: Run) {
        let Some(index) = self.running.iter().position(|it| it.run == run) else { return };
        let Some(mut running) = self.running.remove(index) else { return };
        self.has_written |= !running.is_harmless();
        if let Some(metering) = running.metering.take() {
            self.put_aside(*metering);
        }
        running.finished.duration = running.since.elapsed();
        let outcome = Outcome::Finished(running.finished);
        for rest in running.rests {
            self.complete_with(rest, outcome.clone());
        }
        if running.is_matched {
            self.complete_with(running.receipt, outcome);
        } else {
            self.asker.passed(running.receipt, &outcome);
        }
    }

    /// Records a matched request's outcome, after those that are on their way to the disk.
    pub(super) fn complete_with(&mut self, receipt: Receipt, outcome: Outcome) {
        let next = self.asker.complete(receipt, outcome);
        self.completing = Some(match self.completing.take() {
            None => next,
            Some(before) => Box::pin(async move {
                let (before, next) = (before.await, next.await);
                before.and(next)
            }),
        });
    }

    pub(super) fn complete(&mut self, cx: &mut Context<'_>) -> Result<bool, SessionError> {
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

    pub(super) fn tell_overdue(&mut self, cx: &mut Context<'_>) {
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
