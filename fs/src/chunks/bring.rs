//! Fetches chunks for requests that wait without a thread: each wait is a small value, which is
//! notified of its chunks.

mod wait;

use std::sync::Arc;

use layerfmt::{Chunk, Digest, Index};

use self::wait::{BringWait, KeptWait, Ticket, give_up_after};
use super::landing::{Landed, Landings, Suspicion};
use super::rebuild::Plain;
use super::remote::{CacheTiers, chunk_range};
use super::update::Update;
use crate::chunks::{Pending, SourceError, Then};
use crate::net::error::FetchError;
use crate::net::fetcher::Fetcher;
use crate::net::object::{ChunkRange, Object};

/// The parts needed to fetch chunks.
#[derive(Debug)]
pub(crate) struct Bringer {
    pub(crate) caches: Arc<CacheTiers>,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) landings: Landings,
    /// The objects of the index's layer table, in its order.
    pub(crate) objects: Vec<Arc<Object>>,
    pub(crate) plain: Option<Plain>,
    /// The index, if it points into a boot pack.
    pub(crate) packed: Option<Arc<Index>>,
    /// The update pack to this revision from one on this machine, if there is one.
    pub(crate) update: Option<Arc<Update>>,
}

/// Location of a chunk when the wait begins.
enum ChunkPlace {
    Held,
    Cached,
    Rebuilt,
    Update,
    Far,
}

impl Bringer {
    /// Gets `chunks`; see [`crate::chunks::ChunkSource::bring`].
    pub(crate) fn bring(self: &Arc<Self>, chunks: &[(u32, Chunk)], then: Then) -> Box<dyn Pending> {
        let wait = Arc::new(BringWait::new(Arc::clone(self), chunks.len() + 1, then));
        self.fetcher.inner.note_demand();
        let mut asked = false;
        for (id, chunk) in chunks {
            let Some(range) = chunk_range(&self.objects, chunk) else {
                wait.failed(*id, SourceError::NotBorrowed);
                break;
            };
            asked |= wait.begin(*id, chunk, &range);
        }
        if asked {
            self.fetcher.inner.wake.notify_one();
        }
        // The extra count prevents an end of the wait before all chunks are requested.
        wait.count_down();
        if let Some(timeout) = self.fetcher.timeout().filter(|_| asked) {
            let watched = give_up_after(Arc::downgrade(&wait), timeout);
            drop(self.fetcher.spawn(watched));
        }
        Box::new(KeptWait::new(wait))
    }

    fn forget(&self, tickets: &[Ticket]) {
        if tickets.is_empty() {
            return;
        }
        let mut queue = self.fetcher.inner.queue();
        for ticket in tickets {
            queue.forget(&ticket.digest, ticket.number);
        }
    }

    /// True if the chunk can be read without waiting.
    pub(crate) fn has(&self, range: &ChunkRange) -> bool {
        match self.landings.suspicion(&range.digest) {
            None => self.caches.knows(range) || self.landings.get(&range.digest).is_some(),
            Some(_) => self.landings.get(&range.digest).is_some(),
        }
    }

    /// Finds the chunk, and holds it if it is in memory.
    fn place(&self, range: &ChunkRange, held: &mut Vec<Digest>) -> ChunkPlace {
        if self.landings.join(&range.digest) {
            held.push(range.digest);
            return ChunkPlace::Held;
        }
        match self.landings.suspicion(&range.digest) {
            Some(Suspicion::Broken) => return ChunkPlace::Rebuilt,
            Some(Suspicion::Lost) => return ChunkPlace::Far,
            None => {}
        }
        if let Some(bytes) = self.caches.memory.get(&range.digest) {
            if self.landings.hold(&range.digest, Landed::Stored(bytes)) {
                held.push(range.digest);
            }
            return ChunkPlace::Held;
        }
        if self.caches.knows(range) {
            return ChunkPlace::Cached;
        }
        let update = self.update.as_ref();
        match update.is_some_and(|update| update.awaits(&range.digest)) {
            true => ChunkPlace::Update,
            false => ChunkPlace::Far,
        }
    }

    /// The decoded bytes of a boot pack's chunk, from the layers.
    async fn rebuilt(&self, id: u32, raw_len: u32) -> Result<Vec<u8>, String> {
        let (Some(plain), Some(packed)) = (&self.plain, &self.packed) else {
            return Err(String::from("it is unavailable and cannot be rebuilt"));
        };
        let inner = &self.fetcher.inner;
        tokio::select! {
            made = plain.rebuild(inner, &self.caches, packed, id, raw_len) => made,
            () = inner.until_closed() => Err(FetchError::Closed.to_string()),
        }
    }
}
