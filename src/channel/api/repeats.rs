//! Verdicts that a client sends again under the same `Idempotency-Key`, not knowing whether they arrived.
//!
//! Only what was decided is kept: a refusal changed nothing, so that asking again is harmless.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::Refusal;
use crate::digest::{Digest, sha256};
use crate::id::{HoldId, PersonId};
use crate::time::Timestamp;

/// Answers by person and key.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<HashMap<Name, Kept>>);

type Name = (PersonId, String);

#[derive(Debug)]
struct Kept {
    /// Of the hold and the body.
    request: Digest,
    /// `None` while it is being decided.
    answer: Option<Bytes>,
    at: Timestamp,
}

/// What is known of a request.
pub(super) enum Begun<'a> {
    /// It was decided; this is what was answered.
    Known(Bytes),
    New(Turn<'a>),
}

/// A request that is being decided; forgotten when it is dropped before it is done.
pub(super) struct Turn<'a> {
    repeats: &'a Repeats,
    name: Option<Name>,
}

/// The key of a request, where it has one.
///
/// # Errors
/// When it has several, or one that is too long to be kept.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut fields = headers.get_all("idempotency-key").iter();
    let Some(field) = fields.next() else { return Ok(None) };
    let is_key = |key: &&str| (1..=KEY_LIMIT_BYTES).contains(&key.len());
    match field.to_str().ok().filter(is_key) {
        Some(key) if fields.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(Refusal::invalid("`idempotency-key` must be one text of 1 to 255 ASCII characters")),
    }
}

impl Repeats {
    /// # Errors
    /// When the key was used for another request, or its request is being decided just now.
    pub(super) fn begin(
        &self,
        person: &PersonId,
        key: Option<String>,
        hold: &HoldId,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Begun<'_>, Refusal> {
        let Some(key) = key else { return Ok(Begun::New(Turn { repeats: self, name: None })) };
        let request = sha256(&[hold.as_str().as_bytes(), b" ", body].concat());
        let name = (person.clone(), key);
        let mut kept = self.kept();
        kept.retain(|_, it| it.answer.is_none() || now.since(it.at) < KEPT);
        match kept.get(&name) {
            Some(it) if it.request != request => Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "this `idempotency-key` came with another request before",
            )),
            Some(Kept { answer: Some(answer), .. }) => Ok(Begun::Known(answer.clone())),
            Some(_) => Err(Refusal::new(
                StatusCode::CONFLICT,
                "in_progress",
                "the request of this `idempotency-key` is being decided just now: ask again",
            )),
            None if kept.len() >= LIMIT => Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_keys",
                "too many idempotency keys are in use; try later, or without one",
            )),
            None => {
                kept.insert(name.clone(), Kept { request, answer: None, at: now });
                Ok(Begun::New(Turn { repeats: self, name: Some(name) }))
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Name, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    pub(super) fn done(mut self, answer: Bytes, now: Timestamp) {
        if let Some(name) = self.name.take()
            && let Some(kept) = self.repeats.kept().get_mut(&name)
        {
            (kept.answer, kept.at) = (Some(answer), now);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.repeats.kept().remove(&name);
        }
    }
}

const KEY_LIMIT_BYTES: usize = 255;
/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(600);
const LIMIT: usize = 10_000;
