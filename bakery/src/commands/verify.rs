//! The command `bakery verify`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use layerfmt::{ErrorKind, FormatError, Layer, LayerSet};
use serde::Serialize;

use crate::commands::{layers, store_verify};
use crate::globals::{ANSWER_NO, Globals};
use crate::{output, progress};

/// Check a store, or every byte of layer files
///
/// Without layers, checks every signature and link of every history in the store, and that all
/// retained objects exist; with --all also reads every byte, and checks that every index shows the
/// tree of its layers. Exit code 1 if an object is damaged. Contents borrowed from layers that are
/// neither arguments nor given with --base are counted but not compared.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Read every byte of the store
    #[arg(long, conflicts_with = "layers")]
    pub all: bool,
    /// The layers to verify
    #[arg(value_name = "LAYER")]
    pub layers: Vec<PathBuf>,
    /// A layer that only provides contents for the others (repeatable)
    #[arg(long, value_name = "LAYER")]
    pub base: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Verdict {
    path: String,
    layer: Option<String>,
    is_good: bool,
    problem: Option<String>,
    chunks: u32,
    files: u32,
    files_skipped: u32,
    unused_len: u64,
    tree_digest: Option<String>,
}

/// Verifies all layers, even after one of them failed.
///
/// # Errors
/// A file cannot be read at all.
pub(crate) fn run(args: VerifyArgs, globals: &Globals) -> anyhow::Result<ExitCode> {
    if args.layers.is_empty() {
        return store_verify::run(args.all, globals);
    }
    let mut is_unpacked = layers::open(&args.base)?;
    // A damaged layer must not keep the others from being checked.
    is_unpacked.extend(
        args.layers
            .iter()
            .filter_map(|path| Layer::open(path).ok())
            .map(Arc::new),
    );
    let below = LayerSet::new(is_unpacked);
    let mut verdicts = Vec::new();
    for path in &args.layers {
        verdicts.push(verdict(path, &below, globals)?);
    }
    let is_good = verdicts.iter().all(|verdict| verdict.is_good);
    output::emit(globals, &verdicts, |out| {
        for verdict in &verdicts {
            match &verdict.problem {
                Some(problem) => writeln!(out, "{}: DAMAGED: {problem}", verdict.path)?,
                None => writeln!(
                    out,
                    "{}: good ({} chunks, {} files; {} files borrow from layers not named)",
                    verdict.path, verdict.chunks, verdict.files, verdict.files_skipped
                )?,
            }
        }
        Ok(())
    })?;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(ANSWER_NO)
    })
}

fn verdict(path: &Path, below: &LayerSet, globals: &Globals) -> anyhow::Result<Verdict> {
    let name = path.display().to_string();
    let check = || -> Result<(String, layerfmt::check::Report), FormatError> {
        let layer = Arc::new(Layer::open(path)?);
        let total = u64::from(layer.index().chunk_count());
        let bar = progress::items(globals, Some(total), &name);
        let report = layerfmt::check::check(&layer, below, |done| bar.set_position(done.into()))?;
        bar.finish_and_clear();
        Ok((layer.digest().to_string(), report))
    };
    match check() {
        Ok((layer, report)) => Ok(Verdict {
            path: name,
            layer: Some(layer),
            is_good: true,
            problem: None,
            chunks: report.chunks,
            files: report.files,
            files_skipped: report.files_skipped,
            unused_len: report.unused,
            tree_digest: report.tree_digest.map(|digest| digest.to_string()),
        }),
        Err(error) if error.kind() == ErrorKind::Io => Err(anyhow::Error::new(error).context(name)),
        Err(error) => Ok(Verdict {
            path: name,
            layer: None,
            is_good: false,
            problem: Some(error.to_string()),
            chunks: 0,
            files: 0,
            files_skipped: 0,
            unused_len: 0,
            tree_digest: None,
        }),
    }
}
