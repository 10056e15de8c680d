//! `bakery diff`

use std::process::ExitCode;

use layerfmt::manifest::RevisionName;

use crate::cli::{ANSWER_NO, Globals};
use crate::graft::changes;
use crate::output;

/// List the paths in which two revisions differ
///
/// Exit code 0: they are equal; 1: they differ.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One revision
    #[arg(value_name = "SYSTEM[/PROFILE][@REV]")]
    from: RevisionName,
    /// The other; without it, the newest of the same history
    #[arg(value_name = "SYSTEM[/PROFILE][@REV]")]
    to: Option<RevisionName>,
}

/// Compares the merged trees by recorded content digests.
///
/// # Errors
/// One of the revisions is not there, or its index is damaged.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    let from = history.revision(&args.from)?;
    let newest = RevisionName {
        name: args.from.name.clone(),
        revision: None,
    };
    let to = history.revision(args.to.as_ref().unwrap_or(&newest))?;
    let changes = changes(
        &history.merged(&from.manifest)?,
        &history.merged(&to.manifest)?,
    )?;
    output::emit(globals, &changes, |out| {
        changes
            .iter()
            .try_for_each(|change| writeln!(out, "{change}"))
    })?;
    Ok(if changes.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(ANSWER_NO)
    })
}
