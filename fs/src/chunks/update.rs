//! Update packs: the new chunks of a revision, made from those of an older one on this machine.
//!
//! [`begin()`] asks for the pack and reads its head and index; [`stream`] brings its units in order;
//! [`Update::obtain`] gives one chunk to somebody who waits for it. A unit that cannot be applied
//! (an old chunk is missing, evicted or damaged) is given up, and its chunks are fetched as if there
//! were no pack. The chunks that a pack makes are cached under the digest of their raw bytes.

mod begin;
mod stream;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use layerfmt::update::UpdatePlan;
use layerfmt::{Digest, ErrorKind, FormatError, Index};
use tokio::sync::watch;

use super::remote::{CacheTiers, chunk_range};
use crate::net::error::FetchError;
use crate::net::fetcher::{Fetcher, FetcherShared, fetch};
use crate::net::object::{ChunkRange, Object};
use crate::net::status::UpdateStatus;
use crate::store::backup::fill::Remade;

pub(crate) use begin::{Asked, MadeIndex, Refused, Signers, begin, index_delta};
pub(crate) use stream::UpdateStream;

/// A revision of which chunks may be on this machine.
#[derive(Debug)]
pub(crate) struct Old {
    /// Its number.
    pub(crate) revision: u64,
    /// Its merged index.
    pub(crate) index: Arc<Index>,
    /// Digest of the index file.
    pub(crate) digest: Digest,
    /// The objects of its layer table.
    pub(crate) objects: Vec<Arc<Object>>,
}

/// Decoded old chunks that are kept between units, bytes.
const DECODED_LEN_MAX: usize = 4 << 20;

/// A reader waits for the stream, instead of sending a request of its own, if at most this many bytes come
/// before its unit.
const AHEAD_LEN_MAX: u64 = 128 << 10;

/// Counts a reader that waits for the stream.
struct Awaited<'c>(&'c AtomicUsize);

