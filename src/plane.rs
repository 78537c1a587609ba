//! The planes: server to the agent, client to the upstream.

pub(crate) mod aws;
pub(crate) mod postgres;
pub(crate) mod proxy;
