//! The openings of commitments: texts that records do not hold, kept beside the log so that they can be proven.
//!
//! One file, one opening a line, appended only; a line is durable when [`Openings::keep`] returns. It holds what
//! agents sent in plain text, so only its owner may read it. It can be moved away or deleted while nothing runs: the
//! log stays whole, and what was committed to can then be proven by who still has the text.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tokio::sync::{mpsc, oneshot};

use crate::audit::commitment::Opening;

/// Its name in the data directory.
pub(crate) const OPENINGS_FILE: &str = "openings.jsonl";

/// The way to the file's one writer.
#[derive(Clone, Debug)]
pub(crate) struct Openings(mpsc::Sender<Item>);

#[derive(Debug)]
struct Item {
    /// With the line feeds.
    lines: String,
    done: oneshot::Sender<()>,
}

/// The openings cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpeningsError {
    #[error("cannot use the file of openings `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("`{}` can be read by others: run `chmod 600` on it", .0.display())]
    Open(PathBuf),
    #[error("the openings of commitments cannot be written any more")]
    Stopped,
}

/// Openings that may wait to be written.
const QUEUE: usize = 256;
/// Written and synced at once, in bytes.
const BATCH_BYTES: usize = 1 << 20;

impl Openings {
    /// Opens the file, or makes it. A line that a crash tore stays, ended.
    ///
    /// # Errors
    /// When it cannot be written, or others may read it.
    pub(crate) fn open(path: &Path) -> Result<Self, OpeningsError> {
        let failed = |source| OpeningsError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return Err(OpeningsError::Open(path.to_owned()));
        }
        let file = ended(file).map_err(failed)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let name = path.to_owned();
        let thread = std::thread::Builder::new().name("openings".to_owned());
        thread
            .spawn(move || {
                if let Err(error) = write(file, receiver) {
                    tracing::error!(%error, path = %name.display(), "openings cannot be kept any more");
                }
            })
            .map_err(failed)?;
        Ok(Self(sender))
    }

    /// Keeps openings; returns when they are durable.
    ///
    /// # Errors
    /// When the file cannot be written, now or before.
    pub(crate) async fn keep(&self, openings: &[Opening]) -> Result<(), OpeningsError> {
        let lines = openings.iter().map(|it| it.to_line() + "\n").collect();
        let (done, is_done) = oneshot::channel();
        self.0.send(Item { lines, done }).await.map_err(|_| OpeningsError::Stopped)?;
        is_done.await.map_err(|_| OpeningsError::Stopped)
    }
}

/// The file, ending with a line feed.
fn ended(mut file: File) -> io::Result<File> {
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// Writes until nobody can send any more, or the disk says no: then nothing that waits is told that it is kept.
fn write(mut file: File, mut items: mpsc::Receiver<Item>) -> io::Result<()> {
    while let Some(first) = items.blocking_recv() {
        let mut lines = first.lines;
        let mut waiting = vec![first.done];
        while lines.len() < BATCH_BYTES
            && let Ok(next) = items.try_recv()
        {
            lines.push_str(&next.lines);
            waiting.push(next.done);
        }
        file.write_all(lines.as_bytes())?;
        file.sync_data()?;
        for done in waiting {
            // Whoever has stopped waiting has it kept all the same.
            done.send(()).unwrap_or_default();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::audit::commitment::{Key, What};

    fn opening(action_id: &str) -> Opening {
        let salt = Key::new(&[7; 32]).salt(action_id, What::Statement);
        Opening { action_id: action_id.to_owned(), what: What::Statement, salt, text: b"SELECT 1".to_vec() }
    }

    #[tokio::test]
    async fn what_is_kept_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("openings.jsonl");
        std::fs::write(&path, "torn").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let openings = Openings::open(&path).unwrap();
        openings.keep(&[opening("a_1"), opening("a_2")]).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let read: Vec<_> = text.lines().map(|line| Opening::parse(line.as_bytes())).collect();
        assert_eq!(read, [None, Some(opening("a_1")), Some(opening("a_2"))]);
    }

    #[tokio::test]
    async fn a_file_that_others_may_read_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("openings.jsonl");
        drop(Openings::open(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Openings::open(&path), Err(OpeningsError::Open(_))));
    }

    #[tokio::test]
    async fn nothing_is_said_to_be_kept_that_is_not() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (sender, receiver) = mpsc::channel(QUEUE);
        let thread = std::thread::spawn(move || write(full, receiver));
        let openings = Openings(sender);
        assert!(matches!(openings.keep(&[opening("a_1")]).await, Err(OpeningsError::Stopped)));
        assert!(matches!(openings.keep(&[opening("a_1")]).await, Err(OpeningsError::Stopped)));
        assert!(thread.join().unwrap().is_err());
    }
}
