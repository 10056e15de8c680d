//! New objects and new names. An object appears atomically: created in place if the name is free,
//! created aside and moved if there is a whiteout.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Mode, RenameFlags, XattrFlags};

use super::copy_up::{create_file, make_special};
use super::reply::{
    Attr, CHARACTER, Caller, DIRECTORY, NodeId, REGULAR, ROOT_ID, SGID, SYMLINK, TYPE_MASK,
};
use super::tree::{Entry, Name, Node, Tree};
use super::{LayerFs, NAME_LEN_MAX, protection};
use crate::error::Result;
use crate::sys::object::At;
use crate::sys::{self, Errno, identity};
use crate::upper::Upper;

/// The attribute that gives new objects their permissions.
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// The kind of object to create.
#[derive(Debug, Clone, Copy)]
pub enum Make<'a> {
    /// A regular file, directory, device, pipe or socket.
    Node {
        /// Type and permission bits.
        mode: u32,
        /// The caller's mask.
        umask: u32,
        /// Major and minor of a device.
        rdev: (u32, u32),
    },
    /// A symbolic link.
    Symlink {
        /// Target of the link.
        target: &'a [u8],
    },
}

impl Make<'_> {
    fn kind(&self) -> u32 {
        match self {
            Make::Node { mode, .. } if mode & TYPE_MASK == 0 => REGULAR,
            Make::Node { mode, .. } => mode & TYPE_MASK,
            Make::Symlink { .. } => SYMLINK,
        }
    }
}

/// A directory for creating objects aside, with the inherited properties of the target directory.
struct Aside {
    directory: Arc<OwnedFd>,
    name: Box<[u8]>,
    /// The directory made for this, to be removed afterwards.
    nursery: Option<Box<[u8]>>,
}

impl LayerFs {
    /// Creates an object `name` in `parent`.
    ///
    /// # Errors
    /// EEXIST, or the error of the upper's file system.
    pub fn make(
        &self,
        parent: NodeId,
        name: &[u8],
        make: &Make<'_>,
        caller: Caller,
    ) -> Result<Attr> {
        self.with_descriptors(|| self.with_room(|| self.make_once(parent, name, make, caller)))
    }

    fn make_once(
        &self,
        parent: NodeId,
        name: &[u8],
        make: &Make<'_>,
        caller: Caller,
    ) -> Result<Attr> {
        let upper = self.upper()?;
        if name.len() > NAME_LEN_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        let mut tree = self.write_tree();
        protection::gets_name(&tree, parent)?;
        self.copy_up(&mut tree, parent)?;
        if tree.visible(&self.lower().index, parent, name).is_some() {
            return Err(Errno::EXIST.into());
        }
        let directory = self.directory(&tree, parent)?;
        let node = tree.get(parent).ok_or(Errno::STALE)?;
        if node.names.is_empty() && parent != ROOT_ID {
            return Err(Errno::NOENT.into());
        }
        let over_whiteout = node.listing.get(name) == Some(Entry::Whiteout);
        let inherits = self.has_default_acl(&mut tree, parent)?;
        let kind = make.kind();
        // A stand-in gets its mark before it is visible.
        let stands_in = matches!(make, Make::Node { rdev: (0, 0), .. }) && kind == CHARACTER;
        let opened = if over_whiteout || stands_in {
            let aside = self.make_aside(upper, &directory, inherits)?;
            let made = self
                .make_at(upper, &aside.directory, &aside.name, make, caller, inherits)
                .and_then(|file| {
                    self.publish_aside(upper, &aside, &directory, name, kind, over_whiteout)?;
                    Ok(file)
                });
            self.clear_aside(upper, &aside);
            made?
        } else {
            self.make_at(upper, &directory, name, make, caller, inherits)?
        };
        let at = match &opened {
            Some(file) => At::File(file),
            None => At::Name(directory, name),
        };
        let mut attr = self.first_attributes(&at)?;
        let (number, generation) = (attr.ino, attr.generation);
        let id = self.numbers.upper_id(number);
        attr.ino = id;
        let name: Name = Arc::from(name);
        let node = Node {
            kind,
            names: vec![(parent, Arc::clone(&name))],
            in_upper: true,
            number,
            generation,
            device: stands_in.then_some((0, 0)),
            // The object is new and ours: it can have inherited nothing but a default ACL.
            incapable: opened.is_some(),
            lookups: 1.into(),
            ..Node::default()
        };
        tree.insert(id, node);
        tree.name_object(&self.lower().index, parent, &name, id, kind);
        drop(tree);
        if let Some(file) = opened {
            self.keep_file(id, &Arc::new(file));
        }
        if kind == DIRECTORY {
            attr.nlink = 2;
        }
        if stands_in {
            attr.rdev = (0, 0);
        }
        Ok(attr)
    }

