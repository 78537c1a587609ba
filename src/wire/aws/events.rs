//! Event streams (Smithy, "Amazon Event Stream specification") in the form that requests carry them: each message
//! holds another one whole, under a date and a signature; the last one holds nothing.
//!
//! Framing and checksums are AWS's own crate's. What is taken is stricter: the outer message has these two headers
//! and no other, the inner one is a single message that claims neither.

use aws_smithy_eventstream::frame::{read_message_from, write_headers_to, write_message_to};
use aws_smithy_types::DateTime;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::{Bytes, BytesMut};

use crate::time::Timestamp;

/// The media type of such streams.
pub(crate) const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// The largest event that an agent may send, in bytes: its signature stands before its data, so that it is kept
/// whole. Sound and text come in some KiB at a time.
pub(crate) const EVENT_LIMIT_BYTES: usize = 1 << 20;

/// The headers of a signed message: a timestamp and 32 bytes.
const DATE: &str = ":date";
const SIGNATURE: &str = ":chunk-signature";
const SIGNED_HEADERS_LEN: usize = 15 + 52;
/// Length of all, length of the headers, checksum of both.
const PRELUDE_LEN: usize = 12;
const CHECKSUM_LEN: usize = 4;
/// The headers of the event itself, which would take many times their size in memory. AWS allows 128 KiB.
const HEADERS_LIMIT_BYTES: usize = 64 << 10;

/// One event as it was signed.
#[derive(Debug)]
pub(crate) struct SignedEvent {
    /// What its header `:date` says, to the millisecond.
    pub(crate) at: Timestamp,
    pub(crate) signature: [u8; 32],
    /// The event itself; empty in the one that closes the stream.
    pub(crate) payload: Bytes,
}

/// Why bytes are no such stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a stream of signed events: {0}")]
pub(crate) struct EventError(pub(crate) &'static str);

impl SignedEvent {
    /// Takes the event at the front of `buffer`; `None` while it is not whole.
    ///
    /// # Errors
    /// When it can be no signed event.
    pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Self>, EventError> {
        let Some((len, headers_len)) = lengths(buffer) else { return Ok(None) };
        if len > EVENT_LIMIT_BYTES {
            return Err(EventError("an event has more than 1 MiB"));
        }
        if headers_len != SIGNED_HEADERS_LEN || len < PRELUDE_LEN + SIGNED_HEADERS_LEN + CHECKSUM_LEN {
            return Err(EventError("an event has other headers than `:date` and `:chunk-signature`"));
        }
        if buffer.len() < len {
            return Ok(None);
        }
        let message = read(buffer.split_to(len).freeze())?;
        let (mut date, mut signature) = (None, None);
        for header in message.headers() {
            match (header.name().as_str(), header.value()) {
                (DATE, HeaderValue::Timestamp(at)) => date = at.to_millis().ok(),
                (SIGNATURE, HeaderValue::ByteArray(bytes)) => signature = bytes.as_ref().try_into().ok(),
                _ => {}
            }
        }
        let at = date.and_then(|millis| millis.checked_mul(1000)).map(Timestamp::from_micros);
        let (Some(at), Some(signature), 2) = (at, signature, message.headers().len()) else {
            return Err(EventError("an event has other headers than `:date` and `:chunk-signature`"));
        };
        let payload = message.payload().clone();
        check_inner(&payload)?;
        Ok(Some(Self { at, signature, payload }))
    }

    /// Its message.
    ///
    /// # Errors
    /// When it is too large for one.
    pub(crate) fn write(self) -> Result<Bytes, EventError> {
        let message = Message::new(self.payload)
            .add_header(date_header(self.at))
            .add_header(Header::new(SIGNATURE, HeaderValue::ByteArray(Bytes::copy_from_slice(&self.signature))));
        write(&message)
    }

    /// Whether it closes its stream.
    pub(crate) fn is_last(&self) -> bool {
        self.payload.is_empty()
    }
}

/// The header `:date` as encoded, which is what the signature of an event covers.
pub(crate) fn date_field(at: Timestamp) -> Vec<u8> {
    let mut field = Vec::with_capacity(15);
    // A header that cannot be written leaves nothing, and a signature over nothing matches none.
    drop(write_headers_to(&[date_header(at)], &mut field));
    field
}

/// The message by which a service ends a stream of answers with an error.
pub(crate) fn error_message(code: &str, text: &str) -> Option<Bytes> {
    let header = |name: &'static str, value: &str| Header::new(name, HeaderValue::String(value.to_owned().into()));
    let message = Message::new(Bytes::new())
        .add_header(header(":message-type", "error"))
        .add_header(header(":error-code", code))
        .add_header(header(":error-message", text));
    write(&message).ok()
}

/// Follows the messages of a stream of answers, which are not read, to know where one ends.
#[derive(Debug, Default)]
pub(crate) struct Boundary {
    /// What is still to come of the current message.
    left: u64,
    /// The first bytes of its length.
    length: [u8; 4],
    length_len: usize,
}

impl Boundary {
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= len as u64;
                bytes = bytes.get(len..).unwrap_or_default();
                continue;
            }
            let [first, rest @ ..] = bytes else { return };
            bytes = rest;
            if let Some(place) = self.length.get_mut(self.length_len) {
                *place = *first;
            }
            self.length_len += 1;
            if self.length_len == self.length.len() {
                self.length_len = 0;
                // A length that counts less than itself is no message; whatever it is does not end here.
                self.left = u64::from(u32::from_be_bytes(self.length)).checked_sub(4).unwrap_or(u64::MAX);
            }
        }
    }

    /// Whether a message may follow here.
    pub(crate) fn is_between(&self) -> bool {
        self.left == 0 && self.length_len == 0
    }
}

fn date_header(at: Timestamp) -> Header {
    Header::new(DATE, HeaderValue::Timestamp(DateTime::from_millis(at.as_micros().div_euclid(1000))))
}

/// Of the message at the front: its length, and that of its headers.
fn lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let (len, rest) = bytes.split_first_chunk()?;
    let headers_len = rest.first_chunk()?;
    Some((u32::from_be_bytes(*len) as usize, u32::from_be_bytes(*headers_len) as usize))
}

fn check_inner(payload: &Bytes) -> Result<(), EventError> {
    if payload.is_empty() {
        return Ok(());
    }
    match lengths(payload) {
        Some((len, headers_len)) if len == payload.len() && headers_len <= HEADERS_LIMIT_BYTES => {}
        Some((_, headers_len)) if headers_len > HEADERS_LIMIT_BYTES => {
            return Err(EventError("an event has more than 64 KiB of headers"));
        }
        _ => return Err(EventError("what was signed is not a single event")),
    }
    let message = read(payload.clone())?;
    // Whoever looks for a signature would find two.
    match message.headers().iter().any(|header| [DATE, SIGNATURE].contains(&header.name().as_str())) {
        true => Err(EventError("an event is signed within an event")),
        false => Ok(()),
    }
}

fn read(bytes: Bytes) -> Result<Message, EventError> {
    read_message_from(bytes).map_err(|_| EventError("an event is malformed, or its checksum is wrong"))
}

fn write(message: &Message) -> Result<Bytes, EventError> {
    let mut bytes = Vec::with_capacity(message.payload().len() + 256);
    write_message_to(message, &mut bytes).map_err(|_| EventError("an event cannot be written"))?;
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests;
