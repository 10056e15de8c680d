//! Attributes: reading and changing them, and statfs.

use layerfmt::{Ino, ROOT};
use rustix::fs::{Timespec, Timestamps};

use super::copy_data::{Kept, mtime_of};
use super::far::Stop;
use super::reply::{
    Attr, Caller, Changes, NewTime, NodeId, REGULAR, SGID, SUID, SYMLINK, Space, TYPE_MASK,
    lower_id,
};
use super::tree::{Node, Tree};
use super::xattr::is_in_group;
use super::{LayerFs, lock, protection};
use crate::error::Result;
use crate::lower::Lower;
use crate::sys::Errno;
use crate::sys::object::At;

/// Block size in statfs for a mount without an upper, bytes.
const BLOCK_LEN: u32 = 4096;
/// Execute by group: without it set-group-ID is not a privilege.
const GROUP_EXECUTE: u32 = 0o010;

/// The attributes of row `row` in a revision.
pub(super) fn attr_of(lower: &Lower, row: Ino) -> Option<Attr> {
    let inode = lower.index.inode(row)?;
    let mtime = (inode.mtime.sec, inode.mtime.nsec);
    let blocks = if inode.is_file() {
        lower.blocks(row, inode.size)
    } else {
        0
    };
    Some(Attr {
        ino: lower_id(row),
        size: inode.size,
        blocks,
        atime: mtime,
        mtime,
        ctime: mtime,
        mode: inode.mode,
        nlink: inode.nlink,
        uid: inode.uid,
        gid: inode.gid,
        rdev: inode.rdev,
        generation: match row {
            ROOT => 0,
            row => lower.generation(row),
        },
    })
}

impl LayerFs {
    /// The attributes of row `row` as the lower has them.
    pub(super) fn lower_attr(&self, row: Ino) -> Option<Attr> {
        attr_of(&self.lower(), row)
    }

    /// The attributes of `id`.
    pub(super) fn attr(&self, tree: &Tree, id: NodeId) -> Result<Attr> {
        match tree.get(id) {
            None => self
                .numbers
                .row_of(id)
                .and_then(|row| self.lower_attr(row))
                .ok_or(Errno::STALE.into()),
            Some(node) => self.node_attr(tree, id, node),
        }
    }

    fn node_attr(&self, tree: &Tree, id: NodeId, node: &Node) -> Result<Attr> {
        if !node.in_upper {
            let attr = self
                .numbers
                .row_of(id)
                .and_then(|row| self.lower_attr(row))
                .ok_or(Errno::STALE)?;
            return Ok(Attr { nlink: 0, ..attr });
        }
        let open = match node.is_dir() {
            true => lock(&self.directories).get(id),
            false => self.open_file(id),
        };
        let stat = match open {
            Some(open) => rustix::fs::fstat(&open)?,
            None => self.at(tree, id, node)?.stat()?,
        };
        let mut attr = Attr::from_stat(id, &stat);
        attr.generation = self.generation(id, Some(node));
        if node.is_dir() {
            // The upper's size of a directory changes by every copy-up below it.
            if let Some(lower) = node.row.and_then(|row| self.lower_attr(row)) {
                (attr.size, attr.blocks) = (lower.size, lower.blocks);
            }
            let gone = node.names.is_empty() && id != super::ROOT_ID;
            attr.nlink = if gone {
                0
            } else {
                node.listing.subdirectories.saturating_add(2)
            };
        } else if let Some(row) = node.row {
            // The data is the lower's, and so is its length, whatever it was when the copy was made.
            let lower = self.lower();
            attr.size = lower.index.inode(row).map_or(attr.size, |inode| inode.size);
            attr.blocks = lower.blocks(row, attr.size);
        }
        if let Some(kept) = lock(&node.kept).as_ref() {
            attr.mtime = (
                kept.mtime.tv_sec,
                u32::try_from(kept.mtime.tv_nsec).unwrap_or(0),
            );
        }
        if !node.is_dir() && node.names.is_empty() && node.aside.is_some() {
            attr.nlink = attr.nlink.saturating_sub(1);
        }
        node.show_change_time(&mut attr);
        if let Some(device) = node.device {
            attr.rdev = device;
        }
        Ok(attr)
    }

    /// stat(2) of a node.
    ///
    /// # Errors
    /// ESTALE for an unknown number, or the error of the upper's file system.
    pub fn getattr(&self, id: NodeId) -> Result<Attr> {
        if self.upper.is_none() {
            return self
                .numbers
                .row_of(id)
                .and_then(|row| self.lower_attr(row))
                .ok_or(Errno::STALE.into());
        }
        self.attr(&self.read_tree(), id)
    }

