//! The search of the upper: its conflicts with the other revision, and the marks that it has of the
//! mounted one. Nothing is locked meanwhile.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use layerfmt::index::{NameChange, Successor};
use layerfmt::{DirentTarget, Index, Ino, ROOT};
use rustix::fs::{FileType, Mode, OFlags};

use super::alike::is_alike;
use super::claims::Claims;
use super::conflict::{Conflict, Ours, Theirs};
use crate::error::Result;
use crate::filesystem::lookup::lower_path;
use crate::filesystem::reply::{CHARACTER, REGULAR, TYPE_MASK};
use crate::lower::Lower;
use crate::sys::Errno;
use crate::sys::directory::{self, RawEntry};
use crate::sys::object::At;
use crate::upper::Upper;
use crate::upper::marks::Marked;
use crate::upper::origins::EarlierRows;

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What was found in the upper.
#[derive(Debug, Default)]
pub(super) struct UpperSurvey {
    pub(super) conflicts: Vec<Conflict>,
    /// Directory row and name of each conflict at a changed name.
    pub(super) met: HashSet<(Ino, Box<[u8]>)>,
    /// The row of each mark; `None`: it is of another stack.
    pub(super) origins: EarlierRows,
    /// Directories with a redirect, by their numbers in the upper.
    pub(super) redirected: HashSet<u64>,
}

struct Search<'s> {
    upper: &'s Upper,
    lower: &'s Lower,
    /// The tables of the other revision, with the rows of `lower`.
    next: &'s Index,
    changes: HashMap<(Ino, &'s [u8]), &'s NameChange>,
    dropped: HashSet<Ino>,
    /// Directories with a change below them.
    above: HashSet<Ino>,
    restyled: HashSet<Ino>,
    claims: Claims,
    found: UpperSurvey,
}

/// A directory of the upper under search.
struct SurveyLevel {
    /// The lower directory that it is merged with.
    row: Option<Ino>,
    /// The directory of the other revision that it will be merged with.
    next: Option<Ino>,
    path_len: usize,
    left: Vec<(Box<[u8]>, Option<Ino>, Option<Ino>)>,
}

impl UpperSurvey {
    /// Searches `upper`, over `lower`, which `successor` is to replace.
    pub(super) fn of(upper: &Upper, lower: &Lower, successor: &Successor) -> Result<UpperSurvey> {
        let changes = &successor.changes;
        let by_name = changes
            .iter()
            .map(|change| ((change.dir, &*change.name), change));
        let restyled = successor
            .restyled
            .iter()
            .filter(|restyled| restyled.beyond_time);
        let mut search = Search {
            upper,
            lower,
            next: &successor.index,
            changes: by_name.collect(),
            dropped: successor.dropped.iter().copied().collect(),
            above: above(&lower.index, changes),
            restyled: restyled.map(|restyled| restyled.dir).collect(),
            claims: Claims::default(),
            found: UpperSurvey::default(),
        };
        search.run()?;
        let mut found = search.found;
        found
            .conflicts
            .extend(search.claims.conflicts(&successor.index));
        found
            .conflicts
            .sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }
}

/// The directories of `index` that have one of `changes` in them or below.
fn above(index: &Index, changes: &[NameChange]) -> HashSet<Ino> {
    let mut above = HashSet::new();
    for change in changes {
        let mut at = change.dir;
        while above.insert(at) && at != ROOT {
            at = index.parent(at);
        }
    }
    above
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
    [path, separator, name].concat()
}

pub(super) fn child(index: &Index, dir: Option<Ino>, name: &[u8]) -> Option<Ino> {
    match index.lookup(dir?, name)?.child {
        DirentTarget::Inode(row) => Some(row),
        DirentTarget::Whiteout => None,
    }
}

/// The object of `index` that an object of the upper stands for: at `name` in `dir`, or where its
/// redirect leads.
fn redirected(index: &Index, dir: Option<Ino>, name: &[u8], marked: &Marked) -> Option<Ino> {
    match &marked.redirect {
        Some(path) if path.first() == Some(&b'/') => lower_path(index, path),
        Some(other) => child(index, dir, other),
        None => child(index, dir, name),
    }
}

