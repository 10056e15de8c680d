//! Counters and waits of the network side of a mount.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use serde::Serialize;
pub(crate) use wire::counts::{Counters, Counts};

/// One server as `layerfs status` shows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct MirrorStatus {
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

/// The counts of an update pack in `layerfs status`.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct UpdateStatus {
    /// Units of the pack.
    pub units: u32,
    /// Units whose chunks are on this machine.
    pub applied: u32,
    /// Units whose chunks are fetched without the pack.
    pub given_up: u32,
    /// Bytes of the pack that were received.
    pub bytes: u64,
    /// Length of the chunks and of the index that they replace, bytes.
    pub plain_bytes: u64,
}

/// The whole state, for `layerfs status` and for tests.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RemoteStatus {
    /// `system/profile@revision`.
    pub revision: String,
    /// Seconds that the longest waiting reader has waited for a server, if any waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_seconds: Option<u64>,
    /// True if the mount was started from the backup because no server answered.
    pub offline: bool,
    /// True unless the whole index is still to come.
    pub index_whole: bool,
    /// State of the boot pack's stream.
    pub pack: String,
    /// State of the background fetching.
    pub prefetch: String,
    /// State of the backup on disk.
    pub backup: String,
    /// State of the update pack's stream.
    pub update: String,
    /// Counts of the update pack, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_pack: Option<UpdateStatus>,
    /// State of the chunk cache.
    pub cache: String,
    /// The newest revision of the system, if a server has named it since the mount and it is
    /// another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// The ring of the machine.
    pub ring: String,
    /// True if the machine sends hellos.
    pub reports: bool,
    /// The fingerprint of the machine's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_key: Option<String>,
    /// The counters of the mount.
    #[serde(flatten)]
    pub counts: Counts,
    /// Damaged chunks found on the cache's disk.
    pub cache_damaged: u64,
    /// The servers, in the order they were named.
    pub mirrors: Vec<MirrorStatus>,
}

/// The text of a state, which other threads may read.
#[derive(Debug)]
pub(crate) struct StatusText {
    text: Mutex<String>,
    followed: OnceLock<Arc<StatusText>>,
}

impl StatusText {
    /// Starts with `text`.
    pub(crate) fn new(text: &str) -> Self {
        StatusText {
            text: Mutex::new(text.to_owned()),
            followed: OnceLock::new(),
        }
    }

    /// Replaces the text.
    pub(crate) fn set(&self, text: impl Into<String>) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text.into();
    }

    /// Shows the text of another state from now on.
    pub(crate) fn follow(&self, other: Arc<StatusText>) {
        let _ = self.followed.set(other);
    }

    /// The text now.
    pub(crate) fn get(&self) -> String {
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
pub(crate) struct WaitReport {
    said: Option<Instant>,
}

/// Messages of [`WaitReport`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WaitMessage {
    Nothing,
    Waiting(u64),
    Over(u64),
}

impl WaitReport {
    /// Called every second with the duration of the longest wait (`None`: no wait).
    pub(crate) fn look(
        &mut self,
        waited: Option<std::time::Duration>,
        say_after: u64,
    ) -> WaitMessage {
        match (waited, self.said) {
            (Some(waited), None) if waited.as_secs() >= say_after => {
                self.said = Instant::now().checked_sub(waited);
                WaitMessage::Waiting(waited.as_secs())
            }
            (None, Some(since)) => {
                self.said = None;
                WaitMessage::Over(since.elapsed().as_secs())
            }
            _ => WaitMessage::Nothing,
        }
    }
}
