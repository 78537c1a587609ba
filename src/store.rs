//! Durable state of holds.
