//! The one integration test binary: a table of contents.
//!
//! Everything here talks to countersign over sockets and argv only.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod approving;
mod audit;
mod command_line;
mod corpus;
mod crash;
mod credentials;
mod crowd;
mod deciding;
mod deltas;
mod doors;
mod events;
mod facts;
mod faults;
mod framing;
mod javascript;
mod modify;
mod naming;
mod notices;
mod oidc;
mod page;
mod patience;
mod postgres;
mod regions;
mod rest;
mod retry;
mod roles;
mod rules;
mod secrets;
mod signature;
mod slack;
mod streaming;
mod support;
mod tidy;
mod tls;
mod volume;
