//! Requests that wait for remote data. A waiting request is a value in a table. It holds no thread, no lock and
//! no place in a queue, so it does not delay a request that can be answered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answers::{ReplyResult, RequestContext};
use super::workers::Workers;
use super::{copy_job, limit};
use crate::chunks::Pending;
use crate::error::Error;
use crate::filesystem::reply::NodeId;
use crate::filesystem::{Far, LayerFs, Need, Stop};
use crate::lower::chunks::Brought;
use crate::metrics::{Operation, Requests};
use crate::sys::tasks::Tasks;

/// Threads for reading from disk, decoding and copying.
const WORKERS_MAX: usize = 16;

/// The context of one attempt of a request.
#[derive(Default)]
pub(super) struct Turn {
    /// The error with which the request is answered, without an attempt.
    pub(super) refused: Option<Error>,
    /// The data that arrived for it, during the attempt.
    pub(super) came: Option<Box<dyn Pending>>,
}

/// Tries to answer a request. Returns the remote data if the request cannot be answered yet.
pub(super) type Call = Box<dyn FnMut(&LayerFs, Turn) -> Option<Far> + Send>;

/// The origin of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub(super) operation: Operation,
    /// True if the request is counted only when it is answered.
    pub(super) is_counted_later: bool,
    pub(super) node: NodeId,
    /// The thread of the caller; 0 if there is none, or if it is not visible here.
    pub(super) tid: u32,
    pub(super) since: Instant,
    /// The data to copy, if the request is a copy job.
    pub(super) job: Option<Need>,
}

impl About {
    pub(super) fn new(operation: Operation, node: NodeId, tid: u32) -> About {
        About {
            operation,
            is_counted_later: false,
            node,
            tid,
            since: Instant::now(),
            job: None,
        }
    }

    pub(super) fn asked<'f>(&self, fs: &'f LayerFs) -> RequestContext<'f> {
        RequestContext {
            fs,
            operation: self.operation,
            node: self.node,
        }
    }
}

/// A request for which `answer` sends the result of `work`.
pub(super) fn call<R, T>(
    about: About,
    reply: R,
    answer: impl Fn(R, ReplyResult<T>) + Send + 'static,
    mut work: impl FnMut(&LayerFs) -> Result<T, Stop> + Send + 'static,
) -> Call
where
    R: Send + 'static,
{
    let mut reply = Some(reply);
    Box::new(move |fs, turn| {
        let done = match turn.refused {
            Some(error) => Err(error),
            None => match work(fs) {
                Ok(done) => Ok(done),
                Err(Stop::Failed(error)) => Err(error),
                Err(Stop::Far(far)) => return Some(far),
            },
        };
        let done = about.asked(fs).known(done);
        if let Some(reply) = reply.take() {
            answer(reply, done);
        }
        None
    })
}

/// The table of waiting requests and the threads that continue them.
pub(super) struct Lot {
    shared: Arc<LotShared>,
}

pub(super) struct LotShared {
    pub(super) fs: Arc<LayerFs>,
    pub(super) requests: Arc<Requests>,
    workers: Workers,
    state: Mutex<LotState>,
    count: AtomicUsize,
    pub(super) changed: Condvar,
    /// Detects tasks that have ended.
    pub(super) tasks: Option<Tasks>,
    /// The kernel ends a mount that leaves a request without an answer for longer.
    pub(super) answered_after: Option<Duration>,
}

#[derive(Default)]
pub(super) struct LotState {
    last: u64,
    pub(super) parked: HashMap<u64, Parked>,
    jobs: HashMap<Need, ParkedJob>,
    pub(super) over: bool,
}

pub(super) struct Parked {
    pub(super) about: About,
    pub(super) call: Call,
    waits: Waits,
}

/// The event for which a parked request waits.
enum Waits {
    /// The wait has just begun.
    Begins,
    /// The wait ended before it was recorded.
    Ended(Option<Error>),
    Comes(Box<dyn Pending>),
    /// A copy for which other requests may wait as well.
    ParkedJob(Need),
}

/// A copy of a file's data, for several waiting requests.
#[derive(Default)]
struct ParkedJob {
    waiters: Vec<u64>,
    /// Its own place in the table, while the copy itself waits.
    parked: Option<u64>,
}

