//! The validated index: every table of a layer (or of a whole flattened stack), used in place.
//!
//! [`Index::decode`] checks every rule of `docs/FORMAT.md` §6 once; after that no accessor can
//! fail, and none allocates. An inode number out of range reads as an empty object.

pub(crate) mod builder;
pub(crate) mod early;
mod late;
mod rows;
mod successor;
pub(crate) mod tables;
mod validate;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::digest::{DIGEST_LEN, Digest};
use crate::error::Result;
use crate::layout::chunk::{Chunk, ChunkFile, Codec};
use crate::layout::columns::{Area, Column, Columns, Counts};
use crate::layout::inode::{FLAG_OPAQUE, S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
use crate::time::Time;

use self::early::EarlyTables;
use self::late::Late;
use self::tables::{IndexTables, Packer};
pub use late::Arrival;
pub use rows::{Dirent, DirentTarget, Extent, Inode, LayerRef};
pub use successor::{NameChange, Restyled, StubRow, Successor};

/// Inode number: a row of the inode table.
pub type Ino = u32;

/// The root directory of every index.
pub const ROOT: Ino = 0;

/// A validated index.
#[derive(Debug, Clone)]
pub struct Index {
    tables: IndexTables,
    columns: Columns,
    /// Has the tables instead, if only an early index was here at first.
    late: Option<Arc<Late>>,
}

impl Index {
    /// Validate the uncompressed INDEX section. `data_end` is the superblock's: own chunks must
    /// fill the file from the superblock to there.
    ///
    /// # Errors
    /// The first rule that is broken, with section "INDEX" and the offset in `raw`.
    pub fn decode(raw: Vec<u8>, data_end: u64) -> Result<Index> {
        let columns = Columns::new(Counts::decode(&raw)?);
        validate::raw(&raw, &columns, data_end)?;
        let tables = tables::of_raw(raw, &columns);
        Ok(Index::of(tables, columns))
    }

    /// Validates tables like [`Index::decode`].
    pub(crate) fn packed(packer: Packer, counts: Counts, data_end: u64) -> Result<Index> {
        Index::of_tables(packer.finish(), counts, data_end)
    }

    fn of_tables(tables: IndexTables, counts: Counts, data_end: u64) -> Result<Index> {
        let columns = Columns::new(counts);
        match tables.as_raw() {
            Some(raw) => validate::raw(raw, &columns, data_end)?,
            None => validate::packed(&tables, &columns, data_end)?,
        }
        Ok(Index::of(tables, columns))
    }

    /// An index with only an empty root directory.
    pub fn empty() -> Index {
        let counts = Counts {
            inodes: 1,
            ..Counts::default()
        };
        let columns = Columns::new(counts);
        let mut raw = counts.encode().to_vec();
        raw.resize(columns.len(), 0);
        for (column, value) in [
            (Column::InodeMode, S_IFDIR | 0o755),
            (Column::InodeNlink, 2),
        ] {
            let at = columns.start(column);
            if let Some(slot) = raw.get_mut(at..at + 4) {
                slot.copy_from_slice(&value.to_le_bytes());
            }
        }
        let tables = IndexTables::raw(raw, &columns);
        Index::of(tables, columns)
    }

    fn of(tables: IndexTables, columns: Columns) -> Index {
        Index {
            tables,
            columns,
            late: None,
        }
    }

    /// The early index in a frame whose digest was checked, until the whole one arrives
    /// ([`Index::arrive`]). An accessor that needs another row waits for it.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(crate) fn early(frame: &[u8]) -> Result<Index> {
        let early = EarlyTables::decode(frame)?;
        let columns = Columns::new(early.counts());
        Ok(Index {
            late: Some(Arc::new(Late::new(early))),
            ..Index::of(IndexTables::none(), columns)
        })
    }

    /// True unless only an early index is here.
    pub fn is_whole(&self) -> bool {
        self.late.as_ref().is_none_or(|late| late.whole().is_some())
    }

    /// True if `ino` can be used without a wait: the entries of a directory with their attributes,
    /// the extents of a file.
    pub fn has(&self, ino: Ino) -> bool {
        self.late.as_ref().is_none_or(|late| late.has(ino))
    }

    /// True if the attributes of `ino`, except its number of blocks, can be read without a wait.
    pub fn shows(&self, ino: Ino) -> bool {
        self.late.as_ref().is_none_or(|late| late.shows(ino))
    }

    /// Number of inodes that can be used without a wait.
    pub fn early_count(&self) -> u32 {
        match self.late.as_ref().filter(|late| late.whole().is_none()) {
            Some(late) => late.early().inode_count(),
            None => self.inode_count(),
        }
    }

    /// Takes the whole index in the place of the early one, and ends all waits.
    ///
    /// # Errors
    /// It has other values than the early one. Nothing changes.
    pub fn arrive(&self, whole: Arc<Index>) -> Result<()> {
        self.late.as_ref().map_or(Ok(()), |late| late.arrive(whole))
    }

    /// Calls `then` with true when the whole index is here, with false if the wait is in vain.
    pub fn when_whole(&self, then: Arrival) {
        match &self.late {
            None => then(true),
            Some(late) => late.when_whole(then),
        }
    }

    /// Waits for the whole index; false if the wait is in vain.
    pub fn await_whole(&self) -> bool {
        let (sender, arrived) = std::sync::mpsc::sync_channel(1);
        self.when_whole(Box::new(move |is_whole| {
            let _ = sender.send(is_whole);
        }));
        arrived.recv().unwrap_or(false)
    }

    /// Calls `wanted` when somebody waits for the whole index for the first time.
    pub fn when_wanted(&self, wanted: Box<dyn FnOnce() + Send>) {
        if let Some(late) = &self.late {
            late.when_wanted(wanted);
        }
    }

    /// Ends the waits of [`Index::when_whole`] in vain. With `lost`, the whole index will never
    /// arrive: all waits, also later ones, are in vain.
    pub fn disappoint(&self, lost: bool) {
        if let Some(late) = &self.late {
            late.disappoint(lost);
        }
    }

    /// True if the whole index will never arrive.
    pub fn is_lost(&self) -> bool {
        self.late.as_ref().is_some_and(|late| late.is_lost())
    }

    /// The uncompressed bytes: of a large index, which is not in this form in memory, a copy.
    pub fn raw(&self) -> Cow<'_, [u8]> {
        match &self.late {
            None => self.tables.to_raw(&self.columns),
            Some(late) => late.wait().raw(),
        }
    }

    /// Makes the merged index of the stack of only this layer, if that takes no new tables: its
    /// chunks are all its own, and it hides nothing. Otherwise false, and nothing changes.
    pub(crate) fn lend(&mut self, layer: LayerRef) -> bool {
        let counts = *self.counts();
        let rows = |column, count: u32| (0..count).map(move |row| (column, row));
        let mut dirents = rows(Column::DirentInode, counts.dirents);
        let mut inodes = rows(Column::InodeMode, counts.inodes);
        let fits = self.tables.is_packed()
            && counts.layers == 0
            && dirents.all(|(column, row)| self.u32(column, row) != 0)
            && inodes.all(|(column, row)| self.u32(column, row) >> 16 == 0);
        if !fits {
            return false;
        }
        self.tables.lend(&layer.digest.0, layer.file_len);
        let counts = Counts {
            layers: 1,
            ..counts
        };
        self.columns = Columns::new(counts);
        true
    }

    /// Rows of every table.
    pub fn counts(&self) -> &Counts {
        &self.columns.counts
    }

    /// Number of inodes; numbers run from 0 (root) to this, exclusive.
    pub fn inode_count(&self) -> u32 {
        self.columns.counts.inodes
    }

    /// Number of chunks.
    pub fn chunk_count(&self) -> u32 {
        self.columns.counts.chunks
    }

    #[inline]
    fn u32(&self, column: Column, row: u32) -> u32 {
        match &self.late {
            None => self.tables.value(column, row),
            Some(late) => late.value(column, row),
        }
    }

    fn u64(&self, low: Column, high: Column, row: u32) -> u64 {
        u64::from(self.u32(low, row)) | u64::from(self.u32(high, row)) << 32
    }

    /// The end offsets in `column` make the ranges of consecutive rows.
    fn span(&self, column: Column, row: u32) -> Range<usize> {
        let start = row
            .checked_sub(1)
            .map_or(0, |before| self.u32(column, before));
        start as usize..self.u32(column, row) as usize
    }

    fn area(&self, area: Area, range: Range<usize>) -> &[u8] {
        match &self.late {
            None => self.tables.area(area).get(range).unwrap_or_default(),
            Some(late) => late.area(area, range),
        }
    }

    fn digest(&self, area: Area, row: u32) -> Digest {
        let at = row as usize * DIGEST_LEN;
        let bytes = self.area(area, at..at + DIGEST_LEN);
        Digest(bytes.try_into().unwrap_or_default())
    }

    /// The inode with number `ino`.
    pub fn inode(&self, ino: Ino) -> Option<Inode> {
        if ino >= self.inode_count() {
            return None;
        }
        let word = self.u32(Column::InodeMode, ino);
        let mode = word & 0xffff;
        let kind = mode & S_IFMT;
        let size = match kind {
            S_IFREG => self.u64(Column::InodeSizeLow, Column::InodeSizeHigh, ino),
            S_IFLNK => u64::from(self.u32(Column::InodeCount, ino)),
            _ => 0,
        };
        let rdev = match kind {
            S_IFCHR | S_IFBLK => (
                self.u32(Column::InodeFirst, ino),
                self.u32(Column::InodeCount, ino),
            ),
            _ => (0, 0),
        };
        Some(Inode {
            mode,
            uid: self.u32(Column::InodeUid, ino),
            gid: self.u32(Column::InodeGid, ino),
            nlink: self.u32(Column::InodeNlink, ino),
            size,
            mtime: Time {
                sec: self
                    .u64(Column::InodeMtimeLow, Column::InodeMtimeHigh, ino)
                    .cast_signed(),
                nsec: self.u32(Column::InodeMtimeNsec, ino),
            },
            rdev,
            opaque: (word >> 16) as u8 & FLAG_OPAQUE != 0,
        })
    }

    fn kind(&self, ino: Ino) -> u32 {
        self.u32(Column::InodeMode, ino) & S_IFMT
    }

    /// First row and number of rows that belong to `ino`, if it is of `kind`.
    fn rows(&self, ino: Ino, kind: u32) -> (u32, u32) {
        if ino < self.inode_count() && self.kind(ino) == kind {
            (
                self.u32(Column::InodeFirst, ino),
                self.u32(Column::InodeCount, ino),
            )
        } else {
            (0, 0)
        }
    }

    /// Number of entries in directory `dir`, whiteouts included; 0 if it is not a directory.
    pub fn entry_count(&self, dir: Ino) -> u32 {
        self.rows(dir, S_IFDIR).1
    }

    fn dirent_name(&self, row: u32) -> &[u8] {
        self.area(Area::Names, self.name_span(row))
    }

    fn name_span(&self, row: u32) -> Range<usize> {
        match &self.late {
            None => self.span(Column::DirentNameEnd, row),
            Some(late) => late.name_span(row),
        }
    }

    fn dirent(&self, row: u32, first: u32) -> Dirent<'_> {
        let child = match self.u32(Column::DirentInode, row) {
            0 => DirentTarget::Whiteout,
            ino => DirentTarget::Inode(ino),
        };
        Dirent {
            name: self.dirent_name(row),
            child,
            position: row - first,
        }
    }

    /// The entry `name` of directory `dir`: binary search.
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Option<Dirent<'_>> {
        let (first, count) = self.rows(dir, S_IFDIR);
        let (mut low, mut high) = (first, first + count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.dirent_name(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(self.dirent(middle, first)),
            }
        }
        None
    }

    /// The entries of `dir` from position `from` on, in name order; none if it is not a directory.
    pub fn entries(&self, dir: Ino, from: u32) -> impl Iterator<Item = Dirent<'_>> + use<'_> {
        let (first, count) = self.rows(dir, S_IFDIR);
        (from.min(count)..count).map(move |position| self.dirent(first + position, first))
    }

    /// The parent of directory `dir`; the root is its own parent.
    pub fn parent(&self, dir: Ino) -> Ino {
        if self.kind(dir) == S_IFDIR {
            self.u32(Column::InodeSizeLow, dir)
        } else {
            ROOT
        }
    }

    /// The target of symbolic link `ino`; empty if it is none.
    pub fn symlink(&self, ino: Ino) -> &[u8] {
        let (offset, len) = self.rows(ino, S_IFLNK);
        self.area(
            Area::Symlinks,
            offset as usize..offset as usize + len as usize,
        )
    }

    fn extent(&self, row: u32) -> Extent {
        Extent {
            file_offset: self.u64(Column::ExtentFileLow, Column::ExtentFileHigh, row),
            chunk: self.u32(Column::ExtentChunk, row),
            chunk_offset: self.u32(Column::ExtentChunkOffset, row),
            len: self.u32(Column::ExtentLen, row),
        }
    }

    /// The extents of file `ino` that overlap `range` (bytes), in file order, uncut.
    pub fn extents(&self, ino: Ino, range: Range<u64>) -> impl Iterator<Item = Extent> + use<'_> {
        let (first, count) = self.rows(ino, S_IFREG);
        let (mut low, mut high) = (first, first + count);
        while low < high {
            let middle = low + (high - low) / 2;
            let extent = self.extent(middle);
            if extent.file_offset + u64::from(extent.len) <= range.start {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low..first + count)
            .map(|row| self.extent(row))
            .take_while(move |extent| extent.file_offset < range.end)
    }

    /// The chunk with number `id`.
    pub fn chunk(&self, id: u32) -> Option<Chunk> {
        if id >= self.chunk_count() {
            return None;
        }
        Some(Chunk {
            source: match self.u32(Column::ChunkSource, id) {
                0 => ChunkFile::Own,
                row => ChunkFile::Borrowed(row - 1),
            },
            offset: self.u64(Column::ChunkOffsetLow, Column::ChunkOffsetHigh, id),
            stored_len: self.u32(Column::ChunkStoredLen, id),
            raw_len: self.u32(Column::ChunkRawLen, id),
            codec: Codec::from_code(self.u32(Column::ChunkCodec, id) as u8)
                .unwrap_or(Codec::Stored),
            digest: self.digest(Area::ChunkDigests, id),
        })
    }

    /// All chunks in table order.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + use<'_> {
        (0..self.chunk_count()).filter_map(|id| self.chunk(id))
    }

    /// The layer in row `row` of the layer table.
    pub fn layer(&self, row: u32) -> Option<LayerRef> {
        (row < self.columns.counts.layers).then(|| LayerRef {
            digest: self.digest(Area::LayerDigests, row),
            file_len: self.u64(Column::LayerLenLow, Column::LayerLenHigh, row),
        })
    }

    /// The layers this index borrows chunks from.
    pub fn layers(&self) -> impl Iterator<Item = LayerRef> + use<'_> {
        (0..self.columns.counts.layers).filter_map(|row| self.layer(row))
    }

    /// 1 + the xattr set of `ino`, or 0: equal numbers mean equal attributes.
    pub(crate) fn xattr_set(&self, ino: Ino) -> u32 {
        if ino < self.inode_count() {
            self.u32(Column::InodeXattrs, ino)
        } else {
            0
        }
    }

    /// The extended attributes of `ino`, in name order.
    pub fn xattrs(&self, ino: Ino) -> impl Iterator<Item = (&[u8], &[u8])> + use<'_> {
        let pairs = match self.xattr_set(ino).checked_sub(1) {
            Some(set) => self.span(Column::XattrSetEnd, set),
            None => 0..0,
        };
        (pairs.start as u32..pairs.end as u32).map(|pair| {
            let name = self.u32(Column::XattrPairName, pair);
            (
                self.area(Area::XattrNames, self.span(Column::XattrNameEnd, name)),
                self.area(
                    Area::XattrValues,
                    self.span(Column::XattrPairValueEnd, pair),
                ),
            )
        })
    }

    /// The value of attribute `name` of `ino`.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Option<&[u8]> {
        self.xattrs(ino)
            .find(|(have, _)| *have == name)
            .map(|(_, value)| value)
    }
}
