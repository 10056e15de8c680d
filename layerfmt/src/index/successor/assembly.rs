//! Tables with given row numbers: those of the next revision, and rows of the current one that stay.

use std::collections::HashMap;

use super::NONE;
use crate::digest::Digest;
use crate::index::tables;
use crate::index::{DirentTarget, Extent, Index, Ino};
use crate::layout::chunk::ChunkFile;
use crate::layout::columns::{Area, COLUMNS, Column, Columns, Counts};
use crate::layout::inode::{S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG};

/// The object of one row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// No object has it.
    Unused,
    /// An object of this type without content.
    Stub(u32),
    /// A row of the current index; a directory shows no entries any more.
    Current(Ino),
    /// A row of the next index.
    Next(Ino),
}

/// The tables under construction.
pub(super) struct Assembly<'i> {
    current: &'i Index,
    next: &'i Index,
    rows: &'i [Ino],
    columns: Vec<Vec<u32>>,
    names: Vec<u8>,
    symlinks: Vec<u8>,
    chunk_digests: Vec<u8>,
    layer_digests: Vec<u8>,
    xattr_names: Vec<u8>,
    xattr_values: Vec<u8>,
    /// New numbers of chunks, xattr sets and layers of the current index.
    chunks: HashMap<u32, u32>,
    sets: HashMap<u32, u32>,
    layers: HashMap<Digest, u32>,
}

const INODES: [Column; 12] = [
    Column::InodeMode,
    Column::InodeUid,
    Column::InodeGid,
    Column::InodeSizeLow,
    Column::InodeSizeHigh,
    Column::InodeMtimeLow,
    Column::InodeMtimeHigh,
    Column::InodeMtimeNsec,
    Column::InodeNlink,
    Column::InodeFirst,
    Column::InodeCount,
    Column::InodeXattrs,
];
const CHUNKS: [Column; 6] = [
    Column::ChunkSource,
    Column::ChunkOffsetLow,
    Column::ChunkOffsetHigh,
    Column::ChunkStoredLen,
    Column::ChunkRawLen,
    Column::ChunkCodec,
];
/// Tables that begin with all rows of the next index.
const WHOLE: [Column; 12] = [
    Column::ChunkSource,
    Column::ChunkOffsetLow,
    Column::ChunkOffsetHigh,
    Column::ChunkStoredLen,
    Column::ChunkRawLen,
    Column::ChunkCodec,
    Column::LayerLenLow,
    Column::LayerLenHigh,
    Column::XattrSetEnd,
    Column::XattrPairName,
    Column::XattrPairValueEnd,
    Column::XattrNameEnd,
];

