//! A disk that fails when told to. Only in tests.

use std::io;
use std::path::Path;

/// What is about to be done.
pub(crate) enum Op<'a> {
    Create(&'a Path),
    Remove(&'a Path),
    Rename(&'a Path, &'a Path),
    SetLen(&'a Path, u64),
    Sync(&'a Path),
    SyncDir(&'a Path),
    Write(&'a Path, u64, usize),
}

/// What is done instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Do,
    /// Say that it was done.
    Skip,
    /// Write only so many bytes, then fail.
    Tear(usize),
}

#[derive(Debug, Default)]
pub(crate) struct Faults {}

impl Faults {
    pub(crate) fn check(&self, _op: &Op<'_>) -> io::Result<Effect> {
        Ok(Effect::Do)
    }
}
