//! What waits for the writer: a bounded queue, with waiting callers and ones in no hurry.
//!
//! INVARIANT (order): records get their moment and their place in the queue under one lock, so that
//! `ts` never runs backwards along `seq` unless the clock does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::{Durable, JournalError, Refused};
use crate::audit::record::{Kind, Record};
use crate::time::{Clock, Timestamp};

/// Most records, and most bytes of them, that wait for the writer.
const LIMIT_RECORDS: usize = 65_536;
const LIMIT_BYTES: usize = 64 << 20;

/// How long records that nobody waits for may wait for company. They are not promised before the
/// action they are about; a sync for each would cost more than everything else such an action costs.
const LINGER: Duration = Duration::from_millis(10);

/// Enough bytes to write without lingering.
const BATCH_BYTES: usize = 256 << 10;

/// One record on its way to the disk.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) record: Record,
    pub(super) at: Timestamp,
    /// Who waits for it to be durable.
    pub(super) waiter: Option<Waiter>,
}

pub(super) type Waiter = oneshot::Sender<Result<Durable, JournalError>>;

/// What the writer is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Write what was taken, which may be nothing when the deadline has passed.
    Write,
    /// Write what was taken and end.
    Close,
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Wakes the writer.
    wake: Condvar,
    /// Wakes callers that wait for room.
    room: Notify,
    /// A record about something new would be taken at once. Set under the lock of `state`, for those
    /// who ask before they begin.
    is_open: AtomicBool,
    clock: Clock,
}

#[derive(Debug, Default)]
struct State {
    items: Vec<Item>,
    bytes: usize,
    /// Somebody waits for one of the items.
    hurried: bool,
    /// The writer sleeps.
    asleep: bool,
    closing: bool,
    /// Only outcomes of what already runs are taken.
    disk_full: bool,
    /// Why nothing is taken any more.
    ended: Option<JournalError>,
}

