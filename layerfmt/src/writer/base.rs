//! The stack a layer is written against.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Content;
use crate::digest::Digest;
use crate::error::{FormatError, Result};
use crate::flatten::MergedIndex;
use crate::index::{Extent, Index};
use crate::layer::ContentDigests;
use crate::tree::Tree;

/// Chunk references while writing: the base's chunks have this bit.
pub(super) const BASE: u32 = 1 << 31;

/// The stack a layer is written against: its contents need not be stored again.
#[derive(Debug)]
pub struct Base {
    pub(super) index: Arc<Index>,
    pub(super) files: HashMap<(Digest, u64), u32>,
    pub(super) chunks: HashMap<Digest, u32>,
    pub(super) sizes: HashSet<u64>,
    pub(super) content: ContentDigests,
}

impl Base {
    /// The lookup tables of a flattened stack that has its CONTENT section.
    ///
    /// # Errors
    /// When the merged index carries no content digests.
    pub fn new(merged: &MergedIndex) -> Result<Base> {
        let index = Arc::clone(&merged.index);
        let content = merged
            .content
            .clone()
            .ok_or_else(|| FormatError::corrupt("CONTENT", 0, "the base has no content digests"))?;
        let mut base = Base {
            files: HashMap::new(),
            chunks: HashMap::new(),
            sizes: HashSet::new(),
            content,
            index,
        };
        for ino in 0..base.index.inode_count() {
            if let Some(inode) = base.index.inode(ino)
                && inode.is_file()
            {
                base.files
                    .entry((base.content.file(ino), inode.size))
                    .or_insert(ino);
                base.sizes.insert(inode.size);
            }
        }
        for id in 0..base.index.chunk_count() {
            base.chunks.entry(base.content.chunk(id)).or_insert(id);
        }
        Ok(base)
    }

    /// The base as a tree whose contents refer to the base's chunks.
    ///
    /// # Errors
    /// When there are more objects than a tree can number.
    pub fn tree(&self) -> Result<Tree<Content>> {
        crate::tree::from_index::tree(&self.index, |ino, inode| {
            Content::new(inode.size, self.content.file(ino), &self.extents(ino))
        })
    }

    pub(super) fn extents(&self, ino: u32) -> Vec<Extent> {
        let extents = self.index.extents(ino, 0..u64::MAX);
        extents
            .map(|extent| Extent {
                chunk: extent.chunk | BASE,
                ..extent
            })
            .collect()
    }
}
