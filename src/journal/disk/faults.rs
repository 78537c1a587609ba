//! A disk that fails, fills up and loses power when told to. Only in tests.
//!
//! Losing power: what was written since the last sync of a file is kept or lost sector by sector,
//! and names that were made, moved or removed since the last sync of their directory are kept or
//! lost one by one. That is what a journal must survive; a killed process loses nothing of it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const SECTOR: usize = 512;

/// What is about to be done.
#[derive(Debug)]
pub(crate) enum Op<'a> {
    Create(&'a Path),
    Remove(&'a Path),
    Rename(&'a Path, &'a Path),
    SetLen,
    Sync(&'a Path),
    SyncDir,
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
pub(crate) struct Faults {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    done: u64,
    /// The change, counted from 0, from which on everything fails.
    fail_at: Option<u64>,
    error: Option<io::ErrorKind>,
    /// A write that fails first writes so much of itself, in 64ths.
    tear: usize,
    /// Bytes that can still be written to new places.
    room: Option<u64>,
    /// Syncs are said to be done and are not: the bug this is all about.
    syncs_lie: bool,
    unsynced: Vec<Change>,
}

/// A change that a power cut may undo.
#[derive(Debug)]
enum Change {
    Created(PathBuf),
    Removed(PathBuf, Vec<u8>),
    Renamed {
        from: PathBuf,
        to: PathBuf,
        replaced: Option<Vec<u8>>,
    },
    Written {
        /// Where the file is, or was before it was renamed; the inode tells.
        paths: Vec<PathBuf>,
        inode: u64,
        offset: u64,
        before: Vec<u8>,
        file_length: u64,
    },
}

impl Faults {
    /// The change from which on everything fails, and how much of it is still done, in 64ths.
    pub(crate) fn fail_at(&self, change: u64, error: io::ErrorKind, tear: usize) {
        let mut state = self.state.lock().unwrap();
        (state.fail_at, state.error, state.tear) = (Some(change), Some(error), tear);
    }

    /// From now on everything fails.
    pub(crate) fn fail_now(&self) {
        let mut state = self.state.lock().unwrap();
        (state.fail_at, state.error) = (Some(state.done), Some(io::ErrorKind::Other));
    }

    /// From now on nothing fails; what was written and not synced still is not.
    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().fail_at = None;
    }

    pub(crate) fn set_room(&self, bytes: Option<u64>) {
        self.state.lock().unwrap().room = bytes;
    }

    pub(crate) fn let_syncs_lie(&self) {
        self.state.lock().unwrap().syncs_lie = true;
    }

    /// Changes so far.
    pub(crate) fn done(&self) -> u64 {
        self.state.lock().unwrap().done
    }

    pub(crate) fn check(&self, op: &Op<'_>) -> io::Result<Effect> {
        let state = &mut *self.state.lock().unwrap();
        let now = state.done;
        state.done += 1;
        if state.fail_at.is_some_and(|at| now >= at) {
            let first = state.fail_at == Some(now);
            if let (true, Op::Write(path, offset, length)) = (first && state.tear > 0, op) {
                let torn = length * state.tear / 64;
                state.written(path, *offset, torn)?;
                return Ok(Effect::Tear(torn));
            }
            return Err(state.error.unwrap_or(io::ErrorKind::Other).into());
        }
        state.apply(op)
    }

    /// Undoes what a power cut now would lose; `choose` decides for each part.
    pub(crate) fn cut_power(&self, mut choose: impl FnMut() -> bool) {
        let changes = std::mem::take(&mut self.state.lock().unwrap().unsynced);
        for change in changes.into_iter().rev() {
            change.undo(&mut choose);
        }
    }
}

impl State {
    fn apply(&mut self, op: &Op<'_>) -> io::Result<Effect> {
        match op {
            Op::Create(path) => self.unsynced.push(Change::Created((*path).to_owned())),
            Op::Remove(path) => {
                if let Ok(content) = fs::read(path) {
                    self.room = self.room.map(|room| room + content.len() as u64);
                    self.unsynced.push(Change::Removed((*path).to_owned(), content));
                }
            }
            Op::Rename(from, to) => {
                let (from, to) = ((*from).to_owned(), (*to).to_owned());
                let replaced = fs::read(&to).ok();
                for change in &mut self.unsynced {
                    if let Change::Written { paths, .. } = change
                        && paths.contains(&from)
                    {
                        paths.push(to.clone());
                    }
                }
                self.unsynced.push(Change::Renamed { from, to, replaced });
            }
            // Shortening is followed by a sync at once; losing it alone is a longer file of zeros.
            Op::SetLen => {}
            Op::Sync(_) | Op::SyncDir if self.syncs_lie => return Ok(Effect::Skip),
            Op::Sync(path) => {
                let synced = fs::metadata(path)?.ino();
                self.unsynced.retain(|change| !matches!(change, Change::Written { inode, .. } if *inode == synced));
            }
            Op::SyncDir => self.unsynced.retain(|change| matches!(change, Change::Written { .. })),
            Op::Write(path, offset, length) => {
                let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
                let grows = (offset + *length as u64).saturating_sub(size);
                if let Some(room) = self.room {
                    if grows > room {
                        return Err(io::ErrorKind::StorageFull.into());
                    }
                    self.room = Some(room - grows);
                }
                self.written(path, *offset, *length)?;
            }
        }
        Ok(Effect::Do)
    }

    fn written(&mut self, path: &Path, offset: u64, length: usize) -> io::Result<()> {
        let mut before = vec![0; length];
        let file = OpenOptions::new().read(true).open(path)?;
        let mut read = 0;
        while read < length {
            match file.read_at(&mut before[read..], offset + read as u64)? {
                0 => break,
                count => read += count,
            }
        }
        let (inode, file_length) = (file.metadata()?.ino(), file.metadata()?.len());
        self.unsynced.push(Change::Written { paths: vec![path.to_owned()], inode, offset, before, file_length });
        Ok(())
    }
}

impl Change {
    fn undo(self, choose: &mut impl FnMut() -> bool) {
        match self {
            Self::Created(path) if choose() => drop(fs::remove_file(path)),
            Self::Removed(path, content) if choose() => fs::write(path, content).unwrap(),
            Self::Renamed { from, to, replaced } if choose() && to.exists() => {
                fs::rename(&to, from).unwrap();
                if let Some(content) = replaced {
                    fs::write(to, content).unwrap();
                }
            }
            Self::Written { paths, inode, offset, before, file_length } => {
                let is_it = |path: &&PathBuf| fs::metadata(path).is_ok_and(|metadata| metadata.ino() == inode);
                // A file that another change took away has nothing left to undo.
                let Some(path) = paths.iter().find(is_it) else { return };
                let file = OpenOptions::new().write(true).open(path).unwrap();
                for (index, sector) in before.chunks(SECTOR).enumerate() {
                    if choose() {
                        file.write_all_at(sector, offset + (index * SECTOR) as u64).unwrap();
                    }
                }
                if offset + before.len() as u64 > file_length && choose() {
                    file.set_len(file_length).unwrap();
                }
            }
            _ => {}
        }
    }
}
