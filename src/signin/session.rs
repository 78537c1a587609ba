//! People who are signed in with a browser, and sign-ins that are under way. In memory only: a restart
//! signs everybody out, and nothing on disk can be stolen and replayed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::SignInError;
use super::flow::{Begun, draw};
use super::token::Claimed;
use crate::digest::{Digest, sha256};
use crate::time::Timestamp;

/// How long a session lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    /// From the last thing that the person did.
    pub(crate) idle: Duration,
    /// From the sign-in.
    pub(crate) whole: Duration,
}

/// All sessions and begun sign-ins of the process. Both are kept by the SHA-256 of the secret that the
/// browser holds, so that a look-up compares nothing of the secret itself.
#[derive(Debug)]
pub(crate) struct Sessions {
    lifetimes: Lifetimes,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<Digest, Session>,
    begun: HashMap<Digest, (Timestamp, Begun)>,
}

/// One signed-in browser.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Names it in records; it opens nothing.
    pub(crate) id: String,
    pub(crate) claimed: Claimed,
    started: Timestamp,
    seen: Timestamp,
}

impl Sessions {
    pub(crate) fn new(lifetimes: Lifetimes) -> Self {
        Self { lifetimes, table: Mutex::default() }
    }

    /// Opens a session; returns the secret for the browser.
    ///
    /// # Errors
    /// When there is no randomness, or no room for one more.
    pub(crate) fn open(&self, claimed: Claimed, now: Timestamp) -> Result<String, SignInError> {
        let secret = draw()?;
        let key = sha256(secret.as_bytes());
        let id = format!("s_{}", sha256(key.as_bytes()).hex().chars().take(12).collect::<String>());
        let mut table = self.table();
        table.open.retain(|_, session| self.lifetimes.allow(session, now));
        if table.open.len() >= SESSIONS_LIMIT {
            return Err(SignInError::Provider("too many people are signed in".to_owned()));
        }
        table.open.insert(key, Session { id, claimed, started: now, seen: now });
        Ok(secret)
    }

    /// The session of that secret. With `is_act` the person did something, and the idle time begins anew.
    pub(crate) fn find(&self, secret: &str, is_act: bool, now: Timestamp) -> Option<Session> {
        let mut table = self.table();
        let session = table.open.get_mut(&sha256(secret.as_bytes()))?;
        if !self.lifetimes.allow(session, now) {
            return None;
        }
        if is_act {
            session.seen = now;
        }
        Some(session.clone())
    }

    pub(crate) fn close(&self, secret: &str) {
        self.table().open.remove(&sha256(secret.as_bytes()));
    }

    /// Remembers a sign-in that the browser with that secret has begun.
    pub(crate) fn remember(&self, secret: &str, begun: Begun, now: Timestamp) {
        let mut table = self.table();
        table.begun.retain(|_, (since, _)| now.since(*since) < SIGN_IN_TIME);
        // Anybody can begin one: beyond the limit all start over, which costs people one more click.
        if table.begun.len() >= SIGN_INS_LIMIT {
            table.begun.clear();
        }
        table.begun.insert(sha256(secret.as_bytes()), (now, begun));
    }

    /// The sign-in that was begun with that secret, once.
    pub(crate) fn take(&self, secret: &str, now: Timestamp) -> Option<Begun> {
        let (since, begun) = self.table().begun.remove(&sha256(secret.as_bytes()))?;
        (now.since(since) < SIGN_IN_TIME).then_some(begun)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lifetimes {
    fn allow(&self, session: &Session, now: Timestamp) -> bool {
        now.since(session.seen) < self.idle && now.since(session.started) < self.whole
    }
}

/// A secret for a browser.
///
/// # Errors
/// When the system gives no randomness.
pub(crate) fn secret() -> Result<String, SignInError> {
    draw()
}

/// Time to come back from the provider.
const SIGN_IN_TIME: Duration = Duration::from_secs(900);
const SIGN_INS_LIMIT: usize = 10_000;
const SESSIONS_LIMIT: usize = 100_000;
