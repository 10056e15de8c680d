//! A worker: takes work from the queue, sends requests, cuts the answers into chunks, verifies and
//! delivers these.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use layerfmt::Digest;
use wire::batch;

use super::cut::Cutter;
use super::error::{Blame, FetchError};
use super::exchange::{Ask, HttpAnswer};
use super::fetcher::{FetcherShared, STALL_FIRST, STALL_MAX};
use super::mirrors::Choice;
use super::queue::{Next, Notices, Priority, QueuedWork, Taken};
use super::server::Server;
use super::status::Counters;

/// Processes work until the fetcher closes.
pub(crate) async fn work(inner: Arc<FetcherShared>) {
    while let Some(work) = next_work(&inner).await {
        // Wakes others: they may find more work.
        inner.wake.notify_one();
        run(&inner, work).await;
        inner.wake.notify_one();
    }
}

/// The next work, as soon as there is any; `None` when the fetcher closes.
///
/// A worker waits for notifications only here. If it did while working, it could receive a
/// notification in place of an idle one, and prefetch, which yields to readers, would then yield
/// forever.
async fn next_work(inner: &FetcherShared) -> Option<QueuedWork> {
    loop {
        let woken = inner.wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        if inner.queue().is_closed() {
            return None;
        }
        let batches = match inner.mirrors.choose(0, Instant::now()) {
            Choice::Ask(_, server) => server.batches(),
            Choice::Wait(until) => {
                // Every server is paused: the queue collects requests meanwhile.
                tokio::select! {
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
                continue;
            }
        };
        let next = inner
            .queue()
            .take(Instant::now(), batches, inner.prefetch_count_max);
        match next {
            Next::Work(work) => return Some(work),
            Next::Sleep(until) => {
                tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(until.into()) => {}
                }
            }
            Next::Idle => woken.await,
        }
    }
}

async fn run(inner: &FetcherShared, work: QueuedWork) {
    let priority = work.priority;
    let failures = work
        .ranges
        .first()
        .map_or(0, |taken| inner.queue().failures(&taken.range.digest));
    let mut avoid = work.avoid;
    if inner.mirrors.exhausted(avoid) {
        avoid = 0;
    }
    let (index, server) = match inner.server(avoid).await {
        Ok(found) => found,
        Err(_) => return inner.queue().work_over(priority),
    };
    let work = if work.side_by_side || server.batches() {
        work
    } else {
        only_first(inner, work)
    };
    let mut exchange = Exchange {
        inner,
        server: &server,
        index,
        work_priority: priority,
        delivered: 0,
        refused: false,
    };
    let (left, error) = exchange.run(work, failures).await;
    let delivered = exchange.delivered;
    if exchange.refused {
        tracing::info!(server = %server.name, "the server has no batches: requesting ranges");
        server.set_no_batches();
        return hand_back(inner, left, avoid, None, priority, None);
    }
    match &error {
        None => inner.mirrors.succeeded(index),
        Some(error) => {
            let what = left
                .first()
                .map_or("a chunk", |(taken, _)| taken.range.object.path.as_str());
            // Bytes arrived before the connection broke: the server works, but the path to it is
            // bad.
            let progressed = delivered > 0 || left.iter().any(|(_, progressed)| *progressed);
            if progressed && error.blame() == Blame::Server {
                inner.mirrors.succeeded(index);
            }
            inner.mirrors.failed(index, what, error);
            if error.blame() == Blame::Server {
                server.hang_up().await;
            }
        }
    }
    let wrong_server = error
        .as_ref()
        .is_some_and(|error| error.blame() != Blame::Server)
        .then_some(index);
    hand_back(inner, left, avoid, wrong_server, priority, error);
}

/// For a server without batches: requests the first chunk alone, and returns the others to the
/// queue.
fn only_first(inner: &FetcherShared, mut work: QueuedWork) -> QueuedWork {
    let mut queue = inner.queue();
    for taken in work.ranges.drain(1.min(work.ranges.len())..) {
        queue.retry(taken, work.avoid, Duration::ZERO, true);
    }
    drop(queue);
    inner.wake.notify_one();
    work.side_by_side = true;
    work
}

/// Returns missing chunks to the queue; `wrong_server` is not used for them again until all servers
/// have sent wrong data.
fn hand_back(
    inner: &FetcherShared,
    left: Vec<(Taken, bool)>,
    avoid: u64,
    wrong_server: Option<usize>,
    priority: Priority,
    error: Option<FetchError>,
) {
    let error = error.map(Arc::new);
    let mut gone = Vec::new();
    let mut queue = inner.queue();
    for (taken, progressed) in left {
        let mut avoid = wrong_server.map_or(avoid, |index| avoid | (1 << index));
        let mut wait = Duration::ZERO;
        if inner.mirrors.exhausted(avoid) {
            if let Some(error) = error.as_ref().filter(|_| taken.range.object.optional) {
                gone.push(queue.give_up(&taken.range.digest, error));
                continue;
            }
            avoid = 0;
            wait = inner.mirrors.wait(queue.failures(&taken.range.digest) + 1);
        }
        queue.retry(taken, avoid, wait, progressed);
    }
    queue.work_over(priority);
    drop(queue);
    gone.into_iter().for_each(Notices::notify);
    inner.quiet.notify_waiters();
}

