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
    let mut rounds = Rounds {
        index,
        objects,
        left: len_max,
        next: 0,
        missing: 0,
        before: None,
    };
    let mut quiet_min = QUIET_FIRST;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(source) = source.upgrade() else {
            return;
        };
        if source.fetcher.inner.queue().is_closed() {
            return;
        }
        let say = |text: String| source.words.prefetch.set(text);
        // Chunks that the update pack brings are not fetched.
        if source.is_updating() {
            say("waiting for the update pack".into());
            continue;
        }
        if source.fetcher.quiet_for() < quiet_min {
            say(format!("paused at {rounds}"));
            continue;
        }
        quiet_min = QUIET_MIN;
        if !rounds.request(&source) {
            return say("done: the cache is full".into());
        }
        let is_at_rest = source.fetcher.suggested() == 0 && source.caches.unwritten_len() == 0;
        match rounds.result().filter(|_| is_at_rest) {
            Some(RoundResult::Whole) => return say("done: everything is local".into()),
            Some(RoundResult::Lost(count)) => {
                return say(format!(
                    "done: {count} chunks could not be fetched or stored"
                ));
            }
            Some(RoundResult::Again) => rounds.begin(),
            None => say(format!("fetching: {rounds}")),
        }
    }
}

/// Passes over the chunks of an index.
struct Rounds {
    index: Arc<Index>,
    objects: Vec<Arc<Object>>,
    /// Room for stored bytes that the first round has not passed over.
    left: u64,
    /// The next chunk.
    next: u32,
    /// Chunks that were missing in this round so far.
    missing: u32,
    /// The same of the round before.
    before: Option<u32>,
}

/// The result of a round that is over.
enum RoundResult {
    /// No chunk was missing.
    Whole,
    /// So many were missing, as in the round before.
    Lost(u32),
    /// Some were missing, and may be here now.
    Again,
}

impl std::fmt::Display for Rounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "chunk {} of {}", self.next, self.index.chunk_count())
    }
}

impl Rounds {
    /// Requests the next chunks, as many as may be on their way; false if there is no room for one.
    fn request(&mut self, source: &RemoteSource) -> bool {
        let caches = &source.caches;
        let room = AHEAD_MAX.saturating_sub(source.fetcher.suggested());
        let mut ranges = Vec::new();
        let mut fits = true;
        while ranges.len() < room
            && self.next < self.index.chunk_count()
            && caches.unwritten_len() < UNWRITTEN_LEN_MAX
        {
            let chunk = self.index.chunk(self.next);
            self.next += 1;
            let wanted = chunk.and_then(|chunk| chunk_range(&self.objects, &chunk));
            let wanted = wanted.filter(|wanted| !wanted.object.optional);
            let Some(wanted) = wanted else { continue };
            // A further round fetches what the first one has counted. Chunks that are here take room too:
            // without them each mount of a large system would replace what the mounts before had fetched.
            if self.before.is_none() {
                let Some(left) = self.left.checked_sub(u64::from(wanted.len)) else {
                    fits = false;
                    break;
                };
                self.left = left;
            }
            if caches.keeps(&wanted) {
                continue;
            }
            self.missing += 1;
            if let Some(stored) = caches.cached(&wanted) {
                caches.put(&wanted, &stored);
                continue;
            }
            ranges.push(wanted);
        }
        source.fetcher.suggest(&ranges);
        fits
    }

    /// The result of this round, if it is over.
    fn result(&self) -> Option<RoundResult> {
        if self.next < self.index.chunk_count() {
            return None;
        }
        Some(match self.missing {
            0 => RoundResult::Whole,
            missing if self.before.is_some_and(|before| before <= missing) => {
                RoundResult::Lost(missing)
            }
            _ => RoundResult::Again,
        })
    }

    /// Begins the next round.
    fn begin(&mut self) {
        self.before = Some(self.missing);
        self.next = 0;
        self.missing = 0;
    }
}
