//! Which session a CancelRequest is for. It comes on a connection of its own, proves nothing but a key
//! that its session was given, and gets no answer.

use dashmap::DashMap;
use tokio::sync::{mpsc, oneshot};

use super::session::Told;
use crate::id::random_bytes;
use crate::secret::same;

/// The sessions that can be cancelled, by the process id that each was told: that of the upstream's, so
/// that what the server says of processes (who notified, `pg_stat_activity`) means the same to a client.
/// Several upstreams may have the same; the key tells them apart, as it alone proves anything.
#[derive(Debug, Default)]
pub(super) struct Cancels {
    sessions: DashMap<u32, Vec<Entry>>,
}

struct Entry {
    key: Vec<u8>,
    told: mpsc::Sender<Told>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry([redacted])")
    }
}

/// A session's place among them; leaving it is dropping this.
pub(super) struct Ticket<'c> {
    cancels: &'c Cancels,
    pub(super) process_id: u32,
    pub(super) key: Vec<u8>,
}

/// Requests that one session has not looked at.
const WAITING: usize = 8;

/// Bytes of a key in protocol 3.0, and in 3.2 where it may be longer.
const KEY_BYTES: usize = 4;
const LONG_KEY_BYTES: usize = 32;

impl Cancels {
    /// A place for a new session, and where it hears of requests. Several before it looks are one.
    /// `upstream`: the process id of its session there; without one, any.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn enter(
        &self,
        upstream: Option<u32>,
        is_long: bool,
    ) -> std::io::Result<(Ticket<'_>, mpsc::Receiver<Told>)> {
        let (told, hears) = mpsc::channel(WAITING);
        loop {
            let random = random_bytes::<{ LONG_KEY_BYTES + 4 }>().map_err(std::io::Error::other)?;
            let (id, key) = random.split_at(4);
            let length = if is_long { LONG_KEY_BYTES } else { KEY_BYTES };
            let key = key.get(..length).unwrap_or_default().to_vec();
            // Positive, as process ids are.
            let any = id.iter().fold(0u32, |id, byte| id << 8 | u32::from(*byte)) & 0x7fff_ffff;
            let process_id = upstream.unwrap_or(any);
            let mut entries = self.sessions.entry(process_id).or_default();
            if entries.iter().all(|entry| entry.key != key) {
                entries.push(Entry { key: key.clone(), told });
                return Ok((Ticket { cancels: self, process_id, key }, hears));
            }
        }
    }

    /// Tells the session with that id and key; nobody, when there is none. What is returned ends when the
    /// session has dealt with it.
    pub(super) fn cancel(&self, process_id: u32, key: &[u8]) -> oneshot::Receiver<()> {
        let (told, dealt) = oneshot::channel();
        if let Some(entries) = self.sessions.get(&process_id)
            && let Some(entry) = entries.iter().find(|entry| same(&entry.key, key))
            && entry.told.try_send(told).is_err()
        {
            tracing::debug!(process_id, "a session has not yet looked at earlier cancel requests");
        }
        dealt
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.cancels.sessions.remove_if_mut(&self.process_id, |_, entries| {
            entries.retain(|entry| entry.key != self.key);
            entries.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_of_a_session_cancels_it() {
        let cancels = Cancels::default();
        let (ticket, mut hears) = cancels.enter(None, false).unwrap();
        let closed = |mut dealt: oneshot::Receiver<()>| dealt.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        assert!(closed(cancels.cancel(ticket.process_id, &[0, 0, 0])));
        assert!(closed(cancels.cancel(ticket.process_id.wrapping_add(1), &ticket.key)));
        assert!(hears.try_recv().is_err());
        let mut dealt = cancels.cancel(ticket.process_id, &ticket.key);
        assert_eq!(dealt.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        drop(hears.try_recv().unwrap());
        assert!(closed(dealt));
        let (process_id, key) = (ticket.process_id, ticket.key.clone());
        drop(ticket);
        assert!(closed(cancels.cancel(process_id, &key)));
        assert!(cancels.sessions.is_empty());
        assert_eq!(cancels.enter(None, true).unwrap().0.key.len(), LONG_KEY_BYTES);
    }

    #[test]
    fn sessions_of_two_servers_with_one_process_id_are_told_apart_by_the_key() {
        let cancels = Cancels::default();
        let (one, mut one_hears) = cancels.enter(Some(4711), false).unwrap();
        let (other, mut other_hears) = cancels.enter(Some(4711), false).unwrap();
        assert_eq!((one.process_id, other.process_id), (4711, 4711));
        drop(cancels.cancel(4711, &other.key));
        assert!(one_hears.try_recv().is_err() && other_hears.try_recv().is_ok());
        drop(other);
        drop(cancels.cancel(4711, &one.key));
        assert!(one_hears.try_recv().is_ok());
        drop(one);
        assert!(cancels.sessions.is_empty());
    }
}
