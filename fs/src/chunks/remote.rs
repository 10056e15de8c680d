//! Chunks of a remote root: from memory, disk, backup or a server, in this order.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use layerfmt::layout::superblock::SUPERBLOCK_LEN;
use layerfmt::update::{MadeChunk, UpdateHead};
use layerfmt::{Chunk, ChunkFile, Digest, FormatError, Index};

use super::bring::Bringer;
use super::landing::{Landed, Landings, Suspicion};
use super::rebuild::Plain;
use super::update::Update;
use crate::chunks::{ChunkSource, Pending, SourceError, Then};
use crate::net::fetcher::{ChunkSink, Fetcher};
use crate::net::object::{ChunkRange, Object};
use crate::net::status::{Counters, StatusText};
use crate::store::backup::Backup;
use crate::store::disk::DiskCache;
use crate::store::memory::MemoryCache;

/// The local caches of chunks.
#[derive(Debug)]
pub(crate) struct CacheTiers {
    pub(crate) memory: MemoryCache,
    pub(crate) disk: Option<DiskCache>,
    pub(crate) backup: Option<Arc<Backup>>,
    pub(crate) raws: Raws,
}

/// The digests of raw chunks and indexes from signed update packs.
#[derive(Debug, Default)]
pub(crate) struct Raws {
    /// Digest of the raw bytes of each chunk, by the digest of its stored bytes.
    chunks: RwLock<HashMap<Digest, Digest>>,
    /// Digest of the raw INDEX section, by the digest of the index file.
    indexes: RwLock<HashMap<Digest, Digest>>,
}

impl Raws {
    fn chunk(&self, digest: &Digest) -> Option<Digest> {
        let chunks = self.chunks.read().unwrap_or_else(PoisonError::into_inner);
        chunks.get(digest).copied()
    }
}

impl CacheTiers {
    /// Takes the digests of the head of an update pack, whose signature was checked.
    pub(crate) fn believe(&self, head: &UpdateHead) {
        let made = head.units.iter().flat_map(|unit| &unit.made);
        let made = made.map(|made| (made.digest, made.raw_digest));
        let raws = &self.raws;
        let mut chunks = raws.chunks.write().unwrap_or_else(PoisonError::into_inner);
        chunks.extend(made);
        drop(chunks);
        if let Some(frame) = &head.index {
            let mut indexes = raws.indexes.write().unwrap_or_else(PoisonError::into_inner);
            indexes.insert(head.to, frame.raw_digest);
        }
    }

    /// The raw bytes of the chunk with the stored digest `digest`, if an update pack made them on
    /// this machine.
    pub(crate) fn raw(&self, digest: &Digest) -> Option<Bytes> {
        let raw = self.raws.chunk(digest)?;
        let in_memory = self.memory.get(&raw);
        in_memory.or_else(|| self.disk.as_ref().and_then(|disk| disk.get(&raw)))
    }

    /// True if a chunk that an update pack makes is on the disk, according to its list.
    pub(crate) fn has_made(&self, made: &MadeChunk) -> bool {
        let disk = self.disk.as_ref();
        disk.is_some_and(|disk| disk.knows(&made.raw_digest) || disk.knows(&made.digest))
    }

    /// Keeps the raw bytes of a chunk, under their own digest.
    pub(crate) fn keep_raw(&self, raw_digest: Digest, raw: &Bytes) {
        self.memory.put(&raw_digest, raw);
        if let Some(disk) = &self.disk {
            disk.put(&raw_digest, raw);
        }
    }

    /// Length of the chunks that wait to be written to the disk, bytes.
    pub(crate) fn unwritten_len(&self) -> u64 {
        self.disk.as_ref().map_or(0, DiskCache::waiting_len)
    }

