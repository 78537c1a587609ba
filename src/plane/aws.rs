//! The AWS plane.

mod context;
mod dialect;
