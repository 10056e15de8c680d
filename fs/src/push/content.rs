//! The bytes of one file without holes, exactly the announced number.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

/// Maximum number of described data ranges of one file; the rest is sent as data.
const RANGES_MAX: usize = 65_536;

/// An open file and its data ranges when it was opened.
#[derive(Debug)]
pub(super) struct Content {
    file: File,
    len: u64,
    ranges: Vec<Range<u64>>,
}

impl Content {
    /// Opens a file without following a link.
    pub(super) fn open(directory: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Reading for a push must not update access times; only the owner may suppress this.
        let file = rustix::fs::openat(directory, name, flags | OFlags::NOATIME, Mode::empty());
        let file = file.or_else(|error| match error {
            Errno::PERM => rustix::fs::openat(directory, name, flags, Mode::empty()),
            other => Err(other),
        });
        let file = File::from(file?);
        let len = u64::try_from(stat.st_size).unwrap_or(0);
        let allocated = u64::try_from(stat.st_blocks)
            .unwrap_or(0)
            .saturating_mul(512);
        let ranges = if len == 0 {
            Vec::new()
        } else if allocated >= len {
            std::iter::once(0..len).collect()
        } else {
            data_ranges(&file, len)?
        };
        Ok(Self { file, len, ranges })
    }

    /// The file's length.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The data: offset and length of each range.
    pub(super) fn segments(&self) -> Vec<(u64, u64)> {
        let ranges = self.ranges.iter();
        ranges
            .map(|range| (range.start, range.end - range.start))
            .collect()
    }

    /// The first bytes of the file, for a guess at its kind.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = vec![0; wire::secrets::HEAD_LEN];
        let len = self.file.read_at(&mut head, 0).unwrap_or(0);
        head.truncate(len);
        head
    }

    /// Bytes of data.
    pub(super) fn data_len(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// The data ranges, if there are holes.
    pub(super) fn holes(&self) -> Option<&[Range<u64>]> {
        (self.data_len() != self.len).then_some(self.ranges.as_slice())
    }
}

/// Reads exactly the announced bytes of the data ranges: zeros if the file was truncated meanwhile.
#[derive(Debug)]
pub(super) struct ExactReader<'s> {
    content: Option<&'s Content>,
    range: usize,
    done: u64,
    changed: bool,
}

impl<'s> ExactReader<'s> {
    pub(super) fn new(content: Option<&'s Content>) -> Self {
        Self {
            content,
            range: 0,
            done: 0,
            changed: false,
        }
    }

    /// True if zeros replaced bytes that disappeared during the push.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }
}

impl Read for ExactReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(content) = self.content else {
            return Ok(0);
        };
        let (place, rest) = loop {
            let Some(range) = content.ranges.get(self.range) else {
                return Ok(0);
            };
            let place = range.start.saturating_add(self.done);
            if place < range.end {
                break (place, range.end - place);
            }
            (self.range, self.done) = (self.range + 1, 0);
        };
        let most = usize::try_from(rest)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let mut count = content.file.read_at(buffer, place)?;
        if count == 0 {
            self.changed = true;
            buffer.fill(0);
            count = buffer.len();
        }
        self.done += count as u64;
        Ok(count)
    }
}

/// The data ranges of a file.
fn data_ranges(file: &File, len: u64) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < len {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // The rest of the file is a hole.
            Err(Errno::NXIO) => break,
            // The file system does not report holes: the whole file is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(error) => return Err(error.into()),
        };
        let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
            Ok(end) if ranges.len() + 1 < RANGES_MAX => end.min(len),
            Ok(_) | Err(Errno::INVAL | Errno::OPNOTSUPP) => len,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        if start >= end {
            break;
        }
        ranges.push(start..end);
        at = end;
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_shrinks_is_filled_with_zeros() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 100], 0).unwrap();
        let content = Content {
            file,
            len: 100,
            ranges: vec![0..50, 60..100],
        };
        content.file.set_len(20).unwrap();
        let mut data = ExactReader::new(Some(&content));
        let mut read = Vec::new();
        data.read_to_end(&mut read).unwrap();
        assert_eq!(read, [[7; 20].as_slice(), &[0; 70]].concat());
        assert!(data.changed());
        assert_eq!(content.data_len(), 90);
        assert!(content.holes().is_some());
    }
}
