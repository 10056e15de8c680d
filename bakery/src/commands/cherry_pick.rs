//! The command `bakery cherry-pick`.

use std::process::ExitCode;

use wire::manifest::ProfileName;

use super::published::{Conflicts, Publishing};
use crate::globals::Globals;

/// Apply a layer of one history to another
///
/// Paths that both sides changed are listed, and nothing is published (exit code 1).
#[derive(Debug, clap::Args)]
pub struct CherryPickArgs {
    /// A revision, meaning the layer it added, or the first digits of a layer's digest
    #[arg(value_name = "REVISION|DIGEST")]
    layer: String,
    /// The target history
    #[arg(long, value_name = "SYSTEM[/PROFILE]")]
    onto: ProfileName,
    #[command(flatten)]
    conflicts: Conflicts,
    #[command(flatten)]
    publishing: Publishing,
}

/// Publishes, or lists conflicts.
///
/// # Errors
/// The layer or history does not exist.
pub(crate) fn run(args: CherryPickArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    args.publishing.run(globals, |publisher, author, message| {
        let resolution = args.conflicts.resolution();
        publisher.cherry_pick(&args.layer, &args.onto, author, message, resolution)
    })
}
