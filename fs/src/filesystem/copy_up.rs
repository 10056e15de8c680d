//! Copy-up: turns a lower object into an object of the upper. The metadata is copied first, staged
//! in the work directory and published by a rename; the data of a file follows at the first write.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use layerfmt::{Ino, Inode};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags, makedev,
};

use super::LayerFs;
use super::change_time::ChangeTime;
use super::copy_data::mtime_of;
use super::reply::{BLOCK, CHARACTER, DIRECTORY, FIFO, NodeId, REGULAR, ROOT_ID, SOCKET, SYMLINK};
use super::tree::{Name, Node, Tree, Visible};
use crate::error::Result;
use crate::names::Names;
use crate::sys::object::At;
use crate::sys::{self, Errno};
use crate::upper::Upper;
use crate::upper::marks;

/// Minor number (major 0) of the node that represents a device 0:0, which would be a whiteout.
const STAND_IN_MINOR: u32 = 1;

impl LayerFs {
    /// Ensures that `id` is in the upper, with all its parents and, if it is a lower hard link,
    /// under all its names.
    pub(super) fn copy_up(&self, tree: &mut Tree, id: NodeId) -> Result<()> {
        let upper = self.upper()?;
        match tree.get(id) {
            Some(node) if node.in_upper => return Ok(()),
            Some(_) => return self.copy_up_nameless(tree, id),
            None => {}
        }
        let row = self.numbers.row_of(id).ok_or(Errno::STALE)?;
        let inode = self.lower().index.inode(row).ok_or(Errno::STALE)?;
        let places = self.shown_places(tree, row)?;
        if places.is_empty() {
            // A switch may have taken its name while it was being looked up.
            let is_nameless = self.lower().names().places(row).next().is_none();
            if !is_nameless || !self.is_known(tree, id) {
                return Err(Errno::STALE.into());
            }
            self.orphan_lower(tree, id, inode.kind());
            return self.copy_up_nameless(tree, id);
        }
        let linked = places.len() > 1;
        for (parent, _) in &places {
            self.copy_up(tree, *parent)?;
        }
        let staged = if linked {
            upper.work.links_name(self.lower().origins.own_row(row))
        } else {
            upper.work.name()
        };
        let number = match self.stage(upper, row, &inode, &staged) {
            Ok(number) => number,
            Err(error) => {
                let _ = upper.work.remove_all(&staged);
                return Err(error);
            }
        };
        let published = self.publish(tree, upper, &staged, &places, linked);
        if published.is_err() || linked {
            let _ = upper.work.remove_all(&staged);
        }
        published?;
        let has_data_below = inode.is_file() && inode.size > 0;
        let mut node = Node {
            kind: inode.kind(),
            names: places.clone(),
            in_upper: true,
            row: (inode.is_dir() || has_data_below).then_some(row),
            number,
            change_time: Some(Box::new(lower_change_time(&inode))).into(),
            ..Node::default()
        };
        node.listing.subdirectories = inode.nlink.saturating_sub(2);
        tree.insert(id, node);
        for (parent, name) in &places {
            tree.name_object(&self.lower().index, *parent, name, id, inode.kind());
        }
        Ok(())
    }

    /// The path of row `row` in the lower.
    fn shown_places(&self, tree: &mut Tree, row: Ino) -> Result<Vec<(NodeId, Name)>> {
        loop {
            let mut places: Vec<(NodeId, Name)> = Vec::new();
            let mut lost = false;
            let lower = self.lower();
            for place in lower.names().places(row) {
                let Some(parent) = self.locate(tree, place.dir)? else {
                    lost = true;
                    continue;
                };
                let name = Names::name(&lower.index, place);
                // Without making a node of an upper object there, which may be a copy of this one.
                let shown = match tree.get(parent) {
                    Some(_) => tree.visible(&self.lower().index, parent, name),
                    None => Some(Visible::Lower(row)),
                };
                if shown == Some(Visible::Lower(row)) {
                    places.push((parent, Arc::from(name)));
                }
            }
            // A directory with one of its names was removed, or was moved and not looked up since.
            if !lost || !self.find_moved(tree)? {
                return Ok(places);
            }
        }
    }

    /// Gives a staged object its names, all or none; the parents keep their times.
    fn publish(
        &self,
        tree: &Tree,
        upper: &Upper,
        staged: &[u8],
        places: &[(NodeId, Name)],
        link: bool,
    ) -> Result<()> {
        for (given, (parent, name)) in places.iter().enumerate() {
            let named = self.in_passing(tree, *parent, |directory| {
                if link {
                    let work = upper.work.directory();
                    rustix::fs::linkat(work, staged, directory, &name[..], AtFlags::empty())
                } else {
                    let flags = RenameFlags::NOREPLACE;
                    upper.work.put(staged, directory, name, flags)
                }
            });
            if let Err(error) = named {
                self.withdraw(tree, places.get(..given).unwrap_or_default());
                return Err(error);
            }
        }
        Ok(())
    }

