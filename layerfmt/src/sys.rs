//! The one unsafe floor of this crate: mapping files, and memory that the kernel gives in one go.

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

/// Map a whole file read-only.
///
/// The caller vouches that nobody truncates the file while it is mapped (a store's immutable
/// objects, a private cache): a read past the new end would be a SIGBUS. Files of unknown owners
/// are read with `pread` instead.
///
/// # Errors
/// What `mmap` says.
pub(crate) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is read-only and private to us; bytes changing under it can only make
    // digests fail, as nothing derived from them is trusted before it is verified.
    unsafe { Mmap::map(file) }
}

/// An empty buffer for `len` bytes that are about to come: the kernel gives its pages at once, one by one each
/// is a fault. Without memory it has no room, and whoever fills it finds out.
pub fn roomy(len: usize) -> Vec<u8> {
    let mut buffer = Vec::new();
    if buffer.try_reserve_exact(len).is_ok() && len >= POPULATED_LEN_MIN {
        populate(buffer.spare_capacity_mut());
    }
    buffer
}

/// Without effect before Linux 5.14, and on machines with larger pages.
fn populate(place: &mut [MaybeUninit<u8>]) {
    let skipped = place.as_ptr().align_offset(PAGE_LEN);
    let len = place.len().saturating_sub(skipped) / PAGE_LEN * PAGE_LEN;
    let Some(inside) = place.get_mut(skipped..).filter(|_| len > 0) else {
        return;
    };
    // SAFETY: whole pages of a place that is borrowed for writing. Its bytes stay as they are.
    unsafe {
        let _ = rustix::mm::madvise(inside.as_mut_ptr().cast(), len, Advice::LinuxPopulateWrite);
    }
}
