//! What the upstream has, kept at hand for naming: one snapshot of its catalogue for each database, read on
//! a connection of countersign's own.
//!
//! How fresh it is. A cheap question for a stamp tells whether anything changed: at an interval while the
//! database has sessions; when a session begins; when a statement of ours that changes what names mean is
//! committed, and then no statement of any session is named before the answer; and before a statement that
//! uses a name that is not known goes to people. So what is left is this: a change that somebody else makes
//! is seen after at most one interval, and one of our own between its commit on the server and the moment
//! at which its confirmation is read here. A catalogue that cannot be read any more is forgotten after
//! [`EXPIRY`]: then functions of users are unknown.

mod fetch;
mod line;
mod names;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::upstream::Upstream;
use crate::classify::postgres::Catalogue;
use crate::classify::postgres::tags::Tags;
pub(super) use line::{Line, LineError, Row};
pub(super) use names::{Looking, Names};

/// How long a session waits for the catalogue before it goes on without.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest statement of countersign's own.
const STATEMENT_LIMIT: Duration = Duration::from_secs(20);
/// Between two attempts after one that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Longest pause between two checks that are asked for.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a snapshot is believed that cannot be checked.
const EXPIRY: Duration = Duration::from_secs(60);
/// The least time between two looks at the interval, whatever is configured.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// How long a snapshot and its connection are kept without a session.
const IDLE: Duration = Duration::from_secs(300);

/// The snapshots of all databases of one upstream.
pub(super) struct Lookups {
    upstream: Arc<Upstream>,
    every: Duration,
    tags: Arc<Tags>,
    databases: Mutex<HashMap<String, Arc<Lookup>>>,
    versions: AtomicU64,
}

/// The snapshot of one database.
struct Lookup {
    sessions: AtomicUsize,
    /// Number of the latest question for a check, and of the latest one that every session waits for.
    asked: AtomicU64,
    required: AtomicU64,
    wake: Notify,
    state: watch::Sender<State>,
}

#[derive(Clone)]
struct State {
    catalogue: Arc<Catalogue>,
    /// Questions up to this one are answered: the catalogue is no older.
    checked: u64,
    /// Up to this one an answer was sought.
    attempted: u64,
}

impl Lookups {
    pub(super) fn new(upstream: Arc<Upstream>, every: Duration, tags: Arc<Tags>) -> Arc<Self> {
        let every = every.max(SHORTEST_INTERVAL);
        Arc::new(Self { upstream, every, tags, databases: Mutex::default(), versions: AtomicU64::new(1) })
    }

    /// A new session's view of a database that it has just been let into. Waits, for [`PATIENCE`], where
    /// there is no snapshot that other sessions keep fresh.
    pub(super) async fn enter(self: &Arc<Self>, database: &str) -> Names {
        let seat = self.seat(database);
        let is_first = seat.0.sessions.load(Ordering::Acquire) == 1;
        let mut names = Names::new(seat);
        if is_first || names.catalogue().is_builtin() {
            names.look().await;
            names.catch_up();
        }
        names
    }

    fn seat(self: &Arc<Self>, database: &str) -> Seat {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = databases.get(database) {
            return Seat::new(Arc::clone(lookup));
        }
        let nothing =
            State { catalogue: Arc::new(Catalogue::unread(Arc::clone(&self.tags))), checked: 0, attempted: 0 };
        let lookup = Arc::new(Lookup {
            sessions: AtomicUsize::new(0),
            asked: AtomicU64::new(0),
            required: AtomicU64::new(0),
            wake: Notify::new(),
            state: watch::Sender::new(nothing),
        });
        let seat = Seat::new(Arc::clone(&lookup));
        databases.insert(database.to_owned(), Arc::clone(&lookup));
        let keeper = Keeper {
            lookups: Arc::clone(self),
            lookup,
            database: database.to_owned(),
            line: None,
            stamp: String::new(),
            sound: None,
        };
        tokio::spawn(keeper.run());
        seat
    }

    /// Forgets a database that no session uses.
    fn leave(&self, database: &str) -> bool {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        let is_unused = databases.get(database).is_none_or(|it| it.sessions.load(Ordering::Acquire) == 0);
        if is_unused {
            databases.remove(database);
        }
        is_unused
    }
}

/// A session's place at a snapshot.
struct Seat(Arc<Lookup>);

