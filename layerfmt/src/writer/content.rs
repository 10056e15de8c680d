//! Contents: zero blocks become holes, the rest becomes runs, runs become cuts.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::limits;

/// Granularity of holes, bytes.
pub const BLOCK_LEN: usize = 4096;

/// Contents up to this many data bytes are held in memory while they are looked up.
pub(super) const MEMORY_LEN_MAX: u64 = 8 << 20;

/// Computes a content digest: BLAKE3 of the bytes; with holes, BLAKE3 of the layout and of the
/// digest of the data runs.
#[derive(Debug, Default)]
pub struct ContentHasher {
    hasher: blake3::Hasher,
    runs: Vec<(u64, u64)>,
}

/// Starts the hashed text of a content with holes.
const SPARSE_DOMAIN: &[u8] = b"layerfs sparse content 1\n";

impl ContentHasher {
    /// No byte has been hashed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The digest of a file that is not stored: arguments as for
    /// [`LayerWriter::add_file`](crate::LayerWriter::add_file).
    ///
    /// # Errors
    /// `reader` fails or ends early, or the segments are not in order.
    pub fn of(size: u64, segments: &[(u64, u64)], reader: &mut dyn Read) -> Result<Digest> {
        let mut data = Data::new(size, segments, reader)?;
        let mut hasher = Self::new();
        while let Some((offset, block)) = data.next_block()? {
            hasher.update(offset, block);
        }
        Ok(hasher.finish(size))
    }

    /// Data at `offset`; blocks come in ascending order and hold no hole.
    pub fn update(&mut self, offset: u64, bytes: &[u8]) {
        self.hasher.update(bytes);
        match self.runs.last_mut() {
            Some((start, len)) if *start + *len == offset => *len += bytes.len() as u64,
            _ => self.runs.push((offset, bytes.len() as u64)),
        }
    }

    /// The digest of a file of `size` bytes.
    pub fn finish(&self, size: u64) -> Digest {
        let data = Digest::from(self.hasher.finalize());
        match self.runs.as_slice() {
            [] if size == 0 => data,
            [(0, len)] if *len == size => data,
            runs => {
                let mut text = SPARSE_DOMAIN.to_vec();
                text.extend_from_slice(&size.to_le_bytes());
                for (offset, len) in runs {
                    text.extend_from_slice(&offset.to_le_bytes());
                    text.extend_from_slice(&len.to_le_bytes());
                }
                text.extend_from_slice(&data.0);
                Digest::of(&text)
            }
        }
    }
}

/// The data of one file as blocks without holes.
pub(super) struct Data<'r> {
    pub(super) size: u64,
    segments: Vec<(u64, u64)>,
    reader: &'r mut dyn Read,
    /// The current segment, and the number of its consumed bytes.
    segment: usize,
    used: u64,
    block: Box<[u8; BLOCK_LEN]>,
}

impl<'r> Data<'r> {
    pub(super) fn new(
        size: u64,
        segments: &[(u64, u64)],
        reader: &'r mut dyn Read,
    ) -> Result<Self> {
        let mut end = 0;
        for &(offset, len) in segments {
            let after = offset.checked_add(len);
            if offset < end || after.is_none_or(|after| after > size) {
                let what = "sparse segments overlap, go back or leave the file";
                return Err(FormatError::corrupt("content", offset, what));
            }
            end = offset + len;
        }
        if size > limits::FILE_LEN_MAX {
            return Err(FormatError::limit(
                "content",
                0,
                format!("a file of {size} bytes"),
            ));
        }
        let segments: Vec<_> = segments
            .iter()
            .copied()
            .filter(|&(_, len)| len > 0)
            .collect();
        let block = Box::new([0; BLOCK_LEN]);
        Ok(Data {
            size,
            segments,
            reader,
            segment: 0,
            used: 0,
            block,
        })
    }

    /// Bytes of data, zero blocks among them still counted.
    pub(super) fn len(&self) -> u64 {
        self.segments.iter().map(|&(_, len)| len).sum()
    }

    /// The next block that is not all zero: its offset in the file and its bytes (a whole block
    /// unless the file ends in it).
    pub(super) fn next_block(&mut self) -> Result<Option<(u64, &[u8])>> {
        loop {
            let Some(&(offset, len)) = self.segments.get(self.segment) else {
                return Ok(None);
            };
            let start = (offset + self.used) / BLOCK_LEN as u64 * BLOCK_LEN as u64;
            let end = (start + BLOCK_LEN as u64).min(self.size);
            self.block.fill(0);
            // All segments that touch this block.
            let mut current = Some((offset, len));
            while let Some((offset, len)) = current {
                let from = offset + self.used;
                let to = (offset + len).min(end);
                if from >= end {
                    break;
                }
                let range = (from - start) as usize..(to - start) as usize;
                let target = self.block.get_mut(range).unwrap_or_default();
                self.reader.read_exact(target).map_err(|e| {
                    FormatError::io("content", from, "cannot read the file's data", e)
                })?;
                self.used = to - offset;
                if self.used < len {
                    break;
                }
                self.segment += 1;
                self.used = 0;
                current = self.segments.get(self.segment).copied();
            }
            let len = (end - start) as usize;
            if self.block.iter().take(len).any(|&b| b != 0) {
                return Ok(Some((start, self.block.get(..len).unwrap_or_default())));
            }
        }
    }

