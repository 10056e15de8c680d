//! The bytes of one regular file, without holes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::Segments;

/// An open file, read segment after segment.
#[derive(Debug, Default)]
pub(super) struct Regular {
    file: Option<File>,
    segments: Segments,
    current: usize,
    done: u64,
}

impl Regular {
    /// The `size` bytes of `file`, which occupies `blocks` times 512 bytes on its file system.
    pub(super) fn new(file: File, size: u64, blocks: u64) -> Result<Self, Errno> {
        let segments = if blocks < size.div_ceil(512) {
            data_segments(&file, size)?
        } else {
            vec![(0, size)]
        };
        Ok(Regular {
            file: Some(file),
            segments,
            current: 0,
            done: 0,
        })
    }

    /// The data ranges of the file.
    pub(super) fn segments(&self) -> &Segments {
        &self.segments
    }
}

/// The data ranges of a file; all of it if its file system does not report them.
fn data_segments(file: &File, size: u64) -> Result<Segments, Errno> {
    let mut segments = Segments::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => return Ok(vec![(0, size)]),
            Err(errno) => return Err(errno),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        if start < end {
            segments.push((start, end - start));
        }
        at = end.max(start + 1);
    }
    Ok(segments)
}

impl Read for Regular {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (Some(file), Some(&(offset, len))) = (&self.file, self.segments.get(self.current))
        else {
            return Ok(0);
        };
        let want = usize::try_from(len - self.done)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(buffer) = buffer.get_mut(..want).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let count = file.read_at(buffer, offset + self.done)?;
        if count == 0 {
            let problem =
                "it was truncated while it was read; bake from a tree that does not change";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
        }
        self.done += count as u64;
        if self.done == len {
            self.current += 1;
            self.done = 0;
        }
        Ok(count)
    }
}
