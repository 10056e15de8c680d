//! `bakery watch`: bakes and publishes pushes.
//!
//! One watcher per spool. It takes dropped files into the queue, starts a baker process per job (a
//! child, so that no upload can crash the watcher), keeps the order of arrival within each profile,
//! and recovers after a crash. Its memory holds no essential state: if it is killed at any moment,
//! the next one continues from the directories.

mod bakers;
mod directories;
mod dropped;
mod error;
mod frames;
mod idle;
mod inbox;
mod news;
mod rings;
mod schedule;
mod writers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::failed::Doing as _;
use crate::human;
use crate::jobs::{self, Lock, Spool, SpoolState};
use crate::notice::Notices;

pub(crate) use dropped::Settle;
pub(crate) use error::WatchError;
pub(crate) use idle::IdlePolicy;
pub(crate) use news::NEWS;

use bakers::Bakers;
use directories::DirectoryWatches;
use dropped::Dropped;
use writers::Writers;

/// Options of a watcher.
#[derive(Debug, Clone)]
pub(crate) struct WatchOptions {
    /// The spool to watch.
    pub spool: Spool,
    /// Arguments before the verb for the programs started: store, verbosity.
    pub arguments: Vec<String>,
    /// Bakers at once.
    pub bakers: usize,
    /// Resolution of paths that others changed meanwhile: `run-job --on-conflict`.
    pub on_conflict: &'static str,
    /// When a dropped file counts as complete.
    pub settle: Settle,
    /// Settings for idle times.
    pub policy: IdlePolicy,
    /// Time for which ended jobs are retained.
    pub keep: Duration,
    /// Longest time between two looks: network file systems send no events.
    pub rescan: Duration,
    /// Return when there is nothing left to do.
    pub once: bool,
    /// Interval of promotions and quarantines in rings; `None`: never.
    pub rings_every: Option<Duration>,
    /// The receivers of notices about them.
    pub notices: Notices,
}

/// The events that wake the watcher.
#[derive(Debug)]
enum Event {
    /// Something changed in the spool.
    Spool,
    /// A baker ended.
    Baker,
}

/// Runs until `stop` is set (or, with `once`, until all is done).
///
/// # Errors
/// Another watcher is there; the spool cannot be read.
pub(crate) fn run(options: WatchOptions, stop: &Arc<AtomicBool>) -> Result<(), WatchError> {
    let lock_path = options.spool.root().join("lock");
    let lock =
        Lock::try_take(&lock_path).doing(|| format!("cannot lock {}", lock_path.display()))?;
    let Some(_lock) = lock else {
        let spool = options.spool.root().display().to_string();
        return Err(WatchError::Locked(spool));
    };
    let (sender, events) = mpsc::channel();
    let writers = Writers::default();
    let watches = DirectoryWatches::new(&writers, sender.clone()).and_then(|mut watches| {
        watches.watch(&options.spool.incoming())?;
        watches.watch(&options.spool.state(SpoolState::Queued))?;
        Ok(watches)
    });
    if let Err(error) = &watches {
        tracing::warn!(
            "no file events ({error}): polling every {:?}",
            options.rescan
        );
    }
    let bakers = Bakers::new(&options, sender)?;
    Watch {
        dropped: Dropped::new(&options, writers, watches.ok()),
        bakers,
        idle: idle::Idle::new(&options),
        rings: rings::RingKeeper::default(),
        options,
    }
    .run(&events, stop)
}

struct Watch {
    options: WatchOptions,
    dropped: Dropped,
    bakers: Bakers,
    idle: idle::Idle,
    rings: rings::RingKeeper,
}

impl Watch {
    fn run(mut self, events: &Receiver<Event>, stop: &AtomicBool) -> Result<(), WatchError> {
        let (queued, removed) =
            jobs::recover(&self.options.spool).doing(|| "cannot recover the spool".into())?;
        if queued + removed > 0 {
            tracing::info!(
                "recovered: {queued} dropped file(s) queued, {removed} unfinished upload(s) removed"
            );
        }
        let mut pruned = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            // A full disk or similar error must not end the watcher: it is reported, and the
            // watcher retries.
            let next = match self.turn() {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!("{}", human::causes(&error));
                    Some(self.options.rescan)
                }
            };
            let Some(pause) = next else { return Ok(()) };
            if pruned.elapsed() > Duration::from_secs(3600) {
                pruned = Instant::now();
                if let Err(error) = self.options.spool.prune(self.options.keep) {
                    tracing::warn!("cannot remove old jobs: {error}");
                }
            }
            match events.recv_timeout(pause) {
                // Several events of one change are handled together.
                Ok(_) => while events.try_recv().is_ok() {},
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(WatchError::Events),
            }
        }
        self.bakers.stop();
        self.idle.stop();
        self.rings.stop();
        Ok(())
    }

    /// One pass over everything. Returns the time until the next pass; `None`: all is done.
    fn turn(&mut self) -> Result<Option<Duration>, WatchError> {
        self.rings.step(&self.options);
        let settling = self.dropped.collect()?;
        self.bakers.reap()?;
        let waiting = self.bakers.start()?;
        if self.bakers.is_idle() && !waiting {
            self.idle.step();
        } else {
            self.idle.stop();
        }
        let busy = waiting || !self.bakers.is_idle();
        if self.options.once && !busy && settling.is_none() && !self.idle.is_running() {
            return Ok(None);
        }
        // A baker of a former watcher sends us no event, so look often while there is one.
        let soon = if busy {
            Duration::from_millis(200)
        } else {
            self.options.rescan
        };
        Ok(Some(settling.unwrap_or(soon).min(soon)))
    }
}

/// The program to start bakers with.
fn own_program() -> Result<PathBuf, WatchError> {
    let path = std::env::current_exe();
    Ok(path.doing(|| "cannot determine the path of this program".into())?)
}
