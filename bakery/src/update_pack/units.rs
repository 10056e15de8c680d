//! Groups new chunks into units, and chooses the old bytes of their prefixes.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use layerfmt::update::{PackRecipe, Span};
use layerfmt::{Codec, Digest, Index, Ino, limits};

use super::Result;
use super::compressed::Region;
use super::hot::{HotChunks, HotPlace};
use super::regions::Finder;
use super::sources::End;
use crate::pairs::{Files, walk};

/// Raw bytes of a unit. Its chunks compress together, but a reader of one waits for all.
const UNIT_LEN: u64 = 2 << 20;
/// Raw bytes of a hot unit. It is smaller, so that the first readers wait for one round trip only.
const HOT_UNIT_LEN: u64 = 256 << 10;
/// Length of a prefix from which the next chunk begins a new unit, bytes.
const PREFIX_LEN: u64 = 6 << 20;
/// Longest old file that a prefix takes whole, bytes.
const WHOLE_LEN: u64 = 1 << 20;
/// Bytes before and after the same place of a longer old file that a prefix takes.
const AROUND_LEN: u64 = 512 << 10;

/// Longest prefix of unchanged old bytes, bytes. The raw forms of old compressed data come in
/// addition.
const PREFIX_LEN_MAX: u64 = limits::UPDATE_PREFIX_LEN_MAX as u64 / 2;
/// Content of a unit from which the next chunk begins a new one, bytes: compressed data counts in
/// its raw form.
const CONTENT_LEN: u64 = 6 << 20;

/// A unit before its encoding.
#[derive(Debug, Clone, Default)]
pub(super) struct UnitDraft {
    pub(super) chunks: Vec<u32>,
    pub(super) prefix: Vec<Span>,
    /// Its place in the order of a boot, if it is hot.
    pub(super) hot: Option<HotPlace>,
    /// Most of it is code for x86-64.
    pub(super) is_code: bool,
    /// Compressed data whose chunks are all in the unit.
    pub(super) regions: Vec<RegionDraft>,
}

/// Compressed data of a new file.
#[derive(Debug, Clone)]
pub(super) struct RegionDraft {
    /// Its bytes, in new chunks.
    pub(super) spans: Vec<Span>,
    pub(super) raw_len: u32,
    pub(super) recipe: PackRecipe,
    /// The compressed data of the old file that it resembles.
    pub(super) old: Option<OldRegion>,
}

/// Compressed data of an old file.
#[derive(Debug, Clone)]
pub(super) struct OldRegion {
    /// Its bytes, in old chunks.
    pub(super) spans: Vec<Span>,
    pub(super) packed_len: u32,
    pub(super) raw_len: u32,
    pub(super) recipe: PackRecipe,
}

impl RegionDraft {
    fn more(&self) -> u64 {
        let packed: u64 = self.spans.iter().map(|span| u64::from(span.len)).sum();
        u64::from(self.raw_len).saturating_sub(packed)
    }

    fn old_len(&self) -> u64 {
        self.old.as_ref().map_or(0, |old| u64::from(old.raw_len))
    }

    fn begins_in(&self, row: u32) -> bool {
        self.spans.first().is_some_and(|span| span.chunk == row)
    }
}

/// The use of a chunk by a new file, and the old file that this file resembles.
struct Use {
    chunk_offset: u32,
    place: Range<u64>,
    old: Option<Ino>,
}

/// The uses of the new chunks, and the compressed data in them.
#[derive(Default)]
struct Wanted {
    uses: HashMap<u32, Vec<Use>>,
    regions: Vec<RegionDraft>,
    /// The regions in each chunk.
    by_row: HashMap<u32, Vec<usize>>,
}