impl<'c> Awaited<'c> {
    fn new(count: &'c AtomicUsize) -> Awaited<'c> {
        count.fetch_add(1, Ordering::AcqRel);
        Awaited(count)
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Progress of one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Applied,
    GivenUp,
}

/// The old chunks decoded last.
#[derive(Debug, Default)]
struct OldChunks {
    chunks: HashMap<u32, Arc<[u8]>>,
    len: usize,
}

/// An update pack in use.
#[derive(Debug)]
pub(crate) struct Update {
    caches: Arc<CacheTiers>,
    object: Arc<Object>,
    /// Where the frames begin in the file.
    frames_at: u64,
    old: Old,
    plan: UpdatePlan,
    /// Stored length of the chunks of each unit.
    plain_lens: Vec<u64>,
    states: Mutex<Vec<State>>,
    decoded: Mutex<OldChunks>,
    /// The stream still brings units.
    streaming: AtomicBool,
    /// The stream waits for the end of the boot.
    paused: AtomicBool,
    /// The unit that the stream brings next.
    next: AtomicU32,
    /// Readers that wait for the stream.
    awaited: AtomicUsize,
    bytes: AtomicU64,
    plain_bytes: AtomicU64,
    changed: watch::Sender<()>,
}

impl Update {
    /// `index_bytes`: the bytes received so far, and the bytes that the index takes without the pack.
    pub(crate) fn new(
        caches: Arc<CacheTiers>,
        asked: &Asked,
        old: Old,
        plan: UpdatePlan,
        new: &Index,
        index_plain: u64,
    ) -> Update {
        let lens: HashMap<Digest, u32> = new
            .chunks()
            .map(|chunk| (chunk.digest, chunk.stored_len))
            .collect();
        let plain_len = |row| {
            let made = plan.unit(row).map_or(&[][..], |(unit, _)| &unit.made);
            let lens = made.iter().filter_map(|made| lens.get(&made.digest));
            lens.map(|len| u64::from(*len)).sum()
        };
        let plain_lens: Vec<u64> = (0..plan.len()).map(plain_len).collect();
        // Of an update that an earlier mount began.
        let state = |row| match plan.unit(row) {
            Some((unit, _)) if unit.made.iter().all(|made| caches.has_made(made)) => State::Applied,
            _ => State::Waiting,
        };
        let states = (0..plan.len()).map(state).collect();
        Update {
            caches,
            object: Arc::clone(&asked.object),
            frames_at: asked.frames_at,
            old,
            states: Mutex::new(states),
            plain_lens,
            plan,
            decoded: Mutex::default(),
            streaming: AtomicBool::new(true),
            paused: AtomicBool::new(false),
            next: AtomicU32::new(0),
            awaited: AtomicUsize::new(0),
            bytes: AtomicU64::new(asked.received),
            plain_bytes: AtomicU64::new(index_plain),
            changed: watch::Sender::new(()),
        }
    }

    fn states(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if every chunk that was made is on the disk.
    pub(crate) fn is_on_disk(&self) -> bool {
        (0..self.plan.len())
            .filter(|row| self.is_applied(*row))
            .filter_map(|row| self.plan.unit(row))
            .flat_map(|(unit, _)| &unit.made)
            .all(|made| self.caches.has_made(made))
    }

    fn is_applied(&self, row: u32) -> bool {
        self.state(row) == State::Applied
    }

    fn state(&self, row: u32) -> State {
        let state = self.states().get(row as usize).copied();
        state.unwrap_or(State::GivenUp)
    }

    fn set(&self, row: u32, state: State) {
        if let Some(slot) = self.states().get_mut(row as usize) {
            // Two threads may have applied the same unit: it counts once.
            if *slot != State::Applied {
                *slot = state;
                if state == State::Applied {
                    let plain_len = self.plain_lens.get(row as usize).copied();
                    self.plain_bytes
                        .fetch_add(plain_len.unwrap_or(0), Ordering::Relaxed);
                }
            }
        }
        self.changed.send_replace(());
    }

    /// True if the stream brings unit `row` within a round trip or so.
    fn comes_soon(&self, row: u32) -> bool {
        if !self.is_streaming() || self.paused.load(Ordering::Acquire) {
            return false;
        }
        let next = self.next.load(Ordering::Acquire);
        let offset = |row| self.plan.unit(row).map_or(0, |(_, offset)| offset);
        let ahead = offset(row).saturating_sub(offset(next));
        row < self.plan.hot_count() || (row >= next && ahead <= AHEAD_LEN_MAX)
    }

    /// True if the chunk called `digest` is still to come from the pack, and a reader gets it from there sooner
    /// than from a layer. False if it is in a unit that takes long to apply.
    pub(crate) fn awaits(&self, digest: &Digest) -> bool {
        let row = self.plan.maker(digest);
        row.is_some_and(|row| self.state(row) == State::Waiting && !self.is_costly(row))
    }

    fn is_costly(&self, row: u32) -> bool {
        let unit = self.plan.unit(row);
        unit.is_some_and(|(unit, _)| unit.is_costly())
    }

    /// True if the stream still brings units.
    pub(crate) fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Acquire)
    }

    /// Begins or ends a pause of the stream.
    fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Release);
        self.changed.send_replace(());
    }

    fn stream_over(&self) {
        self.streaming.store(false, Ordering::Release);
        self.changed.send_replace(());
        // Old chunks that were decoded for this unit are not needed any more.
        *self.decoded() = OldChunks::default();
    }

    fn decoded(&self) -> MutexGuard<'_, OldChunks> {
        self.decoded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The frame of unit `row` as a chunk of the pack.
    fn frame(&self, row: u32) -> Option<ChunkRange> {
        let (unit, offset) = self.plan.unit(row)?;
        Some(ChunkRange {
            object: Arc::clone(&self.object),
            offset: self.frames_at.saturating_add(offset),
            len: unit.stored_len,
            digest: unit.digest,
        })
    }

    /// The raw bytes of the chunk called `digest`, from the stream if it soon reaches the chunk's unit, else
    /// from a request for this unit. `None`: the pack does not give it, so the caller fetches it from a layer.
    /// A caller who `can_wait` sends no request while the stream brings units.
    pub(crate) async fn obtain(
        self: &Arc<Self>,
        inner: &FetcherShared,
        digest: Digest,
        can_wait: bool,
    ) -> Option<Bytes> {
        let row = self.plan.maker(&digest)?;
        let mut changes = self.changed.subscribe();
        loop {
            match self.state(row) {
                State::Applied => return self.caches.raw(&digest),
                State::GivenUp => return None,
                State::Waiting => {}
            }
            if can_wait && self.is_streaming() {
                changes.changed().await.ok()?;
                continue;
            }
            if self.comes_soon(row) {
                let _wait = inner.wait_begins();
                let _awaited = Awaited::new(&self.awaited);
                changes.changed().await.ok()?;
                continue;
            }
            let frame = self.frame(row)?;
            if can_wait {
                stream::until_unhurried(inner, u64::from(frame.len)).await;
            }
            let Ok(bytes) = fetch(inner, &frame).await else {
                self.set(row, State::GivenUp);
                return None;
            };
            self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.settle(row, bytes).await;
        }
    }

    /// Applies a frame on a thread that may compute; a costly one on a thread of low priority.
    async fn settle(self: &Arc<Self>, row: u32, frame: Bytes) {
        let update = Arc::clone(self);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let apply = move || {
            let _ = sender.send(update.apply(row, &frame));
        };
        if self.is_costly(row) {
            let thread = std::thread::Builder::new().name("layerfs-update".into());
            let started = thread.spawn(move || {
                lower_priority();
                apply();
            });
            if let Err(error) = started {
                tracing::info!(%error, "no thread to apply a unit of the update pack");
            }
        } else {
            drop(tokio::task::spawn_blocking(apply));
        }
        let state = match receiver.await {
            Ok(Ok(())) => State::Applied,
            Ok(Err(error)) => {
                tracing::info!(unit = row, %error, "a unit of the update pack cannot be applied: its chunks are fetched");
                State::GivenUp
            }
            Err(_) => State::GivenUp,
        };
        self.set(row, state);
    }

    fn apply(&self, row: u32, frame: &[u8]) -> Result<(), FormatError> {
        if self.state(row) == State::Applied {
            return Ok(());
        }
        let old = |chunk| self.old_chunk(chunk);
        self.plan.apply_each(row, frame, old, |made| {
            self.caches
                .keep_raw(made.raw_digest, &Bytes::from(made.raw));
        })
    }

    /// A chunk of the old revision, decoded, if it is on this machine.
    fn old_chunk(&self, row: u32) -> Result<Arc<[u8]>, FormatError> {
        if let Some(raw) = self.decoded().chunks.get(&row) {
            return Ok(Arc::clone(raw));
        }
        let missing = || {
            let what = "a chunk of the old revision is not on this machine";
            FormatError::new(ErrorKind::Io, "update pack", u64::from(row), what)
        };
        let chunk = self.old.index.chunk(row).ok_or_else(missing)?;
        let raw: Arc<[u8]> = match self.caches.raw(&chunk.digest) {
            Some(raw) => Arc::from(&raw[..]),
            None => {
                let range = chunk_range(&self.old.objects, &chunk).ok_or_else(missing)?;
                let stored = self.caches.stored(&range).ok_or_else(missing)?;
                let mut raw = Vec::new();
                layerfmt::decode_verified_chunk(&chunk, &stored, &mut raw)?;
                Arc::from(raw)
            }
        };
        let mut decoded = self.decoded();
        if decoded.len.saturating_add(raw.len()) > DECODED_LEN_MAX {
            *decoded = OldChunks::default();
        }
        decoded.len += raw.len();
        decoded.chunks.insert(row, Arc::clone(&raw));
        Ok(raw)
    }

    /// The counts so far.
    pub(crate) fn status(&self) -> UpdateStatus {
        let states = self.states();
        let count = |wanted| states.iter().filter(|state| **state == wanted).count();
        UpdateStatus {
            units: self.plan.len(),
            applied: u32::try_from(count(State::Applied)).unwrap_or(u32::MAX),
            given_up: u32::try_from(count(State::GivenUp)).unwrap_or(u32::MAX),
            bytes: self.bytes.load(Ordering::Relaxed),
            plain_bytes: self.plain_bytes.load(Ordering::Relaxed),
        }
    }
}

/// Gives the calling thread a low priority: a tenth of the processor time while other threads compute, and all
/// of it otherwise.
fn lower_priority() {
    const LOW: i32 = 10;
    let thread = rustix::thread::gettid();
    let _ = rustix::process::setpriority_process(Some(thread), LOW);
}

impl Remade for Arc<Update> {
    fn raw(&self, fetcher: &Fetcher, digest: &Digest) -> Result<Option<Bytes>, FetchError> {
        let row = self.plan.maker(digest);
        if row.is_none_or(|row| self.state(row) == State::GivenUp) {
            return Ok(None);
        }
        fetcher.run(self.obtain(&fetcher.inner, *digest, true))
    }
}
