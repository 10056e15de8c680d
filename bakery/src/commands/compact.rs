//! `bakery compact`, and its form for layer files

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use layerfmt::compact::{KeepBorrowed, copy, recompress};
use layerfmt::{Digest, Layer, LayerSet, MergedIndex, Meta, Options};
use serde::Serialize;

use crate::bake::Partial;
use crate::commands::{history_compact, layers};
use crate::globals::Globals;
use crate::{human, output, progress};

/// Merge layers into one: in a history, or of layer files
///
/// Visible chunks are copied unchanged. The result is published (or, with --output, kept) only if
/// it shows the same tree. Older revisions keep their layers.
#[derive(Debug, clap::Args)]
pub struct CompactArgs {
    /// A history, and optionally REV..REV: the layers after the first revision, up to the second.
    /// With --output: layer files, lowest first
    #[arg(required = true, value_name = "SYSTEM[/PROFILE] [REV..REV] | LAYER")]
    pub layers: Vec<PathBuf>,
    /// Compact layer files into this one, instead of a history
    #[arg(short, long, value_name = "LAYER")]
    pub output: Option<PathBuf>,
    /// Compress everything again at the highest level: slow and small
    #[arg(long)]
    pub recompress: bool,
    /// Options for a history.
    #[command(flatten)]
    pub history: history_compact::HistoryCompactArgs,
}

#[derive(Debug, Serialize)]
struct CompactReport {
    layer: String,
    file_len: u64,
    before_len: u64,
    inodes: u32,
    chunks: u32,
    tree_digest: String,
}

/// Compacts a stack into one layer.
///
/// # Errors
/// A layer is damaged, or the result does not show the same tree.
pub(crate) fn run(args: CompactArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let Some(output) = args.output.clone() else {
        return history_compact::run(&args.layers, args.recompress, args.history, globals);
    };
    anyhow::ensure!(
        !args.history.is_dry_run(),
        "--dry-run is for histories: with --output nothing is published, only {} is written",
        output.display()
    );
    let stack = layers::open(&args.layers)?;
    let merged = layerfmt::flatten::flatten_layers(stack.iter().map(|layer| &**layer), true)
        .context("cannot flatten the layers")?;
    let before_len = stack.iter().map(|layer| layer.superblock().file_len).sum();
    let names = stack.iter().map(|layer| layer.digest()).collect::<Vec<_>>();
    let set = LayerSet::new(stack);
    layers::all_at_hand(&merged.index, &set, "the other layers")?;
    let expected = merged
        .tree_digest()
        .context("the layers have no content digests")?;
    let result = compacted(
        &args, &output, &merged, &set, &names, expected, before_len, globals,
    )?;
    output::summary(globals, &result, |out| {
        writeln!(out, "layer      {}", result.layer)?;
        let (after, before) = (human::length(result.file_len), human::length(before_len));
        writeln!(out, "size       {after}, before {before}")?;
        writeln!(
            out,
            "objects    {} in {} chunks",
            result.inodes, result.chunks
        )?;
        writeln!(out, "tree       {} (unchanged)", result.tree_digest)
    })?;
    Ok(ExitCode::SUCCESS)
}

#[expect(
    clippy::too_many_arguments,
    reason = "one caller; the parts of one step"
)]
fn compacted(
    args: &CompactArgs,
    output: &Path,
    merged: &MergedIndex,
    set: &LayerSet,
    names: &[Digest],
    expected: Digest,
    before_len: u64,
    globals: &Globals,
) -> anyhow::Result<CompactReport> {
    let name = |digest: &Digest| ("compacts".to_owned(), digest.to_string());
    let meta = Meta {
        generator: concat!("bakery ", env!("CARGO_PKG_VERSION")).to_owned(),
        base: Vec::new(),
        labels: names.iter().map(name).collect(),
    };
    let bar = progress::bytes(globals, None, "compacting");
    let place = scratch_beside(output)?;
    let path = place.path().join("layer");
    let done = |len| bar.set_position(len);
    let info = match args.recompress {
        true => recompress(merged, set, &path, Options::compact(), &meta, done),
        false => copy(
            merged,
            set,
            &path,
            KeepBorrowed { borrowed: &[] },
            &meta,
            done,
        ),
    }
    .context("cannot compact")?;
    bar.finish_and_clear();
    let layer = Layer::open(&path)?;
    let content = layer
        .content()?
        .context("the new layer has no content digests")?;
    let tree_digest = layerfmt::tree_digest(layer.index(), &content);
    anyhow::ensure!(
        tree_digest == expected,
        "the compacted layer shows another tree ({tree_digest}) than the stack ({expected}); it was discarded"
    );
    Partial::adopt(&path, output)?;
    Ok(CompactReport {
        layer: info.digest.to_string(),
        file_len: info.file_len,
        before_len,
        inodes: info.inodes,
        chunks: info.own_chunks,
        tree_digest: tree_digest.to_string(),
    })
}

/// A directory beside the output; dropping it removes it.
fn scratch_beside(output: &Path) -> anyhow::Result<tempfile::TempDir> {
    let directory = Partial::directory_of(output);
    tempfile::Builder::new()
        .prefix(".bakery-")
        .tempdir_in(directory)
        .with_context(|| format!("cannot make a directory in {}", directory.display()))
}
