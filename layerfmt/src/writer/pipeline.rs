//! Chunks are compressed by several threads and written by one, in the order they were submitted.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::Options;
use crate::codec::{Compressor, Effort};
use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::layout::chunk::{Chunk, ChunkFile, Codec};
use crate::layout::superblock::SUPERBLOCK_LEN;

/// Chunks under way for each compressing thread; bounds the memory.
const CHUNKS_PER_THREAD: usize = 8;

/// What a chunk is compressed as.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChunkKind {
    /// It is machine code, for the call filter.
    pub(super) x86: bool,
    /// It belongs to a large file.
    pub(super) large: bool,
}

struct Job {
    place: u64,
    id: u32,
    content: JobContent,
}

enum JobContent {
    Raw { bytes: Vec<u8>, kind: ChunkKind },
    Stored(StoredChunk),
}

/// A chunk that is compressed already.
#[derive(Debug, Clone)]
pub struct StoredChunk {
    /// Its stored bytes.
    pub stored: Vec<u8>,
    /// Their codec.
    pub codec: Codec,
    /// Length of the raw bytes.
    pub raw_len: u32,
}

struct Compressed {
    place: u64,
    id: u32,
    raw_len: u32,
    codec: Codec,
    digest: Digest,
    stored: Vec<u8>,
}

/// Everything that was written.
#[derive(Debug)]
pub(super) struct WrittenChunks {
    /// Own chunks in file order, each with the number it was reserved under.
    pub(super) chunks: Vec<(u32, Chunk)>,
    /// End of the chunk data in the file.
    pub(super) data_end: u64,
}

#[derive(Debug)]
pub(super) struct Pipeline {
    jobs: Option<Sender<Job>>,
    tickets: Receiver<()>,
    workers: Vec<JoinHandle<Result<()>>>,
    collector: Option<JoinHandle<Result<WrittenChunks>>>,
    stored: Arc<AtomicU64>,
    submitted: u64,
    reserved: u32,
}

impl Pipeline {
    pub(super) fn start(file: File, options: Options) -> Result<Pipeline> {
        let threads = options.threads.clamp(1, 64);
        let under_way = threads * CHUNKS_PER_THREAD;
        let (jobs, todo) = bounded::<Job>(under_way);
        let (done, results) = bounded::<Compressed>(under_way);
        let (free, tickets) = bounded::<()>(under_way);
        for _ in 0..under_way {
            let _ = free.send(());
        }
        let mut workers = Vec::new();
        for _ in 0..threads {
            let compressors = Compressors::new(options)?;
            let (todo, done) = (todo.clone(), done.clone());
            workers.push(std::thread::spawn(move || work(&todo, &done, compressors)));
        }
        drop((todo, done));
        let stored = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&stored);
        let collector = std::thread::spawn(move || collect(&file, &results, &free, &counter));
        Ok(Pipeline {
            jobs: Some(jobs),
            tickets,
            workers,
            collector: Some(collector),
            stored,
            submitted: 0,
            reserved: 0,
        })
    }

    /// A number for a chunk to come.
    pub(super) fn reserve(&mut self) -> u32 {
        self.reserved += 1;
        self.reserved - 1
    }

    pub(super) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Hand over a chunk; waits while too many are under way.
    pub(super) fn submit(&mut self, id: u32, bytes: Vec<u8>, kind: ChunkKind) -> Result<()> {
        self.put(id, JobContent::Raw { bytes, kind })
    }

    /// Hands over a chunk that is written as it is.
    pub(super) fn submit_stored(&mut self, id: u32, chunk: StoredChunk) -> Result<()> {
        self.put(id, JobContent::Stored(chunk))
    }

    fn put(&mut self, id: u32, content: JobContent) -> Result<()> {
        let job = Job {
            place: self.submitted,
            id,
            content,
        };
        self.submitted += 1;
        // Either end closes only when a thread failed; finish() then has the reason.
        let sent = self.tickets.recv().is_ok()
            && self
                .jobs
                .as_ref()
                .is_some_and(|jobs| jobs.send(job).is_ok());
        if sent {
            Ok(())
        } else {
            self.join().map(|_| ())
        }
    }

    pub(super) fn finish(mut self) -> Result<WrittenChunks> {
        self.join()
    }

    fn join(&mut self) -> Result<WrittenChunks> {
        self.jobs = None;
        let mut failed = Ok(());
        for worker in self.workers.drain(..) {
            failed = failed.and(worker.join().unwrap_or_else(|_| Err(died())));
        }
        let written = self.collector.take().map_or_else(
            || Err(died()),
            |collector| collector.join().unwrap_or_else(|_| Err(died())),
        );
        // The collector's error has precedence: a failed write is the reason why the workers
        // stopped.
        let written = written?;
        failed.map(|()| written)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if self.collector.is_some() {
            let _ = self.join();
        }
    }
}

