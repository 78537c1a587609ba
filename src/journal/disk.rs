//! Every change the journal makes on disk goes through here, so that tests can fail, tear and lose
//! each of them. Reading does not.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

#[cfg(test)]
pub(super) mod faults;

#[cfg(test)]
use faults::Op;

/// The file system, or in tests one that fails.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    faults: Option<std::sync::Arc<faults::Faults>>,
}

/// A file open for writing.
#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    #[cfg(test)]
    path: std::path::PathBuf,
    #[cfg(test)]
    disk: Disk,
}

impl Disk {
    #[cfg(test)]
    pub(super) fn faulty(faults: &std::sync::Arc<faults::Faults>) -> Self {
        Self { faults: Some(faults.clone()) }
    }

    /// Makes a file; it must not exist.
    pub(super) fn create(&self, path: &Path) -> io::Result<DiskFile> {
        #[cfg(test)]
        self.check(&Op::Create(path))?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(DiskFile::new(self, path, file))
    }

    /// Opens a file that exists.
    pub(super) fn open(&self, path: &Path) -> io::Result<DiskFile> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(DiskFile::new(self, path, file))
    }

    /// Removes a file; one that does not exist is no error.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        self.check(&Op::Remove(path))?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Puts a whole file in place at once: readers, and a crash, see the old content or the new.
    pub(super) fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension("new");
        self.remove(&temporary)?;
        let mut file = self.create(&temporary)?;
        file.write_at(0, content)?;
        file.sync_all()?;
        #[cfg(test)]
        self.check(&Op::Rename(&temporary, path))?;
        fs::rename(&temporary, path)?;
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    /// Makes names that were created, renamed or removed in a directory durable.
    pub(super) fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        #[cfg(test)]
        if self.check(&Op::SyncDir)? == faults::Effect::Skip {
            return Ok(());
        }
        File::open(dir)?.sync_all()
    }

    #[cfg(test)]
    fn check(&self, op: &Op<'_>) -> io::Result<faults::Effect> {
        self.faults.as_ref().map_or(Ok(faults::Effect::Do), |faults| faults.check(op))
    }
}

impl DiskFile {
    #[cfg_attr(not(test), expect(unused_variables, reason = "faults are told by path"))]
    fn new(disk: &Disk, path: &Path, file: File) -> Self {
        Self {
            file,
            #[cfg(test)]
            path: path.to_owned(),
            #[cfg(test)]
            disk: disk.clone(),
        }
    }

    /// Writes all bytes at a place.
    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let faults::Effect::Tear(count) = self.disk.check(&Op::Write(&self.path, offset, bytes.len()))? {
            self.file.write_all_at(&bytes[..count], offset)?;
            return Err(io::Error::other("injected: torn write"));
        }
        self.file.write_all_at(bytes, offset)
    }

    /// Makes what was written durable; the size of the file too, when it grew.
    pub(super) fn sync_data(&mut self) -> io::Result<()> {
        #[cfg(test)]
        if self.disk.check(&Op::Sync(&self.path))? == faults::Effect::Skip {
            return Ok(());
        }
        self.file.sync_data()
    }

    pub(super) fn sync_all(&mut self) -> io::Result<()> {
        #[cfg(test)]
        if self.disk.check(&Op::Sync(&self.path))? == faults::Effect::Skip {
            return Ok(());
        }
        self.file.sync_all()
    }

    pub(super) fn set_len(&mut self, length: u64) -> io::Result<()> {
        #[cfg(test)]
        self.disk.check(&Op::SetLen)?;
        self.file.set_len(length)
    }
}

/// True when the disk, or the writer's share of it, is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
