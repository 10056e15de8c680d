//! The command `bakery show`.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;
use wire::manifest::{Manifest, RevisionName};

use crate::boots::{BootTimes, Boots};
use crate::globals::Globals;
use crate::human;
use crate::output;
use crate::publish::{action_text, pushed_with};
use crate::update_pack::leading_to;

/// Show one revision: its layers, boot files, author and message
///
/// With --json, the signed manifest, its boot reports under `boots`, if any, and the update packs
/// that lead to it under `updates`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The revision; without a number the newest
    #[arg(value_name = "SYSTEM[/PROFILE][@REV]")]
    revision: RevisionName,
    /// The spool in which `bakery serve --spool` stores boot reports: adds the median boot time
    #[arg(long, value_name = "DIR", env = "BAKERY_SPOOL")]
    spool: Option<PathBuf>,
}

#[derive(Serialize)]
struct ShownRevision<'m> {
    #[serde(flatten)]
    manifest: &'m Manifest,
    #[serde(skip_serializing_if = "Option::is_none")]
    boots: Option<BootTimes>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    updates: Vec<Update>,
}

/// An update pack that leads to the revision.
#[derive(Serialize)]
struct Update {
    from: u64,
    bytes: u64,
    plain_bytes: u64,
}

/// Prints the manifest.
///
/// # Errors
/// The revision does not exist, or is not valid.
pub(crate) fn run(args: ShowArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let history = globals.history()?;
    let revision = history.revision(&args.revision)?;
    let manifest = &revision.manifest;
    let boots = match &globals.spool(args.spool) {
        Some(spool) => Boots::of(spool, &args.revision.name)
            .times(revision.number())
            .context("cannot read the boot reports in the spool")?,
        None => None,
    };
    let updates = leading_to(history.store(), &args.revision.name, revision.number())?;
    let updates = updates.iter().map(|offer| Update {
        from: offer.record.from.revision,
        bytes: offer.len,
        plain_bytes: offer.record.plain_len,
    });
    let shown = ShownRevision {
        manifest,
        boots,
        updates: updates.collect(),
    };
    output::emit(globals, &shown, |out| {
        writeln!(out, "{}  {}", revision.name(), action_text(manifest.action))?;
        writeln!(out, "author   {}", manifest.author)?;
        if let Some(key) = pushed_with(manifest) {
            writeln!(out, "key      {}", key.line())?;
        }
        writeln!(out, "time     {}", human::time(manifest.time))?;
        if let Some(base) = &manifest.base {
            let (system, profile) = (&manifest.system, &base.profile);
            writeln!(
                out,
                "base     {system}/{profile}@{} ({} layers)",
                base.revision, base.layers
            )?;
        }
        if let Some(boots) = &shown.boots {
            writeln!(out, "boots    {}", describe(boots))?;
        }
        writeln!(out, "tree     {}", manifest.tree_digest)?;
        write_objects(out, manifest)?;
        write_updates(out, &shown.updates)?;
        write_layers(out, manifest)?;
        for line in manifest.message.lines() {
            writeln!(out, "    {line}")?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

fn write_objects(out: &mut dyn Write, manifest: &Manifest) -> io::Result<()> {
    let index = manifest.index;
    let len = human::length(index.len);
    writeln!(out, "index    {} {len}", index.digest)?;
    let named = [
        ("kernel", &manifest.kernel),
        ("initrd", &manifest.initrd),
        ("pack", &manifest.pack),
    ];
    for (name, object) in named {
        if let Some(object) = object {
            let len = human::length(object.len);
            writeln!(out, "{name:<8} {} {len}", object.digest)?;
        }
    }
    Ok(())
}

fn write_updates(out: &mut dyn Write, updates: &[Update]) -> io::Result<()> {
    for update in updates {
        writeln!(
            out,
            "update   from @{}: {} instead of {}",
            update.from,
            human::length(update.bytes),
            human::length(update.plain_bytes)
        )?;
    }
    Ok(())
}

fn write_layers(out: &mut dyn Write, manifest: &Manifest) -> io::Result<()> {
    writeln!(out, "cmdline  {}", manifest.cmdline)?;
    writeln!(out, "layers, lowest first:")?;
    for layer in &manifest.layers {
        writeln!(out, "  {} {}", layer.digest, human::length(layer.len))?;
    }
    for layer in &manifest.borrowed {
        writeln!(
            out,
            "  {} {} (only chunks borrowed)",
            layer.digest,
            human::length(layer.len)
        )?;
    }
    Ok(())
}

fn describe(boots: &BootTimes) -> String {
    let bytes = human::length(boots.median_bytes);
    let unit = match boots.unit.as_str() {
        "" => "the moment each was asked",
        unit => unit,
    };
    format!("{boots} to {unit}, {bytes} each")
}