impl Lot {
    /// An empty table for `fs`. `timeout`: the kernel's limit for a request.
    pub(super) fn new(fs: Arc<LayerFs>, requests: Arc<Requests>, timeout: Option<Duration>) -> Lot {
        let answered_after = timeout.map(limit::answered_after);
        let tasks = Tasks::open();
        if tasks.is_none() {
            tracing::warn!(
                "no /proc of this PID namespace: processes that wait for a server cannot be killed"
            );
        }
        let shared = Arc::new(LotShared {
            fs,
            requests,
            workers: Workers::new(WORKERS_MAX),
            state: Mutex::default(),
            count: AtomicUsize::new(0),
            changed: Condvar::new(),
            tasks,
            answered_after,
        });
        let watched = Arc::clone(&shared);
        let started = std::thread::Builder::new()
            .name("waiting".into())
            .spawn(move || watched.watch());
        if let Err(error) = started {
            tracing::warn!(%error, "processes that wait for a server cannot be killed");
        }
        Lot { shared }
    }

    /// Continues a request on another thread, which reads or decodes its data.
    pub(super) fn run(&self, about: About, call: Call) {
        self.shared.go_on(about, call, Turn::default());
    }

    /// Parks a request until the data of `far` has arrived.
    pub(super) fn park(&self, about: About, call: Call, far: Far) {
        self.shared.park(about, call, far);
    }

    /// Parks a request until `start`'s argument is called.
    pub(super) fn park_until(
        &self,
        about: About,
        call: Call,
        start: impl FnOnce(Brought) -> Box<dyn Pending>,
    ) {
        self.shared.park_until(about, call, start);
    }

    /// If the data of `node` has moved to the upper, wakes the requests that wait for it. The
    /// kernel may be waiting for a page that such a reader has locked.
    pub(super) fn look_again(&self, node: NodeId) {
        self.shared.look_again(node);
    }

    /// Runs `work` on a worker thread.
    pub(super) fn work(&self, work: Box<dyn FnOnce() + Send>) {
        self.shared.workers.run(work);
    }
}

impl Drop for Lot {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        let parked = std::mem::take(&mut state.parked);
        drop(state);
        self.shared.changed.notify_all();
        drop(parked);
    }
}

impl LotShared {
    pub(super) fn lock(&self) -> MutexGuard<'_, LotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the count consistent with the table.
    fn counted(&self, state: &LotState) {
        let before = self.count.swap(state.parked.len(), Ordering::Relaxed);
        let requests =
            state.parked.len() - state.jobs.values().filter_map(|job| job.parked).count();
        self.requests
            .waiting
            .store(requests as u64, Ordering::Relaxed);
        if before == 0 && !state.parked.is_empty() {
            self.changed.notify_all();
        }
    }

    fn go_on(self: &Arc<Self>, about: About, call: Call, turn: Turn) {
        let shared = Arc::clone(self);
        self.workers
            .run(Box::new(move || shared.attempt(about, call, turn)));
    }

    fn attempt(self: &Arc<Self>, about: About, mut call: Call, turn: Turn) {
        match call(&self.fs, turn) {
            Some(far) => self.park(about, call, far),
            None => {
                if about.is_counted_later {
                    self.requests.add(about.operation, about.since.elapsed());
                } else {
                    self.look_again(about.node);
                }
            }
        }
    }

    fn park(self: &Arc<Self>, about: About, call: Call, far: Far) {
        match far {
            Far::Chunks(far) => {
                let lower = self.fs.lower();
                if lower.serial != far.serial {
                    // Another revision is mounted: its chunks have other numbers.
                    return self.go_on(about, call, Turn::default());
                }
                self.park_until(about, call, |then| lower.chunks.bring(&far.chunks, then));
            }
            Far::Data(need) => self.join(about, call, need),
        }
    }

    fn park_until(
        self: &Arc<Self>,
        about: About,
        call: Call,
        start: impl FnOnce(Brought) -> Box<dyn Pending>,
    ) {
        let number = {
            let mut state = self.lock();
            state.last += 1;
            let number = state.last;
            if let Some(need) = about.job {
                // No request waits for it any more.
                let Some(job) = state.jobs.get_mut(&need) else {
                    return;
                };
                job.parked = Some(number);
            }
            let waits = Waits::Begins;
            state.parked.insert(number, Parked { about, call, waits });
            self.counted(&state);
            number
        };
        let shared = Arc::clone(self);
        let coming = start(Box::new(move |came| {
            shared.ended(number, came.err());
        }));
        let mut state = self.lock();
        let Some(parked) = state.parked.get_mut(&number) else {
            drop(state);
            return drop(coming);
        };
        match parked.waits {
            Waits::Ended(ref refused) => {
                let refused = refused.clone();
                let parked = self.take(&mut state, number);
                drop(state);
                self.resume(parked, refused, Some(coming));
            }
            _ => parked.waits = Waits::Comes(coming),
        }
    }

