//! The tables in memory: as they are in the file, or packed.
//!
//! In a packed column each value is its difference from the smallest one, in as few bytes as the
//! largest difference needs. A column of equal values needs none. A large index is then about half
//! as long, and is decoded column by column, so that its raw bytes are never in memory as a whole.

use std::borrow::Cow;

use crate::codec::steps::Unsuitable;
use crate::layout::columns::{AREAS, Area, COLUMNS, Column, Columns, Counts, HEADER_LEN};

/// Raw length from which tables are packed, bytes. Packing costs time at the start of a mount, which
/// a usual system need not spend.
pub(crate) const PACKED_LEN_MIN: usize = 16 << 20;

/// A value is read as a word, so this many bytes follow the last one.
const PADDING: [u8; 4] = [0; 4];

/// The place of a column.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    /// Bytes of a value.
    width: usize,
    /// The bits of a value in the word at its place.
    mask: u32,
    /// The smallest value, which is added to each.
    base: u32,
}

/// The tables of an index.
#[derive(Debug, Clone)]
pub(super) struct IndexTables {
    bytes: Vec<u8>,
    places: [Place; COLUMNS],
    areas: [(usize, usize); AREAS],
    is_packed: bool,
}

impl IndexTables {
    /// Tables without a row.
    pub(super) fn none() -> IndexTables {
        Packer::new().finish()
    }

    /// The uncompressed section in place.
    pub(super) fn raw(bytes: Vec<u8>, columns: &Columns) -> IndexTables {
        let place = |column: &Column| Place {
            start: columns.start(*column),
            width: 4,
            mask: u32::MAX,
            base: 0,
        };
        let areas = Area::ALL.map(|area| {
            let range = columns.area(area);
            (range.start, range.end)
        });
        IndexTables {
            bytes,
            places: Column::ALL.each_ref().map(place),
            areas,
            is_packed: false,
        }
    }

    /// True if they have another form than in the file.
    pub(super) fn is_packed(&self) -> bool {
        self.is_packed
    }

    /// The uncompressed section, if they have the form of the file.
    pub(super) fn as_raw(&self) -> Option<&[u8]> {
        (!self.is_packed).then_some(&self.bytes)
    }

    /// The value of a column in a row.
    #[inline]
    pub(super) fn value(&self, column: Column, row: u32) -> u32 {
        let Some(place) = self.places.get(column as usize) else {
            return 0;
        };
        let at = place.start + row as usize * place.width;
        let word = self.bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
        let word = word.map_or(0, u32::from_le_bytes);
        place.base.wrapping_add(word & place.mask)
    }

    /// The bytes of an area.
    #[inline]
    pub(super) fn area(&self, area: Area) -> &[u8] {
        let (start, end) = self.areas.get(area as usize).copied().unwrap_or((0, 0));
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// The uncompressed section.
    pub(super) fn to_raw(&self, columns: &Columns) -> Cow<'_, [u8]> {
        if !self.is_packed {
            return Cow::Borrowed(&self.bytes);
        }
        let mut raw = Vec::with_capacity(columns.len());
        raw.extend_from_slice(&columns.counts.encode());
        for column in Column::ALL {
            for row in 0..columns.rows(column) {
                raw.extend_from_slice(&self.value(column, row).to_le_bytes());
            }
        }
        for area in Area::ALL {
            raw.extend_from_slice(self.area(area));
        }
        Cow::Owned(raw)
    }

    /// The same tables for one layer whose chunks are borrowed from its own file: a row of the layer
    /// table, and the number 1 as the source of every chunk.
    pub(super) fn lend(&mut self, digest: &[u8], file_len: u64) {
        let words = [
            (Column::ChunkSource, 1),
            (Column::LayerLenLow, file_len as u32),
            (Column::LayerLenHigh, (file_len >> 32) as u32),
        ];
        for (column, value) in words {
            if let Some(place) = self.places.get_mut(column as usize) {
                *place = Place::same(value);
            }
        }
        let start = self.bytes.len();
        self.bytes.reserve_exact(digest.len());
        self.bytes.extend_from_slice(digest);
        if let Some(place) = self.areas.get_mut(Area::LayerDigests as usize) {
            *place = (start, self.bytes.len());
        }
    }
}

impl Place {
    /// A column of equal values.
    fn same(value: u32) -> Place {
        Place {
            start: 0,
            width: 0,
            mask: 0,
            base: value,
        }
    }
}

/// Packs columns, then areas, in the order of the file.
#[derive(Debug)]
pub(crate) struct Packer {
    tables: IndexTables,
    column: usize,
    area: usize,
}

impl Packer {
    /// Nothing is packed yet.
    pub(crate) fn new() -> Packer {
        let tables = IndexTables {
            bytes: PADDING.to_vec(),
            places: [Place::same(0); COLUMNS],
            areas: [(0, 0); AREAS],
            is_packed: true,
        };
        Packer {
            tables,
            column: 0,
            area: 0,
        }
    }

