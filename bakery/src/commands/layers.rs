//! Layer files named on the command line.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use layerfmt::{Index, Layer, LayerSet};

/// Opens every layer, in the order given.
///
/// # Errors
/// One cannot be opened or is no layer; the message names it.
pub fn open(paths: &[PathBuf]) -> anyhow::Result<Vec<Arc<Layer>>> {
    let open = |path: &PathBuf| {
        Layer::open(path)
            .map(Arc::new)
            .with_context(|| format!("{}", path.display()))
    };
    paths.iter().map(open).collect()
}

/// Whether every layer that `index` borrows from is in `set`.
///
/// # Errors
/// One is not; the message names it and the option that takes it.
pub fn all_at_hand(index: &Index, set: &LayerSet, option: &str) -> anyhow::Result<()> {
    match index
        .layers()
        .find(|layer| set.get(&layer.digest).is_none())
    {
        None => Ok(()),
        Some(layer) => anyhow::bail!(
            "contents are borrowed from the layer {}, which was not named: add its file with {option}",
            layer.digest
        ),
    }
}
