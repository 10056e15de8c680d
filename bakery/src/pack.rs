//! Boot packs: the first accesses of a system's boots, in one small file to be streamed.
//!
//! A pack is a layer file with chunks and no tree. The revision's merged index is rewritten so that
//! hot extents point into the pack; the index without the pack stays beside it (`plain` in the
//! manifest).

mod carry;
mod complete;
mod merge;
mod translate;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use layerfmt::flatten::MergedIndex;
use layerfmt::flatten::rebuild::rebuild;
use layerfmt::layout::chunk::{ChunkFile, Codec};
use layerfmt::source::{ContentReader, StoredChunks};
use layerfmt::tree::{Metadata, Tree};
use layerfmt::writer::{Effort, LayerInfo, LayerWriter, Options};
use layerfmt::{
    Chunk, ContentDigests, Digest, Extent, FormatError, Index, Ino, Layer, LayerRef, Meta,
};
use wire::trace::PAGE_LEN;

pub(crate) use self::carry::{CarriedPack, carry};
pub(crate) use self::merge::{MergedTraces, merge};
pub(crate) use self::translate::translate;

/// Raw bytes of a chunk: its readers wait for all of it, its neighbors compress together.
const CHUNK_LEN_MAX: usize = 1 << 20;
/// The first chunks are small, so that the first readers wait for one round trip only.
const CHUNK_LEN_FIRST: usize = 64 << 10;
/// zstd level: a pack is made once and sent to every client.
const LEVEL: i32 = 22;
/// zstd level of a predicted pack, which the first boots replace: half the time, 2 % more bytes.
const LEVEL_PREDICTED: i32 = 19;
/// The label of a predicted pack.
const PREDICTED: (&str, &str) = ("pages", "predicted");

/// The origin of the pages of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PageOrigin {
    /// Boots read them.
    Traces,
    /// They were predicted from the tree.
    Predicted,
}

/// The result of packing.
#[derive(Debug)]
pub(crate) struct Packed {
    /// Digest and sizes of the pack.
    pub pack: LayerInfo,
    /// The merged index that points into it.
    pub index: MergedIndex,
    /// Bytes of hot pages in it.
    pub hot_len: u64,
}

/// The reason why there is no pack.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// No trace of this tree, or none with a page that has data.
    #[error(
        "no boot trace of this tree has a page to pack: boot a client and run `layerfs push-trace` there"
    )]
    Nothing,
    /// A layer is damaged.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Reading a layer, writing the pack.
    #[error("cannot read the data to pack: {0}")]
    Io(#[from] std::io::Error),
}

/// A hot range of the source's chunks, and its place in the pack.
#[derive(Debug, Clone, Copy)]
struct Hot {
    /// Source chunk and place in its raw bytes.
    chunk: u32,
    offset: u32,
    len: u32,
    x86: bool,
}

/// The place of a hot range in the pack.
#[derive(Debug, Clone, Copy)]
struct PackPlace {
    chunk: u32,
    offset: u32,
    len: u32,
}

/// Builds the pack for the pages in `hot` (in order of first access) at `path`, and the index that
/// uses it. `plain` is the merged index without a pack; `source` gives its chunks.
///
/// # Errors
/// There are no hot pages, or layers cannot be read, or the pack cannot be written.
pub(crate) fn build(
    plain: &MergedIndex,
    source: &dyn StoredChunks,
    hot: &MergedTraces,
    origin: PageOrigin,
    path: &Path,
) -> Result<Packed, PackError> {
    let index = &plain.index;
    let ranges = ranges(index, hot);
    if ranges.is_empty() {
        return Err(PackError::Nothing);
    }
    let level = match origin {
        PageOrigin::Traces => LEVEL,
        PageOrigin::Predicted => LEVEL_PREDICTED,
    };
    let options = Options {
        effort: Effort::level(level),
        ..Options::compact()
    };
    let mut writer = LayerWriter::create(path, options, None)?;
    let (places, raw_digests, hot_len) = write_chunks(&mut writer, index, source, &ranges)?;
    let pack = writer.finish(Tree::new(Metadata::default()), &meta(origin))?;
    let layer = Layer::open(path)?;
    let index_packed = repoint(plain, &layer, &places, &raw_digests)?;
    Ok(Packed {
        pack,
        index: index_packed,
        hot_len,
    })
}

fn meta(origin: PageOrigin) -> Meta {
    let mut labels = vec![("kind", "boot pack")];
    if origin == PageOrigin::Predicted {
        labels.push(PREDICTED);
    }
    let labels = labels.into_iter();
    Meta {
        generator: format!("bakery {}", env!("CARGO_PKG_VERSION")),
        labels: labels
            .map(|(key, value)| (key.into(), value.into()))
            .collect(),
        ..Meta::default()
    }
}

