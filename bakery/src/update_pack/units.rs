//! Grouping new chunks into units, and choosing the old bytes of their prefixes.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use layerfmt::update::Span;
use layerfmt::{Index, Ino, limits};

use super::pairs::{Files, walk};
use super::sources::End;

/// Raw bytes of a unit. Its chunks compress together, but a reader of one waits for all.
const UNIT_LEN: u64 = 1 << 20;
/// Raw bytes of a hot unit. It is smaller, so that the first readers wait for one round trip only.
const HOT_UNIT_LEN: u64 = 256 << 10;
/// Length of a prefix from which the next chunk begins a new unit, bytes.
const PREFIX_LEN: u64 = 4 << 20;
/// Longest old file that a prefix takes whole, bytes.
const WHOLE_LEN: u64 = 1 << 20;
/// Bytes before and after the same place of a longer old file that a prefix takes.
const AROUND_LEN: u64 = 512 << 10;

/// A unit before its encoding.
#[derive(Debug, Clone, Default)]
pub(super) struct UnitDraft {
    pub(super) chunks: Vec<u32>,
    pub(super) prefix: Vec<Span>,
    pub(super) is_hot: bool,
}

/// The use of a chunk by a new file, and the old file that this file resembles.
struct Use {
    chunk_offset: u32,
    place: Range<u64>,
    old: Option<Ino>,
}

/// Groups the new chunks into units, hot units first.
pub(super) fn plan(old: &End, new: &End) -> Vec<UnitDraft> {
    let uses = uses(old, new);
    let mut rows: Vec<u32> = uses.keys().copied().collect();
    let place = |row: &u32| {
        let chunk = new.index.chunk(*row);
        let layer = chunk.map(|chunk| match chunk.source {
            layerfmt::ChunkFile::Own => 0,
            layerfmt::ChunkFile::Borrowed(layer) => layer,
        });
        (!new.is_hot(*row), layer, chunk.map(|chunk| chunk.offset))
    };
    rows.sort_by_key(place);
    let mut units = Vec::new();
    let mut draft = Open::default();
    for row in rows {
        let raw_len = new
            .index
            .chunk(row)
            .map_or(0, |chunk| u64::from(chunk.raw_len));
        if raw_len > u64::from(limits::UPDATE_UNIT_LEN_MAX) {
            continue;
        }
        let is_hot = new.is_hot(row);
        let spans = spans(old, uses.get(&row).map_or(&[], Vec::as_slice), is_hot);
        if !draft.takes(raw_len, &spans, is_hot) {
            units.extend(std::mem::take(&mut draft).close());
        }
        draft.add(row, raw_len, spans, is_hot);
    }
    units.extend(draft.close());
    units
}

/// The new chunks that files use, with their uses.
fn uses(old: &End, new: &End) -> HashMap<u32, Vec<Use>> {
    let mut have = old.digests();
    let missing: HashSet<u32> = (0..new.index.chunk_count())
        .filter(|row| {
            let chunk = new.index.chunk(*row);
            chunk.is_some_and(|chunk| have.insert(chunk.digest))
        })
        .collect();
    let files = Files::of(&old.index);
    let mut uses: HashMap<u32, Vec<Use>> = HashMap::new();
    let mut seen = HashSet::new();
    walk(&new.index, &mut |path, ino| {
        // A hard link to a file that is already done.
        if !seen.insert(ino) {
            return;
        }
        let size = new.index.inode(ino).map_or(0, |inode| inode.size);
        let mut like = None;
        for extent in new.index.extents(ino, 0..u64::MAX) {
            if !missing.contains(&extent.chunk) {
                continue;
            }
            let old = *like.get_or_insert_with(|| files.like(&old.index, path, size));
            uses.entry(extent.chunk).or_default().push(Use {
                chunk_offset: extent.chunk_offset,
                place: extent.file_offset..extent.file_offset + u64::from(extent.len),
                old,
            });
        }
    });
    for uses in uses.values_mut() {
        uses.sort_by_key(|found| (found.chunk_offset, found.place.start));
    }
    uses
}

/// The old bytes for the prefix of a new chunk, in the order of its uses.
fn spans(old: &End, uses: &[Use], is_hot: bool) -> Vec<Span> {
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
    // Every client of the old revision has its boot pack.
    let only_hot = is_hot && old.pack.is_some();
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
fn clipped(index: &Index, ino: Ino, place: &Range<u64>) -> Vec<Span> {
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
    prefix_len: u64,
    seen: HashSet<Span>,
}

impl Open {
    fn takes(&self, raw_len: u64, spans: &[Span], is_hot: bool) -> bool {
        if self.draft.chunks.is_empty() {
            return true;
        }
        let most = if is_hot { HOT_UNIT_LEN } else { UNIT_LEN };
        self.draft.is_hot == is_hot
            && self.raw_len + raw_len <= most
            && self.prefix_len + self.more(spans) <= PREFIX_LEN
    }

    fn more(&self, spans: &[Span]) -> u64 {
        let new = spans.iter().filter(|span| !self.seen.contains(*span));
        new.map(|span| u64::from(span.len)).sum()
    }

    fn add(&mut self, row: u32, raw_len: u64, spans: Vec<Span>, is_hot: bool) {
        self.draft.chunks.push(row);
        self.draft.is_hot = is_hot;
        self.raw_len += raw_len;
        for span in spans {
            let len = u64::from(span.len);
            let fits = self.prefix_len + len <= u64::from(limits::UPDATE_PREFIX_LEN_MAX);
            if fits && self.seen.insert(span) {
                self.prefix_len += len;
                join(&mut self.draft.prefix, span);
            }
        }
    }

    fn close(self) -> Option<UnitDraft> {
        (!self.draft.chunks.is_empty()).then_some(self.draft)
    }
}
