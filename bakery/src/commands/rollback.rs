//! The command `bakery rollback`.

use std::process::ExitCode;

use wire::manifest::RevisionName;

use super::published::{self, DryRun};
use super::wording::Wording;
use crate::globals::Globals;

/// Publish the contents of an older revision as the newest one
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The revision to restore; without a number, the one before the newest
    #[arg(value_name = "SYSTEM[/PROFILE][@REV]")]
    to: RevisionName,
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    wording: Wording,
}

/// Publishes.
///
/// # Errors
/// There is no such revision, or parts of it have been swept.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let publisher = args.dry_run.publisher(globals)?;
    let mut to = args.to;
    if to.revision.is_none() {
        let head = publisher.history().require_head(&to.name)?;
        anyhow::ensure!(head.number() > 1, "{} is the first revision", head.name());
        to.revision = Some(head.number() - 1);
    }
    let wording = &args.wording;
    let result = publisher.rollback(&to, &wording.author(), &wording.message);
    published::report_of(globals, &publisher, result)
}
