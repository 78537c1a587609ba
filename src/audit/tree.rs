//! The Merkle tree of RFC 6962 section 2.1 over the log's lines, as much of it as an appender needs.

use crate::digest::{Digest, EMPTY_SHA256, Hasher, sha256};

/// Hash of a record: SHA-256(0x00 ‖ line without line feed). Also the next record's `prev`.
pub(crate) fn leaf_hash(line: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(&[0]);
    hasher.update(line);
    hasher.finish()
}

/// Stands before a line when its leaf hash is taken.
pub(crate) const LEAF_MARK: char = '\0';

/// The leaf hash of a line that has [`LEAF_MARK`] before it.
pub(crate) fn marked_leaf_hash(marked: &str) -> Digest {
    debug_assert!(marked.starts_with(LEAF_MARK), "it has no mark");
    sha256(marked.as_bytes())
}

/// What the first record of a log names as `prev`.
pub(crate) fn chain_start(origin: &str) -> Digest {
    sha256(format!("countersign-log/v1\n{origin}\n").as_bytes())
}

/// The roots of the complete subtrees that make up a tree: all that is needed to append to it and
/// to know its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frontier {
    size: u64,
    /// Largest subtree first; one for each bit that is set in `size`.
    peaks: Vec<Digest>,
}

impl Frontier {
    /// `None` unless there is one peak for each bit that is set in `size`.
    pub(crate) fn from_peaks(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        (usize::try_from(size.count_ones()) == Ok(peaks.len())).then_some(Self { size, peaks })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    pub(crate) fn push(&mut self, leaf: Digest) {
        let mut node = leaf;
        let mut size = self.size;
        while size & 1 == 1 {
            // A set bit has its peak: the type's invariant.
            let Some(left) = self.peaks.pop() else { break };
            node = node_hash(&left, &node);
            size >>= 1;
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The root hash; of the empty tree the hash of nothing.
    pub(crate) fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
            None => EMPTY_SHA256,
        }
    }
}

fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut hashed = [1; 65];
    if let Some((_, children)) = hashed.split_first_mut()
        && let Some((first, second)) = children.split_at_mut_checked(32)
    {
        first.copy_from_slice(left.as_bytes());
        second.copy_from_slice(right.as_bytes());
    }
    sha256(&hashed)
}

#[cfg(test)]
mod tests;
