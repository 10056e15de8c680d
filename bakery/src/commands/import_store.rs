//! The command `bakery import-store`.

use std::path::PathBuf;
use std::process::ExitCode;

use wire::manifest::ProfileName;

use super::mirror::{anchors, describe};
use crate::globals::Globals;
use crate::mirror::{DirectoryOrigin, Mirror, MirrorOptions, unpack};
use crate::output;
use crate::store::Store;
use crate::update_pack::PACKS_DEFAULT;

/// Import the histories in a file that `bakery export` wrote
///
/// Verifies everything with the trusted keys, like `bakery mirror`. The store is made if needed.
/// While it runs, it needs twice the space of the file.
#[derive(Debug, clap::Args)]
pub struct ImportStoreArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Histories to import [default: all]
    #[arg(value_name = "SYSTEM[/PROFILE]")]
    names: Vec<ProfileName>,
    /// The keys to trust: allowed_signers of the other bakery [default: those of the store]
    #[arg(long, value_name = "FILE")]
    allowed_signers: Option<PathBuf>,
    /// Take over histories that differ from those of the store
    #[arg(long)]
    replace: bool,
}

/// Imports the histories.
///
/// # Errors
/// The file is not an export, or something in it is not valid.
pub(crate) fn run(args: ImportStoreArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let store = Store::create(globals.store()?)?;
    let anchors = anchors(globals, args.allowed_signers.as_deref())?;
    let staging = store.staging()?;
    unpack(&args.file, staging.path())?;
    let name = args.file.display().to_string();
    let options = MirrorOptions {
        names: args.names,
        replace: args.replace,
        updates: PACKS_DEFAULT,
    };
    let mut origin = DirectoryOrigin::new(staging.path().to_owned(), name);
    let mut mirror = Mirror {
        store: &store,
        anchors: &anchors,
        options: &options,
        origin: &mut origin,
    };
    let mut mirrored = mirror.round()?;
    mirrored.received = std::fs::metadata(&args.file)?.len();
    output::emit(globals, &mirrored, |out| {
        writeln!(out, "{}", describe(&mirrored))
    })?;
    Ok(ExitCode::SUCCESS)
}
