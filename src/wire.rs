//! Codecs without IO: bytes to structure and back. Nothing here opens a socket, reads a clock or
//! decides anything.

pub(crate) mod aws;
pub(crate) mod head;
pub(crate) mod postgres;
pub(crate) mod sigv4;
