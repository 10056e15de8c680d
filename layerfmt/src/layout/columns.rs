//! The tables of the INDEX section, as columns: the counts in the section's header determine all
//! positions.

use crate::digest::DIGEST_LEN;
use crate::error::{FormatError, Result};
use crate::limits;

/// Length of the INDEX section's header: sixteen `u32`.
pub const HEADER_LEN: usize = 64;

/// Rows of the tables and lengths of the byte areas, as in the INDEX header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rows of the inode table; at least the root directory.
    pub inodes: u32,
    /// Rows of the dirent table.
    pub dirents: u32,
    /// Rows of the extent table.
    pub extents: u32,
    /// Rows of the chunk table.
    pub chunks: u32,
    /// Rows of the layer table.
    pub layers: u32,
    /// Rows of the xattr set table.
    pub xattr_sets: u32,
    /// Rows of the xattr pair table.
    pub xattr_pairs: u32,
    /// Rows of the xattr name table.
    pub xattr_names: u32,
    /// Bytes of all entry names.
    pub names_len: u32,
    /// Bytes of all symbolic link targets.
    pub symlinks_len: u32,
    /// Bytes of all xattr names.
    pub xattr_names_len: u32,
    /// Bytes of all xattr values.
    pub xattr_values_len: u32,
}

impl Counts {
    fn words(&self) -> [u32; 16] {
        [
            self.inodes,
            self.dirents,
            self.extents,
            self.chunks,
            self.layers,
            self.xattr_sets,
            self.xattr_pairs,
            self.xattr_names,
            self.names_len,
            self.symlinks_len,
            self.xattr_names_len,
            self.xattr_values_len,
            0,
            0,
            0,
            0,
        ]
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        for (bytes, word) in out.chunks_exact_mut(4).zip(self.words()) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// The counts in a header, each within its limit.
    ///
    /// # Errors
    /// When `raw` is too short, a count exceeds its limit or a reserved word is not zero.
    pub fn decode(raw: &[u8]) -> Result<Counts> {
        let header = raw.get(..HEADER_LEN).ok_or_else(|| {
            FormatError::corrupt("INDEX", raw.len() as u64, "section ends inside its header")
        })?;
        let mut words = header
            .chunks_exact(4)
            .map(|b| b.try_into().map_or(0, u32::from_le_bytes));
        let mut next = || words.next().unwrap_or(0);
        let counts = Counts {
            inodes: next(),
            dirents: next(),
            extents: next(),
            chunks: next(),
            layers: next(),
            xattr_sets: next(),
            xattr_pairs: next(),
            xattr_names: next(),
            names_len: next(),
            symlinks_len: next(),
            xattr_names_len: next(),
            xattr_values_len: next(),
        };
        let bounds = [
            (counts.inodes, limits::INODES_MAX, "inodes"),
            (counts.dirents, limits::DIRENTS_MAX, "dirents"),
            (counts.extents, limits::EXTENTS_MAX, "extents"),
            (counts.chunks, limits::CHUNKS_MAX, "chunks"),
            (counts.layers, limits::LAYERS_MAX, "layers"),
            (counts.xattr_sets, limits::XATTR_SETS_MAX, "xattr sets"),
        ];
        for (row, (count, max, what)) in bounds.into_iter().enumerate() {
            if count > max {
                let what = format!("{count} {what}, the limit is {max}");
                return Err(FormatError::limit("INDEX", 4 * row as u64, what));
            }
        }
        if counts.inodes == 0 {
            return Err(FormatError::corrupt(
                "INDEX",
                0,
                "no inode, not even the root",
            ));
        }
        if counts.encode() != header {
            return Err(FormatError::corrupt(
                "INDEX",
                48,
                "reserved words are not zero",
            ));
        }
        Ok(counts)
    }
}

/// One `u32` column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Column {
    /// `st_mode` in the low 16 bits, flags in the high 16.
    InodeMode,
    /// Number of the owner.
    InodeUid,
    /// Number of the group.
    InodeGid,
    /// Low word of the size (of a directory: its parent's inode number).
    InodeSizeLow,
    /// High word of the size.
    InodeSizeHigh,
    /// Low word of the modification time, seconds.
    InodeMtimeLow,
    /// High word of the modification time, seconds.
    InodeMtimeHigh,
    /// Nanoseconds of the modification time.
    InodeMtimeNsec,
    /// Link count.
    InodeNlink,
    /// First dirent, first extent, offset of the target, or device major.
    InodeFirst,
    /// Number of dirents or extents, length of the target, or device minor.
    InodeCount,
    /// 1 + row of the xattr set table; 0: no attributes.
    InodeXattrs,
    /// End of the name in the name area.
    DirentNameEnd,
    /// The inode; 0 is a whiteout.
    DirentInode,
    /// Low word of the position in the file.
    ExtentFileLow,
    /// High word of the position in the file.
    ExtentFileHigh,
    /// Row of the chunk table.
    ExtentChunk,
    /// Position in the decoded chunk.
    ExtentChunkOffset,
    /// Length, bytes.
    ExtentLen,
    /// 0: this file; k: row k-1 of the layer table.
    ChunkSource,
    /// Low word of the position in that file.
    ChunkOffsetLow,
    /// High word of the position in that file.
    ChunkOffsetHigh,
    /// Stored length, bytes.
    ChunkStoredLen,
    /// Decoded length, bytes.
    ChunkRawLen,
    /// Codec code.
    ChunkCodec,
    /// Low word of the layer file's length.
    LayerLenLow,
    /// High word of the layer file's length.
    LayerLenHigh,
    /// End of the set in the pair table.
    XattrSetEnd,
    /// Row of the xattr name table.
    XattrPairName,
    /// End of the value in the value area.
    XattrPairValueEnd,
    /// End of the name in the xattr name area.
    XattrNameEnd,
}