    pub(super) fn into_memory(mut self) -> Result<Runs> {
        let mut runs = Runs {
            size: self.size,
            bytes: Vec::new(),
            table: Vec::new(),
        };
        while let Some((offset, block)) = self.next_block()? {
            match runs.table.last_mut() {
                Some((start, len)) if *start + *len == offset => *len += block.len() as u64,
                _ => runs.table.push((offset, block.len() as u64)),
            }
            runs.bytes.extend_from_slice(block);
        }
        Ok(runs)
    }
}

/// A whole content in memory: data runs (offset, length) and their bytes, one after the other.
pub(super) struct Runs {
    size: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) table: Vec<(u64, u64)>,
}

impl Runs {
    pub(super) fn digest(&self) -> Digest {
        let mut hasher = ContentHasher::new();
        hasher.hasher.update(&self.bytes);
        hasher.runs.clone_from(&self.table);
        hasher.finish(self.size)
    }
}

/// The raw bytes of a chunk and the positions of its runs in the file.
pub(super) struct Cut {
    pub(super) raw: Vec<u8>,
    pub(super) runs: Vec<(u64, u32)>,
    /// It belongs to a large file.
    pub(super) large: bool,
}

/// Cuts blocks into chunks at multiples of the chunk length, so that an equal part of a file at
/// the same place gives an equal chunk.
pub(super) struct Cutter {
    len: u64,
    window: u64,
    cut: Cut,
}

impl Cutter {
    pub(super) fn new(len: u32, large: bool) -> Self {
        Cutter {
            len: len.into(),
            window: 0,
            cut: Cut {
                raw: Vec::new(),
                runs: Vec::new(),
                large,
            },
        }
    }

    /// Take a block; returns the chunk that it closed, if any.
    pub(super) fn push(&mut self, offset: u64, block: &[u8]) -> Option<Cut> {
        let window = offset / self.len;
        let full = if window != self.window && !self.cut.raw.is_empty() {
            let empty = Cut {
                raw: Vec::with_capacity(self.len as usize),
                runs: Vec::new(),
                large: self.cut.large,
            };
            Some(std::mem::replace(&mut self.cut, empty))
        } else {
            None
        };
        self.window = window;
        match self.cut.runs.last_mut() {
            Some((start, len)) if *start + u64::from(*len) == offset => *len += block.len() as u32,
            _ => self.cut.runs.push((offset, block.len() as u32)),
        }
        self.cut.raw.extend_from_slice(block);
        full
    }

    /// Returns the remaining bytes, possibly none.
    pub(super) fn finish(self) -> Cut {
        self.cut
    }
}

/// A content on disk while its digest is looked up.
pub(super) struct Spool {
    file: File,
    hasher: ContentHasher,
    size: u64,
    len: u64,
}

/// A spooled content, to be read again.
pub(super) struct Again {
    pub(super) file: io::BufReader<File>,
    pub(super) segments: Vec<(u64, u64)>,
}

impl Spool {
    pub(super) fn new(mut data: Data<'_>, dir: &Path) -> Result<Spool> {
        let io = |e| FormatError::io("content", 0, "cannot spool", e);
        let mut out = io::BufWriter::with_capacity(1 << 20, unnamed_file(dir).map_err(io)?);
        let mut hasher = ContentHasher::new();
        let (size, mut len) = (data.size, 0);
        while let Some((offset, block)) = data.next_block()? {
            hasher.update(offset, block);
            out.write_all(block).map_err(io)?;
            len += block.len() as u64;
        }
        let file = out.into_inner().map_err(|e| io(e.into_error()))?;
        Ok(Spool {
            file,
            hasher,
            size,
            len,
        })
    }

    pub(super) fn digest(&self) -> Digest {
        self.hasher.finish(self.size)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn rewind(&mut self) -> Result<Again> {
        let io = |e| FormatError::io("content", 0, "cannot read the spooled file", e);
        self.file.seek(SeekFrom::Start(0)).map_err(io)?;
        let file = self.file.try_clone().map_err(io)?;
        Ok(Again {
            file: io::BufReader::with_capacity(1 << 20, file),
            segments: self.hasher.runs.clone(),
        })
    }
}

/// True if a file is linked x86-64 machine code: the call filter helps only there.
pub(super) fn is_x86(start: &[u8]) -> bool {
    const ET_EXEC: u8 = 2;
    const ET_DYN: u8 = 3;
    const EM_X86_64: u8 = 62;
    const EM_386: u8 = 3;
    start.starts_with(b"\x7fELF")
        && matches!(start.get(16..18), Some([ET_EXEC | ET_DYN, 0]))
        && matches!(start.get(18..20), Some([EM_X86_64 | EM_386, 0]))
}

/// A file without a name in `dir`.
fn unnamed_file(dir: &Path) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = dir.join(format!(".layer-spool-{}-{number}", std::process::id()));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
