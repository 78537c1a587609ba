//! AWS Signature Version 4: what was presented, whether it holds, and how to sign anew.
//!
//! Verification is in two steps, since the key is found by what the first one reads:
//! [`Presented::parse`] takes exactly one credential source and refuses every other form by name;
//! [`Presented::verify`] rebuilds the canonical request from the [`Head`](super::head::Head) that
//! naming and forwarding read too, and compares the whole signature in constant time.
//! [`Outgoing::sign`] signs what is sent, spelled by the same functions: what is signed is what is sent.
//!
//! INVARIANT (nothing unsigned bears meaning): `host`, `content-type`, every `x-amz-*` header, the
//! whole query and the payload claim are under the signature, or the request is refused.

mod canonical;
mod chain;
mod error;
mod key;
mod parse;
mod sign;
mod verify;

pub(crate) use chain::{Chain, EventChain};
pub(crate) use error::{Family, SigError};
pub(crate) use key::{Key, ScopeRef};
pub(crate) use parse::{PayloadClaim, Presented, Source, claimed_scope};
pub(crate) use sign::{Behind, Outgoing, Payload, SignError, Target};
pub(crate) use verify::Verified;

#[cfg(test)]
mod tests;
