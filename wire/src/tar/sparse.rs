//! Sparse files: four ways to write the same list of segments. Each gives one checked map: segments in order,
//! without overlap, inside the file, and together exactly as long as the data that follows.

use std::ops::Range;

use super::header::{self, BLOCK_LEN, Block};
use super::records;
use crate::limits::SPARSE_SEGMENTS_MAX;

/// Data of a file: offset and length of each segment, in order.
pub type Segments = Vec<(u64, u64)>;

/// The `GNU.sparse.*` records of formats 0.0, 0.1 and 1.0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SparseRecords {
    /// The version of the format.
    pub major: Option<u64>,
    /// The version's second part.
    pub minor: Option<u64>,
    /// The entry's true name (0.1 and 1.0).
    pub name: Option<Vec<u8>>,
    /// `GNU.sparse.size` or `GNU.sparse.realsize`: the whole length of the file.
    pub size: Option<u64>,
    /// The length of the map (0.0 and 0.1).
    pub segment_count: Option<u64>,
    /// 0.0: offset and length records in their order; 0.1: the numbers of the one map record.
    pub numbers: Vec<u64>,
}

impl SparseRecords {
    /// True if the entry is a sparse file.
    pub fn are_there(&self) -> bool {
        *self != SparseRecords::default()
    }
}

/// The map of format 1.0 for a file of `size` bytes: decimal lines, padded to whole blocks. A map of
/// a file that ends in a hole is closed by an empty segment, as GNU tar does.
pub fn leading_map(ranges: &[Range<u64>], size: u64) -> Vec<u8> {
    let ends_in_hole = ranges.last().is_none_or(|last| last.end < size);
    let closing = ends_in_hole.then_some(size..size);
    let count = ranges.len() + usize::from(ends_in_hole);
    let mut map = format!("{count}\n").into_bytes();
    for range in ranges.iter().cloned().chain(closing) {
        let len = range.end.saturating_sub(range.start);
        map.extend_from_slice(format!("{}\n{len}\n", range.start).as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK_LEN), 0);
    map
}

/// The segments of an old GNU header (24 bytes each), or of one of its extension blocks, up to the
/// first unused one.
///
/// # Errors
/// The fault of the map.
pub fn gnu_segments(fields: &[u8], segments: &mut Segments) -> Result<(), String> {
    for segment in fields.chunks_exact(24) {
        let (offset, len) = segment.split_at(12);
        if segment.iter().all(|&byte| byte == 0) {
            break;
        }
        let natural = |field| header::number(field).and_then(|number| u64::try_from(number).ok());
        let segment = natural(offset).zip(natural(len));
        segments.push(segment.ok_or("the sparse map contains a value that is not a number")?);
    }
    bounded(segments.len())
}

/// An extension block of the old GNU format: its segments, and true if another block follows.
///
/// # Errors
/// The fault of the map.
pub fn gnu_extension(block: &Block, segments: &mut Segments) -> Result<bool, String> {
    let (fields, end) = block.split_at(24 * 21);
    gnu_segments(fields, segments)?;
    Ok(end.first().is_some_and(|&flag| flag != 0))
}

/// The segments of formats 0.0 and 0.1, which are in the extended header itself.
///
/// # Errors
/// The fault of the map.
pub fn record_segments(records: &SparseRecords) -> Result<Segments, String> {
    let (pairs, rest) = records.numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("the sparse map ends between an offset and its length".to_owned());
    }
    bounded(pairs.len())?;
    if let Some(count) = records.segment_count
        && u64::try_from(pairs.len()) != Ok(count)
    {
        return Err("the length of the sparse map differs from GNU.sparse.numblocks".to_owned());
    }
    Ok(pairs.iter().map(|[offset, len]| (*offset, *len)).collect())
}

