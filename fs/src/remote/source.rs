//! Chunks of a remote root: from memory, disk, backup or a server, in this order.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use layerfmt::{Chunk, Digest, Index, Source};
use tokio::task::AbortHandle;
use wire::boot_report::BootReport;
use wire::paths::Request;

use super::bring::Bringer;
use super::error::FetchError;
use super::exchange::Ask;
use super::fetcher::{Fetcher, Keep, STALL_FIRST, post};
use super::landing::{Landed, Landings, Suspicion};
use super::object::{Object, Piece};
use super::plain::Plain;
use super::status::{Counters, RemoteStatus, Word};
use crate::backup::Backup;
use crate::cache::disk::DiskCache;
use crate::cache::memory::MemoryCache;
use crate::fetch::hot::{HotFile, decode, encode};
use crate::fetch::{Answer, BOOT_REPORT, ChunkSource, Coming, Here, PUSH_TRACE, SourceError, Then};
use crate::prefetch::hot::hot_files;
use crate::trace::TraceRecorder;

/// The local caches of chunks.
#[derive(Debug)]
pub(crate) struct Near {
    pub(crate) memory: MemoryCache,
    pub(crate) disk: Option<DiskCache>,
    pub(crate) backup: Option<Arc<Backup>>,
}

impl Near {
    /// The verified bytes of `piece`, if they are near.
    pub(crate) fn get(&self, piece: &Piece, counters: &Counters) -> Option<Bytes> {
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

    /// True if `piece` is local according to the lists, without reading it.
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
    bringer: Arc<Bringer>,
    boot: Option<Boot>,
    hot: Option<HotList>,
    pub(crate) words: Arc<Words>,
}

/// The contents of the boot pack, sent on request.
#[derive(Debug)]
struct HotList {
    index: Arc<Index>,
    told: OnceLock<Vec<u8>>,
}

/// Bytes of a long answer that one question brings: an attribute's value has at most 64 KiB.
const ANSWER_PART_LEN: usize = 60_000;

/// The boot being recorded, and the destination of its trace.
#[derive(Debug)]
pub(crate) struct Boot {
    pub(crate) recorder: Arc<TraceRecorder>,
    /// The path on the servers.
    pub(crate) path: String,
}

impl Boot {
    /// Ends the recording; returns the data to send and the message afterwards.
    fn end(&self) -> (Ask, String) {
        self.recorder.stop();
        let trace = self.recorder.trace();
        let ask = Ask::post(self.path.clone(), trace.encode().into(), STALL_FIRST);
        let pages: u64 = trace
            .touches
            .iter()
            .map(|touch| u64::from(touch.count))
            .sum();
        let said = format!("sent: {pages} pages in {} runs", trace.touches.len());
        (ask, said)
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
        let bringer = Arc::new(Bringer {
            near: Arc::clone(&near),
            fetcher: Arc::clone(&fetcher),
            landings: Landings::default(),
            objects,
            plain,
            packed: packed.cloned(),
        });
        RemoteSource {
            near,
            fetcher,
            counters,
            bringer,
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
            .get_or_init(|| encode(&hot_files(&hot.index, &self.bringer.objects)));
        Some(told)
    }

    /// The stored bytes of `piece`, if they are here.
    fn stored(&self, piece: &Piece) -> Result<Bytes, SourceError> {
        let landings = &self.bringer.landings;
        if let Some(Landed::Stored(bytes)) = landings.get(&piece.digest) {
            return Ok(bytes);
        }
        if let Some(near) = self.near.get(piece, &self.counters) {
            return Ok(near);
        }
        if self.near.knows(piece) {
            landings.suspect(&piece.digest, Suspicion::Lost);
        }
        Err(SourceError::Far)
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

    /// Ends all waits: the mount is ending.
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
        _index: &Index,
        _id: u32,
        chunk: &Chunk,
        _wanted: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let bringer = &self.bringer;
        let piece = piece(&bringer.objects, chunk).ok_or(SourceError::NotBorrowed)?;
        if let Some(Landed::Decoded(bytes)) = bringer.landings.get(&piece.digest) {
            out.clear();
            out.extend_from_slice(&bytes);
            return Ok(());
        }
        let stored = self.stored(&piece)?;
        match layerfmt::decode_verified_chunk(chunk, &stored, out) {
            Ok(()) => Ok(()),
            Err(_) if piece.object.optional => {
                let broken = Suspicion::Broken;
                bringer.landings.suspect(&piece.digest, broken);
                Err(SourceError::Far)
            }
            Err(error) => Err(SourceError::Unreadable {
                layer: piece.object.path.clone(),
                reason: error.to_string(),
            }),
        }
    }

    fn bring(&self, chunks: &[(u32, Chunk)], then: Then) -> Box<dyn Coming> {
        self.bringer.bring(chunks, then)
    }

    fn is_slow(&self) -> bool {
        true
    }

    fn is_near(&self, chunk: &Chunk) -> bool {
        piece(&self.bringer.objects, chunk).is_some_and(|piece| self.bringer.has(&piece))
    }

    fn hot(&self) -> Vec<HotFile> {
        self.hot_list().map(decode).unwrap_or_default()
    }

    fn status(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self.report()).ok()
    }

