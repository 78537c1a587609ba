//! The settings of a session that decide how its text is read and its names are found.

use std::sync::Arc;

use crate::classify::postgres as classify;
use crate::wire::postgres::backend::{Frame, kind};

/// Followed by what the server confirms and reports.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    now: Arc<classify::Settings>,
    /// As the session began: what RESET and DISCARD go back to.
    first: Arc<classify::Settings>,
    /// As the open transaction began: what ROLLBACK goes back to.
    at_begin: Option<Arc<classify::Settings>>,
    /// What the transaction's end goes back to after SET LOCAL.
    after_local: Option<Arc<classify::Settings>>,
    /// Something ran that may have changed them unseen: the server is to be asked.
    is_in_doubt: bool,
}

impl Settings {
    pub(super) fn new(first: classify::Settings) -> Self {
        let first = Arc::new(first);
        Self { now: Arc::clone(&first), first, at_begin: None, after_local: None, is_in_doubt: false }
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

    /// What the server said that it is.
    pub(super) fn refreshed(&mut self, search_path: &str) {
        self.is_in_doubt = false;
        let search_path = path(search_path);
        self.change(|it| it.search_path = search_path);
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
        let changed = match (name, value) {
            ("search_path", Some(value)) => path(&value),
            ("search_path" | "all", None) => self.first.search_path.clone(),
            _ => return,
        };
        if is_local {
            self.after_local.get_or_insert_with(|| Arc::clone(&self.now));
        }
        self.change(|it| it.search_path = changed);
    }

    pub(super) fn reset(&mut self) {
        let first = self.first.search_path.clone();
        self.change(|it| it.search_path = first);
    }

    pub(super) fn begin(&mut self) {
        self.at_begin.get_or_insert_with(|| Arc::clone(&self.now));
    }

    pub(super) fn commit(&mut self) {
        self.at_begin = None;
        if let Some(before) = self.after_local.take() {
            self.go_back(&before);
        }
    }

    pub(super) fn roll_back(&mut self, is_to_savepoint: bool) {
        if is_to_savepoint {
            // What was set since the savepoint is gone, and nobody here knows what that was.
            self.is_in_doubt = self.at_begin.is_some() || self.after_local.is_some();
            return;
        }
        self.after_local = None;
        if let Some(before) = self.at_begin.take() {
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
