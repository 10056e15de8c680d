//! `bakery run-job`: the baker that `bakery watch` starts.

use std::path::PathBuf;
use std::process::ExitCode;

use layerfmt::Options;
use ulid::Ulid;

use crate::globals::{ANSWER_NO, Globals, SPOOL_DEFAULT};
use crate::graft::Resolution;
use crate::jobs::{Baker, Ending, JobOutcome, Spool, SpoolState, TRY_AGAIN};
use crate::output;

/// Bake and publish one running job
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct RunJobArgs {
    /// Directory of the spool
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL", default_value = SPOOL_DEFAULT)]
    spool: PathBuf,
    /// Resolution of paths that others changed meanwhile
    #[arg(long, value_enum, default_value_t = OnConflict::Theirs)]
    on_conflict: OnConflict,
    /// Number of the job
    id: Ulid,
}

/// Resolution of a path that both a push and the history since its base changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnConflict {
    /// Fail the job and list the paths
    Refuse,
    /// Keep the side of the history
    Ours,
    /// Take the pushed side: the later push wins
    Theirs,
}

impl OnConflict {
    /// Its name on the command line.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Ours => "ours",
            Self::Theirs => "theirs",
        }
    }
}

/// Runs the job.
///
/// # Errors
/// Never one of the upload: that is the job's end, and exit code 1. Exit code 75 means that
/// another attempt may succeed.
pub(crate) fn run(args: RunJobArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let spool = Spool::open(&args.spool)?;
    let job = spool
        .find(args.id)?
        .filter(|job| job.state == SpoolState::Running);
    let Some(job) = job else {
        return Ok(ExitCode::SUCCESS);
    };
    let resolution = match args.on_conflict {
        OnConflict::Refuse => Resolution::Refuse,
        OnConflict::Ours => Resolution::Ours,
        OnConflict::Theirs => Resolution::Theirs,
    };
    let done = globals.publisher().and_then(|publisher| {
        let baker = Baker {
            spool: &spool,
            publisher: &publisher,
            resolution,
            options: Options::bake(),
        };
        Ok(baker.run(&job)?)
    });
    Ok(match done {
        Ok(JobOutcome::Ended(Ending::Failed { error })) => {
            output::complain(&anyhow::anyhow!(error));
            ExitCode::from(ANSWER_NO)
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error.context("the job waits for another attempt"));
            ExitCode::from(TRY_AGAIN)
        }
    })
}
