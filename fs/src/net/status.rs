//! Counters and waits of the network side of a mount.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use serde::Serialize;

/// Counters, added to from every thread.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests sent, whatever became of them.
    pub requests: AtomicU64,
    /// Body bytes received.
    pub bytes: AtomicU64,
    /// Exchanges that failed and were tried again.
    pub retries: AtomicU64,
    /// Chunks received whose digest was wrong.
    pub corrupt: AtomicU64,
    /// Chunks fetched because something waited for them.
    pub demanded: AtomicU64,
    /// Chunks fetched ahead of need.
    pub prefetched: AtomicU64,
    /// Number of chunks from the boot pack's stream.
    pub pack_chunks: AtomicU64,
    /// Number of chunks of the boot pack rebuilt from the layers because the pack was unavailable.
    pub rebuilt: AtomicU64,
    /// Chunks found in the cache.
    pub cache_hits: AtomicU64,
    /// Chunks found on the disk cache but damaged there.
    pub cache_damaged: AtomicU64,
    /// Chunks read from the backup.
    pub backup_hits: AtomicU64,
    /// Seconds in which a reader waited for a server for a second or more.
    pub waited_s: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// One server as `layerfs status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorStatus {
    /// URL of the server.
    pub server: String,
    /// Failures in a row.
    pub failures: u32,
    /// Wrong bytes it has sent.
    pub corrupt: u32,
    /// The last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// The whole state, for `layerfs status` and for tests.
#[derive(Debug, Clone, Serialize)]
pub struct RemoteStatus {
    /// `system/profile@revision`.
    pub revision: String,
    /// Seconds that the longest waiting reader has waited for a server, if any waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_seconds: Option<u64>,
    /// True if the mount was started from the backup because no server answered.
    pub offline: bool,
    /// State of the boot pack's stream.
    pub pack: String,
    /// State of the background fetching.
    pub prefetch: String,
    /// State of the backup on disk.
    pub backup: String,
    /// State of the chunk cache.
    pub cache: String,
    /// Number of requests sent.
    pub requests: u64,
    /// Body bytes received.
    pub bytes: u64,
    /// Number of failed exchanges.
    pub retries: u64,
    /// Chunks rejected for a wrong digest.
    pub corrupt: u64,
    /// Chunks fetched on demand.
    pub demanded: u64,
    /// Chunks fetched ahead.
    pub prefetched: u64,
    /// Number of chunks from the boot pack.
    pub pack_chunks: u64,
    /// Pack chunks rebuilt from the layers.
    pub rebuilt: u64,
    /// Chunks found in the cache.
    pub cache_hits: u64,
    /// Damaged chunks found on the cache's disk.
    pub cache_damaged: u64,
    /// Chunks read from the backup.
    pub backup_hits: u64,
    /// Seconds in which a reader waited for a server, since the start.
    pub waited_s: u64,
    /// The servers, in the order they were named.
    pub mirrors: Vec<MirrorStatus>,
}

/// A state in words that other threads may look at.
#[derive(Debug)]
pub struct Word {
    text: Mutex<String>,
    followed: OnceLock<Arc<Word>>,
}

impl Word {
    /// Starts with `text`.
    pub fn new(text: &str) -> Self {
        Word {
            text: Mutex::new(text.to_owned()),
            followed: OnceLock::new(),
        }
    }

    /// Replaces the text.
    pub fn set(&self, text: impl Into<String>) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// Shows another's text from now on.
    pub(crate) fn follow(&self, other: Arc<Word>) {
        let _ = self.followed.set(other);
    }

    /// The text now.
    pub fn get(&self) -> String {
        match self.followed.get() {
            Some(other) => other.get(),
            None => self
                .text
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }
}

/// Start of the current wait, to report it once and to report its end.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    said: Option<Instant>,
}

/// Messages of [`Patience`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Say {
    Nothing,
    Waiting(u64),
    Over(u64),
}

impl Patience {
    /// Called every second with the duration of the longest wait (`None`: no wait).
    pub(crate) fn look(&mut self, waited: Option<std::time::Duration>, say_after: u64) -> Say {
        match (waited, self.said) {
            (Some(waited), None) if waited.as_secs() >= say_after => {
                self.said = Instant::now().checked_sub(waited);
                Say::Waiting(waited.as_secs())
            }
            (None, Some(since)) => {
                self.said = None;
                Say::Over(since.elapsed().as_secs())
            }
            _ => Say::Nothing,
        }
    }
}
