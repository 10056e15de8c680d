//! The command `bakery cat`.

use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::place;
use crate::globals::Globals;
use crate::history::TreePlace;
use crate::output;

/// Write files of a revision to standard output
///
/// Symbolic links are followed inside the system's tree.
#[derive(Debug, clap::Args)]
pub struct CatArgs {
    /// The files to print
    #[arg(required = true, value_name = "SYSTEM[/PROFILE][@REV]:/PATH", value_parser = place::parser())]
    places: Vec<TreePlace>,
}

/// Writes the contents, one after the other.
///
/// # Errors
/// A file does not exist, or its content cannot be read.
pub(crate) fn run(args: CatArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    for place in &args.places {
        let found = place::open(&history, place)?;
        let (index, ino) = (&found.merged.index, found.ino);
        match index.inode(ino) {
            Some(inode) if inode.is_file() => {}
            Some(inode) if inode.is_dir() => {
                bail!("{place} is a directory: `bakery ls {place}` lists it")
            }
            _ => bail!("{place} is not a file with content"),
        }
        let layers = history.layers_of_file(&found.revision.manifest, &found.merged, ino)?;
        let mut read = Ok(());
        output::raw(|out| {
            read = crate::history::write_content(index, &layers, ino, out);
            match &read {
                // The output reports a closed pipe itself.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                    Err(std::io::ErrorKind::BrokenPipe.into())
                }
                _ => Ok(()),
            }
        })?;
        read.with_context(|| format!("cannot read {place}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
