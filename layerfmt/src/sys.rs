//! The unsafe code of this crate: mapping files, and memory that the kernel maps at once.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;

use memmap2::Mmap;
use rustix::mm::Advice;

/// Shorter buffers share their pages with others, bytes.
const POPULATED_LEN_MIN: usize = 64 << 10;

/// Of this machine's memory, bytes.
const PAGE_LEN: usize = 4096;

/// Maps a whole file read-only.
///
/// The caller ensures that nobody truncates the file while it is mapped (a store's immutable
/// objects, a private cache): a read past the new end would be a SIGBUS. Files of unknown owners
/// are read with `pread` instead.
///
/// # Errors
/// The error of `mmap`.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is read-only and private to us; changing bytes can only make digests
    // fail, because no byte is trusted before it is verified.
    unsafe { Mmap::map(file) }
}

/// Allocates a buffer for `len` bytes that will be written soon: the kernel maps its pages at once
/// instead of with one page fault each. Without memory its capacity is zero, which the caller
/// notices.
pub fn buffer_for(len: usize) -> Vec<u8> {
    let mut buffer = Vec::new();
    if buffer.try_reserve_exact(len).is_ok() && len >= POPULATED_LEN_MIN {
        populate(buffer.spare_capacity_mut());
    }
    buffer
}

/// Has no effect before Linux 5.14, and on machines with larger pages.
fn populate(place: &mut [MaybeUninit<u8>]) {
    let skipped = place.as_ptr().align_offset(PAGE_LEN);
    let len = place.len().saturating_sub(skipped) / PAGE_LEN * PAGE_LEN;
    let Some(inside) = place.get_mut(skipped..).filter(|_| len > 0) else {
        return;
    };
    // SAFETY: whole pages of memory that is mutably borrowed. Its bytes do not change.
    unsafe {
        let _ = rustix::mm::madvise(inside.as_mut_ptr().cast(), len, Advice::LinuxPopulateWrite);
    }
}
