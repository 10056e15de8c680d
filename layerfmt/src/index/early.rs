//! The early index: the part of a large index that its first users need, in the META section.
//! `docs/FORMAT.md` §6.4 describes it.
//!
//! It has some rows of the tree's tables, under the same numbers as the whole, and all rows of the
//! others. [`EarlyTables::decode`] checks every rule that these rows can break by themselves.

mod check;
mod choice;
mod ranges;

use std::ops::Range;

use self::ranges::RowRanges;
use super::tables::{IndexTables, Packer};
use super::{Index, Ino};
use crate::codec::decode_frame;
use crate::digest::DIGEST_LEN;
use crate::error::{FormatError, Result};
use crate::layout::columns::{Area, Column, Columns, Counts, HEADER_LEN};
use crate::layout::inode::{S_IFDIR, S_IFLNK, S_IFMT};
use crate::limits;

/// Tables with some rows only: inodes, dirents, extents and the bytes of targets.
const PARTIAL: usize = 4;

/// The tables of which only some rows are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
enum Partial {
    Inodes,
    Dirents,
    Extents,
    Targets,
}

impl Partial {
    /// The table of a column, if it is one of these.
    fn of(column: Column) -> Option<Partial> {
        match column as usize {
            at if at <= Column::InodeXattrs as usize => Some(Partial::Inodes),
            at if at <= Column::DirentInode as usize => Some(Partial::Dirents),
            at if at <= Column::ExtentLen as usize => Some(Partial::Extents),
            _ => None,
        }
    }
}

/// Some rows of the tables of an index.
#[derive(Debug)]
pub(super) struct EarlyTables {
    /// The rows that are here, one after the other.
    tables: IndexTables,
    /// Of the whole index.
    columns: Columns,
    rows: [RowRanges; PARTIAL],
    /// The bytes of the names area.
    names: RowRanges,
}

/// The rows of an early index.
#[derive(Debug)]
pub(crate) struct EarlyRows {
    rows: [Vec<Range<u32>>; PARTIAL],
}

impl EarlyRows {
    /// The uncompressed early index with these rows of `index`.
    pub(crate) fn encode(&self, index: &Index) -> Vec<u8> {
        let counts = index.counts();
        let mut raw = counts.encode().to_vec();
        let mut put = |word: u32| raw.extend_from_slice(&word.to_le_bytes());
        for ranges in &self.rows {
            put(ranges.len() as u32);
        }
        for ranges in &self.rows {
            ranges.iter().for_each(|range| put(range.start));
            ranges.iter().for_each(|range| put(range.end - range.start));
        }
        let [_, dirents, _, targets] = &self.rows;
        let names = dirents.iter().map(|range| {
            let start = index.span(Column::DirentNameEnd, range.start).start;
            let end = index.span(Column::DirentNameEnd, range.end - 1).end;
            start..end
        });
        let names: Vec<Range<usize>> = names.collect();
        names.iter().for_each(|name| put(name.start as u32));
        for column in Column::ALL {
            let all = 0..index.columns.rows(column);
            let rows = match Partial::of(column).and_then(|table| self.rows.get(table as usize)) {
                Some(rows) => &rows[..],
                None => std::slice::from_ref(&all),
            };
            let rows = rows.iter().flat_map(Clone::clone);
            rows.for_each(|row| put(index.u32(column, row)));
        }
        let whole = |area| index.tables.area(area);
        raw.extend_from_slice(whole(Area::ChunkDigests));
        raw.extend_from_slice(whole(Area::LayerDigests));
        for name in names {
            raw.extend_from_slice(index.area(Area::Names, name));
        }
        for range in targets {
            let range = range.start as usize..range.end as usize;
            raw.extend_from_slice(index.area(Area::Symlinks, range));
        }
        raw.extend_from_slice(whole(Area::XattrNames));
        raw.extend_from_slice(whole(Area::XattrValues));
        raw
    }
}

/// Reads words and bytes in order.
struct Reader<'r> {
    raw: &'r [u8],
    at: usize,
}

