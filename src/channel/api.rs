//! The REST API for approvers.
