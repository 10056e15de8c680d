//! The differences between two revisions, by path.

use super::{NONE, NameChange, Restyled};
use crate::index::{Dirent, DirentTarget, Extent, Index, Ino, ROOT};

/// A name of both revisions for an object that is no directory.
struct Pair {
    /// Row of the directory in the current index.
    dir: Ino,
    name: Box<[u8]>,
    before: Ino,
    after: Ino,
}

/// A difference that needs no further comparison; rows of the next revision are its own.
struct Difference {
    /// Its row in the current index, or in the next one if it is new.
    dir: ChangedIn,
    name: Box<[u8]>,
    before: Option<Ino>,
    after: Option<Ino>,
}

#[derive(Clone, Copy)]
enum ChangedIn {
    Current(Ino),
    Next(Ino),
}

/// What is the same in two revisions, and what is not.
pub(super) struct Comparison<'i> {
    current: &'i Index,
    next: &'i Index,
    /// Rows of the current index that have a name.
    named: Vec<bool>,
    /// The row of the current index that is the same object, by row of the next one.
    same: Vec<u32>,
    pairs: Vec<Pair>,
    differences: Vec<Difference>,
    restyled: Vec<Restyled>,
}

impl<'i> Comparison<'i> {
    pub(super) fn of(current: &'i Index, next: &'i Index) -> Comparison<'i> {
        let mut compared = Comparison {
            current,
            next,
            named: vec![false; current.inode_count() as usize],
            same: vec![NONE; next.inode_count() as usize],
            pairs: Vec::new(),
            differences: Vec::new(),
            restyled: Vec::new(),
        };
        compared.name(ROOT);
        let mut left = vec![(ROOT, ROOT)];
        while let Some((before, after)) = left.pop() {
            compared.directories(before, after, &mut left);
        }
        compared.match_files();
        compared
    }

    /// True if row `row` of the current index has a name.
    pub(super) fn is_named(&self, row: Ino) -> bool {
        self.named.get(row as usize).copied().unwrap_or(false)
    }

    /// The row of the current index that is the same object as row `row` of the next one.
    pub(super) fn same(&self, row: Ino) -> Option<Ino> {
        let same = self.same.get(row as usize).copied();
        same.filter(|same| *same != NONE)
    }

    fn name(&mut self, row: Ino) {
        if let Some(named) = self.named.get_mut(row as usize) {
            *named = true;
        }
    }

    fn is_dir(index: &Index, row: Ino) -> bool {
        index.inode(row).is_some_and(|inode| inode.is_dir())
    }

    /// Compares a directory that both have.
    fn directories(&mut self, before: Ino, after: Ino, left: &mut Vec<(Ino, Ino)>) {
        if let Some(slot) = self.same.get_mut(after as usize) {
            *slot = before;
        }
        self.restyled(before, after);
        let (current, next) = (self.current, self.next);
        let mut old = objects(current, before).peekable();
        let mut new = objects(next, after).peekable();
        loop {
            let order = match (old.peek(), new.peek()) {
                (None, None) => return,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((old, _)), Some((new, _))) => old.name.cmp(new.name),
            };
            let was = if order.is_le() { old.next() } else { None };
            let is = if order.is_ge() { new.next() } else { None };
            let Some(name) = was.or(is).map(|(entry, _)| entry.name) else {
                return;
            };
            let (was, is) = (was.map(|(_, row)| row), is.map(|(_, row)| row));
            if let Some(row) = was {
                self.name(row);
            }
            match (was, is) {
                (Some(was), Some(is)) => {
                    let directories = (Self::is_dir(current, was), Self::is_dir(next, is));
                    match directories {
                        (true, true) => left.push((was, is)),
                        (false, false) => self.pairs.push(Pair {
                            dir: before,
                            name: name.into(),
                            before: was,
                            after: is,
                        }),
                        _ => self.differ(before, name, Some(was), Some(is)),
                    }
                }
                (was, is) => self.differ(before, name, was, is),
            }
        }
    }

    fn restyled(&mut self, before: Ino, after: Ino) {
        let Some((old, new)) = self.current.inode(before).zip(self.next.inode(after)) else {
            return;
        };
        let plain = (old.mode, old.uid, old.gid) == (new.mode, new.uid, new.gid);
        let beyond_time = !plain || !self.current.xattrs(before).eq(self.next.xattrs(after));
        if beyond_time || old.mtime != new.mtime {
            self.restyled.push(Restyled {
                dir: before,
                beyond_time,
            });
        }
    }

    /// Records a name that is not the same, with everything below it.
    fn differ(&mut self, dir: Ino, name: &[u8], before: Option<Ino>, after: Option<Ino>) {
        self.differences.push(Difference {
            dir: ChangedIn::Current(dir),
            name: name.into(),
            before,
            after,
        });
        let mut gone: Vec<Ino> = before.into_iter().collect();
        while let Some(dir) = gone.pop() {
            for (entry, row) in objects(self.current, dir) {
                self.name(row);
                self.differences.push(Difference {
                    dir: ChangedIn::Current(dir),
                    name: entry.name.into(),
                    before: Some(row),
                    after: None,
                });
                if Self::is_dir(self.current, row) {
                    gone.push(row);
                }
            }
        }
        let mut come: Vec<Ino> = after.into_iter().collect();
        while let Some(dir) = come.pop() {
            for (entry, row) in objects(self.next, dir) {
                self.differences.push(Difference {
                    dir: ChangedIn::Next(dir),
                    name: entry.name.into(),
                    before: None,
                    after: Some(row),
                });
                if Self::is_dir(self.next, row) {
                    come.push(row);
                }
            }
        }
    }

    /// Decides which files are the same: those that are equal and have the same names.
    fn match_files(&mut self) {
        let mut partners = Partners {
            of_current: vec![Partner::default(); self.current.inode_count() as usize],
            of_next: vec![Partner::default(); self.next.inode_count() as usize],
        };
        for pair in &self.pairs {
            partners.meet(pair.before, pair.after);
        }
        for row in 0..self.next.inode_count() {
            let Some(before) = partners.only(row) else {
                continue;
            };
            let names = partners.names(row);
            if self.are_equal(before, row, names)
                && let Some(slot) = self.same.get_mut(row as usize)
            {
                *slot = before;
            }
        }
    }

    fn are_equal(&self, before: Ino, after: Ino, names: u32) -> bool {
        let (current, next) = (self.current, self.next);
        let Some((old, new)) = current.inode(before).zip(next.inode(after)) else {
            return false;
        };
        // The number of names is the number of common names: there are no others.
        old == new
            && old.nlink == names
            && current.symlink(before) == next.symlink(after)
            && current.xattrs(before).eq(next.xattrs(after))
            && self.have_equal_data(before, after)
    }

    /// True if both have the same chunks. Equal data in other chunks counts as different.
    fn have_equal_data(&self, before: Ino, after: Ino) -> bool {
        let (current, next) = (self.current, self.next);
        let mut old = current.extents(before, 0..u64::MAX);
        let mut new = next.extents(after, 0..u64::MAX);
        let place = |extent: &Extent| (extent.file_offset, extent.chunk_offset, extent.len);
        loop {
            match (old.next(), new.next()) {
                (None, None) => return true,
                (Some(one), Some(other)) if place(&one) == place(&other) => {
                    let content = |index: &Index, extent: &Extent| {
                        let chunk = index.chunk(extent.chunk)?;
                        Some((chunk.digest, chunk.raw_len, chunk.codec))
                    };
                    if content(current, &one) != content(next, &other) {
                        return false;
                    }
                }
                _ => return false,
            }
        }
    }

    /// The differences, in the numbers of the result: `rows` are those of the next revision's rows.
    pub(super) fn finish(self, rows: &[Ino]) -> (Vec<NameChange>, Vec<Restyled>) {
        let place = |row: Ino| rows.get(row as usize).copied().unwrap_or(ROOT);
        let mut changes: Vec<NameChange> = self
            .differences
            .into_iter()
            .map(|found| NameChange {
                dir: match found.dir {
                    ChangedIn::Current(row) => row,
                    ChangedIn::Next(row) => place(row),
                },
                name: found.name,
                before: found.before,
                after: found.after.map(place),
            })
            .collect();
        for pair in self.pairs {
            if place(pair.after) != pair.before {
                changes.push(NameChange {
                    dir: pair.dir,
                    name: pair.name,
                    before: Some(pair.before),
                    after: Some(place(pair.after)),
                });
            }
        }
        (changes, self.restyled)
    }
}

