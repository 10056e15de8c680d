//! Listing a directory of the upper.

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, RawDir};

use super::{Errno, Result};

/// Bytes of one getdents64 buffer.
const BUFFER_LEN: usize = 32 * 1024;

/// Room for one short entry of getdents64, bytes.
const ENTRY_LEN: usize = 64;

/// One name in a directory of the upper.
#[derive(Debug, Clone)]
pub(crate) struct RawEntry {
    /// Name of the entry.
    pub name: Box<[u8]>,
    /// The type from the directory; may be `Unknown`.
    pub kind: FileType,
    /// Its inode number.
    pub number: u64,
}

/// Marks the directory `fd` as read by a user: its access time changes according to its mount.
pub(crate) fn accessed(fd: BorrowedFd<'_>) {
    // Reading an entry updates the time; so does reading at the end.
    let mut buffer = [MaybeUninit::<u8>::uninit(); ENTRY_LEN];
    let _ = RawDir::new(fd, &mut buffer).next();
}

/// All names of the directory `fd` except `.` and `..`, in the file system's order.
///
/// # Errors
/// The error of getdents64.
pub(crate) fn list(fd: BorrowedFd<'_>) -> Result<Vec<RawEntry>> {
    // A separate descriptor: all users of `fd` share its position.
    let open = |flags| {
        let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(fd, c".", flags, Mode::empty())
    };
    // Our own reads are not accesses. It may be another user's directory, while we are not root.
    let own = match open(OFlags::NOATIME) {
        Err(Errno::PERM) => open(OFlags::empty()),
        opened => opened,
    }?;
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); BUFFER_LEN];
    let mut directory = RawDir::new(&own, &mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = directory.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            entries.push(RawEntry {
                name: name.into(),
                kind: entry.file_type(),
                number: entry.ino(),
            });
        }
    }
    Ok(entries)
}
