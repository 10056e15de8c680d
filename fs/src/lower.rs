//! The read-only side: the flattened stack, and the bytes of its files.
//!
//! No locks: a node number is a table row plus one, and the tables never change. A switch to another
//! revision makes new tables, in which a row in use still means the same object.

pub mod chunks;
mod decoded;
pub(crate) mod surplus;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use layerfmt::index::StubRow;
use layerfmt::{Index, Ino};

use self::chunks::{ChunkCache, Early};
use crate::chunks::ChunkSource;
use crate::control::{Control, Local};
use crate::error::{Error, Result};
use crate::names::Names;
use crate::sys::Errno;
use crate::trace::TraceRecorder;
use crate::upper::marks::StackDigest;
use crate::upper::numbering::{NumberedMark, NumberedRow, Numbering};
use crate::upper::origins::{EarlierRows, Origins};

/// Chunks of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FarChunks {
    /// [`Lower::serial`] of the revision.
    pub serial: u32,
    /// Their numbers in its index.
    pub chunks: Vec<u32>,
}

/// The reason why bytes of the lower cannot be read now.
#[derive(Debug, Clone)]
pub enum Unread {
    /// These chunks have to be brought to this machine first ([`ChunkCache::bring`]).
    Far(FarChunks),
    /// They cannot be read at all.
    Failed(Error),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Unread {
        Unread::Failed(error)
    }
}

/// What a revision is read from.
#[derive(Debug, Clone)]
pub struct LowerParts {
    /// The source of the chunks, for an index that also has chunks of earlier revisions.
    pub source: Arc<dyn ChunkSource>,
    /// The requests that it can answer besides reads.
    pub control: Arc<dyn Control>,
    /// The layers, base first: digest and length.
    pub layers: Vec<(String, u64)>,
}

/// A revision that takes the place of another.
pub(crate) struct NextLower {
    pub(crate) index: Index,
    /// The digest of the revision's own index.
    pub(crate) digest: [u8; 32],
    /// The rows here of the revision's own rows.
    pub(crate) rows: Vec<Ino>,
    /// Rows that had no object before.
    pub(crate) added: Vec<Ino>,
    /// Rows that marks of earlier revisions name.
    pub(crate) earlier: EarlierRows,
    pub(crate) parts: LowerParts,
}

/// The end of a read of `len` bytes at `offset` of a file of `size` bytes.
fn end_of(offset: u64, len: usize, size: u64) -> u64 {
    offset.saturating_add(len as u64).min(size)
}

/// The flattened stack of a mount.
#[derive(Debug)]
pub struct Lower {
    /// The tables of the stack.
    pub index: Arc<Index>,
    /// Decoded chunks and their source.
    pub chunks: ChunkCache,
    /// The rows of the stack, as the marks of the upper name them.
    pub origins: Origins,
    /// The number of switches so far.
    pub serial: u32,
    /// The layers, base first: digest and length; for the status.
    pub layers: Vec<(String, u64)>,
    /// After a switch: a number for each row that says which object had it.
    generations: Option<Vec<u32>>,
    /// The recorder of first accesses, if any.
    pub trace: Option<Arc<TraceRecorder>>,
    /// The requests that the stack can answer besides reads.
    pub control: Arc<dyn Control>,
    names: OnceLock<Names>,
}

impl Lower {
    /// A stack with chunks from `source`; decoded ones are cached in at most `cache_len` bytes.
    /// `digest` is that of the flattened index.
    pub fn new(
        index: Arc<Index>,
        source: Arc<dyn ChunkSource>,
        digest: &[u8; 32],
        cache_len: u64,
    ) -> Lower {
        Lower {
            chunks: ChunkCache::new(Arc::clone(&index), source, cache_len),
            index,
            origins: Origins::new(digest),
            serial: 0,
            layers: Vec::new(),
            generations: None,
            trace: None,
            control: Arc::new(Local),
            names: OnceLock::new(),
        }
    }

    /// The same stack, with a recorder of first accesses.
    #[must_use]
    pub(crate) fn with_trace(self, trace: Option<Arc<TraceRecorder>>) -> Lower {
        Lower { trace, ..self }
    }

    /// The same stack, with at most `len` more bytes of decoded chunks in memory that the kernel may
    /// take back.
    #[must_use]
    pub fn with_surplus(self, len: u64) -> Lower {
        Lower {
            chunks: self.chunks.with_surplus(len),
            ..self
        }
    }

    /// The same stack, with this control side.
    #[must_use]
    pub(crate) fn with_control(self, control: Arc<dyn Control>) -> Lower {
        Lower { control, ..self }
    }

    /// The same with these layers.
    #[must_use]
    pub fn with_layers(self, layers: Vec<(String, u64)>) -> Lower {
        Lower { layers, ..self }
    }

    /// Number of objects of the revision.
    pub(crate) fn object_count(&self) -> u32 {
        self.origins
            .row_count()
            .unwrap_or_else(|| self.index.inode_count())
    }

