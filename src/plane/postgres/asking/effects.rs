//! What statements that ran have done to their session.

use std::sync::Arc;

use bytes::Bytes;

use super::super::machine::{Machine, Prepared};
use super::super::settings::Settings;
use super::naming::{Cursor, may_move_names};
use super::{Asker, Named};
use crate::classify::postgres::Effect;

/// Cursors that one session may have, and bytes of the texts that declared them.
const CURSORS_LIMIT: usize = 1000;
const CURSORS_LIMIT_BYTES: usize = 16 << 20;

impl Asker {
    /// The server has confirmed what a statement does to its session.
    pub(in super::super) fn apply(
        &mut self,
        effect: Effect,
        named: &Named,
        settings: &mut Settings,
        machine: &mut Machine,
    ) {
        self.names.note(&effect, &named.actions);
        match effect {
            Effect::Prepare { name, body, .. } => {
                let prepared = Prepared::new(Bytes::from(body), Vec::new(), Some(named.settings()));
                machine.prepared_by_sql(name.into_bytes(), Some(prepared));
            }
            Effect::Deallocate(Some(name)) => machine.prepared_by_sql(name.into_bytes(), None),
            Effect::Deallocate(None) => machine.forget_statements(),
            Effect::DiscardTemporary => self.names.drop_temporary(),
            Effect::DiscardAll => {
                self.names.drop_temporary();
                machine.forget_statements();
                self.cursors.clear();
                settings.discard();
            }
            Effect::Set { name, value, is_local } => settings.set(&name, value.as_deref(), is_local),
            Effect::Declare { cursor, is_held } => {
                machine.portal_by_sql(Some(cursor.as_bytes()));
                let may_move = named.actions.iter().any(may_move_names);
                let (actions, digest) = (Arc::clone(&named.actions), self.digest_of(named));
                let size = named.sql().len();
                let known =
                    Cursor { actions, digest, rules: named.rules, may_move, is_held, is_committed: false, size };
                // One that is not kept is not known when it is read.
                self.cursors.remove(&cursor);
                let total: usize = self.cursors.values().map(|it| it.size).sum();
                if self.cursors.len() < CURSORS_LIMIT && total + size <= CURSORS_LIMIT_BYTES {
                    self.cursors.insert(cursor, known);
                }
            }
            // What they run was named with them; what it does to the session was not.
            Effect::Execute { .. } if named.actions.iter().any(may_move_names) => settings.doubt(),
            Effect::Fetch { cursor } => {
                if let Some(cursor) = self.cursors.get_mut(&cursor) {
                    cursor.rules = named.rules;
                }
                if named.actions.iter().any(may_move_names) {
                    settings.doubt();
                }
            }
            Effect::Close(Some(cursor)) => {
                machine.portal_by_sql(Some(cursor.as_bytes()));
                self.cursors.remove(&cursor);
            }
            Effect::Close(None) => {
                machine.portal_by_sql(None);
                self.cursors.clear();
            }
            Effect::Commit { .. } | Effect::PrepareTransaction => {
                settings.commit();
                self.end_transaction(settings);
            }
            Effect::Rollback { savepoint, .. } => {
                if savepoint.is_none() {
                    self.cursors.retain(|_, cursor| cursor.is_committed);
                }
                settings.roll_back(savepoint.is_some());
            }
            Effect::Dynamic => {
                // It may have prepared, closed and set anything: what comes from here on is known again.
                machine.forget_statements();
                self.cursors.clear();
                settings.doubt();
            }
            Effect::None
            | Effect::Begin
            | Effect::Savepoint(_)
            | Effect::Release(_)
            | Effect::CopyIn
            | Effect::CopyOut
            | Effect::CopyBoth
            | Effect::Execute { .. }
            | Effect::Creates(_)
            | Effect::Moves(_) => {}
        }
    }

    /// Whether the end of the open transaction may change where the session looks for names.
    pub(in super::super) fn has_moving_cursor(&self) -> bool {
        self.cursors.values().any(|it| it.may_move)
    }

    /// The transaction is over: of its cursors those WITH HOLD were run to their ends, and the others are gone.
    pub(in super::super) fn end_transaction(&mut self, settings: &mut Settings) {
        self.cursors.retain(|_, cursor| cursor.is_held);
        for cursor in self.cursors.values_mut() {
            cursor.is_committed = true;
            if std::mem::take(&mut cursor.may_move) {
                settings.doubt();
            }
        }
    }
}
