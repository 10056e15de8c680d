//! Bits of the `mode` and `flags` columns of the inode table.

/// File type mask of `mode`, as in Linux' `st_mode`.
pub const S_IFMT: u32 = 0o170_000;
/// Socket.
pub const S_IFSOCK: u32 = 0o140_000;
/// Symbolic link.
pub const S_IFLNK: u32 = 0o120_000;
/// Regular file.
pub const S_IFREG: u32 = 0o100_000;
/// Block device.
pub const S_IFBLK: u32 = 0o060_000;
/// Directory.
pub const S_IFDIR: u32 = 0o040_000;
/// Character device.
pub const S_IFCHR: u32 = 0o020_000;
/// Named pipe.
pub const S_IFIFO: u32 = 0o010_000;
/// Permission bits with setuid, setgid and sticky.
pub const PERMISSIONS: u32 = 0o7777;

/// `flags`: the directory hides all names of lower layers.
pub(crate) const FLAG_OPAQUE: u8 = 1;
/// All known flags; any other bit is invalid.
pub(crate) const FLAGS_KNOWN: u8 = FLAG_OPAQUE;
