//! Chunks of a remote root: from memory, disk, backup or a server, whoever has them first.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use layerfmt::boot_report::BootReport;
use layerfmt::{Chunk, Digest, Index, Source};

use super::error::FetchError;
use super::exchange::Ask;
use super::fetcher::{Fetcher, Keep, STALL_FIRST};
use super::object::{Object, Piece};
use super::plain::Plain;
use super::status::{Counters, RemoteStatus, Word};
use crate::backup::Backup;
use crate::cache::disk::DiskCache;
use crate::cache::memory::MemoryCache;
use crate::fetch::hot::{HotFile, decode, encode};
use crate::fetch::{BOOT_REPORT, ChunkSource, SourceError};
use crate::prefetch::hot::hot_files;
use crate::trace::TraceRecorder;

/// Where chunks are kept on this machine.
#[derive(Debug)]
pub(crate) struct Near {
    pub(crate) memory: MemoryCache,
    pub(crate) disk: Option<DiskCache>,
    pub(crate) backup: Option<Arc<Backup>>,
}

impl Near {
    /// The verified bytes of `piece`, if they are near.
    fn get(&self, piece: &Piece, counters: &Counters) -> Option<Bytes> {
        if let Some(bytes) = self.memory.get(&piece.digest) {
            Counters::add(&counters.cache_hits, 1);
            return Some(bytes);
        }
        if let Some(bytes) = self.disk.as_ref().and_then(|disk| disk.get(&piece.digest)) {
            Counters::add(&counters.cache_hits, 1);
            return Some(bytes);
        }
        let bytes = self.backup.as_ref()?.read(piece)?;
        Counters::add(&counters.backup_hits, 1);
        Some(bytes)
    }

    /// True if `piece` is believed to be near, without reading it.
    pub(crate) fn knows(&self, piece: &Piece) -> bool {
        self.memory.knows(&piece.digest)
            || self
                .disk
                .as_ref()
                .is_some_and(|disk| disk.knows(&piece.digest))
            || self
                .backup
                .as_ref()
                .is_some_and(|backup| backup.knows(piece))
    }
}

impl Keep for Near {
    fn at_hand(&self, piece: &Piece) -> Option<Bytes> {
        self.memory.get(&piece.digest)
    }

    fn keep(&self, piece: &Piece, bytes: &Bytes) {
        self.memory.put(&piece.digest, bytes);
        if let Some(disk) = &self.disk {
            disk.put(&piece.digest, bytes);
        }
        if let Some(backup) = &self.backup {
            backup.keep(piece, bytes);
        }
    }
}

/// The chunks of one remote root.
#[derive(Debug)]
pub struct RemoteSource {
    pub(crate) near: Arc<Near>,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) counters: Arc<Counters>,
    /// The objects of the index's layer table, in its order.
    objects: Vec<Arc<Object>>,
    plain: Option<Plain>,
    boot: Option<Boot>,
    hot: Option<HotList>,
    pub(crate) words: Arc<Words>,
}

/// What the boot pack holds, told when it is asked for.
#[derive(Debug)]
struct HotList {
    index: Arc<Index>,
    told: OnceLock<Vec<u8>>,
}

/// Readers whose expected chunks must fit the memory cache together.
const EXPECTED_READERS: u64 = 4;
/// Bytes of a long answer that one question brings: an attribute's value has at most 64 KiB.
const ANSWER_PART_LEN: usize = 60_000;

/// The boot being recorded, and where to send it.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) recorder: Arc<TraceRecorder>,
    /// Where servers take it.
    pub(crate) path: String,
}

impl Boot {
    /// Ends the recording and sends it.
    fn push(&self, fetcher: &Fetcher) -> Result<String, FetchError> {
        self.recorder.stop();
        let trace = self.recorder.trace();
        fetcher.post(&Ask::post(
            self.path.clone(),
            trace.encode().into(),
            STALL_FIRST,
        ))?;
        let pages: u64 = trace
            .touches
            .iter()
            .map(|touch| u64::from(touch.count))
            .sum();
        Ok(format!(
            "sent: {pages} pages in {} runs",
            trace.touches.len()
        ))
    }
}

