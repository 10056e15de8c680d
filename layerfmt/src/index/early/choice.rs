//! The rows of an early index: whole directories, each with its parent, until there are enough.

use std::ops::Range;

use super::EarlyRows;
use crate::digest::Digest;
use crate::index::{DirentTarget, Index, Ino, ROOT};
use crate::layout::chunk::ChunkFile;
use crate::layout::columns::Column;
use crate::layout::inode::{S_IFDIR, S_IFLNK, S_IFREG};

/// Most dirents and extents: about 400 KB, compressed.
const ROWS_MAX: u32 = 1 << 15;
/// An early index has at most this part of the inodes.
const SHARE: u32 = 16;

/// Directories that fit, under construction.
struct Choice<'i> {
    index: &'i Index,
    /// True for each directory that was chosen.
    chosen: Vec<bool>,
    /// Rows that may still be added.
    room: u32,
}

impl EarlyRows {
    /// The directories of the files with contents in the layer `pack`, then the others from the
    /// root on.
    pub(crate) fn choose(index: &Index, pack: Option<&Digest>) -> EarlyRows {
        EarlyRows::within(index, pack, ROWS_MAX.min(index.inode_count() / SHARE))
    }

    /// The same with at most `room` rows, and the root in any case.
    pub(crate) fn within(index: &Index, pack: Option<&Digest>, room: u32) -> EarlyRows {
        let mut choice = Choice {
            index,
            chosen: vec![false; index.inode_count() as usize],
            room,
        };
        choice.room = room.max(choice.cost(ROOT));
        choice.add(ROOT);
        if let Some(pack) = pack {
            for dir in choice.packed(pack) {
                choice.add_path(dir);
            }
        }
        // Parents have smaller numbers.
        for ino in 0..index.inode_count() {
            if choice.room == 0 {
                break;
            }
            if index.kind(ino) == S_IFDIR && choice.is_chosen(index.parent(ino)) {
                choice.add(ino);
            }
        }
        choice.rows()
    }
}

impl Choice<'_> {
    fn is_chosen(&self, dir: Ino) -> bool {
        self.chosen.get(dir as usize).copied().unwrap_or(false)
    }

    /// The inodes in a directory.
    fn children(&self, dir: Ino) -> impl Iterator<Item = Ino> {
        self.index
            .entries(dir, 0)
            .filter_map(|entry| match entry.child {
                DirentTarget::Inode(ino) => Some(ino),
                DirentTarget::Whiteout => None,
            })
    }

    /// The rows that a directory takes.
    fn cost(&self, dir: Ino) -> u32 {
        let extents = |ino| self.index.rows(ino, S_IFREG).1;
        let extents = self.children(dir).map(extents).fold(0, u32::saturating_add);
        self.index.entry_count(dir).saturating_add(extents)
    }

    /// Adds a directory whose parent was chosen, if there is room; true if it is there.
    fn add(&mut self, dir: Ino) -> bool {
        if self.is_chosen(dir) {
            return true;
        }
        let Some(left) = self.room.checked_sub(self.cost(dir)) else {
            return false;
        };
        self.room = left;
        if let Some(slot) = self.chosen.get_mut(dir as usize) {
            *slot = true;
        }
        true
    }

    /// Adds a directory and those above it.
    fn add_path(&mut self, dir: Ino) {
        let mut path = Vec::new();
        let mut at = dir;
        while !self.is_chosen(at) && at != ROOT {
            path.push(at);
            at = self.index.parent(at);
        }
        let _ = path.into_iter().rev().all(|dir| self.add(dir));
    }

    /// The directories that have files with contents in `pack`.
    fn packed(&self, pack: &Digest) -> Vec<Ino> {
        let index = self.index;
        let mut layers = (0..).zip(index.layers());
        let Some((layer, _)) = layers.find(|(_, layer)| layer.digest == *pack) else {
            return Vec::new();
        };
        let in_pack = |chunk| {
            let chunk = index.chunk(chunk);
            chunk.is_some_and(|chunk| chunk.source == ChunkFile::Borrowed(layer))
        };
        let is_packed = |ino| {
            let (first, count) = index.rows(ino, S_IFREG);
            let mut rows = first..first + count;
            rows.any(|row| in_pack(index.u32(Column::ExtentChunk, row)))
        };
        let inodes = 0..index.inode_count();
        let dirs = inodes.filter(|ino| index.kind(*ino) == S_IFDIR);
        dirs.filter(|dir| self.children(*dir).any(is_packed))
            .collect()
    }

    /// The rows of all chosen directories.
    fn rows(&self) -> EarlyRows {
        let index = self.index;
        let (mut inodes, mut dirents) = (Vec::new(), Vec::new());
        inodes.push(ROOT..ROOT + 1);
        let chosen = (0..).zip(&self.chosen).filter(|(_, chosen)| **chosen);
        for (dir, _) in chosen {
            let (first, count) = index.rows(dir, S_IFDIR);
            dirents.push(first..first + count);
            inodes.extend(self.children(dir).map(|ino| ino..ino + 1));
        }
        let inodes = joined(inodes);
        let of_kind = |kind| {
            let all = inodes.iter().flat_map(Clone::clone);
            let rows = all.map(|ino| index.rows(ino, kind));
            let rows = rows.map(|(first, count)| first..first + count);
            joined(rows.collect())
        };
        let (extents, targets) = (of_kind(S_IFREG), of_kind(S_IFLNK));
        EarlyRows {
            rows: [inodes, joined(dirents), extents, targets],
        }
    }
}

/// The same rows in as few ranges as possible.
fn joined(mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u32>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}
