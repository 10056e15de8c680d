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

/// Show one revision: its layers, boot files, author and message
///
/// With --json, the signed manifest, and its boot reports under `boots`, if any.
#[derive(Debug, clap::Args)]
pub struct Args {
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
}

/// Prints the manifest.
///
/// # Errors
/// The revision does not exist, or is not valid.
pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let revision = globals.history()?.revision(&args.revision)?;
    let manifest = &revision.manifest;
    let boots = match &globals.spool(args.spool) {
        Some(spool) => Boots::of(spool, &args.revision.name)
            .times(revision.number())
            .context("cannot read the boot reports in the spool")?,
        None => None,
    };
    let shown = ShownRevision { manifest, boots };
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
        let index = manifest.index;
        writeln!(
            out,
            "index    {} {}",
            index.digest,
            human::length(index.len)
        )?;
        let named = [
            ("kernel", &manifest.kernel),
            ("initrd", &manifest.initrd),
            ("pack", &manifest.pack),
        ];
        for (name, object) in named {
            if let Some(object) = object {
                writeln!(
                    out,
                    "{name:<8} {} {}",
                    object.digest,
                    human::length(object.len)
                )?;
            }
        }
        write_layers(out, manifest)?;
        for line in manifest.message.lines() {
            writeln!(out, "    {line}")?;
        }
        Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
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
