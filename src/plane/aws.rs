//! The AWS plane.
