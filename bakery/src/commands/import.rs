//! `bakery import`

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use layerfmt::Options;
use layerfmt::manifest::ProfileName;
use serde::Serialize;

use super::client;
use super::wording::Wording;
use crate::bake::{Recipe, Report, bake};
use crate::cli::Globals;
use crate::commands::input::Input;
use crate::output;
use crate::publish::Import;
use crate::source::iso::Iso;
use crate::source::open::{Form, file_head, form};

/// Take a whole system into the store as the next revision of a history
///
/// From a live ISO its kernel and initrd are taken too, unless others are named. Logs, caches,
/// leases, sockets and what identifies one machine stay out (`bakery bake --help` tells more about
/// patterns).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The history: SYSTEM or SYSTEM/PROFILE
    #[arg(value_name = "SYSTEM[/PROFILE]")]
    pub name: ProfileName,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields are documented")]
    pub input: Input,
    /// The kernel to boot it with
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// The initrd to boot it with
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Kernel parameters
    #[arg(
        long,
        default_value = "",
        value_name = "TEXT",
        hide_default_value = true
    )]
    pub cmdline: String,
    /// Take everything: no default excludes
    #[arg(long)]
    pub no_default_excludes: bool,
    /// One of zstd's own levels, 1 (fast) to 22 (small), instead of the tuned default
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub level: Option<i32>,
    /// Put the client into the system too, as the next revision: `bakery client`
    #[arg(long)]
    pub with_client: bool,
    /// Which client.
    #[command(flatten)]
    pub client: client::Choice,
    /// Why, and who.
    #[command(flatten)]
    pub wording: Wording,
}

#[derive(Debug, Serialize)]
struct Answer {
    published: String,
    kernel: Option<String>,
    initrd: Option<String>,
    report: Report,
}

/// Imports one system.
///
/// # Errors
/// The source cannot be read exactly, or the revision cannot be published.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let publisher = globals.publisher()?;
    let excludes = args.input.excludes(!args.no_default_excludes)?;
    let staging = publisher.store().staging()?;
    let boot = boot_files(&args, staging.path())?;
    let (mut source, progress) = args.input.open(globals)?;
    let recipe = Recipe {
        excludes: &excludes,
        options: args.level.map_or_else(Options::bake, Options::level),
        labels: Vec::new(),
        is_whole: true,
        is_upload: false,
        progress,
    };
    let layer = staging.path().join("system.layer");
    let report = bake(&mut *source, None, &recipe, &layer)?;
    recipe.progress.finish_and_clear();
    let author = args.wording.author();
    let message = match args.wording.message.as_str() {
        "" => format!("import of {}", args.input.source.display()),
        text => text.to_owned(),
    };
    let revision = publisher.import(&Import {
        name: args.name,
        layer: &layer,
        kernel: boot.kernel.as_ref().map(|(_, file)| file.as_path()),
        initrd: boot.initrd.as_ref().map(|(_, file)| file.as_path()),
        cmdline: args.cmdline,
        author,
        message,
    })?;
    let answer = Answer {
        published: revision.name().to_string(),
        kernel: boot.kernel.map(|(name, _)| name),
        initrd: boot.initrd.map(|(name, _)| name),
        report,
    };
    output::emit(globals, &answer, |out| {
        writeln!(out, "published  {}", answer.published)?;
        for (what, name) in [("kernel", &answer.kernel), ("initrd", &answer.initrd)] {
            let name = name
                .as_deref()
                .unwrap_or("none: name one with --kernel and --initrd");
            writeln!(out, "{what:10} {name}")?;
        }
        answer.report.write_text(out)
    })?;
    if args.with_client {
        client::add(&publisher, &revision.manifest.name(), &args.client, globals)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Kernel and initrd: what to call them, and where they are for now.
#[derive(Debug, Default)]
struct Boot {
    kernel: Option<(String, PathBuf)>,
    initrd: Option<(String, PathBuf)>,
}

/// The files named, else those of the ISO.
fn boot_files(args: &Args, staging: &Path) -> anyhow::Result<Boot> {
    let named = |file: &Option<PathBuf>| {
        file.as_ref()
            .map(|file| (file.display().to_string(), file.clone()))
    };
    let mut boot = Boot {
        kernel: named(&args.kernel),
        initrd: named(&args.initrd),
    };
    if boot.kernel.is_some() && boot.initrd.is_some() {
        return Ok(boot);
    }
    let Some(iso) = iso(&args.input.source)? else {
        return Ok(boot);
    };
    let Some(files) = iso.boot_files() else {
        return Ok(boot);
    };
    for (slot, member) in [
        (&mut boot.kernel, files.kernel),
        (&mut boot.initrd, files.initrd),
    ] {
        if slot.is_none() {
            let file = staging.join(member.replace('/', "-"));
            std::fs::write(&file, iso.boot_file(&member)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
            *slot = Some((member, file));
        }
    }
    Ok(boot)
}

/// The source as an ISO, if it is one.
fn iso(source: &Path) -> anyhow::Result<Option<Iso>> {
    if !source.is_file() {
        return Ok(None);
    }
    let name = source.display().to_string();
    let file = File::open(source).with_context(|| format!("cannot open {name}"))?;
    let head = file_head(&file).with_context(|| format!("cannot read {name}"))?;
    match form(&head) {
        Ok(Form::Iso) => Ok(Some(Iso::open(&name, &file)?)),
        _ => Ok(None),
    }
}
