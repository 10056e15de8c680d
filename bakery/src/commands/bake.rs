//! The command `bakery bake`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::assemble::Reading;
use crate::bake::{BaseStack, Recipe, bake};
use crate::commands::input::Input;
use crate::commands::layers;
use crate::globals::Globals;
use crate::machine::MachineChoice;
use crate::output;
use layerfmt::Options;

/// Make a layer from a tree
///
/// Without --base the source is a whole tree, and the layer contains all of it. Devices 0:0, names
/// that begin with .wh. and trusted.overlay attributes are then content, as in container storage.
/// With --base the source is a tree of changes, such as an upper directory or a container's layer,
/// and these marks are interpreted. The layer contains the differences from the stack of --base;
/// content of that stack is not stored again.
#[derive(Debug, clap::Args)]
pub struct BakeArgs {
    #[command(flatten)]
    pub input: Input,
    /// The layer to write
    #[arg(short, long, value_name = "LAYER")]
    pub output: PathBuf,
    /// A layer of the stack below (repeatable, lowest first)
    #[arg(long, value_name = "LAYER", num_args = 1..)]
    pub base: Vec<PathBuf>,
    /// The source is a tree of changes although no --base is named: read its whiteouts and opaque
    /// directories as such
    #[arg(long)]
    pub changes: bool,
    /// One of zstd's own levels, 1 (fast) to 22 (small), instead of the tuned default
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub level: Option<i32>,
    /// Threads that compress; the layer does not depend on it
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Exclude logs, caches, leases, sockets and data that identifies one machine
    #[arg(long)]
    pub default_excludes: bool,
    /// Message to keep with the layer
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
}

/// Bakes one layer.
///
/// # Errors
/// The source cannot be read exactly, or the layer cannot be written.
pub(crate) fn run(args: BakeArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let excludes = args.input.excludes(args.default_excludes)?;
    let base = match args.base.as_slice() {
        [] => None,
        paths => Some(BaseStack::of(&layers::open(paths)?)?),
    };
    let mut options = args.level.map_or_else(Options::bake, Options::level);
    if let Some(threads) = args.threads {
        options.threads = threads.into();
    }
    let (mut source, bar) = args.input.open(globals)?;
    let reading = match args.base.is_empty() && !args.changes {
        true => Reading::Whole,
        false => Reading::Changes,
    };
    let labels = args.message.map(|text| ("message".to_owned(), text));
    let recipe = Recipe {
        excludes: &excludes,
        options,
        labels: labels.into_iter().collect(),
        reading,
        machine: (args.default_excludes && reading == Reading::Whole)
            .then_some(MachineChoice { keep_fstab: true }),
        is_upload: false,
        progress: &|len| bar.inc(len),
    };
    let report = bake(&mut *source, base.as_ref(), &recipe, &args.output)?;
    bar.finish_and_clear();
    output::summary(globals, &report, |out| report.write_text(out))?;
    Ok(ExitCode::SUCCESS)
}
