//! Who has how much of the spool's disk.
//!
//! Before a signature holds, whoever knows a key id can have its body written to disk. So bytes are
//! charged to that key id and peer until then, within a bound of its own, and to the agent after.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::SpoolError;
use crate::id::AgentId;
use crate::net::peers::block;

/// Bytes of disk that bodies may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskLimits {
    /// All of them together.
    pub(crate) total: u64,
    /// Those of one agent.
    pub(crate) per_agent: u64,
    /// Those sent from one address with one key id, while nothing proves that the sender holds the key. All
    /// that is unproven together may take half of `total`.
    pub(crate) unproven: u64,
}

/// To whom a body's bytes are charged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Payer {
    Agent(AgentId),
    /// Whoever sent that key id from there; made by [`Payer::unproven`].
    Unproven(String, IpAddr),
}

impl Payer {
    /// Whoever sent that key id from that address.
    pub(crate) fn unproven(key_id: &str, peer: IpAddr) -> Self {
        Self::Unproven(key_id.to_owned(), block(peer))
    }
}

/// The disk of one spool.
#[derive(Debug)]
pub(super) struct Ledger {
    limits: DiskLimits,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    total: u64,
    unproven: u64,
    /// Bytes and bodies by payer; those without any are absent.
    by_payer: HashMap<Payer, (u64, usize)>,
}

impl Ledger {
    pub(super) fn new(limits: DiskLimits) -> Arc<Self> {
        Arc::new(Self { limits, used: Mutex::default() })
    }

    #[cfg(test)]
    pub(super) fn total(&self) -> u64 {
        let used = self.used();
        assert_eq!(used.by_payer.values().map(|(bytes, _)| bytes).sum::<u64>(), used.total);
        used.total
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why `payer` cannot have `bytes` more.
    fn check(&self, used: &Used, payer: &Payer, bytes: u64, is_new: bool) -> Result<(), SpoolError> {
        let (own, bodies) = used.by_payer.get(payer).copied().unwrap_or_default();
        match payer {
            Payer::Agent(_) if own + bytes > self.limits.per_agent => {
                Err(SpoolError::AgentFull { limit_bytes: self.limits.per_agent })
            }
            Payer::Unproven(..) if own + bytes > self.limits.unproven || (is_new && bodies >= UNPROVEN_BODIES) => {
                Err(SpoolError::UnprovenFull { limit_bytes: self.limits.unproven, limit_bodies: UNPROVEN_BODIES })
            }
            Payer::Unproven(..) if used.unproven + bytes > self.limits.total / 2 => Err(SpoolError::Full),
            _ => Ok(()),
        }
    }
}

impl Used {
    fn charge(&mut self, payer: &Payer, bytes: u64, is_new: bool) {
        self.total += bytes;
        let (own, bodies) = self.by_payer.entry(payer.clone()).or_default();
        *own += bytes;
        *bodies += usize::from(is_new);
        if matches!(payer, Payer::Unproven(..)) {
            self.unproven += bytes;
        }
    }

    fn give_back(&mut self, payer: &Payer, bytes: u64) {
        self.total -= bytes;
        if matches!(payer, Payer::Unproven(..)) {
            self.unproven -= bytes;
        }
        if let Some((own, bodies)) = self.by_payer.get_mut(payer) {
            *own -= bytes;
            *bodies -= 1;
            if *bodies == 0 {
                self.by_payer.remove(payer);
            }
        }
    }
}

/// One body's part of the disk, given back on drop.
#[derive(Debug)]
pub(super) struct DiskShare {
    ledger: Arc<Ledger>,
    payer: Payer,
    /// `None` until something is written.
    bytes: Option<u64>,
}

impl DiskShare {
    pub(super) fn of(ledger: &Arc<Ledger>, payer: Payer) -> Self {
        Self { ledger: Arc::clone(ledger), payer, bytes: None }
    }

    /// # Errors
    /// When there is no room; nothing is changed then.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), SpoolError> {
        let mut used = self.ledger.used();
        let is_new = self.bytes.is_none();
        self.ledger.check(&used, &self.payer, bytes, is_new)?;
        if used.total + bytes > self.ledger.limits.total {
            return Err(SpoolError::Full);
        }
        used.charge(&self.payer, bytes, is_new);
        self.bytes = Some(self.bytes.unwrap_or(0) + bytes);
        Ok(())
    }

    /// Charges another payer from here on.
    ///
    /// # Errors
    /// When that one has no room; nothing is changed then.
    pub(super) fn pass_to(&mut self, payer: Payer) -> Result<(), SpoolError> {
        let Some(bytes) = self.bytes.filter(|_| payer != self.payer) else { return Ok(()) };
        let mut used = self.ledger.used();
        self.ledger.check(&used, &payer, bytes, true)?;
        used.give_back(&self.payer, bytes);
        used.charge(&payer, bytes, true);
        drop(used);
        self.payer = payer;
        Ok(())
    }
}

impl Drop for DiskShare {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes {
            self.ledger.used().give_back(&self.payer, bytes);
        }
    }
}

/// Bodies on disk of one address and key id at once, while unproven: each takes a file descriptor too.
const UNPROVEN_BODIES: usize = 256;
