//! The command `bakery gc`.

use std::process::ExitCode;
use std::time::Duration;

use wire::manifest::RevisionName;

use crate::globals::{ANSWER_NO, Globals};
use crate::human;
use crate::output;
use crate::sweep::{SweepPolicy, sweep};

/// Delete objects that no retained revision reaches
///
/// Retained are the newest revisions of every history, tagged revisions, and the bases of profiles.
#[derive(Debug, clap::Args)]
pub struct GcArgs {
    /// Number of revisions of every history to retain
    #[arg(long, default_value_t = SweepPolicy::default().keep_last, value_name = "COUNT")]
    keep_last: usize,
    /// Retain this revision too
    #[arg(long, value_name = "SYSTEM[/PROFILE]@REV")]
    keep: Vec<RevisionName>,
    /// Keep objects younger than this: 90m, 24h, 7d
    #[arg(long, default_value = "24h", value_name = "AGE", value_parser = human::parse_age)]
    grace: Duration,
    /// Only print the objects that would be deleted
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Sweeps. Exit code 1: another process publishes or sweeps, nothing was done.
///
/// # Errors
/// A history cannot be read; nothing is deleted then.
pub(crate) fn run(args: GcArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let policy = SweepPolicy {
        keep_last: args.keep_last,
        keep: args.keep,
        grace: args.grace,
        dry_run: args.dry_run,
    };
    let swept = sweep(&globals.history()?, &policy)?;
    output::emit(globals, &swept, |out| {
        for object in &swept.objects {
            writeln!(out, "{object}")?;
        }
        let (count, bytes) = (swept.objects.len(), human::length(swept.bytes));
        let verb = if policy.dry_run {
            "would delete"
        } else {
            "deleted"
        };
        writeln!(
            out,
            "{verb} {count} objects, {bytes}; {} wait for their grace time, {} revisions kept, {} swept",
            swept.objects_waiting,
            swept.revisions_kept,
            swept.revisions_swept.len()
        )
    })?;
    if swept.busy {
        output::note(
            globals,
            "another process publishes or sweeps; nothing was done, try again",
        );
        return Ok(ExitCode::from(ANSWER_NO));
    }
    Ok(ExitCode::SUCCESS)
}
