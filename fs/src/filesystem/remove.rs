//! unlink and rmdir: the name is removed, the object stays while it is open.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags};

use super::copy_up::open_flags;
use super::far::Failure as _;
use super::reply::{DIRECTORY, NodeId, REGULAR, lower_id};
use super::tree::{Entry, Keeper, Name, Node, Tree, Visible};
use super::{LayerFs, protection};
use crate::error::Result;
use crate::sys::object::At;
use crate::sys::{Errno, process};

impl LayerFs {
    /// Removes `name`, not a directory, from `parent`.
    ///
    /// # Errors
    /// ENOENT, EISDIR, or the error of the upper's file system.
    pub fn unlink(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        self.with_descriptors(|| self.unlink_once(parent, name))
    }

    fn unlink_once(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        let upper = self.upper()?;
        let mut tree = self.write_tree();
        protection::keeps_itself(&tree, parent)?;
        let (parent_known, visible) = self.removal(&mut tree, parent, name)?;
        let name: Name = Arc::from(name);
        match visible {
            Visible::Lower(row) => {
                let inode = self.lower().index.inode(row).ok_or(Errno::IO)?;
                if inode.is_dir() {
                    return Err(Errno::ISDIR.into());
                }
                if inode.nlink > 1 {
                    self.copy_up(&mut tree, lower_id(row))?;
                    let id = lower_id(row);
                    return self.unlink_upper(&mut tree, parent, &name, id, inode.kind());
                }
                if !parent_known {
                    self.copy_up(&mut tree, parent)?;
                }
                let directory = self.directory(&tree, parent)?;
                upper.make_whiteout(&directory, &name)?;
                tree.unname(&self.lower().index, parent, &name);
                self.orphan_lower(&mut tree, lower_id(row), inode.kind());
                Ok(())
            }
            Visible::Upper { kind, .. } if kind == DIRECTORY => Err(Errno::ISDIR.into()),
            Visible::Upper { id, kind } => self.unlink_upper(&mut tree, parent, &name, id, kind),
        }
    }

    /// The object to remove, and a flag that is true if `parent` is in the tree.
    fn removal(&self, tree: &mut Tree, parent: NodeId, name: &[u8]) -> Result<(bool, Visible)> {
        if tree.get(parent).is_some() {
            let visible = tree
                .visible(&self.lower().index, parent, name)
                .ok_or(Errno::NOENT)?;
            return Ok((true, visible));
        }
        let id = self.visible(tree, parent, name)?.ok_or(Errno::NOENT)?;
        Ok((
            false,
            Visible::Lower(self.numbers.row_of(id).ok_or(Errno::STALE)?),
        ))
    }

    fn unlink_upper(
        &self,
        tree: &mut Tree,
        parent: NodeId,
        name: &Name,
        id: NodeId,
        kind: u32,
    ) -> Result<()> {
        let upper = self.upper()?;
        protection::loses_name(tree, parent, id)?;
        let directory = self.directory(tree, parent)?;
        let keep = self.keeper(tree, id, kind, (parent, name))?;
        let hides = tree.in_lower(&self.lower().index, parent, name).is_some();
        let removed = match hides {
            true => upper
                .replace_by_whiteout(&directory, name)
                .and_then(|taken| upper.work.remove(&taken)),
            false => LayerFs::remove_name(&directory, name),
        };
        if let Err(errno) = removed {
            self.dismiss(keep);
            return Err(errno.into());
        }
        tree.unname(&self.lower().index, parent, name);
        self.lose_name(tree, id, parent, name, keep);
        self.moved_or_less(tree, id);
        Ok(())
    }

    /// Marks that the change time of `id` is that of the upper: the object lost a name or got
    /// another.
    pub(super) fn moved_or_less(&self, tree: &Tree, id: NodeId) {
        let Some(node) = tree.get(id).filter(|node| node.keeps_change_time()) else {
            return;
        };
        if let Ok(at) = self.at(tree, id, node) {
            self.forget_change_time(node, &at);
        }
    }

