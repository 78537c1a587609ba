//! Agents and their virtual keys: what the command line changes and the server looks up.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use hashbrown::HashMap;

use super::CredentialError;
use super::binding::Binding;
use super::file::{Lock, RootKey, Watched, base32, read};
use super::session::SessionKeyId;
use crate::action::{Agent, Owner};
use crate::id::{AgentId, random_bytes};
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::wire::sigv4::Key;

mod saved;

/// The agents of a data directory, for the running server. Look-ups take no lock that spans
/// agents; changes made by the command line are seen within a second, a new key at once.
#[derive(Debug)]
pub(crate) struct Agents {
    root: RootKey,
    registry: Watched<Registry>,
    keys: KeyCache,
}

/// Whose key it is, and the key.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) agent: Arc<Agent>,
    pub(crate) key: Arc<Key>,
    /// The task that the key is bound to: it goes before what a request claims.
    pub(crate) task: Option<String>,
}

impl Agents {
    /// # Errors
    /// When a file of the data directory is damaged, open to everybody, or cannot be read.
    pub(crate) fn open(data: &Path) -> Result<Self, CredentialError> {
        let registry = Watched::open(agents_path(data), Registry::parse)?;
        Ok(Self { root: RootKey::open(data)?, registry, keys: KeyCache::default() })
    }

    /// The agent that holds `key_id`, and the key to verify its signature with. `peer` is where it comes from.
    ///
    /// # Errors
    /// When the key is not one of ours or not valid now. The client is told one thing for all of
    /// these, or it could probe for keys; the log gets the difference.
    pub(crate) fn lookup(&self, key_id: &str, peer: IpAddr, now: Timestamp) -> Result<Found, LookupError> {
        let mut holder = self.registry.current(now).1.holder(key_id, peer, now);
        if holder == Err(LookupError::Unknown) {
            // It may have been made this very second.
            self.registry.refresh();
            holder = self.registry.current(now).1.holder(key_id, peer, now);
        }
        let (agent, task) = holder?;
        Ok(Found { agent, key: self.keys.key(key_id, &self.root), task })
    }

    /// What to mix into a secret in a SCRAM exchange; the same for each name, whether or not it is a key's.
    pub(crate) fn salt(&self, name: &str) -> [u8; 16] {
        self.root.salt_of(name)
    }

    /// The agent of that name, for one who was authenticated without a key: by a certificate.
    ///
    /// # Errors
    /// When there is no such agent, or it is revoked.
    pub(crate) fn named(&self, id: &str, now: Timestamp) -> Result<Arc<Agent>, LookupError> {
        let mut agent = self.registry.current(now).1.named(id);
        if agent == Err(LookupError::Unknown) {
            self.registry.refresh();
            agent = self.registry.current(now).1.named(id);
        }
        agent
    }
}

/// Why a virtual key is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("the virtual key belongs to an agent that was revoked")]
    AgentRevoked,
    #[error("the virtual key is bound to other addresses")]
    Elsewhere,
    #[error("the virtual key has expired")]
    Expired,
    #[error("the virtual key was revoked")]
    Revoked,
    #[error("the virtual key is not one of ours")]
    Unknown,
}

/// One agent as it is registered.
#[derive(Clone, Debug)]
pub(crate) struct AgentEntry {
    pub(crate) agent: Arc<Agent>,
    pub(crate) created: Timestamp,
    pub(crate) is_revoked: bool,
    pub(crate) keys: Vec<KeyEntry>,
    /// Stands for the agent in short-lived key ids; never given to another agent of the same name.
    number: u64,
    /// Counts revocations: a short-lived key of an earlier epoch is void.
    epoch: u32,
}

/// One long-lived key of an agent. Its secret is derived, not stored.
#[derive(Clone, Debug)]
pub(crate) struct KeyEntry {
    pub(crate) key_id: String,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) revoked: Option<Timestamp>,
    pub(crate) binding: Binding,
}

