//! Fetches chunks for requests that wait without a thread: each wait is a small value that is
//! notified of its pieces.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use layerfmt::{Chunk, Digest, Index};
use tokio::task::AbortHandle;

use super::landing::{Landed, Landings, Suspicion};
use super::rebuild::Plain;
use super::remote::{CacheTiers, chunk_range};
use super::update::Update;
use crate::chunks::{Pending, SourceError, Then, Unavailable};
use crate::net::error::FetchError;
use crate::net::fetcher::Fetcher;
use crate::net::object::{ChunkRange, Object};
use crate::net::queue::{OnOutcome, Outcome};
use crate::net::status::Counters;

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
    /// The update pack, if one leads to the revision from what is on this machine.
    pub(crate) update: Option<Arc<Update>>,
}

/// A wait for some chunks.
struct BringWait {
    way: Arc<Bringer>,
    state: Mutex<WaitState>,
}

struct WaitState {
    left: usize,
    then: Option<Then>,
    /// Time of the last received data, or of the start of the wait.
    last: Instant,
    /// The chunks held for this wait.
    held: Vec<Digest>,
    /// The requests, with their tickets.
    tickets: Vec<Ticket>,
    rebuilds: Vec<AbortHandle>,
}

/// A requested piece.
struct Ticket {
    chunk: u32,
    digest: Digest,
    number: u64,
}

/// Holds a wait; dropping it ends the wait and releases the received data.
struct KeptWait(Arc<BringWait>);

impl Pending for KeptWait {}

impl Drop for KeptWait {
    fn drop(&mut self) {
        let (tickets, rebuilds, then) = {
            let mut state = self.0.lock();
            let all_came = state.left == 0;
            let tickets = std::mem::take(&mut state.tickets);
            (
                if all_came { Vec::new() } else { tickets },
                std::mem::take(&mut state.rebuilds),
                state.then.take(),
            )
        };
        rebuilds.iter().for_each(AbortHandle::abort);
        self.0.way.forget(&tickets);
        drop(then);
    }
}

impl Drop for BringWait {
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.lock().held);
        self.way.landings.release(&held);
    }
}

/// Location of a piece when the wait begins.
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
        let wait = Arc::new(BringWait {
            way: Arc::clone(self),
            state: Mutex::new(WaitState {
                left: chunks.len() + 1,
                then: Some(then),
                last: Instant::now(),
                held: Vec::new(),
                tickets: Vec::new(),
                rebuilds: Vec::new(),
            }),
        });
        self.fetcher.inner.note_demand();
        let mut asked = false;
        for (id, chunk) in chunks {
            let Some(piece) = chunk_range(&self.objects, chunk) else {
                wait.failed(*id, SourceError::NotBorrowed);
                break;
            };
            asked |= wait.begin(*id, chunk, &piece);
        }
        if asked {
            self.fetcher.inner.wake.notify_one();
        }
        // The guard that kept it from ending while it began.
        wait.one_less();
        if let Some(timeout) = self.fetcher.timeout().filter(|_| asked) {
            let watched = give_up_after(Arc::downgrade(&wait), timeout);
            drop(self.fetcher.spawn(watched));
        }
        Box::new(KeptWait(wait))
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

    /// True if the piece can be read without waiting.
    pub(crate) fn has(&self, piece: &ChunkRange) -> bool {
        match self.landings.suspicion(&piece.digest) {
            None => self.caches.knows(piece) || self.landings.get(&piece.digest).is_some(),
            Some(_) => self.landings.get(&piece.digest).is_some(),
        }
    }

    /// Finds the piece, and holds it if it is in memory.
    fn place(&self, piece: &ChunkRange, held: &mut Vec<Digest>) -> ChunkPlace {
        if self.landings.join(&piece.digest) {
            held.push(piece.digest);
            return ChunkPlace::Held;
        }
        match self.landings.suspicion(&piece.digest) {
            Some(Suspicion::Broken) => return ChunkPlace::Rebuilt,
            Some(Suspicion::Lost) => return ChunkPlace::Far,
            None => {}
        }
        if let Some(bytes) = self.caches.memory.get(&piece.digest) {
            if self.landings.hold(&piece.digest, Landed::Stored(bytes)) {
                held.push(piece.digest);
            }
            return ChunkPlace::Held;
        }
        if self.caches.knows(piece) {
            return ChunkPlace::Cached;
        }
        let update = self.update.as_ref();
        match update.is_some_and(|update| update.awaits(&piece.digest)) {
            true => ChunkPlace::Update,
            false => ChunkPlace::Far,
        }
    }
}