    /// Keeps `id` when `name`, its last known one, is removed; `None` if it has others or is
    /// unknown. If descriptors are few, a file is kept without one: a removal needs no further
    /// descriptor.
    pub(super) fn keeper(
        &self,
        tree: &Tree,
        id: NodeId,
        kind: u32,
        name: (NodeId, &Name),
    ) -> Result<Option<Keeper>> {
        let Some(node) = tree.get(id).filter(|node| node.in_upper) else {
            return Ok(None);
        };
        let others = node.names.iter().any(|(dir, known)| (*dir, known) != name);
        if others || !self.is_known(tree, id) {
            return Ok(None);
        }
        let at = self.at(tree, id, node)?;
        let fd = match self.keeping_descriptor(tree, id, kind, &at) {
            Ok(fd) if is_among_the_last(&fd) => Err(Errno::MFILE.into()),
            other => other,
        };
        match fd {
            Err(error) if kind != DIRECTORY && error.lacks_descriptor() => {
                let work = &self.upper()?.work;
                let aside = work.name();
                at.link(work.directory(), &aside)?;
                Ok(Some(Keeper::Aside(aside)))
            }
            fd => fd.map(|fd| Some(Keeper::Open(fd))),
        }
    }

    fn keeping_descriptor(
        &self,
        tree: &Tree,
        id: NodeId,
        kind: u32,
        at: &At<'_>,
    ) -> Result<Arc<OwnedFd>> {
        if kind == DIRECTORY {
            return self.directory(tree, id);
        }
        if let Some(file) = self.open_file(id) {
            return Ok(file);
        }
        let opened = match at.open(open_flags(kind)) {
            Err(Errno::ACCESS | Errno::PERM | Errno::TXTBSY) if kind == REGULAR => {
                at.open(rustix::fs::OFlags::PATH)
            }
            other => other,
        };
        Ok(Arc::new(opened?))
    }

    /// Discards the keeper of an object that still has its name.
    pub(super) fn dismiss(&self, keep: Option<Keeper>) {
        if let (Some(Keeper::Aside(name)), Some(upper)) = (keep, &self.upper) {
            upper.clear_aside(&name);
        }
    }

    /// Removes the name `name` in `parent` from node `id`.
    pub(super) fn lose_name(
        &self,
        tree: &mut Tree,
        id: NodeId,
        parent: NodeId,
        name: &Name,
        keep: Option<Keeper>,
    ) {
        let Some(node) = tree.get_mut(id) else { return };
        node.names
            .retain(|(dir, known)| (*dir, known) != (parent, name));
        if !node.names.is_empty() {
            return;
        }
        let gone = node.is_dir().then_some(node.number);
        match keep {
            Some(Keeper::Open(fd)) => node.orphan = Some(fd),
            Some(Keeper::Aside(name)) => node.aside = Some(name),
            None => {
                tree.remove(id);
                self.drop_descriptors(id);
            }
        }
        if let Some(number) = gone {
            tree.kept_numbers.forget(number);
        }
        if tree.get(id).is_some() {
            tree.names_lost += 1;
        }
    }

    /// A lower object lost its only name. It is recorded only if the kernel knows it.
    pub(super) fn orphan_lower(&self, tree: &mut Tree, id: NodeId, kind: u32) {
        if self.is_known(tree, id) {
            tree.insert(
                id,
                Node {
                    kind,
                    row: self.numbers.row_of(id),
                    ..Node::default()
                },
            );
        }
    }

    /// Removes the empty directory `name` from `parent`.
    ///
    /// # Errors
    /// ENOTEMPTY, ENOTDIR, ENOENT, or the error of the upper's file system.
    pub fn rmdir(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        self.with_descriptors(|| self.rmdir_once(parent, name))
    }

