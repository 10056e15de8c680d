//! The command `bakery tag`.

use std::process::ExitCode;

use wire::manifest::RevisionName;

use crate::globals::Globals;
use crate::output;

/// Name a revision, which protects it from gc; without a name, list the tags of a history
#[derive(Debug, clap::Args)]
pub struct TagArgs {
    /// The revision; without a number the newest
    #[arg(value_name = "SYSTEM[/PROFILE][@REV]")]
    revision: RevisionName,
    /// The name: characters of a-z 0-9 . _ -
    #[arg(value_name = "TAG")]
    tag: Option<String>,
    /// Remove the name instead
    #[arg(long, requires = "tag")]
    delete: bool,
}

/// Adds, removes or lists tags.
///
/// # Errors
/// The history, the revision or the tag does not exist, or the name is taken.
pub(crate) fn run(args: TagArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    let tags = match args.tag {
        None => {
            let name = &args.revision.name;
            let newest = history.newest(name)?;
            newest.ok_or_else(|| history.no_history(name))?;
            history.tags(name)?
        }
        Some(tag) if args.delete => {
            history.untag(&args.revision.name, &tag)?;
            Vec::new()
        }
        Some(tag) => vec![history.tag(&args.revision, &tag)?],
    };
    output::emit(globals, &tags, |out| {
        tags.iter().try_for_each(|tag| {
            writeln!(out, "{}@{}  {}", args.revision.name, tag.revision, tag.name)
        })
    })?;
    Ok(ExitCode::SUCCESS)
}