/// One request to one server.
struct Exchange<'a> {
    inner: &'a FetcherShared,
    server: &'a Server,
    index: usize,
    work_priority: Priority,
    delivered: usize,
    /// The server accepts no batch requests.
    refused: bool,
}

impl Exchange<'_> {
    /// Returns the missing chunks (with a flag for partial data) and the reason.
    async fn run(
        &mut self,
        work: QueuedWork,
        failures: u32,
    ) -> (Vec<(Taken, bool)>, Option<FetchError>) {
        let body = batch_body(&work);
        let batch = body.is_some();
        let before: Vec<(Digest, usize)> = work
            .ranges
            .iter()
            .map(|taken| (taken.range.digest, taken.partial.len()))
            .collect();
        let stall = STALL_FIRST
            .saturating_mul(1 << failures.min(6))
            .min(STALL_MAX);
        let (ask, mut cutter) = match body {
            Some(body) => (
                Ask::post(&work.object.batch_path, body, stall),
                Cutter::for_batch(work.ranges),
            ),
            None => {
                let cutter = Cutter::for_range(work.ranges);
                (Ask::range(&work.object.path, cutter.span(), stall), cutter)
            }
        };
        let mut lied = Vec::new();
        let error = self
            .read(&ask, &mut cutter, batch, &work.hurry, &mut lied)
            .await
            .err();
        let error = error.or_else(|| (!lied.is_empty()).then_some(FetchError::Corrupt));
        let rest = cutter.rest().into_iter().map(|taken| {
            let had = before
                .iter()
                .find(|(digest, _)| *digest == taken.range.digest)
                .map_or(0, |(_, had)| *had);
            let progressed = taken.partial.len() > had;
            (taken, progressed)
        });
        (
            lied.into_iter()
                .map(|taken| (taken, false))
                .chain(rest)
                .collect(),
            error,
        )
    }

    async fn read(
        &mut self,
        ask: &Ask,
        cutter: &mut Cutter,
        batch: bool,
        hurry: &std::sync::atomic::AtomicBool,
        lied: &mut Vec<Taken>,
    ) -> Result<(), FetchError> {
        let mut answer = self.server.ask(ask).await?;
        if batch {
            let status = answer.status().as_u16();
            self.refused = matches!(status, 300..=428 | 501);
            self.check_batch(&answer, cutter)?;
        } else {
            answer.check_range(&cutter.span())?;
        }
        while !cutter.is_done() {
            if self.work_priority == Priority::Prefetch && !hurry.load(Ordering::Relaxed) {
                yield_to_demand(self.inner, || hurry.load(Ordering::Relaxed)).await?;
            }
            let Some(bytes) = answer.next().await? else {
                return Err(FetchError::Wrong("the body ends early"));
            };
            Counters::add(&self.inner.counters.bytes, bytes.len() as u64);
            for taken in cutter.feed(&bytes) {
                self.deliver(taken, lied);
            }
            if self.work_priority == Priority::Prefetch && !hurry.load(Ordering::Relaxed) {
                self.inner.limiter.pay(bytes.len() as u64).await;
            }
        }
        if answer.connection.is_some() && matches!(answer.next().await, Ok(None)) {
            self.server.keep(answer).await;
        }
        Ok(())
    }

    fn check_batch(&self, answer: &HttpAnswer, cutter: &Cutter) -> Result<(), FetchError> {
        answer.check_status()?;
        match answer.len() {
            Some(len) if len != cutter.span().end => {
                Err(FetchError::Wrong("the length differs from the request"))
            }
            _ => Ok(()),
        }
    }

    fn deliver(&mut self, taken: Taken, lied: &mut Vec<Taken>) {
        let Taken { range, partial } = taken;
        if Digest::of(&partial) != range.digest {
            lied.push(Taken {
                range,
                partial: Vec::new(),
            });
            return;
        }
        self.delivered += 1;
        let counters = &self.inner.counters;
        match self.work_priority {
            Priority::Demand => Counters::add(&counters.demanded, 1),
            Priority::Prefetch => Counters::add(&counters.prefetched, 1),
        }
        let bytes = Bytes::from(partial);
        self.inner.sink.put(&range, &bytes);
        let notices = self.inner.queue().finish(&range.digest, &bytes);
        notices.notify();
        tracing::trace!(
            server = self.index,
            offset = range.offset,
            len = range.len,
            "chunk here"
        );
    }
}

/// Stops reading for prefetch while a reader waits for other data: further bytes stay in the
/// socket's buffer and on the server.
pub(crate) async fn yield_to_demand(
    inner: &FetcherShared,
    needed: impl Fn() -> bool,
) -> Result<(), FetchError> {
    loop {
        let quiet = inner.quiet.notified();
        if inner.closed.load(Ordering::Relaxed) {
            return Err(FetchError::Closed);
        }
        if needed() || !inner.queue().demand_pending() {
            return Ok(());
        }
        // The timeout only bounds the wait for a notification that came before this wait.
        let _ = tokio::time::timeout(Duration::from_millis(50), quiet).await;
    }
}

/// The body of a batch request; `None` if one range covers the chunks.
fn batch_body(work: &QueuedWork) -> Option<Bytes> {
    if work.side_by_side || work.ranges.len() < 2 {
        return None;
    }
    let body = batch::encode(work.ranges.iter().map(Taken::missing));
    body.ok().map(Bytes::from)
}
