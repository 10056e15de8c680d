//! Fetches chunks: workers on a small runtime of their own process the queue.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use layerfmt::Digest;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::error::{Blame, FetchError};
use super::exchange::Ask;
use super::limiter::Limiter;
use super::mirrors::{Choice, Mirrors};
use super::object::ChunkRange;
use super::queue::{Outcome, Queue};
use super::server::Server;
use super::status::{Counters, WaitMessage, WaitReport};

/// Requests that may run at once. Few: batches and merged ranges carry many chunks each.
const WORKERS: usize = 8;
/// Threads of the runtime.
const THREADS: usize = 2;
/// Time without an answer after which the wait is reported.
const SAY_AFTER: u64 = 5;
/// Initial maximum time without data; failing servers get more with each attempt.
pub(crate) const STALL_FIRST: Duration = Duration::from_secs(5);
/// Longest time without data that a server gets.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(60);

/// Time without waiting readers before data for later is fetched: a boot on a slow machine computes for
/// seconds between two reads, and is not over then.
pub(crate) const QUIET_FIRST: Duration = Duration::from_secs(15);

/// Called with every verified chunk, for caches and backup.
pub(crate) trait ChunkSink: Send + Sync {
    /// `bytes` are `range`, verified.
    fn put(&self, range: &ChunkRange, bytes: &Bytes);

    /// Returns `range`, if it is cached in memory. Called under the queue's lock: data that arrived
    /// after a reader's lookup is not requested again.
    fn cached(&self, range: &ChunkRange) -> Option<Bytes>;
}

/// Options of a [`Fetcher`].
pub(crate) struct FetcherOptions {
    /// Time after which waits fail; `None` waits forever.
    pub timeout: Option<Duration>,
    /// Where waits are reported, besides the log.
    pub console: Option<std::fs::File>,
    /// Bytes per second for prefetch.
    pub prefetch_rate: Option<u64>,
    /// Maximum number of concurrent prefetch requests.
    pub prefetch_count_max: usize,
}

impl std::fmt::Debug for FetcherOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FetcherOptions")
            .field("timeout", &self.timeout)
            .field("prefetch_rate", &self.prefetch_rate)
            .finish_non_exhaustive()
    }
}

pub(crate) struct FetcherShared {
    pub(crate) mirrors: Mirrors,
    pub(crate) counters: Arc<Counters>,
    pub(crate) wake: Notify,
    /// Notified when demand ends; prefetch that yields waits for it.
    pub(crate) quiet: Notify,
    pub(crate) limiter: Limiter,
    pub(crate) sink: Arc<dyn ChunkSink>,
    pub(crate) prefetch_count_max: usize,
    pub(crate) closed: AtomicBool,
    closing: Notify,
    /// The root is open: from now on no name is resolved.
    pub(crate) opened: AtomicBool,
    /// Milliseconds since the start at which a reader last waited.
    pub(crate) last_demand: AtomicU64,
    /// Start of the wait for records or an index, if any.
    waits: Mutex<Vec<Instant>>,
    started: Instant,
    queue: Mutex<Queue>,
}

impl FetcherShared {
    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Duration of the longest wait.
    pub(crate) fn waiting(&self) -> Option<Duration> {
        let longest = self.queue().longest_wait();
        let others = self.waits().iter().min().copied();
        let longest = longest.into_iter().chain(others).min();
        longest.map(|since| since.elapsed())
    }

    pub(crate) fn note_demand(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_demand.store(now, Ordering::Relaxed);
    }

    /// Time without a waiting reader.
    pub(crate) fn quiet_for(&self) -> Duration {
        let last = Duration::from_millis(self.last_demand.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last)
    }

    /// Counts as a waiting reader until the value is dropped.
    pub(crate) fn wait_begins(&self) -> Wait<'_> {
        let since = Instant::now();
        self.waits().push(since);
        Wait { inner: self, since }
    }

    fn waits(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the fetcher closes.
    pub(crate) async fn until_closed(&self) {
        loop {
            let closing = self.closing.notified();
            tokio::pin!(closing);
            closing.as_mut().enable();
            if self.closed.load(Ordering::Relaxed) {
                return;
            }
            closing.await;
        }
    }

    /// The next server outside `avoid`, as soon as one is due.
    pub(crate) async fn server(&self, avoid: u64) -> Result<(usize, Arc<Server>), FetchError> {
        loop {
            if self.closed.load(Ordering::Relaxed) {
                return Err(FetchError::Closed);
            }
            match self.mirrors.choose(avoid, Instant::now()) {
                Choice::Ask(index, server) => return Ok((index, server)),
                Choice::Wait(until) => tokio::time::sleep_until(until.into()).await,
            }
        }
    }
}

