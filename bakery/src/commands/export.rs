//! The command `bakery export`.

use std::path::PathBuf;
use std::process::ExitCode;

use wire::manifest::ProfileName;

use crate::globals::Globals;
use crate::{human, mirror, output};

/// Write histories to one file, to carry it to another store
///
/// The file is a tar archive with the layout of a store. `bakery import-store` imports it into
/// another store and verifies everything with the keys that this store trusts.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Histories to write
    #[arg(value_name = "SYSTEM[/PROFILE]", required = true)]
    names: Vec<ProfileName>,
    /// Omit objects that a store with this revision has
    #[arg(
        long,
        value_name = "REVISION",
        default_value_t = 0,
        hide_default_value = true
    )]
    since: u64,
    /// Omit also what an update pack from this revision makes. The importing `bakery` must compress
    /// as this one does: use the same version
    #[arg(long, requires = "since")]
    delta: bool,
}

/// Writes the file.
///
/// # Errors
/// A history cannot be read, or the file cannot be written.
pub(crate) fn run(args: ExportArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    let wanted = mirror::ExportedPart {
        since: args.since,
        is_delta: args.delta,
    };
    let exported = mirror::export(&history, &args.names, wanted, &args.file)?;
    output::emit(globals, &exported, |out| {
        writeln!(
            out,
            "{}: {} revisions, {} objects, {}",
            args.file.display(),
            exported.revisions,
            exported.objects,
            human::length(exported.bytes)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