impl<'r> Reader<'r> {
    fn bytes(&mut self, len: u64) -> Result<&'r [u8]> {
        let end = usize::try_from(len).ok();
        let end = end.and_then(|len| self.at.checked_add(len));
        let bytes = end.and_then(|end| self.raw.get(self.at..end));
        let bytes = bytes.ok_or_else(|| fault(self.at, "ends inside a table"))?;
        self.at += bytes.len();
        Ok(bytes)
    }

    fn words(
        &mut self,
        count: u64,
    ) -> Result<impl ExactSizeIterator<Item = u32> + Clone + use<'r>> {
        let bytes = self.bytes(count.saturating_mul(4))?;
        let words = bytes.as_chunks().0.iter();
        Ok(words.map(|word| u32::from_le_bytes(*word)))
    }
}

#[cold]
fn fault(at: usize, what: impl Into<String>) -> FormatError {
    let what = format!("early index: {}", what.into());
    FormatError::corrupt("META", at as u64, what)
}

impl EarlyTables {
    /// Validates the early index in a frame whose digest was checked.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(super) fn decode(frame: &[u8]) -> Result<EarlyTables> {
        let len = zstd::zstd_safe::get_frame_content_size(frame)
            .ok()
            .flatten();
        let len = len.filter(|len| *len <= limits::EARLY_INDEX_LEN_MAX);
        let len = len.and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or_else(|| fault(0, "no length, or too long"))?;
        let raw = decode_frame(frame, len).map_err(|what| fault(0, what))?;
        let tables = EarlyTables::of_raw(&raw)?;
        check::check(&tables)?;
        Ok(tables)
    }

    fn of_raw(raw: &[u8]) -> Result<EarlyTables> {
        let counts = Counts::decode(raw)?;
        let columns = Columns::new(counts);
        let at = HEADER_LEN;
        let mut reader = Reader { raw, at };
        let lens: Vec<u32> = reader.words(PARTIAL as u64)?.collect();
        let row_counts = [
            counts.inodes,
            counts.dirents,
            counts.extents,
            counts.symlinks_len,
        ];
        let mut rows = [const { RowRanges::none() }; PARTIAL];
        for (place, (len, count)) in rows.iter_mut().zip(lens.into_iter().zip(row_counts)) {
            let at = reader.at;
            let starts = reader.words(len.into())?;
            let lens = reader.words(len.into())?;
            *place = RowRanges::new(starts.zip(lens), count)
                .ok_or_else(|| fault(at, "ranges out of order"))?;
        }
        let [_, dirents, _, targets] = &rows;
        let name_starts = reader.words(dirents.ranges().len() as u64)?;
        let mut packer = Packer::new();
        let mut name_ends = Vec::new();
        for column in Column::ALL {
            let partial = Partial::of(column).and_then(|table| rows.get(table as usize));
            let count = partial.map_or(columns.rows(column), RowRanges::len);
            let words = reader.words(count.into())?;
            if column == Column::DirentNameEnd {
                name_ends = words.clone().collect();
            }
            packer.column(words);
        }
        let last_ends = dirents.ranges().map(|(range, place)| {
            let last = place + (range.end - range.start) - 1;
            name_ends.get(last as usize).copied().unwrap_or(0)
        });
        let names = name_starts.zip(last_ends);
        let names = names.map(|(start, end)| (start, end.saturating_sub(start)));
        let names = RowRanges::new(names, counts.names_len)
            .ok_or_else(|| fault(reader.at, "names out of order"))?;
        for area in Area::ALL {
            let len = match area {
                Area::Names => names.len().into(),
                Area::Symlinks => targets.len().into(),
                Area::ChunkDigests => u64::from(counts.chunks) * DIGEST_LEN as u64,
                Area::LayerDigests => u64::from(counts.layers) * DIGEST_LEN as u64,
                Area::XattrNames => counts.xattr_names_len.into(),
                Area::XattrValues => counts.xattr_values_len.into(),
            };
            let bytes = reader.bytes(len)?;
            packer.area(bytes.len(), |place| {
                place.copy_from_slice(bytes);
                Ok::<(), FormatError>(())
            })?;
        }
        if reader.at != raw.len() {
            return Err(fault(reader.at, "bytes follow"));
        }
        Ok(EarlyTables {
            tables: packer.finish(),
            columns,
            rows,
            names,
        })
    }

    /// The counts of the whole index.
    pub(super) fn counts(&self) -> Counts {
        self.columns.counts
    }

    fn of(&self, table: Partial) -> &RowRanges {
        let [inodes, dirents, extents, targets] = &self.rows;
        match table {
            Partial::Inodes => inodes,
            Partial::Dirents => dirents,
            Partial::Extents => extents,
            Partial::Targets => targets,
        }
    }

    /// The value of a column in a row of the whole index, if it is here.
    pub(super) fn value(&self, column: Column, row: u32) -> Option<u32> {
        let place = match Partial::of(column) {
            None => row,
            Some(table) => self.of(table).place(row)?,
        };
        Some(self.tables.value(column, place))
    }

    /// Bytes of an area of the whole index, if they are here.
    pub(super) fn area(&self, area: Area, range: Range<usize>) -> Option<&[u8]> {
        let bytes = self.tables.area(area);
        let ranges = match area {
            Area::Names => &self.names,
            Area::Symlinks => self.of(Partial::Targets),
            _ => return Some(bytes.get(range).unwrap_or_default()),
        };
        if range.is_empty() {
            return Some(&[]);
        }
        let (start, end) = (range.start as u32, range.end as u32);
        let place = ranges.place(start)?;
        ranges.hold(start..end).then(|| {
            let place = place as usize;
            let range = place..place + range.len();
            bytes.get(range).unwrap_or_default()
        })
    }

    /// The place of the name of a dirent in the names area of the whole index.
    pub(super) fn name_span(&self, row: u32) -> Option<Range<usize>> {
        let end = self.value(Column::DirentNameEnd, row)?;
        let before = row.checked_sub(1);
        let start = before.and_then(|before| self.value(Column::DirentNameEnd, before));
        let start = start.or_else(|| {
            let number = self.of(Partial::Dirents).number(row)?;
            self.names.start(number)
        })?;
        Some(start as usize..end as usize)
    }

    /// True if every row that belongs to `ino` is here: the entries of a directory and all that
    /// belongs to them except other entries, the extents of a file, the target of a link.
    pub(super) fn has(&self, ino: Ino) -> bool {
        let value = |column| self.value(column, ino);
        let columns = (
            value(Column::InodeMode),
            value(Column::InodeFirst),
            value(Column::InodeCount),
        );
        let (Some(mode), Some(first), Some(count)) = columns else {
            return false;
        };
        // Files and links are never here without their rows.
        let is_dir = mode & S_IFMT == S_IFDIR;
        !is_dir || self.of(Partial::Dirents).hold(first..first + count)
    }

    /// True if `whole` has the same value in every row that is here.
    pub(super) fn agrees_with(&self, whole: &Index) -> bool {
        if *whole.counts() != self.counts() {
            return false;
        }
        let same_columns = Column::ALL.iter().all(|column| {
            let all = RowRanges::all(self.columns.rows(*column));
            let rows = Partial::of(*column).map_or(&all, |table| self.of(table));
            let mut rows = rows.rows();
            rows.all(|(row, place)| self.tables.value(*column, place) == whole.u32(*column, row))
        });
        let same_bytes = |area, ranges: &RowRanges| {
            ranges.ranges().all(|(range, _)| {
                let range = range.start as usize..range.end as usize;
                self.area(area, range.clone()) == Some(whole.area(area, range))
            })
        };
        let same_areas = [
            Area::ChunkDigests,
            Area::LayerDigests,
            Area::XattrNames,
            Area::XattrValues,
        ];
        let same_starts = self.of(Partial::Dirents).ranges().zip(self.names.ranges());
        let mut same_starts = same_starts.map(|((dirents, _), (names, _))| {
            whole.span(Column::DirentNameEnd, dirents.start).start == names.start as usize
        });
        same_columns
            && same_starts.all(|same| same)
            && same_bytes(Area::Names, &self.names)
            && same_bytes(Area::Symlinks, self.of(Partial::Targets))
            && same_areas
                .into_iter()
                .all(|area| self.tables.area(area) == whole.tables.area(area))
    }

    /// Number of inodes that are here.
    pub(super) fn inode_count(&self) -> u32 {
        self.of(Partial::Inodes).len()
    }
}

/// The kind of the inode with this mode word.
fn kind_of(word: u32) -> u32 {
    word & S_IFMT
}

/// True if an inode of this kind is a symbolic link.
fn is_link(kind: u32) -> bool {
    kind == S_IFLNK
}
