//! The settings of a session that decide how its text is read and its names are found.

use std::sync::Arc;

use super::timeouts::Timeouts;
use crate::classify::postgres::{self as classify, search_path};
use crate::wire::postgres::backend::{Frame, kind};

/// Followed by what the server confirms and reports.
///
/// What it reports (`client_encoding`, `standard_conforming_strings`, the session's user, from version 18
/// on the search path) is learned from the report. The rest is followed through the statements that change
/// it, as far as that is simple; where it is not, it is in doubt until the server was asked.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    now: Arc<classify::Settings>,
    /// As the session began: what RESET and DISCARD go back to.
    first: Arc<classify::Settings>,
    /// Before the first change since the last moment without a transaction: what ROLLBACK goes back to.
    before: Option<Moment>,
    /// What the transaction's end goes back to after SET LOCAL.
    after_local: Option<Moment>,
    /// After SET LOCAL came a SET: each setting has an end of its own.
    is_mixed: bool,
    /// Something in the transaction failed.
    has_failed: bool,
    /// As whom the session logged in, or acts by SET SESSION AUTHORIZATION.
    session_user: String,
    timeouts: Timeouts,
    first_timeouts: Timeouts,
    /// Something ran that may have changed them unseen: the server is to be asked.
    is_in_doubt: bool,
    /// What the server is asked then.
    question: Arc<str>,
}

/// The settings at one time.
type Moment = (Arc<classify::Settings>, Timeouts);

impl Settings {
    pub(super) fn new(first: classify::Settings, timeouts: Timeouts, question: String) -> Self {
        let session_user = first.user.clone();
        let first = Arc::new(first);
        Self {
            now: Arc::clone(&first),
            first,
            before: None,
            after_local: None,
            is_mixed: false,
            has_failed: false,
            session_user,
            timeouts,
            first_timeouts: timeouts,
            is_in_doubt: false,
            question: question.into(),
        }
    }

    pub(super) fn for_naming(&self) -> &classify::Settings {
        &self.now
    }

    pub(super) fn for_naming_shared(&self) -> &Arc<classify::Settings> {
        &self.now
    }

