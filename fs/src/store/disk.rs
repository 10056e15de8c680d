//! Stored chunks on disk, shared by the mounts of a machine and persistent over restarts.
//!
//! One file per chunk, named by its digest. A chunk is written under another name and renamed, so
//! another process sees either all of it or nothing. After a power cut a file may be torn or empty,
//! which its digest reveals when it is read: it is then removed and fetched again. No other data
//! has to survive.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use layerfmt::Digest;
use lru::LruCache;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, unlinkat, utimensat};

use crate::sys::object::proc_path;

/// Name and version of the directory inside the one that was given.
const VERSION_DIR: &str = "chunks-1";
/// The directory in which chunks are written before they get their name.
const STAGE_DIR: &str = "stage";
/// Files occupy whole blocks.
const BLOCK_LEN: u64 = 4096;
/// Maximum number of chunks that wait to be written; further ones are dropped.
const WAITING_MAX: usize = 256;
/// Number of write errors in a row after which the disk is not written to any more.
const ERRORS_MAX: u64 = 16;
/// The last use of a chunk is recorded on the disk at most this often.
const TOUCH_SECONDS: u64 = 3600;

/// A cache directory. Dropping it waits for pending writes.
#[derive(Debug)]
pub(crate) struct DiskCache {
    shared: Arc<Shared>,
    queue: Option<SyncSender<(Digest, Bytes)>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    dir: OwnedFd,
    len_max: u64,
    state: Mutex<DiskState>,
    damaged: AtomicU64,
    errors: AtomicU64,
    dropped: AtomicU64,
    /// Length of the chunks that wait to be written, bytes.
    waiting_len: AtomicU64,
}

#[derive(Debug)]
struct DiskState {
    /// Least recently used first; the value is the occupied space.
    chunks: LruCache<Digest, u64>,
    len: u64,
}

