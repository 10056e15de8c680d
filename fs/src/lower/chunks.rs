//! Decoded chunks: bounded in bytes. Concurrent readers share one decode, except those that need
//! more than the prefix decoded so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use layerfmt::{Chunk, ChunkFile, Index};
use quick_cache::sync::{Cache, DefaultLifecycle, GuardResult};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::decoded::Decoded;
use super::surplus::Surplus;
use super::{FarChunks, Unread};
use crate::buffers::BufferPool;
use crate::chunks::{ChunkSource, Pending, SourceError, Unavailable};
use crate::error::Error;
use crate::sys::Errno;

/// Bookkeeping of one entry, counted with its bytes.
const ENTRY_LEN: u64 = 96;
/// A usual decoded chunk, bytes: sizes the cache's tables.
const CHUNK_LEN_USUAL: u64 = 256 * 1024;
/// A reader that needs at most this many bytes of a chunk may not need the rest: the kernel
/// requests as much if it sees no sequential read.
const SINGLE_LEN_MAX: usize = 16 << 10;

#[derive(Debug, Clone)]
struct ByLength;

impl Weighter<u32, Arc<Decoded>> for ByLength {
    fn weight(&self, _id: &u32, decoded: &Arc<Decoded>) -> u64 {
        decoded.held_len() as u64 + ENTRY_LEN
    }
}

/// Called once, on any thread, when all chunks are local or one is unavailable. It must not wait.
pub type Brought = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Called at most once, with all bytes of a read, when these are there and more remains to be decoded.
pub type Early<'e> = &'e mut dyn FnMut(&[u8]);

/// Counters of the chunk cache, for the status.
#[derive(Debug, Default)]
pub struct ChunkCounters {
    /// Number of decoded chunks.
    pub decoded: AtomicU64,
    /// Stored bytes read.
    pub stored_len: AtomicU64,
    /// Number of unavailable or damaged chunks.
    pub failed: AtomicU64,
}

/// The decoded-chunk cache over the source of stored chunks.
pub struct ChunkCache {
    /// [`super::Lower::serial`] of the revision.
    serial: u32,
    index: Arc<Index>,
    source: Arc<dyn ChunkSource>,
    buffers: Arc<BufferPool>,
    decoded: Cache<u32, Arc<Decoded>, ByLength>,
    /// Chunks for which `decoded` has no room.
    surplus: Surplus,
    /// The counters so far.
    pub counters: Arc<ChunkCounters>,
}

impl std::fmt::Debug for ChunkCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkCache")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// One shard: with many shards, one entry would fill a large part of each.
fn one_shard(items: usize, capacity: u64) -> Cache<u32, Arc<Decoded>, ByLength> {
    let options = OptionsBuilder::new()
        .shards(1)
        .estimated_items_capacity(items)
        .weight_capacity(capacity)
        .build();
    match options {
        Ok(options) => Cache::with_options(
            options,
            ByLength,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        ),
        Err(_) => Cache::with_weighter(items, capacity, ByLength),
    }
}

impl ChunkCache {
    /// A cache of at most `capacity` bytes.
    pub fn new(index: Arc<Index>, source: Arc<dyn ChunkSource>, capacity: u64) -> ChunkCache {
        let items = usize::try_from(capacity / CHUNK_LEN_USUAL)
            .unwrap_or(64)
            .max(16);
        ChunkCache {
            serial: 0,
            index,
            source,
            buffers: Arc::default(),
            decoded: one_shard(items, capacity),
            surplus: Surplus::new(0),
            counters: Arc::default(),
        }
    }

    /// The same, with at most `len` more bytes in memory that the kernel may take back.
    #[must_use]
    pub(crate) fn with_surplus(self, len: u64) -> ChunkCache {
        ChunkCache {
            surplus: Surplus::new(len),
            ..self
        }
    }

    /// The same cache for an index with the same chunks.
    pub(crate) fn with_index(self, index: Arc<Index>) -> ChunkCache {
        ChunkCache { index, ..self }
    }

    /// A cache for the next revision, with the memory and the counters of this one.
    pub(crate) fn succeed(&self, index: Arc<Index>, source: Arc<dyn ChunkSource>) -> ChunkCache {
        let next = ChunkCache::new(index, source, self.decoded.capacity());
        ChunkCache {
            serial: self.serial.wrapping_add(1),
            surplus: Surplus::new(self.surplus.capacity()),
            buffers: Arc::clone(&self.buffers),
            counters: Arc::clone(&self.counters),
            ..next
        }
    }