/// The objects that share names with one object.
#[derive(Debug, Clone, Copy)]
struct Partner {
    row: u32,
    names: u32,
    /// There are several.
    several: bool,
}

impl Default for Partner {
    fn default() -> Partner {
        Partner {
            row: NONE,
            names: 0,
            several: false,
        }
    }
}

impl Partner {
    fn meet(&mut self, other: u32) {
        self.several |= self.row != NONE && self.row != other;
        self.row = other;
        self.names += 1;
    }
}

struct Partners {
    of_current: Vec<Partner>,
    of_next: Vec<Partner>,
}

impl Partners {
    fn meet(&mut self, before: Ino, after: Ino) {
        if let Some(partner) = self.of_current.get_mut(before as usize) {
            partner.meet(after);
        }
        if let Some(partner) = self.of_next.get_mut(after as usize) {
            partner.meet(before);
        }
    }

    /// The only row of the current index that shares names with row `after` of the next one, if
    /// that shares none with another.
    fn only(&self, after: Ino) -> Option<Ino> {
        let next = self.of_next.get(after as usize)?;
        let current = self.of_current.get(next.row as usize)?;
        (!next.several && !current.several).then_some(next.row)
    }

    fn names(&self, after: Ino) -> u32 {
        self.of_next
            .get(after as usize)
            .map_or(0, |partner| partner.names)
    }
}

/// The objects of a directory, in name order, without whiteouts.
fn objects(index: &Index, dir: Ino) -> impl Iterator<Item = (Dirent<'_>, Ino)> {
    index.entries(dir, 0).filter_map(|entry| match entry.child {
        DirentTarget::Inode(row) => Some((entry, row)),
        DirentTarget::Whiteout => None,
    })
}
