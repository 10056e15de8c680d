//! Requests to the servers: one request at a time for each chunk, and demand always before prefetch.

mod group;
mod job;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use layerfmt::Digest;

use self::group::{BATCH_COUNT_MAX, group};
use self::job::{Job, JobState, Waiter};
pub(crate) use self::job::{Next, Notices, OnOutcome, Outcome, Priority, QueuedWork, Taken};
use super::error::FetchError;
use super::object::{ChunkRange, Object};

/// Number of failures after which a prefetched chunk is dropped.
const PREFETCH_FAILURES_MAX: u32 = 3;
/// Maximum distance of a chunk ahead of the boot pack's stream for which readers still wait.
const STREAM_AHEAD_MAX: u64 = 2 << 20;

#[derive(Debug)]
struct QueueStream {
    object: Arc<Object>,
    position: u64,
    end: u64,
}

/// The queue. It has no lock of its own: its owner locks it.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    jobs: HashMap<Digest, Job>,
    demand: VecDeque<Digest>,
    prefetch: VecDeque<Digest>,
    prefetch_running: usize,
    demand_running: usize,
    stream: Option<QueueStream>,
    tickets: u64,
    closed: bool,
}

impl Queue {
    /// Requests `range` for a reader, notified through `notify`. The result identifies the wait, for
    /// [`Queue::forget`]; a closed queue returns `notify`.
    pub(crate) fn want(&mut self, range: &ChunkRange, notify: OnOutcome) -> Result<u64, OnOutcome> {
        self.tickets += 1;
        let ticket = self.tickets;
        if self.closed {
            return Err(notify);
        }
        self.make_urgent(range);
        if let Some(job) = self.jobs.get_mut(&range.digest) {
            job.waiters.push(Waiter {
                ticket,
                since: Instant::now(),
                notify,
            });
        }
        Ok(ticket)
    }

