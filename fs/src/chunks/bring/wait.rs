//! One wait: a small value that is notified of each chunk. Dropping it ends the wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use layerfmt::{Chunk, Digest};
use tokio::task::AbortHandle;

use super::super::landing::Landed;
use super::super::remote::chunk_range;
use super::{Bringer, ChunkPlace};
use crate::chunks::{Pending, SourceError, Then, Unavailable};
use crate::net::error::FetchError;
use crate::net::object::ChunkRange;
use crate::net::queue::{OnOutcome, Outcome};
use crate::net::status::Counters;

/// A wait for some chunks.
pub(super) struct BringWait {
    bringer: Arc<Bringer>,
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

/// A requested chunk.
pub(super) struct Ticket {
    chunk: u32,
    pub(super) digest: Digest,
    pub(super) number: u64,
}

/// Holds a wait; dropping it ends the wait and releases the received data.
pub(super) struct KeptWait(Arc<BringWait>);

impl KeptWait {
    pub(super) fn new(wait: Arc<BringWait>) -> KeptWait {
        KeptWait(wait)
    }
}

impl Pending for KeptWait {}

impl Drop for KeptWait {
    fn drop(&mut self) {
        let (tickets, rebuilds, then) = {
            let mut state = self.0.lock();
            let is_complete = state.left == 0;
            let tickets = std::mem::take(&mut state.tickets);
            (
                if is_complete { Vec::new() } else { tickets },
                std::mem::take(&mut state.rebuilds),
                state.then.take(),
            )
        };
        rebuilds.iter().for_each(AbortHandle::abort);
        self.0.bringer.forget(&tickets);
        drop(then);
    }
}

impl Drop for BringWait {
    fn drop(&mut self) {
        let held = std::mem::take(&mut self.lock().held);
        self.bringer.landings.release(&held);
    }
}

impl BringWait {
    /// A wait for `count` chunks.
    pub(super) fn new(bringer: Arc<Bringer>, count: usize, then: Then) -> BringWait {
        BringWait {
            bringer,
            state: Mutex::new(WaitState {
                left: count,
                then: Some(then),
                last: Instant::now(),
                held: Vec::new(),
                tickets: Vec::new(),
                rebuilds: Vec::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, WaitState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait for one chunk; returns true if it was requested.
    pub(super) fn begin(self: &Arc<Self>, id: u32, chunk: &Chunk, range: &ChunkRange) -> bool {
        let inner = &self.bringer.fetcher.inner;
        let (refused, place) = {
            // Under the queue's lock: data that arrives meanwhile is either local or pending.
            let mut queue = inner.queue();
            let mut held = Vec::new();
            let mut refused = None;
            let place = self.bringer.place(range, &mut held);
            let mut state = self.lock();
            state.held.append(&mut held);
            if let ChunkPlace::Far = place {
                if state.then.is_none() {
                    return false;
                }
                if self.bringer.landings.is_refused(&range.digest) {
                    let timeout = self.bringer.fetcher.timeout().unwrap_or_default();
                    let error = Arc::new(FetchError::GaveUp(timeout));
                    let notifier = self.notifier(id, chunk, range);
                    refused = Some((notifier, error));
                } else {
                    match queue.want(range, self.notifier(id, chunk, range)) {
                        Ok(number) => state.tickets.push(Ticket {
                            chunk: id,
                            digest: range.digest,
                            number,
                        }),
                        Err(notifier) => refused = Some((notifier, Arc::new(FetchError::Closed))),
                    }
                }
            }
            (refused, place)
        };
        if let Some((notifier, error)) = refused {
            notifier(Err(error));
            return false;
        }
        match place {
            ChunkPlace::Held | ChunkPlace::Cached => self.count_down(),
            ChunkPlace::Rebuilt => self.rebuild(id, chunk, range, "its bytes do not decode"),
            ChunkPlace::Update => {
                self.by_update(id, chunk, range);
                return true;
            }
            ChunkPlace::Far => return true,
        }
        false
    }

    /// The update pack makes the chunk; if that fails, the chunk is requested.
    fn by_update(self: &Arc<Self>, id: u32, chunk: &Chunk, range: &ChunkRange) {
        let Some(update) = self.bringer.update.clone() else {
            return self.want(id, chunk, range);
        };
        let inner = Arc::clone(&self.bringer.fetcher.inner);
        let (wait, chunk, range) = (Arc::downgrade(self), *chunk, range.clone());
        let task = self.bringer.fetcher.spawn(async move {
            let raw = tokio::select! {
                raw = update.obtain(&inner, range.digest, false) => raw,
                () = inner.until_closed() => None,
            };
            let Some(wait) = Weak::upgrade(&wait) else {
                return;
            };
            match raw {
                Some(raw) => {
                    let landed = Landed::Decoded(Arc::new(raw.to_vec()));
                    wait.arrived(&range.digest, landed);
                }
                None => wait.want(id, &chunk, &range),
            }
        });
        match task {
            Some(task) => self.lock().rebuilds.push(task),
            None => self.failed(id, SourceError::Far),
        }
    }

    /// Requests a chunk.
    fn want(self: &Arc<Self>, id: u32, chunk: &Chunk, range: &ChunkRange) {
        let inner = &self.bringer.fetcher.inner;
        let refused = {
            let mut queue = inner.queue();
            let mut state = self.lock();
            if state.then.is_none() {
                return;
            }
            match queue.want(range, self.notifier(id, chunk, range)) {
                Ok(number) => {
                    state.tickets.push(Ticket {
                        chunk: id,
                        digest: range.digest,
                        number,
                    });
                    None
                }
                Err(notifier) => Some(notifier),
            }
        };
        match refused {
            Some(notifier) => notifier(Err(Arc::new(FetchError::Closed))),
            None => inner.wake.notify_one(),
        }
    }

    fn notifier(self: &Arc<Self>, id: u32, chunk: &Chunk, range: &ChunkRange) -> OnOutcome {
        let (wait, chunk) = (Arc::clone(self), *chunk);
        let digest = range.digest;
        Box::new(move |outcome| wait.complete(id, &chunk, &digest, outcome))
    }

    /// Takes the outcome of one request.
    fn complete(self: &Arc<Self>, id: u32, chunk: &Chunk, digest: &Digest, outcome: Outcome) {
        self.bringer.fetcher.inner.note_demand();
        match outcome {
            Ok(bytes) => self.arrived(digest, Landed::Stored(bytes)),
            Err(error) => {
                let Some(range) = chunk_range(&self.bringer.objects, chunk) else {
                    return self.failed(id, SourceError::NotBorrowed);
                };
                let is_final = matches!(*error, FetchError::Closed | FetchError::GaveUp(_));
                if range.object.optional && !is_final {
                    return self.rebuild(id, chunk, &range, &error.to_string());
                }
                self.failed(
                    id,
                    SourceError::Unreadable {
                        layer: range.object.path.clone(),
                        source: error.into(),
                    },
                );
            }
        }
    }

    /// Holds a received chunk.
    fn arrived(&self, digest: &Digest, landed: Landed) {
        let held = self.bringer.landings.hold(digest, landed);
        if held {
            self.lock().held.push(*digest);
        }
        self.count_down();
    }

    /// Counts one chunk as local; the last one ends the wait.
    pub(super) fn count_down(&self) {
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

    /// Ends the wait with an error.
    pub(super) fn failed(&self, id: u32, error: SourceError) {
        let then = self.lock().then.take();
        if let Some(then) = then {
            then(Err(Unavailable { chunk: id, error }));
        }
    }

    /// Makes the boot pack's chunk from the layers.
    fn rebuild(self: &Arc<Self>, id: u32, chunk: &Chunk, range: &ChunkRange, why: &str) {
        let bringer = Arc::clone(&self.bringer);
        let (wait, raw_len, digest) = (Arc::downgrade(self), chunk.raw_len, range.digest);
        tracing::warn!(
            chunk = id,
            why,
            "the boot pack's chunk is unavailable: it is rebuilt from the layers"
        );
        Counters::add(&bringer.fetcher.inner.counters.rebuilt, 1);
        let task = self.bringer.fetcher.spawn(async move {
            let made = bringer.rebuilt(id, raw_len).await;
            let Some(wait) = Weak::upgrade(&wait) else {
                return;
            };
            match made {
                Ok(bytes) => wait.arrived(&digest, Landed::Decoded(Arc::new(bytes))),
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

/// Ends a wait without data for `timeout`.
pub(super) async fn give_up_after(wait: Weak<BringWait>, timeout: Duration) {
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
        wait.bringer.landings.refuse(digests);
        wait.bringer.forget(&tickets);
        return then(Err(Unavailable {
            chunk: tickets.first().map_or(0, |ticket| ticket.chunk),
            error: SourceError::Unreadable {
                layer: String::from("of a server"),
                source: FetchError::GaveUp(timeout).into(),
            },
        }));
    }
}