/// Groups the new chunks into units, hot units first, except those of `made`.
///
/// # Errors
/// When a layer cannot be read.
pub(super) fn plan(
    old: &End,
    new: &End,
    files: &Files,
    hot: &HotChunks,
    made: impl Iterator<Item = Digest>,
) -> Result<Vec<UnitDraft>> {
    let mut have = old.digests();
    have.extend(made);
    let wanted = wanted(old, new, files, have)?;
    let uses = &wanted.uses;
    let mut rows: Vec<u32> = uses.keys().copied().collect();
    // Remaking takes time, and a boot waits for hot units. Outside of the boot pack, compressed data is
    // cheaper later.
    let hot_place = |row: &u32| {
        let place = hot.place(*row)?;
        (place.is_packed || !wanted.by_row.contains_key(row)).then_some(place)
    };
    let place = |row: &u32| {
        let chunk = new.index.chunk(*row);
        let layer = chunk.map(|chunk| match chunk.source {
            layerfmt::ChunkFile::Own => 0,
            layerfmt::ChunkFile::Borrowed(layer) => layer,
        });
        let hot = hot_place(row);
        (hot.is_none(), hot, layer, chunk.map(|chunk| chunk.offset))
    };
    rows.sort_by_key(place);
    let mut units = Vec::new();
    let mut draft = Open::default();
    for row in rows {
        let chunk = new.index.chunk(row);
        let raw_len = chunk.map_or(0, |chunk| u64::from(chunk.raw_len));
        let codec = chunk.map(|chunk| chunk.codec);
        if raw_len > u64::from(limits::UPDATE_UNIT_LEN_MAX) {
            continue;
        }
        let place = hot_place(&row);
        let only_hot = hot.needs_pack_only(old, row);
        let inside = wanted.by_row.get(&row).filter(|_| place.is_none());
        let inside = inside.into_iter().flatten();
        let chunk = NewChunk {
            row,
            raw_len,
            hot: place,
            is_code: codec == Some(Codec::ZstdX86),
            spans: spans(old, uses.get(&row).map_or(&[], Vec::as_slice), only_hot),
            regions: inside.filter_map(|at| wanted.regions.get(*at)).collect(),
        };
        if !draft.takes(&chunk) {
            units.extend(std::mem::take(&mut draft).close());
        }
        draft.add(chunk);
    }
    units.extend(draft.close());
    Ok(units)
}

/// A new chunk that goes into a unit.
struct NewChunk<'w> {
    row: u32,
    raw_len: u64,
    hot: Option<HotPlace>,
    /// The layer has it after the x86 call filter.
    is_code: bool,
    /// The old bytes for its prefix.
    spans: Vec<Span>,
    /// The compressed data in it.
    regions: Vec<&'w RegionDraft>,
}

/// The new chunks that files use, with their uses and the compressed data in them. Leaves out the
/// chunks that the reader will `have`.
fn wanted(old: &End, new: &End, files: &Files, mut have: HashSet<Digest>) -> Result<Wanted> {
    let missing: HashSet<u32> = (0..new.index.chunk_count())
        .filter(|row| {
            let chunk = new.index.chunk(*row);
            chunk.is_some_and(|chunk| have.insert(chunk.digest))
        })
        .collect();
    let mut finder = Finder::new(old, new);
    let mut wanted = Wanted::default();
    let mut seen = HashSet::new();
    let mut paths = Vec::new();
    walk(&new.index, &mut |path, ino| {
        // A hard link to a file that is already done.
        if seen.insert(ino) {
            let mut extents = new.index.extents(ino, 0..u64::MAX);
            if extents.any(|extent| missing.contains(&extent.chunk)) {
                paths.push((path.to_vec(), ino));
            }
        }
    });
    for (path, ino) in paths {
        let size = new.index.inode(ino).map_or(0, |inode| inode.size);
        let like = files.like(&old.index, &path, size);
        let regions = finder.new_regions(ino)?;
        if !regions.is_empty() {
            let old_regions = match like {
                Some(like) => finder.old_regions(like)?,
                None => Vec::new(),
            };
            wanted.add_regions(&missing, (&new.index, ino), &regions, &old_regions);
        }
        for extent in new.index.extents(ino, 0..u64::MAX) {
            if missing.contains(&extent.chunk) {
                wanted.uses.entry(extent.chunk).or_default().push(Use {
                    chunk_offset: extent.chunk_offset,
                    place: extent.file_offset..extent.file_offset + u64::from(extent.len),
                    // Compressed data is encoded against the raw form of the old data only.
                    old: like.filter(|_| regions.is_empty()),
                });
            }
        }
    }
    for uses in wanted.uses.values_mut() {
        uses.sort_by_key(|found| (found.chunk_offset, found.place.start));
    }
    Ok(wanted)
}

