//! Fetches the rest of a system while no reader waits.

use std::sync::Arc;
use std::time::Duration;

use layerfmt::Index;

use crate::chunks::remote::{RemoteSource, chunk_range};
use crate::net::fetcher::{ChunkSink as _, QUIET_FIRST};
use crate::net::object::Object;

/// Chunks that may be on their way at once.
const AHEAD_MAX: usize = 32;
/// As [`QUIET_FIRST`], after the first quiet period.
const QUIET_MIN: Duration = Duration::from_secs(2);
/// Interval of the checks whether more may be requested.
const LOOK: Duration = Duration::from_millis(100);

/// Most bytes that wait for the disk while more are requested: what arrives when its queue is full
/// is not stored.
const UNWRITTEN_LEN_MAX: u64 = 4 << 20;

/// Fetches every chunk of `index` that is not stored, up to `len_max` stored bytes, in the order of
/// the index. What did not arrive, or was not stored, is fetched in a further round, for as long as
/// rounds bring something. Ends when all chunks are local or the mount closes.
pub(crate) async fn run(
    source: std::sync::Weak<RemoteSource>,
    index: Arc<Index>,
    objects: Vec<Arc<Object>>,
    len_max: u64,
) {
    let mut round = Round::default();
    let mut taken = 0u64;
    let mut quiet_min = QUIET_FIRST;
    let range = |row| {
        let range = chunk_range(&objects, &index.chunk(row)?)?;
        (!range.object.optional).then_some(range)
    };
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
            source.words.prefetch.set(format!(
                "paused at chunk {} of {}",
                round.next,
                index.chunk_count()
            ));
            continue;
        }
        quiet_min = QUIET_MIN;
        while fetcher.suggested() < AHEAD_MAX
            && round.next < index.chunk_count()
            && source.caches.unwritten_len() < UNWRITTEN_LEN_MAX
        {
            let wanted = range(round.next);
            round.next += 1;
            let Some(wanted) = wanted.filter(|wanted| !source.caches.keeps(wanted)) else {
                continue;
            };
            round.missing += 1;
            if let Some(stored) = source.caches.cached(&wanted) {
                source.caches.put(&wanted, &stored);
                continue;
            }
            // A further round fetches again what the first one has counted.
            if round.before.is_none() {
                taken += u64::from(wanted.len);
            }
            if taken > len_max {
                source.words.prefetch.set("done: the cache is full");
                return;
            }
            fetcher.suggest(&wanted);
        }
        let is_at_rest = fetcher.suggested() == 0 && source.caches.unwritten_len() == 0;
        if round.next >= index.chunk_count() && is_at_rest {
            if round.missing == 0 {
                source.words.prefetch.set("done: everything is local");
                return;
            }
            if round.before.is_some_and(|before| before <= round.missing) {
                source.words.prefetch.set(format!(
                    "done: {} chunks could not be fetched or stored",
                    round.missing
                ));
                return;
            }
            round = Round {
                before: Some(round.missing),
                ..Round::default()
            };
            continue;
        }
        source.words.prefetch.set(format!(
            "fetching: {} of {} chunks",
            round.next,
            index.chunk_count()
        ));
    }
}

/// One pass over the chunks.
#[derive(Default)]
struct Round {
    /// The next chunk.
    next: u32,
    /// Chunks that were missing so far.
    missing: u32,
    /// The same of the round before.
    before: Option<u32>,
}
