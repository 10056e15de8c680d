//! Memory that the kernel may reclaim.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Bytes that the kernel may reclaim: while memory is plentiful they stay; when it is short the
/// kernel drops their pages first, and they read as zeros. Not locked, even in a process that locks
/// everything. The reader must be able to detect lost pages.
#[derive(Debug)]
pub(crate) struct Lent {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is this value's own, and written only before the value is there.
unsafe impl Send for Lent {}
// SAFETY: as above.
unsafe impl Sync for Lent {}

impl Lent {
    /// A copy of `bytes`.
    ///
    /// # Errors
    /// EINVAL without bytes; ENOMEM.
    pub(crate) fn new(bytes: &[u8]) -> Result<Lent, Errno> {
        // SAFETY: a new mapping, at no place of ours.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                bytes.len(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let lent = Lent {
            start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?,
            len: bytes.len(),
        };
        // SAFETY: the mapping has this length, and no other code has a reference to it yet.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), lent.start.as_ptr(), lent.len);
            rustix::mm::munlock(start, lent.len)?;
            rustix::mm::madvise(start, lent.len, Advice::LinuxFree)?;
        }
        Ok(lent)
    }

    /// Copies the current bytes.
    pub(crate) fn copy(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        // SAFETY: the mapping has this length and lives as long as `self`; a page that the kernel
        // reclaims meanwhile reads as zeros, which are valid bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(self.start.as_ptr(), bytes.as_mut_ptr(), self.len);
            bytes.set_len(self.len);
        }
        bytes
    }

    /// Length in bytes.
    pub(crate) fn byte_len(&self) -> usize {
        self.len
    }

    /// Simulates memory pressure, for tests.
    #[cfg(test)]
    pub(crate) fn take(&self) {
        // SAFETY: the mapping is this value's own.
        unsafe {
            let start = self.start.as_ptr().cast();
            rustix::mm::madvise(start, self.len, Advice::LinuxDontNeed).unwrap();
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this value, and nothing borrows from it.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lent_bytes_stay_until_they_are_taken() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
        let lent = Lent::new(&bytes).unwrap();
        assert_eq!((lent.copy(), lent.byte_len()), (bytes, 10_000));
        lent.take();
        assert_eq!(lent.copy(), vec![0; 10_000]);
        assert_eq!(Lent::new(&[]).unwrap_err(), Errno::INVAL);
    }
}
