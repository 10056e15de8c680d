//! Listing a directory of the upper.

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, RawDir};

use super::Result;

/// Bytes of one getdents64 buffer.
const BUFFER_LEN: usize = 32 * 1024;

/// One name in a directory of the upper.
#[derive(Debug, Clone)]
pub struct RawEntry {
    /// The name.
    pub name: Box<[u8]>,
    /// The type as the directory tells it; may be `Unknown`.
    pub kind: FileType,
}

/// All names of the directory `fd` but `.` and `..`, in the file system's order.
///
/// # Errors
/// Whatever getdents64 says.
pub fn list(fd: BorrowedFd<'_>) -> Result<Vec<RawEntry>> {
    // A descriptor of its own: the position of `fd` is shared by all its users.
    let own = rustix::fs::openat(
        fd,
        c".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
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
            });
        }
    }
    Ok(entries)
}