    /// Changes attributes; copies only metadata up.
    ///
    /// # Errors
    /// Data to be copied up is remote; EROFS without an upper, or the error of the upper's file
    /// system.
    pub fn setattr(
        &self,
        id: NodeId,
        changes: &Changes,
        caller: Caller,
    ) -> std::result::Result<Attr, Stop> {
        self.with_descriptors(|| self.setattr_once(id, changes, caller))
    }

    fn setattr_once(
        &self,
        id: NodeId,
        changes: &Changes,
        caller: Caller,
    ) -> std::result::Result<Attr, Stop> {
        self.upper()?;
        let known = {
            let tree = self.read_tree();
            protection::takes(&tree, id, changes)?;
            tree.get(id).is_some_and(|node| node.in_upper)
        };
        if let Some(size) = changes.size {
            let _data = self.data_lock(id)?;
            self.truncate(id, size)?;
        } else if !known {
            self.copy_up(&mut self.write_tree(), id)?;
        }
        Ok(self.change_attributes(id, changes, caller)?)
    }

    /// Applies all changes except that of the size, which is complete.
    fn change_attributes(&self, id: NodeId, changes: &Changes, caller: Caller) -> Result<Attr> {
        let tree = self.read_tree();
        let node = tree.get(id).ok_or(Errno::STALE)?;
        let at = self.at(&tree, id, node)?;
        let chowned = changes.uid.is_some() || changes.gid.is_some();
        let changed = changes.size.is_some() || chowned;
        if changed && changes.mode.is_none() && caller.uid != 0 {
            drop_privileges(&at, caller)?;
        }
        if chowned {
            at.chown(changes.uid, changes.gid)?;
        }
        if let Some(mode) = changes.mode {
            if node.kind == SYMLINK {
                return Err(Errno::OPNOTSUPP.into());
            }
            at.chmod(mode)?;
        }
        if changes.atime.is_some() || changes.mtime.is_some() {
            let mut kept = lock(&node.kept);
            at.set_times(&Timestamps {
                last_access: timespec(changes.atime),
                last_modification: timespec(changes.mtime),
            })?;
            if let Some((kept, mtime)) = kept.as_mut().zip(changes.mtime) {
                let now = Kept {
                    mtime: match mtime {
                        NewTime::Now => mtime_of(&at.stat()?),
                        NewTime::Exactly(_) => timespec(changes.mtime),
                    },
                    ..(**kept).clone()
                };
                now.write_note(&self.upper()?.marks, &at)?;
                **kept = now;
            }
        }
        self.forget_change_time(node, &at);
        self.node_attr(&tree, id, node)
    }

    /// A write by an unprivileged user clears set-user-ID and set-group-ID.
    pub(super) fn drop_privileges(&self, id: NodeId, caller: Caller) -> Result<()> {
        let tree = self.read_tree();
        let node = tree.get(id).ok_or(Errno::STALE)?;
        drop_privileges(&self.at(&tree, id, node)?, caller)
    }

    /// statfs(2).
    ///
    /// # Errors
    /// The error of the upper's file system.
    pub fn statfs(&self) -> Result<Space> {
        let Some(upper) = &self.upper else {
            let files = u64::from(self.lower().object_count());
            return Ok(Space {
                files,
                block_len: BLOCK_LEN,
                fragment_len: BLOCK_LEN,
                name_len_max: 255,
                ..Space::default()
            });
        };
        let stat = rustix::fs::fstatvfs(upper.root())?;
        let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Space {
            blocks: stat.f_blocks,
            free: stat.f_bfree,
            available: stat.f_bavail,
            files: stat.f_files,
            files_free: stat.f_ffree,
            block_len: short(stat.f_bsize),
            fragment_len: short(stat.f_frsize),
            name_len_max: short(stat.f_namemax),
        })
    }
}

/// Clears set-user-ID and set-group-ID. Members of the group keep set-group-ID if the group cannot execute the
/// file.
fn drop_privileges(at: &At<'_>, caller: Caller) -> Result<()> {
    let stat = at.stat()?;
    let mode = stat.st_mode;
    if mode & TYPE_MASK != REGULAR || mode & (SUID | SGID) == 0 || caller.is_root() {
        return Ok(());
    }
    let mut left = mode & !SUID;
    if mode & SGID != 0 && (mode & GROUP_EXECUTE != 0 || !is_in_group(caller, stat.st_gid)) {
        left &= !SGID;
    }
    if left != mode {
        at.chmod(left)?;
    }
    Ok(())
}

fn timespec(time: Option<NewTime>) -> Timespec {
    match time {
        None => Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        Some(NewTime::Now) => Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        },
        Some(NewTime::Exactly((sec, nsec))) => Timespec {
            tv_sec: sec,
            tv_nsec: nsec.into(),
        },
    }
}
