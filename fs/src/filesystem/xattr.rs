//! Extended attributes. Attributes with which the upper records its state are hidden; a user's own
//! `overlay.` attributes are stored under another name, so that overlayfs can be mounted over a
//! layerfs.

use rustix::fs::XattrFlags;

use super::copy_data::{CAPABILITY, Kept, gone};
use super::reply::{Caller, NodeId, SGID};
use super::tree::Tree;
use super::{LayerFs, lock, protection};
use crate::error::Result;
use crate::sys::object::At;
use crate::sys::{self, Errno, process};

/// The attribute that adds to an object's permissions.
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
/// The attribute that gives new objects their permissions.
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

impl LayerFs {
    /// The value of attribute `name`.
    ///
    /// # Errors
    /// ENODATA if there is none by that name.
    pub fn getxattr(&self, id: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        let of_row = |row| {
            let lower = self.lower();
            lower
                .index
                .xattr(row, name)
                .map(<[u8]>::to_vec)
                .ok_or(Errno::NODATA)
        };
        let Some(upper) = &self.upper else {
            return Ok(of_row(self.numbers.row_of(id).ok_or(Errno::STALE)?)?);
        };
        let tree = self.read_tree();
        if name == CAPABILITY && is_incapable(&tree, id) {
            return Err(Errno::NODATA.into());
        }
        match self.upper_at(&tree, id)? {
            None => Ok(of_row(self.numbers.row_of(id).ok_or(Errno::STALE)?)?),
            Some(_) if name == CAPABILITY && is_copied(&tree, id) => tree
                .get(id)
                .and_then(|node| lock(&node.kept).as_ref()?.capability.clone())
                .ok_or(Errno::NODATA.into()),
            Some(at) => Ok(at.xattr(&upper.marks.stored_name(name).ok_or(Errno::NODATA)?)?),
        }
    }

