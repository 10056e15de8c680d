//! Detection of processes that have a file open.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// True if a process still has `file` open for writing: the kernel then refuses a read lease.
/// `None` if the file system or our permissions do not allow the test. `file` must itself be open
/// for reading only.
#[must_use]
pub(crate) fn has_writer(file: &File) -> Option<bool> {
    // SAFETY: `fcntl(F_SETLEASE)` has two integer arguments and touches no memory of ours; the
    // descriptor is open for as long as `file` is borrowed.
    let taken = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    if taken == 0 {
        // SAFETY: as above; giving the lease back.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
        return Some(false);
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        // A file system without leases answers None both times; the ones we run on have them.
        assert_eq!(has_writer(&reader), Some(true));
        drop(writer);
        assert_eq!(has_writer(&reader), Some(false));
    }
}
