//! The spool: the directories that are the states, and the moves between them.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ulid::Ulid;
use wire::push::PatternList;

use super::BODY;
use super::error::JobError;
use super::files::{self, Lock};
use super::records::{JobRequest, Target};
use super::{Ending, Progress};
use crate::failed::Doing as _;

/// The state of a job, which is its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpoolState {
    /// Waits for a baker.
    Queued,
    /// Being worked on, or interrupted by a crash.
    Running,
    /// Published, or without changes.
    Done,
    /// Failed; the body is kept.
    Failed,
}

impl SpoolState {
    /// Every state, in the order a job passes them.
    pub const ALL: [Self; 4] = [Self::Queued, Self::Running, Self::Done, Self::Failed];

    /// The directory's and the state's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// A spool directory.
#[derive(Debug, Clone)]
pub struct Spool {
    root: PathBuf,
}

/// A job and its last known state.
#[derive(Debug, Clone)]
pub struct Job {
    /// Number of the job.
    pub id: Ulid,
    /// State of the job.
    pub state: SpoolState,
    /// Directory of the job.
    pub path: PathBuf,
}

impl Spool {
    /// Opens a spool, making its directories.
    ///
    /// # Errors
    /// They cannot be made.
    pub fn open(root: &Path) -> Result<Self, JobError> {
        let spool = Self {
            root: root.to_owned(),
        };
        let states = SpoolState::ALL.map(|state| spool.state(state));
        for directory in states.iter().chain([&spool.parts()]) {
            fs::create_dir_all(directory)
                .doing(|| format!("cannot make {} in the spool", directory.display()))?;
        }
        Ok(spool)
    }

    /// The directory for dropped files.
    #[must_use]
    pub fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// The directory of incomplete arrivals.
    #[must_use]
    pub fn parts(&self) -> PathBuf {
        self.root.join("incoming/.parts")
    }

    /// The directory of a state.
    #[must_use]
    pub fn state(&self, state: SpoolState) -> PathBuf {
        self.root.join(state.name())
    }

    /// The spool's own directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The spool's own exclude patterns: for all, for the system, for the profile.
    ///
    /// # Errors
    /// A list is there and cannot be read.
    pub fn excludes(&self, target: &Target) -> Result<Vec<PatternList>, JobError> {
        let root = self.root.join("excludes");
        let (system, profile) = (&target.system, &target.profile);
        let names =
            ["all", system, &format!("{system}.{profile}")].map(|name| format!("{name}.conf"));
        let mut lists = Vec::new();
        for name in names {
            let path = root.join(name);
            let place = path.display().to_string();
            match fs::read_to_string(&path) {
                Ok(text) => lists.push(PatternList { place, text }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error)
                        .doing(|| format!("cannot read {place}"))
                        .map_err(Into::into);
                }
            }
        }
        Ok(lists)
    }

    /// A number that is greater than all before, even if the clock was set back, and that cannot be
    /// guessed from another one: knowledge of it is the permission to read the job.
    ///
    /// # Errors
    /// The spool cannot be written.
    pub fn next_id(&self) -> io::Result<Ulid> {
        let mut lock = Lock::take(&self.root.join("sequence"))?;
        let file = lock.file();
        let mut text = String::new();
        file.take(64).read_to_string(&mut text)?;
        let last = match text.trim().parse() {
            Ok(last) => last,
            Err(_) => self.newest()?,
        };
        let mut id = Ulid::generate();
        if id.timestamp_ms() <= last.timestamp_ms() {
            id = Ulid::from_parts(last.timestamp_ms() + 1, id.random());
            if id < last {
                return Err(io::Error::other("job numbers are used up"));
            }
        }
        file.rewind()?;
        file.write_all(id.to_string().as_bytes())?;
        file.sync_data()?;
        Ok(id)
    }

    /// The greatest number of an existing job.
    fn newest(&self) -> io::Result<Ulid> {
        let mut newest = Ulid::nil();
        for state in SpoolState::ALL {
            let jobs = self.jobs(state)?;
            newest = jobs.last().map_or(newest, |job| job.id.max(newest));
        }
        Ok(newest)
    }