    /// The generation of `row`: with its number it identifies one object forever.
    pub(crate) fn generation(&self, row: Ino) -> u32 {
        let own = self.generations.as_ref();
        own.and_then(|rows| rows.get(row as usize).copied())
            .unwrap_or_else(|| self.origins.generation())
    }

    /// The same stack under stored row numbers.
    #[must_use]
    pub(crate) fn renumbered(self, numbering: &Numbering) -> Lower {
        let rows: Vec<Ino> = numbering.rows.iter().map(|(row, _)| *row).collect();
        let named: HashSet<Ino> = rows.iter().copied().collect();
        let marked = numbering.marks.iter().filter_map(|known| known.row);
        let nameless: Vec<_> = marked.filter(|known| !named.contains(&known.row)).collect();
        let stubs: Vec<StubRow> = nameless
            .iter()
            .map(|known| (known.row, known.kind))
            .collect();
        let index = Arc::new(self.index.renumbered(&rows, &stubs));
        let mut generations = vec![self.origins.generation(); index.inode_count() as usize];
        let of_marks = nameless.iter().map(|known| (known.row, known.generation));
        for (row, generation) in numbering.rows.iter().copied().chain(of_marks) {
            if let Some(slot) = generations.get_mut(row as usize) {
                *slot = generation;
            }
        }
        Lower {
            chunks: self.chunks.with_index(Arc::clone(&index)),
            index,
            origins: Origins::renumbered(numbering.stack, rows, numbering.earlier()),
            generations: Some(generations),
            ..self
        }
    }

    /// The row numbers, to store them; numbers of the upper begin at `base`.
    pub(crate) fn numbering(&self, base: u64) -> Numbering {
        let rows = self.origins.rows().unwrap_or_default();
        let numbered = |row: Ino| NumberedRow {
            row,
            kind: self.index.inode(row).map_or(0, |inode| inode.kind()),
            generation: self.generation(row),
        };
        let marks = self.origins.earlier().iter().filter_map(|(mark, row)| {
            Some(NumberedMark {
                mark: mark.as_slice().try_into().ok()?,
                row: row.map(numbered),
            })
        });
        let mut marks: Vec<NumberedMark> = marks.collect();
        marks.sort_unstable_by_key(|known| known.mark);
        Numbering {
            stack: self.origins.stack(),
            base,
            rows: rows
                .iter()
                .map(|row| (*row, self.generation(*row)))
                .collect(),
            marks,
        }
    }

