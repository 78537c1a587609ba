//! Signatures of matched requests that were forwarded: none of them runs twice.
//!
//! INVARIANT (nothing forgotten is accepted): a signature is remembered until it has expired by the
//! clock and by time that passed, so that a clock that jumps ahead for a while loses nothing. Of what
//! was forgotten the latest expiry is kept, and nothing that expires by then runs any more: a clock that
//! jumps back cannot bring a forgotten signature to life. Only of a signature whose request waits for its
//! decision is it known whether it was spent, however long that takes.
//!
//! Signatures in headers live for minutes. One in a presigned URL may live for a week; of those each
//! agent may have a limited number, and then has to use others.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::digest::Digest;
use crate::id::AgentId;
use crate::journal::Recovered;
use crate::time::{Clock, Timestamp};

/// What must not run again.
#[derive(Debug)]
pub(super) struct Spent {
    clock: Clock,
    limits: Limits,
    seen: Mutex<Seen>,
}

/// Signatures that last which may be spent and unexpired at once; about 40 bytes each.
#[derive(Clone, Copy, Debug)]
struct Limits {
    of_agent: usize,
    of_all: usize,
}

#[derive(Debug)]
struct Seen {
    /// By the minute in which they expire.
    minutes: BTreeMap<i64, Minute>,
    /// Signatures that last, by agent, and of all agents.
    lasting: HashMap<Spender, usize>,
    lasting_total: usize,
    /// Nothing that expires by then is known to be unspent, but for what is awaited.
    forgotten_until: Timestamp,
    /// The signatures of requests that wait for their decision; as many as connections.
    awaited: HashMap<Fingerprint, Awaited>,
}

#[derive(Debug)]
struct Awaited {
    /// Who presents the same signature again does not wait at the same hold, but may at another.
    requests: usize,
    is_spent: bool,
}

/// The signatures that expire within one minute.
#[derive(Debug, Default)]
struct Minute {
    signatures: HashSet<Fingerprint>,
    lasting: HashMap<Spender, usize>,
    /// Reading of the monotonic clock before which this is not dropped.
    kept_until: Duration,
}

/// Half of a signature's SHA-256. Nobody finds another signature that has the same: and if somebody
/// did, a request would be refused that could run, never the other way round.
type Fingerprint = [u8; 16];

/// An agent; `None` for all that an earlier process knew.
type Spender = Option<AgentId>;

impl Spent {
    /// Begins with what an earlier process spent. `of_agent` bounds what one agent may spend of what lasts.
    pub(super) fn recovered(clock: Clock, recovered: &Recovered, of_agent: usize) -> Self {
        let forgotten_until = recovered.forgotten_until;
        let seen = Seen {
            minutes: BTreeMap::new(),
            lasting: HashMap::new(),
            lasting_total: 0,
            forgotten_until,
            awaited: HashMap::new(),
        };
        let limits = Limits { of_agent, of_all: of_agent.saturating_mul(20) };
        let spent = Self { clock, limits, seen: Mutex::new(seen) };
        for (signature, expires) in &recovered.signatures {
            spent.put(None, *signature, *expires);
        }
        spent
    }

    pub(super) fn contains(&self, signature: Digest, expires: Timestamp) -> bool {
        self.seen().contains(signature, expires)
    }

    /// A request begins to wait for its decision, which may come when its signature has long expired and
    /// would be forgotten. To be ended with [`Spent::stop_awaiting`].
    pub(super) fn begin_awaiting(&self, signature: Digest, expires: Timestamp) {
        let mut seen = self.seen();
        let is_spent = seen.contains(signature, expires);
        seen.awaited.entry(fingerprint(signature)).or_insert(Awaited { requests: 0, is_spent }).requests += 1;
    }

    pub(super) fn stop_awaiting(&self, signature: Digest) {
        if let Entry::Occupied(mut awaited) = self.seen().awaited.entry(fingerprint(signature)) {
            awaited.get_mut().requests -= 1;
            if awaited.get().requests == 0 {
                awaited.remove();
            }
        }
    }

    /// Marks a signature as run. False when it was already.
    pub(super) fn spend(&self, agent: &AgentId, signature: Digest, expires: Timestamp) -> bool {
        self.put(Some(agent.clone()), signature, expires)
    }

    /// False when the agent has used up its signatures that last as long as this one.
    pub(super) fn has_room(&self, agent: &AgentId, expires: Timestamp) -> bool {
        if !is_lasting(self.clock.now(), expires) {
            return true;
        }
        let seen = self.seen();
        let own = seen.lasting.get(&Some(agent.clone())).copied().unwrap_or(0);
        own < self.limits.of_agent && seen.lasting_total < self.limits.of_all
    }

    /// Forgets what has expired by every clock.
    pub(super) fn sweep(&self) {
        let (now, passed) = (self.clock.now(), self.clock.monotonic());
        let mut seen = self.seen();
        while let Some(first) = seen.minutes.first_entry() {
            let end = end_of(*first.key());
            if now < end || passed < first.get().kept_until {
                break;
            }
            let minute = first.remove();
            seen.forgotten_until = seen.forgotten_until.max(end);
            for (spender, count) in minute.lasting {
                seen.lasting_total -= count;
                if let Some(own) = seen.lasting.get_mut(&spender) {
                    *own -= count;
                    if *own == 0 {
                        seen.lasting.remove(&spender);
                    }
                }
            }
        }
    }

    fn put(&self, spender: Spender, signature: Digest, expires: Timestamp) -> bool {
        let (now, passed) = (self.clock.now(), self.clock.monotonic());
        let mut seen = self.seen();
        let is_spent = match seen.awaited.get_mut(&fingerprint(signature)) {
            Some(awaited) => std::mem::replace(&mut awaited.is_spent, true),
            None => seen.contains(signature, expires),
        };
        if is_spent {
            return false;
        }
        let is_lasting = is_lasting(now, expires);
        let minute = seen.minutes.entry(minute_of(expires)).or_default();
        minute.signatures.insert(fingerprint(signature));
        minute.kept_until = minute.kept_until.max(passed + expires.since(now));
        if is_lasting {
            *minute.lasting.entry(spender.clone()).or_default() += 1;
            *seen.lasting.entry(spender).or_default() += 1;
            seen.lasting_total += 1;
        }
        true
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn contains(&self, signature: Digest, expires: Timestamp) -> bool {
        // A signature covers its own expiry, so the same one is in the same minute.
        let minute = self.minutes.get(&minute_of(expires));
        expires <= self.forgotten_until || minute.is_some_and(|it| it.signatures.contains(&fingerprint(signature)))
    }
}

fn is_lasting(now: Timestamp, expires: Timestamp) -> bool {
    expires.since(now) > LASTING
}

fn minute_of(expires: Timestamp) -> i64 {
    expires.as_seconds().div_euclid(60)
}

/// The last moment of that minute.
fn end_of(minute: i64) -> Timestamp {
    Timestamp::from_micros((minute + 1).saturating_mul(60_000_000) - 1)
}

fn fingerprint(signature: Digest) -> Fingerprint {
    signature.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// A signature that is valid for longer is counted; those in headers expire sooner.
const LASTING: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
