//! The one integration test binary: a table of contents.
//!
//! Everything here talks to countersign over sockets and argv only.

mod tidy;