    /// Removes names that were just given, so that the lower is visible again.
    fn withdraw(&self, tree: &Tree, places: &[(NodeId, Name)]) {
        for (parent, name) in places {
            let taken = self.in_passing(tree, *parent, |directory| {
                LayerFs::remove_name(directory, name)
            });
            if let Err(errno) = taken {
                let name = String::from_utf8_lossy(name);
                tracing::warn!(%name, %errno, "a name of a failed copy-up remains in the upper");
            }
        }
    }

    /// Runs `work` in the upper's directory `id`, which keeps its times.
    fn in_passing(
        &self,
        tree: &Tree,
        id: NodeId,
        work: impl Fn(&OwnedFd) -> sys::Result<()>,
    ) -> Result<()> {
        let directory = self.directory(tree, id)?;
        let before = rustix::fs::fstat(&directory)?;
        let at = At::Open(Arc::clone(&directory));
        if let Some(node) = tree.get(id) {
            self.keep_change_time(node, &at, &before, true)?;
        }
        at.as_owner(|| work(&directory))?;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: before.st_atime,
                tv_nsec: i64::try_from(before.st_atime_nsec).unwrap_or(0),
            },
            last_modification: mtime_of(&before),
        };
        Ok(rustix::fs::futimens(&directory, &times)?)
    }

    /// Creates an object with the metadata of row `row` in the work directory; returns its number
    /// in the upper.
    fn stage(&self, upper: &Upper, row: Ino, inode: &Inode, name: &[u8]) -> Result<u64> {
        let work = upper.work.directory();
        match inode.kind() {
            REGULAR => {
                let file = create_file(work, name, 0o600)?;
                if inode.size > 0 {
                    rustix::fs::ftruncate(&file, inode.size)?;
                }
                return self.apply_metadata(upper, &At::File(&file), row, inode);
            }
            DIRECTORY => rustix::fs::mkdirat(work, name, Mode::RWXU)?,
            SYMLINK => rustix::fs::symlinkat(self.lower().index.symlink(row), work, name)?,
            kind => make_special(upper, work, name, kind, 0o600, inode.rdev)?,
        }
        self.apply_metadata(upper, &At::Name(Arc::clone(work), name), row, inode)
    }

    /// Sets owner, attributes, permissions, marks and times of row `row`, in the necessary order;
    /// returns the object's number in the upper.
    fn apply_metadata(&self, upper: &Upper, at: &At<'_>, row: Ino, inode: &Inode) -> Result<u64> {
        let own = crate::sys::identity::own();
        if own != (inode.uid, inode.gid) {
            match at.chown(Some(inode.uid), Some(inode.gid)) {
                // In an ordinary user's mount, copied-up objects belong to the user.
                Err(Errno::PERM) if upper.marks.in_user_namespace() => {}
                other => other?,
            }
        }
        let lower = self.lower();
        for (name, value) in lower.index.xattrs(row) {
            let Some(stored) = upper.marks.stored_name(name) else {
                continue;
            };
            match at.set_xattr(&stored, value, XattrFlags::empty()) {
                Err(Errno::OPNOTSUPP) if !must_keep(name) => {}
                Err(Errno::PERM) if upper.marks.in_user_namespace() => {}
                other => other?,
            }
        }
        if inode.kind() != SYMLINK {
            at.chmod(inode.mode)?;
        }
        if inode.is_file() && inode.size > 0 {
            at.set_xattr(&upper.marks.metacopy, b"", XattrFlags::empty())?;
        }
        if !inode.is_dir() {
            match at.set_xattr(
                &upper.marks.origin,
                &self.lower().origins.origin(row),
                XattrFlags::empty(),
            ) {
                // user. attributes do not exist on links and devices: their numbers change when an
                // unprivileged mount is made again (SEMANTICS.md).
                Err(Errno::PERM | Errno::OPNOTSUPP) if upper.marks.in_user_namespace() => {}
                other => other?,
            }
        }
        if inode.is_dir() {
            // A directory is usually copied up because of an object below it; its time must not
            // change.
            let note = lower_change_time(inode).note();
            let _ = at.set_xattr(&upper.marks.change_time, &note, XattrFlags::empty());
        }
        let time = Timespec {
            tv_sec: inode.mtime.sec,
            tv_nsec: inode.mtime.nsec.into(),
        };
        at.set_times(&Timestamps {
            last_access: time,
            last_modification: time,
        })?;
        Ok(at.stat()?.st_ino)
    }

    /// Copies a lower object that lost its last name while it is open: the copy has no name either.
    fn copy_up_nameless(&self, tree: &mut Tree, id: NodeId) -> Result<()> {
        let upper = self.upper()?;
        let row = self.numbers.row_of(id).ok_or(Errno::STALE)?;
        let inode = self.lower().index.inode(row).ok_or(Errno::STALE)?;
        let staged = upper.work.name();
        let number = self.stage(upper, row, &inode, &staged);
        let at = At::Name(Arc::clone(upper.work.directory()), &staged);
        let opened = number.and_then(|number| {
            let fd = at.open(open_flags(inode.kind()))?;
            Ok((number, Arc::new(fd)))
        });
        let _ = upper.work.remove_all(&staged);
        let (number, fd) = opened?;
        let node = tree.get_mut(id).ok_or(Errno::STALE)?;
        node.in_upper = true;
        node.number = number;
        node.orphan = Some(fd);
        node.row = (inode.is_dir() || (inode.is_file() && inode.size > 0)).then_some(row);
        node.change_time = Some(Box::new(lower_change_time(&inode))).into();
        Ok(())
    }

    /// Completes the copy-up of hard links that a crash interrupted.
    pub(super) fn finish_links(&self) {
        let Some(upper) = &self.upper else { return };
        let mut tree = self.write_tree();
        for (own, staged) in &upper.work.unfinished_links {
            let row = self.lower().origins.here_row(*own);
            if let Err(errno) = self.finish_link(&mut tree, upper, row, staged) {
                tracing::warn!(row, %errno, "a hard link that a crash interrupted stays a separate file");
            }
            let _ = upper.work.remove_all(staged);
        }
    }

    fn finish_link(&self, tree: &mut Tree, upper: &Upper, row: Ino, staged: &[u8]) -> Result<()> {
        let at = At::Name(Arc::clone(upper.work.directory()), staged);
        let marked = upper.marks.read(&at, &self.lower().origins)?;
        if marked.origin != Some(row) {
            return Ok(());
        }
        for entry in self.shown_places(tree, row)? {
            let parent = entry.0;
            self.copy_up(tree, parent)?;
            self.publish(tree, upper, staged, std::slice::from_ref(&entry), true)?;
            tree.name_object(&self.lower().index, parent, &entry.1, 0, REGULAR);
        }
        Ok(())
    }

    /// Ensures that a moved or linked object still finds its lower object.
    pub(super) fn set_redirect(&self, tree: &mut Tree, id: NodeId) -> Result<()> {
        let Some(node) = tree.get(id).filter(|_| id != ROOT_ID) else {
            return Ok(());
        };
        let Some(row) = node.row else { return Ok(()) };
        let lower = self.lower();
        let path = lower.names().path(&lower.index, row);
        let at = self.at(tree, id, node)?;
        at.set_xattr(&self.upper()?.marks.redirect, &path, XattrFlags::empty())?;
        drop(at);
        if let Some(node) = tree.get_mut(id) {
            node.moved = node.is_dir();
        }
        Ok(())
    }
}

