//! How a verb says what it published, or why it did not.

use std::process::ExitCode;

use serde::Serialize;

use crate::cli::{ANSWER_NO, Globals};
use crate::graft::{Conflict, Resolution};
use crate::history::{HistoryError, Result, Revision};
use crate::output;

/// What to do about paths that both sides changed
#[derive(Debug, Clone, Default, clap::Args)]
#[group(multiple = false)]
pub struct Conflicts {
    /// On conflict keep what the target has
    #[arg(long)]
    ours: bool,
    /// On conflict take what the layer has
    #[arg(long)]
    theirs: bool,
    /// Put the layer on top as it is, without looking for conflicts
    #[arg(long)]
    force: bool,
}

impl Conflicts {
    /// As the library says it.
    pub fn resolution(&self) -> Resolution {
        match (self.ours, self.theirs, self.force) {
            (true, ..) => Resolution::Ours,
            (_, true, _) => Resolution::Theirs,
            (_, _, true) => Resolution::Force,
            _ => Resolution::Refuse,
        }
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    conflicts: &'a [Conflict],
}

/// Prints the new revision, or the conflicts (exit code 1).
///
/// # Errors
/// Anything but conflicts.
pub fn report(globals: &Globals, result: Result<Revision>) -> anyhow::Result<ExitCode> {
    match result {
        Ok(revision) => {
            let name = revision.name().to_string();
            let answer = Answer {
                published: Some(name.clone()),
                conflicts: &[],
            };
            output::emit(globals, &answer, |out| writeln!(out, "published {name}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(HistoryError::Conflicts(conflicts)) => {
            let answer = Answer {
                published: None,
                conflicts: &conflicts,
            };
            output::emit(globals, &answer, |out| {
                conflicts
                    .iter()
                    .try_for_each(|conflict| writeln!(out, "{conflict}"))
            })?;
            let count = conflicts.len();
            output::note(
                globals,
                &format!(
                    "{count} path(s) changed on both sides; nothing was published. Decide with \
                     --ours, --theirs or --force"
                ),
            );
            Ok(ExitCode::from(ANSWER_NO))
        }
        Err(error) => Err(error.into()),
    }
}
