//! The channels by which people see and decide holds.

pub(crate) mod api;
pub(crate) mod card;
