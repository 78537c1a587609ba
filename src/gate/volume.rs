//! How much of answers goes out, against the limits of rules: per answer, and per agent over time.
//!
//! A plane carries an answer in slices. For each it reserves what may pass, passes at most that, and
//! settles what did: so no count is exceeded, and nothing is shared for each row. Windows live in
//! memory; a restart begins them anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;

use super::keeper::Gate;
use crate::action::{Action, Agent, Context};
use crate::id::{AgentId, RuleId};
use crate::rules::{Count, Limit, Limits, Ruling, Subject};

/// Parts of a window: a count is forgotten with its part, so at most one part late.
const PARTS: usize = 60;

/// What one agent's answers came to lately.
#[derive(Debug)]
pub(crate) struct Window(Mutex<Ring>);

#[derive(Debug)]
struct Ring {
    part_ms: u64,
    parts: [Count; PARTS],
    /// Number of the newest part since the process began.
    newest: u64,
    sum: Count,
    /// What carriers may be passing at this moment.
    reserved: Count,
}

impl Window {
    fn new(length: Duration, now: Duration) -> Self {
        let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let part_ms = length.div_ceil(PARTS as u64).max(1);
        let newest = millis(now) / part_ms;
        let (parts, sum, reserved) = ([Count::default(); PARTS], Count::default(), Count::default());
        Self(Mutex::new(Ring { part_ms, parts, newest, sum, reserved }))
    }

    fn ring(&self, now: Duration) -> MutexGuard<'_, Ring> {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.advance(millis(now));
        ring
    }

    fn left(&self, limit: Count, now: Duration) -> Count {
        self.ring(now).left(limit)
    }

    fn reserve(&self, limit: Count, wanted: Count, now: Duration) -> Count {
        let mut ring = self.ring(now);
        let granted = wanted.least(ring.left(limit));
        ring.reserved = ring.reserved.plus(granted);
        granted
    }

    fn settle(&self, reserved: Count, used: Count, now: Duration) {
        let mut ring = self.ring(now);
        ring.reserved = ring.reserved.minus(reserved);
        ring.sum = ring.sum.plus(used);
        let at = ring.at(ring.newest);
        if let Some(part) = ring.parts.get_mut(at) {
            *part = part.plus(used);
        }
    }

    fn clear(&self, now: Duration) {
        let mut ring = self.ring(now);
        ring.parts = [Count::default(); PARTS];
        ring.sum = Count::default();
    }
}

impl Ring {
    fn at(&self, number: u64) -> usize {
        usize::try_from(number % PARTS as u64).unwrap_or_default()
    }

    fn left(&self, limit: Count) -> Count {
        limit.minus(self.sum).minus(self.reserved)
    }

    /// Forgets the parts that are too old. A clock that was set back forgets nothing.
    fn advance(&mut self, now_ms: u64) {
        let newest = now_ms / self.part_ms;
        if newest <= self.newest {
            return;
        }
        for number in (self.newest + 1..=newest).take(PARTS) {
            let at = self.at(number);
            if let Some(part) = self.parts.get_mut(at) {
                *part = Count::default();
            }
        }
        self.newest = newest;
        self.sum = self.parts.iter().fold(Count::default(), |sum, part| sum.plus(*part));
    }
}

/// Of the process: what counts is how long ago it was, whatever the clock on the wall does.
fn millis(uptime: Duration) -> u64 {
    u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX)
}

/// The windows of all agents: one for each agent and rule that counted something.
#[derive(Debug, Default)]
pub(super) struct Windows(Mutex<HashMap<(AgentId, RuleId, Duration), Arc<Window>>>);

impl Windows {
    fn of(&self, agent: &AgentId, rule: &RuleId, length: Duration, now: Duration) -> Arc<Window> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (agent.clone(), rule.clone(), length);
        Arc::clone(windows.entry(key).or_insert_with(|| Arc::new(Window::new(length, now))))
    }

    /// Drops the windows of rules that are gone, once nothing counts in them.
    pub(super) fn retain(&self, stands: impl Fn(&RuleId) -> bool) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.retain(|(_, rule, _), window| stands(rule) || Arc::strong_count(window) > 1);
    }
}

/// One limit that an answer meets.
#[derive(Clone, Debug)]
struct Measured {
    limit: Arc<Limit>,
    window: Option<Arc<Window>>,
    /// People have let this answer go on, whatever it comes to.
    is_lifted: bool,
    reserved: Count,
}

/// Counts one answer against its limits.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    limits: SmallVec<[Measured; 2]>,
    passed: Count,
}

/// What an answer that goes on later came to: a cursor between two FETCHes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspended {
    passed: Count,
    lifted: Vec<RuleId>,
}

