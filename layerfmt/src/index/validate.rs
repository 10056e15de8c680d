//! Every rule of the INDEX section, checked once at open, so that no accessor of [`super::Index`]
//! can fail. One function checks one table.

mod beside;
mod values;

use self::values::{Raw, Values};
use super::tables::IndexTables;
use crate::error::{FormatError, Result};
use crate::layout::columns::{Area, Column, Columns};
use crate::layout::inode::*;
use crate::layout::superblock::SUPERBLOCK_LEN;
use crate::limits;
use crate::name;

/// Checks all tables of an uncompressed INDEX section.
pub(super) fn raw(raw: &[u8], columns: &Columns, data_end: u64) -> Result<()> {
    if raw.len() != columns.len() {
        let what = format!(
            "section has {} bytes, its counts say {}",
            raw.len(),
            columns.len()
        );
        return Err(FormatError::corrupt("INDEX", 0, what));
    }
    let values = Raw::new(raw, columns);
    validate(Check { values, columns }, data_end)
}

/// Checks the same tables in packed form.
pub(super) fn packed(tables: &IndexTables, columns: &Columns, data_end: u64) -> Result<()> {
    let values = tables;
    validate(Check { values, columns }, data_end)
}

/// Checks the tables of which an early index has all rows.
pub(super) fn shared(tables: &IndexTables, columns: &Columns) -> Result<()> {
    let values = tables;
    Check { values, columns }.shared(SUPERBLOCK_LEN as u64)
}

fn validate<'i, V: Values<'i> + Sync>(check: Check<'i, V>, data_end: u64) -> Result<()> {
    if check.columns.counts.dirents < PARALLEL_MIN {
        check.tables(data_end)?;
        check.dirents()?;
        return check.extents();
    }
    // Names are half of the work. No check relies on another one to stay within its tables.
    std::thread::scope(|scope| {
        let beside = std::thread::Builder::new().spawn_scoped(scope, || check.dirents());
        let (tables, extents) = (check.tables(data_end), check.extents());
        let dirents = match beside.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(dirents)) => dirents,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            // No thread is available.
            Err(_) => check.dirents(),
        };
        // The error of the first broken table, independent of the number of threads.
        tables.and(dirents).and(extents)
    })
}

/// Directory entries above which a second thread is worth starting.
const PARALLEL_MIN: u32 = 10_000;

#[derive(Clone, Copy)]
struct Check<'i, V> {
    values: V,
    columns: &'i Columns,
}

