//! The command `bakery machine key`.

use std::process::ExitCode;

use fleet::store::Database;
use fleet::writer::now;

use crate::globals::Globals;
use crate::output;

/// The change of a machine's key.
#[derive(Debug, clap::Args)]
pub(super) struct MachineKeyArgs {
    /// The machine
    machine: String,
    /// Accept the key that the machine offers, if it has this fingerprint (`layerfs status` on the
    /// machine shows it); its hellos must be signed from then on
    #[arg(long, value_name = "FINGERPRINT", conflicts_with = "remove")]
    accept: Option<String>,
    /// Withdraw the accepted key, and delete the secrets that are sealed to it
    #[arg(long)]
    remove: bool,
}

/// Shows, accepts or withdraws a key.
pub(super) fn run(
    args: &MachineKeyArgs,
    store: &Database,
    globals: &Globals,
) -> anyhow::Result<ExitCode> {
    let id = store.machine(&args.machine, now())?.id;
    if args.accept.is_some() || args.remove {
        // Another key, or none: the secrets go.
        let affected = store.has_secrets(&id)?;
        super::values::follow(&id, affected, store, globals, "key", || {
            match &args.accept {
                Some(fingerprint) => store.accept_key(&id, fingerprint).map(drop),
                None => store.remove_key(&id),
            }
        })?;
    }
    let machine = store.machine(&id, now())?;
    let keys = [("accepted", machine.key), ("offered", machine.offered)];
    let shown: std::collections::BTreeMap<&str, String> = keys
        .iter()
        .filter_map(|(name, key)| Some((*name, key.as_ref()?.fingerprint())))
        .collect();
    output::emit(globals, &shown, |out| {
        if shown.is_empty() {
            return writeln!(out, "{} offers no key", machine.label());
        }
        shown
            .iter()
            .try_for_each(|(name, fingerprint)| writeln!(out, "{name:<9} {fingerprint}"))
    })?;
    Ok(ExitCode::SUCCESS)
}