/// How long a key is good, and where and for what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) lifetime: Option<Duration>,
    pub(crate) binding: Binding,
}

impl KeyEntry {
    fn fresh(terms: Terms, now: Timestamp) -> Result<Self, CredentialError> {
        let random = random_bytes::<10>().map_err(CredentialError::Random)?;
        Ok(Self {
            key_id: format!("{KEY_PREFIX}{}", base32(&random)),
            created: now,
            expires: terms.lifetime.map(|lifetime| now.plus(lifetime)),
            revoked: None,
            binding: terms.binding,
        })
    }

    /// # Errors
    /// When the key is revoked or expired.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), LookupError> {
        if self.revoked.is_some() {
            Err(LookupError::Revoked)
        } else if self.expires.is_some_and(|expires| expires <= now) {
            Err(LookupError::Expired)
        } else {
            Ok(())
        }
    }
}

/// A virtual key pair just made, to be shown to whoever asked for it.
#[derive(Debug)]
pub(crate) struct IssuedKey {
    pub(crate) key_id: String,
    pub(crate) secret: Secret,
    pub(crate) expires: Option<Timestamp>,
}

/// Registers an agent and makes its first key. An agent that was revoked comes back, with its new
/// owner, a new key and none of the old ones.
///
/// # Errors
/// When an agent of that name is in use, or the files cannot be read or written.
pub(crate) fn add(data: &Path, agent: Agent, terms: Terms, now: Timestamp) -> Result<IssuedKey, CredentialError> {
    change(data, |registry, root| {
        let key = KeyEntry::fresh(terms, now)?;
        let issued = issued(&key, root);
        match registry.agents.iter_mut().find(|entry| entry.agent.id == agent.id) {
            Some(entry) if !entry.is_revoked => return Err(CredentialError::AgentExists(agent.id)),
            Some(entry) => {
                entry.agent = Arc::new(agent);
                entry.is_revoked = false;
                entry.keys.push(key);
            }
            None => {
                let number = u64::from_be_bytes(random_bytes().map_err(CredentialError::Random)?);
                registry.agents.push(AgentEntry {
                    agent: Arc::new(agent),
                    created: now,
                    is_revoked: false,
                    keys: vec![key],
                    number,
                    epoch: 0,
                });
            }
        }
        Ok(issued)
    })
}

/// Gives an agent a new key; its other keys stay valid for `overlap`.
///
/// # Errors
/// When there is no such agent, it is revoked, or the files cannot be read or written.
pub(crate) fn rotate(
    data: &Path,
    id: &str,
    overlap: Duration,
    terms: Terms,
    now: Timestamp,
) -> Result<IssuedKey, CredentialError> {
    change(data, |registry, root| {
        let entry = registry.live_mut(id)?;
        let end = now.plus(overlap);
        for key in entry.keys.iter_mut().filter(|key| key.check(now).is_ok()) {
            key.expires = Some(key.expires.map_or(end, |expires| expires.min(end)));
        }
        let key = KeyEntry::fresh(terms, now)?;
        let issued = issued(&key, root);
        entry.keys.push(key);
        Ok(issued)
    })
}

/// What [`revoke`] put out of force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Revoked {
    /// The agent with all its keys.
    Agent(AgentId),
    Key(AgentId),
    /// A short-lived key cannot be revoked alone: all of the agent's were.
    ShortLived(AgentId),
}

/// Revokes an agent by its name, or a key by its id.
///
/// # Errors
/// When neither exists, or the files cannot be read or written.
pub(crate) fn revoke(data: &Path, agent_or_key: &str, now: Timestamp) -> Result<Revoked, CredentialError> {
    change(data, |registry, _| {
        let session = SessionKeyId::read(agent_or_key);
        for entry in &mut registry.agents {
            let id = entry.agent.id.clone();
            if id.as_str() == agent_or_key {
                entry.is_revoked = true;
                entry.epoch = entry.epoch.saturating_add(1);
                entry.keys.iter_mut().for_each(|key| key.revoked = key.revoked.or(Some(now)));
                return Ok(Revoked::Agent(id));
            }
            if session.as_ref().is_some_and(|session| session.agent_number == entry.number) {
                entry.epoch = entry.epoch.saturating_add(1);
                return Ok(Revoked::ShortLived(id));
            }
            if let Some(key) = entry.keys.iter_mut().find(|key| key.key_id == agent_or_key) {
                key.revoked = key.revoked.or(Some(now));
                return Ok(Revoked::Key(id));
            }
        }
        Err(CredentialError::UnknownAgentOrKey(agent_or_key.to_owned()))
    })
}

