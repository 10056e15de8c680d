//! The command `bakery set`.

use std::process::ExitCode;

use wire::manifest::{Action, ProfileName};

use super::published;
use super::wording::Wording;
use crate::globals::Globals;
use crate::history::HistoryError;
use crate::publish::{Draft, Uploads};

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
    let cmdline = args.cmdline.trim();
    let author = args.wording.author();
    let result = publisher.publish(&args.name, Uploads::default(), |head, _| {
        let head = head.ok_or_else(|| HistoryError::Refused(format!("{} is gone", args.name)))?;
        let old = &head.manifest.cmdline;
        if old == cmdline {
            let what = format!("{} has these kernel parameters already", head.name());
            return Err(HistoryError::Refused(what));
        }
        let message = match args.wording.message.as_str() {
            "" => format!("kernel parameters \"{cmdline}\", before \"{old}\""),
            text => text.to_owned(),
        };
        Ok(Draft {
            cmdline: cmdline.to_owned(),
            ..Draft::like(&head.manifest, Action::Boot, &author, &message)
        })
    });
    published::report(globals, result)
}
