//! Keeps a pack for another tree: hot pages with unchanged bytes still point into it.
//!
//! The bytes are unchanged if the chunk is the same, or if a file has the same content in other
//! chunks (after a recompressing compaction).

use std::collections::HashMap;

use layerfmt::layout::chunk::ChunkFile;
use layerfmt::{Digest, FormatError, Index, Ino, Layer, MergedIndex};
use wire::trace::PAGE_LEN;

use super::{PackPlace, Places, repoint};

/// A pack with less than this share of its pages is not kept.
const KEPT_PERCENT_MIN: usize = 50;

/// `merged`, a tree without a pack, with its pages in `pack` if they are those of the tree
/// `before`, which is `packed` with the pack. `None`: too little of it is left.
pub(crate) fn carry(
    pack: &Layer,
    before: &MergedIndex,
    packed: &MergedIndex,
    merged: &MergedIndex,
) -> Option<Result<MergedIndex, FormatError>> {
    CarriedPack::of(pack, before, packed, merged).map(|carried| carried.as_it_is())
}

/// A pack for another tree than the one that it was made for.
pub(crate) struct CarriedPack<'p> {
    pub(super) pack: &'p Layer,
    pub(super) before: &'p MergedIndex,
    packed: &'p MergedIndex,
    pub(super) merged: &'p MergedIndex,
    /// The pages with unchanged bytes: their places in the chunks of `merged`, and in the pack.
    pub(super) kept: Places,
    /// The other pages of the tree before.
    pub(super) lost: Vec<HotPage>,
}

impl<'p> CarriedPack<'p> {
    /// Looks for the pages of `pack` in `merged`; see [`carry`].
    pub(crate) fn of(
        pack: &'p Layer,
        before: &'p MergedIndex,
        packed: &'p MergedIndex,
        merged: &'p MergedIndex,
    ) -> Option<CarriedPack<'p>> {
        let hot = hot_pages(pack, &before.index, &packed.index);
        let count = hot.len();
        let found = CarriedPage::of(before, merged);
        let (mut kept, mut lost) = (Places::new(), Vec::new());
        for page in hot {
            match found.place(&page) {
                Some(place) => {
                    kept.insert(place, page.place);
                }
                None => lost.push(page),
            }
        }
        let is_worth = !kept.is_empty() && kept.len() * 100 >= count * KEPT_PERCENT_MIN;
        is_worth.then_some(CarriedPack {
            pack,
            before,
            packed,
            merged,
            kept,
            lost,
        })
    }

    /// The tree with the pages that are kept.
    ///
    /// # Errors
    /// The index cannot be made.
    pub(crate) fn as_it_is(&self) -> Result<MergedIndex, FormatError> {
        repoint(self.merged, self.pack, &self.kept, &self.raw_digests())
    }

    /// The content digests of the pack's chunks, in its order.
    pub(super) fn raw_digests(&self) -> Vec<Digest> {
        raw_digests(self.pack, self.packed)
    }
}

/// Places of the old tree's bytes in the new one.
struct CarriedPage<'m> {
    before: &'m MergedIndex,
    merged: &'m MergedIndex,
    /// Chunks are the same if their bytes are: by digest, in any layer.
    chunks: HashMap<Digest, u32>,
    files: HashMap<Digest, Ino>,
}

impl<'m> CarriedPage<'m> {
    fn of(before: &'m MergedIndex, merged: &'m MergedIndex) -> CarriedPage<'m> {
        let index = &merged.index;
        let chunks = index.chunks().zip(0u32..);
        let files = (0..index.inode_count()).filter(|ino| {
            let inode = index.inode(*ino);
            inode.is_some_and(|inode| inode.is_file() && inode.size > 0)
        });
        let content = merged.content.as_ref();
        CarriedPage {
            before,
            merged,
            chunks: chunks.map(|(chunk, id)| (chunk.digest, id)).collect(),
            files: files
                .filter_map(|ino| Some((content?.file(ino), ino)))
                .collect(),
        }
    }

    /// The chunk and the offset in it that hold the bytes of `page` now.
    fn place(&self, page: &HotPage) -> Option<(u32, u32)> {
        if let Some(chunk) = self.chunks.get(&page.chunk) {
            return Some((*chunk, page.offset));
        }
        let content = self.before.content.as_ref()?.file(page.ino);
        let ino = *self.files.get(&content)?;
        let end = page.at + u64::from(page.place.len);
        let extent = self.merged.index.extents(ino, page.at..end).next()?;
        let inside = u32::try_from(page.at.checked_sub(extent.file_offset)?).ok()?;
        let whole = extent.file_offset + u64::from(extent.len) >= end;
        whole.then_some((extent.chunk, extent.chunk_offset + inside))
    }
}

/// A page of the tree before that is in the pack.
pub(super) struct HotPage {
    /// The chunk it is in without the pack, and its place there.
    chunk: Digest,
    offset: u32,
    /// The file, and the offset in it.
    pub(super) ino: Ino,
    pub(super) at: u64,
    /// Its place in the pack.
    pub(super) place: PackPlace,
}

/// Every hot page.
fn hot_pages(pack: &Layer, before: &Index, packed: &Index) -> Vec<HotPage> {
    let own: HashMap<Digest, u32> = pack
        .index()
        .chunks()
        .zip(0u32..)
        .map(|(chunk, id)| (chunk.digest, id))
        .collect();
    let name = pack.digest();
    let in_pack = |chunk: u32| {
        let chunk = packed.chunk(chunk)?;
        let ChunkFile::Borrowed(row) = chunk.source else {
            return None;
        };
        packed.layer(row).filter(|layer| layer.digest == name)?;
        own.get(&chunk.digest).copied()
    };
    let mut found = Vec::new();
    // The trees are the same, so are their rows.
    for ino in 0..packed.inode_count().min(before.inode_count()) {
        for hot in packed.extents(ino, 0..u64::MAX) {
            let Some(own_chunk) = in_pack(hot.chunk) else {
                continue;
            };
            let end = hot.file_offset + u64::from(hot.len);
            for plain in before.extents(ino, hot.file_offset..end) {
                let Some(chunk) = before.chunk(plain.chunk).map(|chunk| chunk.digest) else {
                    continue;
                };
                let mut at = plain.file_offset.max(hot.file_offset);
                let stop = (plain.file_offset + u64::from(plain.len)).min(end);
                while at < stop {
                    let next = stop.min((at / PAGE_LEN + 1) * PAGE_LEN);
                    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                    let place = PackPlace {
                        chunk: own_chunk,
                        offset: hot.chunk_offset + narrow(at - hot.file_offset),
                        len: narrow(next - at),
                    };
                    found.push(HotPage {
                        chunk,
                        offset: plain.chunk_offset + narrow(at - plain.file_offset),
                        ino,
                        at,
                        place,
                    });
                    at = next;
                }
            }
        }
    }
    found
}

/// The content digests of the pack's chunks, in its order.
fn raw_digests(pack: &Layer, packed: &MergedIndex) -> Vec<Digest> {
    let Some(content) = &packed.content else {
        return vec![Digest::default(); pack.index().chunk_count() as usize];
    };
    let known: HashMap<Digest, Digest> = packed
        .index
        .chunks()
        .zip(0u32..)
        .map(|(chunk, id)| (chunk.digest, content.chunk(id)))
        .collect();
    let chunks = pack.index().chunks();
    chunks
        .map(|chunk| known.get(&chunk.digest).copied().unwrap_or_default())
        .collect()
}
