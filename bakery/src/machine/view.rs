//! A readable view of a tree that is still being made.

use layerfmt::tree::{Child, Kind, NodeId, ROOT, Tree};

use super::MachineFiles;
use crate::initrd::error::{InitrdError, Result};
use crate::initrd::system_tree::{SystemNode, SystemTree};

/// The tree, and its files that were read.
pub(super) struct View<'v, C> {
    tree: &'v Tree<C>,
    files: &'v MachineFiles,
}

impl<'v, C> View<'v, C> {
    pub(super) fn new(tree: &'v Tree<C>, files: &'v MachineFiles) -> Self {
        Self { tree, files }
    }

    fn find(&self, path: &str) -> Option<NodeId> {
        self.tree
            .resolve(path.as_bytes())
            .filter(|id| path.is_empty() || *id != ROOT)
    }
}

impl<C> SystemTree for View<'_, C> {
    fn node(&self, path: &str) -> Result<Option<SystemNode>> {
        let node = self.find(path).and_then(|id| self.tree.node(id));
        Ok(node.map(|node| match &node.kind {
            Kind::Directory(_) => SystemNode::Directory,
            Kind::File(_) => SystemNode::File,
            Kind::Symlink(target) => SystemNode::Link(String::from_utf8_lossy(target).into_owned()),
            _ => SystemNode::Other,
        }))
    }

    fn names(&self, path: &str) -> Result<Vec<String>> {
        let id = self
            .find(path)
            .ok_or_else(|| InitrdError::Refused(format!("/{path} is not in the tree")))?;
        let entries = self.tree.entries(id);
        let there = entries.filter(|(_, child)| **child != Child::Whiteout);
        Ok(there
            .filter_map(|(name, _)| String::from_utf8(name.as_bytes().to_vec()).ok())
            .collect())
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.files.get(path.as_bytes()).cloned().unwrap_or_default())
    }

    fn modified(&self, path: &str) -> Result<i64> {
        let node = self.find(path).and_then(|id| self.tree.node(id));
        Ok(node.map_or(0, |node| node.meta.mtime.sec))
    }
}
