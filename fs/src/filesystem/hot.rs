//! The pages of the boot pack, read ahead of any request.

use super::LayerFs;
use super::data::Bytes;
use super::reply::{NodeId, lower_id};
use crate::fetch::hot::HotFile;
use crate::sys::Result;

/// Pages read at once at most: 1 MiB.
const PAGES_MAX: u32 = 256;

impl LayerFs {
    /// Gives `take` (file, offset, bytes) the pages that the boot pack has of its files from number `from` on,
    /// file by file as long as their bytes are on this machine; the number of the first file that is left. What
    /// the upper has instead, or what cannot be read, is passed over: its readers will ask.
    pub fn hot_pages(&self, from: usize, take: &mut dyn FnMut(NodeId, u64, &[u8])) -> usize {
        let files = self.lower.chunks.hot();
        let left = files.get(from..).unwrap_or_default();
        let done = left.iter().take_while(|file| {
            let near = self.is_near(file);
            if near {
                let _ = self.pages_of(file, take);
            }
            near
        });
        from.saturating_add(done.count())
    }

    fn is_near(&self, file: &HotFile) -> bool {
        file.parts(u32::MAX)
            .all(|(offset, len)| self.lower.is_near(file.row, offset, len))
    }

    fn pages_of(&self, file: &HotFile, take: &mut dyn FnMut(NodeId, u64, &[u8])) -> Result<()> {
        let id = lower_id(file.row);
        let mut data = Vec::new();
        for (offset, len) in file.parts(PAGES_MAX) {
            let Bytes::Lower { row, size } = self.bytes(id)? else {
                break;
            };
            self.lower.read(row, offset, len, size, &mut data)?;
            take(id, offset, &data);
        }
        Ok(())
    }
}
