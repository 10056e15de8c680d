//! The baker processes.

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::time::Instant;

use ulid::Ulid;

use super::news;
use super::schedule::{self, Waiting};
use super::{Event, WatchError, WatchOptions, own_program};
use crate::failed::Doing as _;
use crate::human;
use crate::jobs::{Ending, Job, Spool, SpoolState, TRY_AGAIN, Target, limits};

/// A baker at work.
struct BakerProcess {
    child: Child,
    target: Target,
}

/// Crash counts of the bakers of each job. They are lost with the watcher, which only restarts the
/// count.
#[derive(Debug, Default, Clone, Copy)]
struct CrashCounts {
    crashes: u32,
    kills: u32,
    not_before: Option<Instant>,
}

pub(super) struct Bakers {
    spool: Spool,
    program: PathBuf,
    arguments: Vec<String>,
    most: usize,
    on_conflict: &'static str,
    events: Sender<Event>,
    running: HashMap<Ulid, BakerProcess>,
    crash_counts: HashMap<Ulid, CrashCounts>,
}

impl Bakers {
    pub(super) fn new(options: &WatchOptions, events: Sender<Event>) -> Result<Self, WatchError> {
        Ok(Self {
            spool: options.spool.clone(),
            program: own_program()?,
            arguments: options.arguments.clone(),
            most: options.bakers.max(1),
            on_conflict: options.on_conflict,
            events,
            running: HashMap::new(),
            crash_counts: HashMap::new(),
        })
    }

    /// True if no baker of ours is running.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Handles ended bakers, and jobs whose baker has died.
    pub(super) fn reap(&mut self) -> Result<(), WatchError> {
        let mut ended = Vec::new();
        for (id, baker) in &mut self.running {
            if let Some(status) = baker
                .child
                .try_wait()
                .doing(|| "cannot check a baker".into())?
            {
                ended.push((*id, status));
            }
        }
        for (id, status) in ended {
            self.running.remove(&id);
            match self.spool.find(id)? {
                // Not free: a baker of a former watcher holds it, and ours gave up.
                Some(job) if job.state == SpoolState::Running && job.is_free() => {
                    self.died(&job, status)?
                }
                ended => {
                    self.crash_counts.remove(&id);
                    if let Some(job) = ended {
                        news::say(&job);
                    }
                }
            }
        }
        for job in self.spool.jobs(SpoolState::Running)? {
            // Locked: a baker of a former watcher still works on it, and will end it properly.
            if !self.running.contains_key(&job.id) && job.is_free() {
                self.give_back(&job)?;
            }
        }
        Ok(())
    }

    /// Starts ready jobs. Returns true if any job still waits.
    pub(super) fn start(&mut self) -> Result<bool, WatchError> {
        let mut busy: HashSet<Target> = self
            .running
            .values()
            .map(|baker| baker.target.clone())
            .collect();
        for job in self.spool.jobs(SpoolState::Running)? {
            if let Ok(request) = job.request() {
                busy.insert(request.target);
            }
        }
        let mut queue = Vec::new();
        for job in self.spool.jobs(SpoolState::Queued)? {
            match job.request() {
                // It waits for a person, and delays no other job.
                Ok(request) if self.spool.waits_for_approval(&job, &request.target) => {}
                Ok(request) => queue.push(Waiting {
                    not_before: self
                        .crash_counts
                        .get(&job.id)
                        .and_then(|crash_counts| crash_counts.not_before),
                    target: request.target,
                    job,
                }),
                Err(error) => {
                    let ending = Ending::Failed {
                        error: human::causes(&error),
                    };
                    self.spool
                        .end(&job, &ending)
                        .doing(|| "cannot move a broken job to failed/".into())?;
                }
            }
        }
        let free = self.most.saturating_sub(self.running.len());
        let waiting = queue.len();
        let chosen = schedule::choose(queue, &busy, free, Instant::now());
        let still = waiting > chosen.len();
        for one in chosen {
            self.launch(&one.job, one.target)?;
        }
        Ok(still)
    }

