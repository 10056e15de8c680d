//! The one unsafe floor of this crate: mapping files.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::Mmap;

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
