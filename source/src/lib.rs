//! Trees from outside: every source becomes one stream of entries, and no content is ever unpacked
//! on this machine's file systems.
//!
//! A [`Source`] returns one [`Entry`] after the other. Parents may follow their children or be
//! missing, hard links may precede their targets: `bakery` orders them. Entries are already
//! checked: paths are clean, lengths within bounds, sparse maps in order. Their *meaning* (whiteout
//! spellings, excludes) is decided later, in one place for all.

pub mod accounts;
pub mod acl;
pub mod btrfs;
pub mod directory;
pub mod disk;
mod disk_mounts;
pub mod erofs;
pub mod error;
pub mod ext;
mod fields;
mod file_system;
mod fstab;
mod image_extents;
pub mod iso;
pub mod limits;
pub mod magic;
mod mounted;
mod noted;
pub mod open;
pub mod override_stat;
pub mod path;
pub mod private_attributes;
pub mod qcow2;
pub mod squashfs;
pub mod subprocess;
mod sys;
mod system_partition;
pub mod tar;
pub mod walk;
pub mod whiteout;
pub mod window;
pub mod xfs;

use std::io::Read;

pub use error::SourceError;
use layerfmt::tree::Metadata;
pub use path::{EntryPath, PathError};

/// One object of a tree, as a source returns it.
#[derive(Debug)]
pub struct Entry<'s> {
    /// Path of the entry; the root directory has the empty path.
    pub path: EntryPath,
    /// Attributes of every object. Not meaningful for [`Body::HardLink`].
    pub meta: Metadata,
    /// Fields of one kind of object.
    pub body: Body<'s>,
}

/// The kind of an entry with the fields of that kind.
#[derive(Debug)]
pub enum Body<'s> {
    /// A directory.
    Directory,
    /// A regular file.
    File(Data<'s>),
    /// Another name of the file at this path, which may come later.
    HardLink(EntryPath),
    /// A symbolic link and its target.
    Symlink(Box<[u8]>),
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// Offset and length of every segment of a file that has bytes, in order and without overlap.
pub type Segments = Vec<(u64, u64)>;

/// The bytes of a regular file, to be read before the next entry is requested, or skipped.
pub struct Data<'s> {
    /// Length of the file.
    pub size: u64,
    /// Its data ranges; everything else is a hole.
    pub segments: Segments,
    /// The bytes of the segments one after the other, no more and no less.
    pub reader: &'s mut dyn Read,
}

impl std::fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Data")
            .field("size", &self.size)
            .field("segments", &self.segments)
            .finish()
    }
}

/// A tree that can be read once, entry by entry.
pub trait Source {
    /// The next entry; `None` after the last one, if the end is valid.
    ///
    /// # Errors
    /// The fault, with the entry's path and its place in the input.
    fn next_entry(&mut self) -> Result<Option<Entry<'_>>, SourceError>;

    /// The name of the input, for messages.
    fn name(&self) -> &str;

    /// The last entry was excluded: a source that knows other names of the object should return it
    /// under one of them. Returns false if it cannot.
    fn left_out(&mut self) -> bool {
        false
    }

    /// Takes the notes about the input so far, for the report.
    fn notes(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Bounds on the demands of a source.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most entries. A full distribution has 50,000 to 1,000,000.
    pub entries_max: u64,
    /// Most bytes after decompression, whatever the ratio.
    pub expanded_len_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            entries_max: 4_000_000,
            expanded_len_max: 1 << 40,
        }
    }
}
