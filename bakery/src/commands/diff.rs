//! The command `bakery diff`.

use std::process::ExitCode;

use wire::manifest::RevisionName;

use crate::content_diff::{self, Side};
use crate::globals::{ANSWER_NO, Globals};
use crate::graft::{TreeChange, changes};
use crate::history::Revision;
use crate::output;

/// List the differing paths of two revisions
///
/// Exit code 0: they are equal; 1: they differ.
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// The first revision
    #[arg(value_name = "SYSTEM[/PROFILE][@REV]")]
    from: RevisionName,
    /// The second revision; by default the newest of the same history
    #[arg(value_name = "SYSTEM[/PROFILE][@REV]")]
    to: Option<RevisionName>,
    /// Show the lines that differ in this file, or in all files below this directory (repeatable)
    #[arg(long, value_name = "PATH")]
    content: Vec<String>,
}

/// Compares the merged trees by recorded content digests.
///
/// # Errors
/// One of the revisions is not there, or its index is damaged.
pub(crate) fn run(args: DiffArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    let from = history.revision(&args.from)?;
    let newest = RevisionName {
        name: args.from.name.clone(),
        revision: None,
    };
    let to = history.revision(args.to.as_ref().unwrap_or(&newest))?;
    let (before, after) = (
        history.merged(&from.manifest)?,
        history.merged(&to.manifest)?,
    );
    let mut found = changes(&before, &after)?;
    let code = if args.content.is_empty() {
        output::emit(globals, &found, |out| {
            found
                .iter()
                .try_for_each(|change| writeln!(out, "{change}"))
        })?;
        found.is_empty()
    } else {
        let below: Vec<&str> = args
            .content
            .iter()
            .map(|path| path.trim_matches('/'))
            .collect();
        found.retain(|change| below.iter().any(|path| is_below(change, path)));
        let side = |revision: Revision, merged| Side {
            history: &history,
            revision,
            merged,
        };
        show(&found, &side(from, before), &side(to, after), globals)?;
        found.is_empty()
    };
    Ok(if code {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(ANSWER_NO)
    })
}

/// True if a change is at or below `path`; the empty path is the root.
fn is_below(change: &TreeChange, path: &str) -> bool {
    let rest = change.bytes.strip_prefix(path.as_bytes());
    path.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn show(
    found: &[TreeChange],
    from: &Side<'_>,
    to: &Side<'_>,
    globals: &Globals,
) -> anyhow::Result<()> {
    let mut shown = Vec::new();
    for change in found {
        shown.push(content_diff::of(change, from, to)?);
    }
    output::emit(globals, &shown, |out| {
        for one in &shown {
            writeln!(out, "{} /{}  ({})", one.mark, one.path, one.what)?;
            out.write_all(one.lines.as_bytes())?;
        }
        Ok(())
    })
}