impl DiskCache {
    /// Opens `dir`, creates it if necessary, and lists its chunks. Every later access uses the
    /// directory as opened here, so the path may disappear at switch_root.
    ///
    /// # Errors
    /// The directory cannot be created, read or written.
    pub(crate) fn open(dir: &Path, len_max: u64) -> std::io::Result<DiskCache> {
        std::fs::create_dir_all(dir.join(VERSION_DIR).join(STAGE_DIR))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir.join(VERSION_DIR), flags, Mode::empty())?;
        let shared = Arc::new(Shared {
            dir,
            len_max,
            state: Mutex::new(DiskState {
                chunks: LruCache::unbounded(),
                len: 0,
            }),
            damaged: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            waiting_len: AtomicU64::new(0),
        });
        shared.scan()?;
        shared.make_room(0);
        let (queue, waiting) = sync_channel(WAITING_MAX);
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("layerfs-cache".into())
            .spawn(move || for_writer.write_all(&waiting))?;
        Ok(DiskCache {
            shared,
            queue: Some(queue),
            writer: Some(writer),
        })
    }

    /// The chunk, if it is here and has its digest. A damaged one is removed.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Bytes> {
        self.shared.get(digest)
    }

    /// Stores a chunk in the background. The caller has verified it.
    pub(crate) fn put(&self, digest: &Digest, bytes: &Bytes) {
        let shared = &self.shared;
        if !self.is_written() || shared.knows(digest) {
            return;
        }
        let Some(queue) = &self.queue else { return };
        let len = bytes.len() as u64;
        shared.waiting_len.fetch_add(len, Ordering::AcqRel);
        if let Err(error) = queue.try_send((*digest, bytes.clone())) {
            shared.waiting_len.fetch_sub(len, Ordering::AcqRel);
            if let TrySendError::Full(_) = error {
                shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// False after too many errors in a row.
    pub(crate) fn is_written(&self) -> bool {
        self.shared.errors.load(Ordering::Relaxed) < ERRORS_MAX
    }

    /// Length of the chunks that wait to be written, bytes.
    pub(crate) fn waiting_len(&self) -> u64 {
        self.shared.waiting_len.load(Ordering::Acquire)
    }

    /// True if the chunk is present according to the list of files.
    pub(crate) fn knows(&self, digest: &Digest) -> bool {
        self.shared.knows(digest)
    }

    /// Bytes of disk in use.
    pub(crate) fn len(&self) -> u64 {
        self.shared.lock().len
    }

    /// True if the cache is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Chunks found damaged so far.
    pub(crate) fn damaged(&self) -> u64 {
        self.shared.damaged.load(Ordering::Relaxed)
    }

    /// The state as text.
    pub(crate) fn describe(&self) -> String {
        let (count, len) = {
            let state = self.shared.lock();
            (state.chunks.len(), state.len)
        };
        let mut text = format!(
            "{count} chunks, {} of {} MiB",
            len >> 20,
            self.shared.len_max >> 20
        );
        if !self.is_written() {
            text.push_str(", no longer written to: too many errors");
        }
        text
    }
}

impl Drop for DiskCache {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knows(&self, digest: &Digest) -> bool {
        self.lock().chunks.contains(digest)
    }

    /// Lists the chunks of earlier mounts, oldest use first, and empties the staging directory.
    fn scan(&self) -> std::io::Result<()> {
        let mut found = Vec::new();
        for shard in rustix::fs::Dir::read_from(&self.dir)? {
            let shard = shard?;
            let name = shard.file_name();
            if name.to_bytes() == STAGE_DIR.as_bytes() {
                self.clear_stage()?;
                continue;
            }
            if name.to_bytes().len() != 2 {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let shard = openat(&self.dir, name, flags, Mode::empty())?;
            for entry in rustix::fs::Dir::read_from(&shard)? {
                let entry = entry?;
                let digest = entry
                    .file_name()
                    .to_str()
                    .ok()
                    .and_then(|name| name.parse::<Digest>().ok());
                let Some(digest) = digest else { continue };
                let Ok(stat) =
                    rustix::fs::statat(&shard, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                else {
                    continue;
                };
                found.push((
                    stat.st_mtime,
                    digest,
                    space(u64::try_from(stat.st_size).unwrap_or(0)),
                ));
            }
        }
        found.sort_unstable_by_key(|(used, digest, _)| (*used, *digest));
        let mut state = self.lock();
        for (_, digest, space) in found {
            if state.chunks.put(digest, space).is_none() {
                state.len += space;
            }
        }
        Ok(())
    }

    /// Removes files whose writer died. Files of living processes stay.
    fn clear_stage(&self) -> std::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let stage = openat(&self.dir, STAGE_DIR, flags, Mode::empty())?;
        for entry in rustix::fs::Dir::read_from(&stage)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name
                .split('-')
                .next()
                .and_then(|pid| pid.parse::<u32>().ok());
            let Some(owner) = owner else { continue };
            let alive =
                owner == std::process::id() || Path::new(&proc_path(&owner.to_string())).exists();
            if !alive {
                let _ = unlinkat(&stage, entry.file_name(), AtFlags::empty());
            }
        }
        Ok(())
    }

    fn get(&self, digest: &Digest) -> Option<Bytes> {
        // Another mount may have written it since: the disk is authoritative, not our list.
        let path = path(digest);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match openat(&self.dir, &path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(_) => {
                self.forget(digest);
                return None;
            }
        };
        let mut file = File::from(file);
        let meta = file.metadata().ok()?;
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).ok()?);
        let whole = file.read_to_end(&mut bytes).is_ok() && Digest::of(&bytes) == *digest;
        if !whole {
            self.damaged.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(chunk = %digest, len = bytes.len(), "damaged in the cache: removed and fetched again");
            let _ = unlinkat(&self.dir, &path, AtFlags::empty());
            self.forget(digest);
            return None;
        }
        self.used(digest, &meta, &path);
        Some(Bytes::from(bytes))
    }

    /// Records the use in memory, and sometimes on the disk for the next mount.
    fn used(&self, digest: &Digest, meta: &std::fs::Metadata, path: &str) {
        let taken = space(meta.len());
        {
            let mut state = self.lock();
            if state.chunks.get(digest).is_none() {
                state.chunks.put(*digest, taken);
                state.len += taken;
            }
        }
        let age = meta.modified().ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age.as_secs() > TOUCH_SECONDS) {
            let now = std::time::SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let time = rustix::fs::Timespec {
                tv_sec: i64::try_from(now.as_secs()).unwrap_or(0),
                tv_nsec: 0,
            };
            let times = rustix::fs::Timestamps {
                last_access: time,
                last_modification: time,
            };
            let _ = utimensat(&self.dir, path, &times, AtFlags::SYMLINK_NOFOLLOW);
        }
    }

    fn forget(&self, digest: &Digest) {
        let mut state = self.lock();
        if let Some(space) = state.chunks.pop(digest) {
            state.len = state.len.saturating_sub(space);
        }
    }

    fn write_all(&self, waiting: &Receiver<(Digest, Bytes)>) {
        let mut number = 0u64;
        for (digest, bytes) in waiting {
            self.waiting_len
                .fetch_sub(bytes.len() as u64, Ordering::AcqRel);
            if self.knows(&digest) || space(bytes.len() as u64) > self.len_max {
                continue;
            }
            self.make_room(space(bytes.len() as u64));
            number += 1;
            match self.write(&digest, &bytes, number) {
                Ok(()) => {
                    self.errors.store(0, Ordering::Relaxed);
                    let mut state = self.lock();
                    if state
                        .chunks
                        .put(digest, space(bytes.len() as u64))
                        .is_none()
                    {
                        state.len += space(bytes.len() as u64);
                    }
                }
                Err(error) => {
                    let before = self.errors.fetch_add(1, Ordering::Relaxed);
                    if before == 0 || before + 1 == ERRORS_MAX {
                        tracing::warn!(%error, "cannot write to the chunk cache; the mount continues without it");
                    }
                }
            }
        }
    }

    fn write(&self, digest: &Digest, bytes: &[u8], number: u64) -> std::io::Result<()> {
        let stage = format!("{STAGE_DIR}/{}-{number}", std::process::id());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(&self.dir, &stage, flags, Mode::from_raw_mode(0o600))?;
        let written = File::from(file)
            .write_all(bytes)
            .and_then(|()| self.name(&stage, digest));
        if written.is_err() {
            let _ = unlinkat(&self.dir, &stage, AtFlags::empty());
        }
        written
    }

    fn name(&self, stage: &str, digest: &Digest) -> std::io::Result<()> {
        let path = path(digest);
        match renameat(&self.dir, stage, &self.dir, &path) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::NOENT) => {
                let shard = path.split('/').next().unwrap_or_default();
                match mkdirat(&self.dir, shard, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                Ok(renameat(&self.dir, stage, &self.dir, &path)?)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the least recently used until `more` fits.
    fn make_room(&self, more: u64) {
        loop {
            let oldest = {
                let mut state = self.lock();
                if state.len.saturating_add(more) <= self.len_max {
                    return;
                }
                let Some((digest, space)) = state.chunks.pop_lru() else {
                    return;
                };
                state.len = state.len.saturating_sub(space);
                digest
            };
            let _ = unlinkat(&self.dir, path(&oldest), AtFlags::empty());
        }
    }
}

fn path(digest: &Digest) -> String {
    let hex = digest.to_string();
    format!("{}/{hex}", hex.get(..2).unwrap_or_default())
}

fn space(len: u64) -> u64 {
    len.max(1).div_ceil(BLOCK_LEN).saturating_mul(BLOCK_LEN)
}

#[cfg(test)]
mod tests;
