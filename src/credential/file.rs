//! Files of the data directory: read whole, replaced whole, watched by the running server.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;

use super::CredentialError;
use crate::audit::commitment;
use crate::id::random_bytes;
use crate::secret::Secret;
use crate::time::Timestamp;

/// The exclusive right to change the credential files of a data directory; ends when dropped.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for another command that is changing the files: such a change takes milliseconds.
    pub(super) fn take(data: &Path) -> Result<Self, CredentialError> {
        let path = data.join("credentials.lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .mode(0o600)
            .write(true)
            .open(&path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|source| CredentialError::Io { doing: "lock", path, source })?;
        Ok(Self { _file: file })
    }

    /// Puts `text` in the place of the file. After a crash at any point the old text or the new one
    /// is there, and once this returns it is the new one.
    pub(super) fn replace(&self, path: &Path, text: &[u8]) -> Result<(), CredentialError> {
        let replace = || -> io::Result<()> {
            let directory = path.parent().unwrap_or(Path::new("."));
            // Temporary files are made with mode 0600.
            let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
            temporary.write_all(text)?;
            temporary.as_file().sync_all()?;
            temporary.persist(path)?;
            // The rename itself is durable only with its directory.
            File::open(directory)?.sync_all()
        };
        replace().map_err(|source| CredentialError::Io { doing: "write", path: path.to_owned(), source })
    }
}

/// What tells one state of a file from the next; `None` while it does not exist.
type Stamp = Option<(u64, i64, i64, u64)>;

/// Reads a file whole. One that does not exist is `None`.
pub(super) fn read(path: &Path) -> Result<(Stamp, Option<Vec<u8>>), CredentialError> {
    let failed = |source| CredentialError::Io { doing: "read", path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, None)),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(CredentialError::TooOpen { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok((stamp(&metadata), Some(bytes)))
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
}

/// The parsed contents of a file, read again when it was replaced.
#[derive(Debug)]
pub(super) struct Watched<T> {
    path: PathBuf,
    parse: fn(&Path, Option<&[u8]>) -> Result<T, CredentialError>,
    /// State and stamp change together: a slow reader cannot then leave an old state under a new stamp.
    current: ArcSwap<(Stamp, T)>,
    checked_seconds: AtomicI64,
}

impl<T> Watched<T> {
    pub(super) fn open(
        path: PathBuf,
        parse: fn(&Path, Option<&[u8]>) -> Result<T, CredentialError>,
    ) -> Result<Self, CredentialError> {
        let (stamp, bytes) = read(&path)?;
        let current = ArcSwap::from_pointee((stamp, parse(&path, bytes.as_deref())?));
        Ok(Self { path, parse, current, checked_seconds: AtomicI64::new(0) })
    }

    /// The state as of at most a second ago; takes no lock.
    pub(super) fn current(&self, now: Timestamp) -> arc_swap::Guard<Arc<(Stamp, T)>> {
        let seconds = now.as_seconds();
        if self.checked_seconds.swap(seconds, Ordering::Relaxed) != seconds {
            self.refresh();
        }
        self.current.load()
    }

    /// Reads the file again when it was replaced. A file that cannot be read or parsed leaves the
    /// last good state in force, loudly: an agent fleet must not stop over a slip of an editor.
    pub(super) fn refresh(&self) {
        let found = fs::metadata(&self.path).ok().as_ref().and_then(stamp);
        if found == self.current.load().0 {
            return;
        }
        let replaced =
            read(&self.path).and_then(|(stamp, bytes)| Ok((stamp, (self.parse)(&self.path, bytes.as_deref())?)));
        match replaced {
            Ok(state) => self.current.store(Arc::new(state)),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::error!(error, path = %self.path.display(), "the last good state of a credential file stays in force");
            }
        }
    }
}

/// The key from which every virtual secret is derived.
#[derive(Clone)]
pub(super) struct RootKey(hmac::Key);

impl RootKey {
    /// Reads the root key of a data directory; the first one to ask makes it.
    pub(super) fn open(data: &Path) -> Result<Self, CredentialError> {
        let path = data.join("root.key");
        if let (_, Some(bytes)) = read(&path)? {
            return Self::parse(&path, &bytes);
        }
        let lock = Lock::take(data)?;
        if let (_, Some(bytes)) = read(&path)? {
            return Self::parse(&path, &bytes);
        }
        let random = random_bytes::<32>().map_err(CredentialError::Random)?;
        let text = format!("{}\n", crate::digest::hex(&random));
        lock.replace(&path, text.as_bytes())?;
        Self::parse(&path, text.as_bytes())
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, CredentialError> {
        let text = std::str::from_utf8(bytes).ok().and_then(|text| crate::digest::Digest::parse(text.trim_end()));
        let key = text.ok_or_else(|| CredentialError::Damaged {
            path: path.to_owned(),
            why: "it is not 64 hexadecimal digits".to_owned(),
        })?;
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes())))
    }

    /// The secret access key that belongs to a virtual key id: 200 bits in 40 characters, the
    /// length AWS's own have, of letters and digits that no shell and no option parser minds.
    pub(super) fn secret_of(&self, key_id: &str) -> Secret {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"countersign virtual secret 1\0");
        context.update(key_id.as_bytes());
        let mut secret = base32(context.sign().as_ref());
        secret.truncate(40);
        Secret::new(secret)
    }
}

impl RootKey {
    /// What SCRAM mixes into the secret of that name. Every name has one, also those that were never
    /// given out, and the same one each time: it tells nobody which names exist.
    pub(super) fn salt_of(&self, name: &str) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"countersign scram salt 1\0");
        context.update(name.as_bytes());
        context.sign().as_ref().first_chunk().copied().unwrap_or_default()
    }
}

impl RootKey {
    pub(super) fn commitment_key(&self) -> commitment::Key {
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&self.0, b"countersign commitments 1\0").as_ref());
        commitment::Key::new(&secret)
    }
}

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Base32 of RFC 4648 without padding: letters and digits that survive any shell and any header.
/// `bytes` must come in groups of five.
pub(super) fn base32(bytes: &[u8]) -> String {
    bytes
        .chunks_exact(5)
        .flat_map(|group| {
            let group = group.iter().fold(0_u64, |group, byte| group << 8 | u64::from(*byte));
            (0..8).rev().map(move |index| ALPHABET.get((group >> (5 * index) & 31) as usize).copied().unwrap_or(b'A'))
        })
        .map(char::from)
        .collect()
}

/// Reads what [`base32`] writes, and nothing else.
pub(super) fn from_base32(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u64>> = text
        .bytes()
        .map(|digit| ALPHABET.iter().position(|it| *it == digit).and_then(|value| u64::try_from(value).ok()))
        .collect();
    let digits = digits?;
    if digits.len() % 8 != 0 {
        return None;
    }
    let groups = digits.chunks_exact(8).map(|group| group.iter().fold(0, |group, digit| group << 5 | digit));
    Some(groups.flat_map(|group: u64| group.to_be_bytes().into_iter().skip(3)).collect())
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

#[cfg(test)]
mod tests;
