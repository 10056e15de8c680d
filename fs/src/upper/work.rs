//! The work directory: objects of the upper are created here under hidden names before they appear.
//! Leftovers at the start of a mount come from a crash and are removed.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags};

use super::UpperError;
use crate::limits::LEFTOVER_DEPTH_MAX;
use crate::sys::object::At;
use crate::sys::{Errno, Result, directory};

/// Prefix of a staged file that is to get all names of a lower hard link.
const LINKS_PREFIX: &[u8] = b"links.";

/// An open, locked work directory.
#[derive(Debug)]
pub struct Work {
    /// `workdir/work`: overlayfs stores its own leftovers there as well.
    staging: Arc<OwnedFd>,
    /// `workdir`.
    base: OwnedFd,
    /// Holds the lock while it is open.
    _lock: OwnedFd,
    next: AtomicU64,
    /// Staged files whose names were not all given when the last daemon died, by lower row.
    pub unfinished_links: Vec<(u32, Box<[u8]>)>,
}

impl Work {
    /// Locks `base`, waiting up to `wait` for another mount to release it, and empties it.
    ///
    /// # Errors
    /// [`UpperError::Busy`] with the holder's process number.
    pub fn enter(
        base: OwnedFd,
        path: &Path,
        wait: Duration,
    ) -> std::result::Result<Work, UpperError> {
        let fail = |source| UpperError::Open {
            what: "workdir",
            path: path.to_owned(),
            source,
        };
        let lock = rustix::fs::openat(
            &base,
            c"layerfs.lock",
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::from_raw_mode(0o600),
        )
        .map_err(fail)?;
        acquire(&lock, path, wait)?;
        match rustix::fs::mkdirat(&base, c"work", Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(errno)),
        }
        let staging = rustix::fs::openat(
            &base,
            c"work",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(fail)?;
        let mut work = Work {
            staging: Arc::new(staging),
            base,
            _lock: lock,
            next: AtomicU64::new(0),
            unfinished_links: Vec::new(),
        };
        work.clean().map_err(fail)?;
        Ok(work)
    }

    /// The staging directory itself.
    pub fn directory(&self) -> &Arc<OwnedFd> {
        &self.staging
    }

    /// `workdir`, in which the staging directory is.
    pub(crate) fn base(&self) -> &OwnedFd {
        &self.base
    }

    /// A name no other staged object has.
    pub fn name(&self) -> Box<[u8]> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("#{number:x}").into_bytes().into()
    }

    /// The name of a staged file that will get all the names of hard-linked lower `row`.
    pub(crate) fn links_name(&self, row: u32) -> Box<[u8]> {
        [LINKS_PREFIX, row.to_string().as_bytes()].concat().into()
    }

    /// Make a staged whiteout.
    ///
    /// # Errors
    /// The errors of mknod(2).
    pub(crate) fn make_whiteout(&self, name: &[u8]) -> Result<()> {
        rustix::fs::mknodat(
            &self.staging,
            name,
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        )
    }

    /// Publish staged `name` as `to` in `dir`.
    ///
    /// # Errors
    /// As renameat2(2).
    pub fn put(&self, name: &[u8], dir: &OwnedFd, to: &[u8], flags: RenameFlags) -> Result<()> {
        relocate((&self.staging, name), (dir, to), flags)
    }

    /// Withdraw `from` in `dir` to staged `name`.
    ///
    /// # Errors
    /// As renameat2(2).
    pub fn take(&self, dir: &OwnedFd, from: &[u8], name: &[u8], flags: RenameFlags) -> Result<()> {
        relocate((dir, from), (&self.staging, name), flags)
    }

    /// Remove a staged object that is not a directory.
    ///
    /// # Errors
    /// The errors of unlink(2).
    pub fn remove(&self, name: &[u8]) -> Result<()> {
        rustix::fs::unlinkat(&self.staging, name, AtFlags::empty())
    }

    /// Removes a staged object of any kind; a directory with its contents.
    ///
    /// # Errors
    /// The first failure; the rest is removed when the next mount begins.
    pub fn remove_all(&self, name: &[u8]) -> Result<()> {
        remove_tree(&self.staging, name, LEFTOVER_DEPTH_MAX)
    }

    fn clean(&mut self) -> Result<()> {
        use std::os::fd::AsFd as _;
        for entry in directory::list(self.staging.as_fd())? {
            let row = entry
                .name
                .strip_prefix(LINKS_PREFIX)
                .and_then(|row| std::str::from_utf8(row).ok()?.parse::<u32>().ok());
            let stat =
                rustix::fs::statat(&self.staging, &entry.name[..], AtFlags::SYMLINK_NOFOLLOW);
            match (row, stat) {
                (Some(row), Ok(stat)) if stat.st_nlink > 1 => {
                    self.unfinished_links.push((row, entry.name));
                }
                _ => self.remove_all(&entry.name)?,
            }
        }
        Ok(())
    }
}

/// Takes the lock or returns its holder.
fn acquire(lock: &OwnedFd, path: &Path, wait: Duration) -> std::result::Result<(), UpperError> {
    let deadline = Instant::now() + wait;
    loop {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(_) => {
                let mut text = [0; 32];
                let len = rustix::io::pread(lock, &mut text, 0).unwrap_or(0);
                let holder = String::from_utf8_lossy(text.get(..len).unwrap_or_default());
                let holder = holder.trim().to_owned();
                return Err(UpperError::Busy {
                    work: path.to_owned(),
                    holder,
                });
            }
        }
    }
    let text = format!("{:<16}\n", std::process::id());
    let _ = rustix::io::pwrite(lock, text.as_bytes(), 0);
    Ok(())
}

/// Rename. A directory that gets another parent must be writable itself.
fn relocate(from: (&OwnedFd, &[u8]), to: (&OwnedFd, &[u8]), flags: RenameFlags) -> Result<()> {
    let rename = || rustix::fs::renameat_with(from.0, from.1, to.0, to.1, flags);
    match rename() {
        Err(Errno::ACCESS) => {}
        other => return other,
    }
    let open = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let object = rustix::fs::openat(from.0, from.1, open, Mode::empty())?;
    At::Open(Arc::new(object)).as_owner(rename)
}

fn remove_tree(dir: &OwnedFd, name: &[u8], depth: u32) -> Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        Err(Errno::PERM) if depth > 0 => {}
        other => return other,
    }
    // An empty one needs no descriptor.
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS | Errno::PERM) => {}
        other => return other,
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Errno::NAMETOOLONG);
    };
    if crate::sys::identity::own().0 != 0 {
        // An ordinary user may have removed their own permissions on it.
        let _ = rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty());
    }
    let inner = rustix::fs::openat(
        dir,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    use std::os::fd::AsFd as _;
    for entry in directory::list(inner.as_fd())? {
        remove_tree(&inner, &entry.name, depth)?;
    }
    rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}