    fn upper_at<'t>(&self, tree: &'t Tree, id: NodeId) -> Result<Option<At<'t>>> {
        match tree.get(id).filter(|node| node.in_upper) {
            None => Ok(None),
            Some(node) => self.at(tree, id, node).map(Some),
        }
    }

    /// The names of all attributes, each ended by a NUL.
    ///
    /// # Errors
    /// The error of the upper's file system.
    pub fn listxattr(&self, id: NodeId, caller: Caller) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        let mut add = |name: &[u8]| {
            if !name.starts_with(b"trusted.") || caller.is_root() {
                names.extend_from_slice(name);
                names.push(0);
            }
        };
        let tree = self.upper.as_ref().map(|_| self.read_tree());
        let at = match &tree {
            Some(tree) => self.upper_at(tree, id)?,
            None => None,
        };
        match (at, &self.upper) {
            (Some(at), Some(upper)) => {
                let names = at.xattr_names()?;
                let lost = tree
                    .as_ref()
                    .is_some_and(|tree| has_kept_capability(tree, id));
                if lost && !names.iter().any(|name| name == CAPABILITY) {
                    add(CAPABILITY);
                }
                for stored in names {
                    if let Some(shown) = upper.marks.shown_name(&stored) {
                        add(&shown);
                    }
                }
            }
            _ => {
                let lower = self.lower();
                let row = self.numbers.row_of(id).ok_or(Errno::STALE)?;
                for (name, _) in lower.index.xattrs(row) {
                    add(name);
                }
            }
        }
        Ok(names)
    }

    /// Sets attribute `name`.
    ///
    /// # Errors
    /// EPERM for names that are ours.
    pub fn setxattr(
        &self,
        id: NodeId,
        name: &[u8],
        value: &[u8],
        flags: u32,
        caller: Caller,
    ) -> Result<()> {
        let flags = XattrFlags::from_bits_retain(flags);
        let outside = name == ACCESS_ACL && !is_in_group(caller, self.getattr(id)?.gid);
        self.change_xattr(id, name, Some(value), flags, |at, stored| {
            at.set_xattr(stored, value, flags)?;
            let mode = if outside { at.stat()?.st_mode } else { 0 };
            if mode & SGID == 0 {
                return Ok(());
            }
            at.chmod(mode & !SGID)
        })
    }

    /// Removes attribute `name`.
    ///
    /// # Errors
    /// ENODATA if there is none by that name.
    pub fn removexattr(&self, id: NodeId, name: &[u8]) -> Result<()> {
        if matches!(self.getxattr(id, name), Err(error) if error == Errno::NODATA) {
            return Err(Errno::NODATA.into());
        }
        let none = XattrFlags::empty();
        self.change_xattr(id, name, None, none, |at, stored| at.remove_xattr(stored))
    }

    fn change_xattr(
        &self,
        id: NodeId,
        name: &[u8],
        value: Option<&[u8]>,
        flags: XattrFlags,
        change: impl Fn(&At<'_>, &[u8]) -> sys::Result<()>,
    ) -> Result<()> {
        self.with_descriptors(|| self.change_xattr_once(id, name, value, flags, &change))
    }

    fn change_xattr_once(
        &self,
        id: NodeId,
        name: &[u8],
        value: Option<&[u8]>,
        flags: XattrFlags,
        change: &impl Fn(&At<'_>, &[u8]) -> sys::Result<()>,
    ) -> Result<()> {
        let stored = self.upper()?.marks.stored_name(name).ok_or(Errno::PERM)?;
        let mut tree = self.write_tree();
        protection::keeps_itself(&tree, id)?;
        self.copy_up(&mut tree, id)?;
        if name == CAPABILITY
            && let Some(node) = tree.get_mut(id)
        {
            node.incapable = false;
        }
        let at = self.upper_at(&tree, id)?.ok_or(Errno::STALE)?;
        if name == CAPABILITY && is_copied(&tree, id) {
            self.change_kept(&tree, id, &at, value, flags)?;
        } else {
            change(&at, &stored)?;
        }
        self.changed(&tree, id, &at);
        drop(at);
        if name == DEFAULT_ACL
            && let Some(node) = tree.get_mut(id)
        {
            node.listing.default_acl = None;
        }
        Ok(())
    }

    /// Changes the capabilities of a file whose data is being copied: the copy may remove them from
    /// the file at any time.
    fn change_kept(
        &self,
        tree: &Tree,
        id: NodeId,
        at: &At<'_>,
        value: Option<&[u8]>,
        flags: XattrFlags,
    ) -> Result<()> {
        let node = tree.get(id).ok_or(Errno::STALE)?;
        let mut kept = lock(&node.kept);
        let kept = kept.as_mut().ok_or(Errno::STALE)?;
        match (value, kept.capability.is_some()) {
            (Some(_), true) if flags.contains(XattrFlags::CREATE) => {
                return Err(Errno::EXIST.into());
            }
            (Some(_), false) if flags.contains(XattrFlags::REPLACE) => {
                return Err(Errno::NODATA.into());
            }
            (None, false) => return Err(Errno::NODATA.into()),
            _ => {}
        }
        match value {
            // The kernel checks the value.
            Some(value) => at.set_xattr(CAPABILITY, value, XattrFlags::empty())?,
            None => gone(at.remove_xattr(CAPABILITY))?,
        }
        let now = Kept {
            capability: value.map(<[u8]>::to_vec),
            ..(**kept).clone()
        };
        now.write_note(&self.upper()?.marks, at)?;
        **kept = now;
        Ok(())
    }

    /// True if new objects in `parent`, which is in the tree, get permissions from a default ACL.
    pub(super) fn has_default_acl(&self, tree: &mut Tree, parent: NodeId) -> Result<bool> {
        if let Some(known) = tree.get(parent).and_then(|node| node.listing.default_acl) {
            return Ok(known);
        }
        let directory = self.directory(tree, parent)?;
        let has = rustix::fs::fgetxattr_query(&directory, DEFAULT_ACL).is_ok_and(|len| len > 0);
        if let Some(node) = tree.get_mut(parent) {
            node.listing.default_acl = Some(has);
        }
        Ok(has)
    }
}

/// True if `id` is known to have no capabilities.
fn is_incapable(tree: &Tree, id: NodeId) -> bool {
    tree.get(id).is_some_and(|node| node.incapable)
}

/// True while the data of `id` is being copied.
fn is_copied(tree: &Tree, id: NodeId) -> bool {
    tree.get(id).is_some_and(|node| lock(&node.kept).is_some())
}

fn has_kept_capability(tree: &Tree, id: NodeId) -> bool {
    let kept = tree.get(id).map(|node| lock(&node.kept));
    kept.is_some_and(|kept| kept.as_ref().is_some_and(|kept| kept.capability.is_some()))
}

/// True if `caller` is root or belongs to group `gid`.
pub(super) fn is_in_group(caller: Caller, gid: u32) -> bool {
    let caller = caller.known();
    caller.uid == 0 || caller.gid == gid || process::groups_of(caller.pid).contains(&gid)
}
