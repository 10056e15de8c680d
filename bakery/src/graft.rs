//! A layer made on one tree, put on another: three ways, path by path.
//!
//! *Base* is the tree the layer was made on, *ours* the tree it shall go on, *theirs* what the
//! layer makes of the base. A path that only one side changed takes that side's state; a path
//! both changed alike is settled; anything else is a conflict. Contents are compared by their
//! recorded digests, so nothing is read. Times of modification alone never conflict.

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

pub use change::{Change, changes};
pub use undo::{Undo, undo};

/// The identity of a regular file for a merge: its content digest and length.
pub(crate) type FileId = (Digest, u64);

/// Resolution of conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resolution {
    /// Refuse, and list them.
    #[default]
    Refuse,
    /// Where both sides changed a path, keep what the target has.
    Ours,
    /// Where both sides changed a path, take what the layer has.
    Theirs,
    /// Do not look: put the layer on top as it is.
    Force,
}

/// A layer ready to go on top of *ours*.
#[derive(Debug)]
pub enum Graft {
    /// The layer itself.
    AsItIs(MergedIndex),
    /// A layer written anew, at the path that was asked for; its contents are borrowed.
    Rewritten(Arc<Layer>, MergedIndex),
    /// The target has all of it already.
    Nothing,
}

/// The three trees of a graft, and where contents can be read if they must be.
#[derive(Debug)]
pub struct Ways<'g> {
    /// The tree on which the layer was made; none if it is a whole tree.
    pub base: Option<&'g MergedIndex>,
    /// The tree to which it is applied.
    pub ours: &'g MergedIndex,
    /// The layer to apply.
    pub layer: &'g Layer,
    /// The layers of *ours*.
    pub sources: &'g LayerSet,
}

/// Put a layer on top of another tree than it was made on. A rewritten layer goes to `path`.
///
/// # Errors
/// [`HistoryError::Conflicts`] when both sides changed the same paths and `resolution` says
/// nothing; else when a layer is damaged or the new one cannot be written.
pub fn graft(ways: &Ways<'_>, resolution: Resolution, path: &Path) -> Result<Graft> {
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
