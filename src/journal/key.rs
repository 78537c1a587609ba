//! The signing key on disk: one line in the text form of Go's note package, readable by its owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::audit::checkpoint::SigningKey;
use crate::id::{RandomError, random_bytes};

/// A signing key could not be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("`{0}` is not a signing key as `countersign init` makes it")]
    Form(PathBuf),
    #[error("cannot use the key file `{path}`", path = path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the key file `{0}` can be read by everyone or written by its group: run `chmod 600` on it")]
    Open(PathBuf),
    #[error(
        "`{0}` is no name for a log: use 1 to 128 letters, digits and `./_-:`, such as `example.com/countersign/1`"
    )]
    Origin(String),
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Draws a key for a new log.
pub(super) fn create(origin: &str) -> Result<SigningKey, KeyError> {
    SigningKey::from_seed(origin, Zeroizing::new(random_bytes::<32>()?))
        .ok_or_else(|| KeyError::Origin(origin.to_owned()))
}

/// Writes the key to a new file that only its owner can read.
pub(super) fn write(path: &Path, key: &SigningKey) -> Result<(), KeyError> {
    let failed = |source| KeyError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(key.expose().as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

/// Reads the key; refuses a file that others could have read or changed.
pub(super) fn read(path: &Path) -> Result<SigningKey, KeyError> {
    let failed = |source| KeyError::Io { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.mode() & 0o027 != 0 {
        return Err(KeyError::Open(path.to_owned()));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    SigningKey::parse(&text).map_err(|_| KeyError::Form(path.to_owned()))
}