impl Wanted {
    /// Adds the compressed data of the file whose chunks are all new.
    fn add_regions(
        &mut self,
        missing: &HashSet<u32>,
        (index, ino): (&Index, Ino),
        regions: &[Region],
        old_regions: &[OldRegion],
    ) {
        for (at, region) in regions.iter().enumerate() {
            let spans = clipped(index, ino, &region.place);
            let len: u64 = spans.iter().map(|span| u64::from(span.len)).sum();
            let all_new = spans.iter().all(|span| missing.contains(&span.chunk));
            let Some(first) = spans.first().filter(|_| all_new) else {
                continue;
            };
            let there = self.by_row.entry(first.chunk).or_default();
            let is_known = |known: &usize| {
                let known = self.regions.get(*known);
                known.is_some_and(|known| known.spans == spans)
            };
            // A hole in compressed data, or a file with the same content.
            if len != region.place.end - region.place.start || there.iter().any(is_known) {
                continue;
            }
            for span in &spans {
                let there = self.by_row.entry(span.chunk).or_default();
                if there.last() != Some(&self.regions.len()) {
                    there.push(self.regions.len());
                }
            }
            self.regions.push(RegionDraft {
                spans,
                raw_len: region.raw_len,
                recipe: region.recipe,
                old: old_regions.get(at).cloned(),
            });
        }
    }
}

/// The old bytes for the prefix of a new chunk, in the order of its uses; `only_hot`: those in the old boot
/// pack.
fn spans(old: &End, uses: &[Use], only_hot: bool) -> Vec<Span> {
    let mut wanted: Vec<(Ino, Range<u64>)> = Vec::new();
    for found in uses {
        let Some(ino) = found.old else { continue };
        let size = old.index.inode(ino).map_or(0, |inode| inode.size);
        let place = match size <= WHOLE_LEN {
            true => 0..size,
            false => {
                found.place.start.saturating_sub(AROUND_LEN)
                    ..found.place.end.saturating_add(AROUND_LEN).min(size)
            }
        };
        match wanted.iter_mut().find(|(have, _)| *have == ino) {
            // Two places near each other become one, including the bytes between them.
            Some((_, have)) if place.start <= have.end.saturating_add(AROUND_LEN) => {
                have.start = have.start.min(place.start);
                have.end = have.end.max(place.end);
            }
            _ => wanted.push((ino, place)),
        }
    }
    let mut spans = Vec::new();
    for (ino, place) in wanted {
        for span in clipped(&old.index, ino, &place) {
            if !only_hot || old.is_hot(span.chunk) {
                join(&mut spans, span);
            }
        }
    }
    spans
}

/// The spans of chunks that hold `place` of file `ino`.
pub(super) fn clipped(index: &Index, ino: Ino, place: &Range<u64>) -> Vec<Span> {
    let mut spans = Vec::new();
    for extent in index.extents(ino, place.clone()) {
        let start = extent.file_offset.max(place.start);
        let end = (extent.file_offset + u64::from(extent.len)).min(place.end);
        // Both differences are within the extent, so they fit.
        let skipped = u32::try_from(start - extent.file_offset).unwrap_or(0);
        let len = u32::try_from(end.saturating_sub(start)).unwrap_or(0);
        if len > 0 {
            spans.push(Span {
                chunk: extent.chunk,
                offset: extent.chunk_offset + skipped,
                len,
            });
        }
    }
    spans
}

/// Adds a span; extends the last one if the two are adjacent.
fn join(spans: &mut Vec<Span>, span: Span) {
    match spans.last_mut() {
        Some(last) if last.chunk == span.chunk && last.offset + last.len == span.offset => {
            last.len += span.len;
        }
        _ => spans.push(span),
    }
}

