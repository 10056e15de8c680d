//! The command `bakery init`.

use std::process::ExitCode;

use serde::Serialize;

use crate::globals::Globals;
use crate::keys;
use crate::output;
use crate::store::Store;

/// Make a store with its signing keys
///
/// Running it again changes nothing.
#[derive(Debug, clap::Args)]
pub struct InitArgs {}

#[derive(Serialize)]
struct InitReport {
    store: String,
    keys: String,
    allowed_signers: String,
    root_key: String,
}

/// Probes the place, makes the keys and publishes the first keyset.
///
/// # Errors
/// The place cannot be a store, or the keys cannot be written.
pub(crate) fn run(_args: InitArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let keys = globals.keys()?;
    let store = Store::create(globals.store()?)?;
    keys.create()?;
    if keys::newest(&store, &keys.anchors()?)?.is_none() {
        keys::first(&store, &keys.root(None)?, &keys.head()?)?;
    }
    let at = |name: &str| keys.directory().join(name).display().to_string();
    let made = InitReport {
        store: store.location().into(),
        keys: keys.directory().display().to_string(),
        allowed_signers: at("allowed_signers"),
        root_key: at("root"),
    };
    output::emit(globals, &made, |out| {
        writeln!(out, "store            {}", made.store)?;
        writeln!(out, "keys             {}", made.keys)?;
        writeln!(out, "for clients      {}", made.allowed_signers)?;
        writeln!(
            out,
            "root key         {} (move it to a safe place)",
            made.root_key
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
