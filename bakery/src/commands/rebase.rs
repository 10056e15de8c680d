//! The command `bakery rebase`.

use std::process::ExitCode;

use wire::manifest::{ProfileName, RevisionName};

use super::published::{Conflicts, Publishing};
use crate::globals::Globals;

/// Move a profile to another revision of its base
///
/// Its own layers are applied to the new base one by one. Paths that both changed are listed, and
/// nothing is published (exit code 1). "Ours" is the new base, "theirs" the profile's layer.
#[derive(Debug, clap::Args)]
pub struct RebaseArgs {
    /// The profile to move
    #[arg(value_name = "SYSTEM/PROFILE")]
    profile: ProfileName,
    /// The new base; by default the newest revision of the base's history
    #[arg(long, value_name = "SYSTEM[/PROFILE][@REV]")]
    onto: Option<RevisionName>,
    #[command(flatten)]
    conflicts: Conflicts,
    #[command(flatten)]
    publishing: Publishing,
}

/// Publishes, or lists conflicts.
///
/// # Errors
/// The history is not a profile, or the revision cannot be its base.
pub(crate) fn run(args: RebaseArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    args.publishing.run(globals, |publisher, author, message| {
        let (onto, resolution) = (args.onto.as_ref(), args.conflicts.resolution());
        publisher.rebase(&args.profile, onto, author, message, resolution)
    })
}
