//! The settings of a session that decide how its text is read and its names are found.

use std::sync::Arc;

use super::timeouts::Timeouts;
use crate::classify::postgres as classify;
use crate::wire::postgres::backend::{Frame, kind};

/// Followed by what the server confirms and reports.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    now: Arc<classify::Settings>,
    /// As the session began: what RESET and DISCARD go back to.
    first: Arc<classify::Settings>,
    /// As the open transaction began: what ROLLBACK goes back to.
    at_begin: Option<Before>,
    /// What the transaction's end goes back to after SET LOCAL.
    after_local: Option<Arc<classify::Settings>>,
    timeouts: Timeouts,
    /// The same of these.
    timeouts_after_local: Option<Timeouts>,
    first_timeouts: Timeouts,
    /// Something ran that may have changed them unseen: the server is to be asked.
    is_in_doubt: bool,
    /// What the server is asked then.
    question: Arc<str>,
}

/// What a transaction's failure goes back to.
type Before = (Arc<classify::Settings>, Timeouts);

impl Settings {
    pub(super) fn new(first: classify::Settings, timeouts: Timeouts, question: String) -> Self {
        let first = Arc::new(first);
        Self {
            now: Arc::clone(&first),
            first,
            at_begin: None,
            after_local: None,
            timeouts,
            timeouts_after_local: None,
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

    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    pub(super) fn doubt(&mut self) {
        self.is_in_doubt = true;
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
        match row.checked_sub(1) {
            None => {
                self.is_in_doubt = false;
                let search_path = path(value);
                self.change(|it| it.search_path = search_path);
            }
            Some(row) => self.timeouts.answer(row, value),
        }
    }

    pub(super) fn path(&self) -> String {
        self.now.search_path.join(", ")
    }

    /// Hands out all that decides what a statement means.
    pub(super) fn for_digest(&self, put: &mut impl FnMut(&[u8])) {
        put(&[u8::from(self.now.standard_conforming_strings)]);
        put(self.now.client_encoding.as_bytes());
        put(self.now.user.as_bytes());
        put(self.path().as_bytes());
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
            b"search_path" => self.change(|it| it.search_path = path(&value)),
            _ => {}
        }
    }

    /// `SET`, or `RESET` without a value. What is reported is learned from the report.
    pub(super) fn set(&mut self, name: &str, value: Option<String>, is_local: bool) {
        // Each by itself: what is set for good besides must not be taken back with it.
        if is_local && name == "search_path" {
            self.after_local.get_or_insert_with(|| Arc::clone(&self.now));
        } else if is_local {
            self.timeouts_after_local.get_or_insert(self.timeouts);
        }
        match (name, value) {
            ("search_path", Some(value)) => self.change(|it| it.search_path = path(&value)),
            ("search_path", None) => self.reset_path(),
            ("all", None) => self.reset(),
            (name, Some(value)) => self.timeouts.set(name, &value),
            (name, None) => self.timeouts.reset(name, self.first_timeouts),
        }
    }

    pub(super) fn reset(&mut self) {
        self.timeouts = self.first_timeouts;
        self.reset_path();
    }

    fn reset_path(&mut self) {
        let first = self.first.search_path.clone();
        self.change(|it| it.search_path = first);
    }

    pub(super) fn begin(&mut self) {
        self.at_begin.get_or_insert_with(|| (Arc::clone(&self.now), self.timeouts));
    }

    pub(super) fn commit(&mut self) {
        self.at_begin = None;
        if let Some(before) = self.after_local.take() {
            self.go_back(&before);
        }
        if let Some(before) = self.timeouts_after_local.take() {
            self.timeouts = before;
        }
    }

    pub(super) fn roll_back(&mut self, is_to_savepoint: bool) {
        if is_to_savepoint {
            // What was set since the savepoint is gone, and nobody here knows what that was.
            self.is_in_doubt = self.at_begin.is_some() || self.after_local.is_some();
            return;
        }
        (self.after_local, self.timeouts_after_local) = (None, None);
        if let Some((before, timeouts)) = self.at_begin.take() {
            self.timeouts = timeouts;
            self.go_back(&before);
        }
    }

    /// The transaction that was open is gone, whatever ended it.
    pub(super) fn outside(&mut self) {
        self.commit();
    }

    fn go_back(&mut self, before: &classify::Settings) {
        let search_path = before.search_path.clone();
        self.change(|it| it.search_path = search_path);
    }

    fn change(&mut self, change: impl FnOnce(&mut classify::Settings)) {
        change(Arc::make_mut(&mut self.now));
    }
}

/// The schemas of a `search_path`.
pub(super) fn path(value: &str) -> Vec<String> {
    classify::schemas(value)
}
