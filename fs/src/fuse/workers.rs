//! Threads for reads that may have to wait long, so that the others never do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// A fixed number of threads; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    queue: Sender<Job>,
}

impl Workers {
    pub(super) fn new(count: usize) -> Workers {
        let (queue, jobs) = channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..count {
            let jobs = Arc::clone(&jobs);
            let started = std::thread::Builder::new()
                .name(format!("reader-{number}"))
                .spawn(move || work(&jobs));
            if let Err(error) = started {
                tracing::warn!(%error, "fewer reader threads than wished");
            }
        }
        Workers { queue }
    }

    /// Run `job` soon. Without any thread it is dropped, and its reply says EIO.
    pub(super) fn run(&self, job: Job) {
        if self.queue.send(job).is_err() {
            tracing::error!("no reader thread is left");
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a read met a fault in layerfs: it gets EIO");
        }
    }
}
