//! Protected objects (chattr +i, +a): nobody, not even root, changes them until the flag is
//! removed. Stored as by kernel overlayfs, in `trusted.overlay.protattr`. The kernel asks FUSE for
//! these flags and checks the permission to set them, but does not enforce them; this module does.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::XattrFlags;

use super::LayerFs;
use super::copy_data::gone;
use super::reply::{Changes, DIRECTORY, NewTime, NodeId, REGULAR};
use super::tree::{Node, Tree};
use crate::error::Result;
use crate::sys::Errno;

/// The chattr flags of an object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Protection {
    /// Fully protected (`chattr +i`).
    pub immutable: bool,
    /// It only grows (`chattr +a`).
    pub append_only: bool,
}

impl Protection {
    /// Parses the value of the attribute; unknown letters are ignored.
    pub(super) fn from_letters(letters: &[u8]) -> Protection {
        Protection {
            immutable: letters.contains(&b'i'),
            append_only: letters.contains(&b'a'),
        }
    }

    fn letters(self) -> Vec<u8> {
        let all = [(self.append_only, b'a'), (self.immutable, b'i')];
        let set = all.iter().filter(|(set, _)| *set);
        set.map(|(_, letter)| *letter).collect()
    }

    fn is_any(self) -> bool {
        self != Protection::default()
    }
}

/// EPERM if so.
fn refuse(protected: bool) -> Result<()> {
    if protected {
        Err(Errno::PERM.into())
    } else {
        Ok(())
    }
}

fn of(tree: &Tree, id: NodeId) -> Protection {
    tree.get(id).map(|node| node.protection).unwrap_or_default()
}

/// Only the data of `id` may change, not its attributes or names.
pub(super) fn keeps_itself(tree: &Tree, id: NodeId) -> Result<()> {
    refuse(of(tree, id).is_any())
}

/// Directory `id` gets a name.
pub(super) fn gets_name(tree: &Tree, id: NodeId) -> Result<()> {
    refuse(of(tree, id).immutable)
}

/// Directory `parent` loses its name of `id`.
pub(super) fn loses_name(tree: &Tree, parent: NodeId, id: NodeId) -> Result<()> {
    keeps_itself(tree, parent)?;
    keeps_itself(tree, id)
}

/// An object moves to another directory, possibly replacing one there.
pub(super) fn renames(
    tree: &Tree,
    from: (NodeId, NodeId),
    to: (NodeId, Option<NodeId>),
) -> Result<()> {
    loses_name(tree, from.0, from.1)?;
    match to.1 {
        Some(replaced) => loses_name(tree, to.0, replaced),
        None => gets_name(tree, to.0),
    }
}

/// `changes` are applied to `id`. A user with write permission may set the time to the present,
/// also of an append-only file.
pub(super) fn takes(tree: &Tree, id: NodeId, changes: &Changes) -> Result<()> {
    let protection = of(tree, id);
    let exact = |time: Option<NewTime>| matches!(time, Some(NewTime::Exactly(_)));
    let owner = changes.mode.is_some() || changes.uid.is_some() || changes.gid.is_some();
    let own = owner || changes.size.is_some() || exact(changes.atime) || exact(changes.mtime);
    refuse(protection.immutable || (protection.append_only && own))
}

impl LayerFs {
    /// The flags of `id`.
    ///
    /// # Errors
    /// ENOTTY for an object that is neither a file nor a directory.
    pub fn protection(&self, id: NodeId) -> Result<Protection> {
        if !matches!(self.getattr(id)?.kind(), REGULAR | DIRECTORY) {
            return Err(Errno::NOTTY.into());
        }
        Ok(of(&self.read_tree(), id))
    }

    /// Changes the flags of `id`.
    ///
    /// # Errors
    /// EROFS without an upper, or the error of the upper's file system.
    pub fn protect(&self, id: NodeId, protection: Protection) -> Result<()> {
        if self.protection(id)? == protection {
            return Ok(());
        }
        self.with_descriptors(|| self.protect_once(id, protection))
    }

    fn protect_once(&self, id: NodeId, protection: Protection) -> Result<()> {
        let upper = self.upper()?;
        let mut tree = self.write_tree();
        self.copy_up(&mut tree, id)?;
        let node = tree.get(id).ok_or(Errno::STALE)?;
        let at = self.at(&tree, id, node)?;
        let name = &upper.marks.protection;
        match protection.is_any() {
            true => at.set_xattr(name, &protection.letters(), XattrFlags::empty())?,
            false => gone(at.remove_xattr(name))?,
        }
        self.forget_change_time(node, &at);
        drop(at);
        if let Some(node) = tree.get_mut(id) {
            node.protection = protection;
        }
        drop(tree);
        // Writes to an open file are not checked again.
        self.drop_file(id);
        Ok(())
    }

    /// True if writes to `id` may only append.
    ///
    /// # Errors
    /// EPERM if no write is allowed.
    pub(super) fn only_grows(&self, id: NodeId) -> Result<bool> {
        let protection = of(&self.read_tree(), id);
        refuse(protection.immutable)?;
        Ok(protection.append_only)
    }

    /// Caches the open file of `id`, unless it is protected: then each request must check.
    pub(super) fn keep_unprotected(&self, node: &Node, id: NodeId, file: &Arc<OwnedFd>) {
        if !node.protection.is_any() {
            self.keep_file(id, file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_as_overlayfs_writes_them() {
        for (immutable, append_only, letters) in [
            (false, false, &b""[..]),
            (true, false, b"i"),
            (false, true, b"a"),
            (true, true, b"ai"),
        ] {
            let protection = Protection {
                immutable,
                append_only,
            };
            assert_eq!(protection.letters(), letters);
            assert_eq!(Protection::from_letters(letters), protection);
        }
        assert!(!Protection::from_letters(b"xyz").is_any());
    }
}
