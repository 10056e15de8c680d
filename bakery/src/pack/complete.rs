//! Completes a pack for a tree in which files changed: the same pages of the changed files come first,
//! then the chunks of the pack that are still of use, as they are.
//!
//! A client that has the old pack has these chunks, so it gets the new ones only. The pages that
//! boots of the new tree really read are known later: their traces make the next pack.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use layerfmt::source::StoredChunks;
use layerfmt::tree::{Metadata, Tree};
use layerfmt::writer::{LayerWriter, Options, StoredChunk};
use layerfmt::{Chunk, Digest, FormatError, Ino, Layer};
use wire::trace::PAGE_LEN;

use super::carry::CarriedPack;
use super::{Hot, PackError, PackPlace, Packed, meta, page_origin, parts, repoint, write_chunks};
use crate::pairs::{Files, walk};

/// A pack that lost fewer pages is not written again: 256 KiB.
const LOST_PAGES_MIN: usize = 64;

impl CarriedPack<'_> {
    /// The pack with the pages of changed files, in a file at `path`; `source` gives the chunks of
    /// the tree. `None`: the old pack serves as well.
    ///
    /// # Errors
    /// A layer or the old pack cannot be read, or the pack cannot be written.
    pub(crate) fn complete(
        &self,
        source: &dyn StoredChunks,
        path: &Path,
    ) -> Result<Option<Packed>, PackError> {
        if self.lost.len() < LOST_PAGES_MIN {
            return Ok(None);
        }
        let rows = self.useful_rows();
        let added = self.added(&rows);
        if added.len() < LOST_PAGES_MIN {
            return Ok(None);
        }
        let options = Options {
            effort: Options::bake().effort,
            ..Options::compact()
        };
        let mut writer = LayerWriter::create(path, options, None)?;
        let index = &self.merged.index;
        let (mut places, mut digests, mut hot_len) =
            write_chunks(&mut writer, index, source, &added)?;
        let moved = self.copy(&rows, &mut writer, &mut digests)?;
        for (page, place) in &self.kept {
            if let Some(chunk) = moved.get(&place.chunk) {
                hot_len += u64::from(place.len);
                places.insert(
                    *page,
                    PackPlace {
                        chunk: *chunk,
                        ..*place
                    },
                );
            }
        }
        let origin = page_origin(self.pack)?;
        let pack = writer.finish(Tree::new(Metadata::default()), &meta(origin))?;
        let layer = Layer::open(path)?;
        Ok(Some(Packed {
            pack,
            index: repoint(self.merged, &layer, &places, &digests)?,
            hot_len,
        }))
    }

    /// The chunks of the pack of which at least half is kept.
    fn useful_rows(&self) -> HashSet<u32> {
        let mut kept: HashMap<u32, u64> = HashMap::new();
        // Files with the same content share a place.
        let places: HashMap<(u32, u32), u32> = self
            .kept
            .values()
            .map(|place| ((place.chunk, place.offset), place.len))
            .collect();
        for ((chunk, _), len) in places {
            *kept.entry(chunk).or_default() += u64::from(len);
        }
        let index = self.pack.index();
        let is_useful = |(row, len): &(u32, u64)| {
            let chunk = index.chunk(*row);
            chunk.is_some_and(|chunk| len * 2 >= u64::from(chunk.raw_len))
        };
        let useful = kept.into_iter().filter(is_useful);
        useful.map(|(row, _)| row).collect()
    }

    /// The pages that the useful chunks do not have, in the order of the pack.
    fn added(&self, rows: &HashSet<u32>) -> Vec<Hot> {
        let index = &self.merged.index;
        let is_x86 = |chunk: u32| {
            let codec = index.chunk(chunk).map(|chunk| chunk.codec);
            codec == Some(layerfmt::Codec::ZstdX86)
        };
        let loose = self.kept.iter().filter(|(_, it)| !rows.contains(&it.chunk));
        let loose = loose.map(|((chunk, offset), place)| {
            let hot = Hot {
                chunk: *chunk,
                offset: *offset,
                len: place.len,
                x86: is_x86(*chunk),
            };
            ((place.chunk, place.offset), hot)
        });
        let mut added: Vec<((u32, u32), Hot)> = loose.collect();
        let rows_now = self.rows_now();
        for page in &self.lost {
            let Some(ino) = rows_now.get(&page.ino) else {
                continue;
            };
            let start = page.at / PAGE_LEN * PAGE_LEN;
            let now = parts(index, *ino, start, start + PAGE_LEN);
            let is_new = |hot: &Hot| {
                let kept = self.kept.get(&(hot.chunk, hot.offset));
                kept.is_none_or(|place| place.len < hot.len)
            };
            let place = (page.place.chunk, page.place.offset);
            added.extend(now.filter(is_new).map(|hot| (place, hot)));
        }
        added.sort_by_key(|(place, hot)| (*place, hot.chunk, hot.offset));
        let mut seen = HashSet::new();
        added.retain(|(_, hot)| seen.insert((hot.chunk, hot.offset)));
        added.into_iter().map(|(_, hot)| hot).collect()
    }

    /// The new files that have the paths of the changed files, except for numbers in them.
    fn rows_now(&self) -> HashMap<Ino, Ino> {
        let changed: HashSet<Ino> = self.lost.iter().map(|page| page.ino).collect();
        let index = &self.merged.index;
        let files = Files::of(index);
        let mut rows = HashMap::new();
        walk(&self.before.index, &mut |path, ino| {
            if changed.contains(&ino) && !rows.contains_key(&ino) {
                let size = self.before.index.inode(ino).map_or(0, |inode| inode.size);
                rows.extend(files.same(index, path, size).map(|now| (ino, now)));
            }
        });
        rows
    }

    /// Copies the chunks in `rows`; returns their rows in the new pack.
    fn copy(
        &self,
        rows: &HashSet<u32>,
        writer: &mut LayerWriter,
        digests: &mut Vec<Digest>,
    ) -> Result<HashMap<u32, u32>, PackError> {
        let index = self.pack.index();
        let known = self.raw_digests();
        let mut moved = HashMap::new();
        let chunks: Vec<(u32, Chunk)> = (0..).zip(index.chunks()).collect();
        for (row, chunk) in chunks.into_iter().filter(|(row, _)| rows.contains(row)) {
            let mut stored = Vec::new();
            self.pack.read_stored(&chunk, &mut stored)?;
            if Digest::of(&stored) != chunk.digest {
                let what = "a chunk of the boot pack does not have its digest";
                return Err(FormatError::corrupt("boot pack", chunk.offset, what).into());
            }
            let digest = known.get(row as usize).copied().unwrap_or_default();
            let copied = StoredChunk {
                stored,
                codec: chunk.codec,
                raw_len: chunk.raw_len,
            };
            moved.insert(row, writer.add_stored_chunk(copied, digest)?);
            digests.push(digest);
        }
        Ok(moved)
    }
}