    /// The index that an update pack made, if `read` returns raw bytes with the promised digest.
    pub(crate) fn raw_index(
        &self,
        digest: &Digest,
        read: impl FnOnce(&Digest) -> Option<Vec<u8>>,
    ) -> Option<Arc<Index>> {
        let indexes = self.raws.indexes.read();
        let promised = *indexes
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)?;
        let raw = read(digest)?;
        let sound = Digest::of(&raw) == promised;
        let index = sound.then(|| Index::decode(raw, SUPERBLOCK_LEN as u64).ok());
        index.flatten().map(Arc::new)
    }

    /// As [`CacheTiers::get`], not counted: for data that no program reads.
    pub(crate) fn stored(&self, range: &ChunkRange) -> Option<Bytes> {
        let in_memory = self.memory.get(&range.digest);
        in_memory
            .or_else(|| self.disk.as_ref()?.get(&range.digest))
            .or_else(|| self.backup.as_ref()?.read(range))
    }

    /// The verified bytes of `range`, if they are cached.
    pub(crate) fn get(&self, range: &ChunkRange, counters: &Counters) -> Option<Bytes> {
        if let Some(bytes) = self.memory.get(&range.digest) {
            Counters::add(&counters.cache_hits, 1);
            return Some(bytes);
        }
        if let Some(bytes) = self.disk.as_ref().and_then(|disk| disk.get(&range.digest)) {
            Counters::add(&counters.cache_hits, 1);
            return Some(bytes);
        }
        let bytes = self.backup.as_ref()?.read(range)?;
        Counters::add(&counters.backup_hits, 1);
        Some(bytes)
    }

    /// True if `range` is where it stays, according to the lists: on the disk or in the backup, or
    /// in memory if there is no other place.
    pub(crate) fn keeps(&self, range: &ChunkRange) -> bool {
        let Some(disk) = self.disk.as_ref().filter(|disk| disk.is_written()) else {
            return self.knows(range);
        };
        let raw = || self.raws.chunk(&range.digest);
        disk.knows(&range.digest)
            || self
                .backup
                .as_ref()
                .is_some_and(|backup| backup.knows(range))
            || raw().is_some_and(|raw| disk.knows(&raw))
    }

    /// True if `range` is local according to the lists, without reading it.
    pub(crate) fn knows(&self, range: &ChunkRange) -> bool {
        self.memory.knows(&range.digest)
            || self
                .disk
                .as_ref()
                .is_some_and(|disk| disk.knows(&range.digest))
            || self
                .backup
                .as_ref()
                .is_some_and(|backup| backup.knows(range))
            || self.raws.chunk(&range.digest).is_some_and(|raw| {
                self.memory.knows(&raw) || self.disk.as_ref().is_some_and(|disk| disk.knows(&raw))
            })
    }
}

impl ChunkSink for CacheTiers {
    fn cached(&self, range: &ChunkRange) -> Option<Bytes> {
        self.memory.get(&range.digest)
    }

    fn put(&self, range: &ChunkRange, bytes: &Bytes) {
        if range.object.batch_path.is_empty() {
            return;
        }
        self.memory.put(&range.digest, bytes);
        if let Some(disk) = &self.disk {
            disk.put(&range.digest, bytes);
        }
        if let Some(backup) = &self.backup {
            backup.keep(range, bytes);
        }
    }
}

/// The chunks of one remote root.
#[derive(Debug)]
pub struct RemoteSource {
    pub(crate) caches: Arc<CacheTiers>,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) bringer: Arc<Bringer>,
    pub(crate) words: Arc<StatusTexts>,
    pub(crate) end: Arc<FetcherEnd>,
}

/// The texts in the status.
#[derive(Debug)]
pub(crate) struct StatusTexts {
    pub(crate) revision: String,
    pub(crate) offline: bool,
    pub(crate) pack: StatusText,
    pub(crate) prefetch: StatusText,
    pub(crate) cache: StatusText,
    pub(crate) update: StatusText,
}

/// Other sources of chunks than the layers.
#[derive(Debug)]
pub(crate) struct Fallbacks<'i> {
    /// Rebuilds chunks of a boot pack from the layers.
    pub(crate) plain: Option<Plain>,
    /// The index, if it points into a boot pack.
    pub(crate) packed: Option<&'i Arc<Index>>,
    /// The update pack in use.
    pub(crate) update: Option<Arc<Update>>,
}

/// The objects that `index` borrows from, in the order of its layer table.
pub(crate) fn objects(index: &Index, pack: Option<&Digest>) -> Vec<Arc<Object>> {
    index
        .layers()
        .map(|layer| {
            Arc::new(match pack {
                Some(pack) if *pack == layer.digest => Object::pack(pack),
                _ => Object::layer(&layer.digest),
            })
        })
        .collect()
}

/// The chunk that holds `chunk`.
pub(crate) fn chunk_range(objects: &[Arc<Object>], chunk: &Chunk) -> Option<ChunkRange> {
    let ChunkFile::Borrowed(row) = chunk.source else {
        return None;
    };
    let object = Arc::clone(objects.get(row as usize)?);
    Some(ChunkRange {
        object,
        offset: chunk.offset,
        len: chunk.stored_len,
        digest: chunk.digest,
    })
}

