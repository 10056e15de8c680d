//! The command `bakery set`.

use std::process::ExitCode;

use wire::manifest::ProfileName;

use super::published;
use super::wording::Wording;
use crate::globals::Globals;

/// Publish a revision with other boot settings; the tree is the same
#[derive(Debug, clap::Args)]
pub struct SetArgs {
    /// The history to continue
    #[arg(value_name = "SYSTEM[/PROFILE]")]
    name: ProfileName,
    /// The new kernel parameters ('' for none)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, required = true)]
    cmdline: String,
    #[command(flatten)]
    wording: Wording,
}

/// Publishes.
///
/// # Errors
/// The history does not exist, or it has these settings already.
pub(crate) fn run(args: SetArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let publisher = globals.publisher()?;
    // Lists the existing names for a wrong one.
    publisher.history().require_head(&args.name)?;
    let (author, message) = (args.wording.author(), &args.wording.message);
    let result = publisher.set_parameters(&args.name, &args.cmdline, &author, message);
    published::report(globals, result)
}