/// The map of format 1.0, which precedes the data: decimal numbers, one a line, padded to whole
/// blocks. Fed block by block.
#[derive(Debug, Default)]
pub struct LeadingMap {
    count: Option<u64>,
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl LeadingMap {
    /// Adds one block; true if the map is complete and data follows.
    ///
    /// # Errors
    /// The fault of the map.
    pub fn feed(&mut self, block: &Block) -> Result<bool, String> {
        for &byte in block {
            if byte != b'\n' {
                if self.line.len() == 20 {
                    return Err("the sparse map contains a value that is not a number".to_owned());
                }
                self.line.push(byte);
                continue;
            }
            let number = records::natural(&self.line).ok().flatten();
            let number = number.ok_or("the sparse map contains a value that is not a number")?;
            self.line.clear();
            match self.count {
                None => {
                    bounded(usize::try_from(number).unwrap_or(usize::MAX))?;
                    self.count = Some(number);
                }
                Some(_) => self.numbers.push(number),
            }
            if self.is_complete() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_complete(&self) -> bool {
        self.count
            .is_some_and(|count| u64::try_from(self.numbers.len()) == Ok(count * 2))
    }

    /// The segments, once [`LeadingMap::feed`] has returned true.
    pub fn segments(&self) -> Segments {
        let (pairs, _) = self.numbers.as_chunks::<2>();
        pairs.iter().map(|[offset, len]| (*offset, *len)).collect()
    }
}

/// The checked segments of a file of `size` bytes whose archive holds `stored_len` bytes of data.
///
/// # Errors
/// The fault of the map.
pub fn checked(map: &Segments, size: u64, stored_len: u64) -> Result<Segments, String> {
    let (mut end, mut sum) = (0u64, 0u64);
    let mut segments = Segments::with_capacity(map.len());
    for &(offset, len) in map {
        let segment_end = offset
            .checked_add(len)
            .filter(|segment_end| *segment_end <= size);
        let segment_end = segment_end.ok_or("the sparse map extends beyond the end of the file")?;
        if offset < end {
            return Err("the sparse map's segments overlap or are out of order".to_owned());
        }
        // Writers end the map with an empty segment at the end of the file.
        if len > 0 {
            segments.push((offset, len));
        }
        end = segment_end;
        sum += len;
    }
    if sum != stored_len {
        return Err(format!(
            "the sparse map names {sum} bytes, the archive holds {stored_len}"
        ));
    }
    Ok(segments)
}

/// Length of the blocks a leading map may take at most.
pub const LEADING_BLOCKS_MAX: usize = SPARSE_SEGMENTS_MAX * 2 * 21 / BLOCK_LEN;

fn bounded(count: usize) -> Result<(), String> {
    if count > SPARSE_SEGMENTS_MAX {
        return Err(format!(
            "a sparse file of more than {SPARSE_SEGMENTS_MAX} segments"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        let table: &[(&[(u64, u64)], u64, u64, bool)] = &[
            (&[], 0, 0, true),
            (&[(0, 5)], 5, 5, true),
            (&[(0, 5), (10, 5), (20, 0)], 20, 10, true),
            (&[(0, 5), (4, 5)], 20, 10, false),
            (&[(10, 5), (0, 5)], 20, 10, false),
            (&[(0, 5)], 4, 5, false),
            (&[(0, 5)], 5, 6, false),
            (&[(u64::MAX, 5)], u64::MAX, 5, false),
        ];
        for (segments, size, stored, good) in table {
            assert_eq!(
                checked(&segments.to_vec(), *size, *stored).is_ok(),
                *good,
                "{segments:?}"
            );
        }
    }

    #[test]
    fn a_leading_map_may_span_blocks() {
        let mut text = String::from("60\n");
        for segment in 0..60u64 {
            text += &format!("{}\n4096\n", segment * 8192);
        }
        let mut blocks: Vec<u8> = text.into_bytes();
        blocks.resize(blocks.len().next_multiple_of(BLOCK_LEN), 0);
        let mut map = LeadingMap::default();
        let (blocks, _) = blocks.as_chunks::<BLOCK_LEN>();
        let (last, before) = blocks.split_last().unwrap();
        assert!(before.iter().all(|block| !map.feed(block).unwrap()));
        assert!(map.feed(last).unwrap());
        assert_eq!(map.segments().len(), 60);
        assert_eq!(map.segments().last(), Some(&(59 * 8192, 4096)));
    }

    #[test]
    fn absurd_leading_maps_are_refused() {
        for text in ["99999999999\n", "x\n", "1\n12345678901234567890123\n", "\n"] {
            let mut block: Block = [0; BLOCK_LEN];
            block[..text.len()].copy_from_slice(text.as_bytes());
            assert!(LeadingMap::default().feed(&block).is_err(), "{text:?}");
        }
    }
}