/// The parts of the status that are words.
#[derive(Debug)]
pub(crate) struct Words {
    pub(crate) revision: String,
    pub(crate) offline: bool,
    pub(crate) pack: Word,
    pub(crate) prefetch: Word,
    pub(crate) cache: Word,
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

/// The piece that holds `chunk`.
pub(crate) fn piece(objects: &[Arc<Object>], chunk: &Chunk) -> Option<Piece> {
    let Source::Borrowed(row) = chunk.source else {
        return None;
    };
    let object = Arc::clone(objects.get(row as usize)?);
    Some(Piece {
        object,
        offset: chunk.offset,
        len: chunk.stored_len,
        digest: chunk.digest,
    })
}

impl RemoteSource {
    /// `packed`: the index, if it points into a boot pack.
    pub(crate) fn new(
        near: Arc<Near>,
        fetcher: Arc<Fetcher>,
        objects: Vec<Arc<Object>>,
        plain: Option<Plain>,
        boot: Option<Boot>,
        packed: Option<&Arc<Index>>,
        words: Arc<Words>,
    ) -> RemoteSource {
        let counters = Arc::clone(&fetcher.inner.counters);
        RemoteSource {
            near,
            fetcher,
            counters,
            objects,
            plain,
            boot,
            hot: packed.map(|index| HotList {
                index: Arc::clone(index),
                told: OnceLock::new(),
            }),
            words,
        }
    }

    fn hot_list(&self) -> Option<&[u8]> {
        let hot = self.hot.as_ref()?;
        let told = hot
            .told
            .get_or_init(|| encode(&hot_files(&hot.index, &self.objects)));
        Some(told)
    }

    fn stored(&self, objects: &[Arc<Object>], chunk: &Chunk) -> Result<Bytes, SourceError> {
        let piece = piece(objects, chunk).ok_or(SourceError::NotBorrowed)?;
        if let Some(near) = self.near.get(&piece, &self.counters) {
            return Ok(near);
        }
        self.fetcher
            .fetch(&piece)
            .map_err(|error| SourceError::Unreadable {
                layer: piece.object.path.clone(),
                reason: error.to_string(),
            })
    }

    /// The decoded bytes of a chunk of the boot pack, made from the layers it was packed from.
    fn rebuild(
        &self,
        index: &Index,
        id: u32,
        raw_len: u32,
        why: &str,
    ) -> Result<Vec<u8>, SourceError> {
        let plain = self.plain.as_ref().ok_or_else(|| SourceError::Unreadable {
            layer: String::from("boot pack"),
            reason: why.to_owned(),
        })?;
        let failed = |reason: String| SourceError::Unreadable {
            layer: String::from("boot pack"),
            reason,
        };
        tracing::warn!(
            chunk = id,
            why,
            "the boot pack's chunk cannot be had: rebuilt from the layers"
        );
        Counters::add(&self.counters.rebuilt, 1);
        plain
            .rebuild(&self.fetcher, index, id, raw_len, |objects, chunk| {
                let stored = self
                    .stored(objects, chunk)
                    .map_err(|error| error.to_string())?;
                let mut raw = Vec::new();
                layerfmt::decode_verified_chunk(chunk, &stored, &mut raw)
                    .map_err(|error| error.to_string())?;
                Ok(raw)
            })
            .map_err(failed)
    }

    /// The state for `layerfs status`.
    pub fn report(&self) -> RemoteStatus {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (counters, words) = (&self.counters, &self.words);
        let cache = match &self.near.disk {
            Some(disk) => format!("disk: {}", disk.describe()),
            None => format!(
                "{}memory: {} MiB",
                words.cache.get(),
                self.near.memory.len() >> 20
            ),
        };
        RemoteStatus {
            revision: words.revision.clone(),
            waiting_seconds: self
                .fetcher
                .waiting()
                .map(|waited| waited.as_secs())
                .filter(|s| *s > 0),
            offline: words.offline,
            pack: words.pack.get(),
            prefetch: words.prefetch.get(),
            backup: self
                .near
                .backup
                .as_ref()
                .map_or_else(|| "none".into(), |backup| backup.state.get()),
            cache,
            requests: get(&counters.requests),
            bytes: get(&counters.bytes),
            retries: get(&counters.retries),
            corrupt: get(&counters.corrupt),
            demanded: get(&counters.demanded),
            prefetched: get(&counters.prefetched),
            pack_chunks: get(&counters.pack_chunks),
            rebuilt: get(&counters.rebuilt),
            cache_hits: get(&counters.cache_hits),
            cache_damaged: self.near.disk.as_ref().map_or(0, DiskCache::damaged),
            backup_hits: get(&counters.backup_hits),
            waited_s: get(&counters.waited_s),
            mirrors: self.fetcher.inner.mirrors.status(),
        }
    }

