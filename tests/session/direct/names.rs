//! Names that are made, removed and moved, in the order in which the kernel checks.

use std::path::Path;
use std::sync::Arc;

use layerfs::filesystem::Make;
use layerfs::filesystem::reply::ROOT_ID;

use super::nodes::Node;
use super::rights::wanted;
use super::{Attr, DIRECTORY, Direct, Errno, New, RenameFlags, Result, TYPE};

fn is_directory(about: &Attr) -> bool {
    about.mode & TYPE == DIRECTORY
}

impl Direct {
    fn about(&self, node: &Node) -> Result<Attr> {
        Ok(self.fs()?.getattr(node.id)?)
    }

    /// MKNOD and MKDIR.
    pub(super) fn create(
        &self,
        parent: &Node,
        name: &[u8],
        mode: u32,
        rdev: (u32, u32),
    ) -> Result<Arc<Node>> {
        self.check_directory(&self.about(parent)?)?;
        let make = Make::Node {
            mode,
            umask: self.user.umask,
            rdev,
        };
        let fs = self.fs()?;
        let made = fs.make(parent.id, name, &make, self.caller())?;
        Ok(Node::made(&fs, made))
    }

    pub(super) fn make_name(&self, path: &Path, new: New<'_>) -> Result<()> {
        let linked = match new {
            New::Link(old) => Some(self.walk(old)?),
            _ => None,
        };
        let (parent, name) = self.parent(path)?;
        let _names = self.change_names();
        if self.look_up(&parent, name)?.is_some() {
            return Err(Errno::EXIST);
        }
        let fs = self.fs()?;
        let made = match (new, linked) {
            (New::Node(mode, rdev), _) => return self.create(&parent, name, mode, rdev).map(drop),
            (New::Symlink(target), _) => {
                self.check_directory(&self.about(&parent)?)?;
                fs.make(parent.id, name, &Make::Symlink { target }, self.caller())?
            }
            (New::Link(_), Some(old)) => {
                self.check_directory(&self.about(&parent)?)?;
                let about = self.about(&old)?;
                if is_directory(&about) {
                    return Err(Errno::PERM);
                }
                let _inode = self.change_inode(old.id);
                if about.nlink == 0 {
                    return Err(Errno::NOENT);
                }
                fs.link(old.id, parent.id, name)?
            }
            (New::Link(_), None) => return Err(Errno::NOENT),
        };
        drop(Node::looked_up(&fs, made));
        Ok(())
    }

    /// A name of `node` in `parent` may go (`may_delete`).
    fn may_go(&self, parent: &Attr, node: &Attr, directory: bool) -> Result<()> {
        self.check_directory(parent)?;
        self.check_sticky(parent, node)?;
        match (directory, is_directory(node)) {
            (true, false) => Err(Errno::NOTDIR),
            (false, true) => Err(Errno::ISDIR),
            _ => Ok(()),
        }
    }

    pub(super) fn remove_name(&self, path: &Path, directory: bool) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let _names = self.change_names();
        let node = self.look_up(&parent, name)?.ok_or(Errno::NOENT)?;
        self.may_go(&self.about(&parent)?, &self.about(&node)?, directory)?;
        let fs = self.fs()?;
        let removed = match directory {
            true => fs.rmdir(parent.id, name),
            false => fs.unlink(parent.id, name),
        };
        // The kernel caches no removed object that nobody has open.
        self.shared.memory.evict(node.id);
        Ok(removed?)
    }

    /// True if `above` is `node` or a directory above it.
    fn contains(&self, above: &Node, node: &Arc<Node>) -> Result<bool> {
        let mut at = Arc::clone(node);
        loop {
            if at.id == above.id {
                return Ok(true);
            }
            if at.id == ROOT_ID {
                return Ok(false);
            }
            at = self.above(&at)?;
        }
    }

    pub(super) fn rename_name(&self, from: &Path, to: &Path, flags: RenameFlags) -> Result<()> {
        let (exchange, whiteout) = (RenameFlags::EXCHANGE, RenameFlags::WHITEOUT);
        let exclusive = RenameFlags::NOREPLACE | whiteout;
        if flags.contains(exchange) && flags.intersects(exclusive) {
            return Err(Errno::INVAL);
        }
        let ((old_parent, old_name), (new_parent, new_name)) =
            (self.parent(from)?, self.parent(to)?);
        let _names = self.change_names();
        let source = self.look_up(&old_parent, old_name)?.ok_or(Errno::NOENT)?;
        let target = self.look_up(&new_parent, new_name)?;
        if flags.contains(RenameFlags::NOREPLACE) && target.is_some() {
            return Err(Errno::EXIST);
        }
        if flags.contains(exchange) && target.is_none() {
            return Err(Errno::NOENT);
        }
        let (old, new) = (self.about(&old_parent)?, self.about(&new_parent)?);
        let about = self.about(&source)?;
        if is_directory(&about) && self.contains(&source, &new_parent)? {
            return Err(Errno::INVAL);
        }
        if let Some(target) = &target
            && is_directory(&self.about(target)?)
            && self.contains(target, &old_parent)?
        {
            let swaps = flags.contains(exchange);
            return Err(if swaps { Errno::INVAL } else { Errno::NOTEMPTY });
        }
        if target.as_ref().is_some_and(|target| target.id == source.id) {
            return Ok(());
        }
        let moves = old_parent.id != new_parent.id;
        self.may_go(&old, &about, is_directory(&about))?;
        match &target {
            None => self.check_directory(&new)?,
            Some(target) => {
                let there = self.about(target)?;
                let directory = match flags.contains(exchange) {
                    true => is_directory(&there),
                    false => is_directory(&about),
                };
                self.may_go(&new, &there, directory)?;
                if flags.contains(exchange) && is_directory(&there) && moves {
                    self.check(&there, wanted(false, true, false))?;
                }
            }
        }
        if is_directory(&about) && moves {
            self.check(&about, wanted(false, true, false))?;
        }
        let (from, to) = ((old_parent.id, old_name), (new_parent.id, new_name));
        let renamed = self.fs()?.rename(from, to, flags);
        // A replaced object is a removed one.
        if let Some(target) = &target {
            self.shared.memory.evict(target.id);
        }
        Ok(renamed?)
    }
}
