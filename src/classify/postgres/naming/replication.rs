//! Commands of replication connections (PostgreSQL docs, section 55.4).

use std::sync::Arc;

use super::super::{Effect, Settings, Statement};
use super::Draft;
use crate::action::Trait;

/// The command, when the text begins with the word of one; the server decides by that word too.
pub(super) fn command(sql: &[u8], settings: &Settings) -> Option<Statement> {
    let text = String::from_utf8_lossy(sql);
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c == ';').filter(|it| !it.is_empty()).collect();
    let (name, effect) = match words.first()?.to_ascii_uppercase().as_str() {
        "IDENTIFY_SYSTEM" => ("identify_system", Effect::None),
        "SHOW" => ("show", Effect::None),
        "TIMELINE_HISTORY" => ("timeline_history", Effect::None),
        "CREATE_REPLICATION_SLOT" => ("create_replication_slot", Effect::None),
        "DROP_REPLICATION_SLOT" => ("drop_replication_slot", Effect::None),
        "ALTER_REPLICATION_SLOT" => ("alter_replication_slot", Effect::None),
        "READ_REPLICATION_SLOT" => ("read_replication_slot", Effect::None),
        "START_REPLICATION" => ("start_replication", Effect::CopyBoth),
        "BASE_BACKUP" => ("base_backup", Effect::CopyOut),
        "UPLOAD_MANIFEST" => ("upload_manifest", Effect::CopyIn),
        _ => return None,
    };
    let mut draft = Draft::new(name, text.trim());
    if std::str::from_utf8(sql).is_err() || sql.contains(&0) {
        draft.doubt("the command is not UTF-8, or has a NUL byte");
    }
    let slot = match (name, words.get(1).map(|it| it.to_ascii_uppercase())) {
        ("start_replication", Some(word)) if word == "SLOT" => words.get(2),
        (name, _) if name.ends_with("_slot") => words.get(1),
        _ => None,
    };
    if let Some(slot) = slot {
        draft.resource(format!("postgres:{}/slot/{}", settings.database, slot.trim_matches('"')));
    }
    // A backup to the server's own files, not to the client.
    let goes_elsewhere = name == "base_backup" && words.iter().any(|it| it.to_ascii_uppercase().contains("TARGET"));
    if goes_elsewhere {
        draft.traits = draft.traits.with(Trait::Exec);
    }
    Some(Statement {
        text: 0..sql.len(),
        actions: Arc::from([draft.finish(settings)]),
        effect,
        is_dynamic: false,
        unresolved: Vec::new(),
    })
}
