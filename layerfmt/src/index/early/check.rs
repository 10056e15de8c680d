//! The rules that the rows of an early index can break by themselves.

use super::{EarlyTables, Partial, fault, is_link, kind_of};
use crate::error::Result;
use crate::index::{Ino, ROOT, validate};
use crate::layout::columns::{Area, Column};
use crate::layout::inode::{FLAGS_KNOWN, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFREG, S_IFSOCK};
use crate::limits;
use crate::name;

/// Checks them all. Afterwards no accessor fails, and each of the rows belongs to one object that
/// is reached from the root.
pub(super) fn check(early: &EarlyTables) -> Result<()> {
    validate::shared(&early.tables, &early.columns)?;
    let check = EarlyCheck { early };
    if memchr::memchr2(0, b'/', early.tables.area(Area::Names)).is_some() {
        return Err(fault(0, "NUL or / in a name"));
    }
    if early.tables.area(Area::Symlinks).contains(&0) {
        return Err(fault(0, "NUL in a symbolic link target"));
    }
    check.inodes()
}

struct EarlyCheck<'e> {
    early: &'e EarlyTables,
}

impl EarlyCheck<'_> {
    fn at(&self, column: Column, place: u32) -> u32 {
        self.early.tables.value(column, place)
    }

    /// Checks every inode and the rows that it owns, and that no other rows are here.
    fn inodes(&self) -> Result<()> {
        let early = self.early;
        let inodes = early.of(Partial::Inodes);
        let mut named = vec![false; inodes.len() as usize];
        let (mut dirents, mut extents, mut targets) = (0u64, 0u64, 0u64);
        for (ino, place) in inodes.rows() {
            self.fields(ino, place)?;
            let first = self.at(Column::InodeFirst, place);
            let count = self.at(Column::InodeCount, place);
            let kind = kind_of(self.at(Column::InodeMode, place));
            let owned = |table| {
                let rows = early.of(table);
                let end = first.checked_add(count);
                end.is_some_and(|end| rows.hold(first..end))
            };
            match kind {
                S_IFDIR => {
                    let end = first.checked_add(count);
                    if end.is_none_or(|end| end > early.counts().dirents) {
                        return Err(wrong(ino, "entries beyond the table"));
                    }
                    if owned(Partial::Dirents) {
                        dirents += u64::from(count);
                        self.entries(ino, first, count, &mut named)?;
                    } else if ino == ROOT {
                        return Err(wrong(ino, "its entries are missing"));
                    }
                }
                S_IFREG => {
                    if !owned(Partial::Extents) {
                        return Err(wrong(ino, "its extents are missing"));
                    }
                    extents += u64::from(count);
                    self.extents(ino, place, first..first + count)?;
                }
                kind if is_link(kind) => {
                    if count == 0 || count as usize > limits::SYMLINK_LEN_MAX {
                        return Err(wrong(ino, "invalid target"));
                    }
                    if !owned(Partial::Targets) {
                        return Err(wrong(ino, "its target is missing"));
                    }
                    targets += u64::from(count);
                }
                _ => {}
            }
        }
        let is_reached = |(row, place): (Ino, u32)| {
            row == ROOT || named.get(place as usize).copied().unwrap_or(false)
        };
        let have = (dirents, extents, targets);
        let len = |table| u64::from(early.of(table).len());
        let want = (
            len(Partial::Dirents),
            len(Partial::Extents),
            len(Partial::Targets),
        );
        if inodes.place(ROOT).is_none() || !inodes.rows().all(is_reached) || have != want {
            return Err(fault(0, "rows that nothing refers to"));
        }
        Ok(())
    }

    fn fields(&self, ino: Ino, place: u32) -> Result<()> {
        let word = self.at(Column::InodeMode, place);
        let (flags, kind) = (word >> 16, kind_of(word));
        let size = (
            self.at(Column::InodeSizeLow, place),
            self.at(Column::InodeSizeHigh, place),
        );
        let rows = (
            self.at(Column::InodeFirst, place),
            self.at(Column::InodeCount, place),
        );
        let long = u64::from(size.0) | u64::from(size.1) << 32;
        let fits = match kind {
            S_IFDIR => {
                let is_above = size.0 < ino || ino == ROOT && size.0 == ROOT;
                size.1 == 0 && is_above
            }
            S_IFREG => long <= limits::FILE_LEN_MAX,
            S_IFIFO | S_IFSOCK => long == 0 && rows == (0, 0),
            S_IFCHR | S_IFBLK => long == 0,
            kind => is_link(kind) && long == 0,
        };
        let is_known = flags & !u32::from(FLAGS_KNOWN) == 0 && (flags == 0 || kind == S_IFDIR);
        let has_time = self.at(Column::InodeMtimeNsec, place) < 1_000_000_000;
        let has_set = self.at(Column::InodeXattrs, place) <= self.early.counts().xattr_sets;
        if !(fits && is_known && has_time && has_set && (ino != ROOT || kind == S_IFDIR)) {
            return Err(wrong(ino, "invalid fields"));
        }
        Ok(())
    }

    fn entries(&self, dir: Ino, first: u32, count: u32, named: &mut [bool]) -> Result<()> {
        let early = self.early;
        let inodes = early.of(Partial::Inodes);
        let mut last: &[u8] = &[];
        for row in first..first + count {
            let span = early.name_span(row);
            let span = span.filter(|span| span.start < span.end);
            let name = span.and_then(|span| early.area(Area::Names, span));
            let name = name.ok_or_else(|| wrong(dir, "a name is missing"))?;
            name::check_len(name).map_err(|error| wrong(dir, error.to_string()))?;
            if name <= last {
                return Err(wrong(dir, "names not ascending"));
            }
            last = name;
            let child = early.value(Column::DirentInode, row).unwrap_or(0);
            let place = inodes.place(child).filter(|_| child != ROOT);
            let place = place.ok_or_else(|| wrong(dir, "an entry without its object"))?;
            let is_dir = kind_of(self.at(Column::InodeMode, place)) == S_IFDIR;
            let slot = named.get_mut(place as usize);
            let was_named = slot.map(|slot| std::mem::replace(slot, true));
            let is_here_only =
                was_named == Some(false) && self.at(Column::InodeSizeLow, place) == dir;
            if is_dir && !is_here_only {
                return Err(wrong(child, "a directory in two places"));
            }
        }
        Ok(())
    }

    fn extents(&self, ino: Ino, place: u32, rows: std::ops::Range<u32>) -> Result<()> {
        let early = self.early;
        let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let size = join(
            self.at(Column::InodeSizeLow, place),
            self.at(Column::InodeSizeHigh, place),
        );
        let mut end = 0;
        for row in rows {
            let value = |column| early.value(column, row).unwrap_or(0);
            let start = join(value(Column::ExtentFileLow), value(Column::ExtentFileHigh));
            let (chunk, len) = (value(Column::ExtentChunk), value(Column::ExtentLen));
            let after = start.checked_add(len.into());
            let inside = value(Column::ExtentChunkOffset).checked_add(len);
            let raw_len = match chunk < early.counts().chunks {
                true => self.at(Column::ChunkRawLen, chunk),
                false => 0,
            };
            let fits = len > 0
                && start >= end
                && after.is_some_and(|after| after <= size)
                && inside.is_some_and(|inside| inside <= raw_len);
            if !fits {
                return Err(wrong(ino, "an extent outside its file or its chunk"));
            }
            end = after.unwrap_or(end);
        }
        Ok(())
    }
}

#[cold]
fn wrong(ino: Ino, what: impl Into<String>) -> crate::error::FormatError {
    fault(0, format!("inode {ino}: {}", what.into()))
}
