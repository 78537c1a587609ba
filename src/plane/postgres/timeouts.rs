//! How long the server lets a session wait before it ends it, so that a hold can end before.
//!
//! What ticks while a statement waits here (PostgreSQL docs, section 19.11.1): between two queries the
//! idle time-outs; inside of a pipeline, where the server takes itself to be at work, the one for
//! statements; and in both that of the transaction.

use std::time::{Duration, Instant};

use super::machine::Machine;
use crate::wire::postgres::backend::Transaction;

/// The server's settings; zero where there is no such limit, or the server has no such setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Timeouts {
    idle: Duration,
    idle_in_transaction: Duration,
    statement: Duration,
    transaction: Duration,
}

const IDLE: &str = "idle_session_timeout";
const IDLE_IN_TRANSACTION: &str = "idle_in_transaction_session_timeout";
const STATEMENT: &str = "statement_timeout";
const TRANSACTION: &str = "transaction_timeout";

/// The settings with the major version of the server that has them first.
const SETTINGS: [(&str, u32); 4] = [(STATEMENT, 9), (IDLE_IN_TRANSACTION, 10), (IDLE, 14), (TRANSACTION, 17)];

/// A query for the search path, the role and the time-outs, one row each, in this order. Of a server whose
/// version is not known, and in replication, which knows one command at a time, for the path alone.
pub(super) fn question(major: Option<u32>, is_replication: bool) -> String {
    let major = major.filter(|_| !is_replication).unwrap_or(0);
    let known = SETTINGS.iter().filter(|(_, since)| *since <= major).map(|(name, _)| *name);
    let role = (major > 0).then_some("role");
    // SHOW takes no snapshot, so that it can also come first in a transaction.
    role.into_iter().chain(known).fold("SHOW search_path".to_owned(), |text, name| text + "; SHOW " + name)
}

/// The major version in `server_version`: 15 of `15.10 (Debian 15.10-0)`.
pub(super) fn major(server_version: &[u8]) -> Option<u32> {
    let digits: Vec<u8> = server_version.iter().copied().take_while(u8::is_ascii_digit).collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

impl Timeouts {
    /// Takes the answer to the question for a time-out, counted from zero.
    pub(super) fn answer(&mut self, index: usize, value: &str) {
        if let Some((name, _)) = SETTINGS.get(index) {
            self.set(name, value);
        }
    }

    /// Whether the name is one of theirs.
    pub(super) fn set(&mut self, name: &str, value: &str) -> bool {
        let Some(place) = self.place(name) else { return false };
        if let Some(time) = time(value) {
            *place = time;
        }
        true
    }

    /// Puts one back to what it is in `first`. Whether the name is one of theirs.
    pub(super) fn reset(&mut self, name: &str, mut first: Self) -> bool {
        let (Some(place), Some(first)) = (self.place(name), first.place(name)) else { return false };
        *place = *first;
        true
    }

    fn place(&mut self, name: &str) -> Option<&mut Duration> {
        Some(match name {
            IDLE => &mut self.idle,
            IDLE_IN_TRANSACTION => &mut self.idle_in_transaction,
            STATEMENT => &mut self.statement,
            TRANSACTION => &mut self.transaction,
            _ => return None,
        })
    }

    /// Whether a statement that only was prepared would time out while its execution waits.
    pub(super) fn ends_pipelines(&self) -> bool {
        !self.statement.is_zero()
    }
}

/// Since when what goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// The server said that it is ready.
    pub(super) ready: Instant,
    pub(super) transaction: Option<Instant>,
    /// Something was sent since.
    pub(super) pipeline: Option<Instant>,
}

impl Clocks {
    pub(super) fn new(now: Instant) -> Self {
        Self { ready: now, transaction: None, pipeline: None }
    }

    /// The server is ready again.
    pub(super) fn ready(&mut self, transaction: Transaction, now: Instant) {
        let before = self.transaction.or(self.pipeline).unwrap_or(now);
        self.transaction = (transaction != Transaction::None).then_some(before);
        (self.ready, self.pipeline) = (now, None);
    }
}