/// Every agent, in the order of registration.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn list(data: &Path) -> Result<Vec<AgentEntry>, CredentialError> {
    Ok(load(data)?.agents)
}

/// The longest life of a key that is stored nowhere.
const LONGEST_SESSION: Duration = Duration::from_secs(36 * 3600);

/// Makes a short-lived key for an agent; nothing is written.
///
/// # Errors
/// When there is no such agent, it is revoked, the lifetime is too long, or the files cannot be read.
pub(crate) fn issue_session(
    data: &Path,
    id: &str,
    lifetime: Duration,
    binding: Binding,
    now: Timestamp,
) -> Result<IssuedKey, CredentialError> {
    if lifetime > LONGEST_SESSION {
        return Err(CredentialError::TooLong(LONGEST_SESSION.as_secs() / 3600));
    }
    let mut registry = load(data)?;
    let entry = registry.live_mut(id)?;
    // Whole seconds: the key id carries no more.
    let expires = Timestamp::from_micros(now.plus(lifetime).as_seconds() * 1_000_000);
    let key_id = SessionKeyId { expires, agent_number: entry.number, epoch: entry.epoch, binding }.write()?;
    let secret = RootKey::open(data)?.secret_of(&key_id);
    Ok(IssuedKey { key_id, secret, expires: Some(expires) })
}

/// Long-lived keys look like AWS's own (20 characters), but cannot be taken for one.
pub(super) const KEY_PREFIX: &str = "AKCS";

/// All agents, with the ways to find one.
#[derive(Debug, Default)]
struct Registry {
    agents: Vec<AgentEntry>,
    by_key: HashMap<String, (usize, usize)>,
    by_number: HashMap<u64, usize>,
    by_name: HashMap<String, usize>,
}

impl Registry {
    fn parse(path: &Path, bytes: Option<&[u8]>) -> Result<Self, CredentialError> {
        let damaged = |why| CredentialError::Damaged { path: path.to_owned(), why };
        let agents = bytes.map_or(Ok(Vec::new()), saved::read).map_err(damaged)?;
        let mut registry = Self { agents, ..Self::default() };
        for (index, entry) in registry.agents.iter().enumerate() {
            let mut is_new = registry.by_number.insert(entry.number, index).is_none();
            for (key_index, key) in entry.keys.iter().enumerate() {
                is_new &= registry.by_key.insert(key.key_id.clone(), (index, key_index)).is_none();
            }
            registry.by_name.insert(entry.agent.id.as_str().to_owned(), index);
            if !is_new {
                return Err(damaged(format!("a key or number of agent `{}` is another agent's too", entry.agent.id)));
            }
        }
        Ok(registry)
    }

    fn holder(&self, key_id: &str, peer: IpAddr, now: Timestamp) -> Result<(Arc<Agent>, Option<String>), LookupError> {
        let (entry, validity, binding) = if let Some((agent, key)) = self.by_key.get(key_id) {
            let entry = self.agents.get(*agent).ok_or(LookupError::Unknown)?;
            let key = entry.keys.get(*key).ok_or(LookupError::Unknown)?;
            (entry, key.check(now), Cow::Borrowed(&key.binding))
        } else {
            let session = SessionKeyId::read(key_id).ok_or(LookupError::Unknown)?;
            let entry = self.by_number.get(&session.agent_number).and_then(|agent| self.agents.get(*agent));
            let entry = entry.ok_or(LookupError::Unknown)?;
            let validity = match () {
                () if session.epoch != entry.epoch => Err(LookupError::Revoked),
                () if session.expires <= now => Err(LookupError::Expired),
                () => Ok(()),
            };
            (entry, validity, Cow::Owned(session.binding))
        };
        if entry.is_revoked {
            return Err(LookupError::AgentRevoked);
        }
        if !binding.admits(peer) {
            return Err(LookupError::Elsewhere);
        }
        validity.map(|()| (Arc::clone(&entry.agent), binding.task.clone()))
    }