impl Meter {
    pub(crate) fn is_unlimited(&self) -> bool {
        self.limits.is_empty()
    }

    /// What of it has passed.
    pub(crate) fn passed(&self) -> Count {
        self.passed
    }

    /// What may pass now, at most `wanted`. To be settled before anything else is waited for.
    pub(crate) fn reserve(&mut self, wanted: Count, now: Duration) -> Count {
        let mut granted = wanted;
        for it in self.limits.iter_mut().filter(|it| !it.is_lifted) {
            let limit = it.limit.volume.limit();
            match &it.window {
                Some(window) => {
                    it.reserved = window.reserve(limit, granted, now);
                    granted = it.reserved;
                }
                None => granted = granted.least(limit.minus(self.passed)),
            }
        }
        granted
    }

    /// What did pass of it.
    pub(crate) fn settle(&mut self, used: Count, now: Duration) {
        self.passed = self.passed.plus(used);
        for it in &mut self.limits {
            let reserved = std::mem::take(&mut it.reserved);
            if let Some(window) = &it.window
                && (used != Count::default() || reserved != Count::default())
            {
                window.settle(reserved, used, now);
            }
        }
    }

    /// The limits that do not let `next` pass.
    pub(crate) fn crossed_by(&self, next: Count, now: Duration) -> Limits {
        let is_crossed = |it: &&Measured| {
            let limit = it.limit.volume.limit();
            let left = it.window.as_ref().map_or_else(|| limit.minus(self.passed), |window| window.left(limit, now));
            !it.is_lifted && !next.is_within(left)
        };
        self.limits.iter().filter(is_crossed).map(|it| Arc::clone(&it.limit)).collect()
    }

    /// People let this answer go on to its end. A window begins anew with what comes from now on.
    pub(crate) fn lift(&mut self, rules: &[RuleId], now: Duration) {
        for it in self.limits.iter_mut().filter(|it| rules.contains(&it.limit.rule)) {
            it.is_lifted = true;
            if let Some(window) = &it.window {
                window.clear(now);
            }
        }
    }

    /// People approved the request before it ran: what it returns is counted and not stopped.
    pub(crate) fn lift_all(&mut self) {
        self.limits.iter_mut().for_each(|it| it.is_lifted = true);
    }

    pub(crate) fn suspend(&self) -> Suspended {
        let lifted = self.limits.iter().filter(|it| it.is_lifted).map(|it| it.limit.rule.clone());
        Suspended { passed: self.passed, lifted: lifted.collect() }
    }

    /// Goes on where an answer was suspended; of several, where the most has passed.
    pub(crate) fn resume(&mut self, from: &[Suspended]) {
        for it in from {
            self.passed =
                Count { rows: self.passed.rows.max(it.passed.rows), bytes: self.passed.bytes.max(it.passed.bytes) };
        }
        if let [only] = from {
            for it in self.limits.iter_mut().filter(|it| only.lifted.contains(&it.limit.rule)) {
                it.is_lifted = true;
            }
        }
    }
}

impl Drop for Meter {
    /// Gives back what was reserved and not settled: its carrier ended in between.
    fn drop(&mut self) {
        for it in &mut self.limits {
            let reserved = std::mem::take(&mut it.reserved);
            if let Some(Ok(mut ring)) = it.window.as_ref().map(|window| window.0.lock()) {
                ring.reserved = ring.reserved.minus(reserved);
            }
        }
    }
}

impl Gate {
    /// Whether any rule is about volume: without one nothing needs to be counted.
    pub(crate) fn has_volumes(&self) -> bool {
        self.rules.load().has_volumes()
    }

    /// Counts the answer to a request that is about to run.
    pub(crate) fn meter(&self, agent: &Agent, context: &Context, actions: &[Action]) -> Meter {
        let limits = self.rules.load().limits(&Subject { agent, context, now: self.clock.now() }, actions);
        let now = self.uptime();
        let measured = |limit: Arc<Limit>| {
            let window = limit.volume.window.map(|length| self.windows.of(&agent.id, &limit.rule, length, now));
            Measured { limit, window, is_lifted: false, reserved: Count::default() }
        };
        Meter { limits: limits.into_iter().map(measured).collect(), passed: Count::default() }
    }

    /// The time by which answers are counted.
    pub(crate) fn uptime(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The ruling on an answer that crossed the limits of these rules; `None` when they stand no more.
    pub(crate) fn crossed(
        &self,
        agent: &Agent,
        context: &Context,
        actions: &[Action],
        rules: &[RuleId],
    ) -> Option<Ruling> {
        self.rules.load().crossed(&Subject { agent, context, now: self.clock.now() }, actions, rules)
    }
}

#[cfg(test)]
mod tests;
