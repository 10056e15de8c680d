//! An index as a tree.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Child, Directory, Kind, Metadata, Name, Node, NodeId, Tree, Xattrs};
use crate::error::{FormatError, Result};
use crate::index::{self, Index, Ino, Inode};
use crate::layout::inode::*;

/// The tree of an index, including whiteouts and opaque marks; `file` makes the content of a
/// regular file.
///
/// # Errors
/// There are more objects than a tree can number.
pub fn tree<C>(index: &Index, mut file: impl FnMut(Ino, &Inode) -> C) -> Result<Tree<C>> {
    let mut sets: HashMap<u32, Arc<Xattrs>> = HashMap::new();
    let mut tree = Tree::new(metadata(index, index::ROOT, &mut sets));
    if let (Some(inode), Some(root)) = (index.inode(index::ROOT), tree.directory_mut(super::ROOT)) {
        root.opaque = inode.opaque;
    }
    // Inode numbers and node numbers are equal: both start with the root, and every object has a
    // name before its number is used.
    for ino in 1..index.inode_count() {
        let Some(inode) = index.inode(ino) else {
            continue;
        };
        let kind = match inode.kind() {
            S_IFDIR => Kind::Directory(Directory {
                opaque: inode.opaque,
                ..Directory::default()
            }),
            S_IFREG => Kind::File(file(ino, &inode)),
            S_IFLNK => Kind::Symlink(index.symlink(ino).into()),
            S_IFCHR => Kind::Char(inode.rdev.0, inode.rdev.1),
            S_IFBLK => Kind::Block(inode.rdev.0, inode.rdev.1),
            S_IFIFO => Kind::Fifo,
            _ => Kind::Socket,
        };
        let meta = metadata(index, ino, &mut sets);
        tree.add(Node { meta, kind }).map_err(large)?;
    }
    for dir in 0..index.inode_count() {
        for entry in index.entries(dir, 0) {
            let child = match entry.child {
                index::DirentTarget::Whiteout => Child::Whiteout,
                index::DirentTarget::Inode(ino) => Child::Node(ino as NodeId),
            };
            // Names of a validated index are valid.
            if let Ok(name) = Name::new(entry.name) {
                tree.set(dir, name, child).map_err(large)?;
            }
        }
    }
    Ok(tree)
}

/// The metadata of an inode; equal xattr sets are shared through `sets`.
pub fn metadata(index: &Index, ino: Ino, sets: &mut HashMap<u32, Arc<Xattrs>>) -> Metadata {
    let Some(inode) = index.inode(ino) else {
        return Metadata::default();
    };
    let xattrs = match index.xattr_set(ino) {
        0 => None,
        set => Some(Arc::clone(sets.entry(set).or_insert_with(|| {
            let pairs = index
                .xattrs(ino)
                .map(|(name, value)| (name.into(), value.into()));
            Arc::new(pairs.collect())
        }))),
    };
    Metadata {
        mode: (inode.mode & PERMISSIONS) as u16,
        uid: inode.uid,
        gid: inode.gid,
        mtime: inode.mtime,
        xattrs,
    }
}

#[cold]
fn large(error: super::TreeError) -> FormatError {
    FormatError::limit("tree", 0, error.to_string())
}