impl Seat {
    fn new(lookup: Arc<Lookup>) -> Self {
        lookup.sessions.fetch_add(1, Ordering::AcqRel);
        Self(lookup)
    }
}

impl Clone for Seat {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Lookup {
    /// Asks for a check that begins from now on; its number.
    fn ask(&self) -> u64 {
        let number = self.ask_in_time();
        self.wake.notify_one();
        number
    }

    /// The same at the next interval, or with the next that is asked for at once: each look is one more
    /// snapshot of the database, which VACUUM has to reckon with.
    fn ask_in_time(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// Keeps the snapshot of one database fresh.
struct Keeper {
    lookups: Arc<Lookups>,
    lookup: Arc<Lookup>,
    database: String,
    line: Option<Line>,
    /// Of the snapshot that sessions have.
    stamp: String,
    /// When it was last known to be right.
    sound: Option<Instant>,
}

impl Keeper {
    async fn run(mut self) {
        let mut idle_since = Instant::now();
        loop {
            let asked = self.lookup.asked.load(Ordering::Acquire);
            let is_used = self.lookup.sessions.load(Ordering::Acquire) > 0;
            if is_used {
                idle_since = Instant::now();
            }
            if is_used || asked > self.lookup.state.borrow().attempted {
                let pause = self.check(asked).await;
                tokio::time::sleep(pause).await;
            } else if idle_since.elapsed() >= IDLE && self.lookups.leave(&self.database) {
                return;
            }
            tokio::select! {
                // Also when that was asked for during the check.
                () = self.lookup.wake.notified() => {}
                () = tokio::time::sleep(self.lookups.every) => {}
            }
        }
    }

    /// Answers the questions up to `asked`; how long to leave the server alone then.
    async fn check(&mut self, asked: u64) -> Duration {
        let since = Instant::now();
        match self.refresh(asked).await {
            Ok(()) => {
                self.sound = Some(since);
                (since.elapsed() / 4).min(LONGEST_PAUSE)
            }
            Err(error) => {
                self.line = None;
                tracing::warn!(%error, database = %self.database, "the upstream's catalogue cannot be read");
                let is_stale = self.sound.is_some_and(|sound| sound.elapsed() > EXPIRY);
                if is_stale {
                    self.sound = None;
                    self.stamp.clear();
                }
                self.lookup.state.send_modify(|state| {
                    state.attempted = asked;
                    if is_stale {
                        state.catalogue = Arc::new(Catalogue::unread(Arc::clone(&self.lookups.tags)));
                    }
                });
                PAUSE_AFTER_FAILURE
            }
        }
    }

    async fn refresh(&mut self, asked: u64) -> Result<(), LineError> {
        let was_open = self.line.is_some();
        match self.refresh_on_line(asked).await {
            // The server may have been restarted: once more, on a connection that is new.
            Err(LineError::Io(_)) if was_open => {
                self.line = None;
                self.refresh_on_line(asked).await
            }
            done => done,
        }
    }

    async fn refresh_on_line(&mut self, asked: u64) -> Result<(), LineError> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => Line::open(&self.lookups.upstream, &self.database, STATEMENT_LIMIT).await?,
        };
        let limit = STATEMENT_LIMIT.saturating_mul(2);
        let late = |_| LineError::TooSlow;
        let stamp = tokio::time::timeout(limit, fetch::stamp(&mut line)).await.map_err(late)??;
        if stamp == self.stamp {
            self.line = Some(line);
            self.lookup.state.send_if_modified(|state| {
                let is_news = asked > state.checked;
                (state.checked, state.attempted) = (asked, asked);
                is_news
            });
            return Ok(());
        }
        let since = Instant::now();
        let (stamp, snapshot) = tokio::time::timeout(limit, fetch::snapshot(&mut line)).await.map_err(late)??;
        tracing::debug!(
            database = %self.database,
            host = %line.host,
            relations = snapshot.relations.len(),
            functions = snapshot.functions.len(),
            milliseconds = since.elapsed().as_millis(),
            "the upstream's catalogue was read"
        );
        self.line = Some(line);
        self.stamp = stamp;
        let version = self.lookups.versions.fetch_add(1, Ordering::AcqRel);
        let catalogue = Arc::new(Catalogue::new(version, snapshot).with_tags(Arc::clone(&self.lookups.tags)));
        self.lookup.state.send_modify(|state| {
            state.catalogue = Arc::clone(&catalogue);
            (state.checked, state.attempted) = (asked, asked);
        });
        Ok(())
    }
}
