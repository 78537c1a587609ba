//! The channels by which people see and decide holds. A channel renders a hold, authenticates a
//! person and calls the gate; whether that person may decide is the gate's to say.

pub(crate) mod api;
pub(crate) mod page;
pub(crate) mod slack;
pub(crate) mod webhook;
