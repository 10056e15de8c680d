//! Releases memory of the daemon when it is idle.

use std::sync::Arc;
use std::time::Duration;

use crate::buffers::BufferPool;
use crate::filesystem::LayerFs;
use crate::metrics::Requests;
use crate::sys::process::return_memory;

/// Time without decoding after which decoded chunks are evicted, and interval of the checks.
const LOOK: Duration = Duration::from_secs(5);
/// Fewer requests than this between two checks count as idle.
const QUIET: u64 = 100;
/// After this number of requests the heap may have free pages to return.
const BUSY: u64 = 1000;

/// When nothing is decoded, frees the memory of decoded chunks and of replies. After many requests,
/// also returns the free pages of the heap.
pub(super) fn begin(fs: &Arc<LayerFs>, buffers: Arc<BufferPool>, requests: Arc<Requests>) {
    let fs = Arc::downgrade(fs);
    let started = std::thread::Builder::new()
        .name("idle".into())
        .spawn(move || {
            let mut decoded = 0;
            // Number of requests at the last check, and when memory was last returned: at the
            // first idle check, and again after many requests.
            let (mut before, mut returned, mut rested) = (0, 0, false);
            loop {
                std::thread::sleep(LOOK);
                let Some(fs) = fs.upgrade() else { return };
                let count = requests.count();
                let quiet = count - std::mem::replace(&mut before, count) < QUIET;
                let idle = fs.lower().chunks.forget_if_idle(&mut decoded);
                if idle {
                    fs.lower().control.idle();
                }
                if idle && (!rested || (quiet && count - returned >= BUSY)) {
                    returned = count;
                    buffers.clear();
                    return_memory();
                }
                rested = idle;
            }
        });
    if let Err(error) = started {
        tracing::warn!(%error, "decoded chunks stay in memory");
    }
}