    /// Called when the data for entry `number` has arrived or is unavailable.
    fn ended(self: &Arc<Self>, number: u64, refused: Option<Error>) {
        let mut state = self.lock();
        match state
            .parked
            .get_mut(&number)
            .map(|parked| &mut parked.waits)
        {
            None => {}
            Some(waits @ Waits::Begins) => *waits = Waits::Ended(refused),
            Some(_) => {
                let parked = self.take(&mut state, number);
                drop(state);
                self.resume(parked, refused, None);
            }
        }
    }

    /// Removes it from the table and from its job. A job without waiting requests is removed too:
    /// it is the second result.
    pub(super) fn take(
        &self,
        state: &mut LotState,
        number: u64,
    ) -> (Option<Parked>, Option<Parked>) {
        let Some(parked) = state.parked.remove(&number) else {
            return (None, None);
        };
        let mut unwanted = None;
        if let Waits::ParkedJob(need) = &parked.waits
            && let Some(job) = state.jobs.get_mut(need)
        {
            job.waiters.retain(|waiter| *waiter != number);
            if job.waiters.is_empty() {
                let own = job.parked;
                state.jobs.remove(need);
                unwanted = own.and_then(|own| state.parked.remove(&own));
            }
        }
        self.counted(state);
        (Some(parked), unwanted)
    }

    fn resume(
        self: &Arc<Self>,
        taken: (Option<Parked>, Option<Parked>),
        refused: Option<Error>,
        coming: Option<Box<dyn Pending>>,
    ) {
        let (Some(parked), unwanted) = taken else {
            return;
        };
        drop(unwanted);
        let came = match parked.waits {
            Waits::Comes(own) => Some(own),
            _ => coming,
        };
        self.go_on(parked.about, parked.call, Turn { refused, came });
    }

    /// Waits with others for the data of one file.
    fn join(self: &Arc<Self>, about: About, call: Call, need: Need) {
        let begins = {
            let mut state = self.lock();
            state.last += 1;
            let number = state.last;
            let waits = Waits::ParkedJob(need);
            state.parked.insert(number, Parked { about, call, waits });
            self.counted(&state);
            let begins = !state.jobs.contains_key(&need);
            state.jobs.entry(need).or_default().waiters.push(number);
            begins
        };
        if begins {
            let about = About {
                job: Some(need),
                ..About::new(Operation::Write, need.id, 0)
            };
            let job = copy_job::begin(Arc::clone(self), need);
            self.go_on(about, job, Turn::default());
        }
    }

    /// A copy is complete: its waiting requests continue while `kept` holds the data.
    pub(super) fn job_over(
        self: &Arc<Self>,
        need: &Need,
        refused: Option<Error>,
        kept: impl Fn() -> Option<Box<dyn Pending>>,
    ) {
        let waiters: Vec<Parked> = {
            let mut state = self.lock();
            let job = state.jobs.remove(need).unwrap_or_default();
            let waiters = job.waiters.iter();
            let waiters = waiters
                .filter_map(|number| state.parked.remove(number))
                .collect();
            self.counted(&state);
            waiters
        };
        for waiter in waiters {
            let (refused, came) = (refused.clone(), kept());
            self.go_on(waiter.about, waiter.call, Turn { refused, came });
        }
    }

    /// True if a request still waits for a copy-up.
    pub(super) fn is_wanted(&self, need: &Need) -> bool {
        self.lock().jobs.contains_key(need)
    }

    fn look_again(self: &Arc<Self>, node: NodeId) {
        let nobody = self.count.load(Ordering::Relaxed) == 0;
        if nobody || !matches!(self.fs.upper_data(node), Ok(Some(_))) {
            return;
        }
        let woken: Vec<(Option<Parked>, Option<Parked>)> = {
            let mut state = self.lock();
            let of_node: Vec<u64> = state
                .parked
                .iter()
                .filter(|(_, parked)| parked.about.node == node && parked.may_go_on())
                .map(|(number, _)| *number)
                .collect();
            of_node
                .into_iter()
                .map(|number| self.take(&mut state, number))
                .collect()
        };
        for taken in woken {
            self.resume(taken, None, None);
        }
    }
}

impl Parked {
    /// True if it can be retried before its data has arrived: not if it has only begun to wait, or
    /// waits for an answer.
    fn may_go_on(&self) -> bool {
        matches!(self.waits, Waits::Comes(_) | Waits::ParkedJob(_))
    }
}
