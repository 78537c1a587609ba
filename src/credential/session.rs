//! Short-lived virtual keys that are stored nowhere: the key id says whose it is and until when,
//! and only the holder of the root key can make the secret that belongs to it.
//!
//! `AKCT` and 32 base32 characters of: format (1 byte), expiry in seconds since the epoch (4),
//! agent number (8), epoch of the agent (4), random (3). Forging an id gains nothing without its
//! secret; revoking an agent raises its epoch, which ends all of its short-lived keys.

use super::CredentialError;
use super::file::{base32, from_base32};
use crate::id::random_bytes;
use crate::time::Timestamp;

pub(super) const KEY_PREFIX: &str = "AKCT";
const FORMAT: u8 = 1;

/// What the id of a short-lived key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionKeyId {
    pub(super) expires: Timestamp,
    pub(super) agent_number: u64,
    pub(super) epoch: u32,
}

impl SessionKeyId {
    /// A fresh key id.
    pub(super) fn write(self) -> Result<String, CredentialError> {
        let random = random_bytes::<3>().map_err(CredentialError::Random)?;
        let seconds = u32::try_from(self.expires.as_seconds()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(20);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&seconds.to_be_bytes());
        bytes.extend_from_slice(&self.agent_number.to_be_bytes());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&random);
        Ok(format!("{KEY_PREFIX}{}", base32(&bytes)))
    }

    /// Reads a key id; `None` when it is not one of this kind.
    pub(super) fn read(key_id: &str) -> Option<Self> {
        let bytes: [u8; 20] = from_base32(key_id.strip_prefix(KEY_PREFIX)?)?.try_into().ok()?;
        let [FORMAT, rest @ ..] = bytes else { return None };
        let (seconds, rest) = rest.split_first_chunk::<4>()?;
        let (agent_number, rest) = rest.split_first_chunk::<8>()?;
        let (epoch, _random) = rest.split_first_chunk::<4>()?;
        Some(Self {
            expires: Timestamp::from_micros(i64::from(u32::from_be_bytes(*seconds)) * 1_000_000),
            agent_number: u64::from_be_bytes(*agent_number),
            epoch: u32::from_be_bytes(*epoch),
        })
    }
}
