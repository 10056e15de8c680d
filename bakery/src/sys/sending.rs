//! Mapped files for sending.

use std::fs::File;
use std::io;

use bytes::Bytes;

/// Maps a whole file for sending. An empty file gives empty bytes.
///
/// The caller gives only files of the store, which are written under another name, made
/// complete, and then only ever renamed or unlinked, never written again.
///
/// # Errors
/// The kernel refuses the mapping.
pub(crate) fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the bytes must not change under us. Store objects are immutable (above), and the
    // mapping holds its own reference to the inode, so deletion does not matter. Should an
    // operator truncate one by hand, the socket write that is the only reader of these bytes
    // gets EFAULT from the kernel and that one connection ends.
    let map = unsafe { memmap2::Mmap::map(file) }?;
    Ok(Bytes::from_owner(map))
}
