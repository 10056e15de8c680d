//! Directories that are not at their place in the lower. A search for a lower object by its row
//! must find a moved directory, even if it was not looked up since the mount: the upper is searched
//! for them once, at the first need, and from then on they keep their nodes.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};

use super::LayerFs;
use super::reply::ROOT_ID;
use super::tree::{Name, Tree};
use crate::error::Result;
use crate::sys::{Errno, directory};

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl LayerFs {
    /// Make nodes of all directories of the upper that were moved. False: that was done before.
    pub(super) fn find_moved(&self, tree: &mut Tree) -> Result<bool> {
        if tree.moved_are_known {
            return Ok(false);
        }
        for path in self.redirected()? {
            let mut at = Some(ROOT_ID);
            for name in &path {
                let Some(dir) = at else { break };
                at = self.visible(tree, dir, name)?;
            }
            if let Some(node) = at.and_then(|id| tree.get_mut(id)) {
                node.moved = node.is_dir() && node.row.is_some();
            }
        }
        tree.moved_are_known = true;
        Ok(true)
    }

    /// The paths in the upper of all directories with a redirect. One descriptor, however deep they are.
    fn redirected(&self) -> Result<Vec<Vec<Name>>> {
        let upper = self.upper()?;
        let (mut found, mut path): (_, Vec<Name>) = (Vec::new(), Vec::new());
        let mut here = rustix::fs::openat(upper.root(), c".", OPEN, Mode::empty())?;
        let mut left = vec![subdirectories(&here)?];
        while let Some(level) = left.last_mut() {
            let Some(name) = level.pop() else {
                left.pop();
                if path.pop().is_some() {
                    here = rustix::fs::openat(&here, c"..", OPEN, Mode::empty())?;
                }
                continue;
            };
            match rustix::fs::openat(&here, &name[..], OPEN, Mode::empty()) {
                Ok(child) => here = child,
                // In an ordinary user's mount, unreadable for its owner.
                Err(Errno::NOTDIR | Errno::NOENT | Errno::ACCESS) => continue,
                Err(errno) => return Err(errno.into()),
            }
            path.push(name);
            match rustix::fs::fgetxattr_query(&here, &upper.marks.redirect[..]) {
                Ok(_) => found.push(path.clone()),
                Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno.into()),
            }
            left.push(subdirectories(&here)?);
        }
        Ok(found)
    }
}

/// The names in `directory` that may be directories.
fn subdirectories(directory: &OwnedFd) -> Result<Vec<Name>> {
    let mut names = directory::list(directory.as_fd())?;
    names.retain(|entry| matches!(entry.kind, FileType::Directory | FileType::Unknown));
    Ok(names
        .into_iter()
        .map(|entry| Arc::from(entry.name))
        .collect())
}
