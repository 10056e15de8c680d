//! Applies a layer that was made on one tree to another tree, by a three-way merge, path by path.
//!
//! *Base* is the tree on which the layer was made, *ours* the tree to which it is applied, *theirs*
//! the result of the layer on the base. A path that only one side changed gets that side's state. A
//! path that both changed in the same way gets this state. Any other path is a conflict. Contents
//! are compared by their recorded digests, so no content is read. Modification times alone never
//! conflict.

mod change;
mod merge;
mod rewrite;
mod undo;
mod wording;

use std::path::Path;
use std::sync::Arc;

use layerfmt::flatten::MergedIndex;
use layerfmt::tree::{apply::apply, diff::diff, from_index};
use layerfmt::{ContentDigests, Digest, Index, Layer, LayerSet, Tree};

use crate::history::{HistoryError, Result, stack};

pub use change::{TreeChange, changes};
pub use undo::{Undo, undo};

/// The identity of a regular file for a merge: its content digest and length.
pub(crate) type FileId = (Digest, u64);

/// Resolution of conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolution {
    /// Refuse, and list them.
    #[default]
    Refuse,
    /// For paths that both sides changed, keep the target's state.
    Ours,
    /// For paths that both sides changed, take the layer's state.
    Theirs,
    /// Apply the layer without comparison.
    Force,
}

/// A layer that can be applied to *ours*.
#[derive(Debug)]
pub enum Graft {
    /// The layer itself.
    AsItIs(MergedIndex),
    /// A rewritten layer at the requested path; its contents are borrowed.
    Rewritten(Arc<Layer>, MergedIndex),
    /// The target already has all of its changes.
    Nothing,
}

/// The three trees of a graft, and the source of contents that must be copied.
#[derive(Debug)]
pub struct GraftInput<'g> {
    /// The tree on which the layer was made; none if it is a whole tree.
    pub base: Option<&'g MergedIndex>,
    /// The tree to which it is applied.
    pub ours: &'g MergedIndex,
    /// The layer to apply.
    pub layer: &'g Layer,
    /// The layers of *ours*.
    pub sources: &'g LayerSet,
}

/// Applies a layer to another tree than its base. A rewritten layer is written to `path`.
///
/// # Errors
/// [`HistoryError::Conflicts`]: both sides changed the same paths and `resolution` is not
/// set; else a layer is damaged or the new one cannot be written.
pub fn graft(ways: &GraftInput<'_>, resolution: Resolution, path: &Path) -> Result<Graft> {
    if resolution == Resolution::Force {
        return Ok(Graft::AsItIs(stack(Some(ways.ours), ways.layer)?));
    }
    let base = ways.base.map(merged_tree).transpose()?;
    let ours = merged_tree(ways.ours)?;
    let content = ways.layer.content()?;
    let mut delta = tree(ways.layer.index(), content.as_ref())?;
    let outcome = merge::merge(base.as_ref(), &ours, &mut delta, resolution)?;
    if !outcome.conflicts.is_empty() {
        return Err(HistoryError::Conflicts(outcome.conflicts));
    }
    if !outcome.changed {
        return Ok(Graft::AsItIs(stack(Some(ways.ours), ways.layer)?));
    }
    let changes = diff(&ours, &apply(&ours, &delta)?)?;
    if is_empty(&ours, &changes) {
        return Ok(Graft::Nothing);
    }
    let layer = Arc::new(rewrite::write(ways, &changes, path)?);
    let merged = stack(Some(ways.ours), &layer)?;
    Ok(Graft::Rewritten(layer, merged))
}

/// The tree of a merged index.
pub(crate) fn merged_tree(merged: &MergedIndex) -> Result<Tree<FileId>> {
    tree(&merged.index, merged.content.as_ref())
}

/// The tree of a layer or merged index, whiteouts included.
pub(crate) fn tree(index: &Index, content: Option<&ContentDigests>) -> Result<Tree<FileId>> {
    let content = content.ok_or_else(|| {
        HistoryError::Refused("a layer without content digests cannot be compared".into())
    })?;
    Ok(from_index::tree(index, |ino, inode| {
        (content.file(ino), inode.size)
    })?)
}

/// True if a difference against `ours` changes nothing.
fn is_empty(ours: &Tree<FileId>, changes: &Tree<FileId>) -> bool {
    let root = layerfmt::tree::ROOT;
    let meta = |tree: &Tree<FileId>| tree.node(root).map(|node| node.meta.clone());
    changes.entries(root).next().is_none() && meta(changes) == meta(ours)
}

#[cfg(test)]
mod tests;
