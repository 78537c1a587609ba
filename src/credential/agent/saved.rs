//! The stored form of `agents.json`, version 1. Separate from the domain types: a renamed field
//! there must not make yesterday's file unreadable.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AgentEntry, KeyEntry, parse_owner};
use crate::action::Agent;
use crate::credential::binding::Binding;
use crate::id::{AgentId, is_plain_name};
use crate::time::Timestamp;

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedAgents {
    version: u32,
    agents: Vec<SavedAgent>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedAgent {
    id: String,
    owner: String,
    /// Sixteen hexadecimal digits: many JSON tools round numbers of this size.
    number: String,
    epoch: u32,
    revoked: bool,
    created: String,
    keys: Vec<SavedKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedKey {
    key_id: String,
    created: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    from: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<String>,
}

pub(super) fn read(bytes: &[u8]) -> Result<Vec<AgentEntry>, String> {
    let saved: SavedAgents = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if saved.version != VERSION {
        return Err(format!("it has version {}, this program reads version {VERSION}", saved.version));
    }
    saved.agents.into_iter().map(read_agent).collect()
}

fn read_agent(saved: SavedAgent) -> Result<AgentEntry, String> {
    let owner = parse_owner(&saved.owner).ok_or_else(|| format!("`{}` is no owner", saved.owner))?;
    if !is_plain_name(&saved.id) {
        return Err(format!("`{}` is no name for an agent", saved.id));
    }
    Ok(AgentEntry {
        agent: Arc::new(Agent { id: AgentId::new(&saved.id), owner }),
        created: moment(&saved.created)?,
        is_revoked: saved.revoked,
        keys: saved.keys.into_iter().map(read_key).collect::<Result<_, _>>()?,
        number: u64::from_str_radix(&saved.number, 16).map_err(|_| format!("`{}` is no number", saved.number))?,
        epoch: saved.epoch,
    })
}

fn read_key(saved: SavedKey) -> Result<KeyEntry, String> {
    Ok(KeyEntry {
        key_id: saved.key_id,
        created: moment(&saved.created)?,
        expires: saved.expires.as_deref().map(moment).transpose()?,
        revoked: saved.revoked.as_deref().map(moment).transpose()?,
        binding: Binding {
            from: saved.from.iter().map(|it| Binding::network(it)).collect::<Result<_, _>>()?,
            task: saved.task,
        },
    })
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| format!("`{text}` is no RFC 3339 moment"))
}

pub(super) fn write(agents: &[AgentEntry]) -> Result<Vec<u8>, String> {
    let saved = SavedAgents { version: VERSION, agents: agents.iter().map(write_agent).collect() };
    serde_json::to_vec_pretty(&saved).map_err(|error| error.to_string())
}

fn write_agent(entry: &AgentEntry) -> SavedAgent {
    SavedAgent {
        id: entry.agent.id.to_string(),
        owner: entry.agent.owner.to_string(),
        number: format!("{:016x}", entry.number),
        epoch: entry.epoch,
        revoked: entry.is_revoked,
        created: entry.created.rfc3339(),
        keys: entry.keys.iter().map(write_key).collect(),
    }
}

fn write_key(key: &KeyEntry) -> SavedKey {
    SavedKey {
        key_id: key.key_id.clone(),
        created: key.created.rfc3339(),
        expires: key.expires.map(Timestamp::rfc3339),
        revoked: key.revoked.map(Timestamp::rfc3339),
        from: key.binding.from.iter().map(ToString::to_string).collect(),
        task: key.binding.task.clone(),
    }
}