    /// Copies `place.len()` bytes from `inside` chunk `id`. A request for the whole chunk bypasses
    /// the cache: data that is read once from end to end must not evict data that is read again.
    /// While the cache and its surplus are full, a chunk is decoded only as far as necessary. Else a
    /// reader of a few bytes may get them by `early`, before the rest of the chunk is decoded.
    ///
    /// # Errors
    /// The chunk must be fetched first; or EIO with its layer, number and offset. `early` may have
    /// been called before one.
    pub fn copy(
        &self,
        id: u32,
        inside: usize,
        place: &mut [u8],
        early: Option<Early<'_>>,
    ) -> Result<(), Unread> {
        if self.copy_decoded(id, inside, place) {
            return Ok(());
        }
        let chunk = self.index.chunk(id).ok_or_else(|| no_chunk(id))?;
        if inside == 0 && place.len() == chunk.raw_len as usize {
            let done = self
                .source
                .read_decoded_into(&self.index, id, &chunk, place);
            return self.count(id, &chunk, done);
        }
        let end = inside.saturating_add(place.len());
        let is_single = place.len() <= SINGLE_LEN_MAX;
        let has_room = self.has_room_for(&chunk);
        let goes_beyond = is_single && !has_room && self.surplus.has_room_for(chunk.raw_len.into());
        let wanted = match !is_single || has_room || goes_beyond {
            true => chunk.raw_len as usize,
            false => end,
        };
        let decoded = match self.decoded.get_value_or_guard(&id, None) {
            GuardResult::Value(decoded) => decoded,
            GuardResult::Guard(guard) => {
                // Another reader may have decoded it meanwhile.
                if self.surplus.copy(id, inside, place) {
                    return Ok(());
                }
                let early = early.filter(|_| is_single && wanted > end);
                let decoded = match early {
                    Some(early) => self.decode_early(id, &chunk, inside, place, early)?,
                    None => {
                        let decoded = self.decode(id, &chunk, wanted)?;
                        decoded.copy(inside, place).ok_or_else(|| no_chunk(id))?;
                        decoded
                    }
                };
                match goes_beyond {
                    true => self.surplus.keep(id, decoded.bytes()),
                    // Another thread may have evicted all chunks meanwhile.
                    false => drop(guard.insert(decoded)),
                }
                return Ok(());
            }
            GuardResult::Timeout => self.decode(id, &chunk, wanted)?,
        };
        if self.give(id, &decoded, inside, place) {
            return Ok(());
        }
        // Only the start of it was decoded, and the second reader needs more.
        let decoded = self.decode(id, &chunk, chunk.raw_len as usize)?;
        self.decoded.insert(id, Arc::clone(&decoded));
        match self.give(id, &decoded, inside, place) {
            true => Ok(()),
            false => Err(no_chunk(id).into()),
        }
    }

    /// Decodes all of chunk `id`, and gives the bytes from `inside` on to `place` and to `early` as
    /// soon as they are there.
    fn decode_early(
        &self,
        id: u32,
        chunk: &Chunk,
        inside: usize,
        place: &mut [u8],
        early: Early<'_>,
    ) -> Result<Arc<Decoded>, Unread> {
        let mut bytes = self.buffers.take(chunk.raw_len as usize);
        let end = inside.saturating_add(place.len());
        let mut given = 0;
        let mut take = |bytes: &[u8]| {
            if bytes.len() == place.len() {
                place.copy_from_slice(bytes);
                given = place.len();
                early(place);
            }
        };
        let source = &self.source;
        let done =
            source.read_decoded_early(&self.index, id, chunk, inside..end, &mut bytes, &mut take);
        let decoded = Decoded::new(bytes, given, Arc::clone(&self.buffers));
        self.count(id, chunk, done)?;
        match given {
            0 => Err(no_chunk(id).into()),
            _ => Ok(Arc::new(decoded)),
        }
    }

    /// True if the chunk fits without an eviction.
    fn has_room_for(&self, chunk: &Chunk) -> bool {
        let len = u64::from(chunk.raw_len) + ENTRY_LEN;
        self.decoded.weight().saturating_add(len) <= self.decoded.capacity()
    }

    /// Returns at least the first `wanted` bytes of chunk `id`.
    fn decode(&self, id: u32, chunk: &Chunk, wanted: usize) -> Result<Arc<Decoded>, Unread> {
        let mut bytes = self.buffers.take(chunk.raw_len as usize);
        let done = self
            .source
            .read_decoded(&self.index, id, chunk, wanted, &mut bytes);
        let decoded = Decoded::new(bytes, 0, Arc::clone(&self.buffers));
        self.count(id, chunk, done)?;
        Ok(Arc::new(decoded))
    }

    /// The median raw chunk length by content, bytes: doubled from `least` up to at most `most`.
    /// Reads of that length match whole chunks, and several of them run in parallel.
    pub(crate) fn usual_len(&self, least: u32, most: u32) -> u32 {
        let total: u64 = self.index.chunks().map(|c| u64::from(c.raw_len)).sum();
        let within = |len: u32| {
            let short = self.index.chunks().filter(|c| c.raw_len <= len);
            short.map(|c| u64::from(c.raw_len)).sum::<u64>()
        };
        let mut len = least;
        while len < most && within(len) < total.div_ceil(2) {
            len = len.saturating_mul(2);
        }
        len.min(most)
    }

