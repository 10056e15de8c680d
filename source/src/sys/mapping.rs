//! Images that are read through a mapping.

use std::fs::File;
use std::io;
use std::ops::{Bound, RangeBounds};

use erofs_rs::backend::Image;

/// An image that is read through a mapping.
#[derive(Debug)]
pub(crate) struct MappedImage(memmap2::Mmap);

impl MappedImage {
    /// The image of `len` bytes from `start` of `file`.
    ///
    /// # Errors
    /// It cannot be mapped.
    pub(crate) fn new(file: &File, start: u64, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        let mut options = memmap2::MmapOptions::new();
        // SAFETY: the mapping is private, read-only and as long as the file was. Readers get bytes
        // and make no assumption about them; a file that is truncated meanwhile ends the process
        // by a signal, as for any program that maps it, and nothing was published by then.
        let map = unsafe { options.offset(start).len(len).map(file) }?;
        Ok(MappedImage(map))
    }
}

impl Image for MappedImage {
    fn get<R: RangeBounds<u64>>(&self, range: R) -> Option<&[u8]> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.checked_add(1)?,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.checked_add(1)?,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => self.len(),
        };
        self.0
            .get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}