    fn launch(&mut self, job: &Job, target: Target) -> Result<(), WatchError> {
        let job = self.spool.transition(job, SpoolState::Running)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(job.path.join("log"))?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .args(["run-job", "--on-conflict", self.on_conflict, "--spool"])
            .arg(self.spool.root())
            .arg(job.id.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) => {
                self.spool.transition(&job, SpoolState::Queued)?;
                return Err(error)
                    .doing(|| format!("cannot start {}", self.program.display()))
                    .map_err(Into::into);
            }
        };
        tracing::info!("{}: baking for {target}", job.id);
        self.tell_when_it_ends(child.id());
        self.running.insert(job.id, BakerProcess { child, target });
        Ok(())
    }

    /// Wakes the watcher when the child becomes a zombie, without taking its status.
    fn tell_when_it_ends(&self, child: u32) {
        let events = self.events.clone();
        let pid = i32::try_from(child)
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        std::thread::spawn(move || {
            if let Some(pid) = pid {
                use rustix::process::{WaitId, WaitIdOptions, waitid};
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                while matches!(
                    waitid(WaitId::Pid(pid), options),
                    Err(rustix::io::Errno::INTR)
                ) {}
            }
            let _ = events.send(Event::Baker);
        });
    }

    /// A baker ended without ending its job.
    fn died(&mut self, job: &Job, status: ExitStatus) -> Result<(), WatchError> {
        let crash_counts = self.crash_counts.entry(job.id).or_default();
        // SIGKILL and SIGTERM have external causes (a person, a shutdown, the OOM killer), and a
        // full disk or an absent store is not the fault of the upload; other signals are crashes
        // of the baker.
        let outside = matches!(status.signal(), Some(libc::SIGKILL | libc::SIGTERM))
            || status.code() == Some(i32::from(TRY_AGAIN));
        if outside {
            crash_counts.kills += 1;
        } else {
            crash_counts.crashes += 1;
        }
        let count = crash_counts.kills + crash_counts.crashes;
        let pause = limits::PAUSE_FIRST.saturating_mul(1 << count.saturating_sub(1).min(16));
        crash_counts.not_before = Some(Instant::now() + pause.min(limits::PAUSE_MAX));
        let hopeless =
            crash_counts.crashes >= limits::CRASHES_MAX || crash_counts.kills >= limits::KILLS_MAX;
        tracing::warn!("{}: the baker ended with {status}", job.id);
        if hopeless {
            let error = format!(
                "the baker crashed {count} times on this upload, last with {status}; see the log, then try again with `bakery jobs {} --retry`",
                job.id
            );
            news::say(&self.spool.end(job, &Ending::Failed { error })?);
            self.crash_counts.remove(&job.id);
            return Ok(());
        }
        self.give_back(job)
    }

    /// A running job without a baker: completes it if its result was recorded, else queues it
    /// again.
    fn give_back(&self, job: &Job) -> Result<(), WatchError> {
        match job.ending() {
            Ok(Some(ending)) => self.spool.end(job, &ending)?,
            _ => self.spool.transition(job, SpoolState::Queued)?,
        };
        Ok(())
    }

    /// Ends every baker; their jobs go back to the queue.
    pub(super) fn stop(&mut self) {
        for (id, baker) in &mut self.running {
            let stopped = baker.child.kill().and_then(|()| baker.child.wait());
            if let Err(error) = stopped {
                tracing::warn!("{id}: cannot stop its baker: {error}");
            }
        }
        for id in std::mem::take(&mut self.running).into_keys() {
            let given = self
                .spool
                .find(id)
                .map_err(Into::into)
                .and_then(|job| match job {
                    Some(job) if job.state == SpoolState::Running => self.give_back(&job),
                    _ => Ok(()),
                });
            if let Err(error) = given {
                let why = human::causes(&error);
                tracing::warn!("{id}: {why}; the next watcher will queue it again");
            }
        }
    }
}
