//! A revision of the store as a tree: its merged index, and the layers that hold the chunks.

use std::sync::Arc;

use layerfmt::{ContentReader, DirentTarget, Index, Ino, ROOT, StoredChunks};

use super::error::{InitrdError, Result, refuse};
use super::system_tree::{SystemNode, SystemTree};
use crate::failed::Doing as _;
use crate::limits::SYSTEM_FILE_LEN_MAX;

const S_IFLNK: u32 = 0o120_000;

/// A merged index with the source of its chunks.
pub(crate) struct StackTree {
    index: Arc<Index>,
    chunks: Box<dyn StoredChunks>,
}

impl std::fmt::Debug for StackTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StackTree").finish_non_exhaustive()
    }
}

impl StackTree {
    /// The tree of `index`, whose chunks come from `chunks`.
    #[must_use]
    pub(crate) fn new(index: Arc<Index>, chunks: Box<dyn StoredChunks>) -> Self {
        Self { index, chunks }
    }

    fn find(&self, path: &str) -> Option<Ino> {
        path.split('/')
            .filter(|name| !name.is_empty())
            .try_fold(ROOT, |dir, name| {
                match self.index.lookup(dir, name.as_bytes())?.child {
                    DirentTarget::Inode(ino) => Some(ino),
                    DirentTarget::Whiteout => None,
                }
            })
    }

    fn require(&self, path: &str) -> Result<Ino> {
        self.find(path)
            .ok_or_else(|| InitrdError::Refused(format!("/{path} is not in the tree")))
    }
}

impl SystemTree for StackTree {
    fn node(&self, path: &str) -> Result<Option<SystemNode>> {
        let Some(ino) = self.find(path) else {
            return Ok(None);
        };
        let inode = self
            .index
            .inode(ino)
            .ok_or_else(|| InitrdError::Refused(format!("/{path}: no such inode")))?;
        Ok(Some(if inode.is_dir() {
            SystemNode::Directory
        } else if inode.is_file() {
            SystemNode::File
        } else if inode.kind() == S_IFLNK {
            SystemNode::Link(String::from_utf8_lossy(self.index.symlink(ino)).into_owned())
        } else {
            SystemNode::Other
        }))
    }

    fn names(&self, path: &str) -> Result<Vec<String>> {
        let dir = self.require(path)?;
        Ok(self
            .index
            .entries(dir, 0)
            .filter(|entry| entry.child != DirentTarget::Whiteout)
            .filter_map(|entry| String::from_utf8(entry.name.to_vec()).ok())
            .collect())
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let ino = self.require(path)?;
        let size = self.index.inode(ino).map_or(0, |inode| inode.size);
        if size > SYSTEM_FILE_LEN_MAX {
            refuse!("/{path} is too large for an initramfs");
        }
        let mut bytes = vec![0; size as usize];
        ContentReader::new(&self.index, self.chunks.as_ref())
            .runs(ino, |offset, run| {
                let start = usize::try_from(offset).map_err(std::io::Error::other)?;
                let place = bytes
                    .get_mut(start..)
                    .and_then(|rest| rest.get_mut(..run.len()));
                place
                    .ok_or(std::io::ErrorKind::InvalidData)?
                    .copy_from_slice(run);
                Ok(())
            })
            .doing(|| format!("cannot read /{path}"))?;
        Ok(bytes)
    }

    fn modified(&self, path: &str) -> Result<i64> {
        let ino = self.require(path)?;
        Ok(self.index.inode(ino).map_or(0, |inode| inode.mtime.sec))
    }
}
