//! Renames: one renameat2 in the upper publishes everything. A lower directory moves by a redirect,
//! never by copying its contents.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::RenameFlags;

use super::reply::{DIRECTORY, NodeId, REGULAR, ROOT_ID, TYPE_MASK};
use super::tree::{Entry, Name, Tree};
use super::{LayerFs, NAME_LEN_MAX, protection};
use crate::error::{Error, Result};
use crate::sys::Errno;

/// One end of a rename.
#[derive(Debug, Clone)]
struct End {
    parent: NodeId,
    name: Name,
}

/// The two ends of a rename after lookup and copy-up.
struct Move {
    from: End,
    to: End,
    id: NodeId,
    kind: u32,
    /// The object that the target name has now.
    replaced: Option<(NodeId, u32)>,
}

impl LayerFs {
    /// rename(2), with the flags of renameat2(2).
    ///
    /// # Errors
    /// The errors of rename(2).
    pub fn rename(
        &self,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        flags: RenameFlags,
    ) -> Result<()> {
        self.with_descriptors(|| self.rename_once(from, to, flags))
    }

    fn rename_once(
        &self,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        flags: RenameFlags,
    ) -> Result<()> {
        self.upper()?;
        if to.1.len() > NAME_LEN_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        let known = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE | RenameFlags::WHITEOUT;
        if !known.contains(flags) {
            return Err(Errno::INVAL.into());
        }
        let from = End {
            parent: from.0,
            name: Arc::from(from.1),
        };
        let to = End {
            parent: to.0,
            name: Arc::from(to.1),
        };
        let mut tree = self.write_tree();
        let id = self
            .visible(&mut tree, from.parent, &from.name)?
            .ok_or(Errno::NOENT)?;
        let target = self.visible(&mut tree, to.parent, &to.name)?;
        if flags.contains(RenameFlags::EXCHANGE) {
            let other = target.ok_or(Errno::NOENT)?;
            return self.exchange(&mut tree, (&from, id), (&to, other));
        }
        if flags.contains(RenameFlags::NOREPLACE) && target.is_some() {
            return Err(Errno::EXIST.into());
        }
        if target == Some(id) {
            return Ok(());
        }
        let kind = self.kind_of(&tree, id)?;
        let replaced = self.replaced(&tree, kind, target)?;
        let planned = Move {
            from,
            to,
            id,
            kind,
            replaced,
        };
        let stays = match flags.contains(RenameFlags::WHITEOUT) {
            true => Some(self.stage_user_whiteout()?),
            false => None,
        };
        let moved = self
            .prepare(&mut tree, &planned)
            .and_then(|()| self.carry_out(&mut tree, &planned));
        match (stays, moved) {
            (None, moved) => moved,
            (Some(staged), Ok(())) => {
                let End { parent, name } = &planned.from;
                self.put_user_whiteout(&mut tree, &staged, *parent, name)
            }
            (Some(staged), Err(errno)) => {
                let _ = self.upper()?.work.remove(&staged);
                Err(errno)
            }
        }
    }

    /// The object that a rename of an object of `kind` replaces, with its kind.
    fn replaced(
        &self,
        tree: &Tree,
        kind: u32,
        target: Option<NodeId>,
    ) -> Result<Option<(NodeId, u32)>> {
        let Some(other) = target else { return Ok(None) };
        let other_kind = self.kind_of(tree, other)?;
        match (kind == DIRECTORY, other_kind == DIRECTORY) {
            (true, false) => return Err(Errno::NOTDIR.into()),
            (false, true) => return Err(Errno::ISDIR.into()),
            (true, true) => self.expect_empty(tree, other)?,
            (false, false) => {}
        }
        Ok(Some((other, other_kind)))
    }

    fn kind_of(&self, tree: &Tree, id: NodeId) -> Result<u32> {
        match tree.get(id) {
            Some(node) => Ok(node.kind),
            None => {
                let row = self.numbers.row_of(id).ok_or(Errno::STALE)?;
                Ok(self.lower().index.inode(row).ok_or(Errno::STALE)?.mode & TYPE_MASK)
            }
        }
    }

    /// Makes the changes that are not visible yet: copy-ups and marks.
    fn prepare(&self, tree: &mut Tree, planned: &Move) -> Result<()> {
        let Move {
            from,
            to,
            id,
            kind,
            replaced,
        } = planned;
        let other = replaced.map(|(other, _)| other);
        protection::renames(tree, (from.parent, *id), (to.parent, other))?;
        self.copy_up(tree, *id)?;
        self.copy_up(tree, from.parent)?;
        self.copy_up(tree, to.parent)?;
        self.mark_for(tree, *id, *kind, to)?;
        if let Some((other, other_kind)) = replaced {
            let in_tree = tree.get(*other).is_some();
            if *other_kind == DIRECTORY && in_tree {
                self.clear_directory(tree, *other)?;
            }
            let linked = self
                .numbers
                .row_of(*other)
                .and_then(|row| self.lower().index.inode(row))
                .is_some_and(|inode| !inode.is_dir() && inode.nlink > 1);
            if !in_tree && linked {
                self.copy_up(tree, *other)?;
            }
        }
        Ok(())
    }

