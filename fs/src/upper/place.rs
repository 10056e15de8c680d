//! The upper and its work directory, opened on a private clone of their mount if the kernel allows
//! it: access times then follow the options of the layerfs mount instead of those of the file
//! system's own mount.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::MountFlags;

use crate::sys::{Result, mounts};

/// A mount of our own with both directories.
#[derive(Debug)]
pub(super) struct OwnMount {
    /// Held open, because it is in no mount table.
    mount: OwnedFd,
    pub(super) upper: OwnedFd,
    pub(super) work: OwnedFd,
}

/// The state to keep while the directories are in use.
#[derive(Debug)]
pub(super) struct AccessTimes {
    mount: OwnedFd,
    /// The directories as they were given: the file system's own mount stays busy.
    _given: [OwnedFd; 2],
}

impl OwnMount {
    /// Opens `upper` and `work`, which are open as `given`, once more on a private mount. `None` if that is
    /// impossible.
    pub(super) fn new(upper: &Path, work: &Path, given: [&OwnedFd; 2]) -> Option<OwnMount> {
        let (upper, work) = (upper.canonicalize().ok()?, work.canonicalize().ok()?);
        let above = common(&upper, &work)?;
        let number = mounts::number_of(&above).ok()?;
        for path in [&upper, &work] {
            if mounts::number_of(path).ok()? != number {
                return None;
            }
        }
        let mount = mounts::another(&above).ok()?;
        let open = |path: &Path, given: &OwnedFd| {
            let inside = path.strip_prefix(&above).ok()?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(&mount, inside, flags, Mode::empty()).ok()?;
            same(&opened, given).then_some(opened)
        };
        let [given_upper, given_work] = given;
        let (upper, work) = (open(&upper, given_upper)?, open(&work, given_work)?);
        Some(OwnMount { mount, upper, work })
    }

    /// The directories, and the state of their access times.
    pub(super) fn split(self, given: [OwnedFd; 2]) -> (OwnedFd, OwnedFd, AccessTimes) {
        let times = AccessTimes {
            mount: self.mount,
            _given: given,
        };
        (self.upper, self.work, times)
    }
}

impl AccessTimes {
    /// Applies `flags` to them.
    pub(super) fn keep(&self, flags: MountFlags) -> Result<()> {
        mounts::keep_access_times(&self.mount, flags)
    }
}

/// The deepest directory above both.
fn common(one: &Path, two: &Path) -> Option<PathBuf> {
    let above = one
        .ancestors()
        .skip(1)
        .find(|above| two.starts_with(above))?;
    Some(above.to_owned())
}

/// True if both descriptors refer to one directory.
fn same(one: &OwnedFd, two: &OwnedFd) -> bool {
    let stat = |fd| rustix::fs::statat(fd, c"", AtFlags::EMPTY_PATH);
    match (stat(one), stat(two)) {
        (Ok(one), Ok(two)) => (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_directory_above_both() {
        let above = |one: &str, two: &str| common(one.as_ref(), two.as_ref());
        assert_eq!(above("/a/b/u", "/a/b/w"), Some("/a/b".into()));
        assert_eq!(above("/a/b/u/x", "/a/w"), Some("/a".into()));
        assert_eq!(above("/u", "/w"), Some("/".into()));
    }
}