/// The origin of the pages of a pack, from its label.
///
/// # Errors
/// The pack is damaged.
pub(crate) fn page_origin(pack: &Layer) -> Result<PageOrigin, FormatError> {
    let labels = pack.meta()?.unwrap_or_default().labels;
    let is_predicted =
        |(key, value): &(String, String)| (key.as_str(), value.as_str()) == PREDICTED;
    Ok(match labels.iter().any(is_predicted) {
        true => PageOrigin::Predicted,
        false => PageOrigin::Traces,
    })
}

/// The pages as ranges of source chunks, each source byte once, in order of first touch.
fn ranges(index: &Index, hot: &MergedTraces) -> Vec<Hot> {
    let mut seen = std::collections::HashSet::new();
    let mut ranges: Vec<Hot> = Vec::new();
    for (ino, page) in &hot.pages {
        let start = u64::from(*page) * PAGE_LEN;
        for part in parts(index, *ino, start, start + PAGE_LEN) {
            // Files with the same content share chunks: their pages are packed once.
            if seen.insert((part.chunk, part.offset)) {
                ranges.push(part);
            }
        }
    }
    ranges
}

/// The parts of the source chunks that hold a file's bytes from `start` to `end`.
fn parts(index: &Index, ino: Ino, start: u64, end: u64) -> impl Iterator<Item = Hot> + '_ {
    index.extents(ino, start..end).filter_map(move |extent| {
        let from = extent.file_offset.max(start);
        let to = (extent.file_offset + u64::from(extent.len)).min(end);
        Some(Hot {
            chunk: extent.chunk,
            offset: extent.chunk_offset + u32::try_from(from - extent.file_offset).ok()?,
            len: u32::try_from(to - from).ok()?,
            x86: index.chunk(extent.chunk)?.codec == Codec::ZstdX86,
        })
    })
}

type Places = HashMap<(u32, u32), PackPlace>;

/// Cuts the ranges into windows by order of first access. Within a window code and other bytes are
/// in separate chunks, in source order: bytes that arrive together need no order, and they compress
/// better in this one.
fn write_chunks(
    writer: &mut LayerWriter,
    index: &Index,
    source: &dyn StoredChunks,
    ranges: &[Hot],
) -> Result<(Places, Vec<Digest>, u64), PackError> {
    let mut reader = ContentReader::new(index, source);
    let (mut places, mut digests, mut hot_len) = (Places::new(), Vec::new(), 0u64);
    let mut rest = ranges;
    let mut window_len = CHUNK_LEN_FIRST;
    while !rest.is_empty() {
        let mut len = 0;
        let count = rest.iter().take_while(|range| {
            len += range.len as usize;
            len <= window_len
        });
        let (window, later) = rest.split_at(count.count().max(1).min(rest.len()));
        rest = later;
        window_len = (window_len * 2).min(2 * CHUNK_LEN_MAX);
        for x86 in [true, false] {
            let mut some: Vec<Hot> = window
                .iter()
                .filter(|range| range.x86 == x86)
                .copied()
                .collect();
            some.sort_by_key(|range| (range.chunk, range.offset));
            for group in split(&some) {
                let mut raw = Vec::with_capacity(CHUNK_LEN_MAX);
                let mut inside = Vec::with_capacity(group.len());
                for range in group {
                    inside.push(u32::try_from(raw.len()).unwrap_or(u32::MAX));
                    let decoded = reader.chunk(range.chunk)?;
                    let start = range.offset as usize;
                    let bytes = decoded.get(start..start + range.len as usize);
                    raw.extend_from_slice(
                        bytes
                            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidData))?,
                    );
                }
                hot_len += raw.len() as u64;
                digests.push(Digest::of(&raw));
                let chunk = writer.add_chunk(raw, x86)?;
                for (range, offset) in group.iter().zip(inside) {
                    places.insert(
                        (range.chunk, range.offset),
                        PackPlace {
                            chunk,
                            offset,
                            len: range.len,
                        },
                    );
                }
            }
        }
    }
    Ok((places, digests, hot_len))
}

/// Groups of at most a chunk's length.
fn split(ranges: &[Hot]) -> Vec<&[Hot]> {
    let mut groups = Vec::new();
    let mut rest = ranges;
    while !rest.is_empty() {
        let mut len = 0;
        let count = rest.iter().take_while(|range| {
            len += range.len as usize;
            len <= CHUNK_LEN_MAX
        });
        let (group, later) = rest.split_at(count.count().max(1).min(rest.len()));
        groups.push(group);
        rest = later;
    }
    groups
}