    fn named(&self, id: &str) -> Result<Arc<Agent>, LookupError> {
        let index = self.by_name.get(id).ok_or(LookupError::Unknown)?;
        match self.agents.get(*index) {
            Some(entry) if entry.is_revoked => Err(LookupError::AgentRevoked),
            Some(entry) => Ok(Arc::clone(&entry.agent)),
            None => Err(LookupError::Unknown),
        }
    }

    fn live_mut(&mut self, id: &str) -> Result<&mut AgentEntry, CredentialError> {
        let entry = self.agents.iter_mut().find(|entry| entry.agent.id.as_str() == id);
        match entry.ok_or_else(|| CredentialError::UnknownAgent(id.to_owned()))? {
            entry if entry.is_revoked => Err(CredentialError::AgentRevoked(entry.agent.id.clone())),
            entry => Ok(entry),
        }
    }
}

/// Keys with the signing keys derived from them, by key id. An id that was never issued may get in
/// (its secret is known to nobody, so its signatures fail); the cache is emptied before it grows large.
#[derive(Debug, Default)]
struct KeyCache {
    keys: DashMap<String, Arc<Key>>,
    count: AtomicUsize,
}

const KEPT_KEYS: usize = 10_000;

impl KeyCache {
    fn key(&self, key_id: &str, root: &RootKey) -> Arc<Key> {
        if let Some(key) = self.keys.get(key_id) {
            return Arc::clone(&key);
        }
        let key = Arc::new(Key::new(key_id, root.secret_of(key_id), None, None));
        if self.count.fetch_add(1, Ordering::Relaxed) >= KEPT_KEYS {
            self.keys.clear();
            self.count.store(1, Ordering::Relaxed);
        }
        self.keys.insert(key_id.to_owned(), Arc::clone(&key));
        key
    }
}

fn agents_path(data: &Path) -> PathBuf {
    data.join("agents.json")
}

fn load(data: &Path) -> Result<Registry, CredentialError> {
    let path = agents_path(data);
    let (_, bytes) = read(&path)?;
    Registry::parse(&path, bytes.as_deref())
}

fn change<T>(
    data: &Path,
    edit: impl FnOnce(&mut Registry, &RootKey) -> Result<T, CredentialError>,
) -> Result<T, CredentialError> {
    // The root key takes the same lock when it is made: open it before.
    let root = RootKey::open(data)?;
    let lock = Lock::take(data)?;
    let mut registry = load(data)?;
    let answer = edit(&mut registry, &root)?;
    let path = agents_path(data);
    match saved::write(&registry.agents) {
        Ok(text) => lock.replace(&path, &text).map(|()| answer),
        Err(why) => Err(CredentialError::Damaged { path, why }),
    }
}

fn issued(key: &KeyEntry, root: &RootKey) -> IssuedKey {
    IssuedKey { key_id: key.key_id.clone(), secret: root.secret_of(&key.key_id), expires: key.expires }
}

/// Reads an owner: a person, or `group:NAME`.
pub(crate) fn parse_owner(text: &str) -> Option<Owner> {
    use crate::id::{GroupId, PersonId, is_plain_name};
    match text.strip_prefix("group:") {
        Some(group) => is_plain_name(group).then(|| Owner::Group(GroupId::new(group))),
        None => is_plain_name(text).then(|| Owner::Person(PersonId::new(text))),
    }
}

#[cfg(test)]
mod tests;
