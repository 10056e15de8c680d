//! Applies the units of an update pack in the order in which they arrive: hot units at once, the
//! others only while there is no demand.
//!
//! A boot reads the hot units. The others are requested when it is over, as the rest of the system is: until
//! then a reader that needs one requests it alone.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::begin::UpdateAnswer;
use super::{AHEAD_LEN_MAX, Asked, Update};
use crate::net::error::{Blame, FetchError};
use crate::net::fetcher::{FetcherShared, QUIET_FIRST};
use crate::net::status::{Counters, StatusText};
use crate::net::worker::yield_to_demand;

/// Interval of the checks for waiting readers.
const LOOK: Duration = Duration::from_millis(100);

/// Chunks that wait to be written to the disk, bytes, from which the stream waits for the disk.
const UNWRITTEN_LEN_MAX: u64 = 4 << 20;
/// Interval of the checks for a disk that is behind.
const WRITE_LOOK: Duration = Duration::from_millis(5);

/// Maximum number of attempts in a row to resume a broken stream without receiving a unit.
const TRIES_MAX: u32 = 20;

/// The stream of an update pack.
pub(crate) struct UpdateStream {
    pub(crate) inner: Arc<FetcherShared>,
    pub(crate) update: Arc<Update>,
    /// Stops after the hot units.
    pub(crate) only_hot: bool,
    /// Shown in the status.
    pub(crate) state: Arc<StatusText>,
}

/// An answer, and its bytes that were read ahead.
struct UnitStream {
    answer: UpdateAnswer,
    ahead: Vec<u8>,
    /// The unit that it brings next.
    next: u32,
}

/// Returns when no reader waits for a server and the bandwidth limit admits `len` bytes, or when the mount ends.
pub(super) async fn until_unhurried(inner: &FetcherShared, len: u64) {
    while inner.waiting().is_some() && !inner.closed.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
    inner.limiter.pay(len).await;
}

impl UpdateStream {
    /// Reads on after what [`begin`](super::begin()) read. True if every unit came that was wanted.
    pub(crate) async fn run(self, asked: Asked) -> bool {
        let ahead = asked.ahead;
        let coming = asked.answer.map(|answer| UnitStream {
            answer,
            ahead,
            next: 0,
        });
        let result = self.units(coming).await;
        self.update.stream_over();
        let status = self.update.status();
        let counts = format!(
            "{} of {} units, {} bytes in place of {}",
            status.applied, status.units, status.bytes, status.plain_bytes
        );
        let is_complete = result.is_ok();
        match result {
            Ok(()) => self.state.set(format!("complete: {counts}")),
            Err(FetchError::Closed) => {}
            Err(error) => {
                tracing::warn!(%error, "the stream of the update pack is given up: chunks come on demand");
                self.state.set(format!("given up: {error}; {counts}"));
            }
        }
        is_complete
    }

    async fn units(&self, mut coming: Option<UnitStream>) -> Result<(), FetchError> {
        let plan = &self.update.plan;
        let count = if self.only_hot {
            plan.hot_count()
        } else {
            plan.len()
        };
        let mut tries = 0;
        let mut row = 0;
        while row < count {
            if self.update.is_applied(row) {
                row += 1;
                continue;
            }
            let error = match self.unit(row, &mut coming).await {
                Ok(frame) => {
                    self.update.settle(row, frame).await;
                    self.until_written(row).await?;
                    self.state.set(format!("{} of {count} units", row + 1));
                    (row, tries) = (row + 1, 0);
                    continue;
                }
                Err(error) => error,
            };
            tries += 1;
            if tries >= TRIES_MAX || error.blame() != Blame::Server {
                return Err(error);
            }
            tokio::time::sleep(self.inner.mirrors.wait(tries)).await;
        }
        Ok(())
    }