/// A wait that is reported if it is long.
pub(crate) struct Wait<'a> {
    inner: &'a FetcherShared,
    since: Instant,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut waits = self.inner.waits();
        if let Some(at) = waits.iter().position(|since| *since == self.since) {
            waits.swap_remove(at);
        }
    }
}

/// The network side of one mount.
pub(crate) struct Fetcher {
    pub(crate) inner: Arc<FetcherShared>,
    runtime: Option<tokio::runtime::Runtime>,
    timeout: Option<Duration>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher")
            .field("counters", &self.inner.counters)
            .finish_non_exhaustive()
    }
}

impl Fetcher {
    /// Starts the workers. Must be called after the process has forked for the last time.
    pub(crate) fn start(
        mirrors: Mirrors,
        counters: Arc<Counters>,
        sink: Arc<dyn ChunkSink>,
        options: FetcherOptions,
    ) -> std::io::Result<Fetcher> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("layerfs-net")
            .enable_io()
            .enable_time()
            .build()?;
        let inner = Arc::new(FetcherShared {
            mirrors,
            counters,
            wake: Notify::new(),
            quiet: Notify::new(),
            limiter: Limiter::new(options.prefetch_rate),
            sink,
            prefetch_count_max: options.prefetch_count_max,
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            opened: AtomicBool::new(false),
            last_demand: AtomicU64::new(0),
            waits: Mutex::default(),
            started: Instant::now(),
            queue: Mutex::default(),
        });
        for _ in 0..WORKERS {
            runtime.spawn(super::worker::work(Arc::clone(&inner)));
        }
        runtime.spawn(say_when_waiting(Arc::clone(&inner), options.console));
        Ok(Fetcher {
            inner,
            runtime: Some(runtime),
            timeout: options.timeout,
        })
    }

    /// Maximum wait of readers without data; `None` means forever.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Requests `ranges`, together as far as possible, when there is no other work; returns the number
    /// of those that were not pending.
    pub(crate) fn suggest(&self, ranges: &[ChunkRange]) -> usize {
        let count = {
            let mut queue = self.inner.queue();
            ranges.iter().filter(|range| queue.suggest(range)).count()
        };
        for _ in 0..count {
            self.inner.wake.notify_one();
        }
        count
    }

    /// Chunks suggested and not here yet.
    pub(crate) fn suggested(&self) -> usize {
        self.inner.queue().suggested()
    }

    /// Time without a waiting reader.
    pub(crate) fn quiet_for(&self) -> Duration {
        if self.inner.queue().longest_wait().is_some() {
            return Duration::ZERO;
        }
        self.inner.quiet_for()
    }

    /// Fetches a whole small object; each server is tried once.
    pub(crate) fn get_whole(
        &self,
        ask: &Ask,
        len_max: usize,
    ) -> Result<(usize, Vec<u8>), FetchError> {
        self.run(get_whole(&self.inner, ask, len_max))?
    }

    /// Runs `future` on the runtime, from a thread outside it; until the fetcher closes.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> Result<T, FetchError> {
        let runtime = self.runtime.as_ref().ok_or(FetchError::Closed)?;
        runtime.block_on(async {
            tokio::select! {
                biased;
                done = future => Ok(done),
                () = self.inner.until_closed() => Err(FetchError::Closed),
            }
        })
    }

    /// Starts `future` in the background.
    pub(crate) fn spawn(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        let runtime = self.runtime.as_ref()?;
        Some(runtime.spawn(future).abort_handle())
    }

    /// The time since which the longest waiter has waited.
    pub(crate) fn waiting(&self) -> Option<Duration> {
        self.inner.waiting()
    }

    /// Ends all waits with an error, so that the mount can end while no server answers.
    pub(crate) fn close(&self) {
        self.inner.closed.store(true, Ordering::Relaxed);
        let notices = self.inner.queue().close();
        notices.notify();
        self.inner.wake.notify_waiters();
        self.inner.quiet.notify_waiters();
        self.inner.closing.notify_waiters();
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.close();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Fetches `range`, without a time limit.
pub(crate) async fn fetch(inner: &FetcherShared, range: &ChunkRange) -> Outcome {
    /// Removes the wait from the queue if the caller stops waiting.
    struct Left<'a>(&'a FetcherShared, Digest, u64);
    impl Drop for Left<'_> {
        fn drop(&mut self) {
            self.0.queue().forget(&self.1, self.2);
        }
    }
    let (sender, receiver) = oneshot::channel();
    inner.note_demand();
    let wanted = {
        let mut queue = inner.queue();
        if let Some(bytes) = inner.sink.cached(range) {
            return Ok(bytes);
        }
        queue.want(range, Box::new(|outcome| drop(sender.send(outcome))))
    };
    let closed = || Arc::new(FetchError::Closed);
    let ticket = wanted.map_err(|_| closed())?;
    let _left = Left(inner, range.digest, ticket);
    inner.wake.notify_one();
    let outcome = receiver.await.map_err(|_| closed())?;
    inner.note_demand();
    outcome
}