    /// The jobs in a state, oldest first.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub fn jobs(&self, state: SpoolState) -> io::Result<Vec<Job>> {
        let directory = self.state(state);
        let mut jobs = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.parse().ok()) {
                jobs.push(Job {
                    id,
                    state,
                    path: entry.path(),
                });
            }
        }
        jobs.sort_unstable_by_key(|job| job.id);
        Ok(jobs)
    }

    /// Finds a job whatever its state.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub fn find(&self, id: Ulid) -> io::Result<Option<Job>> {
        // A job may move between two looks, but only to a later state, and back at most once for
        // each death of a baker: look again before the answer is no.
        for _ in 0..3 {
            for state in SpoolState::ALL {
                let path = self.state(state).join(id.to_string());
                match fs::symlink_metadata(&path) {
                    Ok(_) => return Ok(Some(Job { id, state, path })),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }

    /// Moves a job to another state, durably.
    ///
    /// # Errors
    /// It is not in the expected state, or the spool cannot be written.
    pub fn transition(&self, job: &Job, to: SpoolState) -> io::Result<Job> {
        let target = self.state(to);
        let path = target.join(job.id.to_string());
        fs::rename(&job.path, &path)?;
        files::sync_directory(&target)?;
        files::sync_directory(&self.state(job.state))?;
        Ok(Job {
            id: job.id,
            state: to,
            path,
        })
    }

    /// Records the result of a job, then moves it to `done` or `failed`.
    ///
    /// # Errors
    /// The spool cannot be written; the job stays and will be retried.
    pub fn end(&self, job: &Job, ending: &Ending) -> io::Result<Job> {
        files::write_record(&job.path.join("result.json"), ending)?;
        let to = match ending {
            Ending::Failed { .. } => SpoolState::Failed,
            Ending::Published { .. } | Ending::Unchanged { .. } => SpoolState::Done,
        };
        let job = self.transition(job, to)?;
        if to == SpoolState::Done {
            // The revision is published and has all of the changes. If this removal is lost, it
            // costs only space.
            let _ = fs::remove_file(job.path.join(BODY));
        }
        Ok(job)
    }

    /// Puts a failed job back into the queue, at its old place.
    ///
    /// # Errors
    /// The spool cannot be written.
    pub fn retry(&self, job: &Job) -> io::Result<Job> {
        // A result in a queued job would be mistaken for its end.
        match fs::remove_file(job.path.join("result.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.transition(job, SpoolState::Queued)
    }

    /// Removes jobs from `done` that ended more than `age` ago.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub fn prune(&self, age: Duration) -> io::Result<usize> {
        let now = SystemTime::now();
        let mut count = 0;
        for job in self.jobs(SpoolState::Done)? {
            let ended = fs::metadata(job.path.join("result.json")).and_then(|meta| meta.modified());
            let old = ended.is_ok_and(|at| now.duration_since(at).is_ok_and(|passed| passed > age));
            if old && files::remove_all(&job.path).is_ok() {
                count += 1;
            }
        }
        Ok(count)
    }
}

impl Job {
    /// Reads the request.
    ///
    /// # Errors
    /// The record is missing or damaged.
    pub fn request(&self) -> Result<JobRequest, JobError> {
        let path = self.path.join("request.json");
        let record = files::read_record(&path)
            .and_then(|record| record.ok_or_else(|| io::ErrorKind::NotFound.into()));
        Ok(record.doing(|| format!("cannot read {}", path.display()))?)
    }

    /// Reads the result, if the job has ended.
    ///
    /// # Errors
    /// The record is damaged.
    pub fn ending(&self) -> io::Result<Option<Ending>> {
        files::read_record(&self.path.join("result.json"))
    }

    /// The progress, if a baker is running the job.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        files::read_record(&self.path.join("progress.json"))
            .ok()
            .flatten()
    }

    /// Records the progress. A reader sees the old or the new record, never half of one.
    pub fn set_progress(&self, progress: &Progress) {
        let part = self.path.join(".progress");
        // Only people read it, so it is not worth an fsync or a failed bake.
        let _ = File::create(&part)
            .and_then(|file| serde_json::to_writer(file, progress).map_err(io::Error::from))
            .and_then(|()| fs::rename(&part, self.path.join("progress.json")));
    }

    /// True if no baker holds the job's lock.
    pub fn is_free(&self) -> bool {
        matches!(self.lock(), Ok(Some(_)))
    }

    /// Takes the job's lock; `None` if a baker holds it.
    pub(crate) fn lock(&self) -> io::Result<Option<Lock>> {
        Lock::try_take(&self.path.join("lock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_even_when_the_clock_goes_back() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        let first = spool.next_id().unwrap();
        // As if the clock had stood an hour ahead when the last number was given.
        let ahead = Ulid::from_parts(first.timestamp_ms() + 3_600_000, 7);
        fs::write(directory.path().join("sequence"), ahead.to_string()).unwrap();
        let second = spool.next_id().unwrap();
        let third = spool.next_id().unwrap();
        assert!(first < ahead && ahead < second && second < third);
        assert_ne!(Some(second), ahead.increment().ok(), "guessed");
        assert_ne!(Some(third), second.increment().ok(), "guessed");
    }

    #[test]
    fn without_its_sequence_the_numbers_go_on_after_the_jobs() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        let ahead = Ulid::from_parts(Ulid::generate().timestamp_ms() + 3_600_000, 7);
        fs::create_dir(spool.state(SpoolState::Done).join(ahead.to_string())).unwrap();
        for damaged in ["", "01M8BMEC61NRDSSYRCXX155FF", "\0\0"] {
            fs::write(directory.path().join("sequence"), damaged).unwrap();
            assert!(spool.next_id().unwrap() > ahead, "{damaged:?}");
        }
    }

    #[test]
    fn a_state_is_a_place() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(directory.path()).unwrap();
        let id = spool.next_id().unwrap();
        let path = spool.state(SpoolState::Queued).join(id.to_string());
        fs::create_dir(&path).unwrap();
        fs::write(path.join(BODY), b"x").unwrap();
        let job = spool.find(id).unwrap().unwrap();
        assert_eq!(job.state, SpoolState::Queued);
        let job = spool.transition(&job, SpoolState::Running).unwrap();
        let held = job.lock().unwrap();
        assert!(held.is_some() && job.lock().unwrap().is_none());
        let ending = Ending::Failed {
            error: "the tar is torn".into(),
        };
        let job = spool.end(&job, &ending).unwrap();
        assert_eq!(job.state, SpoolState::Failed);
        assert_eq!(job.ending().unwrap(), Some(ending));
        assert!(job.path.join(BODY).exists(), "a failed upload is kept");
        assert!(spool.jobs(SpoolState::Running).unwrap().is_empty());
    }
}
