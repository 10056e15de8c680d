//! Memory that the kernel may reclaim.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Bytes that the kernel may reclaim: while memory is plentiful they stay; when it is short the
/// kernel drops their pages first, and they read as zeros. Not locked, even in a process that locks
/// everything. The reader must be able to detect lost pages.
#[derive(Debug)]
pub(crate) struct ReclaimableBytes {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is this value's own, and written only before the value is there.
unsafe impl Send for ReclaimableBytes {}
// SAFETY: as above.
unsafe impl Sync for ReclaimableBytes {}

impl ReclaimableBytes {
    /// A copy of `bytes`.
    ///
    /// # Errors
    /// EINVAL without bytes; ENOMEM.
    pub(crate) fn new(bytes: &[u8]) -> Result<ReclaimableBytes, Errno> {
        // SAFETY: a new mapping, at no place of ours.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                bytes.len(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let reclaimable = ReclaimableBytes {
            start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?,
            len: bytes.len(),
        };
        // SAFETY: the mapping has this length, and no other code has a reference to it yet.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                reclaimable.start.as_ptr(),
                reclaimable.len,
            );
            rustix::mm::munlock(start, reclaimable.len)?;
            rustix::mm::madvise(start, reclaimable.len, Advice::LinuxFree)?;
        }
        Ok(reclaimable)
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

impl Drop for ReclaimableBytes {
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
        let reclaimable = ReclaimableBytes::new(&bytes).unwrap();
        assert_eq!(
            (reclaimable.copy(), reclaimable.byte_len()),
            (bytes, 10_000)
        );
        reclaimable.take();
        assert_eq!(reclaimable.copy(), vec![0; 10_000]);
        assert_eq!(ReclaimableBytes::new(&[]).unwrap_err(), Errno::INVAL);
    }
}
