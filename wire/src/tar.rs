//! Tar archives of POSIX' PAX form: the one writer, and the parts of the one reader.
//!
//! An entry is a ustar header, preceded by a PAX header with the fields that do not fit into it:
//! nanoseconds, long names, large numbers, extended attributes, and the map of a sparse file (GNU's
//! format 1.0, which GNU tar and libarchive read). A push sends such an archive, and `bakery unpack`
//! writes one.
//!
//! The reader knows every spelling of GNU tar, libarchive and Python. Its stream, headers, records
//! and sparse maps are here; the server's source of archives joins them to entries of a tree.
//! `docs/decisions/0035-own-tar.md` says why no crate does this.

pub mod header;
pub mod records;
pub mod sparse;
pub mod stream;
mod writer;
mod xattr_name;

pub use writer::{Archive, ArchiveEntry, ArchiveKind};
pub use xattr_name::xattr_name;