/// Number of `u32` columns.
pub const COLUMNS: usize = Column::XattrNameEnd as usize + 1;

impl Column {
    /// All columns in the order of the file.
    pub(crate) const ALL: [Column; COLUMNS] = [
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
        Column::DirentNameEnd,
        Column::DirentInode,
        Column::ExtentFileLow,
        Column::ExtentFileHigh,
        Column::ExtentChunk,
        Column::ExtentChunkOffset,
        Column::ExtentLen,
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
}

/// The byte areas that follow the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Area {
    /// 32 bytes a chunk.
    ChunkDigests,
    /// 32 bytes a layer.
    LayerDigests,
    /// Entry names, one after the other.
    Names,
    /// Symbolic link targets, one after the other.
    Symlinks,
    /// Xattr names, one after the other.
    XattrNames,
    /// Xattr values, one after the other.
    XattrValues,
}

/// Number of byte areas.
pub(crate) const AREAS: usize = Area::XattrValues as usize + 1;

impl Area {
    /// All areas in the order of the file.
    pub(crate) const ALL: [Area; AREAS] = [
        Area::ChunkDigests,
        Area::LayerDigests,
        Area::Names,
        Area::Symlinks,
        Area::XattrNames,
        Area::XattrValues,
    ];
}

/// Positions of every column and area in the uncompressed INDEX section.
#[derive(Debug, Clone)]
pub struct Columns {
    /// The counts that determine everything.
    pub counts: Counts,
    starts: [usize; COLUMNS],
    areas: [(usize, usize); AREAS],
    len: usize,
}

impl Columns {
    /// The layout for these counts.
    pub fn new(counts: Counts) -> Columns {
        let mut at = HEADER_LEN;
        let mut starts = [0; COLUMNS];
        let mut column = 0;
        for (rows, columns) in [
            (counts.inodes, 12),
            (counts.dirents, 2),
            (counts.extents, 5),
            (counts.chunks, 6),
            (counts.layers, 2),
            (counts.xattr_sets, 1),
            (counts.xattr_pairs, 2),
            (counts.xattr_names, 1),
        ] {
            for start in starts.iter_mut().skip(column).take(columns) {
                *start = at;
                at += rows as usize * 4;
            }
            column += columns;
        }
        let mut areas = [(0, 0); AREAS];
        let lens = [
            counts.chunks as usize * DIGEST_LEN,
            counts.layers as usize * DIGEST_LEN,
            counts.names_len as usize,
            counts.symlinks_len as usize,
            counts.xattr_names_len as usize,
            counts.xattr_values_len as usize,
        ];
        for (area, len) in areas.iter_mut().zip(lens) {
            *area = (at, at + len);
            at += len;
        }
        Columns {
            counts,
            starts,
            areas,
            len: at,
        }
    }

    /// Length of the whole uncompressed section, bytes.
    #[expect(clippy::len_without_is_empty, reason = "a layout is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Start of `column`.
    pub fn start(&self, column: Column) -> usize {
        self.starts
            .get(column as usize)
            .copied()
            .unwrap_or(self.len)
    }

    /// The number of rows of `column`.
    pub fn rows(&self, column: Column) -> u32 {
        use Column::*;
        match column {
            InodeMode | InodeUid | InodeGid | InodeSizeLow | InodeSizeHigh | InodeMtimeLow
            | InodeMtimeHigh | InodeMtimeNsec | InodeNlink | InodeFirst | InodeCount
            | InodeXattrs => self.counts.inodes,
            DirentNameEnd | DirentInode => self.counts.dirents,
            ExtentFileLow | ExtentFileHigh | ExtentChunk | ExtentChunkOffset | ExtentLen => {
                self.counts.extents
            }
            ChunkSource | ChunkOffsetLow | ChunkOffsetHigh | ChunkStoredLen | ChunkRawLen
            | ChunkCodec => self.counts.chunks,
            LayerLenLow | LayerLenHigh => self.counts.layers,
            XattrSetEnd => self.counts.xattr_sets,
            XattrPairName | XattrPairValueEnd => self.counts.xattr_pairs,
            XattrNameEnd => self.counts.xattr_names,
        }
    }

    /// The bytes of `area`, from its own start on.
    pub(crate) fn size(&self, area: Area) -> std::ops::Range<usize> {
        0..self.area(area).len()
    }

    /// Start and end of `area`.
    pub fn area(&self, area: Area) -> std::ops::Range<usize> {
        let (start, end) = self.areas.get(area as usize).copied().unwrap_or((0, 0));
        start..end
    }
}