/// What would end a session that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) setting: &'static str,
    /// From now, and as long before the end as it takes to end it in good order.
    pub(super) after: Duration,
}

/// What ends a session first in which a statement waits from now on.
pub(super) fn limit(timeouts: &Timeouts, clocks: &Clocks, machine: &Machine, now: Instant) -> Option<Limit> {
    let is_open = machine.transaction() != Transaction::None;
    let idle = if is_open { (IDLE_IN_TRANSACTION, timeouts.idle_in_transaction) } else { (IDLE, timeouts.idle) };
    let waits = match (machine.is_in_pipeline(), machine.has_only_prepared()) {
        (false, _) => Some((idle, clocks.ready)),
        // A Sync of countersign's own makes it idle from now on.
        (true, true) if timeouts.ends_pipelines() => Some((idle, now)),
        (true, true) => None,
        (true, false) => clocks.pipeline.map(|since| ((STATEMENT, timeouts.statement), since)),
    };
    let open = clocks.transaction.or(clocks.pipeline.filter(|_| machine.is_in_pipeline()));
    let transaction = open.map(|since| ((TRANSACTION, timeouts.transaction), since));
    let limits = waits.into_iter().chain(transaction).filter(|((_, time), _)| !time.is_zero());
    let limits = limits.map(|((setting, time), since)| {
        let spent = now.saturating_duration_since(since);
        Limit { setting, after: time.saturating_sub(spent).saturating_sub(margin(time)) }
    });
    limits.min_by_key(|limit| limit.after)
}

/// Longer than the gate takes to see that a time is over.
fn margin(time: Duration) -> Duration {
    (time / 5).clamp(Duration::from_millis(400), Duration::from_secs(5))
}

/// A time as the server writes and reads it: `30s`, `5min`, `1500`; milliseconds without a unit.
fn time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let seconds = match unit.trim() {
        "us" => 1e-6,
        "" | "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_server_writes_them() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("1500", Some(1_500)),
            ("30s", Some(30_000)),
            ("30 s", Some(30_000)),
            ("5min", Some(300_000)),
            ("1.5h", Some(5_400_000)),
            ("1d", Some(86_400_000)),
            ("250ms", Some(250)),
            ("", None),
            ("-1", None),
            ("5 weeks", None),
            ("1e400", None),
        ] {
            assert_eq!(time(text), wanted.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_server_is_asked_for_what_it_has() {
        assert_eq!(major(b"15.10 (Debian 15.10-0+deb12u1)"), Some(15));
        assert_eq!(major(b"17beta1"), Some(17));
        assert_eq!(major(b"devel"), None);
        assert_eq!(question(None, false), "SHOW search_path");
        assert_eq!(question(Some(17), true), "SHOW search_path");
        let count = |major| question(Some(major), false).matches("SHOW").count();
        assert_eq!([13, 15, 17].map(count), [4, 5, 6]);
    }

    #[test]
    fn the_nearest_end_of_a_session_counts() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (mut timeouts, machine) = (Timeouts::default(), Machine::new());
        let clocks = Clocks::new(start);
        assert_eq!(limit(&timeouts, &clocks, &machine, after(5)), None);
        timeouts.set(IDLE_IN_TRANSACTION, "10s");
        assert_eq!(limit(&timeouts, &clocks, &machine, after(5)), None, "no transaction is open");
        timeouts.set(IDLE, "1min");
        let found = limit(&timeouts, &clocks, &machine, after(5)).unwrap();
        assert_eq!((found.setting, found.after), (IDLE, Duration::from_secs(50)));
        assert_eq!(limit(&timeouts, &clocks, &machine, after(70)).unwrap().after, Duration::ZERO);
        let mut clocks = clocks;
        clocks.ready(Transaction::Open, after(20));
        timeouts.set(TRANSACTION, "40s");
        let found = limit(&timeouts, &clocks, &machine, after(30)).unwrap();
        assert_eq!((found.setting, found.after), (TRANSACTION, Duration::from_secs(25)));
    }
}
