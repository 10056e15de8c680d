//! The places of a file's bytes in an image, for file systems that store them unchanged.

use std::io;

use super::Segments;
use super::limits::IMAGE_EXTENTS_MAX;
use super::walk::damaged;
use super::window::Window;

/// Bytes of a file that are contiguous in the image. Bytes without an extent are a hole.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImageExtent {
    /// Offset in the file.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) len: u64,
    /// Offset in the image.
    pub(super) start: u64,
}

impl ImageExtent {
    /// Offset in the file of the first byte after it.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// All extents of a file, in order.
#[derive(Debug, Default)]
pub(super) struct ImageExtents(Vec<ImageExtent>);

impl ImageExtents {
    /// Adds an extent after the others.
    ///
    /// # Errors
    /// It begins before the end of the last one, or there are too many.
    pub(super) fn add(&mut self, extent: ImageExtent) -> io::Result<()> {
        let sums = [extent.offset, extent.start].map(|start| start.checked_add(extent.len));
        if sums.contains(&None) {
            return Err(damaged("a block is outside the image"));
        }
        if let Some(last) = self.0.last_mut() {
            if extent.offset < last.end() {
                return Err(damaged("a file's blocks are out of order"));
            }
            if extent.offset == last.end() && last.start + last.len == extent.start {
                last.len += extent.len;
                return Ok(());
            }
        }
        if self.0.len() >= IMAGE_EXTENTS_MAX {
            return Err(damaged("a file of too many extents"));
        }
        self.0.push(extent);
        Ok(())
    }

    /// The extents in the order of the file.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ImageExtent> {
        self.0.iter()
    }

    /// Number of bytes in all extents.
    pub(super) fn len(&self) -> u64 {
        let add = |sum: u64, extent: &ImageExtent| sum.saturating_add(extent.len);
        self.0.iter().fold(0, add)
    }

    /// Reads at least one byte from `offset`; holes are zeros.
    pub(super) fn read(&self, image: &Window, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let next = self.0.partition_point(|extent| extent.end() <= offset);
        let (len, from) = match self.0.get(next) {
            Some(extent) if extent.offset <= offset => (
                extent.end() - offset,
                Some(extent.start + (offset - extent.offset)),
            ),
            Some(extent) => (extent.offset - offset, None),
            None => (u64::MAX, None),
        };
        let count = usize::try_from(len).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = buffer.get_mut(..count).unwrap_or_default();
        match from {
            Some(from) => image.read_exact_at(buffer, from)?,
            None => buffer.fill(0),
        }
        Ok(count)
    }

    /// Fills `buffer` from `offset`; holes are zeros.
    pub(super) fn read_exact(
        &self,
        image: &Window,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            done += self.read(image, offset.saturating_add(done as u64), rest)?;
        }
        Ok(())
    }

    /// The data ranges of a file of `size` bytes.
    pub(super) fn segments(&self, size: u64) -> Segments {
        let mut segments = Segments::new();
        for extent in self.0.iter().filter(|extent| extent.offset < size) {
            let len = extent.len.min(size - extent.offset);
            match segments.last_mut() {
                Some((offset, known)) if *offset + *known == extent.offset => *known += len,
                _ => segments.push((extent.offset, len)),
            }
        }
        segments
    }
}
