//! The frontend/backend protocol of PostgreSQL, versions 3.0 to 3.2, without IO.
//!
//! Names follow the protocol: the frontend is the client, the backend the server. Facts are those of
//! the PostgreSQL docs, chapter 55 ("Frontend/Backend Protocol"), sections 55.2 (flow), 55.3 (SASL)
//! and 55.7 (formats). Text is bytes here: its encoding is the session's `client_encoding`.
//!
//! Readers accept what the server accepts and nothing more; a message with bytes left over is
//! malformed. No reader allocates by a length that its sender merely claims.

pub(crate) mod backend;
mod cursor;
pub(crate) mod frontend;
pub(crate) mod scram;
pub(crate) mod startup;
pub(crate) mod tally;

use bytes::{BufMut, BytesMut};

/// Why bytes are no message. None of these can be answered and gone on from: where the next message
/// begins is not known, or not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("message type {0:#04x} does not exist")]
    Kind(u8),
    #[error("a message of type `{}` cannot be {length} bytes long", char::from(*.kind))]
    Length { kind: u8, length: u32 },
}

/// A whole message whose contents do not have its type's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of type `{}` is malformed: {why}", char::from(*.kind))]
pub(crate) struct Malformed {
    pub(crate) kind: u8,
    pub(crate) why: &'static str,
}

/// Bytes of the type and the length together.
pub(crate) const HEADER_LEN: usize = 5;

/// Appends a message: its type, its length and what `body` writes.
fn put_message(out: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    put_counted(out, body);
}

/// Appends a length that counts itself, and what `body` writes.
fn put_counted(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends text and its terminator. A NUL would end the text early and let the rest be read as
/// something else, so none is written.
fn put_text(out: &mut BytesMut, text: &[u8]) {
    for piece in text.split(|byte| *byte == 0) {
        out.put_slice(piece);
    }
    out.put_u8(0);
}

/// Appends how many items follow. More than the field holds cannot be asked for by this program.
fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u16(u16::try_from(count).unwrap_or(u16::MAX));
}
