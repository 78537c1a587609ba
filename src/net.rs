//! Everything that touches a socket: listeners, TLS, the framing guard, spooled bodies, upstream connections.
//!
//! It moves bytes and refuses those that have two readings; it never names, judges or logs a request.

pub(crate) mod body;
pub(crate) mod ca;
pub(crate) mod certificate;
pub(crate) mod chunked;
mod framing;
mod guard;
pub(crate) mod hashed;
pub(crate) mod line;
pub(crate) mod listen;
pub(crate) mod peers;
pub(crate) mod spool;
mod stall;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod unstopped;
pub(crate) mod upstream;
pub(crate) mod verify;