impl<'i, V: Values<'i>> Check<'i, V> {
    /// The values of a column.
    fn column(&self, column: Column) -> impl Iterator<Item = u32> + use<'i, V> {
        self.values.column(column, self.columns.rows(column))
    }

    fn value(&self, column: Column, row: u32) -> u32 {
        self.values.value(column, row)
    }

    fn area(&self, area: Area) -> &'i [u8] {
        self.values.area(area)
    }

    #[cold]
    fn fail(&self, column: Column, row: usize, what: impl Into<String>) -> FormatError {
        let at = self.columns.start(column) + row * 4;
        FormatError::corrupt(
            "INDEX",
            at as u64,
            format!("{column:?} row {row}: {}", what.into()),
        )
    }

    /// Checks that the ends never decrease and that the last one is the area's length.
    fn ends(&self, column: Column, total: u32) -> Result<()> {
        let mut last = 0;
        for (row, end) in self.column(column).enumerate() {
            if end < last {
                return Err(self.fail(column, row, "ends before it starts"));
            }
            last = end;
        }
        if last != total {
            let row = self.columns.rows(column).saturating_sub(1) as usize;
            return Err(self.fail(column, row, format!("ends at {last}, not at {total}")));
        }
        Ok(())
    }

    /// Everything but names and extents.
    fn tables(&self, data_end: u64) -> Result<()> {
        self.shared(data_end)?;
        self.inodes()
    }

    /// Checks types, fields and the order of the rows that inodes own: dirents, extents and link
    /// targets follow each other in inode order without gap.
    fn inodes(&self) -> Result<()> {
        let (mut dirents, mut extents, mut symlinks) = (0u64, 0u64, 0u64);
        let owned = self
            .column(Column::InodeMode)
            .zip(self.column(Column::InodeFirst))
            .zip(self.column(Column::InodeCount));
        for (row, ((word, first), count)) in owned.enumerate() {
            let flags = word >> 16;
            let kind = word & S_IFMT;
            if flags & !u32::from(FLAGS_KNOWN) != 0 || (flags != 0 && kind != S_IFDIR) {
                return Err(self.fail(Column::InodeMode, row, format!("flags {flags:#x}")));
            }
            let cursor = match kind {
                S_IFDIR => Some(&mut dirents),
                S_IFREG => Some(&mut extents),
                S_IFLNK => Some(&mut symlinks),
                S_IFCHR | S_IFBLK | S_IFIFO | S_IFSOCK => None,
                _ => return Err(self.fail(Column::InodeMode, row, format!("type {kind:#o}"))),
            };
            if let Some(cursor) = cursor {
                if *cursor != u64::from(first) {
                    return Err(self.fail(Column::InodeFirst, row, "gap or overlap"));
                }
                *cursor += u64::from(count);
            } else if matches!(kind, S_IFIFO | S_IFSOCK) && (first, count) != (0, 0) {
                return Err(self.fail(Column::InodeFirst, row, "not zero"));
            }
            if row == 0 && kind != S_IFDIR {
                return Err(self.fail(Column::InodeMode, 0, "the root is not a directory"));
            }
            if kind == S_IFLNK && (count == 0 || count as usize > limits::SYMLINK_LEN_MAX) {
                return Err(self.fail(Column::InodeCount, row, format!("target of {count} bytes")));
            }
        }
        let counts = &self.columns.counts;
        let have = (dirents, extents, symlinks);
        let want = (
            counts.dirents.into(),
            counts.extents.into(),
            counts.symlinks_len.into(),
        );
        if have != want {
            let what = format!("inodes own {have:?} dirents, extents, target bytes, not {want:?}");
            return Err(FormatError::corrupt("INDEX", 0, what));
        }
        if self.area(Area::Symlinks).contains(&0) {
            return Err(FormatError::corrupt(
                "INDEX",
                0,
                "NUL in a symbolic link target",
            ));
        }
        self.inode_fields()
    }

    fn inode_fields(&self) -> Result<()> {
        for (row, nsec) in self.column(Column::InodeMtimeNsec).enumerate() {
            if nsec >= 1_000_000_000 {
                return Err(self.fail(Column::InodeMtimeNsec, row, format!("{nsec} ns")));
            }
        }
        for (row, set) in self.column(Column::InodeXattrs).enumerate() {
            if set > self.columns.counts.xattr_sets {
                return Err(self.fail(Column::InodeXattrs, row, "no such xattr set"));
            }
        }
        let modes = self.column(Column::InodeMode);
        let sizes = self
            .column(Column::InodeSizeLow)
            .zip(self.column(Column::InodeSizeHigh));
        for (row, (word, (low, high))) in modes.zip(sizes).enumerate() {
            let fits = match word & S_IFMT {
                S_IFREG => join(low, high) <= limits::FILE_LEN_MAX,
                // The size of a directory is its parent's number, which is checked with the
                // dirents.
                S_IFDIR => high == 0,
                _ => (low, high) == (0, 0),
            };
            if !fits {
                return Err(self.fail(Column::InodeSizeLow, row, "invalid size"));
            }
        }
        Ok(())
    }

    /// Checks that names are sorted and valid, and that every inode appears, first appearances in
    /// order, a directory once and below a directory with a smaller number. This excludes cycles
    /// and unreachable objects.
    fn dirents(&self) -> Result<()> {
        let counts = &self.columns.counts;
        self.ends(Column::DirentNameEnd, counts.names_len)?;
        let names = self.area(Area::Names);
        if let Some(at) = memchr::memchr2(0, b'/', names) {
            let at = self.columns.area(Area::Names).start + at;
            return Err(FormatError::corrupt(
                "INDEX",
                at as u64,
                "NUL or / in a name",
            ));
        }
        let mut links = vec![0u32; counts.inodes as usize];
        let mut depths = vec![0u16; counts.inodes as usize];
        let mut subdirectories = vec![0u32; counts.inodes as usize];
        let mut rows = self
            .column(Column::DirentNameEnd)
            .zip(self.column(Column::DirentInode));
        let (mut next, mut row, mut start) = (1u32, 0usize, 0usize);
        let dirs = self
            .column(Column::InodeMode)
            .zip(self.column(Column::InodeCount));
        for (dir, (word, count)) in dirs.enumerate() {
            if word & S_IFMT != S_IFDIR {
                continue;
            }
            // A directory that has no name before its entries is unreachable.
            if dir as u32 >= next {
                return Err(self.fail(Column::InodeMode, dir, "unreachable"));
            }
            let mut last: &[u8] = &[];
            for (end, ino) in rows.by_ref().take(count as usize) {
                let name = names.get(start..end as usize).unwrap_or_default();
                if let Err(error) = name::check_len(name) {
                    return Err(self.fail(Column::DirentNameEnd, row, error.to_string()));
                }
                if name <= last {
                    return Err(self.fail(Column::DirentNameEnd, row, "names not ascending"));
                }
                (last, start) = (name, end as usize);
                if ino != 0 {
                    if ino > next || ino >= counts.inodes {
                        return Err(self.fail(Column::DirentInode, row, "inode out of order"));
                    }
                    let child_dir = self.value(Column::InodeMode, ino) & S_IFMT == S_IFDIR;
                    if child_dir {
                        self.subdirectory(dir, ino, next, row, &mut depths)?;
                        if let Some(count) = subdirectories.get_mut(dir) {
                            *count += 1;
                        }
                    }
                    next = next.max(ino + 1);
                    if let Some(count) = links.get_mut(ino as usize) {
                        *count += 1;
                    }
                }
                row += 1;
            }
        }
        if next != counts.inodes {
            return Err(self.fail(Column::InodeMode, next as usize, "unreachable"));
        }
        self.link_counts(&links, &subdirectories)
    }

    fn subdirectory(
        &self,
        dir: usize,
        ino: u32,
        next: u32,
        row: usize,
        depths: &mut [u16],
    ) -> Result<()> {
        if ino != next {
            return Err(self.fail(Column::DirentInode, row, "directory with two names"));
        }
        if self.value(Column::InodeSizeLow, ino) as usize != dir {
            return Err(self.fail(Column::InodeSizeLow, ino as usize, "wrong parent"));
        }
        let depth = depths.get(dir).copied().unwrap_or(0) + 1;
        if depth as usize > limits::DEPTH_MAX {
            return Err(self.fail(Column::DirentInode, row, "nested too deep"));
        }
        if let Some(slot) = depths.get_mut(ino as usize) {
            *slot = depth;
        }
        Ok(())
    }

    fn link_counts(&self, links: &[u32], subdirectories: &[u32]) -> Result<()> {
        let rows = self
            .column(Column::InodeMode)
            .zip(self.column(Column::InodeNlink));
        let counted = links.iter().zip(subdirectories);
        for (row, ((word, nlink), (names, subdirectories))) in rows.zip(counted).enumerate() {
            let want = if word & S_IFMT == S_IFDIR {
                subdirectories + 2
            } else {
                *names
            };
            if nlink != want {
                let what = format!("{nlink} links, its names say {want}");
                return Err(self.fail(Column::InodeNlink, row, what));
            }
        }
        if self.value(Column::InodeSizeLow, 0) != 0 {
            return Err(self.fail(Column::InodeSizeLow, 0, "the root has another parent"));
        }
        Ok(())
    }

    /// Extents of a file ascend without overlap, within the file and within their chunk.
    fn extents(&self) -> Result<()> {
        let mut rows = self
            .column(Column::ExtentFileLow)
            .zip(self.column(Column::ExtentFileHigh))
            .zip(self.column(Column::ExtentChunk))
            .zip(self.column(Column::ExtentChunkOffset))
            .zip(self.column(Column::ExtentLen));
        let files = self
            .column(Column::InodeMode)
            .zip(self.column(Column::InodeCount))
            .zip(self.column(Column::InodeSizeLow))
            .zip(self.column(Column::InodeSizeHigh));
        let mut row = 0usize;
        for (((word, count), low), high) in files {
            if word & S_IFMT != S_IFREG {
                continue;
            }
            let size = join(low, high);
            let mut end = 0u64;
            for ((((low, high), chunk), chunk_offset), len) in rows.by_ref().take(count as usize) {
                let offset = join(low, high);
                let fits = offset >= end
                    && offset
                        .checked_add(len.into())
                        .is_some_and(|after| after <= size);
                if len == 0 || !fits {
                    return Err(self.fail(
                        Column::ExtentFileLow,
                        row,
                        "outside its file or overlap",
                    ));
                }
                end = offset + u64::from(len);
                if chunk >= self.columns.counts.chunks {
                    return Err(self.fail(Column::ExtentChunk, row, "no such chunk"));
                }
                let raw_len = self.value(Column::ChunkRawLen, chunk);
                if chunk_offset
                    .checked_add(len)
                    .is_none_or(|after| after > raw_len)
                {
                    return Err(self.fail(Column::ExtentChunkOffset, row, "outside its chunk"));
                }
                row += 1;
            }
        }
        Ok(())
    }
}

fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}