impl Search<'_> {
    /// Walks through the upper. Two descriptors, however deep it is.
    fn run(&mut self) -> Result<()> {
        let open = |dir: &OwnedFd, name: &[u8]| rustix::fs::openat(dir, name, OPEN, Mode::empty());
        let mut here = Arc::new(open(&self.upper.root(), b".")?);
        let at = At::Open(self.upper.root());
        let marked = self.upper.marks.read(&at, &self.lower.origins)?;
        let root = (!marked.opaque).then_some(ROOT);
        if marked.opaque {
            self.claims.cover(ROOT);
        }
        let mut path = Vec::new();
        let mut levels = vec![self.directory(&here, (root, root), &path)?];
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path_len);
            let Some((name, row, next)) = level.left.pop() else {
                levels.pop();
                if !levels.is_empty() {
                    here = Arc::new(open(&here, b"..")?);
                }
                continue;
            };
            match open(&here, &name) {
                Ok(inside) => here = Arc::new(inside),
                // Removed meanwhile, or unreadable for the owner of an ordinary user's mount.
                Err(Errno::NOTDIR | Errno::NOENT | Errno::ACCESS | Errno::LOOP) => continue,
                Err(errno) => return Err(errno.into()),
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            levels.push(self.directory(&here, (row, next), &path)?);
        }
        Ok(())
    }

    /// Looks at the entries of one directory.
    fn directory(
        &mut self,
        dir: &Arc<OwnedFd>,
        (row, next): (Option<Ino>, Option<Ino>),
        path: &[u8],
    ) -> Result<SurveyLevel> {
        let mut level = SurveyLevel {
            row,
            next,
            path_len: path.len(),
            left: Vec::new(),
        };
        for entry in directory::list(dir.as_fd())? {
            match self.entry(dir, &mut level, path, &entry) {
                Err(error) if error == Errno::NOENT => {}
                seen => seen?,
            }
        }
        Ok(level)
    }

    fn entry(
        &mut self,
        dir: &Arc<OwnedFd>,
        level: &mut SurveyLevel,
        path: &[u8],
        entry: &RawEntry,
    ) -> Result<()> {
        let name = &entry.name[..];
        let at = At::Name(Arc::clone(dir), name);
        let kind = match entry.kind {
            FileType::Directory => FileType::Directory,
            FileType::RegularFile => FileType::RegularFile,
            FileType::Symlink => FileType::Symlink,
            _ => {
                let stat = at.stat()?;
                if stat.st_mode & TYPE_MASK == CHARACTER && stat.st_rdev == 0 {
                    self.claims.cover_name(self.next, level.next, name);
                    self.hidden(level.row, path, name);
                    return Ok(());
                }
                FileType::from_raw_mode(stat.st_mode)
            }
        };
        let marked = self.upper.marks.read(&at, &self.lower.origins)?;
        let below = redirected(&self.lower.index, level.row, name, &marked);
        if kind == FileType::Directory {
            let merged = below.filter(|row| !marked.opaque && self.is_dir(*row));
            self.subdirectory(level.row, path, (name, &at), &marked, merged)?;
            let next = self.claim(level.next, path, entry, &marked);
            level.left.push((name.into(), merged, next));
            return Ok(());
        }
        self.claims.cover_name(self.next, level.next, name);
        if marked.origin.is_some() || marked.foreign_origin {
            let mark = at.xattr(&self.upper.marks.origin)?;
            self.found.origins.insert(mark, marked.origin);
        }
        let data = below.filter(|_| marked.metacopy);
        let mut has_data = true;
        if data.is_some_and(|row| self.dropped.contains(&row)) {
            let there = redirected(self.next, level.row, name, &marked);
            let inode = there.and_then(|row| self.next.inode(row));
            let is_file = inode.is_some_and(|inode| inode.kind() == REGULAR);
            // Without a redirect each name would lead to another file.
            let is_clear = marked.redirect.is_some() || at.stat()?.st_nlink == 1;
            has_data = is_file && is_clear;
        }
        if has_data && self.made_alike(level.row, name, &at)? {
            return Ok(());
        }
        self.file(level.row, path, name, data);
        if !has_data && let Some(conflict) = self.found.conflicts.last_mut() {
            conflict.forbids = true;
        }
        Ok(())
    }

    /// True if the revision changes a name to what the upper has there.
    fn made_alike(&mut self, dir: Option<Ino>, name: &[u8], at: &At<'_>) -> Result<bool> {
        let Some(dir) = dir else { return Ok(false) };
        let change = self.changes.get(&(dir, name));
        let Some(row) = change.and_then(|change| change.after) else {
            return Ok(false);
        };
        let is_alike = is_alike(at, &self.upper.marks, self.next, row)?;
        if is_alike {
            self.found.met.insert((dir, name.into()));
        }
        Ok(is_alike)
    }

    fn is_dir(&self, row: Ino) -> bool {
        let inode = self.lower.index.inode(row);
        inode.is_some_and(|inode| inode.is_dir())
    }

    /// The change of the revision at a name.
    fn theirs(&self, dir: Option<Ino>, name: &[u8]) -> Option<Theirs> {
        let change = self.changes.get(&(dir?, name))?;
        Some(match (change.before, change.after) {
            (None, _) => Theirs::Added,
            (Some(_), None) => Theirs::Removed,
            (Some(_), Some(_)) => Theirs::Changed,
        })
    }

    fn meet(&mut self, dir: Option<Ino>, path: &[u8], name: &[u8], ours: Ours, theirs: Theirs) {
        if let Some(dir) = dir {
            self.found.met.insert((dir, name.into()));
        }
        self.found.conflicts.push(Conflict {
            path: join(path, name),
            ours,
            theirs,
            forbids: false,
        });
    }

    /// The directory of the other revision with which a directory of the upper will be merged.
    fn claim(
        &mut self,
        dir: Option<Ino>,
        path: &[u8],
        entry: &RawEntry,
        marked: &Marked,
    ) -> Option<Ino> {
        let next = self.next;
        let is_dir = |row: &Ino| next.inode(*row).is_some_and(|inode| inode.is_dir());
        let claimed = redirected(next, dir, &entry.name, marked);
        let claimed = claimed.filter(|row| !marked.opaque && is_dir(row));
        let is_moved = marked.redirect.is_some();
        if is_moved {
            self.found.redirected.insert(entry.number);
        }
        match claimed {
            Some(_) if !is_moved => {}
            Some(row) => {
                self.claims.cover_name(next, dir, &entry.name);
                self.claims.of_moved.push((row, join(path, &entry.name)));
            }
            None => self.claims.cover_name(next, dir, &entry.name),
        }
        claimed
    }

    /// The upper hides a name.
    fn hidden(&mut self, dir: Option<Ino>, path: &[u8], name: &[u8]) {
        match self.theirs(dir, name) {
            // Both removed it.
            Some(Theirs::Removed) => {
                if let Some(dir) = dir {
                    self.found.met.insert((dir, name.into()));
                }
            }
            Some(theirs) => self.meet(dir, path, name, Ours::Removed, theirs),
            None => self.covered(dir, path, name, Ours::Removed),
        }
    }

    /// The upper covers a lower directory of this name: changes below it cannot be seen.
    fn covered(&mut self, dir: Option<Ino>, path: &[u8], name: &[u8], ours: Ours) {
        let covered = child(&self.lower.index, dir, name);
        if covered.is_some_and(|row| self.is_dir(row) && self.above.contains(&row)) {
            self.meet(dir, path, name, ours, Theirs::Below);
        }
    }

    fn subdirectory(
        &mut self,
        dir: Option<Ino>,
        path: &[u8],
        (name, at): (&[u8], &At<'_>),
        marked: &Marked,
        merged: Option<Ino>,
    ) -> Result<()> {
        let is_plain = !marked.opaque && marked.redirect.is_none();
        if is_plain && self.made_alike(dir, name, at)? {
            return Ok(());
        }
        let is_here = merged.is_some() && merged == child(&self.lower.index, dir, name);
        if let Some(theirs) = self.theirs(dir, name) {
            let ours = if is_here {
                Ours::Attributes
            } else {
                Ours::Directory
            };
            self.meet(dir, path, name, ours, theirs);
        } else if merged.is_some_and(|row| self.dropped.contains(&row)) {
            self.meet(dir, path, name, Ours::Attributes, Theirs::Removed);
        } else if let Some(row) = merged.filter(|row| self.restyled.contains(row)) {
            if !is_alike(at, &self.upper.marks, self.next, row)? {
                self.meet(dir, path, name, Ours::Attributes, Theirs::Changed);
            }
        } else if !is_here {
            self.covered(dir, path, name, Ours::Directory);
        }
        // A move that finds nothing now may find something in the other revision.
        let finds = |path: &Vec<u8>| path.first() == Some(&b'/') && self.next_has_dir(path);
        if merged.is_none() && !marked.opaque && marked.redirect.as_ref().is_some_and(finds) {
            self.meet(dir, path, name, Ours::Directory, Theirs::Added);
        }
        Ok(())
    }

    fn next_has_dir(&self, path: &[u8]) -> bool {
        let row = lower_path(self.next, path);
        let inode = row.and_then(|row| self.next.inode(row));
        inode.is_some_and(|inode| inode.is_dir())
    }

    fn file(&mut self, dir: Option<Ino>, path: &[u8], name: &[u8], data: Option<Ino>) {
        let ours = match data {
            Some(_) => Ours::Attributes,
            None => Ours::Written,
        };
        match self.theirs(dir, name) {
            Some(theirs) => self.meet(dir, path, name, ours, theirs),
            None if data.is_some_and(|row| self.dropped.contains(&row)) => {
                self.meet(dir, path, name, ours, Theirs::Changed);
            }
            None => self.covered(dir, path, name, ours),
        }
    }
}
