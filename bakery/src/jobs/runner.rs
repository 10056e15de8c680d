//! One job, from running to its end, in its own process.
//!
//! A job is published exactly once. Before the first bake it records the newest revision
//! (`started.json`), and every revision made from a job names the job in the last line of its
//! message (`wire::manifest::Trailer`). So a baker that takes over after a crash can see if the
//! previous one reached the commit.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use layerfmt::Options;
use serde::{Deserialize, Serialize};
use wire::manifest::{Action, ProfileName, RevisionName, Trailer};

use super::BODY;
use super::error::JobError;
use super::files;
use super::records::JobRequest;
use super::spool::{Job, Spool};
use super::{Ending, Progress};
use crate::assemble::Reading;
use crate::bake::{BakeReport, BaseStack, Recipe, bake, no_progress};
use crate::failed::Doing as _;
use crate::graft::Resolution;
use crate::history::{Conflict, History, HistoryError, Revision};
use crate::human;
use crate::publish::{Addition, Preview, Publisher};
use source::open::{self, open_stream};
use wire::exclude::Excludes;

/// The runner of jobs.
#[derive(Debug)]
pub struct Baker<'b> {
    /// The spool of the jobs.
    pub spool: &'b Spool,
    /// The destination of revisions.
    pub publisher: &'b Publisher,
    /// Resolution of paths that both sides changed, if others published after the upper was made.
    pub resolution: Resolution,
    /// Options of the writer.
    pub options: Options,
}

/// The result of an attempt.
#[derive(Debug)]
pub enum JobOutcome {
    /// The job ended so.
    Ended(Ending),
    /// Another process has the job.
    Taken,
}

/// The state before the first bake.
#[derive(Debug, Serialize, Deserialize)]
struct Started {
    /// The newest revision then; 0 if there was none.
    newest: u64,
}

