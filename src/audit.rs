//! The audit log's pure part: record form, chain, tree, checkpoint, verification.

pub(crate) mod record;
