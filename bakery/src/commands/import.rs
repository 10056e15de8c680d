//! The command `bakery import`.

mod boot;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use layerfmt::Layer;
use layerfmt::Options;
use serde::Serialize;
use wire::manifest::ProfileName;

use self::boot::BootPair;
use super::client;
use super::wording::Wording;
use crate::assemble::Reading;
use crate::bake::{BakeReport, BaseStack, Recipe, bake};
use crate::commands::input::Input;
use crate::globals::Globals;
use crate::human;
use crate::initrd::stack_tree::StackTree;
use crate::machine::MachineChoice;
use crate::output;
use crate::publish::{Import, Prediction};
use crate::system_check::require_system;
use source::iso::Parameters;

/// Import a whole system as the next revision of a history
///
/// The kernel, the initramfs and the parameters of the boot menu of a live ISO are imported too,
/// unless others are given. A medium with several packed parts becomes a revision with as many
/// layers. Logs, caches, leases, sockets and the identity of one machine are excluded; patterns are
/// those of .gitignore (docs/INGEST.md).
#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The history: SYSTEM or SYSTEM/PROFILE
    #[arg(value_name = "SYSTEM[/PROFILE]")]
    pub name: ProfileName,
    /// The source.
    #[command(flatten)]
    pub input: Input,
    /// The kernel that boots the system
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// The initramfs that boots the system
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Kernel parameters [default: those of the medium's boot menu, without those that locate the
    /// medium]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub cmdline: Option<String>,
    /// Publish the tree even if it is empty, or has no /usr or no init
    #[arg(long, visible_alias = "allow-empty")]
    pub no_check: bool,
    /// Import everything: no default excludes
    #[arg(long)]
    pub no_default_excludes: bool,
    /// Do not mask lines of etc/fstab and etc/crypttab that wait for a disk of the imported machine
    #[arg(long)]
    pub keep_fstab: bool,
    /// One of zstd's own levels, 1 (fast) to 22 (small), instead of the tuned default
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub level: Option<i32>,
    /// Make no boot pack of predicted pages
    #[arg(long)]
    pub no_pack: bool,
    /// Add the client to the system too, as the next revision: `bakery client`
    #[arg(long)]
    pub with_client: bool,
    /// The client to install.
    #[command(flatten)]
    pub client: client::ClientChoice,
    /// Message and author.
    #[command(flatten)]
    pub wording: Wording,
}

/// The result of an import.
#[derive(Debug, Serialize)]
pub struct ImportAnswer {
    /// The new revision.
    pub published: String,
    /// The kernel: a file, or its name on the medium.
    pub kernel: Option<String>,
    /// The initrd: a file, or its name on the medium.
    pub initrd: Option<String>,
    /// Kernel parameters of the revision.
    pub cmdline: String,
    /// The medium's own parameters.
    parameters: Option<Parameters>,
    /// The report of the lowest layer, or of the only one.
    report: BakeReport,
    /// The reports of the layers above it.
    above: Vec<BakeReport>,
    /// Bytes of the predicted boot pack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_pack: Option<u64>,
    /// The revision with the client, which follows the import (`--with-client`).
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<client::ClientAnswer>,
}

