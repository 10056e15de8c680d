//! The output of a command that publishes: the revision, or the reason for publishing none.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::wording::Wording;
use crate::globals::{ANSWER_NO, Globals};
use crate::graft::Resolution;
use crate::history::{Conflict, HistoryError, Result, Revision};
use crate::output;
use crate::publish::{Preview, Publisher};

/// Resolution of paths that both sides changed
#[derive(Debug, Clone, Default, clap::Args)]
#[group(multiple = false)]
pub(crate) struct Conflicts {
    /// On conflict keep the target's side
    #[arg(long)]
    ours: bool,
    /// On conflict take the layer's side
    #[arg(long)]
    theirs: bool,
    /// Put the layer on top unchanged, without looking for conflicts
    #[arg(long)]
    force: bool,
}

impl Conflicts {
    /// The resolution in the library's form.
    pub(crate) fn resolution(&self) -> Resolution {
        match (self.ours, self.theirs, self.force) {
            (true, ..) => Resolution::Ours,
            (_, true, _) => Resolution::Theirs,
            (_, _, true) => Resolution::Force,
            _ => Resolution::Refuse,
        }
    }
}

/// Option to print the changes without publishing them
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct DryRun {
    /// Publish nothing; print the changes that would be published
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl DryRun {
    /// True if nothing is to be published.
    pub(crate) fn is_wanted(self) -> bool {
        self.dry_run
    }

    /// The publisher for these options.
    ///
    /// # Errors
    /// The store or the keys cannot be used.
    pub(crate) fn publisher(self, globals: &Globals) -> anyhow::Result<Publisher> {
        let publisher = globals.publisher()?;
        Ok(if self.dry_run {
            publisher.rehearsing()
        } else {
            publisher
        })
    }
}

/// Options of the commands that publish a revision
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Publishing {
    #[command(flatten)]
    dry_run: DryRun,
    #[command(flatten)]
    wording: Wording,
}

impl Publishing {
    /// Calls `publish` with the publisher, the author and the message, and prints the result.
    ///
    /// # Errors
    /// Any error except conflicts.
    pub(crate) fn run(
        &self,
        globals: &Globals,
        publish: impl FnOnce(&Publisher, &str, &str) -> Result<Revision>,
    ) -> anyhow::Result<ExitCode> {
        let publisher = self.dry_run.publisher(globals)?;
        let result = publish(&publisher, &self.wording.author(), &self.wording.message);
        report_of(globals, &publisher, result)
    }
}

/// Prints like [`report`]; for a dry run, the revision that would be published.
///
/// # Errors
/// Any error except conflicts.
pub(crate) fn report_of(
    globals: &Globals,
    publisher: &Publisher,
    result: Result<Revision>,
) -> anyhow::Result<ExitCode> {
    match (result, publisher.preview()) {
        (Ok(_), Some(preview)) => {
            output::emit(globals, &preview, |out| write_preview(&preview, out))?;
            Ok(ExitCode::SUCCESS)
        }
        (result, _) => report(globals, result),
    }
}

/// Prints the revision that would be published.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn write_preview(preview: &Preview, out: &mut dyn Write) -> io::Result<()> {
    let (name, action) = (&preview.would_publish, &preview.action);
    let subject = preview.message.lines().next().unwrap_or_default();
    writeln!(out, "would publish {name}  {action}  {subject}")?;
    for what in &preview.boot {
        writeln!(out, "* {what}")?;
    }
    for change in &preview.changes {
        writeln!(out, "{change}")?;
    }
    let (count, layers) = (preview.changes.len(), preview.layer_count);
    writeln!(
        out,
        "{count} path(s) would change, {layers} layer(s); nothing was published"
    )
}

#[derive(Serialize)]
struct PublishAnswer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    conflicts: &'a [Conflict],
}

/// Prints the new revision, or the conflicts (exit code 1).
///
/// # Errors
/// Anything but conflicts.
pub(crate) fn report(globals: &Globals, result: Result<Revision>) -> anyhow::Result<ExitCode> {
    match result {
        Ok(revision) => {
            let name = revision.name().to_string();
            let answer = PublishAnswer {
                published: Some(name.clone()),
                conflicts: &[],
            };
            output::emit(globals, &answer, |out| writeln!(out, "published {name}"))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(HistoryError::Conflicts(conflicts)) => {
            let answer = PublishAnswer {
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
