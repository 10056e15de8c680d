//! The command `bakery jobs`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{bail, ensure};
use serde::Serialize;
use ulid::Ulid;

use crate::commands::wording::user;
use crate::globals::{ANSWER_NO, Globals, SPOOL_DEFAULT};
use crate::human;
use crate::jobs::{Ending, Job, JobRequest, Progress, Spool, SpoolState, Target, warnings};
use crate::output;

/// List jobs, or show one: its changes, progress and result
#[derive(Debug, clap::Args)]
pub struct JobsArgs {
    /// The job (default: all)
    id: Option<Ulid>,
    /// Directory of the spool
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL", default_value = SPOOL_DEFAULT)]
    spool: PathBuf,
    /// Wait until the job ends; exit code 1 if it failed
    #[arg(long, requires = "id")]
    follow: bool,
    /// Put a failed job back into the queue
    #[arg(long, requires = "id", conflicts_with = "follow")]
    retry: bool,
    /// Approve a job that waits for an approval
    #[arg(long, requires = "id", conflicts_with_all = ["retry", "reject"])]
    approve: bool,
    /// Reject a job in the queue, with this reason
    #[arg(long, requires = "id", value_name = "REASON", conflicts_with = "retry")]
    reject: Option<String>,
    /// Let pushes to this history wait for an approval
    #[arg(long, value_name = "SYSTEM[/PROFILE]", conflicts_with = "id")]
    want_approval: Option<Target>,
    /// Let pushes to this history start at once again
    #[arg(long, value_name = "SYSTEM[/PROFILE]", conflicts_with_all = ["id", "want_approval"])]
    no_approval: Option<Target>,
}

/// A job as shown.
#[derive(Debug, Serialize)]
struct ShownJob {
    id: String,
    at: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<JobRequest>,
    /// True if a person must approve it first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    waits_for_approval: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending: Option<Ending>,
}

impl ShownJob {
    fn of(job: &Job, spool: &Spool) -> Self {
        let request = job.request().ok();
        let waits = |request: &JobRequest| spool.waits_for_approval(job, &request.target);
        Self {
            id: job.id.to_string(),
            at: job.state.name(),
            // A record that cannot be read must not hide the job itself.
            waits_for_approval: request.as_ref().is_some_and(waits),
            request,
            progress: job.progress().filter(|_| job.state == SpoolState::Running),
            ending: job.ending().ok().flatten(),
        }
    }

    fn warnings(&self) -> Vec<&str> {
        match &self.ending {
            Some(Ending::Published { report, .. } | Ending::Unchanged { report, .. }) => {
                warnings(report)
            }
            _ => Vec::new(),
        }
    }
}

/// Shows jobs.
///
/// # Errors
/// No such job; the spool cannot be read.
pub(crate) fn run(args: JobsArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    ensure!(
        args.spool.is_dir(),
        "there is no spool at {}: `bakery watch` makes it",
        args.spool.display()
    );
    let spool = Spool::open(&args.spool)?;
    for (target, wanted) in [(&args.want_approval, true), (&args.no_approval, false)] {
        if let Some(target) = target {
            spool.set_approval(target, wanted)?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    let Some(id) = args.id else {
        let mut shown = Vec::new();
        for state in SpoolState::ALL {
            shown.extend(
                spool
                    .jobs(state)?
                    .iter()
                    .map(|job| ShownJob::of(job, &spool)),
            );
        }
        shown.sort_by(|one, other| one.id.cmp(&other.id));
        output::emit(globals, &shown, |out| {
            shown.iter().try_for_each(|job| line(out, job))
        })?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut job = find(&spool, id)?;
    if args.retry {
        ensure!(
            job.state == SpoolState::Failed,
            "job {id} is {}, not failed",
            job.state.name()
        );
        job = spool.retry(&job)?;
    }
    if args.approve {
        spool.approve(&job, &user())?;
    }
    if let Some(reason) = &args.reject {
        job = spool.reject(&job, &user(), reason)?;
    }
    while args.follow && matches!(job.state, SpoolState::Queued | SpoolState::Running) {
        sleep(Duration::from_millis(200));
        job = find(&spool, id)?;
    }
    let shown = ShownJob::of(&job, &spool);
    output::emit(globals, &shown, |out| details(out, &shown))?;
    let no = args.follow && job.state == SpoolState::Failed;
    Ok(ExitCode::from(if no { ANSWER_NO } else { 0 }))
}

fn find(spool: &Spool, id: Ulid) -> anyhow::Result<Job> {
    match spool.find(id)? {
        Some(job) => Ok(job),
        None => bail!(
            "no job {id} in {}: `bakery jobs` lists them",
            spool.root().display()
        ),
    }
}

/// One job: number, state, arrival, target, result, author and message.
fn line(out: &mut dyn Write, job: &ShownJob) -> io::Result<()> {
    let how = match (&job.ending, &job.progress) {
        (Some(Ending::Published { revision, .. }), _) => format!("revision {revision}"),
        (Some(Ending::Unchanged { revision, .. }), _) => {
            format!("nothing new over revision {revision}")
        }
        (Some(Ending::Failed { error }), _) => error.lines().next().unwrap_or_default().to_owned(),
        (None, Some(progress)) => percent(progress),
        (None, None) if job.waits_for_approval => "waits for an approval".to_owned(),
        (None, None) => String::new(),
    };
    write!(out, "{}  {:7}", job.id, job.at)?;
    if let Some(request) = &job.request {
        let (time, target) = (human::time(request.received), &request.target);
        let subject = request.message.lines().next().unwrap_or_default();
        write!(out, "  {time}  {target}  {how}  {}", request.author)?;
        write!(out, "  {subject}")?;
    } else {
        write!(out, "  ?  {how}")?;
    }
    match job.warnings().len() {
        0 => writeln!(out),
        1 => writeln!(out, "  [1 warning]"),
        count => writeln!(out, "  [{count} warnings]"),
    }
}

fn percent(progress: &Progress) -> String {
    let percent = progress.done.saturating_mul(100) / progress.total.max(1);
    format!("{} {}%", progress.stage, percent.min(100))
}

fn details(out: &mut dyn Write, job: &ShownJob) -> io::Result<()> {
    line(out, job)?;
    if let Some(request) = &job.request {
        writeln!(out, "author:   {}", request.author)?;
        if let Some(key) = request.origin.key() {
            writeln!(out, "key:      {}", key.line())?;
        }
        writeln!(out, "received: {}", human::time(request.received))?;
        for text in request.message.lines() {
            writeln!(out, "message:  {text}")?;
        }
    }
    for warning in job.warnings() {
        writeln!(out, "warning:  {warning}")?;
    }
    match &job.ending {
        Some(Ending::Published { report, .. } | Ending::Unchanged { report, .. }) => {
            let text = serde_json::to_string_pretty(report)?;
            writeln!(out, "report:\n{text}")
        }
        Some(Ending::Failed { error }) => writeln!(out, "error:    {error}"),
        None => Ok(()),
    }
}