    /// Creates the object under `name` in `dir`; returns a regular file open.
    fn make_at(
        &self,
        upper: &Upper,
        dir: &Arc<OwnedFd>,
        name: &[u8],
        make: &Make<'_>,
        caller: Caller,
        inherits: bool,
    ) -> Result<Option<OwnedFd>> {
        let assumed = identity::assume(caller.uid, caller.gid);
        let mut opened = None;
        let mut bits = None;
        match make {
            Make::Symlink { target } => rustix::fs::symlinkat(*target, dir, name)?,
            Make::Node { mode, umask, rdev } => {
                let mode = if inherits {
                    mode & 0o7777
                } else {
                    mode & 0o7777 & !umask
                };
                bits = Some(mode);
                match make.kind() {
                    REGULAR => opened = Some(create_file(dir, name, mode)?),
                    DIRECTORY => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))?,
                    kind => make_special(upper, dir, name, kind, mode, *rdev)?,
                }
            }
        }
        let owns = assumed.owns;
        drop(assumed);
        if !owns {
            let at = At::Name(Arc::clone(dir), name);
            at.chown(Some(caller.uid), Some(caller.gid))?;
            if let Some(bits) = bits.filter(|bits| bits & 0o6000 != 0) {
                at.chmod(bits)?;
            }
        }
        Ok(opened)
    }

    /// The directory for creating objects that are then moved into `parent`, so that they inherit
    /// the group and the default ACL of `parent`.
    fn make_aside(&self, upper: &Upper, parent: &Arc<OwnedFd>, inherits: bool) -> Result<Aside> {
        let stat = rustix::fs::fstat(parent)?;
        let work = upper.work.directory();
        if !inherits && stat.st_mode & SGID == 0 {
            return Ok(Aside {
                directory: Arc::clone(work),
                name: upper.work.name(),
                nursery: None,
            });
        }
        let nursery = upper.work.name();
        rustix::fs::mkdirat(work, &nursery[..], Mode::RWXU)?;
        let at = At::Name(Arc::clone(work), &nursery);
        at.chown(None, Some(stat.st_gid))?;
        at.chmod(0o700 | (stat.st_mode & SGID))?;
        if inherits {
            let acl = At::Open(Arc::clone(parent)).xattr(DEFAULT_ACL)?;
            at.set_xattr(DEFAULT_ACL, &acl, XattrFlags::empty())?;
        }
        let directory = Arc::new(upper.open_directory(work, &nursery)?);
        Ok(Aside {
            directory,
            name: Box::from(&b"new"[..]),
            nursery: Some(nursery),
        })
    }

    /// Moves an object that was created aside to its name.
    fn publish_aside(
        &self,
        upper: &Upper,
        aside: &Aside,
        dir: &OwnedFd,
        name: &[u8],
        kind: u32,
        over_whiteout: bool,
    ) -> Result<()> {
        let flags = match (kind, over_whiteout) {
            (DIRECTORY, true) => {
                let at = At::Name(Arc::clone(&aside.directory), &aside.name);
                upper.set_opaque(&at)?;
                RenameFlags::EXCHANGE
            }
            (_, true) => RenameFlags::empty(),
            (_, false) => RenameFlags::NOREPLACE,
        };
        Ok(rustix::fs::renameat_with(
            &aside.directory,
            &aside.name[..],
            dir,
            name,
            flags,
        )?)
    }

    /// Removes leftovers: an exchanged whiteout, a failed object, the staging directory.
    fn clear_aside(&self, upper: &Upper, aside: &Aside) {
        let rest = aside.nursery.as_ref().unwrap_or(&aside.name);
        upper.clear_aside(rest);
    }

    /// Gives `id` another name.
    ///
    /// # Errors
    /// EEXIST, EMLINK, or the error of the upper's file system.
    pub fn link(&self, id: NodeId, parent: NodeId, name: &[u8]) -> Result<Attr> {
        self.with_descriptors(|| self.link_once(id, parent, name))
    }

    fn link_once(&self, id: NodeId, parent: NodeId, name: &[u8]) -> Result<Attr> {
        let upper = self.upper()?;
        if name.len() > NAME_LEN_MAX {
            return Err(Errno::NAMETOOLONG.into());
        }
        let mut tree = self.write_tree();
        protection::gets_name(&tree, parent)?;
        protection::keeps_itself(&tree, id)?;
        self.copy_up(&mut tree, parent)?;
        if tree.visible(&self.lower().index, parent, name).is_some() {
            return Err(Errno::EXIST.into());
        }
        self.copy_up(&mut tree, id)?;
        let node = tree.get(id).ok_or(Errno::STALE)?;
        if node.kind == REGULAR {
            self.set_redirect(&mut tree, id)?;
        }
        let node = tree.get(id).ok_or(Errno::STALE)?;
        let kind = node.kind;
        let directory = self.directory(&tree, parent)?;
        let listing = &tree.get(parent).ok_or(Errno::STALE)?.listing;
        let at = self.at(&tree, id, node)?;
        if listing.get(name) == Some(Entry::Whiteout) {
            let staged = upper.work.name();
            at.link(upper.work.directory(), &staged)?;
            let put = upper
                .work
                .put(&staged, &directory, name, RenameFlags::empty());
            if put.is_err() {
                let _ = upper.work.remove(&staged);
            }
            put?;
        } else {
            at.link(&directory, name)?;
        }
        self.changed(&tree, id, &at);
        drop(at);
        let name: Name = Arc::from(name);
        if let Some(node) = tree.get_mut(id) {
            node.names.push((parent, Arc::clone(&name)));
            node.orphan = None;
            if let Some(aside) = node.aside.take() {
                upper.clear_aside(&aside);
            }
        }
        tree.name_object(&self.lower().index, parent, &name, id, kind);
        self.looked_up(&tree, id)
    }

    /// Creates the user's device 0:0 of RENAME_WHITEOUT. It exists in the upper before the rename,
    /// because a completed rename must not fail for lack of space.
    pub(super) fn stage_user_whiteout(&self) -> Result<Box<[u8]>> {
        let upper = self.upper()?;
        let staged = upper.work.name();
        let made = make_special(upper, upper.work.directory(), &staged, CHARACTER, 0, (0, 0));
        if made.is_err() {
            let _ = upper.work.remove(&staged);
        }
        made.map(|()| staged)
    }

    /// Moves it to its name, which is free.
    pub(super) fn put_user_whiteout(
        &self,
        tree: &mut Tree,
        staged: &[u8],
        parent: NodeId,
        name: &Name,
    ) -> Result<()> {
        let upper = self.upper()?;
        let directory = self.directory(tree, parent)?;
        let put = upper
            .work
            .put(staged, &directory, name, RenameFlags::empty());
        if put.is_err() {
            let _ = upper.work.remove(staged);
        }
        put?;
        tree.name_object(&self.lower().index, parent, name, 0, CHARACTER);
        Ok(())
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// EINVAL if it is none.
    pub fn readlink(&self, id: NodeId) -> Result<Vec<u8>> {
        if self.upper.is_some() {
            let tree = self.read_tree();
            if let Some(node) = tree.get(id).filter(|node| node.in_upper) {
                return Ok(self.at(&tree, id, node)?.read_link()?);
            }
        }
        let row = self.numbers.row_of(id).ok_or(Errno::STALE)?;
        Ok(self.lower().index.symlink(row).to_vec())
    }

    /// Counts a lookup of `id` by an answer that already carries attributes.
    pub(super) fn count_lookup(&self, tree: &Tree, id: NodeId) {
        if let Some(count) = self.lookups(id, tree.get(id)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Removes `name` from `dir`, which contains nothing else.
    pub(super) fn remove_name(dir: &OwnedFd, name: &[u8]) -> sys::Result<()> {
        rustix::fs::unlinkat(dir, name, AtFlags::empty())
    }
}
