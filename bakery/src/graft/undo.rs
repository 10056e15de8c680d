//! Undoes one earlier change, three ways.

use std::path::Path;
use std::sync::Arc;

use layerfmt::flatten::{MergedIndex, flatten};
use layerfmt::tree::{apply::apply, diff::diff};
use layerfmt::{LayerSet, Meta};

use super::rewrite::Rewrite;
use super::{Graft, Resolution, is_empty, merge, merged_tree};
use crate::history::{HistoryError, Result, merged_input, stack};

/// A change, and the tree in which it is to be undone.
#[derive(Debug)]
pub struct Undo<'u> {
    /// The tree that the change made: the *base* of the rule.
    pub after: &'u MergedIndex,
    /// The tree before the change: the rule's *theirs*.
    pub before: &'u MergedIndex,
    /// The tree in which it is undone.
    pub ours: &'u MergedIndex,
    /// The layers of *ours*.
    pub sources: &'u LayerSet,
    /// Origin of the new layer.
    pub meta: Meta,
}

/// Writes the layer that undoes a change to `path`. Its contents are borrowed from the layers that
/// have them.
///
/// # Errors
/// The errors of [`super::graft`].
pub fn undo(undo: Undo<'_>, resolution: Resolution, path: &Path) -> Result<Graft> {
    let (after, before) = (merged_tree(undo.after)?, merged_tree(undo.before)?);
    let ours = merged_tree(undo.ours)?;
    let mut delta = diff(&after, &before)?;
    if resolution != Resolution::Force {
        let outcome = merge::merge(Some(&after), &ours, &mut delta, resolution)?;
        if !outcome.conflicts.is_empty() {
            return Err(HistoryError::Conflicts(outcome.conflicts));
        }
    }
    let changes = diff(&ours, &apply(&ours, &delta)?)?;
    if is_empty(&ours, &changes) {
        return Ok(Graft::Nothing);
    }
    let shown = flatten(&[merged_input(undo.ours), merged_input(undo.before)])?;
    let rewrite = Rewrite {
        shown: &shown,
        ours: undo.ours,
        sources: undo.sources,
        meta: undo.meta,
    };
    let layer = Arc::new(rewrite.write(&changes, path)?);
    let merged = stack(Some(undo.ours), &layer)?;
    Ok(Graft::Rewritten(layer, merged))
}
