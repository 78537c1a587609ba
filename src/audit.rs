//! The audit log's pure part: the form of a record, the chain, the tree, the checkpoint, and what
//! a verifier checks.
//!
//! Nothing here opens a file, reads a clock or draws randomness; `journal` writes the log and
//! `cli::audit` reads it. `docs/audit-format.md` is the specification, and a verifier in another
//! language is tested against it.
//!
//! INVARIANT (bytes): the leaf of a record is the hash of the very bytes on disk. Nobody ever
//! re-serialises a record to check it.

pub(crate) mod chain;
pub(crate) mod checkpoint;
pub(crate) mod commitment;
pub(crate) mod line;
pub(crate) mod record;
pub(crate) mod spelling;
pub(crate) mod tree;
pub(crate) mod verify;
