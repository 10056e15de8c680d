//! The values that are checked, in both forms of the tables.

use crate::index::tables::IndexTables;
use crate::layout::columns::{Area, Column, Columns};

/// The values to check.
pub(super) trait Values<'i>: Copy {
    /// The first values of a column, as many as it has rows.
    fn column(self, column: Column, rows: u32) -> impl Iterator<Item = u32> + use<'i, Self>;
    fn value(self, column: Column, row: u32) -> u32;
    fn area(self, area: Area) -> &'i [u8];
}

/// Values as they are in the file.
#[derive(Clone, Copy)]
pub(super) struct Raw<'i> {
    raw: &'i [u8],
    columns: &'i Columns,
}

impl<'i> Raw<'i> {
    /// The section `raw`.
    pub(super) fn new(raw: &'i [u8], columns: &'i Columns) -> Raw<'i> {
        Raw { raw, columns }
    }
}

impl<'i> Values<'i> for Raw<'i> {
    fn column(self, column: Column, rows: u32) -> impl Iterator<Item = u32> + use<'i> {
        let start = self.columns.start(column);
        let bytes = self.raw.get(start..start + rows as usize * 4);
        let words = bytes.unwrap_or_default().as_chunks().0;
        words.iter().map(|word| u32::from_le_bytes(*word))
    }

    fn value(self, column: Column, row: u32) -> u32 {
        let at = self.columns.start(column) + row as usize * 4;
        self.raw
            .get(at..at + 4)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u32::from_le_bytes)
    }

    fn area(self, area: Area) -> &'i [u8] {
        self.raw.get(self.columns.area(area)).unwrap_or_default()
    }
}

impl<'i> Values<'i> for &'i IndexTables {
    fn column(self, column: Column, rows: u32) -> impl Iterator<Item = u32> + use<'i> {
        (0..rows).map(move |row| IndexTables::value(self, column, row))
    }

    fn value(self, column: Column, row: u32) -> u32 {
        IndexTables::value(self, column, row)
    }

    fn area(self, area: Area) -> &'i [u8] {
        IndexTables::area(self, area)
    }
}