    /// Packs the next column: `values` can be read twice.
    pub(crate) fn column(&mut self, values: impl ExactSizeIterator<Item = u32> + Clone) {
        let (least, most) = values.clone().fold((u32::MAX, 0), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        let base = least.min(most);
        let width = 4 - (most - base).leading_zeros() as usize / 8;
        let bytes = &mut self.tables.bytes;
        let start = bytes.len();
        bytes.reserve_exact(values.len() * width);
        match width {
            0 => {}
            1 => bytes.extend(values.map(|value| (value - base) as u8)),
            2 => put(
                bytes,
                values.map(|value| (value - base) as u16),
                u16::to_le_bytes,
            ),
            3 => put(bytes, values.map(|value| value - base), |value| {
                let [a, b, c, _] = value.to_le_bytes();
                [a, b, c]
            }),
            _ => put(bytes, values.map(|value| value - base), u32::to_le_bytes),
        }
        if let Some(place) = self.tables.places.get_mut(self.column) {
            *place = Place {
                start,
                width,
                mask: u32::MAX.checked_shr(32 - 8 * width as u32).unwrap_or(0),
                base,
            };
        }
        self.column += 1;
    }

    /// Makes room for the packed form of `len` raw bytes.
    fn reserve(&mut self, len: usize) -> Result<(), Unsuitable> {
        let needed = len + PADDING.len();
        self.tables
            .bytes
            .try_reserve_exact(needed)
            .map_err(|_| Unsuitable)
    }

    /// Adds the next area of `len` bytes, which `fill` writes.
    pub(crate) fn area<E>(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let bytes = &mut self.tables.bytes;
        let start = bytes.len();
        bytes.reserve_exact(len + PADDING.len());
        bytes.resize(start + len, 0);
        fill(bytes.get_mut(start..).unwrap_or_default())?;
        if let Some(place) = self.tables.areas.get_mut(self.area) {
            *place = (start, start + len);
        }
        self.area += 1;
        Ok(())
    }

    /// The tables.
    pub(super) fn finish(mut self) -> IndexTables {
        self.tables.bytes.extend_from_slice(&PADDING);
        self.tables
    }
}

fn put<T, const N: usize>(
    bytes: &mut Vec<u8>,
    values: impl Iterator<Item = T>,
    encode: impl Fn(T) -> [u8; N],
) {
    for value in values {
        bytes.extend_from_slice(&encode(value));
    }
}

/// The tables of these columns and areas, which are freed one after the other.
pub(super) fn assemble(
    counts: Counts,
    columns: impl Iterator<Item = Vec<u32>>,
    areas: [Vec<u8>; AREAS],
) -> IndexTables {
    let layout = Columns::new(counts);
    if layout.len() >= PACKED_LEN_MIN {
        return packed(columns, areas);
    }
    let mut raw = counts.encode().to_vec();
    raw.reserve_exact(layout.len().saturating_sub(raw.len()));
    for column in columns {
        let words: Vec<[u8; 4]> = column.into_iter().map(u32::to_le_bytes).collect();
        raw.extend_from_slice(words.as_flattened());
    }
    for area in areas {
        raw.extend_from_slice(&area);
    }
    IndexTables::raw(raw, &layout)
}

fn packed(columns: impl Iterator<Item = Vec<u32>>, areas: [Vec<u8>; AREAS]) -> IndexTables {
    let mut packer = Packer::new();
    for column in columns {
        packer.column(column.iter().copied());
    }
    for area in areas {
        let filled = packer.area(area.len(), |place| {
            place.copy_from_slice(&area);
            Ok::<(), std::convert::Infallible>(())
        });
        let Ok(()) = filled;
    }
    packer.finish()
}

/// Packs the section that `read` yields piece by piece, after its header. Without memory it is
/// unsuitable.
///
/// # Errors
/// The error of `read`.
pub(crate) fn pack(
    layout: &Columns,
    mut read: impl FnMut(&mut [u8]) -> Result<(), Unsuitable>,
) -> Result<Packer, Unsuitable> {
    let mut packer = Packer::new();
    let mut words = Vec::new();
    for column in Column::ALL {
        let len = layout.rows(column) as usize * 4;
        words.clear();
        words.try_reserve_exact(len).map_err(|_| Unsuitable)?;
        words.resize(len, 0);
        read(&mut words)?;
        packer.reserve(len)?;
        let values = words.as_chunks().0.iter();
        packer.column(values.map(|word| u32::from_le_bytes(*word)));
    }
    drop(words);
    for area in Area::ALL {
        let len = layout.area(area).len();
        packer.reserve(len)?;
        packer.area(len, &mut read)?;
    }
    Ok(packer)
}

/// The tables of a validated raw section, packed if it is a large one.
pub(super) fn of_raw(raw: Vec<u8>, layout: &Columns) -> IndexTables {
    if raw.len() >= PACKED_LEN_MIN
        && let Ok(packer) = repack(&raw, layout)
    {
        return packer.finish();
    }
    IndexTables::raw(raw, layout)
}

fn repack(raw: &[u8], layout: &Columns) -> Result<Packer, Unsuitable> {
    let mut rest = raw.get(HEADER_LEN..).ok_or(Unsuitable)?;
    pack(layout, |place| {
        let (head, tail) = rest.split_at_checked(place.len()).ok_or(Unsuitable)?;
        place.copy_from_slice(head);
        rest = tail;
        Ok(())
    })
}

#[cfg(test)]
mod tests;
