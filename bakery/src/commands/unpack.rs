//! The command `bakery unpack`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use layerfmt::{LayerSet, MergedIndex};

use crate::assemble::Reading;
use crate::bake::Partial;
use crate::commands::layers::{self, NamedLayer};
use crate::globals::Globals;
use crate::unpack::{Unpacked, Whiteouts, to_directory, to_tar};
use crate::{human, output, progress};

/// Write layers or a revision as a directory or a tar archive
///
/// Several layers are written as the tree that they show together.
#[derive(Debug, clap::Args)]
pub struct UnpackArgs {
    /// The layers, lowest first, or one revision of the store; without --output the last argument
    /// is the destination
    #[arg(required = true, value_name = "LAYER|SYSTEM[/PROFILE]@REV|PLACE")]
    pub words: Vec<PathBuf>,
    /// A new or empty directory; or a file named .tar, .tar.zst; - writes a tar archive to
    /// standard output
    #[arg(short, long, value_name = "PLACE")]
    pub output: Option<PathBuf>,
    /// A layer that only provides contents for the others (repeatable)
    #[arg(long, value_name = "LAYER")]
    pub base: Vec<PathBuf>,
    /// Keep whiteouts and opaque marks: write the changes instead of the resulting tree
    #[arg(long)]
    pub changes: bool,
    /// Form of whiteouts in an archive
    #[arg(long, value_enum, default_value_t = Whiteouts::Overlayfs)]
    pub whiteouts: Whiteouts,
}

impl UnpackArgs {
    /// The interpretation of the result.
    fn reading(&self) -> Reading {
        match self.changes {
            true => Reading::Changes,
            false => Reading::Whole,
        }
    }
}

/// Unpacks layers.
///
/// # Errors
/// A layer is damaged, borrows from one that was not named, or the place cannot be written.
pub(crate) fn run(mut args: UnpackArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let place = take_place(&mut args)?;
    let (merged, set) = open(&args, globals)?;
    let name = place.to_string_lossy();
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
    let unpacked = if is_archive(&place) {
        to_file(&merged, &set, &place, &args, globals)?
    } else {
        let bar = progress::bytes(globals, None, "unpacking");
        let unpacked = to_directory(&merged.index, &set, &place, args.reading(), &|len| {
            bar.inc(len)
        })?;
        bar.finish_and_clear();
        unpacked
    };
    output::summary(globals, &unpacked, |out| {
        writeln!(
            out,
            "{} entries, {}",
            unpacked.entries,
            human::length(unpacked.content_len)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The destination: `--output`, else the last argument.
fn take_place(args: &mut UnpackArgs) -> anyhow::Result<PathBuf> {
    if let Some(place) = args.output.take() {
        return Ok(place);
    }
    let form = "write `bakery unpack LAYER… DIR`, or name the place with --output";
    let last = args.words.pop().context(form)?;
    if args.words.is_empty() {
        anyhow::bail!("{} has no destination: {form}", last.display());
    }
    if last.is_file() && !is_archive(&last) {
        anyhow::bail!("{} is a file, not a destination: {form}", last.display());
    }
    Ok(last)
}

fn is_archive(place: &Path) -> bool {
    let name = place.to_string_lossy();
    name.ends_with(".tar") || name.ends_with(".tar.zst")
}

/// The tree to write, and the layers that hold its contents.
fn open(args: &UnpackArgs, globals: &Globals) -> anyhow::Result<(MergedIndex, LayerSet)> {
    let stack = match layers::named(&args.words, globals)? {
        NamedLayer::Files(stack) => stack,
        NamedLayer::Revision(of) => {
            let manifest = &of.revision.manifest;
            anyhow::ensure!(
                !args.changes,
                "--changes is for layer files; `bakery show {}` names the layers of the revision",
                of.revision.name()
            );
            return Ok((of.history.merged(manifest)?, of.history.layers(manifest)?));
        }
    };
    let below = layers::open(&args.base)?;
    let inputs: Result<Vec<_>, _> = stack
        .iter()
        .map(|layer| layerfmt::flatten::FlattenInput::of(layer, false))
        .collect();
    let merged = match args.changes {
        true => layerfmt::flatten::squash(&inputs?),
        false => layerfmt::flatten::flatten(&inputs?),
    }
    .context("cannot flatten the layers")?;
    let set = LayerSet::new(stack.into_iter().chain(below));
    layers::all_at_hand(&merged.index, &set, "--base")?;
    Ok((merged, set))
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
    args: &UnpackArgs,
    globals: &Globals,
) -> anyhow::Result<Unpacked> {
    let bar = progress::bytes(globals, None, "unpacking");
    let unpacked = to_tar(
        &merged.index,
        set,
        out,
        args.whiteouts,
        args.reading(),
        &|len| bar.inc(len),
    )?;
    bar.finish_and_clear();
    if unpacked.sockets_left_out > 0 {
        let count = unpacked.sockets_left_out;
        output::note(
            globals,
            &format!("{count} sockets omitted: archives cannot hold them"),
        );
    }
    Ok(unpacked)
}

/// Writes an archive that appears under its name complete, or not at all.
fn to_file(
    merged: &MergedIndex,
    set: &LayerSet,
    place: &Path,
    args: &UnpackArgs,
    globals: &Globals,
) -> anyhow::Result<Unpacked> {
    let partial = Partial::beside(place)?;
    let failed = || format!("cannot write {}", place.display());
    let mut file = BufWriter::with_capacity(1 << 20, partial.file().with_context(failed)?);
    let unpacked = if place.extension() == Some(Path::new("zst").as_os_str()) {
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
    partial.publish(place)?;
    Ok(unpacked)
}