/// The index with hot extents pointing into the pack, without the chunks that are no longer used.
fn repoint(
    plain: &MergedIndex,
    pack: &Layer,
    places: &Places,
    raw_digests: &[Digest],
) -> Result<MergedIndex, FormatError> {
    let index = &plain.index;
    let rewritten: Vec<Vec<Extent>> = (0..index.inode_count())
        .map(|ino| rewrite(index, ino, places))
        .collect();
    let used = used_chunks(index, &rewritten);
    let mut chunks: Vec<(Chunk, Option<LayerRef>)> = Vec::new();
    let mut chunk_digests = Vec::new();
    let mut rows = vec![0u32; used.len()];
    for (id, _) in used.iter().enumerate().filter(|(_, used)| **used) {
        let id = u32::try_from(id).unwrap_or(u32::MAX);
        let Some(chunk) = index.chunk(id) else {
            continue;
        };
        let ChunkFile::Borrowed(row) = chunk.source else {
            continue;
        };
        if let Some(slot) = rows.get_mut(id as usize) {
            *slot = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        }
        chunks.push((chunk, index.layer(row)));
        chunk_digests.push(
            plain
                .content
                .as_ref()
                .map_or_else(Digest::default, |content| content.chunk(id)),
        );
    }
    let first_packed = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    for (chunk, digest) in pack.index().chunks().zip(raw_digests) {
        chunks.push((
            Chunk {
                source: ChunkFile::Borrowed(0),
                ..chunk
            },
            Some(pack.layer_ref()),
        ));
        chunk_digests.push(*digest);
    }
    let data_end = layerfmt::layout::superblock::SUPERBLOCK_LEN as u64;
    let packed = rebuild(index, data_end, &chunks, |ino, out| {
        let extents = rewritten.get(ino as usize).map_or(&[][..], Vec::as_slice);
        out.extend(extents.iter().map(|extent| Extent {
            chunk: match extent.chunk & PACKED {
                0 => rows.get(extent.chunk as usize).copied().unwrap_or(u32::MAX),
                _ => first_packed + (extent.chunk & !PACKED),
            },
            ..*extent
        }));
        Ok(())
    })?;
    let content = plain.content.as_ref().map(|content| {
        let files = (0..index.inode_count()).map(|ino| content.file(ino));
        let raw = files
            .chain(chunk_digests)
            .flat_map(|digest| digest.0)
            .collect();
        ContentDigests::decode(raw, &packed)
    });
    Ok(MergedIndex {
        index: Arc::new(packed),
        content: content.transpose()?,
    })
}

/// Which of the plain index's chunks are still referred to.
fn used_chunks(index: &Index, rewritten: &[Vec<Extent>]) -> Vec<bool> {
    let mut used = vec![false; index.chunk_count() as usize];
    let plain = |extent: &&Extent| extent.chunk & PACKED == 0;
    for extent in rewritten.iter().flatten().filter(plain) {
        if let Some(slot) = used.get_mut(extent.chunk as usize) {
            *slot = true;
        }
    }
    used
}

/// Marks the pack's chunks among the rewritten extents.
const PACKED: u32 = 1 << 31;

/// The extents of one file, cut at the ends of hot ranges, and joined again if adjacent.
fn rewrite(index: &Index, ino: Ino, places: &Places) -> Vec<Extent> {
    let mut out: Vec<Extent> = Vec::new();
    for extent in index.extents(ino, 0..u64::MAX) {
        let end = extent.file_offset + u64::from(extent.len);
        let mut at = extent.file_offset;
        while at < end {
            let inside =
                extent.chunk_offset + u32::try_from(at - extent.file_offset).unwrap_or(u32::MAX);
            let page_end = (at / PAGE_LEN + 1) * PAGE_LEN;
            let len = u32::try_from(end.min(page_end) - at).unwrap_or(u32::MAX);
            let next = match places.get(&(extent.chunk, inside)) {
                Some(place) if place.len >= len => Extent {
                    file_offset: at,
                    chunk: place.chunk | PACKED,
                    chunk_offset: place.offset,
                    len,
                },
                _ => Extent {
                    file_offset: at,
                    chunk: extent.chunk,
                    chunk_offset: inside,
                    len,
                },
            };
            join(&mut out, next);
            at += u64::from(len);
        }
    }
    out
}

fn join(out: &mut Vec<Extent>, next: Extent) {
    if let Some(last) = out.last_mut()
        && last.chunk == next.chunk
        && last.file_offset + u64::from(last.len) == next.file_offset
        && last.chunk_offset + last.len == next.chunk_offset
    {
        last.len += next.len;
        return;
    }
    out.push(next);
}

#[cfg(test)]
mod tests;
