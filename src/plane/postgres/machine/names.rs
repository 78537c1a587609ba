//! What the names of statements and portals stand for, as the server has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::{Broken, Event, Machine, Portal, Undo};
use crate::classify::postgres as classify;

/// A statement that was made by Parse.
#[derive(Debug, Default)]
pub(in super::super) struct Prepared {
    pub(in super::super) sql: Bytes,
    /// Oids of the types that the client gave; 0 where it left one to the server.
    pub(in super::super) types: Vec<u32>,
    /// The settings under which the server has read its text; `None`: nobody knows.
    read_under: Option<Arc<classify::Settings>>,
    /// Its client asked what columns it gives, and may count on them from then on.
    is_told: AtomicBool,
}

impl Prepared {
    pub(in super::super) fn new(sql: Bytes, types: Vec<u32>, read_under: Option<Arc<classify::Settings>>) -> Self {
        Self { sql, types, read_under, is_told: AtomicBool::new(false) }
    }

    /// Whether its text, read under these settings, is what the server has read.
    pub(in super::super) fn is_read_as_under(&self, settings: &Arc<classify::Settings>) -> bool {
        self.read_under.as_ref().is_some_and(|then| {
            Arc::ptr_eq(then, settings)
                || then.client_encoding == settings.client_encoding
                    && then.standard_conforming_strings == settings.standard_conforming_strings
        })
    }

    pub(in super::super) fn is_told(&self) -> bool {
        self.is_told.load(Ordering::Relaxed)
    }

    pub(super) fn tell(&self) {
        self.is_told.store(true, Ordering::Relaxed);
    }
}

/// Bytes of a name that a server tells apart: `NAMEDATALEN` less one. It drops what comes behind them.
const NAME_BYTES: usize = 63;

/// Statements by name that one session may have, and bytes of their texts.
const STATEMENTS_LIMIT: usize = 10_000;
const STATEMENTS_LIMIT_BYTES: usize = 64 << 20;

/// Portals by name that one session may have.
const PORTALS_LIMIT: usize = 4096;

/// What a server takes a name of the protocol for; `None` where that is not known: it may read other bytes than
/// ASCII in another encoding than its own, in which two names are one.
pub(super) fn key(name: &[u8]) -> Option<&[u8]> {
    name.is_ascii().then(|| name.get(..NAME_BYTES).unwrap_or(name))
}

impl Machine {
    /// # Errors
    /// When there are more names than are kept: by Parse and Bind, or by SQL.
    pub(super) fn check_names(&self) -> Result<(), Broken> {
        if self.statements.len() > STATEMENTS_LIMIT || self.statements_bytes > STATEMENTS_LIMIT_BYTES {
            return Err(Broken::TooManyStatements);
        }
        if self.portals.len() > PORTALS_LIMIT {
            return Err(Broken::TooManyPortals);
        }
        Ok(())
    }

    pub(super) fn set_statement(&mut self, name: Vec<u8>, statement: Option<Arc<Prepared>>) -> Undo {
        let Some(name) = key(&name).map(<[u8]>::to_vec) else {
            // It may have been any of these.
            self.statements.retain(|name, _| name.is_ascii());
            self.statements_bytes = self.statements.values().map(|it| it.sql.len()).sum();
            return Undo::Nothing;
        };
        self.put_statement(name, statement)
    }

    fn put_statement(&mut self, name: Vec<u8>, statement: Option<Arc<Prepared>>) -> Undo {
        self.statements_bytes += statement.as_ref().map_or(0, |it| it.sql.len());
        let before = match statement {
            Some(statement) => self.statements.insert(name.clone(), statement),
            None => self.statements.remove(&name),
        };
        self.statements_bytes = self.statements_bytes.saturating_sub(before.as_ref().map_or(0, |it| it.sql.len()));
        Undo::Statement(name, before)
    }

    pub(super) fn set_portal(&mut self, name: Vec<u8>, portal: Option<Portal>) -> Undo {
        let Some(name) = key(&name).map(<[u8]>::to_vec) else {
            // Its permit ends here: an Execute of it is asked about.
            self.events.extend(portal.and_then(|it| it.run).map(Event::Over));
            return Undo::Nothing;
        };
        let before = match portal {
            Some(portal) => self.portals.insert(name.clone(), portal),
            None => self.portals.remove(&name),
        };
        Undo::Portal(name, before)
    }

    /// What SQL did to the names of statements: PREPARE, DEALLOCATE, DISCARD.
    pub(in super::super) fn prepared_by_sql(&mut self, name: Vec<u8>, statement: Option<Prepared>) {
        drop(self.put_statement(name, statement.map(Arc::new)));
    }

    /// What SQL did to the name of a portal, or to all: DECLARE, CLOSE. What is executed under it is asked about.
    pub(in super::super) fn portal_by_sql(&mut self, name: Option<&[u8]>) {
        let answered = self.last_bound;
        let is_it = |its: &Vec<u8>| name.is_none_or(|name| its == name);
        let gone = self.portals.extract_if(|its, portal| is_it(its) && portal.bind <= answered);
        self.events.extend(gone.filter_map(|(_, portal)| portal.run).map(Event::Over));
    }

    /// The statement of that name, as SQL's EXECUTE means it.
    pub(in super::super) fn statement(&self, name: &[u8]) -> Option<Arc<Prepared>> {
        self.statements.get(name).cloned()
    }

    /// The same as a Bind means it.
    pub(in super::super) fn bound(&self, name: &[u8]) -> Option<Arc<Prepared>> {
        self.statements.get(key(name)?).cloned()
    }

    /// No name is known any more: what the server has under them was changed in a way nobody could read.
    pub(in super::super) fn forget_statements(&mut self) {
        self.statements.clear();
        self.statements_bytes = 0;
    }
}
