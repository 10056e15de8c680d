//! A pending chunk: its waiting readers, received data, and worker.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use bytes::Bytes;

use super::super::error::FetchError;
use super::super::object::{ChunkRange, Object};

/// The result of a chunk for its waiting readers.
pub(crate) type Outcome = Result<Bytes, Arc<FetchError>>;

/// Precedence of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    Prefetch,
    Demand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobState {
    /// In the queue of its priority.
    Queued,
    /// A worker has it.
    Running,
    /// The boot pack's stream will bring it.
    Streaming,
}

/// Called once with the result of a chunk, outside the queue's lock.
pub(crate) type OnOutcome = Box<dyn FnOnce(Outcome) + Send>;

pub(super) struct Waiter {
    pub(super) ticket: u64,
    pub(super) since: Instant,
    pub(super) notify: OnOutcome,
}

impl std::fmt::Debug for Waiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiter")
            .field("ticket", &self.ticket)
            .finish_non_exhaustive()
    }
}

/// Notifications to deliver after the queue's lock is released.
#[must_use = "a reader waits for it"]
#[derive(Default)]
pub(crate) struct Notices(Vec<(OnOutcome, Outcome)>);

impl Notices {
    pub(super) fn add(&mut self, waiters: Vec<Waiter>, outcome: &Outcome) {
        let notified = waiters.into_iter();
        self.0
            .extend(notified.map(|waiter| (waiter.notify, outcome.clone())));
    }

    /// Delivers the notifications.
    pub(crate) fn notify(self) {
        for (notify, outcome) in self.0 {
            notify(outcome);
        }
    }
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) range: ChunkRange,
    pub(super) partial: Vec<u8>,
    pub(super) failures: u32,
    pub(super) avoid: u64,
    pub(super) not_before: Option<Instant>,
    pub(super) priority: Priority,
    pub(super) state: JobState,
    pub(super) waiters: Vec<Waiter>,
    pub(super) hurry: Arc<AtomicBool>,
}

/// A chunk for a worker, with the data from earlier attempts.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) range: ChunkRange,
    pub(crate) partial: Vec<u8>,
}

impl Taken {
    /// The range that is still to be fetched.
    pub(crate) fn missing(&self) -> std::ops::Range<u64> {
        self.range.offset.saturating_add(self.partial.len() as u64)..self.range.end()
    }
}

/// Chunks of one object for one request.
#[derive(Debug)]
pub(crate) struct QueuedWork {
    pub(crate) object: Arc<Object>,
    pub(crate) ranges: Vec<Taken>,
    pub(crate) priority: Priority,
    /// Servers (as bits) that have answered wrongly for one of the chunks.
    pub(crate) avoid: u64,
    /// Set when a reader starts to wait for prefetched work: from then on it is not paused.
    pub(crate) hurry: Arc<AtomicBool>,
    /// True if the chunks are adjacent, so that a plain range covers all of them.
    pub(crate) side_by_side: bool,
}

/// The next task of a free worker.
#[derive(Debug)]
pub(crate) enum Next {
    Work(QueuedWork),
    /// No work before this time.
    Sleep(Instant),
    /// No work until a request arrives.
    Idle,
}
