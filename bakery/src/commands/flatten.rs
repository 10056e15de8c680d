//! The command `bakery flatten`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use layerfmt::layout::superblock::SUPERBLOCK_LEN;
use layerfmt::{Digest, MergedIndex};
use serde::Serialize;

use crate::bake::Partial;
use crate::commands::layers;
use crate::globals::Globals;
use crate::human;
use crate::output;

/// Write the merged index of a stack of layers
#[derive(Debug, clap::Args)]
pub struct FlattenArgs {
    /// The layers, lowest first
    #[arg(required = true, value_name = "LAYER")]
    pub layers: Vec<PathBuf>,
    /// The merged index to write
    #[arg(short, long, value_name = "INDEX")]
    pub output: PathBuf,
}

#[derive(Debug, Serialize)]
struct FlattenReport {
    index: String,
    len: u64,
    head_len: u64,
    inodes: u32,
    layers: usize,
    tree_digest: Option<String>,
}

/// Flattens a stack.
///
/// # Errors
/// A layer is damaged, or the index cannot be written.
pub(crate) fn run(args: FlattenArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    let stack = layers::open(&args.layers)?;
    let merged: MergedIndex =
        layerfmt::flatten::flatten_layers(stack.iter().map(|layer| &**layer), true)
            .context("cannot flatten the layers")?;
    let (bytes, head_len) = merged.to_bytes(None)?;
    let partial = Partial::beside(&args.output)?;
    let written = partial.file().and_then(|mut file| file.write_all(&bytes));
    written.with_context(|| format!("cannot write {}", args.output.display()))?;
    partial.publish(&args.output)?;
    let result = FlattenReport {
        index: Digest::of(bytes.get(..SUPERBLOCK_LEN).unwrap_or_default()).to_string(),
        len: bytes.len() as u64,
        head_len,
        inodes: merged.index.inode_count(),
        layers: merged.index.layers().count(),
        tree_digest: merged.tree_digest().map(|digest| digest.to_string()),
    };
    output::summary(globals, &result, |out| {
        writeln!(out, "index      {}", result.index)?;
        let (len, head) = (human::length(result.len), human::length(result.head_len));
        writeln!(out, "size       {len}, of which clients fetch {head}")?;
        writeln!(
            out,
            "objects    {} from {} layers",
            result.inodes, result.layers
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
