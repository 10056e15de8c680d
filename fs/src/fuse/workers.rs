//! Threads for reading from disk, decoding and copying. None of it waits for the network.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Task = Box<dyn FnOnce() + Send>;

/// Threads that are always there: when one is needed, memory may be too short to start it.
const THREADS_MIN: usize = 2;
/// A thread beyond those ends after this time without a job.
const REST: Duration = Duration::from_secs(10);

/// As many threads as there are concurrent jobs, within bounds; dropping this ends them.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<PoolShared>,
}

#[derive(Debug)]
struct PoolShared {
    state: Mutex<PoolState>,
    changed: Condvar,
    threads_max: usize,
    rest: Duration,
}

#[derive(Default)]
struct PoolState {
    jobs: VecDeque<Task>,
    threads: usize,
    /// Threads that wait for a job.
    idle: usize,
    over: bool,
}

impl std::fmt::Debug for PoolState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} jobs, {} of {} threads idle",
            self.jobs.len(),
            self.idle,
            self.threads
        )
    }
}

impl Workers {
    pub(super) fn new(threads_max: usize) -> Workers {
        Workers::resting(threads_max, REST)
    }

    fn resting(threads_max: usize, rest: Duration) -> Workers {
        let shared = Arc::new(PoolShared {
            state: Mutex::default(),
            changed: Condvar::new(),
            threads_max,
            rest,
        });
        for _ in 0..THREADS_MIN.min(threads_max) {
            shared.start(&mut shared.lock());
        }
        Workers { shared }
    }

    /// Runs `job` soon. Without any thread it is dropped, and its reply is EIO.
    pub(super) fn run(&self, job: Task) {
        let mut state = self.shared.lock();
        if state.jobs.len() >= state.idle && state.threads < self.shared.threads_max {
            self.shared.start(&mut state);
        }
        if state.threads == 0 {
            tracing::error!("no reader thread can be started");
            return;
        }
        state.jobs.push_back(job);
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
    }
}

impl PoolShared {
    fn lock(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts one more thread, if the machine can.
    fn start(self: &Arc<PoolShared>, state: &mut PoolState) {
        let shared = Arc::clone(self);
        let started = std::thread::Builder::new()
            .name(String::from("reader"))
            .spawn(move || shared.work());
        match started {
            Ok(_) => state.threads += 1,
            Err(error) => tracing::warn!(%error, "fewer reader threads than requested"),
        }
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a read caused a panic in layerfs: it gets EIO");
            }
        }
    }

    /// The next job; `None`: this thread is no longer needed.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        let mut rested = false;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.over || (rested && state.threads > THREADS_MIN) {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            let (woken, wait) = self
                .changed
                .wait_timeout(state, self.rest)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            rested = wait.timed_out();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    fn wait_for(workers: &Workers, wanted: impl Fn(&PoolState) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !wanted(&workers.shared.lock()) {
            assert!(Instant::now() < until, "{:?}", workers.shared.lock());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// No job ends before all of them run.
    #[test]
    fn as_many_jobs_run_at_once_as_are_allowed_and_threads_without_one_end() {
        let workers = Workers::resting(8, Duration::from_millis(20));
        assert_eq!(workers.shared.lock().threads, THREADS_MIN);
        let all = Arc::new(Barrier::new(8));
        let (done, finished) = channel();
        for number in 0..8 {
            let (all, done) = (Arc::clone(&all), done.clone());
            workers.run(Box::new(move || {
                all.wait();
                done.send(number).unwrap();
            }));
        }
        let mut done: Vec<i32> = finished.iter().take(8).collect();
        done.sort_unstable();
        assert_eq!(done, (0..8).collect::<Vec<_>>());
        wait_for(&workers, |state| state.threads == THREADS_MIN);
        let (again, heard) = channel();
        workers.run(Box::new(move || again.send(()).unwrap()));
        heard.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    #[test]
    fn a_panic_costs_its_job_only_and_the_queue_is_worked_off_before_the_end() {
        let workers = Workers::resting(2, REST);
        let (done, finished) = channel();
        for number in 0..100 {
            let done = done.clone();
            workers.run(Box::new(move || {
                assert!(number % 10 != 0, "as asked");
                done.send(number).unwrap();
            }));
        }
        let shared = Arc::clone(&workers.shared);
        drop(workers);
        drop(done);
        assert_eq!(finished.iter().count(), 90);
        let until = Instant::now() + Duration::from_secs(20);
        while shared.lock().threads > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(shared.lock().threads, 0);
    }
}
