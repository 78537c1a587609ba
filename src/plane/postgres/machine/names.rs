//! What the names of statements and portals stand for, as the server has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::{Machine, Portal, Undo};

/// A statement that was made by Parse.
#[derive(Debug, Default)]
pub(in super::super) struct Prepared {
    pub(in super::super) sql: Bytes,
    /// Oids of the types that the client gave; 0 where it left one to the server.
    pub(in super::super) types: Vec<u32>,
    /// Its client asked what columns it gives, and may count on them from then on.
    is_told: AtomicBool,
}

impl Prepared {
    pub(in super::super) fn new(sql: Bytes, types: Vec<u32>) -> Self {
        Self { sql, types, is_told: AtomicBool::new(false) }
    }

    pub(in super::super) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Relaxed)
    }

    pub(super) fn tell(&self) {
        self.is_told.store(true, Ordering::Relaxed);
    }
}

impl Machine {
    pub(super) fn set_statement(&mut self, name: Vec<u8>, statement: Option<Arc<Prepared>>) -> Undo {
        self.statements_bytes += statement.as_ref().map_or(0, |it| it.sql.len());
        let before = match statement {
            Some(statement) => self.statements.insert(name.clone(), statement),
            None => self.statements.remove(&name),
        };
        self.statements_bytes = self.statements_bytes.saturating_sub(before.as_ref().map_or(0, |it| it.sql.len()));
        Undo::Statement(name, before)
    }

    pub(super) fn set_portal(&mut self, name: Vec<u8>, portal: Option<Portal>) -> Undo {
        let before = match portal {
            Some(portal) => self.portals.insert(name.clone(), portal),
            None => self.portals.remove(&name),
        };
        Undo::Portal(name, before)
    }

    /// What SQL did to the names of statements: PREPARE, DEALLOCATE, DISCARD.
    pub(in super::super) fn prepared_by_sql(&mut self, name: Vec<u8>, statement: Option<Prepared>) {
        drop(self.set_statement(name, statement.map(Arc::new)));
    }

    /// The statement of that name, as SQL's EXECUTE means it.
    pub(in super::super) fn statement(&self, name: &[u8]) -> Option<Arc<Prepared>> {
        self.statements.get(name).cloned()
    }

    /// No name is known any more: what the server has under them was changed in a way nobody could read.
    pub(in super::super) fn forget_statements(&mut self) {
        self.statements.clear();
        self.statements_bytes = 0;
    }
}
