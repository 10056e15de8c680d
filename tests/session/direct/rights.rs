//! Permission checks of the kernel (`default_permissions`), without ACLs.

use super::{Attr, Changes, DIRECTORY, Direct, Errno, REGULAR, Result, SGID, TYPE, touches};

/// The permission bits that reading, writing and searching want.
pub(super) fn wanted(read: bool, write: bool, search: bool) -> u32 {
    u32::from(read) * 4 + u32::from(write) * 2 + u32::from(search)
}

impl Direct {
    fn is_root(&self) -> bool {
        self.user.uid == 0
    }

    fn is_in_group(&self, gid: u32) -> bool {
        self.user.gid == gid || self.user.groups.contains(&gid)
    }

    /// The caller may do this to an object.
    pub(super) fn check(&self, about: &Attr, wanted: u32) -> Result<()> {
        let shift = match () {
            () if self.is_root() => return Ok(()),
            () if about.uid == self.user.uid => 6,
            () if self.is_in_group(about.gid) => 3,
            () => 0,
        };
        match (about.mode >> shift) & wanted == wanted {
            true => Ok(()),
            false => Err(Errno::ACCESS),
        }
    }

    /// The object is the caller's.
    pub(super) fn check_owner(&self, about: &Attr) -> Result<()> {
        match self.is_root() || about.uid == self.user.uid {
            true => Ok(()),
            false => Err(Errno::PERM),
        }
    }

    /// Names in this directory may change.
    pub(super) fn check_directory(&self, about: &Attr) -> Result<()> {
        self.check(about, wanted(false, true, true))
    }

    /// A name of `about` in `directory` may go.
    pub(super) fn check_sticky(&self, directory: &Attr, about: &Attr) -> Result<()> {
        let sticky = directory.mode & 0o1000 != 0;
        match sticky && about.uid != self.user.uid {
            true => self.check_owner(directory),
            false => Ok(()),
        }
    }

    /// The changes as the kernel passes them on.
    pub(super) fn permitted(
        &self,
        about: &Attr,
        mut changes: Changes,
        by_name: bool,
    ) -> Result<Changes> {
        if let Some(mode) = &mut changes.mode {
            self.check_owner(about)?;
            *mode &= 0o7777;
            if !self.is_root() && !self.is_in_group(about.gid) {
                *mode &= !SGID;
            }
        }
        if changes.uid.is_some() || changes.gid.is_some() {
            let uid_stays = changes.uid.is_none_or(|uid| uid == about.uid);
            let gid_is_own = changes
                .gid
                .is_none_or(|gid| gid == about.gid || self.is_in_group(gid));
            let owner_may = uid_stays && gid_is_own && about.uid == self.user.uid;
            if !self.is_root() && !owner_may {
                return Err(Errno::PERM);
            }
        }
        if changes.size.is_some() && by_name {
            match about.mode & TYPE {
                REGULAR => self.check(about, wanted(false, true, false))?,
                DIRECTORY => return Err(Errno::ISDIR),
                _ => return Err(Errno::INVAL),
            }
        }
        if changes.atime.is_some() || changes.mtime.is_some() {
            let owner = self.check_owner(about);
            match touches(&changes) && owner.is_err() {
                true => self.check(about, wanted(false, true, false))?,
                false => owner?,
            }
        }
        Ok(changes)
    }

    /// The caller may read or change this attribute.
    pub(super) fn check_xattr(&self, about: &Attr, name: &str, change: bool) -> Result<()> {
        let space = name.split('.').next().unwrap_or_default();
        let forbidden = if change { Errno::PERM } else { Errno::NODATA };
        match space {
            "trusted" if !self.is_root() => Err(forbidden),
            "user" if !matches!(about.mode & TYPE, REGULAR | DIRECTORY) => Err(forbidden),
            "user" => self.check(about, wanted(!change, change, false)),
            "system" if change => self.check_owner(about),
            "security" if change && !self.is_root() => Err(Errno::PERM),
            _ => Ok(()),
        }
    }
}
