//! Which session a CancelRequest is for. It comes on a connection of its own, proves nothing but a key
//! that its session was given, and gets no answer.

use dashmap::DashMap;
use tokio::sync::{mpsc, oneshot};

use super::session::Told;
use crate::id::random_bytes;
use crate::secret::same;

/// The sessions that can be cancelled, by the process id that each was told.
#[derive(Debug, Default)]
pub(super) struct Cancels {
    sessions: DashMap<u32, Entry>,
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
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(super) fn enter(&self, is_long: bool) -> std::io::Result<(Ticket<'_>, mpsc::Receiver<Told>)> {
        let random = random_bytes::<{ LONG_KEY_BYTES + 4 }>().map_err(std::io::Error::other)?;
        let (id, key) = random.split_at(4);
        let length = if is_long { LONG_KEY_BYTES } else { KEY_BYTES };
        let key = key.get(..length).unwrap_or_default().to_vec();
        let (told, hears) = mpsc::channel(WAITING);
        // Positive, as process ids are.
        let mut process_id = id.iter().fold(0u32, |id, byte| id << 8 | u32::from(*byte)) & 0x7fff_ffff;
        loop {
            match self.sessions.entry(process_id) {
                dashmap::Entry::Vacant(vacant) => {
                    vacant.insert(Entry { key: key.clone(), told });
                    return Ok((Ticket { cancels: self, process_id, key }, hears));
                }
                dashmap::Entry::Occupied(_) => process_id = process_id.wrapping_add(1) & 0x7fff_ffff,
            }
        }
    }

    /// Tells the session with that id and key; nobody, when there is none. What is returned ends when the
    /// session has dealt with it.
    pub(super) fn cancel(&self, process_id: u32, key: &[u8]) -> oneshot::Receiver<()> {
        let (told, dealt) = oneshot::channel();
        if let Some(entry) = self.sessions.get(&process_id)
            && same(&entry.key, key)
            && entry.told.try_send(told).is_err()
        {
            tracing::debug!(process_id, "a session has not yet looked at earlier cancel requests");
        }
        dealt
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.cancels.sessions.remove(&self.process_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_of_a_session_cancels_it() {
        let cancels = Cancels::default();
        let (ticket, mut hears) = cancels.enter(false).unwrap();
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
        assert_eq!(cancels.enter(true).unwrap().0.key.len(), LONG_KEY_BYTES);
    }
}
