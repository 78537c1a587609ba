//! countersign: a transparent proxy that suspends an agent's privileged calls until an entitled
//! person decides, and proves afterwards who decided what.
//!
//! The library's public surface is [`cli::run`]; `ARCHITECTURE.md` is the map of everything below
//! it, and `tests/it/tidy.rs` holds the map against the imports.

pub mod cli;

// rank 0
mod digest;
mod id;
mod pattern;
mod secret;
mod telemetry;
mod time;
mod yaml;
// rank 1
mod action;
// rank 2
mod catalog;
mod people;
// rank 3
mod wire;
// rank 4
mod audit;
mod classify;
mod hold;
mod policy;
mod rules;
// rank 5
mod credential;
mod journal;
mod net;
mod store;
// rank 6
mod gate;
mod signin;
// rank 7
mod card;
mod notice;
mod plane;
// rank 8 to 10
mod channel;
mod config;
mod serve;
