//! Everything that touches a socket: listeners, TLS, the framing guard, spooled bodies, upstream connections.
//!
//! It moves bytes and refuses those that have two readings; it never names, judges or logs a request.

pub(crate) mod authority;
pub(crate) mod body;
pub(crate) mod ca;
pub(crate) mod certificate;
pub(crate) mod chunked;
pub(crate) mod connect;
pub(crate) mod courier;
pub(crate) mod door;
pub(crate) mod events;
mod framing;
mod guard;
pub(crate) mod hashed;
pub(crate) mod leaf;
pub(crate) mod line;
pub(crate) mod listen;
mod multiplex;
pub(crate) mod peers;
pub(crate) mod reach;
pub(crate) mod socket;
pub(crate) mod spool;
mod stall;
pub(crate) mod stream;
mod tasks;
pub(crate) mod tls;
pub(crate) mod tunnel;
pub(crate) mod unstopped;
pub(crate) mod upstream;
pub(crate) mod verify;