    /// Under which the server reads the next text; `None` in doubt.
    pub(super) fn for_reading(&self) -> Option<Arc<classify::Settings>> {
        (!self.is_in_doubt).then(|| Arc::clone(&self.now))
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    pub(super) fn doubt(&mut self) {
        self.is_in_doubt = true;
    }

    /// Whether the end of the open transaction may change them.
    pub(super) fn are_passing(&self) -> bool {
        self.before.is_some() || self.after_local.is_some()
    }

    /// See [`super::timeouts::question`].
    pub(super) fn question(&self) -> &str {
        &self.question
    }

    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// What the server answered to [`super::timeouts::question`], row by row.
    pub(super) fn refreshed(&mut self, row: usize, value: &str) {
        match row {
            0 => match search_path::read(value) {
                Some(path) => {
                    self.change(|it| it.search_path = path);
                    self.is_in_doubt = false;
                }
                None => self.doubt(),
            },
            1 => self.set_role(Some(value)),
            _ => self.timeouts.answer(row.saturating_sub(2), value),
        }
    }

    pub(super) fn path(&self) -> String {
        self.now.search_path.join(", ")
    }

    /// Hands out all that decides what a statement means.
    pub(super) fn for_digest(now: &classify::Settings, put: &mut impl FnMut(&[u8])) {
        put(&[u8::from(now.standard_conforming_strings)]);
        put(now.client_encoding.as_bytes());
        put(now.user.as_bytes());
        put(now.search_path.join(", ").as_bytes());
    }

    /// What the server reports of itself.
    pub(super) fn learn(&mut self, frame: &Frame<'_>) {
        if frame.kind != kind::PARAMETER_STATUS {
            return;
        }
        let Ok((name, value)) = frame.parameter() else { return };
        let value = String::from_utf8_lossy(value);
        match name {
            b"client_encoding" => self.change(|it| it.client_encoding = value.into_owned()),
            b"standard_conforming_strings" => self.change(|it| it.standard_conforming_strings = value == "on"),
            // It also ends a role that was set.
            b"session_authorization" => {
                self.session_user = value.into_owned();
                self.set_role(None);
            }
            b"search_path" => match search_path::read(&value) {
                Some(path) => self.change(|it| it.search_path = path),
                None => self.doubt(),
            },
            _ => {}
        }
    }

    /// `SET`, or `RESET` without a value. What is reported is reported with the next ReadyForQuery only, and
    /// what is pipelined before that is read by the new value already.
    pub(super) fn set(&mut self, name: &str, value: Option<&str>, is_local: bool) {
        let before = (Arc::clone(&self.now), self.timeouts);
        let first = Arc::clone(&self.first);
        match (name, value) {
            ("search_path", Some(value)) => match search_path::read(value) {
                Some(path) => self.change(|it| it.search_path = path),
                None => self.doubt(),
            },
            ("search_path", None) => self.reset(),
            ("role", value) => self.set_role(value),
            ("session_authorization", _) => self.doubt(),
            ("client_encoding", value) => {
                let value = value.map_or_else(|| first.client_encoding.clone(), str::to_uppercase);
                self.change(|it| it.client_encoding = value);
            }
            ("standard_conforming_strings", value) => {
                let value = match value.map(str::to_ascii_lowercase).as_deref() {
                    None => Some(first.standard_conforming_strings),
                    Some("on" | "true" | "yes" | "1") => Some(true),
                    Some("off" | "false" | "no" | "0") => Some(false),
                    Some(_) => None,
                };
                match value {
                    Some(value) => self.change(|it| it.standard_conforming_strings = value),
                    None => self.doubt(),
                }
            }
            ("all", None) => {
                self.now = first;
                self.timeouts = self.first_timeouts;
                self.set_role(None);
            }
            (name, Some(value)) if self.timeouts.set(name, value) => {}
            (name, None) if self.timeouts.reset(name, self.first_timeouts) => {}
            _ => return,
        }
        if is_local {
            self.after_local.get_or_insert(before);
        } else {
            self.is_mixed |= self.after_local.is_some();
            let before = self.after_local.clone().unwrap_or(before);
            self.before.get_or_insert(before);
        }
    }

    /// `None` and `none` are the session's own user.
    fn set_role(&mut self, role: Option<&str>) {
        let user = match role {
            Some(role) if !role.eq_ignore_ascii_case("none") => role.to_owned(),
            _ => self.session_user.clone(),
        };
        self.change(|it| it.user = user);
    }

    /// DISCARD ALL, which is no part of a transaction.
    pub(super) fn discard(&mut self) {
        self.now = Arc::clone(&self.first);
        self.timeouts = self.first_timeouts;
        self.set_role(None);
    }

    fn reset(&mut self) {
        let first = self.first.search_path.clone();
        self.change(|it| it.search_path = first);
    }

    /// An error: whatever is open will be rolled back.
    pub(super) fn fail(&mut self) {
        self.has_failed = true;
    }

    /// The server is ready; whether a transaction is open.
    pub(super) fn ready(&mut self, is_open: bool) {
        let has_failed = std::mem::take(&mut self.has_failed);
        match is_open {
            true => {}
            false if has_failed => self.roll_back(false),
            false => self.commit(),
        }
    }

    /// The transaction was committed.
    pub(super) fn commit(&mut self) {
        self.before = None;
        if let Some((before, timeouts)) = self.after_local.take() {
            self.timeouts = timeouts;
            // The others are reported, but only with the next ReadyForQuery.
            let is_read_alike = self.now.client_encoding == before.client_encoding
                && self.now.standard_conforming_strings == before.standard_conforming_strings;
            self.is_mixed |= !is_read_alike;
            self.change(|it| {
                it.search_path.clone_from(&before.search_path);
                it.user.clone_from(&before.user);
            });
        }
        if std::mem::take(&mut self.is_mixed) {
            self.doubt();
        }
    }

    /// The transaction was rolled back. To a savepoint: what was set since then is gone, and nobody here
    /// knows what that was.
    pub(super) fn roll_back(&mut self, is_to_savepoint: bool) {
        if is_to_savepoint {
            if self.are_passing() {
                self.doubt();
            }
            return;
        }
        let local = self.after_local.take();
        self.is_mixed = false;
        if let Some(before) = self.before.take().or(local) {
            (self.now, self.timeouts) = before;
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut classify::Settings)) {
        change(Arc::make_mut(&mut self.now));
    }
}

#[cfg(test)]
mod tests;