    /// The frame of unit `row`. Its digest is checked when it is applied.
    async fn unit(&self, row: u32, coming: &mut Option<UnitStream>) -> Result<Bytes, FetchError> {
        let Some(frame) = self.update.frame(row) else {
            return Err(FetchError::Wrong("no such unit"));
        };
        self.update.next.store(row, Ordering::Release);
        let is_needed = || {
            let is_hot = row < self.update.plan.hot_count();
            is_hot || self.update.awaited.load(Ordering::Acquire) > 0
        };
        let before = |next: u32| {
            let first = self.update.frame(next).map_or(0, |first| first.offset);
            frame.offset.saturating_sub(first)
        };
        // Units that are here are passed over, or the rest is asked for.
        let mut stream = match coming.take() {
            Some(stream) if before(stream.next) <= AHEAD_LEN_MAX => stream,
            _ => self.ask(row, frame.offset).await?,
        };
        let first = self.update.frame(stream.next).map_or(0, |it| it.offset);
        let start = usize::try_from(before(stream.next)).unwrap_or(usize::MAX);
        let end = start.saturating_add(frame.len as usize);
        while stream.ahead.len() < end {
            yield_to_demand(&self.inner, is_needed).await?;
            let at = first.saturating_add(stream.ahead.len() as u64);
            let Some(part) = stream.part(self, at).await? else {
                stream.answer = self.ask(row, at).await?.answer;
                continue;
            };
            if !is_needed() {
                self.inner.limiter.pay(part.len() as u64).await;
            }
            stream.ahead.extend_from_slice(&part);
        }
        let rest = stream.ahead.split_off(end);
        let bytes = stream.ahead.split_off(start);
        (stream.ahead, stream.next) = (rest, row + 1);
        *coming = Some(stream);
        let len = u64::from(frame.len);
        self.update.bytes.fetch_add(len, Ordering::Relaxed);
        Ok(Bytes::from(bytes))
    }

    /// Asks for the pack from `position` on, in or before unit `row`: for all hot units in one request, and
    /// for all others in another after the boot.
    async fn ask(&self, row: u32, position: u64) -> Result<UnitStream, FetchError> {
        let hot_count = self.update.plan.hot_count();
        let last = match row < hot_count {
            true => hot_count,
            false => self.update.plan.len(),
        };
        if hot_count > 0 && row >= hot_count {
            self.until_quiet().await?;
        }
        let range: Range<u64> = position..self.update.end_of(last);
        let object = &self.update.object;
        let answer = UpdateAnswer::ask(&self.inner, object, range.clone()).await?;
        if answer.end != Some(range.end) {
            return Err(FetchError::Wrong("a shorter update pack"));
        }
        Ok(UnitStream {
            answer,
            ahead: Vec::new(),
            next: row,
        })
    }

    /// Returns when few made chunks wait for the disk: a queue of all of them would fill the memory, and a
    /// full one drops chunks. Hot units do not wait.
    async fn until_written(&self, row: u32) -> Result<(), FetchError> {
        let unwritten = || self.update.caches.unwritten_len();
        while row >= self.update.plan.hot_count() && unwritten() > UNWRITTEN_LEN_MAX {
            if self.inner.closed.load(Ordering::Relaxed) {
                return Err(FetchError::Closed);
            }
            tokio::time::sleep(WRITE_LOOK).await;
        }
        Ok(())
    }

    /// Returns when no reader has waited for some seconds. Until then readers do not wait for the stream.
    async fn until_quiet(&self) -> Result<(), FetchError> {
        self.update.pause(true);
        while self.inner.waiting().is_some() || self.inner.quiet_for() < QUIET_FIRST {
            if self.inner.closed.load(Ordering::Relaxed) {
                return Err(FetchError::Closed);
            }
            tokio::time::sleep(LOOK).await;
        }
        self.update.pause(false);
        Ok(())
    }
}

impl UnitStream {
    /// More of the answer; `None` if it is complete. `at`: the position in the file that it has reached.
    async fn part(&mut self, stream: &UpdateStream, at: u64) -> Result<Option<Bytes>, FetchError> {
        let inner = &stream.inner;
        let part = match self.answer.body.next().await {
            Ok(None) if self.answer.end != Some(at) => {
                Err(FetchError::Wrong("an update pack that ends early"))
            }
            part => part,
        };
        let part = part.inspect_err(|error| {
            let path = &stream.update.object.path;
            inner.mirrors.failed(self.answer.server, path, error);
        })?;
        let len = part.as_ref().map_or(0, |part| part.len() as u64);
        Counters::add(&inner.counters.bytes, len);
        Ok(part)
    }
}

impl Update {
    /// Where unit `row` begins in the file; for the number of all units where the last one ends.
    fn end_of(&self, row: u32) -> u64 {
        let last = row.checked_sub(1);
        let last = last.and_then(|row| self.frame(row));
        last.map_or(self.frames_at, |frame| frame.end())
    }
}
