//! Layer files named on the command line.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use layerfmt::Layer;

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
