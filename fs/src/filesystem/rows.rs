//! The kernel's look-ups of lower objects, counted by row. There is room for more rows than a revision
//! has; memory is used only where rows were looked up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use layerfmt::Ino;

/// Rows counted in one piece of memory.
const BLOCK_ROWS: usize = 4096;

/// Counters of rows.
#[derive(Debug)]
pub(super) struct RowCounts {
    blocks: Box<[OnceLock<Box<[AtomicU32]>>]>,
}

impl RowCounts {
    /// For rows below `rows_max`.
    pub(super) fn new(rows_max: u32) -> RowCounts {
        let blocks = (rows_max as usize).div_ceil(BLOCK_ROWS);
        RowCounts {
            blocks: (0..blocks).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The counter of `row`.
    pub(super) fn get(&self, row: Ino) -> Option<&AtomicU32> {
        let block = self.blocks.get(row as usize / BLOCK_ROWS)?;
        let zeros = || (0..BLOCK_ROWS).map(|_| AtomicU32::new(0)).collect();
        block.get_or_init(zeros).get(row as usize % BLOCK_ROWS)
    }

    /// True if the kernel knows `row`.
    pub(super) fn is_known(&self, row: Ino) -> bool {
        let block = self.blocks.get(row as usize / BLOCK_ROWS);
        let counter = block
            .and_then(OnceLock::get)
            .and_then(|block| block.get(row as usize % BLOCK_ROWS));
        counter.is_some_and(|count| count.load(Ordering::Relaxed) > 0)
    }
}
