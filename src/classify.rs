//! Bytes and catalog to [`Action`]. Pure: the same request gives the same answer, live, in
//! `countersign classify`, in rule tests and in replay.

pub(crate) mod aws;
#[expect(dead_code, reason = "the plane that asks is on its way")]
pub(crate) mod postgres;
