//! The pages of the boot pack, read ahead of any request.

use std::time::{Duration, Instant};

use super::LayerFs;
use super::data::Bytes;
use super::far::Stop;
use super::reply::{NodeId, lower_id};
use crate::chunks::hot::HotFile;

/// Pages read at once at most: 1 MiB.
const PAGES_MAX: u32 = 256;
/// Interval of the checks for new chunks.
const LOOK: Duration = Duration::from_millis(3);

impl LayerFs {
    /// Passes the pages of the boot pack to `take` (file, offset, bytes), file by file as they
    /// arrive, until none has arrived for `patience`; returns the number of files. Pages of files
    /// in the upper, and unreadable ones, are skipped: readers will request them.
    pub fn hot_pages(&self, patience: Duration, take: &mut dyn FnMut(NodeId, u64, &[u8])) -> usize {
        let files = self.lower().control.hot();
        let mut data = Vec::new();
        let mut since = Instant::now();
        let mut done = 0;
        while let Some(file) = files.get(done) {
            if self.is_file_near(file) {
                let _ = self.pages_of(file, &mut data, take);
                (done, since) = (done + 1, Instant::now());
            } else if since.elapsed() < patience {
                std::thread::sleep(LOOK);
            } else {
                break;
            }
        }
        done
    }

    fn is_file_near(&self, file: &HotFile) -> bool {
        let lower = self.lower();
        let row = lower.origins.here_row(file.row);
        file.parts(u32::MAX)
            .all(|(offset, len)| lower.is_local(row, offset, len, u64::MAX))
    }

    fn pages_of(
        &self,
        file: &HotFile,
        data: &mut Vec<u8>,
        take: &mut dyn FnMut(NodeId, u64, &[u8]),
    ) -> Result<(), Stop> {
        let id = lower_id(self.lower().origins.here_row(file.row));
        for (offset, len) in file.parts(PAGES_MAX) {
            let Bytes::Lower { row, size } = self.bytes(id)? else {
                break;
            };
            self.lower().read(row, offset, len, size, data)?;
            // Empty data past the end would make the file longer.
            if !data.is_empty() {
                take(id, offset, data);
            }
        }
        Ok(())
    }
}