/// Sends data to the first server that accepts it.
pub(crate) async fn post(inner: &FetcherShared, ask: &Ask) -> Result<(), FetchError> {
    let mut last = FetchError::Wrong("no server to send it to");
    for index in 0..inner.mirrors.len() {
        let Some(server) = inner.mirrors.get(index) else {
            break;
        };
        match server.ask_h1(ask).await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let status = answer.status().as_u16();
                last = FetchError::Status {
                    status,
                    retry_after: None,
                };
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Tries each server once, healthiest first; the error of the last one otherwise.
pub(crate) async fn get_whole(
    inner: &FetcherShared,
    ask: &Ask,
    len_max: usize,
) -> Result<(usize, Vec<u8>), FetchError> {
    let mut avoid = 0;
    let mut last = FetchError::Wrong("no server to ask");
    while !inner.mirrors.exhausted(avoid) {
        // A paused server is used as well, after the others: this is a single request.
        let (index, server) = match inner.mirrors.choose(avoid, Instant::now()) {
            Choice::Ask(index, server) => (index, server),
            Choice::Wait(_) => {
                let resting = (0..inner.mirrors.len()).find(|index| avoid & (1 << index) == 0);
                let Some(found) = resting.and_then(|i| Some((i, inner.mirrors.get(i)?))) else {
                    break;
                };
                (found.0, Arc::clone(found.1))
            }
        };
        avoid |= 1 << index;
        let stall = ask.stall.max(inner.mirrors.stall(index));
        let ask = Ask {
            stall,
            ..ask.clone()
        };
        match get_from(inner, &server, &ask, len_max).await {
            Ok(whole) => {
                inner.mirrors.succeeded(index);
                return Ok((index, whole));
            }
            Err(error) => {
                if !error.is_missing() {
                    inner.mirrors.failed(index, &ask.path, &error);
                }
                if error.blame() == Blame::Server {
                    server.hang_up().await;
                }
                last = error;
            }
        }
    }
    Err(last)
}

async fn get_from(
    inner: &FetcherShared,
    server: &Server,
    ask: &Ask,
    len_max: usize,
) -> Result<Vec<u8>, FetchError> {
    let mut answer = server.ask_h1(ask).await?;
    match &ask.range {
        Some(range) => answer.check_range(range)?,
        None => answer.check_status()?,
    }
    if answer.len().is_some_and(|len| len > len_max as u64) {
        return Err(FetchError::TooLong(len_max));
    }
    let whole = answer.collect(len_max).await?;
    Counters::add(&inner.counters.bytes, whole.len() as u64);
    server.keep(answer).await;
    Ok(whole)
}

/// Interval of the checks for waiting readers.
const SECOND: Duration = Duration::from_secs(1);

async fn say_when_waiting(inner: Arc<FetcherShared>, mut console: Option<std::fs::File>) {
    use std::io::Write;
    let mut patience = WaitReport::default();
    while !inner.closed.load(Ordering::Relaxed) {
        tokio::time::sleep(SECOND).await;
        let waited = inner.waiting();
        if waited.is_some_and(|waited| waited >= SECOND) {
            Counters::add(&inner.counters.waited_s, 1);
        }
        let text = match patience.look(waited, SAY_AFTER) {
            WaitMessage::Nothing => continue,
            WaitMessage::Waiting(seconds) => {
                let servers: Vec<String> = inner
                    .mirrors
                    .status()
                    .into_iter()
                    .map(|mirror| mirror.server)
                    .collect();
                let servers = servers.join(", ");
                tracing::warn!(seconds, %servers, "waiting for a server");
                format!(
                    "layerfs: waiting for {servers} ({seconds} s so far); reads continue when it answers"
                )
            }
            WaitMessage::Over(seconds) => {
                tracing::info!(seconds, "no longer waiting for a server");
                format!("layerfs: the server answers again, after {seconds} s")
            }
        };
        if let Some(console) = console.as_mut() {
            // A console that cannot be written to has no other effect.
            let _ = writeln!(console, "\r{text}\r");
        }
    }
}

#[cfg(test)]
mod tests;
