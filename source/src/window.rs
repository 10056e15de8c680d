//! A part of a file that holds an image: a whole file, or one partition of a disk.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The place of an image.
#[derive(Debug)]
pub struct Window {
    file: File,
    start: u64,
    len: u64,
}

/// Bytes copied at once; zeros of this length stay holes.
const STEP_LEN: usize = 128 << 10;

impl Window {
    /// All of `file`.
    ///
    /// # Errors
    /// Its length is not known.
    pub fn whole(file: File) -> io::Result<Self> {
        let len = (&file).seek(SeekFrom::End(0))?;
        Ok(Window {
            file,
            start: 0,
            len,
        })
    }

    /// A part of this one, cut off at its end.
    #[must_use]
    pub fn part(self, start: u64, len: u64) -> Self {
        let start = start.min(self.len);
        Window {
            start: self.start + start,
            len: len.min(self.len - start),
            file: self.file,
        }
    }

    /// A part of this one, which stays usable.
    ///
    /// # Errors
    /// The process has too many open files.
    pub(crate) fn another(&self, start: u64, len: u64) -> io::Result<Self> {
        let all = Window {
            file: self.file.try_clone()?,
            start: self.start,
            len: self.len,
        };
        Ok(all.part(start, len))
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if the window has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file and the offset in it at which the window begins.
    #[must_use]
    pub fn into_parts(self) -> (File, u64, u64) {
        (self.file, self.start, self.len)
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// The window ends before, or the file cannot be read.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.len) {
            let problem = format!("the image is truncated: it has no byte {offset}");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
        }
        self.file.read_exact_at(buffer, self.start + offset)
    }

    /// The first bytes, at most `len_max`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn head(&self, len_max: usize) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len).unwrap_or(len_max).min(len_max);
        let mut head = vec![0; len];
        self.read_exact_at(&mut head, 0)?;
        Ok(head)
    }

    /// A file with only the contents of the window: this one, or a copy in `directory`.
    ///
    /// # Errors
    /// The copy cannot be made.
    pub(crate) fn into_file(self, directory: &Path) -> io::Result<File> {
        let mut file = self.file;
        file.seek(SeekFrom::Start(self.start))?;
        if self.start == 0 && file.metadata()?.len() == self.len {
            return Ok(file);
        }
        let mut copy = tempfile::tempfile_in(directory)?;
        copy_sparse(&mut file.take(self.len), &mut copy)?;
        Ok(copy)
    }
}

/// Copies `input` to the empty file `output`, with holes for long runs of zeros, and seeks to its
/// beginning.
///
/// # Errors
/// One of them fails.
pub(crate) fn copy_sparse(input: &mut dyn io::Read, output: &mut File) -> io::Result<u64> {
    let mut buffer = vec![0; STEP_LEN];
    let mut len = 0;
    loop {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match input.read(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let step = buffer.get(..filled).unwrap_or_default();
        if step.is_empty() {
            break;
        }
        if step.iter().any(|&byte| byte != 0) {
            output.write_all_at(step, len)?;
        }
        len += filled as u64;
    }
    output.set_len(len)?;
    output.rewind()?;
    Ok(len)
}
