//! The command `bakery machine values`: the machine layer.

use std::io::{Read as _, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use fleet::store::{Database, MachineOrGroup, Values};
use serde::Serialize;
use wire::manifest::{MachineValue, RingAction, VALUE_LEN_MAX, ValuesRecord};

use super::assign::AssignTarget;
use crate::commands::wording::{Wording, user};
use crate::globals::Globals;
use crate::output;
use crate::publish::{Publisher, RingReason};

/// The changes of the values.
#[derive(Debug, clap::Args)]
pub(super) struct ValuesArgs {
    #[command(flatten)]
    target: AssignTarget,
    /// Set a value: hostname, locale, printer, or any other name
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Set a secret, which is read from standard input and sealed to the key of the machine
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// Delete a value
    #[arg(long, value_name = "NAME")]
    delete: Vec<String>,
    /// Return to the values of this record of the machine
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["group", "set", "secret", "delete"])]
    to: Option<u64>,
    #[command(flatten)]
    wording: Wording,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

/// The values of a machine or a group, and the records that the change made.
#[derive(Debug, Serialize)]
struct ValuesShown {
    own: Values,
    /// For a machine: its own values, and those of its group that it does not set itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective: Option<Values>,
    /// The new records, and the newest of a machine if nothing was changed.
    records: Vec<ValuesRecord>,
}

/// Changes or shows values.
pub(super) fn run(
    args: &ValuesArgs,
    store: &Database,
    globals: &Globals,
) -> anyhow::Result<ExitCode> {
    let whom = args.target.find(store)?;
    let changes = !args.set.is_empty()
        || !args.delete.is_empty()
        || args.secret.is_some()
        || args.to.is_some();
    let records = match changes {
        true => {
            // Without a key nothing is changed.
            let publisher = globals.publisher()?;
            change(args, &whom, store, &publisher)?;
            let reason = RingReason::new(
                RingAction::Policy,
                &args.wording.author(),
                &args.wording.message,
            );
            publisher.publish_values_of(store, &machines(store, &whom)?, &reason)?
        }
        false => newest(&whom, globals)?,
    };
    let effective = match &whom {
        MachineOrGroup::Machine(id) => Some(store.effective_values(id)?),
        MachineOrGroup::Group(_) => None,
    };
    let shown = ValuesShown {
        own: store.values(&whom)?,
        effective,
        records,
    };
    output::emit(globals, &shown, |out| write(&shown, out))?;
    Ok(ExitCode::SUCCESS)
}

/// Changes a machine. If that changes its values, they are published; without a key to sign them,
/// nothing is changed.
pub(super) fn follow(
    id: &str,
    is_affected: bool,
    store: &Database,
    globals: &Globals,
    message: &str,
    change: impl FnOnce() -> fleet::store::Result<()>,
) -> anyhow::Result<()> {
    let publisher = is_affected.then(|| globals.publisher()).transpose()?;
    change()?;
    if let Some(publisher) = publisher {
        let reason = RingReason::new(RingAction::Policy, &user(), message);
        publisher.publish_values_of(store, &[id.to_owned()], &reason)?;
    }
    Ok(())
}

fn machines(store: &Database, whom: &MachineOrGroup) -> anyhow::Result<Vec<String>> {
    Ok(match whom {
        MachineOrGroup::Machine(id) => vec![id.clone()],
        MachineOrGroup::Group(group) => store.machines_of(group)?,
    })
}

fn newest(whom: &MachineOrGroup, globals: &Globals) -> anyhow::Result<Vec<ValuesRecord>> {
    let MachineOrGroup::Machine(id) = whom else {
        return Ok(Vec::new());
    };
    let newest = globals.history()?.values_record(id, None)?;
    Ok(newest.map(|(record, _)| record).into_iter().collect())
}

fn change(
    args: &ValuesArgs,
    whom: &MachineOrGroup,
    store: &Database,
    publisher: &Publisher,
) -> anyhow::Result<()> {
    if let (Some(number), MachineOrGroup::Machine(id)) = (args.to, whom) {
        let record = publisher.history().values_record(id, Some(number))?;
        let (record, _) = record.with_context(|| format!("{id} has no values record {number}"))?;
        for name in store
            .values(whom)?
            .keys()
            .filter(|name| !record.values.contains_key(*name))
        {
            store.set_value(whom, name, None)?;
        }
        for (name, value) in &record.values {
            store.set_value(whom, name, Some(value))?;
        }
        return Ok(());
    }
    // The key is loaded first, so that without one nothing is changed.
    if let Some(name) = &args.secret {
        store.require_key(whom)?;
        store.set_secret(whom, name, &read_secret()?)?;
    }
    for (name, value) in &args.set {
        store.set_value(whom, name, Some(&MachineValue::Text(value.clone())))?;
    }
    for name in &args.delete {
        store.set_value(whom, name, None)?;
    }
    Ok(())
}

fn read_secret() -> anyhow::Result<Vec<u8>> {
    let mut secret = Vec::new();
    let mut input = std::io::stdin().take(VALUE_LEN_MAX as u64 + 2);
    input
        .read_to_end(&mut secret)
        .context("cannot read the secret from standard input")?;
    // Input from a terminal or from echo ends in a line feed.
    if secret.ends_with(b"\n") {
        secret.pop();
    }
    Ok(secret)
}

fn write(shown: &ValuesShown, out: &mut dyn Write) -> std::io::Result<()> {
    for (name, value) in shown.effective.as_ref().unwrap_or(&shown.own) {
        let origin = match shown.own.contains_key(name) {
            true => "",
            false => "  (group)",
        };
        match value {
            MachineValue::Text(text) => writeln!(out, "{name}={text}{origin}")?,
            MachineValue::Sealed(_) => {
                writeln!(out, "{name}  a secret, sealed to the machine's key{origin}")?
            }
        }
    }
    for record in &shown.records {
        writeln!(out, "record {} of {}", record.number, record.machine)?;
    }
    Ok(())
}