/// Imports one system.
///
/// # Errors
/// The source cannot be read exactly, is not a system, or the revision cannot be published.
pub(crate) fn run(args: ImportArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let Imported {
        answer,
        boot,
        failed,
    } = work(args, globals, &|_| {})?;
    output::emit(globals, &answer, |out| {
        writeln!(out, "published  {}", answer.published)?;
        boot.write_text(out)?;
        for report in [&answer.report].into_iter().chain(&answer.above) {
            if !answer.above.is_empty() {
                writeln!(out, "part       {}", report.source)?;
            }
            report.write_text(out)?;
        }
        if let Some(len) = answer.predicted_pack {
            let len = human::length(len);
            writeln!(out, "boot pack  {len}, predicted (--no-pack omits it)")?;
        }
        match &answer.client {
            Some(client) => client.write_text(out),
            None => Ok(()),
        }
    })?;
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Imports one system, for another program. `progress` gets the bytes read since the last call.
///
/// # Errors
/// The source cannot be read exactly, is not a system, or the revision cannot be published.
pub fn import(
    args: ImportArgs,
    globals: &Globals,
    progress: &(dyn Fn(u64) + Sync),
) -> anyhow::Result<ImportAnswer> {
    let imported = work(args, globals, progress)?;
    imported.failed.map_or(Ok(imported.answer), Err)
}

/// A finished import: with an error if the revision is published without its client.
struct Imported {
    answer: ImportAnswer,
    boot: BootPair,
    failed: Option<anyhow::Error>,
}

fn work(
    args: ImportArgs,
    globals: &Globals,
    progress: &(dyn Fn(u64) + Sync),
) -> anyhow::Result<Imported> {
    let publisher = globals.publisher()?;
    let staging = publisher.store().staging()?;
    let iso = boot::iso(&args.input.source)?;
    let boot = BootPair::find(&args, iso.as_ref(), staging.path())?;
    let parts = match &iso {
        Some(iso) => iso
            .systems(args.input.member.as_deref())?
            .into_iter()
            .map(Some)
            .collect(),
        None => vec![args.input.member.clone()],
    };
    let baked = bake_parts(&args, globals, (&parts, staging.path()), progress)?;
    if !args.no_check {
        check(&baked).with_context(|| args.input.source.display().to_string())?;
    }
    let message = match args.wording.message.as_str() {
        "" => format!("import of {}", args.input.source.display()),
        text => text.to_owned(),
    };
    let spool = globals
        .spool(None)
        .or_else(|| Some(args.client.spool.clone()));
    let spool = spool.filter(|spool| spool.is_dir());
    let files: Vec<PathBuf> = baked.iter().map(|baked| baked.file.clone()).collect();
    let revision = publisher.import(&Import {
        name: args.name,
        layers: &files,
        kernel: boot.kernel.as_ref().map(|(_, file)| file.as_path()),
        initrd: boot.initrd.as_ref().map(|(_, file)| file.as_path()),
        cmdline: boot.cmdline.clone(),
        author: args.wording.author(),
        message,
        predict: match args.no_pack {
            true => Prediction::No,
            false => Prediction::Yes(spool.as_deref()),
        },
    })?;
    let client = args.with_client.then(|| {
        client::add(&publisher, &revision.manifest.name(), &args.client, globals)
            .with_context(|| format!("{} is published, without a client", revision.name()))
    });
    let (client, failed) = match client.transpose() {
        Ok(client) => (client, None),
        Err(error) => (None, Some(error)),
    };
    let mut reports = baked.into_iter().map(|baked| baked.report);
    let answer = ImportAnswer {
        published: revision.name().to_string(),
        kernel: boot.kernel.as_ref().map(|(name, _)| name.clone()),
        initrd: boot.initrd.as_ref().map(|(name, _)| name.clone()),
        cmdline: boot.cmdline.clone(),
        parameters: boot.parameters.clone(),
        predicted_pack: revision.manifest.pack.map(|pack| pack.len),
        report: reports.next().unwrap_or_default(),
        above: reports.collect(),
        client,
    };
    Ok(Imported {
        answer,
        boot,
        failed,
    })
}

/// One part of the system as a layer.
struct Baked {
    file: PathBuf,
    layer: Arc<Layer>,
    report: BakeReport,
}

/// Bakes each part on the parts before it.
fn bake_parts(
    args: &ImportArgs,
    globals: &Globals,
    (parts, staging): (&[Option<String>], &std::path::Path),
    progress: &(dyn Fn(u64) + Sync),
) -> anyhow::Result<Vec<Baked>> {
    let excludes = args.input.excludes(!args.no_default_excludes)?;
    let mut done: Vec<Baked> = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        let layers: Vec<Arc<Layer>> = done.iter().map(|baked| Arc::clone(&baked.layer)).collect();
        let base = match layers.is_empty() {
            true => None,
            false => Some(BaseStack::of(&layers)?),
        };
        let (mut source, bar) = args.input.open_member(part.as_deref(), globals)?;
        let recipe = Recipe {
            excludes: &excludes,
            options: args.level.map_or_else(Options::bake, Options::level),
            labels: Vec::new(),
            reading: match base {
                None => Reading::Whole,
                Some(_) => Reading::Changes,
            },
            machine: Some(MachineChoice {
                keep_fstab: args.keep_fstab,
            }),
            is_upload: false,
            progress: &|len| {
                bar.inc(len);
                progress(len);
            },
        };
        let file = staging.join(format!("system-{place}.layer"));
        let report = bake(&mut *source, base.as_ref(), &recipe, &file)?;
        bar.finish_and_clear();
        if report.is_empty {
            continue;
        }
        let layer = Arc::new(Layer::map(&file)?);
        done.push(Baked {
            file,
            layer,
            report,
        });
    }
    Ok(done)
}

/// Refuses a tree that cannot boot.
fn check(baked: &[Baked]) -> anyhow::Result<()> {
    let layers: Vec<Arc<Layer>> = baked.iter().map(|baked| Arc::clone(&baked.layer)).collect();
    let stack = BaseStack::of(&layers)?;
    require_system(&StackTree::new(stack.merged.index, Box::new(stack.layers)))?;
    Ok(())
}