    fn rmdir_once(&self, parent: NodeId, name: &[u8]) -> Result<()> {
        let upper = self.upper()?;
        let mut tree = self.write_tree();
        let id = self.visible(&mut tree, parent, name)?.ok_or(Errno::NOENT)?;
        protection::loses_name(&tree, parent, id)?;
        self.expect_empty(&tree, id)?;
        self.copy_up(&mut tree, parent)?;
        let name: Name = Arc::from(name);
        let directory = self.directory(&tree, parent)?;
        if tree.get(id).is_none() {
            upper.make_whiteout(&directory, &name)?;
            tree.unname(&self.lower().index, parent, &name);
            self.orphan_lower(&mut tree, id, DIRECTORY);
            return Ok(());
        }
        let (mut keep, few) = match self.keeper(&tree, id, DIRECTORY, (parent, &name)) {
            Err(error) if error.lacks_descriptor() => (None, true),
            keep => (keep?, false),
        };
        let hides = tree.in_lower(&self.lower().index, parent, &name).is_some();
        let whiteouts = tree
            .get(id)
            .is_some_and(|node| node.listing.iter().next().is_some());
        if hides || whiteouts || few {
            let taken = match hides {
                true => upper.replace_by_whiteout(&directory, &name)?,
                false => {
                    let taken = upper.work.name();
                    let flags = RenameFlags::empty();
                    upper.work.take(&directory, &name, &taken, flags)?;
                    taken
                }
            };
            match few {
                true => keep = Some(Keeper::Aside(taken)),
                false => upper.clear_aside(&taken),
            }
        } else {
            rustix::fs::unlinkat(&directory, &name[..], AtFlags::REMOVEDIR)?;
        }
        tree.unname(&self.lower().index, parent, &name);
        self.lose_directory(&mut tree, id, parent, &name, keep);
        self.moved_or_less(&tree, id);
        Ok(())
    }

    /// Records that directory `id` was removed from `parent`; it shows no names any more.
    pub(super) fn lose_directory(
        &self,
        tree: &mut Tree,
        id: NodeId,
        parent: NodeId,
        name: &Name,
        keep: Option<Keeper>,
    ) {
        self.lose_name(tree, id, parent, name, keep);
        if let Some(node) = tree.get_mut(id) {
            node.row = None;
            node.listing = super::tree::Listing::default();
        }
    }

    /// Fails unless `id` is a directory without visible names.
    pub(super) fn expect_empty(&self, tree: &Tree, id: NodeId) -> Result<()> {
        let lower = self.lower();
        let index = &*lower.index;
        let empty = match tree.get(id) {
            Some(node) if !node.is_dir() => return Err(Errno::NOTDIR.into()),
            Some(_) => tree.is_empty_directory(index, id),
            None => {
                let row = self.numbers.row_of(id).ok_or(Errno::STALE)?;
                if !index.inode(row).ok_or(Errno::STALE)?.is_dir() {
                    return Err(Errno::NOTDIR.into());
                }
                index
                    .entries(row, 0)
                    .all(|entry| entry.child == layerfmt::DirentTarget::Whiteout)
            }
        };
        if empty {
            Ok(())
        } else {
            Err(Errno::NOTEMPTY.into())
        }
    }

    /// Empties the upper's part of the directory `id`, which has no visible names.
    pub(super) fn clear_directory(&self, tree: &mut Tree, id: NodeId) -> Result<()> {
        let upper = self.upper()?;
        let directory = self.directory(tree, id)?;
        upper.set_opaque(&At::Open(Arc::clone(&directory)))?;
        let node = tree.get_mut(id).ok_or(Errno::STALE)?;
        node.row = None;
        let names: Vec<Name> = node
            .listing
            .iter()
            .filter(|(_, entry)| **entry == Entry::Whiteout)
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in names {
            LayerFs::remove_name(&directory, &name)?;
            if let Some(node) = tree.get_mut(id) {
                node.listing.clear(&name);
            }
        }
        Ok(())
    }
}

/// True if few descriptors are left: long-lived descriptors are then avoided.
fn is_among_the_last(fd: &OwnedFd) -> bool {
    let number = u64::try_from(fd.as_raw_fd()).unwrap_or(0);
    number >= process::descriptor_limit() / 4 * 3
}