    fn make_urgent(&mut self, range: &ChunkRange) {
        let streaming = self.stream_will_bring(range);
        let Some(job) = self.jobs.get_mut(&range.digest) else {
            let state = if streaming {
                JobState::Streaming
            } else {
                JobState::Queued
            };
            return self.insert(range, Priority::Demand, state);
        };
        match (job.state, job.priority) {
            (JobState::Queued, Priority::Prefetch) => {
                job.priority = Priority::Demand;
                job.not_before = None;
                self.demand.push_back(range.digest);
            }
            (JobState::Running, Priority::Prefetch) => job.hurry.store(true, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Requests `range` for prefetch. False if it is already pending.
    pub(crate) fn suggest(&mut self, range: &ChunkRange) -> bool {
        if self.closed || self.jobs.contains_key(&range.digest) {
            return false;
        }
        self.insert(range, Priority::Prefetch, JobState::Queued);
        true
    }

    fn insert(&mut self, range: &ChunkRange, priority: Priority, state: JobState) {
        if state == JobState::Queued {
            match priority {
                Priority::Demand => self.demand.push_back(range.digest),
                Priority::Prefetch => self.prefetch.push_back(range.digest),
            }
        }
        self.jobs.insert(
            range.digest,
            Job {
                range: range.clone(),
                partial: Vec::new(),
                failures: 0,
                avoid: 0,
                not_before: None,
                priority,
                state,
                waiters: Vec::new(),
                hurry: Arc::default(),
            },
        );
    }

    /// The next request to make. `batches`: the server accepts batch requests. `prefetch_max`:
    /// maximum number of concurrent prefetch requests.
    pub(crate) fn take(&mut self, now: Instant, batches: bool, prefetch_max: usize) -> Next {
        let mut soonest = None;
        if let Some(work) = self.take_from(Priority::Demand, now, batches, &mut soonest) {
            self.demand_running += 1;
            return Next::Work(work);
        }
        let quiet = self.demand_running == 0 && self.demand.is_empty();
        if quiet
            && self.prefetch_running < prefetch_max
            && let Some(work) = self.take_from(Priority::Prefetch, now, batches, &mut soonest)
        {
            self.prefetch_running += 1;
            return Next::Work(work);
        }
        soonest.map_or(Next::Idle, Next::Sleep)
    }

    fn take_from(
        &mut self,
        priority: Priority,
        now: Instant,
        batches: bool,
        soonest: &mut Option<Instant>,
    ) -> Option<QueuedWork> {
        let jobs = &self.jobs;
        let line = match priority {
            Priority::Demand => &mut self.demand,
            Priority::Prefetch => &mut self.prefetch,
        };
        // Entries of jobs that have ended or changed their priority are skipped here.
        line.retain(|digest| {
            jobs.get(digest)
                .is_some_and(|job| job.state == JobState::Queued && job.priority == priority)
        });
        let mut first: Option<(Arc<Object>, u64, bool)> = None;
        let mut chosen = Vec::new();
        for digest in line.iter() {
            let Some(job) = jobs.get(digest) else {
                continue;
            };
            if let Some(later) = job.not_before.filter(|later| *later > now) {
                *soonest = Some(soonest.map_or(later, |earlier| earlier.min(later)));
                continue;
            }
            // A chunk that some server sent wrong is requested alone, so that its next answer is
            // judged alone.
            let (object, avoid, alone) = first.get_or_insert_with(|| {
                (Arc::clone(&job.range.object), job.avoid, job.failures > 0)
            });
            if **object == *job.range.object && *avoid == job.avoid {
                chosen.push((
                    job.range.offset + job.partial.len() as u64..job.range.end(),
                    *digest,
                ));
            }
            if *alone || chosen.len() >= BATCH_COUNT_MAX {
                break;
            }
        }
        let (object, avoid, _) = first?;
        let can_batch = batches && !object.batch_path.is_empty();
        let (digests, side_by_side) = group(chosen, can_batch);
        self.start(object, avoid, digests, side_by_side, priority)
    }

    fn start(
        &mut self,
        object: Arc<Object>,
        avoid: u64,
        digests: Vec<Digest>,
        side_by_side: bool,
        priority: Priority,
    ) -> Option<QueuedWork> {
        let hurry = Arc::default();
        let mut ranges = Vec::with_capacity(digests.len());
        for digest in digests {
            let Some(job) = self.jobs.get_mut(&digest) else {
                continue;
            };
            job.state = JobState::Running;
            job.hurry = Arc::clone(&hurry);
            ranges.push(Taken {
                range: job.range.clone(),
                partial: std::mem::take(&mut job.partial),
            });
        }
        if ranges.is_empty() {
            return None;
        }
        Some(QueuedWork {
            object,
            ranges,
            priority,
            avoid,
            hurry,
            side_by_side,
        })
    }

    /// A request of this priority is over; its chunks were finished or failed one by one before.
    pub(crate) fn work_over(&mut self, priority: Priority) {
        match priority {
            Priority::Demand => self.demand_running = self.demand_running.saturating_sub(1),
            Priority::Prefetch => self.prefetch_running = self.prefetch_running.saturating_sub(1),
        }
    }

    /// The chunk has arrived and is verified.
    pub(crate) fn finish(&mut self, digest: &Digest, bytes: &Bytes) -> Notices {
        self.end(digest, &Ok(bytes.clone()))
    }

    fn end(&mut self, digest: &Digest, outcome: &Outcome) -> Notices {
        let mut notices = Notices::default();
        if let Some(job) = self.jobs.remove(digest) {
            notices.add(job.waiters, outcome);
        }
        notices
    }

    /// The chunk did not arrive. `partial` is kept for the next attempt, which happens after
    /// `wait`, if it is still needed; servers in `avoid` are not used again.
    pub(crate) fn retry(&mut self, taken: Taken, avoid: u64, wait: Duration, progressed: bool) {
        let digest = taken.range.digest;
        let Some(job) = self.jobs.get_mut(&digest) else {
            return;
        };
        job.failures = if progressed {
            1
        } else {
            job.failures.saturating_add(1)
        };
        if job.waiters.is_empty() && job.failures >= PREFETCH_FAILURES_MAX {
            self.jobs.remove(&digest);
            return;
        }
        if !job.waiters.is_empty() {
            job.priority = Priority::Demand;
        }
        job.partial = taken.partial;
        job.avoid = avoid;
        job.state = JobState::Queued;
        job.not_before = (!wait.is_zero()).then(|| Instant::now() + wait);
        match job.priority {
            Priority::Demand => self.demand.push_front(digest),
            Priority::Prefetch => self.prefetch.push_front(digest),
        }
    }

    /// Failures of the chunk so far.
    pub(crate) fn failures(&self, digest: &Digest) -> u32 {
        self.jobs.get(digest).map_or(0, |job| job.failures)
    }

    /// The chunk is unavailable: its waiting readers are notified.
    pub(crate) fn give_up(&mut self, digest: &Digest, error: &Arc<FetchError>) -> Notices {
        self.end(digest, &Err(Arc::clone(error)))
    }

    /// A waiting reader has left. A chunk without waiting readers is not requested again.
    pub(crate) fn forget(&mut self, digest: &Digest, ticket: u64) {
        let Some(job) = self.jobs.get_mut(digest) else {
            return;
        };
        job.waiters.retain(|waiter| waiter.ticket != ticket);
        if job.waiters.is_empty()
            && job.priority == Priority::Demand
            && job.state != JobState::Running
        {
            self.jobs.remove(digest);
        }
    }

    /// The boot pack's stream runs from `position` to `end` of `object`.
    pub(crate) fn stream_at(&mut self, object: &Arc<Object>, position: u64, end: u64) {
        self.stream = Some(QueueStream {
            object: Arc::clone(object),
            position,
            end,
        });
    }

    /// The stream has delivered `range`: later readers must not wait for the stream.
    pub(crate) fn streamed(&mut self, range: &ChunkRange, bytes: &Bytes) -> Notices {
        if let Some(stream) = &mut self.stream {
            stream.position = stream.position.max(range.end());
        }
        self.finish(&range.digest, bytes)
    }

    /// The stream is over or broken: its waiting readers get their own requests.
    pub(crate) fn stream_over(&mut self) {
        self.stream = None;
        for (digest, job) in &mut self.jobs {
            if job.state == JobState::Streaming {
                job.state = JobState::Queued;
                self.demand.push_back(*digest);
            }
        }
    }

    fn stream_will_bring(&self, range: &ChunkRange) -> bool {
        self.stream.as_ref().is_some_and(|stream| {
            *stream.object == *range.object
                && range.offset >= stream.position
                && range.end() <= stream.end
                && range.offset - stream.position <= STREAM_AHEAD_MAX
        })
    }

    /// True if prefetch must yield: a demand request is queued or running.
    pub(crate) fn demand_pending(&self) -> bool {
        self.demand_running > 0 || !self.demand.is_empty()
    }

    /// True if a reader waits for the stream.
    pub(crate) fn stream_awaited(&self) -> bool {
        self.jobs
            .values()
            .any(|job| job.state == JobState::Streaming)
    }

    /// Chunks queued for prefetch.
    pub(crate) fn suggested(&self) -> usize {
        self.prefetch.len() + self.prefetch_running
    }

    /// Since when the longest waiter waits.
    pub(crate) fn longest_wait(&self) -> Option<Instant> {
        let waiters = self.jobs.values().flat_map(|job| &job.waiters);
        waiters.map(|waiter| waiter.since).min()
    }

    /// Ends everything: all waiting readers are notified, and further requests are refused.
    pub(crate) fn close(&mut self) -> Notices {
        self.closed = true;
        let closed = Err(Arc::new(FetchError::Closed));
        let mut notices = Notices::default();
        for (_, job) in self.jobs.drain() {
            notices.add(job.waiters, &closed);
        }
        self.demand.clear();
        self.prefetch.clear();
        notices
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests;