    /// Makes the chunks `ids` local; see [`ChunkSource::bring`].
    pub fn bring(&self, ids: &[u32], then: Brought) -> Box<dyn Pending> {
        let chunks: Vec<(u32, Chunk)> = ids
            .iter()
            .filter_map(|id| self.index.chunk(*id).map(|chunk| (*id, chunk)))
            .collect();
        let (index, counters) = (Arc::clone(&self.index), Arc::clone(&self.counters));
        let heard = move |came: Result<(), Unavailable>| {
            then(came.map_err(|Unavailable { chunk, error }| {
                counters.failed.fetch_add(1, Ordering::Relaxed);
                lost(&index, chunk, error)
            }));
        };
        self.source.bring(&chunks, Box::new(heard))
    }

    /// The stored length of the chunk, bytes.
    pub fn stored_len(&self, id: u32) -> u64 {
        let chunk = self.index.chunk(id);
        chunk.map_or(0, |chunk| u64::from(chunk.stored_len))
    }

    /// True if the first `len` bytes of the chunk are decoded.
    pub(crate) fn is_decoded(&self, id: u32, len: usize) -> bool {
        let decoded = self.decoded.peek(&id);
        decoded.is_some_and(|decoded| decoded.reaches(len)) || self.surplus.knows(id)
    }

    /// True if the chunk is available without a server.
    pub fn is_local(&self, id: u32) -> bool {
        let near = |chunk| self.source.is_local(&chunk);
        self.decoded.contains_key(&id)
            || self.surplus.knows(id)
            || self.index.chunk(id).is_some_and(near)
    }

    /// Copies like [`ChunkCache::copy`] if the chunk is decoded; returns true if it was.
    pub(crate) fn copy_decoded(&self, id: u32, inside: usize, place: &mut [u8]) -> bool {
        let decoded = self.decoded.get(&id);
        decoded.is_some_and(|decoded| self.give(id, &decoded, inside, place))
            || self.surplus.copy(id, inside, place)
    }

    /// Copies from a decoded chunk; returns true if it has those bytes. The chunk is evicted with
    /// the last of them.
    fn give(&self, id: u32, decoded: &Decoded, inside: usize, place: &mut [u8]) -> bool {
        let given = decoded.copy(inside, place);
        if given == Some(true) {
            self.decoded.remove(&id);
        }
        given.is_some()
    }

    /// Evicts every decoded chunk if none was decoded since the last check, at `seen`: the kernel
    /// has pages in use in its page cache. Returns true if none was.
    pub(crate) fn forget_if_idle(&self, seen: &mut u64) -> bool {
        let decoded = self.counters.decoded.load(Ordering::Relaxed);
        if std::mem::replace(seen, decoded) != decoded {
            return false;
        }
        if self.held_len() > 0 {
            self.decoded.clear();
            self.surplus.clear();
        }
        self.buffers.clear();
        layerfmt::forget_decoders();
        true
    }

    /// True if the source may take long.
    pub(crate) fn is_slow(&self) -> bool {
        self.source.is_slow()
    }

    /// Bytes of decoded chunks held now.
    pub fn held_len(&self) -> u64 {
        self.decoded.weight().saturating_add(self.surplus.len())
    }

    /// Counts the result for chunk `id`.
    fn count(&self, id: u32, chunk: &Chunk, done: Result<(), SourceError>) -> Result<(), Unread> {
        if matches!(done, Err(SourceError::Far)) {
            return Err(Unread::Far(FarChunks {
                serial: self.serial,
                chunks: vec![id],
            }));
        }
        self.counters
            .stored_len
            .fetch_add(u64::from(chunk.stored_len), Ordering::Relaxed);
        match done {
            Ok(()) => {
                self.counters.decoded.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                Err(lost(&self.index, id, error).into())
            }
        }
    }
}

/// The error of the readers of chunk `id` of `index`.
#[cold]
fn lost(index: &Index, id: u32, error: SourceError) -> Error {
    let chunk = index.chunk(id);
    let layer = match chunk.as_ref().map(|chunk| chunk.source) {
        None | Some(ChunkFile::Own) => String::from("itself"),
        Some(ChunkFile::Borrowed(row)) => index
            .layer(row)
            .map_or_else(|| format!("number {row}"), |layer| layer.digest.to_string()),
    };
    let offset = chunk.map_or(0, |chunk| chunk.offset);
    let what = format!("chunk {id} at offset {offset} of layer {layer} cannot be read");
    Error::caused_by(Errno::IO, what, error)
}

#[cold]
fn no_chunk(id: u32) -> Error {
    Error::fault(
        Errno::IO,
        format!("the index has no such bytes of chunk {id}"),
    )
}
