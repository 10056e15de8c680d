//! Memory that the kernel may reclaim.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

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
        ReclaimableBytes::filled(bytes.len(), |place| place.copy_from_slice(bytes))
    }

    /// `len` bytes, zeros that `fill` overwrites.
    fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Result<ReclaimableBytes, Errno> {
        // SAFETY: a new mapping, at no place of ours.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::POPULATE,
            )
        }?;
        let reclaimable = ReclaimableBytes {
            start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?,
            len,
        };
        // SAFETY: the mapping has this length, and no other code has a reference to it yet.
        unsafe {
            fill(std::slice::from_raw_parts_mut(
                reclaimable.start.as_ptr(),
                len,
            ));
            rustix::mm::munlock(start, len)?;
            rustix::mm::madvise(start, len, Advice::LinuxFree)?;
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

/// Length of the parts whose loss is detected, bytes; pages of the kernel have a multiple of it.
const PAGE_LEN: usize = 4096;
/// The first bytes of each part in memory; the kernel's zeros differ from them.
const MARK: [u8; MARK_LEN] = *b"layerfs\n";
const MARK_LEN: usize = 8;

/// Reclaimable bytes that detect lost pages themselves: a mark takes the place of the first bytes of
/// each page. A page that the kernel has taken never comes back, so a mark that is there after a copy
/// was there during the copy.
#[derive(Debug)]
pub(crate) struct ReclaimablePages {
    bytes: ReclaimableBytes,
    /// Number of bytes; the mapping ends with a whole page.
    len: usize,
    /// The bytes in the place of the marks.
    firsts: Vec<[u8; MARK_LEN]>,
}

impl ReclaimablePages {
    /// A copy of `bytes`.
    ///
    /// # Errors
    /// EINVAL without bytes; ENOMEM.
    pub(crate) fn new(bytes: &[u8]) -> Result<ReclaimablePages, Errno> {
        let mut firsts = Vec::with_capacity(bytes.len().div_ceil(PAGE_LEN));
        let mapped_len = bytes.len().next_multiple_of(PAGE_LEN);
        let filled = ReclaimableBytes::filled(mapped_len, |place| {
            for (place, bytes) in place.chunks_mut(PAGE_LEN).zip(bytes.chunks(PAGE_LEN)) {
                if let Some(place) = place.get_mut(..bytes.len()) {
                    place.copy_from_slice(bytes);
                }
                if let Some(first) = place.first_chunk_mut() {
                    firsts.push(std::mem::replace(first, MARK));
                }
            }
        })?;
        Ok(ReclaimablePages {
            bytes: filled,
            len: bytes.len(),
            firsts,
        })
    }

    /// Fills `place` with the bytes from `inside` on. False if there are fewer, or the kernel has
    /// taken some of them; the contents of `place` are then undefined.
    pub(crate) fn copy(&self, inside: usize, place: &mut [u8]) -> bool {
        let end = inside.saturating_add(place.len());
        if end > self.len {
            return false;
        }
        // SAFETY: within the mapping, which lives as long as `self` and is never written; a page
        // that the kernel reclaims meanwhile reads as zeros, which are valid bytes.
        unsafe {
            let from = self.bytes.start.as_ptr().add(inside);
            std::ptr::copy_nonoverlapping(from, place.as_mut_ptr(), place.len());
        }
        // The marks are read after the bytes.
        fence(Ordering::Acquire);
        let pages = inside / PAGE_LEN..end.div_ceil(PAGE_LEN);
        let firsts = self.firsts.get(pages.clone()).unwrap_or_default();
        for (page, first) in pages.zip(firsts) {
            let start = page * PAGE_LEN;
            // SAFETY: the mapping has whole pages.
            let mark = unsafe {
                let mark = self
                    .bytes
                    .start
                    .as_ptr()
                    .add(start)
                    .cast::<[u8; MARK_LEN]>();
                std::ptr::read_volatile(mark)
            };
            if mark != MARK {
                return false;
            }
            for (at, byte) in (start..).zip(first) {
                if let Some(to) = at.checked_sub(inside).and_then(|at| place.get_mut(at)) {
                    *to = *byte;
                }
            }
        }
        true
    }

    /// Occupied memory, bytes.
    pub(crate) fn held_len(&self) -> usize {
        self.bytes.byte_len() + self.firsts.len() * MARK_LEN
    }

    /// Simulates memory pressure on one page, for tests.
    #[cfg(test)]
    pub(crate) fn take(&self, page: usize) {
        // SAFETY: the mapping is this value's own.
        unsafe {
            let start = self.bytes.start.as_ptr().add(page * PAGE_LEN).cast();
            rustix::mm::madvise(start, PAGE_LEN, Advice::LinuxDontNeed).unwrap();
        }
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

    #[test]
    fn pages_are_right_or_known_to_be_lost() {
        for len in [1, 7, 8, 4096, 4097, 4100, 3 * 4096 + 5, 64 << 10] {
            let bytes: Vec<u8> = (0..len).map(|i| (i / 13) as u8).collect();
            let pages = ReclaimablePages::new(&bytes).unwrap();
            for inside in (0..len).step_by(61).chain([len - 1, len]) {
                for wanted in [0, 1, 5, 9, 4096, 9000] {
                    let end = (inside + wanted).min(len);
                    let mut place = vec![99; end - inside];
                    assert!(pages.copy(inside, &mut place));
                    assert!(place == bytes[inside..end], "{len} {inside} {wanted}");
                }
            }
            assert!(!pages.copy(0, &mut vec![0; len + 1]), "there are fewer");
        }
        let bytes = vec![0; 3 * 4096];
        let pages = ReclaimablePages::new(&bytes).unwrap();
        pages.take(1);
        for (inside, len, there) in [
            (0, 4096, true),
            (4095, 1, true),
            (4095, 2, false),
            (4100, 1, false),
            (8191, 1, false),
            (8192, 4096, true),
            (0, 3 * 4096, false),
        ] {
            let mut place = vec![99; len];
            assert_eq!(pages.copy(inside, &mut place), there, "{inside} {len}");
        }
        assert_eq!(ReclaimablePages::new(&[]).unwrap_err(), Errno::INVAL);
    }
}
