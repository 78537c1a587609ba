//! Where the table of AWS facts comes from when it is not the built-in one.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::catalog::aws::{Table, file};

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FactsError {
    #[error(transparent)]
    Malformed(#[from] file::FactsError),
    #[error("cannot read the table of AWS facts `{file}`", file = .file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// The file in a data directory whose table is used in place of the built-in one.
pub(crate) fn path_in(data: &Path) -> PathBuf {
    data.join("facts").join("aws.bin")
}

/// The table of a data directory, where it has one.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_from(data: &Path) -> Result<Option<&'static Table>, FactsError> {
    match load(&path_in(data)) {
        Err(FactsError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        loaded => loaded.map(Some),
    }
}

/// A table from a file, for the life of the process; the same one where it was read before.
///
/// # Errors
/// When the file cannot be read, or anything in it is not as it should be.
pub(crate) fn load(file: &Path) -> Result<&'static Table, FactsError> {
    Ok(file::read(bytes_of(file)?, &file.to_string_lossy())?)
}

/// The bytes of a file, of one that is too large as many as show that.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn bytes_of(file: &Path) -> Result<Vec<u8>, FactsError> {
    let failed = |source| FactsError::Read { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    std::fs::File::open(file).and_then(|it| it.take(file::FILE_LIMIT + 1).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}
