//! The command `bakery revert`.

use std::process::ExitCode;

use wire::manifest::RevisionName;

use super::published::{Conflicts, Publishing};
use crate::globals::Globals;

/// Undo one revision and keep later changes
///
/// A new revision undoes the changes. Paths that were changed again since are listed, and nothing
/// is published (exit code 1). "Ours" is the newest revision, "theirs" the tree before the undone
/// one.
#[derive(Debug, clap::Args)]
pub struct RevertArgs {
    /// The revision to undo; without a number the newest
    #[arg(value_name = "SYSTEM[/PROFILE][@REV]")]
    what: RevisionName,
    #[command(flatten)]
    conflicts: Conflicts,
    #[command(flatten)]
    publishing: Publishing,
}

/// Publishes, or lists conflicts.
///
/// # Errors
/// The revision does not exist, or there is no change to undo.
pub(crate) fn run(args: RevertArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    args.publishing.run(globals, |publisher, author, message| {
        publisher.revert(&args.what, author, message, args.conflicts.resolution())
    })
}