impl BringWait {
    fn lock(&self) -> MutexGuard<'_, WaitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait for one chunk; returns true if it was requested.
    fn begin(self: &Arc<Self>, id: u32, chunk: &Chunk, piece: &ChunkRange) -> bool {
        let inner = &self.way.fetcher.inner;
        let (refused, place) = {
            // Under the queue's lock: data that arrives meanwhile is either local or pending.
            let mut queue = inner.queue();
            let mut held = Vec::new();
            let mut refused = None;
            let place = self.way.place(piece, &mut held);
            let mut state = self.lock();
            state.held.append(&mut held);
            if let ChunkPlace::Far = place {
                if state.then.is_none() {
                    return false;
                }
                if self.way.landings.is_refused(&piece.digest) {
                    let timeout = self.way.fetcher.timeout().unwrap_or_default();
                    let error = Arc::new(FetchError::GaveUp(timeout));
                    let tell = self.tell(id, chunk, piece);
                    refused = Some((tell, error));
                } else {
                    match queue.want(piece, self.tell(id, chunk, piece)) {
                        Ok(number) => state.tickets.push(Ticket {
                            chunk: id,
                            digest: piece.digest,
                            number,
                        }),
                        Err(tell) => refused = Some((tell, Arc::new(FetchError::Closed))),
                    }
                }
            }
            (refused, place)
        };
        if let Some((tell, error)) = refused {
            tell(Err(error));
            return false;
        }
        match place {
            ChunkPlace::Held | ChunkPlace::Cached => self.one_less(),
            ChunkPlace::Rebuilt => self.rebuild(id, chunk, piece, "its bytes do not decode"),
            ChunkPlace::Update => {
                self.by_update(id, chunk, piece);
                return true;
            }
            ChunkPlace::Far => return true,
        }
        false
    }

    /// The chunk is made by the update pack; if that fails, it is asked for.
    fn by_update(self: &Arc<Self>, id: u32, chunk: &Chunk, piece: &ChunkRange) {
        let Some(update) = self.way.update.clone() else {
            return self.want(id, chunk, piece);
        };
        let inner = Arc::clone(&self.way.fetcher.inner);
        let (wait, chunk, piece) = (Arc::downgrade(self), *chunk, piece.clone());
        let task = self.way.fetcher.spawn(async move {
            let raw = tokio::select! {
                raw = update.obtain(&inner, piece.digest) => raw,
                () = inner.until_closed() => None,
            };
            let Some(wait) = Weak::upgrade(&wait) else {
                return;
            };
            match raw {
                Some(raw) => {
                    let landed = Landed::Decoded(Arc::new(raw.to_vec()));
                    wait.came(&piece.digest, landed);
                }
                None => wait.want(id, &chunk, &piece),
            }
        });
        match task {
            Some(task) => self.lock().rebuilds.push(task),
            None => self.failed(id, SourceError::Far),
        }
    }

    /// Asks for a piece.
    fn want(self: &Arc<Self>, id: u32, chunk: &Chunk, piece: &ChunkRange) {
        let inner = &self.way.fetcher.inner;
        let refused = {
            let mut queue = inner.queue();
            let mut state = self.lock();
            if state.then.is_none() {
                return;
            }
            match queue.want(piece, self.tell(id, chunk, piece)) {
                Ok(number) => {
                    state.tickets.push(Ticket {
                        chunk: id,
                        digest: piece.digest,
                        number,
                    });
                    None
                }
                Err(tell) => Some(tell),
            }
        };
        match refused {
            Some(tell) => tell(Err(Arc::new(FetchError::Closed))),
            None => inner.wake.notify_one(),
        }
    }

