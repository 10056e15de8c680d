//! Directories of the upper, read into the tree.

use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};

use layerfmt::ROOT;
use rustix::fs::FileType;

use super::LayerFs;
use super::change_time::ChangeTime;
use super::protection::Protection;
use super::reply::{CHARACTER, DIRECTORY, NodeId, REGULAR, ROOT_ID, SYMLINK, TYPE_MASK};
use super::tree::{Name, Node, Tree};
use crate::error::Result;
use crate::sys::directory;
use crate::sys::object::At;
use crate::upper::marks::Marked;

impl LayerFs {
    /// Reads the upper's part of directory `id`.
    pub(super) fn load(&self, tree: &mut Tree, id: NodeId) -> Result<()> {
        let fd = self.directory(tree, id)?;
        let lower = self.lower();
        let index = &*lower.index;
        let row = tree.get(id).and_then(|node| node.row);
        let inherited = row
            .and_then(|row| index.inode(row))
            .map_or(0, |inode| inode.nlink.saturating_sub(2));
        if let Some(node) = tree.get_mut(id) {
            node.listing.subdirectories = inherited;
        }
        let list = || directory::list(fd.as_fd());
        let listed = self.with_descriptors(|| At::Open(Arc::clone(&fd)).as_owner(list));
        for entry in listed? {
            let name: Name = Arc::from(entry.name);
            let kind = match entry.kind {
                FileType::Directory => DIRECTORY,
                FileType::RegularFile => REGULAR,
                FileType::Symlink => SYMLINK,
                _ => {
                    let stat = At::Name(Arc::clone(&fd), &name).stat()?;
                    if stat.st_mode & TYPE_MASK == CHARACTER && stat.st_rdev == 0 {
                        0
                    } else {
                        stat.st_mode & TYPE_MASK
                    }
                }
            };
            if kind == 0 {
                tree.hide(index, id, &name);
            } else {
                tree.found_object(index, id, &name, kind);
            }
        }
        Ok(())
    }

    /// Makes the root's node.
    pub(super) fn load_root(&self) -> Result<()> {
        let upper = self.upper()?;
        let at = At::Open(upper.root());
        let marked = upper.marks.read(&at, &self.lower().origins)?;
        let node = Node {
            kind: DIRECTORY,
            in_upper: true,
            row: (!marked.opaque).then_some(ROOT),
            number: at.stat()?.st_ino,
            change_time: change_time_of(&marked),
            protection: protection_of(&marked),
            ..Node::default()
        };
        let mut tree = self.write_tree();
        tree.insert(ROOT_ID, node);
        self.load(&mut tree, ROOT_ID)
    }
}

/// The change time that a copy-up preserved.
pub(super) fn change_time_of(marked: &Marked) -> Mutex<Option<Box<ChangeTime>>> {
    let note = marked.change_time.as_deref();
    note.and_then(ChangeTime::from_note).map(Box::new).into()
}

/// The protection that chattr set.
pub(super) fn protection_of(marked: &Marked) -> Protection {
    Protection::from_letters(marked.protection.as_deref().unwrap_or_default())
}
