//! Rows of the index's tables, as its accessors return them.

use super::Ino;
use crate::digest::Digest;
use crate::layout::inode::{S_IFDIR, S_IFMT, S_IFREG};
use crate::time::Time;

/// One row of the inode table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names of a file; 2 + subdirectories of a directory.
    pub nlink: u32,
    /// Bytes of a regular file or of a symbolic link's target; else 0.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Major and minor of a device; else 0, 0.
    pub rdev: (u32, u32),
    /// A directory that hides all names of lower layers.
    pub opaque: bool,
}

impl Inode {
    /// The `S_IFMT` bits.
    pub fn kind(&self) -> u32 {
        self.mode & S_IFMT
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == S_IFDIR
    }

    /// True for a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == S_IFREG
    }
}

/// The target of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirentTarget {
    /// Hides the name in lower layers.
    Whiteout,
    /// An object, by inode number.
    Inode(Ino),
}

/// One directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dirent<'i> {
    /// The name: 1 to 255 bytes.
    pub name: &'i [u8],
    /// The target of the entry.
    pub child: DirentTarget,
    /// Position in its directory, from 0. Immutable, hence a stable readdir cookie.
    pub position: u32,
}

/// A run of a file: `len` bytes at `file_offset` are those at `chunk_offset` of the decoded chunk.
/// Bytes without an extent are holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Position in the file, bytes.
    pub file_offset: u64,
    /// Row of the chunk table.
    pub chunk: u32,
    /// Position in the decoded chunk, bytes.
    pub chunk_offset: u32,
    /// Length, bytes.
    pub len: u32,
}

/// A layer whose chunks this index borrows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerRef {
    /// The layer's digest: BLAKE3 of its superblock.
    pub digest: Digest,
    /// The layer file's length, bytes.
    pub file_len: u64,
}
