//! Listeners, TLS, framing, spooled bodies, upstream connections.
