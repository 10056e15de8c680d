//! Fetches the rest of a system while no reader waits.

use std::sync::Arc;
use std::time::Duration;

use layerfmt::Index;

use crate::chunks::remote::{RemoteSource, chunk_range};
use crate::net::fetcher::QUIET_FIRST;
use crate::net::object::{ChunkRange, Object};

/// Chunks that may be on their way at once.
const AHEAD_MAX: usize = 32;
/// As [`QUIET_FIRST`], after the first quiet period.
const QUIET_MIN: Duration = Duration::from_secs(2);
/// Interval of the checks whether more may be requested.
const LOOK: Duration = Duration::from_millis(100);

/// Fetches every chunk of `index` that is not cached, up to `len_max` stored bytes, in the order of the index.
/// Ends when all chunks are local or the mount closes.
pub(crate) async fn run(
    source: std::sync::Weak<RemoteSource>,
    index: Arc<Index>,
    objects: Vec<Arc<Object>>,
    len_max: u64,
) {
    let mut next = 0;
    let mut taken = 0u64;
    let mut quiet_min = QUIET_FIRST;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(source) = source.upgrade() else {
            return;
        };
        if source.fetcher.inner.queue().is_closed() {
            return;
        }
        let fetcher = &source.fetcher;
        // Chunks that the update pack brings are not fetched.
        if source.is_updating() {
            source.words.prefetch.set("waiting for the update pack");
            continue;
        }
        if fetcher.quiet_for() < quiet_min {
            source
                .words
                .prefetch
                .set(format!("paused at chunk {next} of {}", index.chunk_count()));
            continue;
        }
        quiet_min = QUIET_MIN;
        while fetcher.suggested() < AHEAD_MAX && next < index.chunk_count() {
            let wanted = index
                .chunk(next)
                .and_then(|chunk| chunk_range(&objects, &chunk));
            next += 1;
            let Some(wanted) = wanted.filter(|wanted: &ChunkRange| {
                !wanted.object.optional && !source.caches.knows(wanted)
            }) else {
                continue;
            };
            taken += u64::from(wanted.len);
            if taken > len_max {
                source.words.prefetch.set("done: the cache is full");
                return;
            }
            fetcher.suggest(&wanted);
        }
        if next >= index.chunk_count() && fetcher.suggested() == 0 {
            source.words.prefetch.set("done: everything is local");
            return;
        }
        source.words.prefetch.set(format!(
            "fetching: {next} of {} chunks",
            index.chunk_count()
        ));
    }
}
