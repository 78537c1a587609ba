//! The one door to the grammar, which is the server's own C code.
//!
//! That code turns its process's standard error aside while it parses or scans, so that two at once could
//! leave it turned aside for good: one runs at a time. A parse is microseconds, and repeated
//! statements do not come here ([`super::cache`]).

use std::sync::{Mutex, PoisonError};

use super::tree::{self, Tree};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A statement of the tree, and the bytes of the string it stands in.
pub(super) struct Raw {
    pub(super) tree: Tree,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Parses a text that [`super::text::check`] has passed.
///
/// # Errors
/// The grammar's complaint.
pub(super) fn parse(sql: &str) -> Result<Vec<Raw>, String> {
    let parsed = {
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        pg_query::parse(sql, pg_query::ParserOptions::DEFAULT).map_err(|error| error.to_string())?
    };
    let mut found = Vec::with_capacity(parsed.protobuf.stmts.len());
    for raw in &parsed.protobuf.stmts {
        let start = usize::try_from(raw.stmt_location).map_err(|_| "a statement has no place")?;
        // Zero stands for the rest of the string.
        let length = usize::try_from(raw.stmt_len).unwrap_or(0);
        let end = if length == 0 { sql.len() } else { start.saturating_add(length).min(sql.len()) };
        let tree = tree::read(&raw.stmt).map_err(|error| error.to_string())?;
        found.push(Raw { tree, start, end });
    }
    Ok(found)
}

/// The tokens of a text: kind and bytes.
///
/// # Errors
/// The scanner's complaint.
pub(super) fn scan(sql: &str) -> Result<Vec<pg_query::protobuf::ScanToken>, String> {
    // The library makes a slice of a null pointer where there is no token.
    if sql.bytes().all(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)) {
        return Ok(Vec::new());
    }
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    pg_query::scan_tokens(sql).map_err(|error| error.to_string())
}
