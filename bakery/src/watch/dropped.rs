//! Files dropped into `incoming/<system>[/<profile>]/`.

use std::collections::{HashMap, HashSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::directories::DirectoryWatches;
use super::inbox::{self, Inbox};
use super::writers::{Unfinished, Writers};
use super::{WatchError, WatchOptions};
use crate::failed::Doing as _;
use crate::jobs::{self, JobRequest, Origin, Spool, Target, limits};

/// A dropped file is complete if nobody has it open for writing, and its length and times have not
/// changed for some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settle(pub Duration);

/// Time after which a truncated file is reported.
const CUT_OFF_SAID_AFTER: Duration = Duration::from_secs(60);

/// A file as last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Look {
    fn of(meta: &Metadata) -> Self {
        Self {
            inode: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// A file that could not be taken.
#[derive(Debug)]
struct Refused {
    look: Look,
    problem: String,
    pause: Duration,
    not_before: Instant,
}

/// The files that are watched until they are complete.
pub(super) struct Dropped {
    spool: Spool,
    settle: Duration,
    writers: Writers,
    watches: Option<DirectoryWatches>,
    seen: HashMap<PathBuf, (Look, Instant)>,
    refused: HashMap<PathBuf, Refused>,
    /// Truncated files that were reported.
    cut_off: HashSet<PathBuf>,
    /// Ignored paths and files, with reasons: each is reported once.
    passed_over: HashMap<PathBuf, String>,
}

impl Dropped {
    pub(super) fn new(
        options: &WatchOptions,
        writers: Writers,
        watches: Option<DirectoryWatches>,
    ) -> Self {
        Self {
            spool: options.spool.clone(),
            settle: options.settle.0,
            writers,
            watches,
            seen: HashMap::new(),
            refused: HashMap::new(),
            cut_off: HashSet::new(),
            passed_over: HashMap::new(),
        }
    }

    /// Queues every complete file. Returns the time until the next one may be complete, if there is
    /// any.
    pub(super) fn collect(&mut self) -> Result<Option<Duration>, WatchError> {
        let incoming = self.spool.incoming();
        let read =
            || inbox::read(&incoming).doing(|| format!("cannot read {}", incoming.display()));
        let mut inbox = read()?;
        while let Some(watches) = &mut self.watches
            && watches.follow(&incoming, &inbox.directories)
        {
            inbox = read()?;
        }
        let Inbox {
            uploads,
            passed_over,
            ..
        } = inbox;
        self.say_passed_over(passed_over);
        let is_there = |path: &PathBuf| uploads.iter().any(|upload| upload.path == *path);
        self.seen.retain(|path, _| is_there(path));
        self.refused.retain(|path, _| is_there(path));
        self.cut_off.retain(is_there);
        let mut next: Option<Duration> = None;
        for upload in uploads {
            let look = Look::of(&upload.meta);
            // Files that wait for another process are checked again at the next event or rescan.
            if self.is_idle(&upload.path, look) {
                continue;
            }
            match self.remaining(&upload.path, look) {
                None => {}
                Some(Duration::ZERO) => {
                    if let Err(error) = self.take(&upload.path, upload.target, &upload.meta) {
                        self.refuse(upload.path, look, &error);
                    }
                }
                Some(more) => next = Some(next.map_or(more, |next| next.min(more))),
            }
        }
        Ok(next)
    }

    fn say_passed_over(&mut self, now: HashMap<PathBuf, String>) {
        for (path, why) in &now {
            if self.passed_over.get(path) != Some(why) {
                tracing::warn!("ignored {}: {why}", path.display());
            }
        }
        self.passed_over = now;
    }

    /// True if a file that could not be taken waits for its next attempt.
    fn is_idle(&self, path: &Path, look: Look) -> bool {
        let refused = self.refused.get(path);
        refused.is_some_and(|refused| refused.look == look && refused.not_before > Instant::now())
    }

    /// Records that a file cannot be taken now. Permissions and space may change without a change
    /// of the file, so it is retried; a new problem is reported, the same one only once.
    fn refuse(&mut self, path: PathBuf, look: Look, error: &io::Error) {
        let problem = error.to_string();
        let before = self.refused.get(&path);
        if before.is_none_or(|before| before.problem != problem) {
            tracing::error!(
                "cannot take {}: {problem}; it stays there and is retried",
                path.display()
            );
        }
        let pause = before.map_or(limits::PAUSE_FIRST, |before| before.pause.saturating_mul(2));
        let pause = pause.min(limits::PAUSE_MAX);
        let refused = Refused {
            look,
            problem,
            pause,
            not_before: Instant::now() + pause,
        };
        self.refused.insert(path, refused);
    }

    /// Time for which a file must still stay unchanged; `None` if its end is missing.
    fn remaining(&mut self, path: &Path, look: Look) -> Option<Duration> {
        let unfinished = self.writers.unfinished(path);
        let (last, since) = self
            .seen
            .entry(path.to_owned())
            .or_insert((look, Instant::now()));
        if *last != look || unfinished == Some(Unfinished::Open) {
            *last = look;
            *since = Instant::now();
        }
        let rested = since.elapsed();
        if unfinished == Some(Unfinished::CutOff) && rested >= self.settle {
            if rested > CUT_OFF_SAID_AFTER && self.cut_off.insert(path.to_owned()) {
                tracing::warn!(
                    "{}: the archive is truncated; it is taken when the rest has arrived",
                    path.display()
                );
            }
            return None;
        }
        Some(self.settle.saturating_sub(rested))
    }

    fn take(&mut self, path: &Path, target: Target, meta: &Metadata) -> io::Result<()> {
        let file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let request = JobRequest {
            target,
            author: format!("uid {}", meta.uid()),
            message: format!("dropped {file}"),
            origin: Origin::Drop { file },
            received: crate::clock::now(),
            base: None,
            digest: None,
        };
        let job = jobs::take_dropped(&self.spool, path, &request)?;
        self.seen.remove(path);
        self.refused.remove(path);
        tracing::info!("{}: {} for {}", job.id, path.display(), request.target);
        Ok(())
    }
}