#[cold]
fn died() -> FormatError {
    FormatError::corrupt("pipeline", 0, "a compression thread died")
}

/// A chunk that level 1 shrinks by less than one part in this number is stored uncompressed.
const HOPELESS: usize = 200;

fn work(
    todo: &Receiver<Job>,
    done: &Sender<Compressed>,
    mut compressors: Compressors,
) -> Result<()> {
    for job in todo {
        let chunk = match job.content {
            JobContent::Raw { bytes, kind } => compressors.compress(&bytes, kind)?,
            JobContent::Stored(chunk) => chunk,
        };
        let compressed = Compressed {
            place: job.place,
            id: job.id,
            raw_len: chunk.raw_len,
            codec: chunk.codec,
            digest: Digest::of(&chunk.stored),
            stored: chunk.stored,
        };
        if done.send(compressed).is_err() {
            break;
        }
    }
    Ok(())
}

/// The compressors of one thread.
struct Compressors {
    usual: Compressor,
    /// For chunks of large files.
    large: Compressor,
    quick: Compressor,
}

impl Compressors {
    fn new(options: Options) -> Result<Compressors> {
        let large = options.large.map_or(options.effort, |large| large.effort);
        Ok(Compressors {
            usual: Compressor::new(options.effort)?,
            large: Compressor::new(large)?,
            quick: Compressor::new(Effort::level(1))?,
        })
    }

    fn compress(&mut self, raw: &[u8], kind: ChunkKind) -> Result<StoredChunk> {
        let mut stored = Vec::new();
        let mut codec = self.quick.compress(raw, false, &mut stored)?;
        if codec == Codec::Stored || stored.len() > raw.len() - raw.len() / HOPELESS {
            codec = Codec::Stored;
            stored.clear();
            stored.extend_from_slice(raw);
        } else {
            let compressor = match kind.large {
                true => &mut self.large,
                false => &mut self.usual,
            };
            codec = compressor.compress(raw, kind.x86, &mut stored)?;
        }
        stored.shrink_to_fit();
        Ok(StoredChunk {
            stored,
            codec,
            raw_len: raw.len() as u32,
        })
    }
}

fn collect(
    file: &File,
    results: &Receiver<Compressed>,
    free: &Sender<()>,
    stored: &AtomicU64,
) -> Result<WrittenChunks> {
    let mut waiting = BTreeMap::new();
    let mut chunks = Vec::new();
    let mut next = 0;
    let mut offset = SUPERBLOCK_LEN as u64;
    for compressed in results {
        waiting.insert(compressed.place, compressed);
        while let Some(ready) = waiting.remove(&next) {
            file.write_all_at(&ready.stored, offset)
                .map_err(|e| FormatError::io("file", offset, "cannot write chunk data", e))?;
            let chunk = Chunk {
                source: ChunkFile::Own,
                offset,
                stored_len: ready.stored.len() as u32,
                raw_len: ready.raw_len,
                codec: ready.codec,
                digest: ready.digest,
            };
            chunks.push((ready.id, chunk));
            offset += u64::from(chunk.stored_len);
            stored.store(offset - SUPERBLOCK_LEN as u64, Ordering::Relaxed);
            next += 1;
            let _ = free.send(());
        }
    }
    Ok(WrittenChunks {
        chunks,
        data_end: offset,
    })
}
