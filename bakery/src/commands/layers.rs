//! Layer files named on the command line, and revisions in their place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use layerfmt::{Index, Layer, LayerSet};
use wire::manifest::RevisionName;

use crate::globals::Globals;
use crate::history::{History, Revision};

/// The layers named by the arguments of a command.
#[derive(Debug)]
pub(crate) enum NamedLayer {
    /// Layer files, in the order given.
    Files(Vec<Arc<Layer>>),
    /// A revision of the store.
    Revision(Box<OfStore>),
}

/// A revision, with the histories it is of.
#[derive(Debug)]
pub(crate) struct OfStore {
    /// The history of the revision.
    pub history: History,
    /// The revision to read.
    pub revision: Revision,
}

/// Opens layer files, or the one revision that is named. A file wins over a revision of the same name.
///
/// # Errors
/// One is neither; the message names it.
pub(crate) fn named(words: &[PathBuf], globals: &Globals) -> anyhow::Result<NamedLayer> {
    let is_revision = |word: &Path| !word.exists() && revision_name(word).is_some();
    match words {
        [word] if is_revision(word) => {
            let name = revision_name(word).context("no name")?;
            let history = globals.history().with_context(|| {
                format!("there is no file {name}, and the store with a revision of this name cannot be opened")
            })?;
            let revision = history.revision(&name)?;
            Ok(NamedLayer::Revision(Box::new(OfStore {
                history,
                revision,
            })))
        }
        words => {
            if let Some(word) = words.iter().find(|word| is_revision(word)) {
                let word = word.display();
                anyhow::bail!("{word} is not a file; a revision must be the only argument")
            }
            open(words).map(NamedLayer::Files)
        }
    }
}

fn revision_name(word: &Path) -> Option<RevisionName> {
    word.to_str()?.parse().ok()
}

/// Opens every layer, in the order given.
///
/// # Errors
/// One cannot be opened or is not a layer; the message names it.
pub(crate) fn open(paths: &[PathBuf]) -> anyhow::Result<Vec<Arc<Layer>>> {
    let open = |path: &PathBuf| {
        Layer::open(path)
            .map(Arc::new)
            .with_context(|| format!("{}", path.display()))
    };
    paths.iter().map(open).collect()
}

/// Succeeds if `set` has every layer from which `index` borrows.
///
/// # Errors
/// A layer is missing; the message names it and the option for it.
pub(crate) fn all_at_hand(index: &Index, set: &LayerSet, option: &str) -> anyhow::Result<()> {
    match index
        .layers()
        .find(|layer| set.get(&layer.digest).is_none())
    {
        None => Ok(()),
        Some(layer) => anyhow::bail!(
            "contents are borrowed from the layer {}, which was not given: add its file with {option}",
            layer.digest
        ),
    }
}