impl Queue {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            room: Notify::new(),
            is_open: AtomicBool::new(true),
            clock,
        }
    }

    /// Queues a record that nobody waits for.
    pub(super) fn push(&self, record: Record) -> Result<(), Refused> {
        let state = self.lock();
        let full = || if state.is_full() { Err(JournalError::Behind) } else { Ok(()) };
        match state.admits(is_final(&record)).and_then(|()| full()) {
            Ok(()) => {
                self.add(state, record, None);
                Ok(())
            }
            Err(error) => Err(Refused { error, record }),
        }
    }

    /// Returns once a record about something new would be taken at once.
    pub(super) async fn ready(&self) -> Result<(), JournalError> {
        if self.is_open.load(Ordering::Acquire) {
            return Ok(());
        }
        self.with_room(|state| state.admits(false), |_| ()).await
    }

    /// Queues a record when there is room; `waiter` hears of its fate from then on.
    pub(super) async fn push_hurried(&self, record: Record, waiter: Waiter) -> Result<(), JournalError> {
        let is_final = is_final(&record);
        let add = |mut state: MutexGuard<'_, State>| {
            state.hurried = true;
            self.add(state, record, Some(waiter));
        };
        self.with_room(|state| state.admits(is_final), add).await
    }

    /// Waits for room as long as `admits` says that there is hope, and uses it.
    async fn with_room(
        &self,
        admits: impl Fn(&State) -> Result<(), JournalError>,
        act: impl FnOnce(MutexGuard<'_, State>),
    ) -> Result<(), JournalError> {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // Registers before the look at the state, so that room made in between is not missed.
            room.as_mut().enable();
            {
                let state = self.lock();
                admits(&state)?;
                if !state.is_full() {
                    act(state);
                    return Ok(());
                }
            }
            room.await;
        }
    }

    /// Asks the writer to end once everything queued is written.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closing = true;
        state.ended.get_or_insert(JournalError::Closed);
        self.is_open.store(false, Ordering::Release);
        drop(state);
        self.wake.notify_one();
    }

    /// From now on, outcomes only.
    pub(super) fn set_disk_full(&self) {
        let mut state = self.lock();
        state.disk_full = true;
        self.is_open.store(false, Ordering::Release);
    }

    /// Refuses everything from now on, and everything that waits.
    pub(super) fn fail(&self, error: &JournalError) {
        let mut state = self.lock();
        state.ended = Some(error.clone());
        let items = std::mem::take(&mut state.items);
        state.bytes = 0;
        self.is_open.store(false, Ordering::Release);
        drop(state);
        for waiter in items.into_iter().filter_map(|item| item.waiter) {
            // A caller that has gone does not hear of it.
            drop(waiter.send(Err(error.clone())));
        }
        self.room.notify_waiters();
    }

    /// Why nothing is taken any more.
    pub(super) fn ended(&self) -> Option<JournalError> {
        self.lock().ended.clone()
    }

    /// The writer's side: sleeps until there is something to write, somebody closes or the deadline
    /// has passed, and swaps what waits into `taken`, which must be empty.
    pub(super) fn take(&self, taken: &mut Vec<Item>, deadline: Option<Instant>) -> Turn {
        let (mut linger, mut has_yielded) = (None, false);
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if !state.items.is_empty() {
                let end = *linger.get_or_insert(now + LINGER);
                if state.hurried && !has_yielded {
                    // A sync costs more than all else here: on a busy core, those that are about to queue a
                    // record go first and share it. On an idle one this returns at once.
                    drop(state);
                    std::thread::yield_now();
                    has_yielded = true;
                    state = self.lock();
                    continue;
                }
                if state.hurried || state.closing || state.bytes >= BATCH_BYTES || now >= end {
                    break;
                }
            } else if state.closing || deadline.is_some_and(|deadline| now >= deadline) {
                break;
            }
            state.asleep = true;
            state = match linger.or(deadline) {
                Some(until) => {
                    let wait = until.saturating_duration_since(now);
                    self.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.asleep = false;
        }
        std::mem::swap(&mut state.items, taken);
        (state.bytes, state.hurried) = (0, false);
        self.is_open.store(state.admits(false).is_ok(), Ordering::Release);
        let turn = if state.closing { Turn::Close } else { Turn::Write };
        drop(state);
        self.room.notify_waiters();
        turn
    }

    fn add(&self, mut state: MutexGuard<'_, State>, record: Record, waiter: Option<Waiter>) {
        let first = state.items.is_empty();
        state.bytes += record.weight();
        let item = Item { record, at: self.clock.now(), waiter };
        state.items.push(item);
        if state.is_full() {
            self.is_open.store(false, Ordering::Release);
        }
        // The writer sleeps for a first record, lingers over unhurried ones, or works and looks later.
        let wake = state.asleep && (first || state.hurried || state.bytes >= BATCH_BYTES);
        // Woken once: it may take a while to get a core.
        state.asleep &= !wake;
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that could panic, which are none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a record is taken once there is room; `is_final` as [`is_final`] says.
    fn admits(&self, is_final: bool) -> Result<(), JournalError> {
        match &self.ended {
            Some(error) => Err(error.clone()),
            None if self.disk_full && !is_final => Err(JournalError::DiskFull),
            None => Ok(()),
        }
    }

    fn is_full(&self) -> bool {
        self.items.len() >= LIMIT_RECORDS || self.bytes >= LIMIT_BYTES
    }
}

/// True for what ends an action that was sent: it is recorded as long as anything can be.
fn is_final(record: &Record) -> bool {
    is_outcome(record.kind()) || (record.kind() == Kind::ActionPassed && record.has("outcome"))
}

/// True for the records that end a forward.
pub(super) fn is_outcome(kind: Kind) -> bool {
    matches!(kind, Kind::ActionOutcome | Kind::ActionOutcomeUnknown)
}