    fn tell(self: &Arc<Self>, id: u32, chunk: &Chunk, piece: &ChunkRange) -> OnOutcome {
        let (wait, chunk) = (Arc::clone(self), *chunk);
        let digest = piece.digest;
        Box::new(move |outcome| wait.told(id, &chunk, &digest, outcome))
    }

    /// One piece has ended.
    fn told(self: &Arc<Self>, id: u32, chunk: &Chunk, digest: &Digest, outcome: Outcome) {
        self.way.fetcher.inner.note_demand();
        match outcome {
            Ok(bytes) => self.came(digest, Landed::Stored(bytes)),
            Err(error) => {
                let Some(piece) = chunk_range(&self.way.objects, chunk) else {
                    return self.failed(id, SourceError::NotBorrowed);
                };
                let final_word = matches!(*error, FetchError::Closed | FetchError::GaveUp(_));
                if piece.object.optional && !final_word {
                    return self.rebuild(id, chunk, &piece, &error.to_string());
                }
                self.failed(
                    id,
                    SourceError::Unreadable {
                        layer: piece.object.path.clone(),
                        source: error.into(),
                    },
                );
            }
        }
    }

    fn came(&self, digest: &Digest, landed: Landed) {
        let held = self.way.landings.hold(digest, landed);
        if held {
            self.lock().held.push(*digest);
        }
        self.one_less();
    }

    fn one_less(&self) {
        let then = {
            let mut state = self.lock();
            state.last = Instant::now();
            state.left = state.left.saturating_sub(1);
            match state.left {
                0 => state.then.take(),
                _ => None,
            }
        };
        if let Some(then) = then {
            then(Ok(()));
        }
    }

    fn failed(&self, id: u32, error: SourceError) {
        let then = self.lock().then.take();
        if let Some(then) = then {
            then(Err(Unavailable { chunk: id, error }));
        }
    }

    /// The boot pack's chunk is made from the layers it was packed from.
    fn rebuild(self: &Arc<Self>, id: u32, chunk: &Chunk, piece: &ChunkRange, why: &str) {
        let way = Arc::clone(&self.way);
        let (wait, raw_len, digest) = (Arc::downgrade(self), chunk.raw_len, piece.digest);
        tracing::warn!(
            chunk = id,
            why,
            "the boot pack's chunk cannot be had: rebuilt from the layers"
        );
        Counters::add(&way.fetcher.inner.counters.rebuilt, 1);
        let task = self.way.fetcher.spawn(async move {
            let made = way.rebuilt(id, raw_len).await;
            let Some(wait) = Weak::upgrade(&wait) else {
                return;
            };
            match made {
                Ok(bytes) => wait.came(&digest, Landed::Decoded(Arc::new(bytes))),
                Err(reason) => wait.failed(
                    id,
                    SourceError::Unreadable {
                        layer: String::from("boot pack"),
                        source: reason.into(),
                    },
                ),
            }
        });
        match task {
            Some(task) => self.lock().rebuilds.push(task),
            None => self.failed(id, SourceError::Far),
        }
    }
}

impl Bringer {
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

/// Ends a wait without data for `timeout`.
async fn give_up_after(wait: Weak<BringWait>, timeout: Duration) {
    loop {
        let Some(until) = wait.upgrade().and_then(|wait| {
            let state = wait.lock();
            state.then.as_ref().map(|_| state.last + timeout)
        }) else {
            return;
        };
        tokio::time::sleep_until(until.into()).await;
        let Some(wait) = wait.upgrade() else { return };
        let (tickets, then) = {
            let mut state = wait.lock();
            if state.last + timeout > Instant::now() {
                continue;
            }
            (std::mem::take(&mut state.tickets), state.then.take())
        };
        let Some(then) = then else { return };
        let digests = tickets.iter().map(|ticket| ticket.digest);
        wait.way.landings.refuse(digests);
        wait.way.forget(&tickets);
        return then(Err(Unavailable {
            chunk: tickets.first().map_or(0, |ticket| ticket.chunk),
            error: SourceError::Unreadable {
                layer: String::from("of a server"),
                source: FetchError::GaveUp(timeout).into(),
            },
        }));
    }
}
