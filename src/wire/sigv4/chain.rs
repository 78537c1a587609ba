//! Signatures of the parts of a body: each covers its own bytes and the signature before it, the first one that of the head.

use std::sync::Arc;

use super::key::SigningKey;
use super::parse::SKEW_SECONDS;
use super::{Key, Presented, ScopeRef, SigError};
use crate::digest::{Digest, EMPTY_SHA256};
use crate::time::Timestamp;

/// The signatures of chunks, to be followed or to be made.
#[derive(Debug)]
pub(crate) struct Chain {
    key: SigningKey,
    /// Date and scope, as each string to sign holds them.
    scope: String,
    /// The signature before, in hexadecimal.
    before: String,
}

impl Chain {
    /// Begins behind the head of a request: `date` and `signature` are its own.
    pub(crate) fn new(key: &Key, date: &str, scope: ScopeRef<'_>, signature: &str) -> Self {
        let signing_key = key.signing_key(scope);
        let ScopeRef { date: day, region, service } = scope;
        let scope = format!("{date}\n{day}/{region}/{service}/aws4_request");
        Self { key: signing_key, scope, before: signature.to_owned() }
    }

    /// The signature of the next chunk, whose data has this hash.
    pub(crate) fn chunk(&mut self, data: Digest) -> &str {
        self.next("AWS4-HMAC-SHA256-PAYLOAD", &format!("{}\n{}", EMPTY_SHA256.digits(), data.digits()))
    }

    /// The signature of the trailer, whose fields have this hash.
    pub(crate) fn trailer(&mut self, fields: Digest) -> &str {
        self.next("AWS4-HMAC-SHA256-TRAILER", &fields.digits())
    }

    fn next(&mut self, what: &str, hashes: &str) -> &str {
        let text = format!("{what}\n{}\n{}\n{hashes}", self.scope, self.before);
        self.before = self.key.sign(&text).to_string();
        &self.before
    }
}

/// The signatures of events, to be followed or to be made (Transcribe developer guide, "Event stream encoding").
/// Each event has a date of its own.
#[derive(Debug)]
pub(crate) struct EventChain {
    key: Arc<Key>,
    region: String,
    service: String,
    /// The signature before, in hexadecimal.
    before: String,
}

impl EventChain {
    /// Begins behind the head of a request: `signature` is its own.
    pub(crate) fn new(key: &Arc<Key>, scope: ScopeRef<'_>, signature: &str) -> Self {
        let (region, service) = (scope.region.to_owned(), scope.service.to_owned());
        Self { key: Arc::clone(key), region, service, before: signature.to_owned() }
    }

    /// The signature of the next event, made at `at`: `date` is the SHA-256 of its header `:date` as encoded.
    pub(crate) fn sign(&mut self, at: Timestamp, date: Digest, payload: Digest) -> [u8; 32] {
        let signature = self.key_of(at).raw(&self.text(at, date, payload));
        self.follow(signature)
    }

    /// Holds the next event against the signature that it came with.
    ///
    /// # Errors
    /// When the signature is not the one of this event at this place.
    pub(crate) fn check(
        &mut self,
        at: Timestamp,
        date: Digest,
        payload: Digest,
        signature: [u8; 32],
    ) -> Result<(), SigError> {
        let is_right = self.key_of(at).accepts(&self.text(at, date, payload), &signature);
        self.follow(signature);
        if is_right { Ok(()) } else { Err(SigError::SignatureDiffers) }
    }

    fn key_of(&self, at: Timestamp) -> SigningKey {
        let date = at.amz_date();
        self.key.signing_key(ScopeRef { date: date.day(), region: &self.region, service: &self.service })
    }

    fn text(&self, at: Timestamp, date: Digest, payload: Digest) -> String {
        let amz_date = at.amz_date();
        let Self { region, service, before, .. } = self;
        let (day, date, payload) = (amz_date.day(), date.digits(), payload.digits());
        let amz_date = amz_date.as_str();
        format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{amz_date}\n{day}/{region}/{service}/aws4_request\n{before}\n{}\n{}",
            &*date, &*payload
        )
    }

    fn follow(&mut self, signature: [u8; 32]) -> [u8; 32] {
        self.before = Digest::from_bytes(signature).hex();
        signature
    }
}

impl Presented {
    /// The chain that the events of its body must follow, and the earliest date that they can have. One that waited
    /// for a decision has an old date, and none is older than the request.
    pub(crate) fn event_chain(&self, key: &Arc<Key>) -> (EventChain, Timestamp) {
        // The end of a header's time lies a second behind the skew, its date as much before that.
        let earliest = Timestamp::from_micros(self.not_after.as_micros() - (2 * SKEW_SECONDS + 1) * 1_000_000);
        (EventChain::new(key, self.scope(), &self.signature.digits()), earliest)
    }

    /// The chain that the chunks of its body must follow.
    pub(crate) fn chain(&self, key: &Key) -> Chain {
        Chain::new(key, self.amz_date.as_str(), self.scope(), &self.signature.digits())
    }
}