/// The unit under construction.
#[derive(Default)]
struct Open {
    draft: UnitDraft,
    raw_len: u64,
    /// Of it, code for x86-64.
    code_len: u64,
    /// Length of the raw forms beyond that of the compressed forms.
    more_len: u64,
    prefix_len: u64,
    old_len: u64,
    seen: HashSet<Span>,
}

impl Open {
    fn takes(&self, chunk: &NewChunk<'_>) -> bool {
        if self.draft.chunks.is_empty() {
            return true;
        }
        let regions = &chunk.regions;
        let begun = || {
            let begins = |region: &&&RegionDraft| region.begins_in(chunk.row);
            regions.iter().filter(begins)
        };
        let raw_len = self.raw_len + chunk.raw_len;
        let content_len =
            raw_len + self.more_len + begun().map(|region| region.more()).sum::<u64>();
        let prefix_len = self.prefix_len + self.more(&chunk.spans);
        let old_len = self.old_len + begun().map(|region| region.old_len()).sum::<u64>();
        // A region that ends in another unit stays compressed.
        let goes_on = regions.iter().any(|region| {
            let first = region.spans.first();
            first.is_some_and(|span| self.draft.chunks.contains(&span.chunk))
        });
        let (most, content_most, prefix_most) = match (chunk.hot.is_some(), goes_on) {
            (true, _) => (HOT_UNIT_LEN, CONTENT_LEN, PREFIX_LEN),
            (false, false) => (UNIT_LEN, CONTENT_LEN, PREFIX_LEN),
            (false, true) => (
                2 * UNIT_LEN,
                u64::from(limits::UPDATE_UNIT_LEN_MAX),
                2 * PREFIX_LEN,
            ),
        };
        // A unit in the boot pack needs only old chunks of the boot pack.
        let kind = |hot: Option<HotPlace>| hot.map(|place| place.is_packed);
        kind(self.draft.hot) == kind(chunk.hot)
            && raw_len <= most
            && content_len <= content_most
            && prefix_len <= prefix_most
            && old_len <= content_most
    }

    fn more(&self, spans: &[Span]) -> u64 {
        let new = spans.iter().filter(|span| !self.seen.contains(*span));
        new.map(|span| u64::from(span.len)).sum()
    }

    fn add(&mut self, chunk: NewChunk<'_>) {
        // Chunks come in the order of a boot: the first is the earliest.
        self.draft.hot = self.draft.hot.or(chunk.hot);
        self.draft.chunks.push(chunk.row);
        self.raw_len += chunk.raw_len;
        self.code_len += u64::from(chunk.is_code) * chunk.raw_len;
        let begins = |region: &&&RegionDraft| region.begins_in(chunk.row);
        for region in chunk.regions.iter().filter(begins) {
            self.more_len += region.more();
            self.old_len += region.old_len();
            self.draft.regions.push((*region).clone());
        }
        for span in chunk.spans {
            let len = u64::from(span.len);
            let fits = self.prefix_len + len <= PREFIX_LEN_MAX;
            if fits && self.seen.insert(span) {
                self.prefix_len += len;
                join(&mut self.draft.prefix, span);
            }
        }
    }

    fn close(mut self) -> Option<UnitDraft> {
        self.draft.is_code = self.code_len * 2 > self.raw_len;
        let rows: HashSet<u32> = self.draft.chunks.iter().copied().collect();
        let mut content_len = self.raw_len;
        let mut old_len = self.prefix_len;
        self.draft.regions.retain(|region| {
            let is_whole = region.spans.iter().all(|span| rows.contains(&span.chunk));
            let (content, old) = (content_len + region.more(), old_len + region.old_len());
            let fits = content <= u64::from(limits::UPDATE_UNIT_LEN_MAX)
                && old <= u64::from(limits::UPDATE_PREFIX_LEN_MAX);
            if is_whole && fits {
                (content_len, old_len) = (content, old);
            }
            is_whole && fits
        });
        (!self.draft.chunks.is_empty()).then_some(self.draft)
    }
}