/// The change time of a lower object, which its copy keeps; for a directory it is noted in the
/// upper.
fn lower_change_time(inode: &Inode) -> ChangeTime {
    let time = (inode.mtime.sec, inode.mtime.nsec);
    ChangeTime {
        mtime: time,
        ctime: time,
        stored: inode.is_dir(),
    }
}

/// Attributes that carry rights: without them the copy must not be shown.
fn must_keep(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"system.posix_acl_")
}

/// Flags for opening an object of a kind that may lose its name.
pub(super) fn open_flags(kind: u32) -> OFlags {
    match kind {
        REGULAR => OFlags::RDWR | OFlags::NONBLOCK,
        DIRECTORY => OFlags::RDONLY | OFlags::DIRECTORY,
        _ => OFlags::PATH,
    }
}

/// A new regular file.
pub(super) fn create_file(dir: &OwnedFd, name: &[u8], mode: u32) -> sys::Result<OwnedFd> {
    rustix::fs::openat(
        dir,
        name,
        OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::from_raw_mode(mode & 0o7777),
    )
}

/// Creates a device, pipe or socket. A character device 0:0 gets a stand-in.
pub(super) fn make_special(
    upper: &Upper,
    dir: &Arc<OwnedFd>,
    name: &[u8],
    kind: u32,
    mode: u32,
    rdev: (u32, u32),
) -> Result<()> {
    let file_type = match kind {
        CHARACTER => FileType::CharacterDevice,
        BLOCK => FileType::BlockDevice,
        FIFO => FileType::Fifo,
        SOCKET => FileType::Socket,
        _ => return Err(Errno::INVAL.into()),
    };
    let stands_in = kind == CHARACTER && rdev == (0, 0);
    let device = match kind {
        CHARACTER if stands_in => makedev(0, STAND_IN_MINOR),
        CHARACTER | BLOCK => makedev(rdev.0, rdev.1),
        _ => 0,
    };
    rustix::fs::mknodat(
        dir,
        name,
        file_type,
        Mode::from_raw_mode(mode & 0o7777),
        device,
    )?;
    if stands_in {
        let at = At::Name(Arc::clone(dir), name);
        at.set_xattr(
            &upper.marks.device,
            &marks::encode_device(0, 0),
            XattrFlags::empty(),
        )?;
    }
    Ok(())
}
