//! Operations that need bytes of the lower which are not on this machine yet.

use layerfmt::Ino;

use super::LayerFs;
use super::data::Bytes;
use super::reply::NodeId;
use super::tree::Entry;
use crate::error::Error;
pub use crate::lower::FarChunks;
use crate::lower::Unread;
use crate::sys::Errno;

/// The reason why an operation did not happen.
#[derive(Debug, Clone)]
pub enum Stop {
    /// Data must be fetched first. Nothing was changed; the caller repeats the call afterwards.
    Far(Far),
    /// It failed.
    Failed(Error),
}

/// Remote data to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Far {
    /// Chunks of the lower, to be read.
    Chunks(FarChunks),
    /// The data of a file, to be copied up.
    Data(Need),
}

/// The first bytes of a file of the lower, which a copy-up needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Need {
    /// Node of the file.
    pub id: NodeId,
    /// Row of the file.
    pub row: Ino,
    /// End of the needed bytes.
    pub end: u64,
    /// [`crate::lower::Lower::serial`] of the revision.
    pub serial: u32,
}

/// An error of an operation.
pub(super) trait Failure {
    /// Its errno; `None`: data must be fetched first.
    fn code(&self) -> Option<Errno>;

    /// True if no descriptor was left.
    fn lacks_descriptor(&self) -> bool {
        matches!(self.code(), Some(Errno::MFILE | Errno::NFILE))
    }
}

impl Failure for Errno {
    fn code(&self) -> Option<Errno> {
        Some(*self)
    }
}

impl Failure for Error {
    fn code(&self) -> Option<Errno> {
        Some(self.errno())
    }
}

impl Failure for Stop {
    fn code(&self) -> Option<Errno> {
        match self {
            Stop::Failed(error) => Some(error.errno()),
            Stop::Far(_) => None,
        }
    }
}

impl Stop {
    /// The failure, for a caller that cannot fetch.
    pub fn failed(self) -> Error {
        match self {
            Stop::Failed(error) => error,
            Stop::Far(_) => Error::fault(Errno::IO, "the data is not on this machine"),
        }
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Failed(errno.into())
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

impl From<Unread> for Stop {
    fn from(unread: Unread) -> Stop {
        match unread {
            Unread::Far(far) => Stop::Far(Far::Chunks(far)),
            Unread::Failed(error) => Stop::Failed(error),
        }
    }
}

/// The rows of the lower's index that a request needs. The index of a large system arrives after the
/// mount has begun.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'n> {
    /// The attributes of a node.
    Attributes(NodeId),
    /// All about a node: the entries of a directory, the data of a file.
    Node(NodeId),
    /// A name in a directory.
    Name(NodeId, &'n [u8]),
    /// All rows of the index.
    All,
}

impl LayerFs {
    /// True if a request for these rows waits for no other part of the index. A request that
    /// changes something needs all rows: a copy-up needs every name of a file.
    pub(crate) fn has_rows(&self, rows: Rows<'_>) -> bool {
        let lower = self.lower();
        let index = &*lower.index;
        if index.is_whole() {
            return true;
        }
        let tree = self.upper.is_some().then(|| self.read_tree());
        let node = |id| tree.as_ref().and_then(|tree| tree.get(id));
        let own = |id| self.numbers.row_of(id);
        // A node of the upper is merged with another row, or has its data in one.
        let merged = |id| node(id).and_then(|node| node.row).or(own(id));
        let is_here = |id| merged(id).is_none_or(|row| index.has(row));
        match rows {
            Rows::All => false,
            Rows::Attributes(id) => match node(id) {
                Some(_) => is_here(id),
                None => own(id).is_none_or(|row| index.shows(row)),
            },
            // An object of the upper without a node yet may have its origin in any row.
            Rows::Node(id) => {
                is_here(id) && !node(id).is_some_and(|node| node.listing.has_objects())
            }
            Rows::Name(_, b"." | b"..") => false,
            Rows::Name(dir, name) => {
                let is_new = |entry| matches!(entry, Some(Entry::Object { id: 0, .. }));
                is_here(dir) && !node(dir).is_some_and(|node| is_new(node.listing.get(name)))
            }
        }
    }

    /// True if nothing of `need` has to be copied any more: the file has its data in the upper, or
    /// is gone, or another revision is mounted and the copy-up begins again.
    pub(crate) fn is_met(&self, need: &Need) -> bool {
        self.lower().serial != need.serial
            || !matches!(self.bytes(need.id), Ok(Bytes::Lower { row, .. }) if row == need.row)
    }

    /// The chunks for a read of `id`, if one of them is remote.
    pub(crate) fn far_chunks(&self, id: NodeId, offset: u64, len: usize) -> Option<FarChunks> {
        let Ok(Bytes::Lower { row, size }) = self.bytes(id) else {
            return None;
        };
        let lower = self.lower();
        let is_far = !lower.is_local(row, offset, len, size);
        is_far.then(|| lower.far(row, offset, len, size))
    }

    /// The chunks of `len` bytes of `need` from `offset` on.
    pub(crate) fn chunks_of(&self, need: &Need, offset: u64, len: usize) -> FarChunks {
        self.lower().far(need.row, offset, len, need.end)
    }

    /// True if `len` bytes of `need` from `offset` on can be read without waiting.
    pub fn is_local(&self, need: &Need, offset: u64, len: usize) -> bool {
        self.lower().is_local(need.row, offset, len, need.end)
    }

    /// Stored bytes of all chunks of `need`.
    pub fn stored_len(&self, need: &Need) -> u64 {
        let len = usize::try_from(need.end).unwrap_or(usize::MAX);
        let lower = self.lower();
        let chunks = lower.chunks_of(need.row, 0, len, need.end);
        chunks
            .into_iter()
            .map(|id| lower.chunks.stored_len(id))
            .sum()
    }
}
