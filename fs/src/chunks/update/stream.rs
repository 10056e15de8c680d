//! Applies the units of an update pack in the order in which they arrive: hot units at once, the
//! others only while there is no demand.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{AHEAD_LEN_MAX, Asked, Update};
use crate::net::error::{Blame, FetchError};
use crate::net::exchange::{Ask, HttpAnswer};
use crate::net::fetcher::FetcherShared;
use crate::net::status::{Counters, StatusText};
use crate::net::worker::yield_to_demand;

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
    server: usize,
    answer: HttpAnswer,
    ahead: Vec<u8>,
    /// The unit that it brings next.
    next: u32,
}

impl UpdateStream {
    /// Reads on after what [`begin`](super::begin()) read. True if every unit came that was wanted.
    pub(crate) async fn run(self, asked: Asked) -> bool {
        let ahead = asked.ahead;
        let coming = asked.answer.map(|(server, answer)| UnitStream {
            server,
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
                    self.state.set(format!("{} of {count} units", row + 1));
                    (row, tries) = (row + 1, 0);
                    continue;
                }
                Err(error) => error,
            };
            if let Some(broken) = coming.take() {
                let path = &self.update.object.path;
                self.inner.mirrors.failed(broken.server, path, &error);
            }
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
        let coming = match coming {
            Some(coming) if before(coming.next) <= AHEAD_LEN_MAX => coming,
            _ => coming.insert(self.ask(row, frame.offset).await?),
        };
        let start = usize::try_from(before(coming.next)).unwrap_or(usize::MAX);
        let end = start.saturating_add(frame.len as usize);
        while coming.ahead.len() < end {
            yield_to_demand(&self.inner, &mut coming.answer, is_needed).await?;
            let Some(part) = coming.answer.next().await? else {
                return Err(FetchError::Wrong("an update pack that ends early"));
            };
            Counters::add(&self.inner.counters.bytes, part.len() as u64);
            if !is_needed() {
                self.inner.limiter.pay(part.len() as u64).await;
            }
            coming.ahead.extend_from_slice(&part);
        }
        let rest = coming.ahead.split_off(end);
        let bytes = coming.ahead.split_off(start);
        (coming.ahead, coming.next) = (rest, row + 1);
        let len = u64::from(frame.len);
        self.update.bytes.fetch_add(len, Ordering::Relaxed);
        Ok(Bytes::from(bytes))
    }

    /// Asks for the rest of the pack from unit `row` at `position` on.
    async fn ask(&self, row: u32, position: u64) -> Result<UnitStream, FetchError> {
        let (server, connection) = self.inner.server(0).await?;
        let range: Range<u64> = position..self.update.end();
        let stall = self.inner.mirrors.stall(server);
        let ask = Ask::range(&self.update.object.path, range.clone(), stall);
        let answer = connection.ask_h1(&ask).await?;
        answer.check_range(&range)?;
        Ok(UnitStream {
            server,
            answer,
            ahead: Vec::new(),
            next: row,
        })
    }
}

impl Update {
    /// Where the last frame ends in the file.
    fn end(&self) -> u64 {
        let last = self.plan.len().checked_sub(1);
        let last = last.and_then(|row| self.frame(row));
        last.map_or(self.frames_at, |frame| frame.end())
    }
}
