//! The command `bakery rollback`.

use std::process::ExitCode;

use wire::manifest::RevisionName;

use super::published::Publishing;
use crate::globals::Globals;
use crate::history::HistoryError;

/// Publish the contents of an older revision as the newest one
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// The revision to restore; without a number, the one before the newest
    #[arg(value_name = "SYSTEM[/PROFILE][@REV]")]
    to: RevisionName,
    #[command(flatten)]
    publishing: Publishing,
}

/// Publishes.
///
/// # Errors
/// The revision does not exist, or parts of it have been swept.
pub(crate) fn run(args: RollbackArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    args.publishing.run(globals, |publisher, author, message| {
        let mut to = args.to;
        if to.revision.is_none() {
            let head = publisher.history().require_head(&to.name)?;
            let before = head.number().checked_sub(1).filter(|number| *number > 0);
            to.revision = Some(before.ok_or_else(|| {
                HistoryError::Refused(format!("{} is the first revision", head.name()))
            })?);
        }
        publisher.rollback(&to, author, message)
    })
}
