//! Short-lived virtual keys that are stored nowhere: the key id says whose it is and until when,
//! and only the holder of the root key can make the secret that belongs to it.
//!
//! `AKCT` and 32 or more base32 characters of: format (1 byte), expiry in seconds since the epoch (4),
//! agent number (8), epoch of the agent (4), random (3), and what it is
//! bound to, with zeros behind it up to a multiple of five bytes. Forging an id gains nothing without its
//! secret; revoking an agent raises its epoch, which ends all of its short-lived keys.

use super::CredentialError;
use super::binding::Binding;
use super::file::{base32, from_base32};
use crate::id::random_bytes;
use crate::time::Timestamp;

pub(super) const KEY_PREFIX: &str = "AKCT";
const FORMAT: u8 = 1;
/// So that an id has no more than 128 characters, which is what the STS API reference allows one.
const BINDING_LIMIT_BYTES: usize = 55;
const ID_LIMIT_CHARS: usize = 128;

/// What the id of a short-lived key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionKeyId {
    pub(super) expires: Timestamp,
    pub(super) agent_number: u64,
    pub(super) epoch: u32,
    pub(super) binding: Binding,
}

impl SessionKeyId {
    /// A fresh key id.
    pub(super) fn write(&self) -> Result<String, CredentialError> {
        let random = random_bytes::<3>().map_err(CredentialError::Random)?;
        let seconds = u32::try_from(self.expires.as_seconds()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(20);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&seconds.to_be_bytes());
        bytes.extend_from_slice(&self.agent_number.to_be_bytes());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&random);
        let before = bytes.len();
        self.binding.write(&mut bytes);
        let bound = bytes.len() - before;
        if bound > BINDING_LIMIT_BYTES {
            return Err(CredentialError::BindingTooLong(bound, BINDING_LIMIT_BYTES));
        }
        bytes.resize(bytes.len().next_multiple_of(5), 0);
        Ok(format!("{KEY_PREFIX}{}", base32(&bytes)))
    }

    /// Reads a key id; `None` when it is not one of this kind.
    pub(super) fn read(key_id: &str) -> Option<Self> {
        let digits = key_id.strip_prefix(KEY_PREFIX).filter(|_| key_id.len() <= ID_LIMIT_CHARS)?;
        let bytes = from_base32(digits)?;
        let [FORMAT, rest @ ..] = bytes.as_slice() else { return None };
        let (seconds, rest) = rest.split_first_chunk::<4>()?;
        let (agent_number, rest) = rest.split_first_chunk::<8>()?;
        let (epoch, rest) = rest.split_first_chunk::<4>()?;
        let (_random, bound) = rest.split_first_chunk::<3>()?;
        Some(Self {
            expires: Timestamp::from_micros(i64::from(u32::from_be_bytes(*seconds)) * 1_000_000),
            agent_number: u64::from_be_bytes(*agent_number),
            epoch: u32::from_be_bytes(*epoch),
            binding: Binding::read(bound)?,
        })
    }
}
