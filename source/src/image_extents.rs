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
pub(super) struct ImageExtents {
    extents: Vec<ImageExtent>,
    /// End in the file of the last extent, or of the last space without bytes.
    end: u64,
}

impl ImageExtents {
    /// Adds an extent after the others.
    ///
    /// # Errors
    /// It begins before the end of the last one, or there are too many.
    pub(super) fn add(&mut self, extent: ImageExtent) -> io::Result<()> {
        if extent.start.checked_add(extent.len).is_none() {
            return Err(damaged("a block is outside the image"));
        }
        self.add_hole(extent.offset, extent.len)?;
        if let Some(last) = self.extents.last_mut()
            && extent.offset == last.end()
            && last.start + last.len == extent.start
        {
            last.len += extent.len;
            return Ok(());
        }
        if self.extents.len() >= IMAGE_EXTENTS_MAX {
            return Err(damaged("a file of too many extents"));
        }
        self.extents.push(extent);
        Ok(())
    }

    /// Adds space that was allocated but not written, after the other extents. It is a hole, but an
    /// extent before its end is out of order, so a list of extents can be read only once.
    ///
    /// # Errors
    /// It is empty, or begins before the end of the last extent.
    pub(super) fn add_hole(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.checked_add(len);
        let end = end.ok_or_else(|| damaged("a block is outside the file"))?;
        if offset < self.end || len == 0 {
            return Err(damaged("a file's blocks are out of order"));
        }
        self.end = end;
        Ok(())
    }

    /// Fails if two extents have a block of the image in common. Only files share blocks.
    ///
    /// # Errors
    /// Two extents overlap.
    pub(super) fn check_distinct(&self) -> io::Result<()> {
        let mut places: Vec<_> = self.extents.iter().map(|it| (it.start, it.len)).collect();
        places.sort_unstable();
        let mut end = 0;
        for (start, len) in places {
            if start < end {
                return Err(damaged("two of its blocks are at the same place"));
            }
            end = start.saturating_add(len);
        }
        Ok(())
    }

    /// The extents in the order of the file.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ImageExtent> {
        self.extents.iter()
    }

    /// Number of bytes in all extents.
    pub(super) fn len(&self) -> u64 {
        let add = |sum: u64, extent: &ImageExtent| sum.saturating_add(extent.len);
        self.extents.iter().fold(0, add)
    }

    /// Reads at least one byte from `offset`; holes are zeros.
    pub(super) fn read(&self, image: &Window, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let next = self
            .extents
            .partition_point(|extent| extent.end() <= offset);
        let (len, from) = match self.extents.get(next) {
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
        for extent in self.extents.iter().filter(|extent| extent.offset < size) {
            let len = extent.len.min(size - extent.offset);
            match segments.last_mut() {
                Some((offset, known)) if *offset + *known == extent.offset => *known += len,
                _ => segments.push((extent.offset, len)),
            }
        }
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset: u64, len: u64, start: u64) -> ImageExtent {
        ImageExtent { offset, len, start }
    }

    #[test]
    fn extents_are_in_order() {
        let mut all = ImageExtents::default();
        all.add(extent(0, 10, 100)).unwrap();
        all.add(extent(10, 10, 110)).unwrap();
        all.add_hole(20, 10).unwrap();
        assert!(all.add(extent(25, 10, 200)).is_err());
        assert!(all.add_hole(20, 10).is_err());
        assert!(all.add_hole(30, 0).is_err());
        assert!(all.add(extent(30, 2, u64::MAX)).is_err());
        assert!(all.add_hole(u64::MAX, 2).is_err());
        all.add(extent(40, 10, 200)).unwrap();
        assert_eq!(all.segments(45), [(0, 20), (40, 5)]);
    }

    #[test]
    fn extents_of_a_directory_are_distinct() {
        let mut all = ImageExtents::default();
        all.add(extent(0, 10, 200)).unwrap();
        all.add(extent(10, 10, 100)).unwrap();
        all.check_distinct().unwrap();
        all.add(extent(20, 10, 209)).unwrap();
        assert!(all.check_distinct().is_err());
    }
}