impl<'i> Assembly<'i> {
    /// Tables for `next`; `rows` are the numbers of its rows.
    pub(super) fn new(current: &'i Index, next: &'i Index, rows: &'i [Ino]) -> Assembly<'i> {
        let area = |area| next.area(area, next.columns.size(area)).to_vec();
        let layers = next.layers().map(|layer| layer.digest);
        let layers = (0..).zip(layers).map(|(row, digest)| (digest, row));
        let mut assembly = Assembly {
            current,
            next,
            rows,
            columns: vec![Vec::new(); COLUMNS],
            names: Vec::new(),
            symlinks: Vec::new(),
            chunk_digests: area(Area::ChunkDigests),
            layer_digests: area(Area::LayerDigests),
            xattr_names: area(Area::XattrNames),
            xattr_values: area(Area::XattrValues),
            chunks: HashMap::new(),
            sets: HashMap::new(),
            layers: layers.collect(),
        };
        for column in WHOLE {
            let values = (0..next.columns.rows(column)).map(|row| next.u32(column, row));
            let values = values.collect();
            if let Some(slot) = assembly.columns.get_mut(column as usize) {
                *slot = values;
            }
        }
        assembly
    }

    fn push(&mut self, column: Column, value: u32) {
        if let Some(column) = self.columns.get_mut(column as usize) {
            column.push(value);
        }
    }

    fn len(&self, column: Column) -> u32 {
        self.columns
            .get(column as usize)
            .map_or(0, |column| column.len() as u32)
    }

    /// Adds the next row of the inode table.
    pub(super) fn inode(&mut self, source: Source) {
        let (index, row) = match source {
            Source::Unused => return self.empty(S_IFIFO),
            Source::Stub(kind) => return self.empty(kind & S_IFMT),
            Source::Current(row) => (self.current, row),
            Source::Next(row) => (self.next, row),
        };
        let is_next = matches!(source, Source::Next(_));
        let mut fields = INODES.map(|column| index.u32(column, row));
        let [word, _, _, size_low, _, _, _, _, _, first, count, xattrs] = &mut fields;
        match *word & S_IFMT {
            S_IFDIR => {
                (*first, *count) = self.entries(is_next.then_some(row));
                if is_next {
                    *size_low = self.place(*size_low);
                }
            }
            S_IFREG => (*first, *count) = self.extents(index, row, is_next),
            S_IFLNK => {
                *first = self.symlinks.len() as u32;
                self.symlinks.extend_from_slice(index.symlink(row));
            }
            _ => {}
        }
        if !is_next {
            *xattrs = self.xattr_set(*xattrs);
        }
        for (column, value) in INODES.into_iter().zip(fields) {
            self.push(column, value);
        }
    }

    /// A row without a name and without content.
    fn empty(&mut self, kind: u32) {
        let first = match kind {
            S_IFDIR => self.len(Column::DirentInode),
            S_IFREG => self.len(Column::ExtentChunk),
            S_IFLNK => self.symlinks.len() as u32,
            _ => 0,
        };
        for column in INODES {
            let value = match column {
                Column::InodeMode => kind,
                Column::InodeFirst => first,
                _ => 0,
            };
            self.push(column, value);
        }
    }

    fn place(&self, row: Ino) -> Ino {
        self.rows.get(row as usize).copied().unwrap_or(0)
    }

    /// The entries of directory `row` of the next index; first and count.
    fn entries(&mut self, row: Option<Ino>) -> (u32, u32) {
        let first = self.len(Column::DirentInode);
        let next = self.next;
        for entry in row.into_iter().flat_map(|row| next.entries(row, 0)) {
            self.names.extend_from_slice(entry.name);
            let child = match entry.child {
                DirentTarget::Whiteout => 0,
                DirentTarget::Inode(child) => self.place(child),
            };
            self.push(Column::DirentNameEnd, self.names.len() as u32);
            self.push(Column::DirentInode, child);
        }
        (first, self.len(Column::DirentInode) - first)
    }

    fn extents(&mut self, index: &Index, row: Ino, is_next: bool) -> (u32, u32) {
        let first = self.len(Column::ExtentChunk);
        let all: Vec<Extent> = index.extents(row, 0..u64::MAX).collect();
        for extent in all {
            let chunk = match is_next {
                true => extent.chunk,
                false => self.chunk(extent.chunk),
            };
            self.push(Column::ExtentFileLow, extent.file_offset as u32);
            self.push(Column::ExtentFileHigh, (extent.file_offset >> 32) as u32);
            self.push(Column::ExtentChunk, chunk);
            self.push(Column::ExtentChunkOffset, extent.chunk_offset);
            self.push(Column::ExtentLen, extent.len);
        }
        (first, self.len(Column::ExtentChunk) - first)
    }

    /// The number of a chunk of the current index.
    fn chunk(&mut self, id: u32) -> u32 {
        if let Some(known) = self.chunks.get(&id) {
            return *known;
        }
        let number = self.len(Column::ChunkSource);
        let Some(chunk) = self.current.chunk(id) else {
            return NONE;
        };
        let mut fields = CHUNKS.map(|column| self.current.u32(column, id));
        if let ChunkFile::Borrowed(layer) = chunk.source {
            let [source, ..] = &mut fields;
            *source = self.layer(layer).saturating_add(1);
        }
        for (column, value) in CHUNKS.into_iter().zip(fields) {
            self.push(column, value);
        }
        self.chunk_digests.extend_from_slice(&chunk.digest.0);
        self.chunks.insert(id, number);
        number
    }

    /// The row of a layer of the current index.
    fn layer(&mut self, row: u32) -> u32 {
        let Some(layer) = self.current.layer(row) else {
            return NONE;
        };
        if let Some(known) = self.layers.get(&layer.digest) {
            return *known;
        }
        let number = self.len(Column::LayerLenLow);
        self.push(Column::LayerLenLow, layer.file_len as u32);
        self.push(Column::LayerLenHigh, (layer.file_len >> 32) as u32);
        self.layer_digests.extend_from_slice(&layer.digest.0);
        self.layers.insert(layer.digest, number);
        number
    }

    /// The number of an xattr set of the current index, plus 1; 0: none.
    fn xattr_set(&mut self, set: u32) -> u32 {
        let Some(row) = set.checked_sub(1) else {
            return 0;
        };
        if let Some(known) = self.sets.get(&set) {
            return *known;
        }
        let current = self.current;
        for pair in current.span(Column::XattrSetEnd, row) {
            let pair = pair as u32;
            let name = current.u32(Column::XattrPairName, pair);
            let name = current.area(Area::XattrNames, current.span(Column::XattrNameEnd, name));
            let value = current.span(Column::XattrPairValueEnd, pair);
            let value = current.area(Area::XattrValues, value);
            let number = self.len(Column::XattrNameEnd);
            self.xattr_names.extend_from_slice(name);
            self.push(Column::XattrNameEnd, self.xattr_names.len() as u32);
            self.xattr_values.extend_from_slice(value);
            self.push(Column::XattrPairName, number);
            self.push(Column::XattrPairValueEnd, self.xattr_values.len() as u32);
        }
        let end = self.len(Column::XattrPairName);
        self.push(Column::XattrSetEnd, end);
        let number = self.len(Column::XattrSetEnd);
        self.sets.insert(set, number);
        number
    }

    /// The index.
    pub(super) fn finish(self) -> Index {
        let counts = Counts {
            inodes: self.len(Column::InodeMode),
            dirents: self.len(Column::DirentInode),
            extents: self.len(Column::ExtentChunk),
            chunks: self.len(Column::ChunkSource),
            layers: self.len(Column::LayerLenLow),
            xattr_sets: self.len(Column::XattrSetEnd),
            xattr_pairs: self.len(Column::XattrPairName),
            xattr_names: self.len(Column::XattrNameEnd),
            names_len: self.names.len() as u32,
            symlinks_len: self.symlinks.len() as u32,
            xattr_names_len: self.xattr_names.len() as u32,
            xattr_values_len: self.xattr_values.len() as u32,
        };
        let areas = [
            self.chunk_digests,
            self.layer_digests,
            self.names,
            self.symlinks,
            self.xattr_names,
            self.xattr_values,
        ];
        let columns = Columns::new(counts);
        let tables = tables::assemble(counts, self.columns.into_iter(), areas);
        Index::of(tables, columns)
    }
}
