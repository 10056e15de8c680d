//! `bakery unpack`

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use layerfmt::{LayerSet, MergedIndex};

use crate::bake::Partial;
use crate::cli::Globals;
use crate::commands::layers;
use crate::unpack::{Unpacked, Whiteouts, to_directory, to_tar};
use crate::{output, progress};

/// Write layers out as a directory or a tar archive
///
/// Several layers are written as the one tree they show together.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The layers, lowest first
    #[arg(required = true, value_name = "LAYER")]
    pub layers: Vec<PathBuf>,
    /// A new or empty directory; or a file named .tar, .tar.zst; - writes a tar archive to
    /// standard output
    #[arg(short, long, value_name = "PLACE")]
    pub output: PathBuf,
    /// A layer that only gives contents which the others borrow (repeatable)
    #[arg(long, value_name = "LAYER")]
    pub base: Vec<PathBuf>,
    /// Keep whiteouts and opaque marks: write the changes, not the tree they make
    #[arg(long)]
    pub changes: bool,
    /// How whiteouts are written into an archive
    #[arg(long, value_enum, default_value_t = Whiteouts::Overlayfs)]
    pub whiteouts: Whiteouts,
}

/// Unpacks layers.
///
/// # Errors
/// A layer is damaged, borrows from one that was not named, or the place cannot be written.
pub fn run(args: Args, globals: &Globals) -> anyhow::Result<ExitCode> {
    let stack = layers::open(&args.layers)?;
    let below = layers::open(&args.base)?;
    let inputs: Result<Vec<_>, _> = stack
        .iter()
        .map(|layer| layerfmt::flatten::Input::of(layer, false))
        .collect();
    let merged = match args.changes {
        true => layerfmt::flatten::squash(&inputs?),
        false => layerfmt::flatten::flatten(&inputs?),
    }
    .context("cannot flatten the layers")?;
    let set = LayerSet::new(stack.into_iter().chain(below));
    layers::all_at_hand(&merged.index, &set, "--base")?;
    let name = args.output.to_string_lossy();
    if name == "-" {
        let mut result = Ok(Unpacked::default());
        output::raw(|out| {
            result = archive(&merged, &set, out, &args, globals);
            match &result {
                Err(error) if is_closed_pipe(error) => Err(io::ErrorKind::BrokenPipe.into()),
                _ => Ok(()),
            }
        })?;
        result?;
        return Ok(ExitCode::SUCCESS);
    }
    let unpacked = if name.ends_with(".tar") || name.ends_with(".tar.zst") {
        to_file(&merged, &set, &args, globals)?
    } else {
        let bar = progress::bytes(globals, None, "unpacking");
        let unpacked = to_directory(&merged.index, &set, &args.output, &bar)?;
        bar.finish_and_clear();
        unpacked
    };
    output::emit(globals, &unpacked, |out| {
        writeln!(
            out,
            "{} entries, {}",
            unpacked.entries,
            output::length(unpacked.content_len)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

fn archive(
    merged: &MergedIndex,
    set: &LayerSet,
    out: &mut dyn Write,
    args: &Args,
    globals: &Globals,
) -> anyhow::Result<Unpacked> {
    let bar = progress::bytes(globals, None, "unpacking");
    let unpacked = to_tar(&merged.index, set, out, args.whiteouts, &bar)?;
    bar.finish_and_clear();
    if unpacked.sockets_left_out > 0 {
        let count = unpacked.sockets_left_out;
        output::note(
            globals,
            &format!("{count} sockets left out: archives cannot hold them"),
        );
    }
    Ok(unpacked)
}

/// An archive under its name, complete or not at all.
fn to_file(
    merged: &MergedIndex,
    set: &LayerSet,
    args: &Args,
    globals: &Globals,
) -> anyhow::Result<Unpacked> {
    let partial = Partial::beside(&args.output)?;
    let failed = || format!("cannot write {}", args.output.display());
    let mut file = BufWriter::with_capacity(1 << 20, partial.file().with_context(failed)?);
    let unpacked = if args.output.extension() == Some(Path::new("zst").as_os_str()) {
        let mut encoder = zstd::stream::write::Encoder::new(file, 9).with_context(failed)?;
        let unpacked = archive(merged, set, &mut encoder, args, globals)?;
        file = encoder.finish().with_context(failed)?;
        unpacked
    } else {
        archive(merged, set, &mut file, args, globals)?
    };
    let _: File = file
        .into_inner()
        .map_err(io::IntoInnerError::into_error)
        .with_context(failed)?;
    partial.publish(&args.output)?;
    Ok(unpacked)
}