    /// The next revision in the place of this one.
    pub(crate) fn succeed(&self, next: NextLower) -> Lower {
        let index = Arc::new(next.index);
        let first = self.origins.generation();
        let salt = crate::sys::handle::first_unused().to_le_bytes();
        let serial = self.serial.wrapping_add(1);
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&next.digest)
            .update(&salt)
            .update(&serial.to_le_bytes());
        let own = hasher.finalize().as_bytes().first_chunk().copied();
        let own = own.map_or(0, u32::from_le_bytes);
        let mut generations = self.generations.clone().unwrap_or_default();
        generations.resize(index.inode_count() as usize, first);
        for row in next.added {
            if let Some(slot) = generations.get_mut(row as usize) {
                *slot = own;
            }
        }
        Lower {
            chunks: self.chunks.succeed(Arc::clone(&index), next.parts.source),
            index,
            origins: Origins::renumbered(StackDigest::new(&next.digest), next.rows, next.earlier),
            serial,
            layers: next.parts.layers,
            generations: Some(generations),
            trace: None,
            control: next.parts.control,
            names: OnceLock::new(),
        }
    }

    /// The names of every row; built at the first request.
    pub fn names(&self) -> &Names {
        self.names.get_or_init(|| Names::new(&self.index))
    }

    /// Reads up to `len` bytes of file `row` from `offset` into `out` (replaced), as if the file
    /// were `size` bytes long: bytes that the lower does not have are zero.
    ///
    /// # Errors
    /// Chunks must be fetched first; or EIO with the chunk that differs from the index.
    pub fn read(
        &self,
        row: Ino,
        offset: u64,
        len: usize,
        size: u64,
        out: &mut Vec<u8>,
    ) -> std::result::Result<(), Unread> {
        self.read_early(row, offset, len, size, out, None)
    }

    /// Reads like [`Lower::read`]; may give all bytes to `early` first, and return later.
    ///
    /// # Errors
    /// Those of [`Lower::read`]. `early` may have been called before one.
    pub fn read_early(
        &self,
        row: Ino,
        offset: u64,
        len: usize,
        size: u64,
        out: &mut Vec<u8>,
        mut early: Option<Early<'_>>,
    ) -> std::result::Result<(), Unread> {
        // All or nothing: a chunk decoded for a read that then waits may be evicted meanwhile.
        if self.chunks.is_slow() && !self.is_local(row, offset, len, size) {
            return Err(Unread::Far(self.far(row, offset, len, size)));
        }
        let wanted = end_of(offset, len, size).saturating_sub(offset);
        let copy = |id, inside, place: &mut [u8]| {
            let early = early.take().filter(|_| place.len() as u64 == wanted);
            self.chunks.copy(id, inside, place, early).map(|()| true)
        };
        self.copy(row, offset, len, size, out, copy).map(drop)
    }

    /// Reads like [`Lower::read`] if all bytes are decoded: never waits, never decodes. False
    /// otherwise.
    pub(crate) fn read_if_decoded(
        &self,
        row: Ino,
        offset: u64,
        len: usize,
        size: u64,
        out: &mut Vec<u8>,
    ) -> bool {
        // All or nothing: copied bytes count as returned.
        let mut parts = self.parts_of(row, offset, len, size);
        if !parts.all(|(id, end)| self.chunks.is_decoded(id, end)) {
            return false;
        }
        let copy = |id, inside, place: &mut [u8]| Ok(self.chunks.copy_decoded(id, inside, place));
        matches!(self.copy(row, offset, len, size, out, copy), Ok(true))
    }

    /// True if such a read needs no server.
    pub fn is_local(&self, row: Ino, offset: u64, len: usize, size: u64) -> bool {
        let mut parts = self.parts_of(row, offset, len, size);
        parts.all(|(id, _)| self.chunks.is_local(id))
    }

    /// The chunks that such a read needs, to bring them.
    pub(crate) fn far(&self, row: Ino, offset: u64, len: usize, size: u64) -> FarChunks {
        FarChunks {
            serial: self.serial,
            chunks: self.chunks_of(row, offset, len, size),
        }
    }

    /// The chunks that such a read needs.
    pub(crate) fn chunks_of(&self, row: Ino, offset: u64, len: usize, size: u64) -> Vec<u32> {
        let parts = self.parts_of(row, offset, len, size);
        let mut ids: Vec<u32> = parts.map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The chunks for such a read, in order, and the end of the needed bytes in each.
    fn parts_of(
        &self,
        row: Ino,
        offset: u64,
        len: usize,
        size: u64,
    ) -> impl Iterator<Item = (u32, usize)> {
        let end = end_of(offset, len, size);
        let extents = self.index.extents(row, offset.min(end)..end);
        extents.map(move |extent| {
            let len = end.saturating_sub(extent.file_offset);
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let len = len.min(extent.len as usize);
            (
                extent.chunk,
                (extent.chunk_offset as usize).saturating_add(len),
            )
        })
    }

    /// Copies the part of each chunk by `copy`; stops when it returns false.
    fn copy(
        &self,
        row: Ino,
        offset: u64,
        len: usize,
        size: u64,
        out: &mut Vec<u8>,
        mut copy: impl FnMut(u32, usize, &mut [u8]) -> std::result::Result<bool, Unread>,
    ) -> std::result::Result<bool, Unread> {
        let end = end_of(offset, len, size);
        let Some(len) = end.checked_sub(offset).filter(|len| *len > 0) else {
            out.clear();
            return Ok(true);
        };
        let wanted = usize::try_from(len).map_err(|_| Error::from(Errno::INVAL))?;
        // The previous contents are overwritten: only holes need zeros.
        out.resize(wanted, 0);
        let mut done = 0;
        for extent in self.index.extents(row, offset..end) {
            let from = extent.file_offset.max(offset);
            let to = (extent.file_offset + u64::from(extent.len)).min(end);
            let at = usize::try_from(from - offset).unwrap_or(usize::MAX);
            let count = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
            let inside = extent.chunk_offset as usize
                + usize::try_from(from - extent.file_offset).unwrap_or(usize::MAX);
            let Some((hole, place)) = out
                .get_mut(done..at.saturating_add(count))
                .zip(at.checked_sub(done))
                .and_then(|(place, hole)| place.split_at_mut_checked(hole))
            else {
                let extent = format!("the extents of row {row} are out of order at {from}");
                return Err(Error::fault(Errno::IO, extent).into());
            };
            hole.fill(0);
            if !copy(extent.chunk, inside, place)? {
                return Ok(false);
            }
            done = at.saturating_add(count);
        }
        out.get_mut(done..).unwrap_or_default().fill(0);
        if let Some(trace) = &self.trace {
            trace.touch(self.origins.own_row(row), offset, len);
        }
        Ok(true)
    }

    /// The next data (or hole) of file `row` at or after `offset`.
    ///
    /// # Errors
    /// ENXIO past the end, or if there is no more data.
    pub fn seek(&self, row: Ino, offset: u64, size: u64, hole: bool) -> Result<u64> {
        if offset >= size {
            return Err(Errno::NXIO.into());
        }
        let mut at = offset;
        for extent in self.index.extents(row, offset..size) {
            if extent.file_offset > at {
                return Ok(if hole { at } else { extent.file_offset });
            }
            if !hole {
                return Ok(at);
            }
            at = (extent.file_offset + u64::from(extent.len)).min(size);
        }
        match (hole, at < size) {
            (true, _) => Ok(at),
            (false, _) => Err(Errno::NXIO.into()),
        }
    }

    /// Bytes of file `row` that are data, in blocks of 512.
    pub fn blocks(&self, row: Ino, size: u64) -> u64 {
        self.index
            .extents(row, 0..size)
            .map(|extent| u64::from(extent.len))
            .sum::<u64>()
            .div_ceil(512)
    }
}
