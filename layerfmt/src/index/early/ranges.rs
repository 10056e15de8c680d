//! Some rows of a table, as ascending ranges.

use std::ops::Range;

/// Ranges of rows that neither overlap nor touch. The rows have places, which count from 0.
#[derive(Debug, Clone)]
pub(super) struct RowRanges {
    /// The first row of each range.
    starts: Vec<u32>,
    /// The place of each first row, then the number of rows.
    places: Vec<u32>,
}

impl RowRanges {
    /// Ranges without a row.
    pub(super) const fn none() -> RowRanges {
        RowRanges {
            starts: Vec::new(),
            places: Vec::new(),
        }
    }

    /// All `rows` rows.
    pub(super) fn all(rows: u32) -> RowRanges {
        RowRanges {
            starts: vec![0],
            places: vec![0, rows],
        }
    }

    /// Ranges of these starts and lengths, in a table of `rows` rows; `None` if they are out of
    /// order, touch, are empty or end beyond the table.
    pub(super) fn new(ranges: impl Iterator<Item = (u32, u32)>, rows: u32) -> Option<RowRanges> {
        let mut made = RowRanges::none();
        let (mut end, mut place) = (None::<u32>, 0);
        for (start, len) in ranges {
            if len == 0 || end.is_some_and(|end| start <= end) {
                return None;
            }
            let after = start.checked_add(len).filter(|after| *after <= rows)?;
            made.starts.push(start);
            made.places.push(place);
            // Ascending ranges have no more rows than the table.
            place += len;
            end = Some(after);
        }
        made.places.push(place);
        Some(made)
    }

    /// Number of rows.
    pub(super) fn len(&self) -> u32 {
        self.places.last().copied().unwrap_or(0)
    }

    /// The range with this number.
    fn range(&self, number: usize) -> Option<(Range<u32>, u32)> {
        let start = *self.starts.get(number)?;
        let place = *self.places.get(number)?;
        let len = self.places.get(number + 1)?.checked_sub(place)?;
        Some((start..start + len, place))
    }

    /// The number of the range with `row`.
    pub(super) fn number(&self, row: u32) -> Option<usize> {
        let after = self.starts.partition_point(|start| *start <= row);
        let number = after.checked_sub(1)?;
        self.range(number)?.0.contains(&row).then_some(number)
    }

    /// The first row of the range with this number.
    pub(super) fn start(&self, number: usize) -> Option<u32> {
        self.starts.get(number).copied()
    }

    /// The place of `row`, if it is one of these.
    pub(super) fn place(&self, row: u32) -> Option<u32> {
        let (range, place) = self.range(self.number(row)?)?;
        Some(place + (row - range.start))
    }

    /// True if all of `rows` are here.
    pub(super) fn hold(&self, rows: Range<u32>) -> bool {
        let number = |row| self.number(row);
        rows.is_empty() || number(rows.start).is_some_and(|at| number(rows.end - 1) == Some(at))
    }

    /// The ranges, each with the place of its first row.
    pub(super) fn ranges(&self) -> impl ExactSizeIterator<Item = (Range<u32>, u32)> {
        let ranges = 0..self.starts.len();
        ranges.map(|number| self.range(number).unwrap_or_default())
    }

    /// All rows and their places.
    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, u32)> {
        self.ranges().flat_map(|(range, place)| range.zip(place..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_their_places_and_others_have_none() {
        let ranges = [(2, 3), (6, 1), (9, 2)];
        let rows = RowRanges::new(ranges.into_iter(), 11).unwrap();
        let places = [None, None, Some(0), Some(1), Some(2), None, Some(3)];
        let rest = [None, None, Some(4), Some(5), None];
        let all = places.into_iter().chain(rest);
        for (row, place) in all.enumerate() {
            assert_eq!(rows.place(row as u32), place, "{row}");
        }
        assert_eq!(rows.len(), 6);
        assert!(rows.hold(2..5) && rows.hold(3..4) && rows.hold(100..100));
        assert!(!rows.hold(2..6) && !rows.hold(4..7) && !rows.hold(10..12));
        let listed: Vec<(u32, u32)> = rows.rows().collect();
        assert_eq!(listed, [(2, 0), (3, 1), (4, 2), (6, 3), (9, 4), (10, 5)]);
        assert_eq!(
            RowRanges::all(2).rows().collect::<Vec<_>>(),
            [(0, 0), (1, 1)]
        );
        assert_eq!(RowRanges::all(0).rows().count(), 0);
    }

    #[test]
    fn wrong_ranges_are_refused() {
        let wrong: [&[(u32, u32)]; 5] = [
            &[(0, 0)],
            &[(0, 11)],
            &[(u32::MAX, 2)],
            &[(4, 2), (6, 1)],
            &[(4, 2), (2, 1)],
        ];
        for ranges in wrong {
            let made = RowRanges::new(ranges.iter().copied(), 10);
            assert!(made.is_none(), "{ranges:?}");
        }
        assert_eq!(RowRanges::new(std::iter::empty(), 0).unwrap().len(), 0);
    }
}
