//! Look-ups over the packed fact tables: what exists on a plane, how it is spelled on the wire and
//! what it may do. The tables are data made by committed generators (`make facts`), never edited by
//! hand and never Rust source. Nothing here judges a request.

pub(crate) mod aws;
#[expect(dead_code, reason = "the naming asks for the rest soon")]
pub(crate) mod postgres;
