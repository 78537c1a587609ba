//! Canonical spellings: path, query, headers.