    fn answer(&self, question: &str, then: Answer) -> Box<dyn Coming> {
        match self.boot.as_ref().filter(|_| question == PUSH_TRACE) {
            None => {
                then(self.known(question));
                Box::new(Here)
            }
            Some(boot) => {
                let (ask, said) = boot.end();
                self.send(ask, "boot trace", |sent| {
                    then(sent.then(|| said.into_bytes()));
                })
            }
        }
    }

    fn tell(&self, what: &str, value: &[u8], then: Answer) -> Box<dyn Coming> {
        match self.report_to_send(what, value) {
            Ok(ask) => self.send(ask, "boot report", |sent| then(sent.then(Vec::new))),
            Err(error) => {
                tracing::warn!(error, "the boot report was not sent");
                then(None);
                Box::new(Here)
            }
        }
    }
}

/// A running transmission; dropping it stops it.
struct Sending(AbortHandle);

impl Coming for Sending {}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RemoteSource {
    /// The answer to a question that needs no server.
    fn known(&self, question: &str) -> Option<Vec<u8>> {
        if let Some(part) = question.strip_prefix("pack.") {
            let part: usize = part.parse().ok()?;
            let parts = self.hot_list()?.chunks(ANSWER_PART_LEN);
            return parts.skip(part).map(<[u8]>::to_vec).next();
        }
        let part: usize = question.strip_prefix("trace.")?.parse().ok()?;
        let bytes = self.boot.as_ref()?.recorder.trace().encode();
        bytes.chunks(ANSWER_PART_LEN).nth(part).map(<[u8]>::to_vec)
    }

    /// Sends data to the first server that accepts it; `then` is called with the result.
    fn send(
        &self,
        ask: Ask,
        what: &'static str,
        then: impl FnOnce(bool) + Send + 'static,
    ) -> Box<dyn Coming> {
        let inner = Arc::clone(&self.fetcher.inner);
        let sending = self.fetcher.spawn(async move {
            let sent = tokio::select! {
                sent = post(&inner, &ask) => sent,
                () = inner.until_closed() => Err(FetchError::Closed),
            };
            if let Err(error) = &sent {
                tracing::warn!(%error, "the {what} was not sent");
            }
            then(sent.is_ok());
        });
        match sending {
            Some(sending) => Box::new(Sending(sending)),
            None => Box::new(Here),
        }
    }

    /// A boot report of this revision, encoded for the server.
    fn report_to_send(&self, what: &str, value: &[u8]) -> Result<Ask, String> {
        if what != BOOT_REPORT {
            return Err(format!("{what} is none"));
        }
        let report = BootReport::decode(value).map_err(|error| error.to_string())?;
        if report.revision != self.words.revision {
            return Err(format!("it is of {}", report.revision));
        }
        let name = report.revision_name().map_err(|error| error.to_string())?;
        let revision = name.revision.unwrap_or_default();
        let path = Request::Boots(name.name, revision).to_string();
        Ok(Ask::post(path, value.to_vec().into(), STALL_FIRST))
    }
}

impl Drop for RemoteSource {
    fn drop(&mut self) {
        self.fetcher.close();
    }
}
