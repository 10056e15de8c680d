//! The new chunks that a boot reads first, in the order in which it reads them.
//!
//! The boot pack of the new revision has some of them. A boot reads the same pages of a file that has
//! changed as before, but no boot of the new revision has been recorded yet. So the pages that the boot pack
//! of the old revision has are hot at the same place of the new file too.

use std::collections::HashMap;

use super::sources::End;
use crate::pairs::{Files, walk};

/// The hot new chunks and their places in the order of a boot.
pub(super) struct HotChunks {
    places: HashMap<u32, HotPlace>,
}

/// The place of a chunk in the order of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HotPlace {
    /// Position in a boot pack, bytes.
    at: u64,
    /// The boot pack of the new revision has the chunk.
    pub(super) is_packed: bool,
}

impl HotChunks {
    /// The hot chunks of `new`. `files`: those of `old`.
    pub(super) fn of(old: &End, new: &End, files: &Files) -> HotChunks {
        let mut places = HashMap::new();
        for row in 0..new.index.chunk_count() {
            if let Some(at) = new.place_in_pack(row) {
                let is_packed = true;
                places.insert(row, HotPlace { at, is_packed });
            }
        }
        let mut hot = HotChunks { places };
        if old.pack.is_some() {
            hot.add_like(old, new, files);
        }
        hot
    }

    /// Adds the chunks of new files at the places of hot pages of the same old files.
    fn add_like(&mut self, old: &End, new: &End, files: &Files) {
        walk(&new.index, &mut |path, ino| {
            let size = new.index.inode(ino).map_or(0, |inode| inode.size);
            let Some(like) = files.same(&old.index, path, size) else {
                return;
            };
            for extent in old.index.extents(like, 0..u64::MAX) {
                let Some(at) = old.place_in_pack(extent.chunk) else {
                    continue;
                };
                let is_packed = false;
                let place = HotPlace { at, is_packed };
                let end = extent.file_offset + u64::from(extent.len);
                for found in new.index.extents(ino, extent.file_offset..end) {
                    let known = self.places.entry(found.chunk).or_insert(place);
                    if !known.is_packed {
                        *known = place.min(*known);
                    }
                }
            }
        });
    }

    /// The place of new chunk `row`, if it is hot.
    pub(super) fn place(&self, row: u32) -> Option<HotPlace> {
        self.places.get(&row).copied()
    }

    /// True if every client that has a boot has the prefix of the hot chunk: it is encoded against the old
    /// boot pack only.
    pub(super) fn needs_pack_only(&self, old: &End, row: u32) -> bool {
        old.pack.is_some() && self.place(row).is_some_and(|place| place.is_packed)
    }
}