impl RemoteSource {
    pub(crate) fn new(
        caches: Arc<CacheTiers>,
        end: Arc<FetcherEnd>,
        objects: Vec<Arc<Object>>,
        ways: Fallbacks<'_>,
        words: Arc<StatusTexts>,
    ) -> RemoteSource {
        let Fallbacks {
            plain,
            packed,
            update,
        } = ways;
        let fetcher = Arc::clone(&end.0);
        let counters = Arc::clone(&fetcher.inner.counters);
        let bringer = Arc::new(Bringer {
            caches: Arc::clone(&caches),
            fetcher: Arc::clone(&fetcher),
            landings: Landings::default(),
            objects,
            plain,
            packed: packed.cloned(),
            update,
        });
        RemoteSource {
            caches,
            fetcher,
            counters,
            bringer,
            words,
            end,
        }
    }

    /// The stored bytes of `range`, if they are here.
    fn stored(&self, range: &ChunkRange) -> Result<Bytes, SourceError> {
        let landings = &self.bringer.landings;
        if let Some(Landed::Stored(bytes)) = landings.get(&range.digest) {
            return Ok(bytes);
        }
        if let Some(bytes) = self.caches.get(range, &self.counters) {
            return Ok(bytes);
        }
        if self.caches.knows(range) {
            landings.suspect(&range.digest, Suspicion::Lost);
        }
        Err(SourceError::Far)
    }

    /// Returns the bytes of `chunk` in `out`: decoded ones (then true), or what `decode` makes of the
    /// stored ones.
    fn decode(
        &self,
        chunk: &Chunk,
        out: &mut Vec<u8>,
        decode: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(), FormatError>,
    ) -> Result<bool, SourceError> {
        let bringer = &self.bringer;
        let range = chunk_range(&bringer.objects, chunk).ok_or(SourceError::NotBorrowed)?;
        if let Some(Landed::Decoded(bytes)) = bringer.landings.get(&range.digest) {
            out.clear();
            out.extend_from_slice(&bytes);
            return Ok(true);
        }
        if let Some(raw) = self.caches.raw(&range.digest) {
            Counters::add(&self.counters.cache_hits, 1);
            out.clear();
            out.extend_from_slice(&raw);
            return Ok(true);
        }
        let stored = self.stored(&range)?;
        match decode(&stored, out) {
            Ok(()) => Ok(false),
            Err(_) if range.object.optional => {
                let broken = Suspicion::Broken;
                bringer.landings.suspect(&range.digest, broken);
                Err(SourceError::Far)
            }
            Err(error) => Err(SourceError::Unreadable {
                layer: range.object.path.clone(),
                source: error.into(),
            }),
        }
    }

    /// True if the stream of an update pack still brings chunks.
    pub(crate) fn is_updating(&self) -> bool {
        let update = self.bringer.update.as_ref();
        update.is_some_and(|update| update.is_streaming())
    }

    /// The update pack in use.
    pub(crate) fn update(&self) -> Option<Arc<Update>> {
        self.bringer.update.clone()
    }

    /// Ends all waits: the mount is ending.
    pub fn close(&self) {
        self.fetcher.close();
    }
}

impl ChunkSource for RemoteSource {
    fn read_decoded(
        &self,
        _index: &Index,
        _id: u32,
        chunk: &Chunk,
        _wanted: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        self.decode(chunk, out, |stored, out| {
            layerfmt::decode_verified_chunk(chunk, stored, out)
        })
        .map(drop)
    }

    fn read_decoded_early(
        &self,
        _index: &Index,
        _id: u32,
        chunk: &Chunk,
        wanted: Range<usize>,
        out: &mut Vec<u8>,
        early: &mut dyn FnMut(&[u8]),
    ) -> Result<(), SourceError> {
        let was_decoded = self.decode(chunk, out, |stored, out| {
            layerfmt::decode_verified_chunk_early(chunk, stored, wanted.clone(), out, early)
        })?;
        if let Some(bytes) = out.get(wanted).filter(|_| was_decoded) {
            early(bytes);
        }
        Ok(())
    }

    fn bring(&self, chunks: &[(u32, Chunk)], then: Then) -> Box<dyn Pending> {
        self.bringer.bring(chunks, then)
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn is_local(&self, chunk: &Chunk) -> bool {
        chunk_range(&self.bringer.objects, chunk).is_some_and(|range| self.bringer.has(&range))
    }
}

/// Ends all waits when the last source of a mount is dropped.
#[derive(Debug)]
pub(crate) struct FetcherEnd(pub(crate) Arc<Fetcher>);

impl Drop for FetcherEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}
