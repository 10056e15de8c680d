//! The command `bakery man`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

/// Write the manual pages, one per command
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Output directory; created if missing
    pub directory: PathBuf,
}

/// Writes `bakery.1`, `bakery-bake.1` and so on.
///
/// # Errors
/// The directory cannot be made or written.
pub(crate) fn run(args: ManArgs, definition: clap::Command) -> anyhow::Result<ExitCode> {
    let place = args.directory.display();
    std::fs::create_dir_all(&args.directory).with_context(|| format!("cannot make {place}"))?;
    clap_mangen::generate_to(definition, &args.directory)
        .with_context(|| format!("cannot write the manual pages to {place}"))?;
    Ok(ExitCode::SUCCESS)
}