    /// Ends all waits: the mount is going away.
    pub fn close(&self) {
        self.fetcher.close();
    }
}

impl ChunkSource for RemoteSource {
    fn rest(&self) {
        self.near.memory.lend();
    }

    fn read_decoded(
        &self,
        index: &Index,
        id: u32,
        chunk: &Chunk,
        _wanted: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let decoded = self
            .stored(&self.objects, chunk)
            .map_err(|error| error.to_string())
            .and_then(|stored| {
                layerfmt::decode_verified_chunk(chunk, &stored, out)
                    .map_err(|error| error.to_string())
            });
        match decoded {
            Ok(()) => Ok(()),
            Err(why) if self.is_packed(chunk) => {
                *out = self.rebuild(index, id, chunk.raw_len, &why)?;
                Ok(())
            }
            Err(reason) => Err(SourceError::Unreadable {
                layer: piece(&self.objects, chunk)
                    .map_or_else(String::new, |piece| piece.object.path.clone()),
                reason,
            }),
        }
    }

    fn expect(&self, chunks: &[Chunk]) {
        let far: Vec<Piece> = chunks
            .iter()
            .filter_map(|chunk| piece(&self.objects, chunk))
            .filter(|piece| !self.near.knows(piece))
            .collect();
        let len: u64 = far.iter().map(|piece| u64::from(piece.len)).sum();
        // They lie in memory until they are read.
        if far.len() > 1 && self.near.memory.has_room_for(len * EXPECTED_READERS) {
            self.fetcher.expect(&far);
        }
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn is_near(&self, chunk: &Chunk) -> bool {
        piece(&self.objects, chunk).is_some_and(|piece| self.near.knows(&piece))
    }

    fn hot(&self) -> Vec<HotFile> {
        self.hot_list().map(decode).unwrap_or_default()
    }

    fn status(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self.report()).ok()
    }

    fn answer(&self, question: &str) -> Option<Vec<u8>> {
        if let Some(part) = question.strip_prefix("pack.") {
            let part: usize = part.parse().ok()?;
            let parts = self.hot_list()?.chunks(ANSWER_PART_LEN);
            return parts.skip(part).map(<[u8]>::to_vec).next();
        }
        let boot = self.boot.as_ref()?;
        if question == "push-trace" {
            return match boot.push(&self.fetcher) {
                Ok(text) => Some(text.into_bytes()),
                Err(error) => {
                    tracing::warn!(%error, "the boot trace was not sent");
                    None
                }
            };
        }
        let part: usize = question.strip_prefix("trace.")?.parse().ok()?;
        let bytes = boot.recorder.trace().encode();
        bytes.chunks(ANSWER_PART_LEN).nth(part).map(<[u8]>::to_vec)
    }

    fn tell(&self, what: &str, value: &[u8]) -> bool {
        if what != BOOT_REPORT {
            return false;
        }
        self.send_report(value)
            .inspect_err(|error| tracing::warn!(error, "the boot report was not sent"))
            .is_ok()
    }
}

impl RemoteSource {
    /// Sends a boot report of this very revision to the server.
    fn send_report(&self, value: &[u8]) -> Result<(), String> {
        let report = BootReport::decode(value).map_err(|error| error.to_string())?;
        if report.revision != self.words.revision {
            return Err(format!("it is of {}", report.revision));
        }
        let path = format!("/v1/boots/{}", report.revision.replace('@', "/"));
        let ask = Ask::post(path, value.to_vec().into(), STALL_FIRST);
        self.fetcher.post(&ask).map_err(|error| error.to_string())
    }

    fn is_packed(&self, chunk: &Chunk) -> bool {
        piece(&self.objects, chunk).is_some_and(|piece| piece.object.optional)
    }
}

impl Drop for RemoteSource {
    fn drop(&mut self) {
        self.fetcher.close();
    }
}