    /// Marks that preserve the identity of `id` under the name `to`.
    fn mark_for(&self, tree: &mut Tree, id: NodeId, kind: u32, to: &End) -> Result<()> {
        let node = tree.get(id).filter(|_| id != ROOT_ID).ok_or(Errno::BUSY)?;
        match (kind, node.row) {
            (DIRECTORY | REGULAR, Some(_)) => self.set_redirect(tree, id),
            (DIRECTORY, None)
                if tree
                    .in_lower(&self.lower().index, to.parent, &to.name)
                    .is_some() =>
            {
                Ok(self.upper()?.set_opaque(&self.at(tree, id, node)?)?)
            }
            _ => Ok(()),
        }
    }

    fn carry_out(&self, tree: &mut Tree, planned: &Move) -> Result<()> {
        let Move {
            from,
            to,
            id,
            kind,
            replaced,
        } = planned;
        let index = Arc::clone(&self.lower().index);
        let (source, target) = (
            self.directory(tree, from.parent)?,
            self.directory(tree, to.parent)?,
        );
        let hides = tree.in_lower(&index, from.parent, &from.name).is_some();
        let entry = tree
            .get(to.parent)
            .and_then(|node| node.listing.get(&to.name));
        let keep = match replaced {
            Some((other, other_kind)) => {
                self.keeper(tree, *other, *other_kind, (to.parent, &to.name))?
            }
            None => None,
        };
        let moved = if *kind == DIRECTORY && entry == Some(Entry::Whiteout) {
            let flags = RenameFlags::EXCHANGE;
            rustix::fs::renameat_with(&source, &from.name[..], &target, &to.name[..], flags)
                .and_then(|()| match hides {
                    true => Ok(()),
                    false => LayerFs::remove_name(&source, &from.name),
                })
                .map_err(Error::from)
        } else {
            self.move_name(&source, &from.name, &target, &to.name, hides)
        };
        if let Err(error) = moved {
            self.dismiss(keep);
            return Err(error);
        }
        tree.unname(&index, from.parent, &from.name);
        if let Some((other, other_kind)) = replaced {
            match (tree.get(*other).is_some(), *other_kind == DIRECTORY) {
                (true, true) => self.lose_directory(tree, *other, to.parent, &to.name, keep),
                (true, false) => self.lose_name(tree, *other, to.parent, &to.name, keep),
                (false, _) => self.orphan_lower(tree, *other, *other_kind),
            }
        }
        tree.name_object(&index, to.parent, &to.name, *id, *kind);
        self.rename_node(tree, *id, from, to);
        self.moved_or_less(tree, *id);
        if let Some((other, _)) = replaced {
            self.moved_or_less(tree, *other);
        }
        Ok(())
    }

    fn rename_node(&self, tree: &mut Tree, id: NodeId, from: &End, to: &End) {
        let Some(node) = tree.get_mut(id) else { return };
        node.names.retain(|(dir, name)| {
            (*dir, name) != (from.parent, &from.name) && (*dir, name) != (to.parent, &to.name)
        });
        node.names.push((to.parent, Arc::clone(&to.name)));
    }

    /// Moves a name of the upper; a whiteout stays behind if the lower has the old one.
    fn move_name(
        &self,
        source: &OwnedFd,
        old: &[u8],
        target: &OwnedFd,
        new: &[u8],
        hides: bool,
    ) -> Result<()> {
        let upper = self.upper()?;
        if !hides {
            let flags = RenameFlags::empty();
            return Ok(rustix::fs::renameat_with(source, old, target, new, flags)?);
        }
        if upper.renames_with_whiteout() {
            let flags = RenameFlags::WHITEOUT;
            return Ok(rustix::fs::renameat_with(source, old, target, new, flags)?);
        }
        // Without the kernel's help: the object is copied to its new name first, so that a crash
        // between the two leaves it visible under one name at least.
        rustix::fs::renameat_with(source, old, target, new, RenameFlags::empty())?;
        Ok(upper.make_whiteout(source, old)?)
    }

    fn exchange(&self, tree: &mut Tree, one: (&End, NodeId), two: (&End, NodeId)) -> Result<()> {
        let ((from, id), (to, other)) = (one, two);
        if id == other {
            return Ok(());
        }
        protection::renames(tree, (from.parent, id), (to.parent, Some(other)))?;
        let index = Arc::clone(&self.lower().index);
        for node in [id, other, from.parent, to.parent] {
            self.copy_up(tree, node)?;
        }
        let (kind, other_kind) = (self.kind_of(tree, id)?, self.kind_of(tree, other)?);
        self.mark_for(tree, id, kind, to)?;
        self.mark_for(tree, other, other_kind, from)?;
        let (source, target) = (
            self.directory(tree, from.parent)?,
            self.directory(tree, to.parent)?,
        );
        let flags = RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(&source, &from.name[..], &target, &to.name[..], flags)?;
        tree.name_object(&index, to.parent, &to.name, id, kind);
        tree.name_object(&index, from.parent, &from.name, other, other_kind);
        for (node, old, new) in [(id, from, to), (other, to, from)] {
            if let Some(node) = tree.get_mut(node) {
                node.names
                    .retain(|(dir, name)| (*dir, name) != (old.parent, &old.name));
                node.names.push((new.parent, Arc::clone(&new.name)));
            }
        }
        self.moved_or_less(tree, id);
        self.moved_or_less(tree, other);
        Ok(())
    }
}