impl Baker<'_> {
    /// Works on a running job until it has ended.
    ///
    /// # Errors
    /// A problem outside the upload (no space, an absent store): the job stays in
    /// `running` for another attempt.
    pub fn run(&self, job: &Job) -> Result<JobOutcome, JobError> {
        let lock = match job.lock() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(JobOutcome::Taken),
            other => other.doing(|| format!("cannot lock job {}", job.id))?,
        };
        let Some(_lock) = lock else {
            return Ok(JobOutcome::Taken);
        };
        if !job.path.join("request.json").exists() {
            return Ok(JobOutcome::Taken);
        }
        let ending = match self.attempt(job) {
            Ok(ending) => ending,
            Err(error) if error.is_temporary() => return Err(error),
            Err(error) => Ending::Failed {
                error: explain(&error),
            },
        };
        self.spool
            .end(job, &ending)
            .doing(|| format!("cannot end job {}", job.id))?;
        Ok(JobOutcome::Ended(ending))
    }

    /// The report and the changes of a job that was not baked yet. Publishes nothing: the publisher
    /// must be that of a dry run.
    ///
    /// # Errors
    /// The upload cannot be read, or conflicts with later revisions.
    pub fn preview(&self, job: &Job) -> Result<(BakeReport, Option<Preview>), JobError> {
        let request = job.request()?;
        let name = ProfileName::new(&request.target.system, &request.target.profile)?;
        let made_on = made_on(self.publisher.history(), &name, request.base)?;
        let staging = self.publisher.store().staging()?;
        let output = staging.path().join("job.layer");
        let report = self.bake(job, &request, &made_on, &output)?;
        if report.is_empty {
            return Ok((report, None));
        }
        self.add(Addition {
            name,
            layer: &output,
            made_on: Some(made_on.name()),
            action: Action::Bake,
            author: request.author.clone(),
            message: message(&request, job),
            resolution: Resolution::Refuse,
        })?;
        Ok((report, self.publisher.preview()))
    }

    fn attempt(&self, job: &Job) -> Result<Ending, JobError> {
        if let Some(ending) = job.ending()? {
            return Ok(ending);
        }
        let start = Instant::now();
        let request = job.request()?;
        let name = ProfileName::new(&request.target.system, &request.target.profile)?;
        if let Some(revision) = self.published_before(job, &name)? {
            let report = serde_json::json!({ "note": "published by a baker that was then killed" });
            return Ok(Ending::Published {
                revision,
                seconds: 0.0,
                report,
            });
        }
        let made_on = made_on(self.publisher.history(), &name, request.base)?;
        let staging = self.publisher.store().staging()?;
        let output = staging.path().join("job.layer");
        let report = self.bake(job, &request, &made_on, &output)?;
        if report.is_empty {
            return Ok(Ending::Unchanged {
                revision: made_on.number(),
                report: report_of(&report, &[])?,
            });
        }
        let total = report.content_len;
        job.set_progress(&Progress {
            stage: "publish".into(),
            done: total,
            total,
        });
        let addition = Addition {
            name: name.clone(),
            layer: &output,
            made_on: Some(made_on.name()),
            action: Action::Bake,
            author: request.author.clone(),
            message: message(&request, job),
            resolution: Resolution::Refuse,
        };
        match self.add(addition)? {
            Added::As(revision, conflicts) => Ok(Ending::Published {
                revision: revision.number(),
                seconds: start.elapsed().as_secs_f64(),
                report: report_of(&report, &conflicts)?,
            }),
            Added::Nothing => {
                let newest = self.publisher.history().newest(&name)?.unwrap_or_default();
                Ok(Ending::Unchanged {
                    revision: newest,
                    report: report_of(&report, &[])?,
                })
            }
        }
    }

    /// The revision that an earlier attempt published, if any. Also records the start of the next
    /// search.
    fn published_before(&self, job: &Job, name: &ProfileName) -> Result<Option<u64>, JobError> {
        let history = self.publisher.history();
        let newest = history.newest(name)?.unwrap_or_default();
        let path = job.path.join("started.json");
        let Some(started) = files::read_record::<Started>(&path)? else {
            files::write_record(&path, &Started { newest })?;
            return Ok(None);
        };
        let id = job.id.to_string();
        for number in (started.newest + 1)..=newest {
            let wanted = RevisionName {
                name: name.clone(),
                revision: Some(number),
            };
            let trailer = history.revision(&wanted)?.manifest.trailer();
            if trailer.is_some_and(|trailer| trailer.job == id) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn bake(
        &self,
        job: &Job,
        request: &JobRequest,
        made_on: &Revision,
        output: &std::path::Path,
    ) -> Result<BakeReport, JobError> {
        let base = base_of(self.publisher.history(), made_on)?;
        let lists = self.spool.excludes(&request.target)?;
        let lists = lists.iter().map(|list| (&*list.place, &*list.text));
        let excludes = Excludes::with_defaults(lists)?;
        let body = File::open(job.path.join(BODY)).doing(|| "cannot open the upload".into())?;
        let total = body
            .metadata()
            .doing(|| "cannot stat the upload".into())?
            .len();
        let count = Arc::new(AtomicU64::new(0));
        let input = Counting {
            file: body,
            count: Arc::clone(&count),
        };
        let mut source = open_stream("the upload", input, &open::SourceOptions::default())?;
        let recipe = Recipe {
            excludes: &excludes,
            options: self.options,
            labels: Vec::new(),
            reading: Reading::Changes,
            machine: None,
            is_upload: true,
            progress: &no_progress,
        };
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let done = count.load(Ordering::Relaxed);
                    job.set_progress(&Progress {
                        stage: "bake".into(),
                        done,
                        total,
                    });
                    std::thread::park_timeout(Duration::from_millis(300));
                }
            });
            let baked = bake(&mut *source, Some(&base), &recipe, output);
            ended.store(true, Ordering::Relaxed);
            Ok(baked?)
        })
    }

    /// Publishes; the policy decides paths that both sides changed, and the report lists them.
    fn add(&self, mut addition: Addition<'_>) -> Result<Added, JobError> {
        match self.publisher.add(&addition) {
            Ok(revision) => Ok(Added::As(Box::new(revision), Vec::new())),
            Err(HistoryError::Refused(_)) => Ok(Added::Nothing),
            Err(HistoryError::Conflicts(conflicts)) if self.resolution != Resolution::Refuse => {
                addition.resolution = self.resolution;
                match self.publisher.add(&addition) {
                    Ok(revision) => Ok(Added::As(Box::new(revision), conflicts)),
                    Err(HistoryError::Refused(_)) => Ok(Added::Nothing),
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The revision on which an upper was made: the one that the sender names, else the newest.
pub(crate) fn made_on(
    history: &History,
    name: &ProfileName,
    base: Option<u64>,
) -> Result<Revision, JobError> {
    if let Some(revision) = base {
        let wanted = RevisionName {
            name: name.clone(),
            revision: Some(revision),
        };
        match history.revision(&wanted) {
            // The number is of another server, or the revision was swept: the newest is the best
            // guess.
            Err(HistoryError::NoRevision { .. }) => {}
            other => return Ok(other?),
        }
    }
    Ok(history.require_head(name)?)
}

/// A revision as the base of a bake.
pub(crate) fn base_of(history: &History, revision: &Revision) -> Result<BaseStack, JobError> {
    let layers = revision.manifest.layers.iter();
    Ok(BaseStack {
        merged: history.merged(&revision.manifest)?,
        names: layers.map(|layer| layer.digest).collect(),
        layers: history.layers(&revision.manifest)?,
    })
}

enum Added {
    As(Box<Revision>, Vec<Conflict>),
    Nothing,
}

/// Counts the bytes read.
struct Counting {
    file: File,
    count: Arc<AtomicU64>,
}

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The sender's text, then the authenticated key and the job. Nobody can forge the key or the job:
/// ours are the last lines.
fn message(request: &JobRequest, job: &Job) -> String {
    let words = request.message.trim();
    let words = if words.is_empty() {
        "(no message)"
    } else {
        words
    };
    let trailer = Trailer {
        key: request.origin.key(),
        job: job.id.to_string(),
    };
    trailer.append(words)
}

fn report_of(report: &BakeReport, conflicts: &[Conflict]) -> Result<serde_json::Value, JobError> {
    let mut value = serde_json::to_value(report)?;
    if let Some(members) = value.as_object_mut() {
        members.insert("conflicts".into(), serde_json::to_value(conflicts)?);
    }
    Ok(value)
}

/// An error with its causes, and the paths of conflicts.
fn explain(error: &JobError) -> String {
    let mut text = human::causes(error);
    if let JobError::History(HistoryError::Conflicts(conflicts)) = error {
        for conflict in conflicts {
            text.push_str(&format!("\n{conflict}"));
        }
    }
    text
}
